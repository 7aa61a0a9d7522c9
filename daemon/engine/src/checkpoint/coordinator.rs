//! Gathers the snapshots of all nodes, decides that they count, and has committed what they have staged.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use chrono::Utc;
use millstream_core::{
    Barrier, CommitContext, Committer, Epoch, Error, Held, PendingCommit, Result, ResultExt, Role, Run, Snapshot,
    State, Then,
};
use millstream_store::crash;
use serde_json::json;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::commits::{Commits, Done, Job, Queue};
use super::failure::Failure;
use super::flow_checkpoints::FlowCheckpoints;
use super::lineage::LineageTracker;
use super::manifest::{NodeEntry, NodePhase};
use super::options::ResumeOptions;
use super::pieces::Pieces;
use super::replay_log::{ReplayEvents, ReplayLog};
use super::reporter::{CompletedCheckpoints, Report, Reporter};
use super::resume::NodeResume;
use super::schedule::Schedule;
use crate::file::Interval;
use crate::phase::{Phase, reached};
use crate::plan::{NodeIndex, Plan, PlannedNode};
use crate::retry::LAST_PATIENCE;
use crate::stats::{CheckpointStats, CheckpointedNode, CompletedCheckpoint, FlowStats, Trigger};

impl Drop for Coordinator {
    fn drop(&mut self) {
        self.schedule.close();
    }
}

/// What the coordinator knows of a node.
struct Node {
    name: String,
    /// An input that may still wait for others.
    may_wait: bool,
    /// The inputs that its rows stem from.
    sources: Vec<usize>,
    /// As it was at the last checkpoint.
    entry: NodeEntry,
    reports: VecDeque<Report>,
    /// In which run it was opened, if it goes on as it was.
    run: Option<Run>,
    /// Its state, where somebody needs it without its being written.
    pieces: Pieces,
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

/// Gathers snapshots and decides checkpoints.
pub struct Coordinator {
    flow: String,
    nodes: Vec<Node>,
    checkpoints: Option<FlowCheckpoints>,
    /// The run, as it has begun.
    run: Run,
    effects: Visibility,
    stats: Arc<FlowStats>,
    commits: Commits,
    /// Stages that are visible, which has not been written down.
    unmarked: Vec<(NodeIndex, PendingCommit)>,
    /// Everything that has been decided up to this checkpoint is known to be visible.
    marked: u64,
    /// The barrier of the last checkpoint.
    last: Epoch,
    /// How often checkpoints are taken.
    interval: Interval,
    schedule: Arc<Schedule>,
    reports: mpsc::UnboundedReceiver<Report>,
    completed: watch::Sender<CompletedCheckpoints>,
    tracker: Arc<LineageTracker>,
    phase: watch::Sender<Phase>,
    /// The checkpoint that is under way.
    under_way: Option<Barrier>,
    /// Whether it was asked for before its time.
    is_asked: bool,
    /// When the next one is asked for.
    next: Option<Instant>,
    /// Asks for it before its time.
    hurry: Arc<Notify>,
    /// Whether the next one is to be the last.
    stopping: bool,
    /// Which nodes go on as they are, if the flow is to hand over.
    keeps: watch::Receiver<Option<BTreeSet<NodeIndex>>>,
    /// The barrier at which it does.
    border: Option<Epoch>,
    /// Whether the flow goes on in place of another.
    has_inherited: bool,
    /// What nodes that begin from scratch had staged, which goes when there is no way back.
    forgotten: Vec<(NodeIndex, State)>,
    /// Whether inputs are held, where some come to barriers by their rows alone: these read on to one checkpoint.
    held: Option<watch::Receiver<Option<Held>>>,
    /// Whether that has been asked for.
    asked_while_held: bool,
    /// The barrier at which a flow stops that is gone through again, if that is not the end of all rows.
    until: Option<Epoch>,
}

/// How the work of a coordinator ended.
#[derive(Debug, Default)]
pub struct Conclusion {
    /// The nodes all of whose effects are visible.
    pub committed: Vec<NodeIndex>,
    /// Why it could not go on.
    pub failure: Option<Failure>,
    /// What followed the last barrier, if it came to the end, or to the barrier at which the flow was to stop.
    pub last: Option<Then>,
    /// What it leaves to the flow that goes on, if that barrier was one at which nodes are handed over.
    pub legacy: Option<Legacy>,
    /// Where the nodes were, if that barrier was the one up to which the flow was gone through again.
    pub replayed: Option<BTreeMap<String, NodeResume>>,
}

/// What a coordinator leaves to the one of the flow that goes on in place of its own.
pub struct Legacy {
    /// Where the flow was handed over.
    pub(super) epoch: Epoch,
    /// When the first input came there.
    pub reached: Instant,
    /// The nodes, by name.
    pub nodes: BTreeMap<String, NodeLegacy>,
    checkpoints: FlowCheckpoints,
    marked: u64,
    retries: Arc<watch::Sender<bool>>,
}

/// What is left of a node.
pub struct NodeLegacy {
    /// Where it was.
    pub(super) entry: NodeEntry,
    run: Run,
    commits: Queue,
    retrying: Option<String>,
    unmarked: Vec<PendingCommit>,
}

impl std::fmt::Debug for Legacy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Legacy").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

impl Legacy {
    /// The checkpoints of a flow that goes on with the nodes in `kept` as they are.
    ///
    /// # Errors
    /// If the state of another node can't be used, by name.
    pub fn checkpoints(
        &self,
        plan: &Plan,
        kept: &BTreeSet<String>,
        options: &ResumeOptions,
    ) -> Result<FlowCheckpoints> {
        let entries = self.nodes.iter().map(|(name, node)| (name.clone(), node.entry.clone())).collect();
        self.checkpoints.go_on(plan, entries, kept, options)
    }

    /// Drops the committers of the nodes that do not go on as they are. They have nothing left to commit.
    pub fn drop_others(&mut self, kept: &BTreeSet<String>) {
        let others = self.nodes.iter_mut().filter(|(node, _)| !kept.contains(*node));
        others.for_each(|(_, node)| node.commits = Queue::default());
    }
}

impl Coordinator {
    /// A coordinator for the nodes of a plan, and the way to it. Nodes' committers are added with
    /// [`Coordinator::set_committer`].
    pub fn new(
        plan: &Plan,
        checkpoints: Option<FlowCheckpoints>,
        run: Run,
        effects: Visibility,
        passed: Epoch,
        phase: watch::Sender<Phase>,
        stats: Arc<FlowStats>,
    ) -> (Self, Reporter) {
        let interval = match (&checkpoints, &effects) {
            (Some(checkpoints), _) => checkpoints.interval(),
            (None, Visibility::Watched(_)) => WATCHED,
            (None, _) => Interval::Never,
        };
        let schedule = Arc::new(Schedule::new(interval, passed));
        let (sender, reports) = mpsc::unbounded_channel();
        let (completed, completions) = watch::channel(CompletedCheckpoints::default());
        let tracker = Arc::new(LineageTracker::of(plan, passed));
        let hurry = Arc::new(Notify::new());
        let reporter = Reporter {
            schedule: schedule.clone(),
            reports: sender,
            completed: completions,
            tracker: tracker.clone(),
            hurry: hurry.clone(),
        };
        let coordinator = Self {
            flow: plan.flow.clone(),
            nodes: nodes(plan),
            checkpoints,
            run,
            effects,
            commits: Commits::new(stats.clone()),
            stats,
            unmarked: Vec::new(),
            marked: 0,
            last: passed,
            interval,
            schedule,
            reports,
            completed,
            tracker,
            phase,
            under_way: None,
            is_asked: false,
            next: None,
            hurry,
            stopping: false,
            keeps: watch::channel(None).1,
            border: None,
            has_inherited: false,
            forgotten: Vec::new(),
            held: None,
            asked_while_held: false,
            until: None,
        };
        (coordinator, reporter)
    }

    /// What says whether inputs are held that come to no barrier while they are, unless a checkpoint waits for them.
    pub fn set_held(&mut self, held: watch::Receiver<Option<Held>>) {
        self.held = Some(held);
    }

    /// Has the flow, which is gone through again, stop at a barrier. [`Conclusion::replayed`] is where its nodes are there.
    pub fn stop_at(&mut self, epoch: Epoch) {
        self.schedule.stop_at(epoch);
        self.until = Some(epoch);
    }

    /// What asks for a checkpoint before its time.
    pub fn hurry(&self) -> Arc<Notify> {
        self.hurry.clone()
    }

    /// What makes visible what a node stages.
    pub fn set_committer(&mut self, node: NodeIndex, committer: Option<Box<dyn Committer>>) {
        self.commits.set_committer(node, committer);
    }

    /// What tells which nodes go on as they are, when the flow is to hand over.
    pub fn set_keeps(&mut self, keeps: watch::Receiver<Option<BTreeSet<NodeIndex>>>) {
        self.keeps = keeps;
    }

    /// Goes on where another coordinator was.
    pub fn inherit(&mut self, legacy: &Legacy) {
        (self.has_inherited, self.marked) = (true, legacy.marked);
        self.commits.go_on(legacy.retries.clone());
    }

    /// Goes on with what a node has to commit, which goes on as it was.
    pub fn inherit_node(&mut self, node: NodeIndex, legacy: NodeLegacy) {
        let NodeLegacy { run, commits, retrying, unmarked, .. } = legacy;
        self.nodes[node].run = Some(run);
        self.commits.set_queue(node, commits, retrying);
        self.unmarked.extend(unmarked.into_iter().map(|stage| (node, stage)));
    }

    /// Where a node of a resumed flow was.
    pub fn set_resumed(&mut self, node: NodeIndex, resume: &NodeResume) {
        let NodeResume { entry, pieces, .. } = resume;
        if entry.phase == NodePhase::Ended {
            self.tracker.end(node, self.last, &entry.positions);
        }
        self.nodes[node].entry = entry.clone();
        if self.until.is_some() {
            self.nodes[node].pieces = pieces.clone();
        }
    }

    /// Makes visible what the checkpoints of runs before have decided, whether or not that has been done, and undoes what they
    /// have not decided.
    pub async fn recover(&mut self) -> Result<(), Failure> {
        let Some(checkpoints) = self.checkpoints.clone() else { return Ok(()) };
        for node in (0..self.nodes.len()).filter(|node| self.nodes[*node].run.is_none()).collect::<Vec<_>>() {
            let pending = self.pending(node, &checkpoints).map_err(Failure::of(node))?;
            if !self.commits.has_committer(node) && pending.is_empty() {
                continue;
            }
            // What somebody has taken away of the rows of a flow that has ended does not come again. Versions of models tell
            // their nodes their numbers.
            if !(checkpoints.is_visible() && self.nodes[node].entry.role == Role::Output) {
                let run = self.context(node, checkpoints.number(), self.last);
                self.push(node, Job::Recover(pending.clone(), run))?;
            }
            self.unmarked.extend(pending.into_iter().map(|stage| (node, stage)));
        }
        for (name, pieces) in checkpoints.forgotten() {
            let Some(node) = self.nodes.iter().position(|node| node.name == name) else { continue };
            if self.commits.has_committer(node) {
                let state = checkpoints.store().state(&pieces).map_err(Failure::of(node))?;
                self.forgotten.push((node, state));
            }
        }
        // A flow that goes on in place of another may have to give way to it again, until it has a checkpoint of its own.
        if !self.has_inherited {
            self.forget()?;
        }
        self.drain_new().await?;
        self.nodes.iter_mut().filter(|node| node.run.is_none()).for_each(|node| node.entry.pending.clear());
        // Of a flow that goes on in place of another, which stands still meanwhile, it is marked later on.
        if self.has_inherited {
            return Ok(());
        }
        self.mark().await?;
        self.drain().await
    }

    /// What nodes had staged that begin from scratch is not needed any more.
    fn forget(&mut self) -> Result<(), Failure> {
        for (node, state) in std::mem::take(&mut self.forgotten) {
            self.push(node, Job::Abort(state))?;
        }
        Ok(())
    }

    /// Waits until there is nothing left to commit of nodes that do not go on as they were.
    async fn drain_new(&mut self) -> Result<(), Failure> {
        self.drain_nodes(|node| node.run.is_none()).await
    }

    /// What has been decided of a node, and may not be visible.
    fn pending(&self, node: NodeIndex, checkpoints: &FlowCheckpoints) -> Result<Vec<PendingCommit>> {
        let Node { entry, .. } = &self.nodes[node];
        let pending = entry.pending.iter().map(|stage| {
            let staged = checkpoints.store().state(&stage.pieces)?;
            Ok(PendingCommit { staged, context: self.context(node, stage.checkpoint, stage.epoch) })
        });
        pending.collect()
    }

    fn context(&self, node: NodeIndex, checkpoint: u64, epoch: Epoch) -> CommitContext {
        // Targets tell a run without state from the one before by its name.
        let of_flow = || self.checkpoints.as_ref().map_or_else(|| self.run.clone(), FlowCheckpoints::run);
        let run = self.nodes[node].run.clone().unwrap_or_else(of_flow);
        let name = self.nodes[node].name.clone();
        CommitContext {
            flow: self.flow.clone(),
            home: self.checkpoints.as_ref().map(|checkpoints| checkpoints.home(&name)).unwrap_or_default(),
            node: name,
            incarnation: run.incarnation,
            generation: run.generation,
            checkpoint,
            epoch,
        }
    }

    fn push(&mut self, node: NodeIndex, job: Job) -> Result<(), Failure> {
        self.commits.push(node, job).map_err(Failure::of(node))
    }

    /// Takes checkpoints until the flow has come to its end, is stopped, or fails.
    pub async fn run(mut self) -> Conclusion {
        let ended = self.take_checkpoints().await;
        let keeps =
            self.keeps.borrow().clone().filter(|_| self.border.is_some() && matches!(ended, Ok(Some(Then::Stop))));
        if let Some(keeps) = keeps {
            return self.hand_over(&keeps).await;
        }
        let has_ended = matches!(ended, Ok(Some(_))) && matches!(self.effects, Visibility::Committed);
        let concluded = match ended {
            Ok(Some(last)) => self.conclude(last).await.map(|()| Some(last)),
            other => other,
        };
        if concluded.is_err() {
            self.phase.send_modify(|phase| *phase = Phase::Failing);
        }
        self.commits.give_up().await;
        let is_visible = |node: &NodeIndex| has_ended && self.commits.pending(*node) == 0;
        let committed = (0..self.nodes.len()).filter(is_visible).collect();
        let is_replayed = self.until == Some(self.last) && matches!(concluded, Ok(Some(Then::Stop)));
        let nodes = is_replayed.then(|| std::mem::take(&mut self.nodes));
        let resume = |node: Node| (node.name, NodeResume::new(node.entry, node.pieces));
        let replayed = nodes.map(|nodes| nodes.into_iter().map(resume).collect());
        match concluded {
            Ok(last) => Conclusion { committed, last, replayed, ..Conclusion::default() },
            Err(failure) => Conclusion { committed, failure: Some(failure), ..Conclusion::default() },
        }
    }

    /// What followed the last barrier; nothing if the flow is failing, or nodes are gone that have not come to their end.
    async fn take_checkpoints(&mut self) -> Result<Option<Then>, Failure> {
        let (mut failing, mut draining) = (self.phase.subscribe(), self.phase.subscribe());
        if self.checkpoints.as_ref().is_some_and(FlowCheckpoints::is_done) {
            return Ok(Some(Then::End));
        }
        self.plan_next();
        loop {
            tokio::select! {
                biased;
                () = reached(&mut failing, Phase::Failing) => return Ok(None),
                done = self.commits.next() => {
                    self.take_done(done).await?;
                    // It may have been put off because too much was pending.
                    if self.under_way.is_none() && self.next.is_none() {
                        self.plan_next();
                    }
                }
                report = self.reports.recv() => match report {
                    Some(report) => self.nodes[report.node].reports.push_back(report),
                    None => return Ok(None),
                },
                () = reached(&mut draining, Phase::Draining), if self.checkpoints.is_some() && !self.stopping => {
                    self.stopping = true;
                    self.ask_to_stop();
                }
                Ok(()) = self.keeps.changed(), if self.checkpoints.is_some() && !self.stopping => self.ask_to_hand_over(),
                () = self.hurry.notified(), if self.may_hurry() => {
                    self.is_asked = true;
                    self.ask();
                }
                () = changed(&mut self.held) => {
                    self.asked_while_held = false;
                    if self.under_way.is_none() {
                        self.plan_next();
                    }
                }
                () = sleep_until(self.next.unwrap_or_else(Instant::now)), if self.next.is_some() => self.ask_in_time(),
            }
            while let Some(barrier) = self.complete() {
                self.decide(barrier).await?;
                if barrier.then != Then::Continue {
                    return Ok(Some(barrier.then));
                }
                if self.border == Some(barrier.epoch) {
                    return Ok(Some(Then::Stop));
                }
                self.plan_next();
            }
        }
    }

    /// Behind the last checkpoint: waits until everything is visible. A flow that is to stop leaves what can't be committed now to
    /// the next run.
    async fn conclude(&mut self, last: Then) -> Result<(), Failure> {
        if last == Then::Stop {
            self.phase.send_modify(|phase| *phase = (*phase).max(Phase::Stopped));
        }
        let mut stopping = self.phase.subscribe();
        let patience = async move {
            reached(&mut stopping, Phase::Draining).await;
            tokio::time::sleep(LAST_PATIENCE).await;
        };
        tokio::select! {
            drained = self.drain() => {
                drained?;
                // A run before may have decided the last checkpoint, and have come no further.
                return self.remove_old(self.last).await;
            }
            () = patience => self.commits.stop_retries(),
        }
        match (self.drain().await, last) {
            // It is said with the counters of the node.
            (Err(_), Then::Stop) if self.checkpoints.is_some() => Ok(()),
            (drained, _) => drained,
        }
    }

    /// The flow is handed over. What nodes have to commit that do not go on as they are becomes visible before; that of the others need
    /// not.
    async fn hand_over(mut self, keeps: &BTreeSet<NodeIndex>) -> Conclusion {
        crash::point("change-border");
        self.phase.send_modify(|phase| *phase = (*phase).max(Phase::Stopped));
        let names: BTreeSet<String> = keeps.iter().map(|node| self.nodes[*node].name.clone()).collect();
        let drained = timeout(LAST_PATIENCE, self.drain_nodes(|node| !names.contains(&node.name))).await;
        let failure = match drained {
            Ok(Ok(())) => None,
            Ok(Err(failure)) => Some(failure),
            Err(_) => Some(
                Error::transient("what it has written does not become visible in time, so that it can't be changed")
                    .into(),
            ),
        };
        if failure.is_some() {
            self.phase.send_modify(|phase| *phase = Phase::Failing);
            self.commits.give_up().await;
            return Conclusion { failure, ..Conclusion::default() };
        }
        Conclusion { last: Some(Then::Stop), legacy: self.legacy(), ..Conclusion::default() }
    }

    fn legacy(&mut self) -> Option<Legacy> {
        let checkpoints = self.checkpoints.clone()?;
        let (queues, retries) = self.commits.hand_over();
        let mut unmarked: Vec<Vec<PendingCommit>> = self.nodes.iter().map(|_| Vec::new()).collect();
        std::mem::take(&mut self.unmarked).into_iter().for_each(|(node, stage)| unmarked[node].push(stage));
        let nodes = std::mem::take(&mut self.nodes).into_iter().zip(queues).zip(unmarked).zip(&self.stats.nodes);
        let nodes = nodes.map(|(((node, commits), unmarked), stats)| {
            let run = node.run.unwrap_or_else(|| checkpoints.run());
            (node.name, NodeLegacy { entry: node.entry, run, commits, retrying: stats.retrying(), unmarked })
        });
        let nodes = nodes.collect();
        let reached = self.schedule.border_reached().unwrap_or_else(Instant::now);
        Some(Legacy { epoch: self.last, reached, nodes, checkpoints, marked: self.marked, retries })
    }

    /// Waits until there is nothing left to commit.
    async fn drain(&mut self) -> Result<(), Failure> {
        self.drain_nodes(|_| true).await
    }

    async fn drain_nodes(&mut self, is_waited_for: impl Fn(&Node) -> bool) -> Result<(), Failure> {
        while self.nodes.iter().enumerate().any(|(index, node)| is_waited_for(node) && !self.commits.is_idle(index)) {
            let done = self.commits.next().await;
            self.take_done(done).await?;
        }
        Ok(())
    }

    /// A committer has done what it was asked for.
    async fn take_done(&mut self, done: Done) -> Result<(), Failure> {
        let Done { node, committed, result } = done;
        result.map_err(Failure::of(node))?;
        let Some(stage) = committed else { return Ok(()) };
        self.nodes[node].entry.pending.retain(|pending| pending.checkpoint != stage.context.checkpoint);
        self.unmarked.push((node, stage));
        self.mark().await
    }

    /// Writes down up to which checkpoint everything is visible, and lets committers drop what proved it.
    async fn mark(&mut self) -> Result<(), Failure> {
        let Some(checkpoints) = self.checkpoints.clone() else { return Ok(()) };
        let pending = self.nodes.iter().flat_map(|node| &node.entry.pending).map(|stage| stage.checkpoint).min();
        let visible = pending.map_or(checkpoints.number(), |first| first - 1);
        if visible <= self.marked {
            return Ok(());
        }
        let marked = tokio::task::spawn_blocking(move || checkpoints.mark_committed(visible)).await;
        marked.doing(|| "noting what is visible")??;
        self.marked = visible;
        let is_marked = |(_, stage): &mut (NodeIndex, PendingCommit)| stage.context.checkpoint <= visible;
        for (node, stage) in self.unmarked.extract_if(.., is_marked).collect::<Vec<_>>() {
            self.push(node, Job::Committed(stage))?;
        }
        Ok(())
    }

    fn plan_next(&mut self) {
        self.next = None;
        match self.interval {
            // It is planned when something has been committed.
            _ if self.commits.is_full() => {}
            _ if self.stopping => self.ask_to_stop(),
            _ if self.keeps.borrow().is_some() => self.ask_to_hand_over(),
            Interval::Time(_) | Interval::Epochs(_) if self.is_held() => {
                if !std::mem::replace(&mut self.asked_while_held, true) {
                    self.ask();
                }
            }
            Interval::Time(time) => self.next = Some(Instant::now() + time),
            Interval::Epochs(_) => self.ask(),
            Interval::Never => {}
        }
    }

    fn is_held(&self) -> bool {
        self.held.as_ref().is_some_and(|held| held.borrow().is_some())
    }

    /// Whether a checkpoint that somebody asks for is taken now. Otherwise it is taken as soon as that is so.
    fn may_hurry(&self) -> bool {
        self.checkpoints.is_some() && self.under_way.is_none() && !self.stopping && !self.commits.is_full()
    }

    /// Asks for a checkpoint whose time has come, or comes back to it while commits are behind.
    fn ask_in_time(&mut self) {
        match self.interval {
            Interval::Time(time) if self.commits.is_behind() => self.next = Some(Instant::now() + time),
            _ => self.ask(),
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
            (self.under_way, self.next, self.border) = (Some(barrier), None, None);
        }
    }

    /// Asks for the checkpoint at which nodes are handed over; if another one is under way, that is done when it is settled.
    fn ask_to_hand_over(&mut self) {
        let keeps = self.keeps.borrow_and_update().clone().unwrap_or_default();
        if let Some(barrier) = self.schedule.ask_to_hand_over(&keeps) {
            (self.under_way, self.next, self.border) = (Some(barrier), None, Some(barrier.epoch));
            crash::point("change-asked");
        }
    }

    /// The checkpoint for which every node has handed over what is needed.
    fn complete(&mut self) -> Option<Barrier> {
        if let Some(barrier) = self.under_way
            && self.nodes.iter().all(|node| node.is_ready_for(barrier))
            && self.nodes.iter().any(|node| node.reports.front().is_some_and(|report| !report.point.is_end()))
        {
            self.under_way = None;
            self.schedule.completed();
            return Some(barrier);
        }
        let all_ended = self.nodes.iter().all(Node::has_ended);
        all_ended.then(|| Barrier { epoch: self.schedule.highest().next(), then: Then::End })
    }

    /// Decides a checkpoint, and has committed what is staged.
    async fn decide(&mut self, barrier: Barrier) -> Result<(), Failure> {
        crash::point("snapshots-gathered");
        let number = self.checkpoints.as_ref().map(FlowCheckpoints::next_number);
        let mut replay_log = ReplayLog { epoch: barrier.epoch, ..ReplayLog::default() };
        let mut snapshots = Vec::new();
        for node in &mut self.nodes {
            let (snapshot, events) = node.take_report(barrier).unzip();
            replay_log.add(&node.name, events.unwrap_or_default());
            snapshots.push(snapshot);
        }
        for (node, snapshot) in snapshots.iter_mut().enumerate() {
            snapshot.iter_mut().for_each(|snapshot| self.add_lineages(node, barrier, number, snapshot));
        }
        let begin = Instant::now();
        let staged = self.write(barrier, snapshots, replay_log).await?;
        if let Some(number) = number {
            let completed = self.completed_checkpoint(number, begin, barrier.then);
            self.stats.checkpoint_completed(completed);
        }
        self.tracker.checkpoint_completed(barrier.epoch);
        self.forget()?;
        for (node, staged) in staged.into_iter().enumerate() {
            match &self.effects {
                Visibility::None => {}
                Visibility::Watched(watch) => watch(&self.nodes[node].name, &staged),
                Visibility::Committed if staged.is_empty() => {}
                Visibility::Committed => {
                    let context = self.context(node, number.unwrap_or_default(), barrier.epoch);
                    self.push(node, Job::Commit(PendingCommit { staged, context }))?;
                }
            }
        }
        if self.border == Some(barrier.epoch) {
            // The flow stands still, and the one that goes on can do the rest.
            return Ok(());
        }
        self.mark().await?;
        self.remove_old(barrier.epoch).await
    }

    /// What is said of a checkpoint that has just become durable.
    fn completed_checkpoint(&mut self, number: u64, begin: Instant, then: Then) -> CompletedCheckpoint {
        let inputs = self.nodes.iter().filter(|node| node.entry.role == Role::Input);
        let rows_read = inputs.map(|node| node.entry.counters.rows_in).sum();
        let at = Instant::now();
        let part = |node: &Node| CheckpointedNode { rows_in: node.entry.counters.rows_in, bytes: node.entry.bytes() };
        let nodes: BTreeMap<_, _> = self.nodes.iter().map(|node| (node.name.clone(), part(node))).collect();
        let bytes = nodes.values().map(|node| node.bytes).sum();
        let stats = CheckpointStats { number, rows_read, took: at - begin, bytes, at, written: Utc::now().into() };
        let trigger = match then {
            Then::Continue if std::mem::take(&mut self.is_asked) => Trigger::Asked,
            Then::Continue => Trigger::Interval,
            Then::Stop => Trigger::Stop,
            Then::End => Trigger::End,
        };
        CompletedCheckpoint { stats, trigger, nodes }
    }

    /// Writes the manifest, if the flow keeps state. What was staged, by node.
    async fn write(
        &mut self,
        barrier: Barrier,
        mut snapshots: Vec<Option<Snapshot>>,
        replay_log: ReplayLog,
    ) -> Result<Vec<State>, Failure> {
        self.last = barrier.epoch;
        let mut entries: Vec<_> = self.nodes.iter().map(|node| (node.name.clone(), node.entry.clone())).collect();
        let checkpoints = self.checkpoints.clone();
        let pieces = self.nodes.iter().map(|node| node.pieces.clone()).filter(|_| self.until.is_some());
        let mut pieces: Vec<_> = pieces.collect();
        // Turning states into bytes, hashing and writing them takes a while, in which data must not wait.
        let written = tokio::task::spawn_blocking(move || {
            let staged = match &checkpoints {
                None => {
                    follow(&mut pieces, &mut snapshots)?;
                    let staged = snapshots.into_iter().map(|one| one.unwrap_or_default().staged.into_state());
                    let staged = staged.enumerate().map(|(node, staged)| staged.map_err(Failure::of(node)));
                    staged.collect::<Result<_, Failure>>()?
                }
                Some(checkpoints) => checkpoints.write(barrier, &mut entries, snapshots, replay_log)?,
            };
            Ok::<_, Failure>((entries, pieces, staged))
        });
        let (entries, pieces, staged) = written.await.doing(|| "writing a checkpoint")??;
        for (node, (_, entry)) in self.nodes.iter_mut().zip(entries) {
            node.entry = entry;
        }
        for (node, pieces) in self.nodes.iter_mut().zip(pieces) {
            node.pieces = pieces;
        }
        Ok(staged)
    }

    /// Removes the checkpoints that are too old, and tells inputs which are left.
    async fn remove_old(&mut self, newest: Epoch) -> Result<(), Failure> {
        let Some(checkpoints) = self.checkpoints.clone() else { return Ok(()) };
        let removed = tokio::task::spawn_blocking(move || checkpoints.remove_old()).await;
        let oldest = removed.doing(|| "removing old checkpoints")??;
        self.completed.send_replace(CompletedCheckpoints { newest, oldest });
        Ok(())
    }

    /// Tells a node's versions which rows they have learned of.
    fn add_lineages(&self, node: NodeIndex, barrier: Barrier, number: Option<u64>, snapshot: &mut Snapshot) {
        if snapshot.versions.is_empty() {
            return;
        }
        let resets = self.checkpoints.as_ref().map(|checkpoints| checkpoints.resets(&self.nodes[node].name));
        let resets = resets.unwrap_or_default();
        let lineages = snapshot.versions.iter().map(|epoch| {
            let sources = self.nodes[node].sources.iter();
            let inputs =
                sources.filter_map(|input| Some((self.nodes[*input].name.clone(), self.tracker.at(*input, *epoch)?)));
            let inputs: serde_json::Map<_, _> = inputs.collect();
            let mut lineage = json!({ "checkpoint": number, "epoch": epoch.0.min(barrier.epoch.0), "inputs": inputs });
            resets.add_to(&mut lineage);
            lineage
        });
        let lineages = serde_json::Value::Array(lineages.collect());
        snapshot.staged.put_bytes(PendingCommit::LINEAGES, lineages.to_string().into_bytes());
    }
}

/// Keeps the states of those nodes that hand some over, where there are any to be kept.
fn follow(kept: &mut [Pieces], snapshots: &mut [Option<Snapshot>]) -> Result<(), Failure> {
    for (node, (pieces, snapshot)) in kept.iter_mut().zip(snapshots).enumerate() {
        if let Some(snapshot) = snapshot {
            *pieces = pieces.followed_by(std::mem::take(&mut snapshot.state)).map_err(Failure::of(node))?;
        }
    }
    Ok(())
}

/// Waits until inputs are held, or go on. Cancel safe.
async fn changed(held: &mut Option<watch::Receiver<Option<Held>>>) {
    let changed = match held {
        Some(held) => held.changed().await.is_ok(),
        None => false,
    };
    if !changed {
        // Nobody will say it any more.
        std::future::pending().await
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
        let (role, kind, shape) = (self.entry.role, self.entry.kind.clone(), self.entry.shape.clone());
        let (state, pending) = (std::mem::take(&mut self.entry.state), std::mem::take(&mut self.entry.pending));
        self.entry = NodeEntry { role, kind, shape, state, pending, ..report.entry };
        // An input that has once begun reports from now on.
        self.may_wait = false;
        Some((report.snapshot, report.events))
    }
}

/// The nodes of a plan, of which nothing has been heard.
fn nodes(plan: &Plan) -> Vec<Node> {
    let nodes = plan.nodes.iter().zip(plan.sources_of_nodes()).map(|(node, sources)| Node {
        name: node.name.clone(),
        may_wait: node.may_wait(),
        sources: sources.into_iter().collect(),
        entry: first_entry(node),
        reports: VecDeque::new(),
        run: None,
        pieces: Pieces::default(),
    });
    nodes.collect()
}

/// A node at the beginning.
fn first_entry(node: &PlannedNode) -> NodeEntry {
    let phase = if node.may_wait() { NodePhase::Waiting } else { NodePhase::default() };
    NodeEntry {
        role: node.role(),
        kind: node.kind.to_owned(),
        shape: node.shape.clone(),
        phase,
        ..NodeEntry::default()
    }
}
