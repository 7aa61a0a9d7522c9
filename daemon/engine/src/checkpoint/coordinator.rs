//! Gathers the snapshots of all nodes, decides that they count, and makes visible what they have staged.

use std::collections::VecDeque;
use std::sync::Arc;

use millstream_core::{Barrier, Committer, Epoch, Error, Parts, Positions, Result, ResultExt, Snapshot, State, Then};
use millstream_store::crash;
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::flow_checkpoints::FlowCheckpoints;
use super::lineage::History;
use super::manifest::{NodeEntry, NodePhase};
use super::replay_log::{ReplayEvents, ReplayLog};
use super::schedule::{Interval, Schedule};
use crate::plan::{Plan, PlannedNode};
use crate::task::{Phase, reached};

/// The barriers of the durable checkpoints.
#[derive(Clone, Copy, Debug, Default)]
pub struct CompletedCheckpoints {
    /// The newest.
    pub newest: Epoch,
    /// The oldest that is kept.
    pub oldest: Epoch,
}

/// The ways of nodes to the coordinator.
#[derive(Clone)]
pub struct Reporter {
    schedule: Arc<Schedule>,
    reports: mpsc::UnboundedSender<Report>,
    checkpoint_completed: watch::Receiver<CompletedCheckpoints>,
    history: Arc<History>,
}

/// Where a node is of which a report tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// At a barrier.
    Barrier(Barrier),
    /// At its end, which lies in this epoch: it has had its part in the barriers before.
    End(Epoch),
}

impl Point {
    fn epoch(self) -> Epoch {
        match self {
            Self::Barrier(barrier) => barrier.epoch,
            Self::End(epoch) => epoch,
        }
    }

    fn is_end(self) -> bool {
        matches!(self, Self::End(_))
    }

    /// Whether a node that is there has ended.
    pub fn phase(self) -> NodePhase {
        if self.is_end() { NodePhase::Ended } else { NodePhase::Running }
    }

    /// Whether what is said there holds at a barrier: also at those behind the end, but at none before it.
    fn holds_at(self, barrier: Epoch) -> bool {
        match self {
            Self::Barrier(at) => at.epoch == barrier,
            Self::End(epoch) => epoch <= barrier,
        }
    }
}

/// What a node hands over.
struct Report {
    place: usize,
    point: Point,
    entry: NodeEntry,
    snapshot: Snapshot,
    steps: ReplayEvents,
}

impl Reporter {
    /// The schedule of checkpoints.
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// An input has come to a barrier: rows before `positions` belong to the epoch that ends here, or one before.
    pub fn pass(&self, place: usize, epoch: Epoch, positions: &Positions) {
        self.history.pass(place, epoch, positions);
    }

    /// A node that makes a model has come to a barrier. Whether it has made a version there.
    pub fn learned(&self, place: usize, epoch: Epoch, has_made_version: bool) {
        self.history.learned(place, epoch, has_made_version);
    }

    /// A node's snapshot at a barrier, or at its end.
    pub fn report(&self, place: usize, point: Point, entry: NodeEntry, snapshot: Snapshot, steps: ReplayEvents) {
        if let Point::End(epoch) = point {
            self.history.end(place, epoch, &entry.positions);
        }
        // Nobody listens any more if the flow has failed.
        let _ = self.reports.send(Report { place, point, entry, snapshot, steps });
    }

    /// What durable checkpoints cover.
    pub fn checkpoint_completed(&self) -> watch::Receiver<CompletedCheckpoints> {
        self.checkpoint_completed.clone()
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        self.schedule.close();
    }
}

/// What the coordinator knows of a node.
struct Node {
    name: String,
    is_output: bool,
    /// An input that may still wait for others.
    may_wait: bool,
    /// The inputs that its rows stem from.
    sources: Vec<usize>,
    committer: Option<Box<dyn Committer>>,
    /// As it was at the last checkpoint.
    entry: NodeEntry,
    reports: VecDeque<Report>,
}

/// What becomes of what is staged.
#[derive(Clone)]
pub enum Visibility {
    /// Nothing: it is undone.
    None,
    /// It becomes visible.
    Committed,
    /// Somebody looks at it, node by node; then it is undone.
    Watched(Watcher),
}

/// Looks at what a node has staged.
pub type Watcher = Arc<dyn Fn(&str, &State) + Send + Sync>;

/// How often a flow that is watched is looked at.
const WATCHED: Interval = Interval::Epochs(8);

impl std::fmt::Debug for Visibility {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Committed => "Committed",
            Self::Watched(_) => "Watched",
        })
    }
}

/// Gathers snapshots and settles checkpoints.
pub struct Coordinator {
    nodes: Vec<Node>,
    checkpoints: Option<FlowCheckpoints>,
    effects: Visibility,
    /// The barrier of the last checkpoint.
    last: Epoch,
    /// How often checkpoints are taken.
    interval: Interval,
    schedule: Arc<Schedule>,
    reports: mpsc::UnboundedReceiver<Report>,
    checkpoint_completed: watch::Sender<CompletedCheckpoints>,
    history: Arc<History>,
    phase: watch::Sender<Phase>,
    /// The checkpoint that is under way.
    under_way: Option<Barrier>,
    /// When the next one is asked for.
    next: Option<Instant>,
    /// Whether the next one is to be the last.
    stopping: bool,
}

/// What came of the coordinator's work.
#[derive(Debug, Default)]
pub struct Settled {
    /// The places of the nodes whose last effects are visible.
    pub committed: Vec<usize>,
    /// Why it could not go on, and at which node.
    pub failure: Option<(Option<usize>, Error)>,
    /// What followed the last barrier, if it came to the end, or to the barrier at which the flow was to stop.
    pub last: Option<Then>,
}

type Failure = (Option<usize>, Error);

impl Coordinator {
    /// A coordinator for the nodes of a plan, and the way to it. Nodes' committers are added with
    /// [`Coordinator::set_committer`].
    pub fn new(
        plan: &Plan,
        checkpoints: Option<FlowCheckpoints>,
        effects: Visibility,
        passed: Epoch,
        phase: watch::Sender<Phase>,
    ) -> (Self, Reporter) {
        let interval = match (&checkpoints, &effects) {
            (Some(checkpoints), _) => checkpoints.interval(),
            (None, Visibility::Watched(_)) => WATCHED,
            (None, _) => Interval::Never,
        };
        let schedule = Arc::new(Schedule::new(interval, passed));
        let (sender, reports) = mpsc::unbounded_channel();
        let (checkpoint_completed, covers) = watch::channel(CompletedCheckpoints::default());
        let history = Arc::new(History::of(plan, passed));
        let reporter = Reporter {
            schedule: schedule.clone(),
            reports: sender,
            checkpoint_completed: covers,
            history: history.clone(),
        };
        let sources = plan.sources_of_nodes();
        let nodes = plan.nodes.iter().zip(sources).map(|(node, sources)| Node {
            name: node.name.clone(),
            is_output: node.role() == millstream_core::Role::Output,
            may_wait: node.gate() > 0,
            sources: sources.into_iter().collect(),
            committer: None,
            entry: first_entry(node),
            reports: VecDeque::new(),
        });
        let nodes = nodes.collect();
        let (under_way, next, stopping, last) = (None, None, false, passed);
        let coordinator = Self {
            nodes,
            checkpoints,
            effects,
            last,
            interval,
            schedule,
            reports,
            checkpoint_completed,
            history,
            phase,
            under_way,
            next,
            stopping,
        };
        (coordinator, reporter)
    }

    /// What makes visible what a node stages.
    pub fn set_committer(&mut self, place: usize, committer: Option<Box<dyn Committer>>) {
        self.nodes[place].committer = committer;
    }

    /// Where a node of a resumed flow was.
    pub fn set_entry(&mut self, place: usize, entry: NodeEntry) {
        if entry.phase == NodePhase::Ended {
            self.history.end(place, self.last, &entry.positions);
        }
        self.nodes[place].entry = entry;
    }

    /// Makes visible what the last checkpoint of a run before had staged, whether or not that has been done.
    pub async fn recover(&mut self) -> Result<(), Failure> {
        let Some(checkpoints) = self.checkpoints.clone() else { return Ok(()) };
        let mut visible = Vec::new();
        for place in in_order_of_commits(&self.nodes) {
            let pieces = std::mem::take(&mut self.nodes[place].entry.staged);
            if pieces.is_empty() {
                continue;
            }
            let staged = checkpoints.checkpoint_store().state(&pieces).map_err(|error| (Some(place), error))?;
            // What somebody has taken away of the rows of a flow that has ended does not come again. Versions of models tell
            // their nodes their numbers.
            if checkpoints.is_visible() && self.nodes[place].is_output {
                visible.push((place, staged));
                continue;
            }
            crash::point("recovery-before-commit");
            visible.push((place, self.commit(place, staged, Step::Commit).await?));
            crash::point("recovery-after-commit");
        }
        settled(&checkpoints).await?;
        self.forget(visible).await?;
        for (name, pieces) in checkpoints.forgotten() {
            let has_committer = |node: &Node| node.name == name && node.committer.is_some();
            let Some(place) = self.nodes.iter().position(has_committer) else { continue };
            let state = checkpoints.checkpoint_store().state(&pieces).map_err(|error| (Some(place), error))?;
            self.commit(place, state, Step::Forgotten).await?;
        }
        Ok(())
    }

    /// Lets go of what proved that it had become visible.
    async fn forget(&mut self, visible: Vec<(usize, State)>) -> Result<(), Failure> {
        for (place, staged) in visible {
            self.commit(place, staged, Step::Settled).await?;
        }
        Ok(())
    }

    async fn commit(&mut self, place: usize, staged: State, step: Step) -> Result<State, Failure> {
        commit(&mut self.nodes[place], staged, step).await.map_err(|error| (Some(place), error))
    }

    /// Takes checkpoints until the flow has come to its end, is stopped, or fails.
    pub async fn run(mut self) -> Settled {
        let mut settled = Settled::default();
        let (mut failing, mut draining) = (self.phase.subscribe(), self.phase.subscribe());
        if self.checkpoints.as_ref().is_some_and(FlowCheckpoints::is_done) {
            settled.last = Some(Then::End);
            return settled;
        }
        self.plan_next();
        loop {
            tokio::select! {
                biased;
                () = reached(&mut failing, Phase::Failing) => return settled,
                report = self.reports.recv() => match report {
                    Some(report) => self.nodes[report.place].reports.push_back(report),
                    // All nodes are gone, and not all of them have come to their end.
                    None => return settled,
                },
                () = reached(&mut draining, Phase::Draining), if self.checkpoints.is_some() && !self.stopping => {
                    self.stopping = true;
                    self.ask_to_stop();
                }
                () = sleep_until(self.next.unwrap_or_else(Instant::now)), if self.next.is_some() => self.ask(),
            }
            while let Some(barrier) = self.complete() {
                if let Err(failure) = self.settle(barrier, &mut settled.committed).await {
                    settled.failure = Some(failure);
                    self.phase.send_modify(|phase| *phase = Phase::Failing);
                    return settled;
                }
                if barrier.then != Then::Continue {
                    if barrier.then == Then::Stop {
                        self.phase.send_modify(|phase| *phase = (*phase).max(Phase::Stopped));
                    }
                    settled.last = Some(barrier.then);
                    return settled;
                }
                self.plan_next();
            }
        }
    }

    fn plan_next(&mut self) {
        self.next = None;
        match self.interval {
            _ if self.stopping => self.ask_to_stop(),
            Interval::Time(time) => self.next = Some(Instant::now() + time),
            Interval::Epochs(_) => self.ask(),
            Interval::Never => {}
        }
    }

    fn ask(&mut self) {
        self.under_way = Some(self.schedule.ask(self.last));
        self.next = None;
        crash::point("checkpoint-asked");
    }

    /// Asks for the last checkpoint; if another one is under way, that is done when it is settled.
    fn ask_to_stop(&mut self) {
        if let Some(barrier) = self.schedule.ask_to_stop() {
            (self.under_way, self.next) = (Some(barrier), None);
        }
    }

    /// The checkpoint for which every node has handed over what is needed.
    fn complete(&mut self) -> Option<Barrier> {
        if let Some(barrier) = self.under_way
            && self.nodes.iter().all(|node| node.is_ready_for(barrier))
            && self.nodes.iter().any(|node| node.reports.front().is_some_and(|report| !report.point.is_end()))
        {
            self.under_way = None;
            self.schedule.settled();
            return Some(barrier);
        }
        let all_ended = self.nodes.iter().all(Node::has_ended);
        all_ended.then(|| Barrier { epoch: self.schedule.highest().next(), then: Then::End })
    }

    /// Decides a checkpoint, and makes visible what is staged.
    async fn settle(&mut self, barrier: Barrier, committed: &mut Vec<usize>) -> Result<(), Failure> {
        crash::point("snapshots-gathered");
        let number = self.checkpoints.as_ref().map(FlowCheckpoints::next_number);
        let (mut snapshots, mut replay_log) = (Vec::new(), ReplayLog { epoch: barrier.epoch, ..ReplayLog::default() });
        for place in 0..self.nodes.len() {
            let (snapshot, steps) = self.nodes[place].take_report(barrier).unzip();
            replay_log.add(&self.nodes[place].name, steps.unwrap_or_default());
            snapshots.push(snapshot);
        }
        for (place, snapshot) in snapshots.iter_mut().enumerate() {
            let Some(snapshot) = snapshot else { continue };
            self.add_lineage(place, barrier, number, &mut snapshot.staged).map_err(|error| (Some(place), error))?;
        }
        let mut staged = self.decide(barrier, snapshots, replay_log).await.map_err(|error| (None, error))?;
        let mut visible = Vec::new();
        for place in in_order_of_commits(&self.nodes) {
            match &self.effects {
                Visibility::None => continue,
                Visibility::Watched(watch) => {
                    watch(&self.nodes[place].name, &staged[place]);
                    continue;
                }
                Visibility::Committed => {}
            }
            if !staged[place].is_empty() {
                crash::point("before-commit");
                visible.push((place, self.commit(place, std::mem::take(&mut staged[place]), Step::Commit).await?));
                crash::point("after-commit");
            }
            committed.push(place);
        }
        self.history.checkpoint_completed(barrier.epoch);
        let Some(checkpoints) = &self.checkpoints else { return Ok(()) };
        let oldest = settled(checkpoints).await?;
        self.forget(visible).await?;
        self.checkpoint_completed.send_replace(CompletedCheckpoints { newest: barrier.epoch, oldest });
        Ok(())
    }

    /// Writes the manifest, if the flow keeps state. What was staged, by node.
    async fn decide(
        &mut self,
        barrier: Barrier,
        snapshots: Vec<Option<Snapshot>>,
        replay_log: ReplayLog,
    ) -> Result<Vec<State>> {
        self.last = barrier.epoch;
        let mut entries: Vec<_> = self.nodes.iter().map(|node| (node.name.clone(), node.entry.clone())).collect();
        let checkpoints = self.checkpoints.clone();
        // Turning states into bytes, hashing and writing them takes a while, in which data must not wait.
        let written = tokio::task::spawn_blocking(move || {
            let staged = match &checkpoints {
                None => snapshots
                    .into_iter()
                    .map(|one| one.unwrap_or_default().staged.into_state())
                    .collect::<Result<_>>()?,
                Some(checkpoints) => checkpoints.write(barrier, &mut entries, snapshots, replay_log)?,
            };
            Ok::<_, Error>((entries, staged))
        });
        let (entries, staged) = written.await.doing(|| "writing a checkpoint")??;
        for (node, (_, entry)) in self.nodes.iter_mut().zip(entries) {
            node.entry = entry;
            node.entry.staged.clear();
        }
        Ok(staged)
    }

    /// Tells a node's versions which rows they have learned.
    fn add_lineage(&self, place: usize, barrier: Barrier, number: Option<u64>, staged: &mut Parts) -> Result<()> {
        let Some(epochs) = staged.peek("epochs") else { return Ok(()) };
        let past =
            self.checkpoints.as_ref().map(|checkpoints| checkpoints.past(&self.nodes[place].name)).unwrap_or_default();
        let epochs: Vec<u64> = State::new([("epochs".to_owned(), epochs.to_vec())]).get("epochs")?;
        for (version, epoch) in epochs.into_iter().enumerate() {
            let inputs: serde_json::Map<_, _> = self.nodes[place]
                .sources
                .iter()
                .filter_map(|input| Some((self.nodes[*input].name.clone(), self.history.at(*input, Epoch(epoch))?)))
                .collect();
            let mut lineage = json!({ "checkpoint": number, "epoch": epoch.min(barrier.epoch.0), "inputs": inputs });
            past.add_to(&mut lineage);
            staged.put_bytes(format!("lineage.{version}"), lineage.to_string().into_bytes());
        }
        Ok(())
    }
}

impl Node {
    fn has_ended(&self) -> bool {
        let is_last = self.reports.front().is_some_and(|report| report.point.is_end());
        is_last || self.reports.is_empty() && self.entry.phase == NodePhase::Ended
    }

    /// Whether it is known what the node was at a barrier.
    fn is_ready_for(&self, barrier: Barrier) -> bool {
        match self.reports.front() {
            // An input that tells first of something behind the barrier has waited there.
            Some(report) => {
                report.point.holds_at(barrier.epoch) || self.may_wait && report.point.epoch() > barrier.epoch
            }
            // Nodes that wait for it have come to the barrier, so if it had begun before, it would have reported.
            None => self.entry.phase == NodePhase::Ended || self.may_wait,
        }
    }

    /// What the node has handed over for a checkpoint. Nothing if it has ended before, or waits: then it is where it was.
    fn take_report(&mut self, barrier: Barrier) -> Option<(Snapshot, ReplayEvents)> {
        let report = self.reports.pop_front_if(|report| report.point.holds_at(barrier.epoch))?;
        let (kind, shape) = (self.entry.kind.clone(), self.entry.shape.clone());
        let (state, staged) = (std::mem::take(&mut self.entry.state), std::mem::take(&mut self.entry.staged));
        self.entry = NodeEntry { kind, shape, state, staged, ..report.entry };
        // An input that has once begun reports from now on.
        self.may_wait = false;
        Some((report.snapshot, report.steps))
    }
}

/// A node at the beginning.
fn first_entry(node: &PlannedNode) -> NodeEntry {
    let phase = if node.gate() > 0 { NodePhase::Waiting } else { NodePhase::default() };
    NodeEntry { kind: node.kind.to_owned(), shape: node.shape.clone(), phase, ..NodeEntry::default() }
}

/// Outputs first: a version of a model that is published stays, also where a later commit fails.
fn in_order_of_commits(nodes: &[Node]) -> Vec<usize> {
    let mut places: Vec<usize> = (0..nodes.len()).collect();
    places.sort_by_key(|place| !nodes[*place].is_output);
    places
}

/// What a committer is asked for.
#[derive(Clone, Copy)]
enum Step {
    Commit,
    Settled,
    Forgotten,
}

/// Committers wait for disks, which data must not. Gives back what was staged.
async fn commit(node: &mut Node, staged: State, step: Step) -> Result<State> {
    let Some(mut committer) = node.committer.take() else {
        return Err(Error::new("it has staged something, and nothing can commit it"));
    };
    let runtime = tokio::runtime::Handle::current();
    let committed = tokio::task::spawn_blocking(move || {
        let committed = match step {
            Step::Commit => runtime.block_on(committer.commit(&staged)),
            Step::Settled => runtime.block_on(committer.settled(&staged)),
            Step::Forgotten => runtime.block_on(committer.forgotten(&staged)),
        };
        (committer, committed.map(|()| staged))
    });
    let (committer, committed) = committed.await.doing(|| "committing")?;
    node.committer = Some(committer);
    committed
}

/// Everything that the last checkpoint had staged is visible. Returns the barrier of the oldest checkpoint that is kept.
async fn settled(checkpoints: &FlowCheckpoints) -> Result<Epoch, Failure> {
    let checkpoints = checkpoints.clone();
    let settled = tokio::task::spawn_blocking(move || checkpoints.settled()).await;
    settled.doing(|| "removing old checkpoints").and_then(|settled| settled).map_err(|error| (None, error))
}
