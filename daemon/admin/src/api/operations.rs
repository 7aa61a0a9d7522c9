//! What takes a while: what has become of it, and that it is called off.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use millstream_host::Operation;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::timeout;

use super::PREFIX;
use super::parameters::{Limit, PREFER, Path, Query, Who, wait};
use super::route::Route;
use super::views::Page;
use crate::Admin;
use crate::problem::{COME_AGAIN, Problem};
use crate::security::{Role, require};

pub fn routes() -> Vec<Route> {
    vec![
        Route::get("/operations", "listOperations", "What was asked for and takes a while, the newest first.", list)
            .query::<ListQuery>()
            .gives::<Page<Operation>>(StatusCode::OK, "The operations."),
        Route::get(
            "/operations/{operation}",
            "getOperation",
            "An operation; with `Prefer: wait=`, when it has ended.",
            get,
        )
        .headers(&[&PREFER])
        .gives::<Operation>(StatusCode::OK, "The operation."),
        Route::delete(
            "/operations/{operation}",
            "cancelOperation",
            "Calls an operation off: what it has begun is undone.",
            cancel,
        )
        .gives::<Operation>(StatusCode::OK, "The operation, which is called off, or had ended before."),
    ]
}

/// Which operations are listed.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct ListQuery {
    /// Only those of this flow.
    flow: Option<String>,
    /// How many at most. By default 100.
    limit: Option<Limit>,
}

async fn list(State(admin): State<Arc<Admin>>, Query(query): Query<ListQuery>, who: Who) -> Json<Page<Operation>> {
    let is_listed = |operation: &Operation| {
        who.may_see(&operation.flow) && query.flow.as_ref().is_none_or(|flow| *flow == operation.flow)
    };
    let listed = admin.host.operations().list().into_iter().filter(is_listed);
    Json(Page { items: listed.take(query.limit.map_or(100, |limit| limit.0 as usize)).collect(), next: None })
}

async fn get(
    State(admin): State<Arc<Admin>>,
    Path(number): Path<u64>,
    who: Who,
    headers: HeaderMap,
) -> Result<Json<Operation>, Problem> {
    let mut operation = find(&admin, number, &who, Role::Viewer)?;
    let ended = operation.wait_for(|operation| !operation.is_running());
    // One that has not ended by then is told as it is.
    let _ = timeout(wait(&headers), ended).await;
    let now = operation.borrow().clone();
    Ok(Json(now))
}

async fn cancel(
    State(admin): State<Arc<Admin>>,
    Path(number): Path<u64>,
    who: Who,
) -> Result<Json<Operation>, Problem> {
    let operation = find(&admin, number, &who, Role::Operator)?;
    admin.host.operations().cancel(number);
    Ok(Json(operation.borrow().clone()))
}

/// An operation on a flow that somebody has to do with.
fn find(admin: &Admin, number: u64, who: &Who, role: Role) -> Result<watch::Receiver<Operation>, Problem> {
    let missing = || Problem::not_found(format!("there is no operation {number}"));
    let operation = admin.host.operations().find(number).ok_or_else(missing)?;
    let flow = operation.borrow().flow.clone();
    require(who.principal(), role, Some(&flow))?;
    Ok(operation)
}

/// The answer to those who have asked for something that takes a while, and wait for it so long.
pub async fn answer(mut operation: watch::Receiver<Operation>, patience: Duration) -> Response {
    let ended = timeout(patience, operation.wait_for(|operation| !operation.is_running())).await.is_ok();
    let operation = operation.borrow().clone();
    let place = HeaderValue::from_str(&format!("{PREFIX}/operations/{}", operation.id));
    let status = if ended { StatusCode::OK } else { StatusCode::ACCEPTED };
    let mut response = (status, Json(operation)).into_response();
    response.headers_mut().extend(place.ok().map(|place| (header::LOCATION, place)));
    if !ended {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(COME_AGAIN.as_secs()));
    }
    response
}
