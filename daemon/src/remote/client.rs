//! Asks a daemon, and says why it did not do what it was asked for as it would be said here.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, ETAG, HOST};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use millstream_core::{Error, Result, ResultExt as _};
use millstream_engine::file::{Diagnostic, Diagnostics, Place as FilePlace};
use serde_json::Value as Json;

use super::connect::Place;
use super::events::Events;
use crate::exit::CommandError;

/// What the paths of the API begin with.
const PREFIX: &str = "/api/v1";

/// Asks a daemon.
pub struct Client {
    place: Place,
    token: Option<String>,
}

/// What is asked.
pub struct Ask {
    method: Method,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
}

/// A good answer.
pub struct Answer {
    /// What is in it.
    pub body: Bytes,
    /// The revision that it is of.
    pub etag: Option<String>,
}

impl Ask {
    /// Something of the API, by its path below `/api/v1`.
    pub fn new(method: Method, path: impl AsRef<str>) -> Self {
        Self { method, path: format!("{PREFIX}{}", path.as_ref()), headers: Vec::new(), body: Bytes::new() }
    }

    /// Something that is outside of the API, by its whole path.
    pub fn outside(path: &str) -> Self {
        Self { path: path.to_owned(), ..Self::get("") }
    }

    /// That is looked at.
    pub fn get(path: impl AsRef<str>) -> Self {
        Self::new(Method::GET, path)
    }

    /// With a header.
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// With a JSON body.
    pub fn json(self, body: &Json) -> Self {
        Self { body: body.to_string().into(), ..self.header(CONTENT_TYPE.as_str(), "application/json") }
    }

    /// With a flow.
    pub fn flow(self, text: String) -> Self {
        Self { body: text.into(), ..self.header(CONTENT_TYPE.as_str(), "application/toml") }
    }
}

impl Answer {
    /// What is in it, as JSON.
    pub fn json(&self) -> Result<Json> {
        serde_json::from_slice(&self.body).doing(|| "reading the daemon's answer")
    }

    /// What is in it, as a text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Client {
    /// Somebody who asks the daemon at a place.
    pub fn new(place: Place, token: Option<String>) -> Self {
        Self { place, token }
    }

    /// Asks, and waits for all of the answer.
    pub async fn ask(&self, ask: Ask) -> Result<Answer, CommandError> {
        let response = self.granted(ask).await?;
        let etag = response.headers().get(ETAG).and_then(|tag| tag.to_str().ok()).map(str::to_owned);
        Ok(Answer { body: all(response).await?, etag })
    }

    /// Asks for what has no end.
    pub async fn follow(&self, ask: Ask) -> Result<Events, CommandError> {
        Ok(Events::new(self.granted(ask).await?.into_body()))
    }

    /// A good answer, of which nothing has been read yet.
    async fn granted(&self, ask: Ask) -> Result<Response<Incoming>, CommandError> {
        let response = self.send(ask).await?;
        let status = response.status();
        if status.is_success() { Ok(response) } else { Err(refused(&all(response).await?, status.as_u16())) }
    }

    async fn send(&self, ask: Ask) -> Result<Response<Incoming>, CommandError> {
        let doing = || "asking the daemon";
        let stream = self.place.connect().await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.doing(doing)?;
        // What goes wrong with it shows in the answer.
        tokio::spawn(connection);
        let mut request = Request::builder().method(ask.method).uri(ask.path).header(HOST, self.place.host());
        for (name, value) in ask.headers {
            request = request.header(name, value);
        }
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Full::new(ask.body)).doing(doing)?;
        Ok(sender.send_request(request).await.doing(doing)?)
    }
}

/// All of an answer.
async fn all(response: Response<Incoming>) -> Result<Bytes> {
    Ok(response.into_body().collect().await.doing(|| "reading the daemon's answer")?.to_bytes())
}

/// Why the daemon did not do it. What is wrong with a flow is said as `millstream check` says it.
fn refused(body: &[u8], status: u16) -> CommandError {
    let problem: Json = serde_json::from_slice(body).unwrap_or_default();
    let errors = problem["errors"].as_array().into_iter().flatten();
    let diagnostics: Diagnostics = errors.map(diagnostic).collect();
    if !diagnostics.is_empty() {
        return diagnostics.into();
    }
    let detail =
        problem["detail"].as_str().map_or_else(|| format!("the daemon has answered with {status}"), str::to_owned);
    Error::new(detail).into()
}

fn diagnostic(error: &Json) -> Diagnostic {
    let text = |name: &str| error[name].as_str().map(str::to_owned);
    let number = |name: &str| error[name].as_u64().map(|number| number as usize);
    let place = || {
        let (line, column, length) = (number("line")?, number("column")?, number("length")?);
        Some(FilePlace { line, column, length, source_line: text("source_line").unwrap_or_default() })
    };
    Diagnostic {
        path: text("file").unwrap_or_default(),
        place: place(),
        message: text("message").unwrap_or_default(),
        help: text("help"),
        follows: false,
    }
}
