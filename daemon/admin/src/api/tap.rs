//! Rows on their way, for those who look at them: a stream that goes on when the flow is started again.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body as HttpBody, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::stream;
use millstream_core::MAIN;
use millstream_engine::stats::{FlowStats, Sample, TapWatcher};
use millstream_host::{FlowStatus, HostError, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::watch;
use tokio::time::timeout;

use super::parameters::{Path, Query};
use super::route::{Body, Route};
use crate::Admin;
use crate::problem::Problem;
use crate::security::Role;

/// How long the stream is silent at most, so that whoever is in between does not take it for dead.
const SILENCE: Duration = Duration::from_secs(15);

pub fn routes() -> Vec<Route> {
    vec![
        Route::get("/flows/{flow}/tap", "tapFlow", "Rows that leave a node, as they pass, as server-sent events.", tap)
            .role(Role::Operator)
            .query::<TapQuery>()
            .gives_body(StatusCode::OK, "The stream, which has no end.", Some(Body::text("text/event-stream"))),
    ]
}

/// Where rows are looked at.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct TapQuery {
    /// The node that they leave.
    node: String,
    /// The port that they leave by. By default the main one.
    port: Option<String>,
}

/// Rows that have passed.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    /// When.
    at: Timestamp,
    /// Some of them.
    rows: Vec<&'a RawValue>,
    /// Where they are from: the input, its partition, and the positions of the batch.
    source: (&'a str, &'a str, u64, u64),
    /// How many have passed since the ones before that are not shown.
    passed: u64,
}

/// Somebody who looks at a flow.
struct Looking {
    status: watch::Receiver<FlowStatus>,
    node: String,
    port: String,
    /// The run that is looked at.
    stats: Option<Arc<FlowStats>>,
    watcher: Option<TapWatcher>,
    next: u64,
}

async fn tap(
    State(admin): State<Arc<Admin>>,
    Path(flow): Path<String>,
    Query(query): Query<TapQuery>,
) -> Result<Response, Problem> {
    let status = admin.host.watch(&flow).ok_or(HostError::NoFlow(flow))?;
    let TapQuery { node, port } = query;
    let port = port.unwrap_or_else(|| MAIN.to_owned());
    let mut looking = Looking { status, node, port, stats: None, watcher: None, next: 1 };
    looking.look_at_run();
    if looking.stats.is_some() && looking.watcher.is_none() {
        let Looking { node, port, .. } = looking;
        return Err(Problem::not_found(format!("there is no node `{node}` with a port `{port}`")));
    }
    let chunks = stream::unfold(looking, |mut looking| async move {
        let text = looking.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(text)), looking))
    });
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, HttpBody::from_stream(chunks)).into_response())
}

impl Looking {
    /// What is told next. Nothing any more when the flow is gone.
    async fn next(&mut self) -> Option<String> {
        loop {
            let Ok(event) = timeout(SILENCE, self.event()).await else { return Some(": still here\n\n".to_owned()) };
            match event? {
                Some(sample) => return Some(self.told(&sample)),
                None => self.look_at_run(),
            }
        }
    }

    /// The next rows, or nothing where another run may have begun. None at all when the flow is gone.
    async fn event(&mut self) -> Option<Option<Arc<Sample>>> {
        let watcher = &mut self.watcher;
        let sample = async {
            match watcher {
                Some(watcher) => watcher.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            sample = sample => Some(Some(sample)),
            changed = self.status.changed() => changed.is_ok().then_some(None),
        }
    }

    /// Looks at the run that is now, if it is another one.
    fn look_at_run(&mut self) {
        let stats = self.status.borrow_and_update().stats.clone();
        let is_same = match (&self.stats, &stats) {
            (Some(before), Some(now)) => Arc::ptr_eq(before, now),
            (before, now) => before.is_none() && now.is_none(),
        };
        if !is_same {
            let node = stats.as_ref().and_then(|stats| stats.nodes.iter().find(|node| node.name == self.node));
            self.watcher = node.and_then(|node| node.tap(&self.port)).map(|tap| tap.watch());
            self.stats = stats;
        }
    }

    fn told(&mut self, sample: &Sample) -> String {
        let origin = &sample.origin;
        let shown = Shown {
            at: Timestamp::now(),
            rows: sample.rows.iter().filter_map(|row| serde_json::from_str(row).ok()).collect(),
            source: (&*origin.source, &*origin.partition, origin.start, origin.end),
            passed: sample.passed,
        };
        // JSON has no line breaks, which would end the event.
        let data = serde_json::to_string(&shown).unwrap_or_default();
        let id = self.next;
        self.next += 1;
        format!("id: {id}\nevent: rows\ndata: {data}\n\n")
    }
}
