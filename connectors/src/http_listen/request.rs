//! One request: what must be right with it, and what is answered.

use std::io::{self, Read};

use flate2::read::MultiGzDecoder;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, ORIGIN, RETRY_AFTER};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Response, StatusCode};
use serde_json::json;

use crate::push::{Ack, Key, Refused, Share};

/// How many times as long a body may become by being decompressed.
const MAX_RATIO: usize = 100;

/// Short bodies may become longer than that: up to here.
const FREE_RATIO: usize = 1 << 20;

/// How many bytes are decompressed at once.
const CHUNK: usize = 64 << 10;

/// Why a request was not taken.
#[derive(Debug)]
pub struct Refusal {
    status: StatusCode,
    message: String,
    /// The row that is wrong.
    row: Option<u64>,
}

impl Refusal {
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), row: None }
    }

    fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub fn too_large(limit: usize) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is longer than {limit} bytes, decompressed"))
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::NoText => Self::bad("the body is not UTF-8"),
            Refused::Unreadable { row, why } => Self { row, ..Self::bad(why) },
            Refused::KeyOfOthers => {
                let message = "a request with this `Idempotency-Key` had another body; each needs a key of its own";
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, message)
            }
            Refused::BeingTaken => {
                let message = "a request with this `Idempotency-Key` is being written; ask again";
                Self::new(StatusCode::CONFLICT, message)
            }
            Refused::NoRoom(why) => Self::new(StatusCode::SERVICE_UNAVAILABLE, why),
            Refused::Unknown(why) => {
                let message = format!(
                    "{why}; after a crash the rows may be there nevertheless: only with the same `Idempotency-Key` can they be sent \
                     again without counting twice"
                );
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
            }
        }
    }
}

/// What is answered.
pub fn response(result: Result<Ack, Refusal>) -> Response<Full<Bytes>> {
    let (status, text) = match &result {
        Ok(Ack { first, rows }) => (StatusCode::OK, json!({"rows": rows, "first": first})),
        Err(Refusal { status, message, row: None }) => (*status, json!({"error": message})),
        Err(Refusal { status, message, row }) => (*status, json!({"error": message, "row": row})),
    };
    let mut response = Response::new(Full::from(text.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, const { hyper::header::HeaderValue::from_static("application/json") });
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, const { hyper::header::HeaderValue::from_static("1") });
    }
    response
}

/// What the header of a request says.
#[derive(Debug)]
pub struct Head {
    /// Its idempotency key.
    pub key: Option<Key>,
    /// Whether its body is compressed.
    pub gzip: bool,
    /// How long the body is at most, as it comes.
    pub length: usize,
}

impl Head {
    /// Checks a request before its body has come.
    pub fn check(parts: &Parts, body: &Incoming, path: &str, max_body: usize) -> Result<Self, Refusal> {
        if parts.uri.path() != path {
            return Err(Refusal::new(StatusCode::NOT_FOUND, format!("rows are taken at `{path}`")));
        }
        if parts.method != Method::POST {
            return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "rows are sent with POST"));
        }
        // Browsers say where a page comes from, and let any page send to this machine.
        if parts.headers.contains_key(ORIGIN) {
            return Err(Refusal::new(StatusCode::FORBIDDEN, "web pages can't send rows"));
        }
        let length = body.size_hint().upper();
        if length.is_some_and(|length| length > max_body as u64) {
            return Err(Refusal::too_large(max_body));
        }
        let length = length.map_or(max_body, |length| length as usize);
        Ok(Self { key: key(&parts.headers)?, gzip: is_gzip(&parts.headers)?, length })
    }
}

fn key(headers: &HeaderMap) -> Result<Option<Key>, Refusal> {
    let mut keys = headers.get_all("idempotency-key").iter();
    let Some(key) = keys.next() else { return Ok(None) };
    // By another one it would be taken a second time.
    if keys.any(|other| other != key) {
        return Err(Refusal::bad("a request has one `Idempotency-Key`, and this one has several"));
    }
    let known = key.to_str().ok().and_then(Key::new);
    let wrong = || Refusal::bad(format!("`Idempotency-Key` must be 1 to {} visible characters", Key::MAX));
    known.ok_or_else(wrong).map(Some)
}

fn is_gzip(headers: &HeaderMap) -> Result<bool, Refusal> {
    let mut encodings = headers.get_all(CONTENT_ENCODING).iter().map(|encoding| encoding.as_bytes());
    match (encodings.next(), encodings.next()) {
        (None | Some(b"identity"), None) => Ok(false),
        (Some(b"gzip" | b"x-gzip"), None) => Ok(true),
        _ => {
            let message = "the body is compressed in an unknown way; `gzip` is known";
            Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message))
        }
    }
}

/// The next bytes of a body, as soon as there are some. `None` at its end.
pub async fn next_bytes(body: &mut Incoming) -> Result<Option<Bytes>, Refusal> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Refusal::bad(format!("the body broke off: {error}")))?;
        if let Ok(data) = frame.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

fn decompressed_limit(compressed: usize, max_body: usize) -> usize {
    max_body.min(FREE_RATIO.max(compressed.saturating_mul(MAX_RATIO)))
}

/// A body as it was before it was compressed.
pub fn decompress(compressed: &[u8], max_body: usize, memory: &mut Share) -> Result<Vec<u8>, Refusal> {
    let limit = decompressed_limit(compressed.len(), max_body);
    let mut decoder = MultiGzDecoder::new(compressed);
    let mut body = Vec::new();
    loop {
        let read = decoder.by_ref().take(CHUNK as u64).read_to_end(&mut body);
        let read = read.map_err(|error: io::Error| Refusal::bad(format!("the body is no gzip: {error}")))?;
        if body.len() > limit {
            return Err(Refusal::too_large(limit));
        }
        if read == 0 {
            return Ok(body);
        }
        memory.grow(compressed.len() + body.len())?;
    }
}
