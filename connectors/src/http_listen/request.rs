//! One request: what must be right with it, and what it is as a record of the log.

use std::io::{self, Cursor, Read};
use std::sync::Arc;

use flate2::read::MultiGzDecoder;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, ORIGIN, RETRY_AFTER};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Response, StatusCode};
use millstream_formats::{Format, ReadOptions, Rows};
use serde_json::json;

use super::keys::Answered;

/// How many times as long a body may become by being unpacked.
const MAX_RATIO: usize = 100;

/// Short bodies may become longer than that: up to here.
const FREE_RATIO: usize = 1 << 20;

/// How long an idempotency key may be.
const MAX_KEY: usize = 255;

/// Why a request was not taken.
#[derive(Debug)]
pub struct Refusal {
    status: StatusCode,
    message: String,
}

impl Refusal {
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    fn too_large(limit: usize) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is longer than {limit} bytes, unpacked"))
    }
}

/// What is answered.
pub fn response(result: Result<Answered, Refusal>) -> Response<Full<Bytes>> {
    let (status, text) = match &result {
        Ok(Answered { rows: 0, .. }) => (StatusCode::OK, json!({"rows": 0, "first": null})),
        Ok(Answered { first, rows, .. }) => (StatusCode::OK, json!({"rows": rows, "first": first})),
        Err(refusal) => (refusal.status, json!({"error": refusal.message})),
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
    pub key: Option<Arc<str>>,
    /// Whether its body is packed.
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

    /// How much memory the body may take.
    pub fn memory(&self, max_body: usize) -> usize {
        if self.gzip { self.length + unpacked_limit(self.length, max_body) } else { self.length }
    }
}

fn key(headers: &HeaderMap) -> Result<Option<Arc<str>>, Refusal> {
    let Some(key) = headers.get("idempotency-key") else { return Ok(None) };
    match key.to_str() {
        Ok(key) if (1..=MAX_KEY).contains(&key.len()) => Ok(Some(key.into())),
        _ => Err(Refusal::bad(format!("`Idempotency-Key` must be 1 to {MAX_KEY} visible characters"))),
    }
}

fn is_gzip(headers: &HeaderMap) -> Result<bool, Refusal> {
    match headers.get(CONTENT_ENCODING).map(|encoding| encoding.as_bytes()) {
        None | Some(b"identity") => Ok(false),
        Some(b"gzip" | b"x-gzip") => Ok(true),
        Some(_) => {
            let message = "the body is packed in an unknown way; `gzip` is known";
            Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message))
        }
    }
}

/// Reads a body of at most so many bytes, as they come.
pub async fn read_body(body: &mut Incoming, most: usize, mut take: impl FnMut(Bytes)) -> Result<(), Refusal> {
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Refusal::bad(format!("the body broke off: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        length += data.len();
        if length > most {
            return Err(Refusal::too_large(most));
        }
        take(data);
    }
    Ok(())
}

/// A record of the log, and how many rows it has.
pub struct Recorded {
    pub payload: Vec<u8>,
    pub rows: u32,
    /// What its body is known by, if it has a key.
    pub body: u64,
}

/// Turns a body into a record: its rows are counted by reading them, so that there is only one way to count.
pub fn record(head: &Head, body: Vec<u8>, options: &ReadOptions, max_body: usize) -> Result<Recorded, Refusal> {
    let body = if head.gzip { unpack(&body, max_body)? } else { body };
    if std::str::from_utf8(&body).is_err() {
        return Err(Refusal::bad("the body is not UTF-8"));
    }
    let mut payload = packed_key(head.key.as_deref());
    let start = payload.len();
    payload.extend_from_slice(&body);
    let last = if options.format == Format::Json { b'}' } else { b'\n' };
    let most = body.iter().filter(|byte| **byte == last).count() + 1;
    let count = || -> millstream_core::Result<usize> {
        let mut reader = small(options, most).read(Cursor::new(body))?;
        let mut rows = 0;
        let mut read = Rows::default();
        while reader.next(&mut read)? {
            rows += std::mem::take(&mut read).len();
        }
        Ok(rows)
    };
    let rows = count().map_err(|error| Refusal::bad(error.to_string()))?;
    let rows = u32::try_from(rows).map_err(|_| Refusal::too_large(payload.len() - start))?;
    let body = if head.key.is_some() { fingerprint(&payload) } else { 0 };
    Ok(Recorded { payload, rows, body })
}

/// What a record is known by, so that another body with the same key is noticed.
pub fn fingerprint(payload: &[u8]) -> u64 {
    blake3::hash(payload).as_bytes().first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
}

fn unpacked_limit(packed: usize, max_body: usize) -> usize {
    max_body.min(FREE_RATIO.max(packed.saturating_mul(MAX_RATIO)))
}

fn unpack(packed: &[u8], max_body: usize) -> Result<Vec<u8>, Refusal> {
    let limit = unpacked_limit(packed.len(), max_body);
    let mut body = Vec::new();
    let read = MultiGzDecoder::new(packed).take(limit as u64 + 1).read_to_end(&mut body);
    read.map_err(|error: io::Error| Refusal::bad(format!("the body is no gzip: {error}")))?;
    if body.len() > limit { Err(Refusal::too_large(limit)) } else { Ok(body) }
}

/// The key, as a record begins: its length in a byte, and its text.
fn packed_key(key: Option<&str>) -> Vec<u8> {
    let key = key.unwrap_or_default();
    [&[key.len() as u8], key.as_bytes()].concat()
}

/// The key and the rows of a record.
pub fn unpack_record(payload: &[u8]) -> Option<(Option<Arc<str>>, &[u8])> {
    let (length, rest) = payload.split_first()?;
    let (key, rows) = rest.split_at_checked(usize::from(*length))?;
    let key = std::str::from_utf8(key).ok()?;
    Some(((!key.is_empty()).then(|| key.into()), rows))
}

/// How to read so few rows: memory is taken for as many as there may be.
pub fn small(options: &ReadOptions, rows: usize) -> ReadOptions {
    ReadOptions { batch_rows: options.batch_rows.min(rows.max(1)), ..options.clone() }
}
