//! What was logged lately, what has gone wrong, and how much is logged; and what Prometheus asks for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Deserialize;

use super::parameters::{JsonBody, Path, Query, Within};
use super::route::{Body, Route};
use super::views::Page;
use crate::Admin;
use crate::logs::{ErrorLine, LevelName, LevelsNow, LogLine};
use crate::metrics;
use crate::security::Role;

/// The type of what Prometheus reads.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

pub fn routes() -> Vec<Route> {
    vec![
        Route::get("/flows/{flow}/logs", "listFlowLogs", "The last lines about a flow, the newest last.", lines)
            .query::<LinesQuery>()
            .gives::<Page<LogLine>>(StatusCode::OK, "The lines."),
        Route::get("/flows/{flow}/errors", "listFlowErrors", "What has gone wrong in a flow, the latest last.", errors)
            .gives::<Page<ErrorLine>>(StatusCode::OK, "The errors."),
        Route::get("/logging", "getLogging", "How much is logged.", levels)
            .gives::<LevelsNow>(StatusCode::OK, "The levels now."),
        Route::put("/logging", "setLogging", "Lets parts of the program log more or less for a while.", set_levels)
            .role(Role::Admin)
            .takes(Body::json::<LevelsRequest>())
            .gives::<LevelsNow>(StatusCode::OK, "The levels now. They fall back by themselves."),
        Route::get("/metrics", "getMetrics", "What the daemon and its flows count, for Prometheus.", metrics_text)
            .outside()
            .gives_body(StatusCode::OK, "The metrics, in the text format of Prometheus.", Some(Body::text(METRICS))),
    ]
}

/// How many lines are told.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct LinesQuery {
    /// At most so many. By default 200, of which there are no more.
    limit: Option<Within<1, 200>>,
}

async fn lines(
    State(admin): State<Arc<Admin>>,
    Path(flow): Path<String>,
    Query(query): Query<LinesQuery>,
) -> Json<Page<LogLine>> {
    Json(Page {
        items: admin.surroundings.logs.lines(&flow, query.limit.map_or(200, |limit| limit.0 as usize)),
        next: None,
    })
}

async fn errors(State(admin): State<Arc<Admin>>, Path(flow): Path<String>) -> Json<Page<ErrorLine>> {
    Json(Page { items: admin.surroundings.logs.errors(&flow), next: None })
}

async fn levels(State(admin): State<Arc<Admin>>) -> Json<LevelsNow> {
    Json(admin.surroundings.levels.now())
}

/// How much is to be logged.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct LevelsRequest {
    /// Levels by part of the program: `{"millstream_sql": "debug"}`. Empty, all log as the settings say.
    levels: BTreeMap<String, LevelName>,
    /// For how many seconds. By default 600.
    for_s: Option<Within<1, 86_400>>,
}

async fn set_levels(State(admin): State<Arc<Admin>>, JsonBody(asked): JsonBody<LevelsRequest>) -> Json<LevelsNow> {
    let levels: BTreeMap<_, _> = asked.levels.into_iter().map(|(part, level)| (part, level.into())).collect();
    if levels.is_empty() {
        admin.surroundings.levels.reset();
    } else {
        admin.surroundings.levels.set(levels, Duration::from_secs(asked.for_s.map_or(600, |seconds| seconds.0)));
    }
    Json(admin.surroundings.levels.now())
}

async fn metrics_text(State(admin): State<Arc<Admin>>) -> Response {
    ([(header::CONTENT_TYPE, METRICS)], metrics::text(&admin.host)).into_response()
}
