//! Sends a request until the receiver has said what becomes of it.

use std::time::Duration;

use bytes::Bytes;
use millstream_core::{Error, ErrorClass, Result};
use millstream_formats::Compression;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode, Url};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use super::address::Address;
use super::requests::content_type;
use crate::client::{Answer, Client, Question, Reading, shown};

/// The header by which a receiver knows a request that comes again.
const KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The longest pause within a commit: a flow that is to stop waits for that. For longer ones the engine waits, which stops at once.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Sends requests.
pub struct Sender {
    client: Client,
    method: Method,
    headers: HeaderMap,
    /// Until when the receiver wants to be left alone.
    silent_until: Mutex<Option<Instant>>,
}

/// What becomes of the rows of a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver has them.
    Taken,
    /// The receiver does not want them, and why.
    Refused(String),
}

impl Sender {
    pub fn new(client: Client, method: Method, format: &str, compression: Option<Compression>) -> Self {
        let mut headers = HeaderMap::new();
        if !client.headers.contains_key(CONTENT_TYPE) {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type(format)));
        }
        match compression {
            Some(Compression::Gzip) => _ = headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip")),
            Some(Compression::Zstd) => _ = headers.insert(CONTENT_ENCODING, HeaderValue::from_static("zstd")),
            _ => {}
        }
        Self { client, method, headers, silent_until: Mutex::new(None) }
    }

    /// Sends a request, again where that may help within seconds.
    ///
    /// # Errors
    /// A transient one if that has to be tried again later.
    pub async fn deliver(&self, to: &Address, key: &str, body: &Bytes) -> Result<Outcome> {
        let mut pauses = self.client.retry.pauses();
        loop {
            let (error, asked_for) = match self.try_once(to, key, body).await? {
                Tried::Done(outcome) => return Ok(outcome),
                Tried::Conflict(why) => match pauses.next() {
                    Some(pause) if pause <= LONGEST_PAUSE => {
                        sleep(pause).await;
                        continue;
                    }
                    _ => return Ok(Outcome::Refused(why)),
                },
                Tried::Again(error, asked_for) => (error, asked_for),
                Tried::Hopeless(error) => return Err(error),
            };
            let pause = pauses.next().map(|pause| pause.max(asked_for.unwrap_or_default()));
            match pause.filter(|pause| *pause <= LONGEST_PAUSE) {
                Some(pause) => sleep(pause).await,
                None => {
                    *self.silent_until.lock().await = asked_for.map(|pause| Instant::now() + pause);
                    return Err(error);
                }
            }
        }
    }

    /// Sends a request until it is answered, however long that takes.
    ///
    /// # Errors
    /// If nothing but a person can help.
    pub async fn deliver_in_time(&self, to: &Address, key: &str, body: &Bytes) -> Result<Outcome> {
        let mut pauses = self.client.retry.endless();
        loop {
            match self.deliver(to, key, body).await {
                Err(error) if error.class() == ErrorClass::Transient => {
                    tracing::warn!("{error}; it is sent again until it is answered");
                    sleep(pauses.next().unwrap_or(LONGEST_PAUSE)).await;
                }
                outcome => return outcome,
            }
        }
    }

    async fn try_once(&self, to: &Address, key: &str, body: &Bytes) -> Result<Tried> {
        let place = shown(&to.url);
        if let Some(left) = self.silence().await {
            let message =
                format!("sending to `{place}`: the service asks to be left alone for {} s more", left.as_secs());
            return Err(Error::transient(message));
        }
        if to.is_own
            && let Err(error) = self.client.credentials.header(&self.client.sender).await
        {
            // Who gives no token today may do so tomorrow.
            return Ok(Tried::Again(error.of_class(ErrorClass::Transient), None));
        }
        let mut headers = self.headers.clone();
        let key = HeaderValue::from_str(key).map_err(|_| Error::new("a key of requests is no header"))?;
        headers.insert(KEY, key);
        let question = Question {
            method: self.method.clone(),
            url: &to.url,
            headers: &headers,
            body: Some(body.clone()),
            is_own: to.is_own,
        };
        match self.client.exchange(&question, Reading::Beginning).await {
            Ok(answer) => Ok(Tried::of(&answer, &format!("sending to `{place}`"))),
            Err(error) if error.class() == ErrorClass::Transient => Ok(Tried::Again(error, None)),
            Err(error) => Ok(Tried::Hopeless(error)),
        }
    }

    /// How long the receiver wants to be left alone still.
    async fn silence(&self) -> Option<Duration> {
        let mut until = self.silent_until.lock().await;
        let left = until.map(|until| until.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero());
        if left.is_none() {
            *until = None;
        }
        left
    }

    /// Looks whether there is a service, without sending anything.
    pub async fn look(&self, url: &Url) -> Result<String> {
        let headers = HeaderMap::new();
        let question = Question { method: Method::HEAD, ..Question::get(url, &headers) };
        let answer = self.client.exchange(&question, Reading::Beginning).await?;
        let (status, place) = (answer.status, shown(url));
        if status.is_server_error() || matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Err(answer.refusal(&format!("asking `{place}`")));
        }
        Ok(format!("`{place}` answers, with {status} to a request without rows"))
    }
}

/// What has come of one try.
enum Tried {
    Done(Outcome),
    /// A request with the same key may be on its way.
    Conflict(String),
    /// It may be sent again, after a pause that the receiver may have asked for.
    Again(Error, Option<Duration>),
    /// Only a person can help.
    Hopeless(Error),
}

impl Tried {
    fn of(answer: &Answer, doing: &str) -> Self {
        let refusal = answer.refusal(doing);
        let again = |error: Error| Self::Again(error.of_class(ErrorClass::Transient), answer.asked_pause());
        match answer.status.as_u16() {
            200..=299 => Self::Done(Outcome::Taken),
            401 | 403 => again(Error::new(format!("{refusal}; rows wait until the service lets the flow in"))),
            408 | 425 | 429 | 500..=599 => again(refusal),
            409 => Self::Conflict(refusal.to_string()),
            400..=499 => Self::Done(Outcome::Refused(refusal.to_string())),
            // Neither sending it again nor leaving the rows out would be right.
            _ => Self::Hopeless(refusal),
        }
    }
}
