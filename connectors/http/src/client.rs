//! Requests: one after the other, each with a deadline and a limit, again where that may help, and no faster than allowed.

use std::io::Read as _;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use flate2::read::MultiGzDecoder;
use millstream_core::{ByteSize, Error, ErrorClass, Result};
use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER, USER_AGENT,
};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, sleep_until};

use crate::auth::Credentials;
use crate::timing::Retry;

/// The longest pause that a service may ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// How much of what a service says about a refusal is repeated.
const REPEATED: usize = 200;

/// How much of an answer is read of which only the status counts.
const SKIMMED: usize = 64 << 10;

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

/// What is asked.
pub struct Question<'a> {
    pub method: Method,
    pub url: &'a Url,
    pub headers: &'a HeaderMap,
    pub body: Option<Bytes>,
    /// Whether it is the connection's own service that is asked. To others, it is not said who asks.
    pub is_own: bool,
}

impl<'a> Question<'a> {
    /// What is at an address of the connection's own service?
    pub fn get(url: &'a Url, headers: &'a HeaderMap) -> Self {
        Self { method: Method::GET, url, headers, body: None, is_own: true }
    }
}

/// How much of an answer is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// All of it.
    Whole,
    /// Enough for people: the status says everything, also where what follows is lost.
    Beginning,
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
        self.get_if(url, headers, |status| status.is_success() || status == StatusCode::NOT_MODIFIED).await
    }

    /// Gets what is at an address as [`Self::get`] does. None if there is nothing.
    pub async fn find(&self, url: &Url) -> Result<Option<Answer>> {
        let is_answer = |status: StatusCode| status.is_success() || status == StatusCode::NOT_FOUND;
        let answer = self.get_if(url, &HeaderMap::new(), is_answer).await?;
        Ok(Some(answer).filter(|answer| answer.status.is_success()))
    }

    /// Gets what is at an address as [`Self::get`] does, where other answers than refusals are welcome.
    pub async fn get_if(&self, url: &Url, headers: &HeaderMap, is_answer: fn(StatusCode) -> bool) -> Result<Answer> {
        self.ask_until(&Question::get(url, headers), is_answer).await
    }

    /// Posts a document, again where that may help, so that doing it twice must do no harm. Whatever the service says against the document
    /// is an answer.
    ///
    /// # Errors
    /// A transient one if the service did not answer; any other if it refuses who asks.
    pub async fn post(&self, url: &Url, content_type: &'static str, body: Vec<u8>) -> Result<Answer> {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content_type))]);
        let question = Question { method: Method::POST, body: Some(body.into()), ..Question::get(url, &headers) };
        let is_answer = |status: StatusCode| status.is_success() || matches!(status.as_u16(), 404 | 409 | 422);
        self.ask_until(&question, is_answer).await
    }

    async fn ask_until(&self, question: &Question<'_>, is_answer: fn(StatusCode) -> bool) -> Result<Answer> {
        let mut pauses = self.retry.pauses();
        loop {
            let (error, asked_for) = match self.exchange(question, Reading::Whole).await {
                Ok(answer) if is_answer(answer.status) => return Ok(answer),
                Ok(answer) => (answer.refusal(&format!("asking `{}`", shown(question.url))), answer.asked_pause()),
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

    /// Says who asks, unless the connection has a header for that.
    pub fn introduce(&mut self, name: &str) {
        let value = HeaderValue::try_from(format!("{name}/{}", env!("CARGO_PKG_VERSION")));
        if let Ok(value) = value
            && !self.headers.contains_key(USER_AGENT)
        {
            self.headers.insert(USER_AGENT, value);
        }
    }

    /// Asks, and says what is wrong at once.
    pub async fn look(&self, url: &Url) -> Result<Answer> {
        let answer = self.exchange(&Question::get(url, &HeaderMap::new()), Reading::Whole).await?;
        if answer.status.is_success() { Ok(answer) } else { Err(answer.refusal(&format!("asking `{}`", shown(url)))) }
    }

    /// Asks once; another time only if a token was refused.
    pub async fn exchange(&self, question: &Question<'_>, reading: Reading) -> Result<Answer> {
        let answer = self.ask(question, reading).await?;
        if answer.status == StatusCode::UNAUTHORIZED && question.is_own && self.credentials.refused().await {
            return self.ask(question, reading).await;
        }
        Ok(answer)
    }

    async fn ask(&self, question: &Question<'_>, reading: Reading) -> Result<Answer> {
        let Question { method, url, headers, body, is_own } = question;
        let mut request = self.sender.http.request(method.clone(), (*url).clone());
        if *is_own {
            let credentials = self.credentials.header(&self.sender).await?;
            request = request.headers(self.headers.clone());
            if let Some((name, value)) = credentials {
                request = request.header(name, value);
            }
        }
        self.turns.wait().await;
        request = request.headers((*headers).clone());
        if let Some(body) = body {
            request = request.body(body.clone());
        }
        self.sender.send(request, reading).await
    }
}

impl Sender {
    /// Sends a request, and reads the answer.
    pub async fn send(&self, request: RequestBuilder, reading: Reading) -> Result<Answer> {
        let response = request.header(ACCEPT_ENCODING, "gzip").send().await.map_err(|error| lost(&error))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let is_gzip = headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding == "gzip");
        let body = match reading {
            Reading::Beginning if is_gzip => Vec::new(),
            Reading::Beginning => beginning(response).await,
            Reading::Whole if is_gzip => self.decompressed(&self.body(response).await?)?,
            Reading::Whole => self.body(response).await?,
        };
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

/// What an answer begins with, as far as it comes.
async fn beginning(mut response: Response) -> Vec<u8> {
    let mut body = Vec::new();
    while body.len() < SKIMMED {
        let Ok(Some(chunk)) = response.chunk().await else { break };
        body.extend_from_slice(&chunk);
    }
    body
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
    pub fn asked_pause(&self) -> Option<Duration> {
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
