//! Gathers the snapshots of all nodes, decides that they count, and has committed what they have staged: when a checkpoint is asked for, and when
//! all nodes have come to it.

mod decision;
mod hand_over;
mod node;
mod visibility;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millstream_core::{Barrier, Committer, Epoch, Held, PendingCommit, Run, State, Then};
use millstream_store::crash;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep_until};

pub use self::hand_over::{Legacy, NodeLegacy};
use self::node::{Node, nodes};
pub use self::visibility::{Visibility, Watcher};
use super::commits::Commits;
use super::failure::Failure;
use super::flow_checkpoints::FlowCheckpoints;
use super::lineage::LineageTracker;
use super::manifest::NodePhase;
use super::reporter::{CompletedCheckpoints, Report, Reporter};
use super::resume::NodeResume;
use super::schedule::Schedule;
use crate::file::Interval;
use crate::phase::{Phase, reached};
use crate::plan::{NodeIndex, Plan};
use crate::stats::FlowStats;

/// How often a flow that is watched is looked at.
const WATCHED: Interval = Interval::Epochs(8);

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

impl Drop for Coordinator {
    fn drop(&mut self) {
        self.schedule.close();
    }
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
