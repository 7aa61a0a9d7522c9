//! What happens, as it happens: one stream of server-sent events.
//!
//! A stream begins with all that there is now, so that whoever comes back after a break has missed nothing, and needs no memory of ours.
//! Who reads slowly gets the latest state of things less often, and holds nothing up.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body as HttpBody, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::stream;
use millstream_host::Operation;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use super::parameters::{Query, Who};
use super::route::{Body, Route};
use super::views::FlowView;
use crate::Admin;

/// How often it is looked what flows are doing.
const GLANCE: Duration = Duration::from_millis(500);

/// After how many looks counters are told.
const STATS: u64 = 2;

/// How long a stream is silent at most, so that whoever is in between does not take it for dead.
const SILENCE: Duration = Duration::from_secs(15);

pub fn routes() -> Vec<Route> {
    vec![
        Route::get("/events", "streamEvents", "What happens, as server-sent events.", events)
            .query::<EventsQuery>()
            .gives_body(StatusCode::OK, "The stream, which has no end.", Some(Body::text("text/event-stream"))),
    ]
}

/// What is told.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct EventsQuery {
    /// What is told, with commas between: `flows` (events `flow` and `gone`), `operations` (events `operation`), and `flow:NAME.stats` for the
    /// counters of a flow, once a second (events `stats`). By default `flows,operations`.
    topics: Option<String>,
}

/// What somebody wants to be told.
#[derive(Debug, Default)]
struct Topics {
    flows: bool,
    operations: bool,
    stats: Vec<String>,
}

impl Topics {
    fn read(text: &str) -> Self {
        let mut topics = Self::default();
        for topic in text.split(',').map(str::trim) {
            match topic {
                "flows" => topics.flows = true,
                "operations" => topics.operations = true,
                // What is not known yet, or no more, is told nothing of.
                other => topics.stats.extend(
                    other.strip_prefix("flow:").and_then(|flow| flow.strip_suffix(".stats")).map(str::to_owned),
                ),
            }
        }
        topics
    }
}

/// What has been told, and how it is found out what is new.
struct Telling {
    admin: Arc<Admin>,
    who: Who,
    topics: Topics,
    operations: broadcast::Receiver<Operation>,
    looks: Interval,
    looked: u64,
    known: BTreeMap<String, FlowView>,
    ready: VecDeque<String>,
    next: u64,
    last: Instant,
}

async fn events(State(admin): State<Arc<Admin>>, Query(query): Query<EventsQuery>, who: Who) -> Response {
    let topics = Topics::read(query.topics.as_deref().unwrap_or("flows,operations"));
    let mut looks = interval(GLANCE);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let operations = admin.host.operations().changes();
    let telling = Telling {
        admin,
        who,
        topics,
        operations,
        looks,
        looked: 0,
        known: BTreeMap::new(),
        ready: VecDeque::new(),
        next: 1,
        last: Instant::now(),
    };
    let chunks = stream::unfold(telling, |mut telling| async move {
        let text = telling.next().await;
        Some((Ok::<_, Infallible>(Bytes::from(text)), telling))
    });
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    (headers, HttpBody::from_stream(chunks)).into_response()
}

impl Telling {
    /// What is told next.
    async fn next(&mut self) -> String {
        loop {
            if let Some(event) = self.ready.pop_front() {
                self.last = Instant::now();
                return event;
            }
            if self.last.elapsed() > SILENCE {
                self.last = Instant::now();
                return ": still here\n\n".to_owned();
            }
            tokio::select! {
                _ = self.looks.tick() => self.look(),
                changed = self.operations.recv(), if self.topics.operations => match changed {
                    Ok(operation) => self.tell_operation(&operation),
                    // Those that were missed: all that are under way, once more.
                    Err(RecvError::Lagged(_)) => self.tell_operations(),
                    Err(RecvError::Closed) => self.topics.operations = false,
                },
            }
        }
    }

    /// Looks at all flows, and tells what is new of them.
    fn look(&mut self) {
        if self.looked == 0 && self.topics.operations {
            self.tell_operations();
        }
        if self.topics.flows {
            self.tell_flows();
        }
        if self.looked.is_multiple_of(STATS) {
            for flow in self.topics.stats.clone() {
                self.tell_stats(&flow);
            }
        }
        self.looked += 1;
    }

    fn tell_flows(&mut self) {
        let seen = self.admin.host.all().into_iter().filter(|flow| self.who.may_see(&flow.status.flow));
        let now: BTreeMap<String, FlowView> =
            seen.map(|flow| (flow.status.flow.clone(), FlowView::from(flow).without_counters())).collect();
        let gone: Vec<String> = self.known.keys().filter(|name| !now.contains_key(*name)).cloned().collect();
        let changed: Vec<_> = now.iter().filter(|(name, flow)| self.known.get(*name) != Some(flow)).collect();
        for (name, _) in changed {
            if let Some(flow) = self.admin.host.flow(name) {
                self.tell("flow", &FlowView::from(flow));
            }
        }
        for name in gone {
            self.tell("gone", &json!({ "name": name }));
        }
        self.known = now;
    }

    fn tell_stats(&mut self, name: &str) {
        if !self.who.may_see(name) {
            return;
        }
        let status = self.admin.host.flow(name).map(|flow| flow.status);
        let Some((revision, stats)) = status.and_then(|status| Some((status.revision, status.stats?))) else { return };
        let snapshot = serde_json::to_value(stats.snapshot()).unwrap_or_default();
        let mut event = json!({ "flow": name, "revision": revision });
        if let (Some(event), serde_json::Value::Object(counters)) = (event.as_object_mut(), snapshot) {
            event.extend(counters);
        }
        self.tell("stats", &event);
    }

    fn tell_operations(&mut self) {
        let running: Vec<_> = self.admin.host.operations().list().into_iter().filter(Operation::is_running).collect();
        running.iter().for_each(|operation| self.tell_operation(operation));
    }

    fn tell_operation(&mut self, operation: &Operation) {
        if self.who.may_see(&operation.flow) {
            self.tell("operation", operation);
        }
    }

    fn tell(&mut self, event: &str, data: &impl Serialize) {
        // JSON has no line breaks, which would end the event.
        let data = serde_json::to_string(data).unwrap_or_default();
        self.ready.push_back(format!("id: {}\nevent: {event}\ndata: {data}\n\n", self.next));
        self.next += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_told_apart() {
        let topics = Topics::read("flows, flow:fraud.stats,flow:spam.rows,unknown");
        assert!(topics.flows && !topics.operations);
        assert_eq!(topics.stats, ["fraud"]);
    }
}
