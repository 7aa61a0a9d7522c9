//! What a running flow counts, readable at any time without waiting. Counted per batch, never per row.

mod checkpoints;
mod clock;
mod connection;
mod snapshot;
mod tap;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use millstream_core::{Epoch, EventTime, FAILED, Report, Role};
use serde::{Deserialize, Serialize};

pub use checkpoints::{CheckpointStats, CheckpointedNode, CompletedCheckpoint, ResumedCheckpoint, Trigger};
pub use clock::{Activity, Clock, Times};
pub use connection::{Connection, ConnectionState};
pub use snapshot::{CheckpointSnapshot, ConnectionSnapshot, EdgeSnapshot, NodeSnapshot, StatsSnapshot};
pub use tap::{Sample, Tap, TapWatcher};

use self::checkpoints::History;
use self::connection::Contact;
use crate::edge::Queue;
use crate::file::{OnError, Secrets};
use crate::plan::{NodeIndex, Plan, PlannedNode};
use crate::quarantine::{AtWork, PoisonedRow};

/// The counters of a flow.
#[derive(Debug, Default)]
pub struct FlowStats {
    /// The name of the flow.
    pub flow: String,
    /// The nodes' counters, in the order of the plan.
    pub nodes: Vec<NodeStats>,
    /// The edges, in the order of the plan.
    pub edges: Vec<EdgeStats>,
    /// The last epoch that an input has ended.
    epoch: AtomicU64,
    checkpoint: Mutex<Option<CheckpointStats>>,
    /// The checkpoints that were completed lately, also by runs before.
    history: Mutex<History>,
    /// The one that the run goes on from.
    resumed: OnceLock<ResumedCheckpoint>,
    /// The rows that nodes do without.
    set_aside: OnceLock<Vec<PoisonedRow>>,
}

/// An edge, and what is on it.
#[derive(Debug)]
pub struct EdgeStats {
    /// `NODE.PORT>NODE`.
    pub name: String,
    /// The node and output port that it leads from.
    pub from: (NodeIndex, usize),
    /// The node that it leads to.
    pub to: NodeIndex,
    /// What is on it.
    pub queue: Arc<Queue>,
}

/// The counters of a node.
#[derive(Debug)]
pub struct NodeStats {
    /// The node's name.
    pub name: String,
    /// Whether it is an input.
    pub is_input: bool,
    /// Rows that arrived; of an input, rows that were read.
    pub rows_in: AtomicU64,
    /// Rows that left, by port.
    pub rows_out: Vec<(String, AtomicU64)>,
    /// Where rows that leave can be looked at, by port.
    pub taps: Vec<Arc<Tap>>,
    /// Rows that were refused.
    pub rows_failed: AtomicU64,
    /// Whether it may be without rows at which it fails: the flow says what becomes of refused ones.
    pub may_refuse: bool,
    /// The rows that it works on.
    at_work: Mutex<Option<AtWork>>,
    /// What it spends its time with.
    pub clock: Clock,
    /// How far event time has come behind it; the least of all values if that is not known.
    watermark: AtomicI64,
    /// How many stages are decided and not visible yet.
    pub pending_commits: AtomicUsize,
    /// How many rows it keeps while there is no room behind it.
    kept_rows: AtomicUsize,
    /// How it and its other side are.
    contact: Contact,
    /// Whether it has another side.
    is_remote: bool,
    /// What is not to be read in what is said of it.
    secrets: Arc<Secrets>,
    /// What runs before have counted, from which the flow was resumed.
    before: OnceLock<Counters>,
    report: Mutex<Option<Report>>,
    report_wanted: AtomicBool,
}

/// What a node has counted since the flow began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Rows that came in.
    pub rows_in: u64,
    /// Rows that left, by port.
    pub rows_out: BTreeMap<String, u64>,
    /// Rows that were refused.
    pub rows_failed: u64,
}

impl FlowStats {
    /// All zero. The queues are those of the plan's edges.
    pub fn new(plan: &Plan, queues: impl IntoIterator<Item = Arc<Queue>>) -> Self {
        let edges = plan.edges.iter().zip(queues).map(|(edge, queue)| EdgeStats {
            name: plan.edge_name(edge),
            from: edge.from,
            to: edge.to.0,
            queue,
        });
        let nodes = plan.nodes.iter().map(|node| NodeStats {
            name: node.name.clone(),
            is_input: node.role() == Role::Input,
            rows_in: AtomicU64::new(0),
            rows_out: node.ports.iter().map(|port| (port.name.clone(), AtomicU64::new(0))).collect(),
            taps: node.ports.iter().map(|_| Arc::default()).collect(),
            rows_failed: AtomicU64::new(0),
            may_refuse: may_refuse(node),
            at_work: Mutex::default(),
            clock: Clock::new(),
            watermark: AtomicI64::new(EventTime::MIN),
            pending_commits: AtomicUsize::new(0),
            kept_rows: AtomicUsize::new(0),
            contact: Contact::new(),
            is_remote: node.is_remote,
            secrets: plan.secrets.clone(),
            before: OnceLock::new(),
            report: Mutex::new(None),
            report_wanted: AtomicBool::new(true),
        });
        Self { flow: plan.flow.clone(), nodes: nodes.collect(), edges: edges.collect(), ..Self::default() }
    }

    /// The last epoch that an input of this run has ended.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Relaxed)
    }

    pub(crate) fn end_epoch(&self, epoch: Epoch) {
        self.epoch.fetch_max(epoch.0, Ordering::Relaxed);
    }

    /// How many bytes of rows a node has taken from its edges in this run.
    pub fn bytes_in(&self, node: NodeIndex) -> u64 {
        self.edges.iter().filter(|edge| edge.to == node).map(|edge| edge.queue.left().bytes).sum()
    }

    /// How many bytes of rows have left a node in this run. All edges of a port have the same rows, which count once.
    pub fn bytes_out(&self, node: NodeIndex) -> u64 {
        let mut ports: BTreeMap<usize, u64> = BTreeMap::new();
        for edge in self.edges.iter().filter(|edge| edge.from.0 == node) {
            let bytes = ports.entry(edge.from.1).or_default();
            *bytes = (*bytes).max(edge.queue.entered().bytes);
        }
        ports.values().sum()
    }

    /// The last checkpoint of this run, if it has completed one.
    pub fn checkpoint(&self) -> Option<CheckpointStats> {
        *self.checkpoint.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn checkpoint_completed(&self, checkpoint: CompletedCheckpoint) {
        *self.checkpoint.lock().unwrap_or_else(PoisonError::into_inner) = Some(checkpoint.stats);
        self.history().add(checkpoint);
    }

    /// The checkpoints that were completed lately, the oldest first.
    pub fn completed_checkpoints(&self) -> Vec<CompletedCheckpoint> {
        self.history().all().cloned().collect()
    }

    /// Remembers the checkpoints that a run before has completed.
    pub fn follow(&self, before: &Self) {
        before.completed_checkpoints().into_iter().for_each(|checkpoint| self.history().add(checkpoint));
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The checkpoint that this run goes on from, if it does not begin.
    pub fn resumed(&self) -> Option<ResumedCheckpoint> {
        self.resumed.get().copied()
    }

    /// The rows that nodes do without, since they fail at them.
    pub fn set_aside(&self) -> &[PoisonedRow] {
        self.set_aside.get().map_or(&[], Vec::as_slice)
    }

    pub(crate) fn do_without(&self, rows: &[PoisonedRow]) {
        let _ = self.set_aside.set(rows.to_vec());
    }

    pub(crate) fn set_resumed(&self, checkpoint: ResumedCheckpoint) {
        let _ = self.resumed.set(checkpoint);
    }

    /// How many bytes of memory are known to be taken: by rows that wait on edges, and by the states of the nodes as the last checkpoint
    /// has them.
    pub fn memory(&self) -> u64 {
        let states = self.checkpoint().map(|last| last.bytes).or_else(|| self.resumed().map(|last| last.bytes));
        // The rows that leave by a port are the same on all of its edges.
        let mut ports: BTreeMap<(NodeIndex, usize), u64> = BTreeMap::new();
        for edge in &self.edges {
            let bytes = ports.entry(edge.from).or_default();
            *bytes = (*bytes).max(edge.queue.waiting().bytes);
        }
        ports.values().sum::<u64>() + states.unwrap_or_default()
    }

    /// How many rows all inputs together have read since the flow began.
    pub fn rows_read(&self) -> u64 {
        let inputs = self.nodes.iter().filter(|node| node.is_input);
        inputs.map(|node| node.rows_in.load(Ordering::Relaxed)).sum()
    }

    /// Whether runs before have counted something.
    pub fn is_resumed(&self) -> bool {
        self.nodes.iter().any(|node| node.before() != Counters::default())
    }
}

impl NodeStats {
    /// The node's last report. Asks for a new one, which the node gives with its next rows.
    pub fn report(&self) -> Option<Report> {
        self.report_wanted.store(true, Ordering::Relaxed);
        self.report.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether somebody has looked at the last report.
    pub(crate) fn is_report_wanted(&self) -> bool {
        self.report_wanted.swap(false, Ordering::Relaxed)
    }

    pub(crate) fn set_report(&self, report: Option<Report>) {
        self.contact.reported(report.as_ref());
        *self.report.lock().unwrap_or_else(PoisonError::into_inner) = report;
    }

    /// The rows that it works on, or at which it has failed.
    pub fn at_work(&self) -> Option<AtWork> {
        self.at_work.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_at_work(&self, rows: Option<AtWork>) {
        *self.at_work.lock().unwrap_or_else(PoisonError::into_inner) = rows;
    }

    /// Why the last try to commit, or to ask, has failed: it is tried again, unless the flow has ended since.
    pub fn retrying(&self) -> Option<String> {
        self.contact.why_retrying()
    }

    pub(crate) fn set_retrying(&self, why: Option<String>) {
        self.contact.retrying(why.map(|why| self.secrets.hide(&why).into_owned()));
    }

    /// How the node and its other side are, if it has one. Asks for a new report.
    pub fn connection(&self) -> Option<Connection> {
        self.report_wanted.store(true, Ordering::Relaxed);
        self.is_remote.then(|| self.contact.now())
    }

    /// How many stages are decided and not visible yet.
    pub fn pending_commits(&self) -> usize {
        self.pending_commits.load(Ordering::Relaxed)
    }

    pub(crate) fn set_pending_commits(&self, stages: usize) {
        self.pending_commits.store(stages, Ordering::Relaxed);
    }

    /// How many rows it keeps while there is no room behind it.
    pub fn kept_rows(&self) -> usize {
        self.kept_rows.load(Ordering::Relaxed)
    }

    pub(crate) fn set_kept_rows(&self, rows: usize) {
        self.kept_rows.store(rows, Ordering::Relaxed);
    }

    /// How far event time has come behind the node, in microseconds since 1970. None if that is not known.
    pub fn watermark(&self) -> Option<EventTime> {
        Some(self.watermark.load(Ordering::Relaxed)).filter(|at| *at != EventTime::MIN)
    }

    pub(crate) fn set_watermark(&self, at: EventTime) {
        self.watermark.store(at, Ordering::Relaxed);
    }

    /// What was counted.
    pub fn counters(&self) -> Counters {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let rows_out = self.rows_out.iter().map(|(port, rows)| (port.clone(), count(rows))).collect();
        Counters { rows_in: count(&self.rows_in), rows_out, rows_failed: count(&self.rows_failed) }
    }

    /// What this run has counted.
    pub fn counters_of_run(&self) -> Counters {
        let (mut counters, before) = (self.counters(), self.before());
        counters.rows_in = counters.rows_in.saturating_sub(before.rows_in);
        counters.rows_failed = counters.rows_failed.saturating_sub(before.rows_failed);
        for (port, rows) in &mut counters.rows_out {
            *rows = rows.saturating_sub(before.rows_out.get(port).copied().unwrap_or_default());
        }
        counters
    }

    /// Where rows that leave by a port can be looked at.
    pub fn tap(&self, port: &str) -> Option<&Arc<Tap>> {
        let found = self.rows_out.iter().position(|(name, _)| name == port)?;
        self.taps.get(found)
    }

    /// What runs before have counted.
    pub fn before(&self) -> Counters {
        self.before.get().cloned().unwrap_or_default()
    }

    /// Goes on counting from there.
    pub(crate) fn restore(&self, counters: &Counters) {
        let _ = self.before.set(counters.clone());
        self.rows_in.store(counters.rows_in, Ordering::Relaxed);
        self.rows_failed.store(counters.rows_failed, Ordering::Relaxed);
        for (port, rows) in &self.rows_out {
            rows.store(counters.rows_out.get(port).copied().unwrap_or_default(), Ordering::Relaxed);
        }
    }

    pub(crate) fn add_in(&self, rows: usize) {
        self.rows_in.fetch_add(rows as u64, Ordering::Relaxed);
    }

    pub(crate) fn add_out(&self, port: usize, rows: usize) {
        self.rows_out[port].1.fetch_add(rows as u64, Ordering::Relaxed);
    }

    pub(crate) fn add_failed(&self, rows: usize) {
        self.rows_failed.fetch_add(rows as u64, Ordering::Relaxed);
    }
}

/// Whether somebody takes the rows that a node refuses, or wants them dropped.
fn may_refuse(node: &PlannedNode) -> bool {
    let refuses = |is_read: bool| is_read || node.on_error != OnError::Fail;
    node.ports.iter().any(|port| port.name == FAILED && refuses(!port.edges.is_empty()))
}
