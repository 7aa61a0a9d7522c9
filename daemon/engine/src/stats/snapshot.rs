//! The counters of a flow at a moment, for those who read them elsewhere.

use std::collections::BTreeMap;
use std::time::SystemTime;

use chrono::{DateTime, SecondsFormat, Utc};
use millstream_core::{EventTime, Report};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use super::{CheckpointStats, Connection, ConnectionState, EdgeStats, FlowStats, NodeStats};

/// The counters of a flow at a moment. Those of rows go on over restarts; those of bytes and seconds begin with each run.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct StatsSnapshot {
    /// When they were read, in RFC 3339.
    pub at: String,
    /// The last epoch that an input has ended.
    pub epoch: u64,
    /// The nodes, by name.
    pub nodes: BTreeMap<String, NodeSnapshot>,
    /// The edges, by `NODE.PORT>NODE`.
    pub edges: BTreeMap<String, EdgeSnapshot>,
    /// The last checkpoint of this run, if it has completed one.
    pub checkpoint: Option<CheckpointSnapshot>,
}

/// The counters of a node.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct NodeSnapshot {
    /// Rows that arrived; of an input, rows that were read.
    pub rows_in: u64,
    /// Rows that left, by port.
    pub rows_out: BTreeMap<String, u64>,
    /// Rows that were refused.
    pub rows_failed: u64,
    /// Bytes of the rows that arrived. An input has none.
    pub bytes_in: u64,
    /// Bytes of the rows that left by ports that somebody reads.
    pub bytes_out: u64,
    /// How long the node has worked.
    pub busy_s: f64,
    /// How long it has waited for rows.
    pub waiting_s: f64,
    /// How long it has waited for room behind it.
    pub blocked_s: f64,
    /// How far event time has come behind the node, in RFC 3339.
    pub watermark: Option<String>,
    /// How many stages are decided and not visible yet.
    pub pending_commits: usize,
    /// How many rows it keeps while there is no room behind it.
    pub kept_rows: usize,
    /// Why the last try to commit, or to ask, has failed, while it is tried again.
    pub retrying: Option<String>,
    /// How the node and its other side are, such as a server; none if it has none.
    pub connection: Option<ConnectionSnapshot>,
    /// What the node says of itself: `kind` is `model`, `evaluation` or `figures`, the rest depends on that.
    pub report: Option<Value>,
}

/// How a node and its other side are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ConnectionSnapshot {
    /// How they are.
    pub state: ConnectionState,
    /// Since when, in RFC 3339.
    pub since: String,
    /// Why something is tried again.
    pub reason: Option<String>,
}

/// What waits on an edge, and how much may.
#[derive(Clone, Copy, Debug, Default, Serialize, JsonSchema)]
pub struct EdgeSnapshot {
    /// Rows that wait.
    pub rows: u64,
    /// Bytes of these rows.
    pub bytes: u64,
    /// Batches that wait.
    pub batches: u64,
    /// How many rows may wait.
    pub limit_rows: u64,
    /// How many bytes may wait.
    pub limit_bytes: u64,
}

/// A checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct CheckpointSnapshot {
    /// Its number.
    pub number: u64,
    /// When it was durable, in RFC 3339.
    pub at: String,
    /// How long it took from the snapshot of the last node until it was durable.
    pub took_s: f64,
    /// How many bytes the states of all nodes have, and what they have staged.
    pub bytes: u64,
    /// How many rows all inputs together had read at its barrier.
    pub rows_read: u64,
}

impl FlowStats {
    /// The counters as they are now.
    pub fn snapshot(&self) -> StatsSnapshot {
        let nodes = self.nodes.iter().enumerate();
        StatsSnapshot {
            at: rfc3339(Utc::now()),
            epoch: self.epoch(),
            nodes: nodes.map(|(index, node)| (node.name.clone(), self.node(index, node))).collect(),
            edges: self.edges_by_name(),
            checkpoint: self.checkpoint().map(Into::into),
        }
    }

    fn node(&self, index: usize, node: &NodeStats) -> NodeSnapshot {
        let (counters, times) = (node.counters(), node.clock.times());
        NodeSnapshot {
            rows_in: counters.rows_in,
            rows_out: counters.rows_out,
            rows_failed: counters.rows_failed,
            bytes_in: self.bytes_in(index),
            bytes_out: self.bytes_out(index),
            busy_s: times.busy.as_secs_f64(),
            waiting_s: times.waiting.as_secs_f64(),
            blocked_s: times.blocked.as_secs_f64(),
            watermark: node.watermark().and_then(event_time),
            pending_commits: node.pending_commits(),
            kept_rows: node.kept_rows(),
            retrying: node.retrying(),
            connection: node.connection().map(Into::into),
            report: node.report().as_ref().map(to_json),
        }
    }

    /// What waits on the edges now. Where several lead from one port to one node, they are one to those who look.
    pub fn edges_by_name(&self) -> BTreeMap<String, EdgeSnapshot> {
        let mut edges: BTreeMap<String, EdgeSnapshot> = BTreeMap::new();
        for edge in &self.edges {
            edges.entry(edge.name.clone()).or_default().add(edge);
        }
        edges
    }
}

impl EdgeSnapshot {
    fn add(&mut self, edge: &EdgeStats) {
        let (waiting, limits) = (edge.queue.waiting(), edge.queue.limits());
        self.rows += waiting.rows;
        self.bytes += waiting.bytes;
        self.batches += waiting.batches;
        self.limit_rows += limits.rows as u64;
        self.limit_bytes += limits.bytes as u64;
    }
}

impl From<Connection> for ConnectionSnapshot {
    fn from(Connection { state, since, reason }: Connection) -> Self {
        Self { state, since: rfc3339(since), reason }
    }
}

impl From<CheckpointStats> for CheckpointSnapshot {
    fn from(last: CheckpointStats) -> Self {
        let CheckpointStats { number, rows_read, bytes, took, written, .. } = last;
        Self { number, at: rfc3339(written), took_s: took.as_secs_f64(), bytes, rows_read }
    }
}

/// What a node says of itself, as JSON.
fn to_json(report: &Report) -> Value {
    let (kind, name, mut json) = match report {
        Report::Model(model) => ("model", Some(&model.model), json!(model)),
        Report::Evaluation(evaluation) => ("evaluation", None, json!(evaluation)),
        Report::Figures(figures) => ("figures", Some(&figures.title), json!({ "values": figures })),
    };
    json["kind"] = json!(kind);
    if let Some(name) = name {
        json["name"] = json!(name);
    }
    json
}

/// An event time in RFC 3339. None if it is out of this world.
fn event_time(micros: EventTime) -> Option<String> {
    DateTime::from_timestamp_micros(micros).map(rfc3339_of)
}

fn rfc3339(time: impl Into<SystemTime>) -> String {
    rfc3339_of(DateTime::<Utc>::from(time.into()))
}

fn rfc3339_of(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}
