//! One request: what must be right with it, and what it is as a record of the log.

use std::io::{self, Cursor, Read};
use std::sync::Arc;

use flate2::read::MultiGzDecoder;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, ORIGIN, RETRY_AFTER};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Response, StatusCode};
use millstream_formats::{BadRow, Decoder, Rows};
use serde_json::json;

use super::keys::Answered;
use super::memory::Share;

/// How many times as long a body may become by being decompressed.
const MAX_RATIO: usize = 100;

/// Short bodies may become longer than that: up to here.
const FREE_RATIO: usize = 1 << 20;

/// How many bytes are decompressed at once.
const CHUNK: usize = 64 << 10;

/// How long an idempotency key may be.
const MAX_KEY: usize = 255;

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

    /// Rows that can't be read, of so many. None of them is taken: who sends them has them still, and can mend them.
    fn bad_rows(first: BadRow, bad: usize, rows: usize) -> Self {
        let BadRow { position, error, .. } = first;
        let others = if bad > 1 { format!(", as {} others of {rows} can't", bad - 1) } else { String::new() };
        let message = format!("row {position}, counted from 0, can't be read{others}: {error}; none was taken");
        Self { row: Some(position), ..Self::bad(message) }
    }

    pub fn too_large(limit: usize) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is longer than {limit} bytes, decompressed"))
    }
}

/// What is answered.
pub fn response(result: Result<Answered, Refusal>) -> Response<Full<Bytes>> {
    let (status, text) = match &result {
        Ok(Answered { rows: 0, .. }) => (StatusCode::OK, json!({"rows": 0, "first": null})),
        Ok(Answered { first, rows, .. }) => (StatusCode::OK, json!({"rows": rows, "first": first})),
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
    pub key: Option<Arc<str>>,
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

fn key(headers: &HeaderMap) -> Result<Option<Arc<str>>, Refusal> {
    let mut keys = headers.get_all("idempotency-key").iter();
    let Some(key) = keys.next() else { return Ok(None) };
    // By another one it would be taken a second time.
    if keys.any(|other| other != key) {
        return Err(Refusal::bad("a request has one `Idempotency-Key`, and this one has several"));
    }
    match key.to_str() {
        Ok(key) if (1..=MAX_KEY).contains(&key.len()) => Ok(Some(key.into())),
        _ => Err(Refusal::bad(format!("`Idempotency-Key` must be 1 to {MAX_KEY} visible characters"))),
    }
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

/// A record of the log, and how many rows it has.
pub struct Recorded {
    pub payload: Vec<u8>,
    pub rows: u32,
    /// What its body is known by, if it has a key.
    pub body: u64,
}

/// Turns a body into a record. Its rows are read as the flow will read them, so that there is only one way to count them,
/// and those that can't be read are refused as long as somebody has them.
pub fn record(
    head: &Head,
    body: Vec<u8>,
    decoder: &Decoder,
    max_body: usize,
    memory: &mut Share,
) -> Result<Recorded, Refusal> {
    let body = if head.gzip { decompress(&body, max_body, memory)? } else { body };
    if std::str::from_utf8(&body).is_err() {
        return Err(Refusal::bad("the body is not UTF-8"));
    }
    let mut payload = packed_key(head.key.as_deref());
    let start = payload.len();
    payload.extend_from_slice(&body);
    let rows = count(body, decoder)?;
    let rows = u32::try_from(rows).map_err(|_| Refusal::too_large(payload.len() - start))?;
    let body = if head.key.is_some() { fingerprint(&payload) } else { 0 };
    Ok(Recorded { payload, rows, body })
}

/// How many rows a body has, all of which can be read.
fn count(body: Vec<u8>, decoder: &Decoder) -> Result<usize, Refusal> {
    let most = decoder.format.most_rows(&body);
    let wrong = |error: millstream_core::Error| Refusal::bad(error.to_string());
    let mut reader = small(decoder, most).read(Cursor::new(body)).map_err(wrong)?;
    let (mut rows, mut bad, mut first) = (0, 0, None);
    let mut read = Rows::default();
    while reader.next(&mut read).map_err(wrong)? {
        let read = std::mem::take(&mut read);
        (rows, bad) = (rows + read.len(), bad + read.failed.len());
        first = first.or_else(|| read.failed.into_iter().min_by_key(|row| row.position));
    }
    match first {
        None => Ok(rows),
        Some(first) => Err(Refusal::bad_rows(first, bad, rows)),
    }
}

/// What a record is known by, so that another body with the same key is noticed.
pub fn fingerprint(payload: &[u8]) -> u64 {
    blake3::hash(payload).as_bytes().first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
}

fn decompressed_limit(compressed: usize, max_body: usize) -> usize {
    max_body.min(FREE_RATIO.max(compressed.saturating_mul(MAX_RATIO)))
}

fn decompress(compressed: &[u8], max_body: usize, memory: &mut Share) -> Result<Vec<u8>, Refusal> {
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
pub fn small(decoder: &Decoder, rows: usize) -> Decoder {
    Decoder { batch_rows: decoder.batch_rows.min(rows.max(1)), ..decoder.clone() }
}
