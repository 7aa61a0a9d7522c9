//! What handlers take of requests, with answers of ours where it is wrong.

use std::borrow::Cow;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use millstream_host::{Expected, Request as HostRequest};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, DeserializeOwned};
use serde::{Deserialize, Deserializer};

use super::route::Header;
use crate::problem::{Code, Problem};
use crate::security::{Principal, Role};

/// How long an operation may take, unless somebody says otherwise.
const PATIENCE: Duration = Duration::from_secs(60);

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
        let bytes = if bytes.is_empty() { b"{}" } else { &bytes[..] };
        // A list of what an object would have is taken for it otherwise.
        if !bytes.trim_ascii_start().starts_with(b"{") {
            return Err(Problem::bad_request("the body is not what the route takes: it has to be a JSON object"));
        }
        let read = serde_json::from_slice(bytes);
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
pub struct Asked<T = OperationRequest> {
    /// The flow.
    pub flow: String,
    /// Who asks, and how long it may take.
    pub request: HostRequest,
    /// What else is said.
    pub details: T,
    /// How long the request waits for the end.
    pub wait: Duration,
}

impl<S: Send + Sync, T: DeserializeOwned + HasDeadline + Send> FromRequest<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let (mut parts, body) = request.into_parts();
        let Path(flow) = Path::from_request_parts(&mut parts, state).await?;
        let caller = Caller::from_request_parts(&mut parts, state).await?;
        let wait = wait(&parts.headers);
        let JsonBody(details) = JsonBody::<T>::from_request(Request::from_parts(parts, body), state).await?;
        Ok(Self { flow, request: asked_by(caller, details.deadline()), details, wait })
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

/// A whole number within bounds, which the API describes and holds requests to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Within<const LEAST: u64, const MOST: u64>(pub u64);

/// How many items a list has at most.
pub type Limit = Within<1, 1000>;

/// How many seconds something may take.
pub type Seconds = Within<1, 3600>;

/// A number counted from 1: of a revision, a version.
pub type Number = Within<1, { u32::MAX as u64 }>;

impl<const LEAST: u64, const MOST: u64> Within<LEAST, MOST> {
    /// The number, if it is within bounds. JSON has no whole numbers, so that 3.0 is one.
    fn checked<E: de::Error>(number: f64) -> Result<Self, E> {
        if number.fract() == 0.0 && number >= LEAST as f64 && number <= MOST as f64 {
            Ok(Self(number as u64))
        } else {
            Err(E::custom(format!("expected a whole number from {LEAST} to {MOST}, found {number}")))
        }
    }
}

impl<'de, const LEAST: u64, const MOST: u64> Deserialize<'de> for Within<LEAST, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::checked(f64::deserialize(deserializer)?)
    }
}

impl<const LEAST: u64, const MOST: u64> JsonSchema for Within<LEAST, MOST> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Within".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": LEAST, "maximum": MOST })
    }
}

/// How an operation is asked for.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OperationRequest {
    /// How many seconds it may take. What is not done by then counts as failed, and goes on to what is wanted. By default 60.
    pub deadline_s: Option<Seconds>,
}

/// How a flow is asked to stop.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StopRequest {
    /// How many seconds it may take. What is not done by then counts as failed, and goes on to what is wanted. By default 60.
    pub deadline_s: Option<Seconds>,
    /// End at once, without a last checkpoint, so that what was read since the last one is read again by the next run.
    pub force: bool,
}

/// To what a flow is asked to go back.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    /// How many seconds it may take. What is not done by then counts as failed, and goes on to what is wanted. By default 60.
    #[serde(default)]
    pub deadline_s: Option<Seconds>,
    /// The revision.
    pub to: Number,
}

/// A body that says how long something may take.
pub trait HasDeadline {
    /// How many seconds.
    fn deadline(&self) -> Option<Seconds>;
}

impl HasDeadline for OperationRequest {
    fn deadline(&self) -> Option<Seconds> {
        self.deadline_s
    }
}

impl HasDeadline for StopRequest {
    fn deadline(&self) -> Option<Seconds> {
        self.deadline_s
    }
}

impl HasDeadline for RollbackRequest {
    fn deadline(&self) -> Option<Seconds> {
        self.deadline_s
    }
}

/// Who asks the host for something, and how long it may take.
pub fn asked_by(caller: Caller, deadline: Option<Seconds>) -> HostRequest {
    HostRequest { by: caller.0, patience: deadline.map_or(PATIENCE, |seconds| Duration::from_secs(seconds.0)) }
}

/// How long a request waits.
pub const PREFER: Header = Header {
    name: "Prefer",
    meaning: "`wait=10` waits for up to 10 seconds until the operation has ended, at most for 60. By default nothing is waited for.",
    example: "wait=10",
};

/// Which revision is changed.
pub const IF_MATCH: Header = Header {
    name: "If-Match",
    meaning: "The `ETag` with which the flow was seen that is changed. Either this or `If-None-Match` has to be there.",
    example: "\"7\"",
};

/// That nothing is changed.
pub const IF_NONE_MATCH: Header = Header {
    name: "If-None-Match",
    meaning: "`*`: the flow is new. Either this or `If-Match` has to be there.",
    example: "*",
};

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
