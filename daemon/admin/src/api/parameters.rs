//! What handlers take of requests, with answers of ours where it is wrong.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use millstream_host::{Expected, Request as HostRequest};
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::problem::{Code, Problem};
use crate::security::{Principal, Role};

/// How long an operation may take, unless somebody says otherwise.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long an operation may take at most.
const MOST_PATIENCE: Duration = Duration::from_secs(3600);

/// How long a request waits for the end of an operation at most.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What is behind `?`.
pub struct Query<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let read = axum::extract::Query::<T>::try_from_uri(&parts.uri);
        read.map(|query| Self(query.0)).map_err(|error| Problem::bad_request(error.body_text()))
    }
}

/// What stands in the path.
pub struct Path<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let read = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        read.map(|path| Self(path.0)).map_err(|error| Problem::not_found(error.body_text()))
    }
}

/// A JSON body. None at all is taken for `{}`.
pub struct JsonBody<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let bytes = body(request, state).await?;
        let read = serde_json::from_slice(if bytes.is_empty() { b"{}" } else { &bytes });
        read.map(Self).map_err(|error| Problem::bad_request(format!("the body is not what the route takes: {error}")))
    }
}

/// A body that is a flow.
pub struct FlowText(pub String);

impl<S: Send + Sync> FromRequest<S> for FlowText {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let bytes = body(request, state).await?;
        let text = String::from_utf8(bytes.into());
        text.map(Self).map_err(|_| Problem::bad_request("the flow is not in UTF-8"))
    }
}

async fn body<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Problem> {
    Bytes::from_request(request, state).await.map_err(|error| match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(&Code::TOO_LARGE, "the body is longer than 1 MiB"),
        _ => Problem::bad_request(error.body_text()),
    })
}

/// An operation on a flow that somebody asks for.
pub struct Asked {
    /// The flow.
    pub flow: String,
    /// Who asks, and how long it may take.
    pub request: HostRequest,
    /// What else is said.
    pub details: OperationRequest,
    /// How long the request waits for the end.
    pub wait: Duration,
}

impl<S: Send + Sync> FromRequest<S> for Asked {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let (mut parts, body) = request.into_parts();
        let Path(flow) = Path::from_request_parts(&mut parts, state).await?;
        let caller = Caller::from_request_parts(&mut parts, state).await?;
        let wait = wait(&parts.headers);
        let JsonBody(details) =
            JsonBody::<OperationRequest>::from_request(Request::from_parts(parts, body), state).await?;
        Ok(Self { flow, request: details.by(caller), details, wait })
    }
}

/// Who asks, as far as that is known.
pub struct Who(Option<Principal>);

impl Who {
    /// Whether they may look at a flow.
    pub fn may_see(&self, flow: &str) -> bool {
        self.0.as_ref().is_some_and(|principal| principal.may(Role::Viewer, Some(flow)))
    }

    /// Who they are, if that is known.
    pub fn principal(&self) -> Option<&Principal> {
        self.0.as_ref()
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Who {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(Self(parts.extensions.get::<Principal>().cloned()))
    }
}

/// Who asks, by name.
pub struct Caller(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let name = parts.extensions.get::<Principal>().map(|principal| principal.name.to_string());
        Ok(Self(name.unwrap_or_else(|| "anonymous".to_owned())))
    }
}

/// How an operation is asked for.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OperationRequest {
    /// How many seconds it may take. What is not done by then counts as failed, and goes on to what is wanted. By default 60.
    #[schemars(range(min = 1, max = 3600))]
    pub deadline_s: Option<u64>,
    /// For `stop`: end at once, without a last checkpoint, so that what was read since the last one is read again by the next run.
    pub force: bool,
    /// For `rollback`: the revision to go back to.
    #[schemars(range(min = 1))]
    pub to: Option<u64>,
}

impl OperationRequest {
    /// The same, as the host takes it.
    pub fn by(&self, caller: Caller) -> HostRequest {
        let patience = self.deadline_s.map_or(PATIENCE, Duration::from_secs);
        HostRequest { by: caller.0, patience: patience.clamp(Duration::from_secs(1), MOST_PATIENCE) }
    }
}

/// How long a request waits for the end of what it asks for: `Prefer: wait=10`.
pub fn wait(headers: &HeaderMap) -> Duration {
    let preferences = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    let mut each = preferences.flat_map(|value| value.split(',')).map(str::trim);
    let seconds = each.find_map(|preference| preference.strip_prefix("wait=")?.parse().ok());
    seconds.map(Duration::from_secs).unwrap_or_default().min(LONGEST_WAIT)
}

/// What somebody expects a flow to be: `If-Match` with the revision, or `If-None-Match: *`.
///
/// # Errors
/// If neither is said, or something else is.
pub fn expected(headers: &HeaderMap) -> Result<Expected, Problem> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default().trim().to_owned());
    match (text(header::IF_MATCH), text(header::IF_NONE_MATCH)) {
        (Some(tag), None) => {
            let number = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).and_then(|tag| tag.parse().ok());
            let wrong =
                || Problem::bad_request(format!("`If-Match: {tag}` is none of ours; send the `ETag` of the flow"));
            number.map(Expected::Revision).ok_or_else(wrong)
        }
        (None, Some(all)) if all == "*" => Ok(Expected::Absent),
        (None, None) => Err(Problem::new(
            &Code::PRECONDITION_REQUIRED,
            "say what is to be changed: `If-Match` with the `ETag` of the flow, or `If-None-Match: *` for a new one",
        )),
        _ => Err(Problem::bad_request("send either `If-Match` with an `ETag`, or `If-None-Match: *`")),
    }
}
