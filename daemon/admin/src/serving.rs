//! Models that are served: the routes of the protocols behind the same gate as the administration.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use millstream_serve::rest::{self, Access, Serving};
use serde_json::{Value, json};

use crate::api::route::{Rules, catch_panics, permit};
use crate::metrics;
use crate::problem::{Code, Problem};
use crate::security::{Gate, Role, guard};
use crate::server::Listening;

/// What listens for requests.
pub const SERVING: Listening = Listening { door: "serve", what: "serving", connections: 1024, of_one: 1024 };

/// How long the body of a refusal may be.
const MOST: usize = 64 << 10;

/// What answers all requests.
pub fn router(serving: Arc<Serving>, gate: Arc<Gate>) -> Router {
    let mut router = Router::new();
    for route in rest::routes() {
        let rules = rules(&gate, route.access);
        router = router.route(route.path, route.answering.layer(from_fn_with_state(rules, permit)));
    }
    let metrics = get(metrics).layer(from_fn_with_state(rules(&gate, Access::Predict), permit));
    router
        .route("/metrics", metrics)
        .method_not_allowed_fallback(wrong_method)
        .fallback(missing)
        .layer(from_fn(catch_panics))
        .layer(from_fn_with_state(gate, guard))
        .layer(from_fn(translate))
        .with_state(serving)
}

/// What answers the requests of a function, behind which there is a platform that knows who asks: rows are predicted by its model at `/`, and the
/// protocols are where clients look for them. Which models are served can't be changed, and others are not to be seen.
pub fn router_of_function(serving: Arc<Serving>, model: String) -> Router {
    // What describes all routes would describe those that are not here as well.
    let is_here =
        |route: &rest::Route| matches!(route.access, Access::Open | Access::Predict) && route.path != rest::OPENAPI;
    let routes = rest::routes().into_iter().filter(is_here);
    routes
        .fold(Router::new(), |router, route| router.route(route.path, route.answering))
        .route("/", rest::predicting(model))
        .method_not_allowed_fallback(wrong_method)
        .fallback(missing)
        .layer(from_fn(catch_panics))
        .layer(from_fn(translate))
        .with_state(serving)
}

/// Who may use a route. What is predicted is not written down, but which models are served.
fn rules(gate: &Arc<Gate>, access: Access) -> Rules {
    let (role, audited) = match access {
        Access::Open => (None, false),
        Access::Predict => (Some(Role::Viewer), false),
        // The labels are in the log that flows read, with their times: nothing else is written down of them.
        Access::Learn => (Some(Role::Operator), false),
        // Where everybody is a viewer, that takes more than to be here.
        Access::Look if gate.lets_everybody_in() => (Some(Role::Operator), false),
        Access::Look => (Some(Role::Viewer), false),
        Access::Manage => (Some(Role::Operator), true),
    };
    Rules { gate: gate.clone(), role, audited }
}

async fn metrics(State(serving): State<Arc<Serving>>) -> Response {
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::text_of_serving(&serving.repository)).into_response()
}

async fn missing() -> Response {
    Problem::not_found(
        "there is no such route; models are at `/v2/models/NAME/infer` and `/api/v1/models/NAME/predict`",
    )
    .into_response()
}

async fn wrong_method() -> Response {
    Problem::new(&Code::METHOD_NOT_ALLOWED, "the route takes other methods").into_response()
}

/// Says what was refused before a protocol was asked in the words of that protocol.
async fn translate(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let is_api = path.starts_with(crate::api::PREFIX);
    let is_mlflow = path == "/invocations" || path.starts_with("/api/2.0/mlflow");
    let kind = request.headers().get(header::CONTENT_TYPE);
    let is_grpc = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    let response = next.run(request).await;
    let is_problem =
        response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/problem+json");
    if is_api || !is_problem {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let problem: Value =
        to_bytes(body, MOST).await.ok().and_then(|body| serde_json::from_slice(&body).ok()).unwrap_or_default();
    let detail = problem["detail"].as_str().unwrap_or_default();
    if is_grpc {
        return grpc(parts.status, detail);
    }
    let body = if is_mlflow {
        json!({ "error_code": mlflow_code(parts.status), "message": detail })
    } else {
        json!({ "error": detail })
    };
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(body.to_string()))
}

/// A refusal of gRPC: an answer without a message, whose status is in the head.
fn grpc(status: StatusCode, detail: &str) -> Response {
    let code = match status {
        StatusCode::UNAUTHORIZED => "16",
        StatusCode::FORBIDDEN | StatusCode::MISDIRECTED_REQUEST => "7",
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => "12",
        StatusCode::TOO_MANY_REQUESTS => "8",
        StatusCode::SERVICE_UNAVAILABLE => "14",
        _ => "13",
    };
    // What is no printable ASCII, and the percent sign, is written in hexadecimal.
    let plain = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'%';
    let escape = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    let message: String = detail.bytes().map(escape).collect();
    let headers = [("content-type", "application/grpc"), ("grpc-status", code), ("grpc-message", message.as_str())];
    headers.into_response()
}

fn mlflow_code(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "UNAUTHENTICATED",
        StatusCode::FORBIDDEN | StatusCode::MISDIRECTED_REQUEST => "PERMISSION_DENIED",
        StatusCode::TOO_MANY_REQUESTS => "REQUEST_LIMIT_EXCEEDED",
        StatusCode::NOT_FOUND => "ENDPOINT_NOT_FOUND",
        StatusCode::METHOD_NOT_ALLOWED => "BAD_REQUEST",
        _ => "INTERNAL_ERROR",
    }
}
