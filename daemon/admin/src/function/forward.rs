//! Requests to a function that is a flow: each goes on to the input that takes rows at its path.

use std::error::Error as StdError;
use std::iter::successors;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::uri::{Authority, PathAndQuery, Scheme, Uri};
use axum::http::{HeaderName, StatusCode, Version, header};
use axum::middleware::from_fn;
use axum::response::{IntoResponse as _, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use millstream_core::HttpEndpoint;

use crate::api::route::catch_panics;

/// How long a connection waits for the next request: less than inputs keep one.
const IDLE: Duration = Duration::from_secs(5);

/// What belongs to a connection and not to a request, and the name of the host, which is another one.
const OF_CONNECTION: [HeaderName; 7] = [
    header::CONNECTION,
    header::HOST,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// What sends requests on.
#[derive(Debug)]
struct Forward {
    client: Client<HttpConnector, Body>,
    endpoints: Vec<HttpEndpoint>,
}

/// Sends requests on to endpoints, each of which has a path of its own: if there is only one, whatever the path.
pub fn forward(endpoints: Vec<HttpEndpoint>) -> Router {
    let client =
        Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE).build_http();
    Router::new().fallback(send_on).layer(from_fn(catch_panics)).with_state(Arc::new(Forward { client, endpoints }))
}

async fn send_on(State(forward): State<Arc<Forward>>, request: Request) -> Response {
    let Some(endpoint) = forward.endpoint(request.uri().path()) else {
        let paths: Vec<_> = forward.endpoints.iter().map(|endpoint| format!("`{}`", endpoint.path)).collect();
        return refuse(StatusCode::NOT_FOUND, &format!("rows are taken at {}", paths.join(", ")));
    };
    let Some(uri) = to(endpoint, request.uri()) else {
        return refuse(StatusCode::BAD_REQUEST, "the path of the URL can't be read");
    };
    let (mut parts, body) = request.into_parts();
    OF_CONNECTION.iter().for_each(|name| _ = parts.headers.remove(name));
    (parts.uri, parts.version) = (uri, Version::HTTP_11);
    match forward.client.request(Request::from_parts(parts, body)).await {
        Ok(answer) => {
            let (mut parts, body) = answer.into_parts();
            OF_CONNECTION.iter().for_each(|name| _ = parts.headers.remove(name));
            Response::from_parts(parts, Body::new(body))
        }
        Err(error) if is_of_body(&error) => {
            refuse(StatusCode::BAD_REQUEST, "the body can't be read, or has not come in time")
        }
        Err(_) => refuse(StatusCode::BAD_GATEWAY, "the flow does not answer: it has failed, or is being stopped"),
    }
}

/// Whether it is the body of the request that has failed.
fn is_of_body(error: &(dyn StdError + 'static)) -> bool {
    let causes = successors(Some(error), |error| (*error).source());
    causes.filter_map(|cause| cause.downcast_ref::<hyper::Error>()).any(hyper::Error::is_user)
}

impl Forward {
    fn endpoint(&self, path: &str) -> Option<&HttpEndpoint> {
        match self.endpoints.as_slice() {
            [only] => Some(only),
            several => several.iter().find(|endpoint| endpoint.path == path),
        }
    }
}

/// The URL of an endpoint, with what a request asks for besides the path.
fn to(endpoint: &HttpEndpoint, asked: &Uri) -> Option<Uri> {
    let query = asked.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut parts = axum::http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Authority::try_from(endpoint.address.to_string()).ok();
    parts.path_and_query = PathAndQuery::try_from(format!("{}{query}", endpoint.path)).ok();
    Uri::from_parts(parts).ok()
}

fn refuse(status: StatusCode, why: &str) -> Response {
    (status, axum::Json(serde_json::json!({ "error": why }))).into_response()
}
