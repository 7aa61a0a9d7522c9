//! What answers say of flows and of changes.

use std::path::PathBuf;
use std::time::Duration;

use millstream_core::FAILED;
use millstream_engine::quarantine::PoisonedRow;
use millstream_engine::stats::{CheckpointSnapshot, FlowStats, NodeStats};
use millstream_host::{Budget, Desired, Flow, FlowDiff, FlowLimits, Owner, Refused, State, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// A flow: what is wanted of it, and what it is doing.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct FlowView {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// The number of the text that is wanted. The `ETag` of the flow is this number in quotes.
    pub revision: u64,
    /// The number of the text that runs, or ran last; 0 if none did.
    pub running_revision: u64,
    /// Who says what the flow is like.
    pub source: Source,
    /// What is wanted.
    pub desired: Desired,
    /// What it is doing.
    pub state: State,
    /// Since when.
    pub since: Timestamp,
    /// Why it has failed last, where it has not run well since.
    pub reason: Option<String>,
    /// Why its inputs are held, if they are.
    pub paused: Option<String>,
    /// How it is, in a word.
    pub health: Health,
    /// A change that was refused, so that the flow goes on as it was.
    pub problem: Option<Refused>,
    /// How often it was started again after a failure.
    pub restarts: Restarts,
    /// The last checkpoint of this run.
    pub checkpoint: Option<CheckpointSnapshot>,
    /// The rows of all inputs and outputs together, since the flow began.
    pub rows: Rows,
    /// What it takes of the machine, and may take, if it runs.
    pub budget: Option<BudgetView>,
    /// The rows that nodes do without, since they have failed at them whenever they were tried.
    pub set_aside: Vec<SetAside>,
    /// The operation on it that is under way.
    pub operation: Option<u64>,
}

/// Who says what a flow is like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Source {
    /// `file` or `api`.
    pub kind: SourceKind,
    /// The file.
    pub path: Option<PathBuf>,
}

/// Who says what a flow is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SourceKind {
    /// A file of the folder of flows.
    File,
    /// Whoever may change flows over the API.
    Api,
}

/// How a flow is, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// As it should be.
    Ok,
    /// It runs, but something is tried again, or a change was refused.
    Degraded,
    /// It does not run, though it should.
    Failing,
}

/// How often a flow was started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Restarts {
    /// How often, since the daemon began.
    pub count: u64,
    /// When it is started again, if it waits for that.
    pub next_at: Option<Timestamp>,
}

/// Rows of a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Rows {
    /// Those that inputs have read.
    pub read: u64,
    /// Those that have come to outputs.
    pub written: u64,
    /// Those that nodes have refused.
    pub failed: u64,
}

/// What a flow takes of the machine, and may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct BudgetView {
    /// Memory: rows that wait between nodes, and the states of nodes as the last checkpoint has them.
    pub memory: Part,
    /// Disk: the files in its own folders.
    pub disk: Part,
}

/// A part of what a flow takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Part {
    /// How much it takes; null if that is not looked at, since nothing limits it.
    pub used_bytes: Option<u64>,
    /// How much it may take.
    pub limit_bytes: Option<u64>,
}

/// A row that a node does without.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SetAside {
    /// The node.
    pub node: String,
    /// The input that the row comes from.
    pub input: String,
    /// The part of the input.
    pub partition: String,
    /// Its position there.
    pub position: u64,
    /// What the node has failed with.
    pub error: String,
    /// The checkpoint from which on it is set aside.
    pub checkpoint: u64,
}

/// What a change would do, or has begun to do.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ChangeView {
    /// What it is called by. Given as `?plan=`, nothing else is done.
    pub plan: String,
    /// The revision that is changed; none if the flow is new.
    pub base: Option<u64>,
    /// The number of the new text, if it was kept.
    pub revision: Option<u64>,
    /// What becomes of nodes.
    #[serde(flatten)]
    pub diff: FlowDiff,
    /// What may not be meant.
    pub warnings: Vec<String>,
    /// What carries it out.
    pub operation: Option<u64>,
}

/// A list, or a part of one.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Page<T> {
    /// What is in it.
    pub items: Vec<T>,
    /// Given as `?cursor=`, what comes behind it.
    pub next: Option<String>,
}

impl From<Flow> for FlowView {
    fn from(flow: Flow) -> Self {
        let Flow { owner, desired, revision, operation, refused, status } = flow;
        let (kind, path) = match owner {
            Owner::File { path } => (SourceKind::File, Some(path)),
            Owner::Api => (SourceKind::Api, None),
        };
        let stats = status.stats.as_deref();
        let is_retrying = stats.is_some_and(|stats| stats.nodes.iter().any(is_retrying));
        let health = match status.state {
            State::Failed | State::BackingOff => Health::Failing,
            _ if is_retrying || refused.is_some() => Health::Degraded,
            _ => Health::Ok,
        };
        Self {
            description: status.outline.as_ref().and_then(|outline| outline.description.clone()),
            revision,
            running_revision: status.revision,
            source: Source { kind, path },
            desired,
            state: status.state,
            since: status.since,
            reason: status.reason,
            paused: status.paused.as_deref().map(str::to_owned),
            health,
            problem: refused,
            restarts: Restarts { count: status.restarts, next_at: status.next_start.map(later) },
            checkpoint: stats.and_then(FlowStats::checkpoint).map(CheckpointSnapshot::from),
            rows: stats.map(rows).unwrap_or_default(),
            budget: status.budget.as_ref().zip(stats).map(|(budget, stats)| BudgetView::new(budget, stats)),
            set_aside: stats.map(FlowStats::set_aside).unwrap_or_default().iter().map(SetAside::from).collect(),
            operation,
            name: status.flow,
        }
    }
}

impl FlowView {
    /// The same, without what differs at each look.
    pub fn without_counters(self) -> Self {
        let restarts = Restarts { next_at: None, ..self.restarts };
        Self { rows: Rows::default(), checkpoint: None, budget: None, restarts, ..self }
    }
}

impl BudgetView {
    fn new(budget: &Budget, stats: &FlowStats) -> Self {
        let FlowLimits { memory, disk, .. } = budget.limits;
        let disk_used = disk.map(|_| budget.usage().disk);
        Self {
            memory: Part { used_bytes: Some(stats.memory()), limit_bytes: memory },
            disk: Part { used_bytes: disk_used, limit_bytes: disk },
        }
    }
}

impl From<&PoisonedRow> for SetAside {
    fn from(row: &PoisonedRow) -> Self {
        let PoisonedRow { node, origin, error, checkpoint, .. } = row.clone();
        let (input, partition, position) = (origin.source.to_string(), origin.partition.to_string(), origin.start);
        Self { node, input, partition, position, error, checkpoint }
    }
}

/// Whether a node tries again what has failed.
fn is_retrying(node: &NodeStats) -> bool {
    let connection = node.connection();
    node.retrying().is_some() || connection.is_some_and(|connection| connection.reason.is_some())
}

/// The time of day of an instant that is to come.
fn later(instant: Instant) -> Timestamp {
    Timestamp::after(instant.checked_duration_since(Instant::now()).unwrap_or(Duration::ZERO))
}

fn rows(stats: &FlowStats) -> Rows {
    let mut rows = Rows::default();
    for node in &stats.nodes {
        let counted = node.counters();
        rows.read += if node.is_input { counted.rows_in } else { 0 };
        let is_output = !node.is_input && node.rows_out.iter().all(|(port, _)| port == FAILED);
        rows.written += if is_output { counted.rows_in } else { 0 };
        rows.failed += counted.rows_failed;
    }
    rows
}
