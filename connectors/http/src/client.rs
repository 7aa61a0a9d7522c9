//! Requests: one after the other, each with a deadline and a limit, again where that may help, and no faster than allowed.

use std::io::Read as _;
use std::sync::LazyLock;
use std::time::Duration;

use chrono::{DateTime, Utc};
use flate2::read::MultiGzDecoder;
use millstream_core::{ByteSize, Error, ErrorClass, Result};
use reqwest::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{RequestBuilder, Response, StatusCode, Url};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, sleep_until};

use crate::auth::Credentials;
use crate::timing::Retry;

/// The longest pause that a service may ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// How much of what a service says about a refusal is repeated.
const REPEATED: usize = 200;

/// Sends a request, and reads its answer.
pub struct Sender {
    pub http: reqwest::Client,
    /// How large an answer may be, behind its compression.
    pub max_response: ByteSize,
}

/// An answer that was read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

/// Asks a service.
pub struct Client {
    pub sender: Sender,
    pub headers: HeaderMap,
    pub credentials: Credentials,
    pub retry: Retry,
    pub turns: Turns,
}

/// What is asked of a service.
struct Request<'a> {
    url: &'a Url,
    headers: &'a HeaderMap,
    /// What is posted, and what it is; nothing if something is got.
    body: Option<(&'static str, Vec<u8>)>,
}

impl<'a> Request<'a> {
    fn get(url: &'a Url) -> Self {
        static NONE: LazyLock<HeaderMap> = LazyLock::new(HeaderMap::new);
        Self { url, headers: &NONE, body: None }
    }
}

/// Sees that no more requests are sent than allowed.
pub struct Turns {
    every: Option<Duration>,
    next: Mutex<Option<Instant>>,
}

impl Turns {
    /// So many requests a second.
    pub fn new(rate: Option<f64>) -> Self {
        let every = rate.and_then(|rate| Duration::try_from_secs_f64(rate.recip()).ok());
        Self { every, next: Mutex::new(None) }
    }

    /// Waits for the next turn.
    async fn wait(&self) {
        let Some(every) = self.every else { return };
        let mut next = self.next.lock().await;
        if let Some(next) = *next {
            sleep_until(next).await;
        }
        *next = Some(Instant::now() + every);
    }
}

impl Client {
    /// Gets what is at an address. Where the service is away, busy or fails, it is asked again, as often as `retry` says.
    ///
    /// # Errors
    /// A transient one if the service did not answer; any other if it refuses. An answer of 304 is none.
    pub async fn get(&self, url: &Url, headers: &HeaderMap) -> Result<Answer> {
        let request = Request { headers, ..Request::get(url) };
        self.ask_until(&request, |status| status.is_success() || status == StatusCode::NOT_MODIFIED).await
    }

    /// Gets what is at an address as [`Self::get`] does. None if there is nothing.
    pub async fn find(&self, url: &Url) -> Result<Option<Answer>> {
        let is_answer = |status: StatusCode| status.is_success() || status == StatusCode::NOT_FOUND;
        let answer = self.ask_until(&Request::get(url), is_answer).await?;
        Ok(Some(answer).filter(|answer| answer.status.is_success()))
    }

    /// Posts a document, again where that may help, so that doing it twice must do no harm. Whatever the service says against the document
    /// is an answer.
    ///
    /// # Errors
    /// A transient one if the service did not answer; any other if it refuses who asks.
    pub async fn post(&self, url: &Url, content_type: &'static str, body: Vec<u8>) -> Result<Answer> {
        let request = Request { body: Some((content_type, body)), ..Request::get(url) };
        let is_answer = |status: StatusCode| status.is_success() || matches!(status.as_u16(), 404 | 409 | 422);
        self.ask_until(&request, is_answer).await
    }

    async fn ask_until(&self, request: &Request<'_>, is_answer: fn(StatusCode) -> bool) -> Result<Answer> {
        let mut pauses = self.retry.pauses();
        loop {
            let (error, asked_for) = match self.try_ask(request).await {
                Ok(answer) if is_answer(answer.status) => return Ok(answer),
                Ok(answer) => (answer.refusal(&format!("asking `{}`", shown(request.url))), answer.asked_pause()),
                Err(error) => (error, None),
            };
            if error.class() != ErrorClass::Transient {
                return Err(error);
            }
            let Some(pause) = pauses.next() else { return Err(error) };
            let pause = asked_for.map_or(pause, |asked| pause.max(asked));
            tracing::debug!("{error}; it is asked again in {pause:?}");
            sleep(pause).await;
        }
    }

    /// Asks, and says what is wrong at once.
    pub async fn look(&self, url: &Url) -> Result<Answer> {
        let answer = self.try_ask(&Request::get(url)).await?;
        if answer.status.is_success() { Ok(answer) } else { Err(answer.refusal(&format!("asking `{}`", shown(url)))) }
    }

    /// Asks once; another time only if a token was refused.
    async fn try_ask(&self, request: &Request<'_>) -> Result<Answer> {
        let answer = self.ask(request).await?;
        if answer.status == StatusCode::UNAUTHORIZED && self.credentials.refused().await {
            return self.ask(request).await;
        }
        Ok(answer)
    }

    async fn ask(&self, asked: &Request<'_>) -> Result<Answer> {
        let credentials = self.credentials.header(&self.sender).await?;
        self.turns.wait().await;
        let request = match &asked.body {
            None => self.sender.http.get(asked.url.clone()),
            Some((content_type, body)) => {
                self.sender.http.post(asked.url.clone()).header(CONTENT_TYPE, *content_type).body(body.clone())
            }
        };
        let mut request = request.headers(self.headers.clone()).headers(asked.headers.clone());
        if let Some((name, value)) = credentials {
            request = request.header(name, value);
        }
        self.sender.send(request).await
    }
}

impl Sender {
    /// Sends a request, and reads the answer.
    pub async fn send(&self, request: RequestBuilder) -> Result<Answer> {
        let response = request.header(ACCEPT_ENCODING, "gzip").send().await.map_err(|error| lost(&error))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = self.body(response).await?;
        let is_gzip = headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding == "gzip");
        let body = if is_gzip { self.decompressed(&body)? } else { body };
        Ok(Answer { status, headers, body })
    }

    async fn body(&self, mut response: Response) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| lost(&error))? {
            if body.len() + chunk.len() > self.max_response.0 {
                return Err(self.too_large());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn decompressed(&self, body: &[u8]) -> Result<Vec<u8>> {
        let mut plain = Vec::new();
        let most = self.max_response.0 as u64;
        let read = MultiGzDecoder::new(body).take(most + 1).read_to_end(&mut plain);
        read.map_err(|error| Error::transient(format!("the answer is no gzip: {error}")))?;
        if plain.len() as u64 > most { Err(self.too_large()) } else { Ok(plain) }
    }

    fn too_large(&self) -> Error {
        Error::new(format!("an answer has more than {} (`max_response`)", self.max_response))
    }
}

impl Answer {
    /// The error that the answer is.
    pub fn refusal(&self, doing: &str) -> Error {
        let status = self.status;
        let said: String = String::from_utf8_lossy(&self.body).split_whitespace().collect::<Vec<_>>().join(" ");
        let said: String = said.chars().take(REPEATED).collect();
        let said = if said.is_empty() { said } else { format!(": {said}") };
        let help = match status.as_u16() {
            300..=399 => "; redirects are not followed: write the address that it leads to",
            401 | 403 => "; see `auth` of the connection",
            _ => "",
        };
        let error = Error::new(format!("{doing}: the answer is {status}{said}{help}"));
        let is_transient = matches!(status.as_u16(), 408 | 425 | 429 | 500 | 502..=504);
        if is_transient { error.of_class(ErrorClass::Transient) } else { error }
    }

    /// How long the service asks to be left alone.
    fn asked_pause(&self) -> Option<Duration> {
        let asked = self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
        let pause = match asked.parse() {
            Ok(seconds) => Duration::from_secs(seconds),
            Err(_) => (DateTime::parse_from_rfc2822(asked).ok()?.with_timezone(&Utc) - Utc::now()).to_std().ok()?,
        };
        Some(pause.min(LONGEST_PAUSE))
    }
}

/// A request that got no answer, or not all of it.
fn lost(error: &reqwest::Error) -> Error {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    let place = error.url().map_or_else(|| "a service".to_owned(), |url| format!("`{}`", shown(url)));
    let what = if error.is_timeout() { "no answer in time".to_owned() } else { cause.to_string() };
    // A certificate that is not trusted does not come to be.
    let is_permanent = error.is_builder() || what.contains("certificate");
    let error = Error::new(format!("asking {place}: {what}"));
    if is_permanent { error } else { error.of_class(ErrorClass::Transient) }
}

/// An address without what is asked for, in which there may be keys.
pub fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    url.to_string()
}
