//! What an answer says that is no good one: RFC 9457, with a code that programs can rely on.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use millstream_core::Error;
use millstream_engine::file::{Diagnostic, Diagnostics, Place};
use millstream_host::HostError;
use schemars::JsonSchema;
use serde::Serialize;

use crate::security::{NotCreated, Refusal};

/// A kind of problem. Each answer that is no good one has one of [`CODES`].
#[derive(Debug, PartialEq, Eq)]
pub struct Code {
    /// By which programs know it.
    pub name: &'static str,
    /// The status of the answer.
    pub status: u16,
    /// What it means, and what helps.
    pub meaning: &'static str,
    /// Whether the same request may be granted later.
    pub retryable: bool,
}

macro_rules! codes {
    ($($constant:ident $name:literal $status:literal $retryable:literal $meaning:literal)*) => {
        impl Code {
            $(#[doc = $meaning] pub const $constant: Self =
                Self { name: $name, status: $status, meaning: $meaning, retryable: $retryable };)*
        }

        /// All kinds of problems.
        pub const CODES: &[Code] = &[$(Code::$constant),*];
    };
}

codes! {
    BAD_REQUEST "bad-request" 400 false "The request can't be read: a parameter or the body is not what the route takes."
    NOT_SIGNED_IN "not-signed-in" 401 false "It is not known who asks. Send `Authorization: Bearer TOKEN`, or sign in to the console."
    WRONG_CREDENTIALS "wrong-credentials" 401 false "What says who asks does not hold: the token is none, has expired, or was revoked."
    FORBIDDEN "forbidden" 403 false "Who asks may not do that: it takes another role, or a token that is for the flow."
    CROSS_SITE "cross-site" 403 false "The page of another site has sent the request. Only pages of the daemon may change anything."
    NOT_FOUND "not-found" 404 false "There is no such thing: no such route, flow, revision, operation or version."
    METHOD_NOT_ALLOWED "method-not-allowed" 405 false "The route does not take this method."
    FLOW_BUSY "flow-busy" 409 true "Another operation on the flow is under way. Wait for its end, or cancel it."
    MANAGED_BY_FILE "managed-by-file" 409 false "A file of the folder of flows says what the flow is like. Change the file."
    FLOW_EXISTS "flow-exists" 409 false "There is a flow of that name already."
    NOT_RUNNING "not-running" 409 true "The flow does not run, so that it can't do what was asked for."
    NO_WAY_BACK "no-way-back" 409 false "Rows that were refused come back into a flow by an input of the type `dead_letters`, which the flow lacks where it is needed. Let the node that has refused them read one beside what it reads."
    REVISION_MISMATCH "revision-mismatch" 412 false "Somebody has changed the flow since it was looked at. Look again, and decide anew."
    PLAN_STALE "plan-stale" 412 false "The plan that was agreed to is not the one that would be carried out now. Ask for a new plan."
    TOO_LARGE "too-large" 413 false "The body is longer than the route takes."
    WRONG_CONTENT_TYPE "wrong-content-type" 415 false "The body has to be `application/json` or `application/toml`, in UTF-8, and say so in `Content-Type`."
    WRONG_HOST "wrong-host" 421 false "The request is meant for another host. List names of the daemon in `hosts` of `[admin]`."
    FLOW_DOES_NOT_CHECK "flow-does-not-check" 422 false "The flow is wrong. `errors` has all that is, each at its place, as `millstream check` says it."
    ROW_NOT_TAKEN "row-not-taken" 422 false "The row is none that the input takes. Mend it, so that it has the columns that the flow says."
    PRECONDITION_REQUIRED "precondition-required" 428 false "Say which revision is to be changed: `If-Match` with the `ETag` of the flow, or `If-None-Match: *` for a new one."
    TOO_MANY_REQUESTS "too-many-requests" 429 true "Too many requests have come from the address. Wait as long as `Retry-After` says."
    INTERNAL "internal" 500 true "Something is wrong with the machine or with the daemon, whose log says more."
    NOT_WRITTEN_DOWN "not-written-down" 507 true "What is not in the audit log is not done, and it can't be written there, for example because the disk is full."
    UNAVAILABLE "unavailable" 503 true "What the request needs can't be read or written now. The daemon's log says why."
}

/// What is wrong with a request, or with what it asks for.
#[derive(Debug)]
pub struct Problem {
    code: &'static Code,
    detail: String,
    errors: Vec<FlowProblem>,
    header: Option<(HeaderName, String)>,
    refusal: Option<Box<Refusal>>,
}

/// The body of an answer that is no good one.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ProblemBody {
    /// A page about the kind of problem, of this daemon.
    #[serde(rename = "type")]
    kind: String,
    /// The kind of problem, in short.
    title: &'static str,
    /// The status of the answer.
    status: u16,
    /// What is wrong here, and what would be right.
    detail: String,
    /// By which programs know the kind of problem.
    code: &'static str,
    /// Whether the same request may be granted later.
    retryable: bool,
    /// All that is wrong with a flow.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FlowProblem>,
}

/// One thing that is wrong with a flow, as `millstream check` says it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct FlowProblem {
    /// The file.
    pub file: String,
    /// The line, from 1. None if it is about the flow as a whole.
    pub line: Option<usize>,
    /// The column, from 1, in characters.
    pub column: Option<usize>,
    /// How many characters it is about.
    pub length: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub help: Option<String>,
    /// The line itself.
    pub source_line: Option<String>,
}

impl Problem {
    /// A problem of a kind, in words.
    pub fn new(code: &'static Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), errors: Vec::new(), header: None, refusal: None }
    }

    /// There is no such thing.
    pub fn not_found(what: impl Into<String>) -> Self {
        Self::new(&Code::NOT_FOUND, what)
    }

    /// The request can't be read.
    pub fn bad_request(why: impl Into<String>) -> Self {
        Self::new(&Code::BAD_REQUEST, why)
    }

    /// By which programs know it.
    pub fn code(&self) -> &'static Code {
        self.code
    }
}

impl From<Diagnostics> for Problem {
    fn from(diagnostics: Diagnostics) -> Self {
        let errors: Vec<FlowProblem> = diagnostics.into_iter().map(FlowProblem::from).collect();
        let detail = match errors.len() {
            1 => "1 thing is wrong with the flow".to_owned(),
            many => format!("{many} things are wrong with the flow"),
        };
        Self { errors, ..Self::new(&Code::FLOW_DOES_NOT_CHECK, detail) }
    }
}

impl From<Diagnostic> for FlowProblem {
    fn from(diagnostic: Diagnostic) -> Self {
        let Diagnostic { path, place, message, help, .. } = diagnostic;
        let Place { line, column, length, source_line } = match place {
            Some(place) => place,
            None => {
                let (line, column, length, source_line) = (None, None, None, None);
                return Self { file: path, line, column, length, message, help, source_line };
            }
        };
        let (line, column, length) = (Some(line), Some(column), Some(length));
        Self { file: path, line, column, length, message, help, source_line: Some(source_line) }
    }
}

impl From<HostError> for Problem {
    fn from(error: HostError) -> Self {
        let code = match &error {
            HostError::NoFlow(_) | HostError::NoRevision { .. } => &Code::NOT_FOUND,
            HostError::Busy { .. } => &Code::FLOW_BUSY,
            HostError::OfFile { .. } => &Code::MANAGED_BY_FILE,
            HostError::OfApi(_) | HostError::Twice { .. } => &Code::FLOW_EXISTS,
            HostError::Outdated { .. } => &Code::REVISION_MISMATCH,
            HostError::NotRunning { .. } => &Code::NOT_RUNNING,
            HostError::Check(_) => &Code::FLOW_DOES_NOT_CHECK,
            HostError::Other(_) => &Code::INTERNAL,
        };
        match error {
            HostError::Check(diagnostics) => diagnostics.into(),
            HostError::Busy { operation, .. } => {
                let header = (header::LOCATION, format!("{}/operations/{operation}", crate::api::PREFIX));
                Self { header: Some(header), ..Self::new(code, error.to_string()) }
            }
            other => Self::new(code, other.to_string()),
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self::new(&Code::INTERNAL, error.to_string())
    }
}

impl From<NotCreated> for Problem {
    fn from(not: NotCreated) -> Self {
        match not {
            NotCreated::Wrong(why) => Self::bad_request(why),
            NotCreated::Failed(error) => error.into(),
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let known = CODES.iter().find(|code| code.name == refusal.code());
        let header = refusal.header().map(|(name, value)| (HeaderName::from_static(name), value));
        let detail = refusal.detail();
        Self { header, refusal: Some(Box::new(refusal)), ..Self::new(known.unwrap_or(&Code::UNAVAILABLE), detail) }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        if self.code == &Code::INTERNAL {
            tracing::error!("a request could not be answered: {}", self.detail);
        }
        let Code { name, status, retryable, .. } = *self.code;
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = ProblemBody {
            kind: format!("/problems/{name}"),
            title: status.canonical_reason().unwrap_or_default(),
            status: status.as_u16(),
            detail: self.detail,
            code: name,
            retryable,
            errors: self.errors,
        };
        let mut response = (status, Json(body)).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some((name, value)) = self.header
            && let Ok(value) = HeaderValue::from_str(&value)
        {
            response.headers_mut().insert(name, value);
        }
        // For the audit log.
        response.extensions_mut().insert(Arc::new(ProblemCode(name)));
        if let Some(refusal) = self.refusal {
            response.extensions_mut().insert(*refusal);
        }
        response
    }
}

/// The code of a problem, among the extensions of its answer.
#[derive(Clone, Copy, Debug)]
pub struct ProblemCode(pub &'static str);

/// How long whoever is asked to come again is to wait.
pub const COME_AGAIN: Duration = Duration::from_secs(1);
