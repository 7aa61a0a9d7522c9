//! One request: what must be right with it, and what is answered.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use flate2::read::MultiGzDecoder;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{
    CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderName, HeaderValue, ORIGIN, RETRY_AFTER, TRANSFER_ENCODING,
};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Response, StatusCode, Version};
use millstream_core::Held;
use serde_json::{Value, json};

use crate::push::{Ack, Key, Refused, Share};

/// How many times as long a body may become by being decompressed.
const MAX_RATIO: usize = 100;

/// Short bodies may become longer than that: up to here.
const FREE_RATIO: usize = 1 << 20;

/// How far zstd may look back, as a power of 2: 8 MiB, as RFC 9659 has it.
const ZSTD_WINDOW: u32 = 23;

/// When to come again where there is no room for the moment.
pub const SOON: Duration = Duration::from_secs(1);

/// When to come again where somebody has to do something first.
const LATER: Duration = Duration::from_secs(30);

/// How many bytes are decompressed at once.
const CHUNK: usize = 64 << 10;

/// Why a request was not taken.
#[derive(Debug)]
pub struct Refusal {
    status: StatusCode,
    message: String,
    /// Which rows it is about.
    about: Option<About>,
    /// What a header says besides.
    header: Option<(HeaderName, HeaderValue)>,
}

/// Which rows a refusal is about.
#[derive(Debug)]
enum About {
    /// The one that is wrong.
    Wrong(u64),
    /// Those that are taken nevertheless.
    Taken(Box<Ack>),
}

impl Refusal {
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), about: None, header: None }
    }

    /// The same, with a header.
    pub fn with_header(self, name: HeaderName, value: &'static str) -> Self {
        Self { header: Some((name, HeaderValue::from_static(value))), ..self }
    }

    /// The same, of what may be sent again after a while.
    pub fn again_after(self, after: Duration) -> Self {
        let seconds = after.as_secs().saturating_add(u64::from(after.subsec_nanos() > 0));
        Self { header: Some((RETRY_AFTER, seconds.into())), ..self }
    }

    /// The same, if rows are taken nevertheless.
    pub fn of(self, taken: Ack) -> Self {
        Self { about: Some(About::Taken(Box::new(taken))), ..self }
    }

    /// What it says in JSON.
    fn said(&self) -> Value {
        let mut said = json!({"error": self.message});
        match &self.about {
            None => {}
            Some(About::Wrong(row)) => said["row"] = json!(row),
            Some(About::Taken(taken)) => {
                (said["rows"], said["first"]) = (json!(taken.rows), json!(taken.first));
            }
        }
        said
    }

    fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message)
    }

    pub fn too_large(limit: usize) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is longer than {limit} bytes, decompressed"))
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::NoText => Self::bad("the body is not UTF-8"),
            Refused::Unreadable { row, why } => Self { about: row.map(About::Wrong), ..Self::bad(why) },
            Refused::Format(why) => Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, why),
            Refused::KeyOfOthers => {
                let message = "a request with this `Idempotency-Key` had another body; each needs a key of its own";
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, message)
            }
            Refused::BeingTaken => {
                let message = "a request with this `Idempotency-Key` is being written; ask again";
                Self::new(StatusCode::CONFLICT, message)
            }
            Refused::NoRoom(why) => Self::new(StatusCode::SERVICE_UNAVAILABLE, why).again_after(SOON),
            Refused::Held(Held::Scarcity(why)) => {
                let message = format!("no rows are taken for now, since {why}");
                Self::new(StatusCode::INSUFFICIENT_STORAGE, message).again_after(LATER)
            }
            Refused::Held(Held::Paused(why)) => {
                let message = format!("no rows are taken for now, since the flow is paused: {why}");
                Self::new(StatusCode::SERVICE_UNAVAILABLE, message).again_after(LATER)
            }
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

/// Rows that are taken.
#[derive(Debug)]
pub struct Taken {
    pub ack: Ack,
    /// What the flow has made of them, as JSON, if the sender has waited for it.
    pub answers: Option<Arc<str>>,
}

/// What is answered.
pub fn response(result: Result<Taken, Refusal>) -> Response<Full<Bytes>> {
    let (status, text) = match &result {
        Ok(Taken { ack: Ack { first, rows }, answers: None }) => {
            (StatusCode::OK, json!({"rows": rows, "first": first}).to_string())
        }
        Ok(Taken { ack: Ack { first, rows }, answers: Some(answers) }) => {
            // They are JSON already, and may be long.
            (StatusCode::OK, format!(r#"{{"rows":{rows},"first":{},"answers":{answers}}}"#, json!(first)))
        }
        Err(refusal) => (refusal.status, refusal.said().to_string()),
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, const { HeaderValue::from_static("application/json") });
    if let Err(Refusal { header: Some((name, value)), .. }) = result {
        headers.insert(name, value);
    }
    response
}

/// What the header of a request says.
#[derive(Debug)]
pub struct Head {
    /// Its idempotency key.
    pub key: Option<Key>,
    /// The format of its body, if it says one that is known by its name.
    pub format: Option<MediaType>,
    /// How its body is compressed.
    pub encoding: Option<ContentEncoding>,
    /// How long the body is at most, as it comes.
    pub length: usize,
}

impl Head {
    /// Checks a request before its body has come.
    pub fn check(parts: &Parts, body: &Incoming, path: &str, max_body: usize) -> Result<Self, Refusal> {
        check_message(parts)?;
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
        let (format, encoding) = (MediaType::of(&parts.headers)?, ContentEncoding::of(&parts.headers)?);
        Ok(Self { key: key(&parts.headers)?, format, encoding, length })
    }
}

/// What RFC 9112 asks of every request, and proxies go by.
fn check_message(parts: &Parts) -> Result<(), Refusal> {
    let hosts = parts.headers.get_all(HOST).iter().count();
    if hosts > 1 || (hosts == 0 && parts.version == Version::HTTP_11) {
        return Err(Refusal::bad("a request has one header `Host`"));
    }
    let mut codings = parts.headers.get_all(TRANSFER_ENCODING).iter();
    if codings.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked")) {
        let message = "of transfer codings only `chunked` is known; a compressed body says so in `Content-Encoding`";
        return Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, message));
    }
    Ok(())
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

/// What a header says of a body in one word. None if it is not there.
fn said<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let wrong = || Refusal::unsupported(format!("`{name}` is there twice, or no text"));
    if values.next().is_some() { Err(wrong()) } else { value.to_str().map(Some).map_err(|_| wrong()) }
}

/// A format by its media type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MediaType {
    /// What settings call the format.
    pub format: &'static str,
    /// Whether its text is in UTF-8, as far as the sender says so.
    pub is_utf8: bool,
}

impl MediaType {
    /// That of a request. None if it says none, or one that says nothing, as what clients send that were not told.
    fn of(headers: &HeaderMap) -> Result<Option<Self>, Refusal> {
        let Some(text) = said(headers, &CONTENT_TYPE)? else { return Ok(None) };
        let mut parts = text.split(';').map(|part| part.trim().to_ascii_lowercase());
        let essence = parts.next().unwrap_or_default();
        let charset = parts.find_map(|part| Some(part.strip_prefix("charset=")?.trim_matches('"').to_owned()));
        let is_utf8 = charset.is_none_or(|charset| matches!(charset.as_str(), "utf-8" | "utf8" | "us-ascii"));
        let format = match essence.as_str() {
            "" | "application/octet-stream" | "application/x-www-form-urlencoded" | "text/plain" => return Ok(None),
            "text/csv" | "application/csv" => "csv",
            "application/x-ndjson"
            | "application/ndjson"
            | "application/jsonl"
            | "application/x-jsonlines"
            | "application/jsonlines" => "ndjson",
            json if json == "application/json" || json.starts_with("application/") && json.ends_with("+json") => "json",
            "application/vnd.apache.arrow.stream" | "application/vnd.apache.arrow.file" => "arrow",
            "application/avro" | "avro/binary" | "application/vnd.apache.avro" | "application/x-avro" => "avro",
            other => {
                return Err(Refusal::unsupported(format!(
                    "no rows are read from `{other}`; there are `text/csv`, `application/x-ndjson`, `application/json`, \
                     `application/vnd.apache.arrow.stream`, `application/avro`, and the format of the input without a `Content-Type`"
                )));
            }
        };
        Ok(Some(Self { format, is_utf8 }))
    }
}

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentEncoding {
    Gzip,
    Zstd,
}

impl ContentEncoding {
    fn of(headers: &HeaderMap) -> Result<Option<Self>, Refusal> {
        match said(headers, &CONTENT_ENCODING)?.map(str::to_ascii_lowercase).as_deref() {
            None | Some("identity") => Ok(None),
            Some("gzip" | "x-gzip") => Ok(Some(Self::Gzip)),
            Some("zstd") => Ok(Some(Self::Zstd)),
            Some(_) => {
                Err(Refusal::unsupported("the body is compressed in an unknown way; `gzip` and `zstd` are known"))
            }
        }
    }

    /// What reads the body as it was before.
    fn reader<'a>(self, compressed: &'a [u8]) -> io::Result<Box<dyn Read + 'a>> {
        Ok(match self {
            Self::Gzip => Box::new(MultiGzDecoder::new(compressed)),
            Self::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(compressed)?;
                decoder.window_log_max(ZSTD_WINDOW)?;
                Box::new(decoder)
            }
        })
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
pub fn decompress(
    compressed: &[u8],
    encoding: ContentEncoding,
    max_body: usize,
    memory: &mut Share,
) -> Result<Vec<u8>, Refusal> {
    let limit = decompressed_limit(compressed.len(), max_body);
    let wrong = |error: io::Error| {
        let name = if encoding == ContentEncoding::Gzip { "gzip" } else { "zstd" };
        Refusal::bad(format!("the body is no {name}: {error}"))
    };
    let mut decoder = encoding.reader(compressed).map_err(wrong)?;
    let mut body = Vec::new();
    loop {
        let read = decoder.by_ref().take(CHUNK as u64).read_to_end(&mut body).map_err(wrong)?;
        if body.len() > limit {
            return Err(Refusal::too_large(limit));
        }
        if read == 0 {
            return Ok(body);
        }
        memory.grow(compressed.len() + body.len())?;
    }
}
