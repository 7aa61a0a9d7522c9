//! The API: one table of routes, which gives the router, who may do what, what is written down, and the OpenAPI document.

mod check;
mod checkpoints;
mod dead_letters;
mod events;
mod flows;
mod logs;
mod models;
mod openapi;
mod operations;
mod parameters;
mod plain;
pub(crate) mod route;
mod system;
mod tap;
mod views;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderMap, Method, Uri};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};

pub use check::NodeType;
pub use openapi::document;
pub use route::Route;

use crate::problem::{Code, Problem};
use crate::security::guard;
use crate::{Admin, console};

/// What the paths of the API begin with.
pub const PREFIX: &str = "/api/v1";

/// How long the body of a request may be.
const MAX_BODY: usize = 1 << 20;

/// All routes.
pub fn routes() -> Vec<Route> {
    [
        flows::routes(),
        operations::routes(),
        check::routes(),
        events::routes(),
        checkpoints::routes(),
        dead_letters::routes(),
        models::routes(),
        logs::routes(),
        tap::routes(),
        system::routes(),
    ]
    .concat()
}

/// What answers all requests.
pub fn router(admin: Arc<Admin>) -> Router {
    let mut router = Router::new();
    for route in routes() {
        let (path, answering) = (route.path.clone(), route.answering(admin.clone()));
        router = router.route(&path, answering);
    }
    router
        .method_not_allowed_fallback(wrong_method)
        .fallback(other)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(from_fn(route::catch_panics))
        .layer(from_fn_with_state(admin.gate.clone(), guard))
        .with_state(admin)
}

/// What is no route is a file of the console, or nothing.
async fn other(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let missing =
        || Problem::not_found("there is no such page; the API is described at /api/v1/openapi.json").into_response();
    console::answer(&method, uri.path(), &headers).unwrap_or_else(missing)
}

async fn wrong_method() -> Response {
    Problem::new(&Code::METHOD_NOT_ALLOWED, "the route takes other methods; see /api/v1/openapi.json").into_response()
}
