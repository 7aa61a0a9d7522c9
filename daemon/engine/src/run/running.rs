//! A flow whose nodes are at work, and what is decided when they have come to their end.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use millstream_core::{Error, ErrorClass, Held, Role, Then};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use tracing::Instrument as _;

use super::outcome::{Intakes, advance};
use super::setup::Task;
use super::{
    Finished, FlowControl, FlowError, HandedOver, Outcome, PreparedFlow, ReadyFlow, RunMode, Status, TakeOver,
};
use crate::checkpoint::{Conclusion, Coordinator, Failure, Legacy};
use crate::edge::Queue;
use crate::file::Secrets;
use crate::panic::panic_message;
use crate::phase::{Phase, reached};
use crate::plan::{Identities, NodeIndex, Plan, PlannedBody, PlannedNode};
use crate::stats::FlowStats;
use crate::task::{CaughtUp, Stop};

/// A flow whose nodes are at work.
#[derive(Debug)]
pub struct RunningFlow {
    common: Common,
    tasks: JoinSet<(usize, Result<Finished, Stop>)>,
    coordinator: JoinHandle<Conclusion>,
    /// When its nodes have begun.
    begun: watch::Receiver<Option<Instant>>,
    hurry: Arc<Notify>,
    started: Instant,
}

/// What is known of a flow before it begins and while it runs.
#[derive(Debug)]
pub(super) struct Common {
    pub stats: Arc<FlowStats>,
    pub phase: watch::Sender<Phase>,
    /// Why inputs are held, if they are.
    pub held: watch::Sender<Option<Held>>,
    pub durable: bool,
    /// Whether it can be run again from the start, to the same end.
    pub repeatable: bool,
    /// The inputs that end by themselves. None where rows would be lost if the flow were stopped between two barriers.
    pub finite: Vec<usize>,
    pub caught_up: Arc<CaughtUp>,
    /// Which nodes go on as they are, if the flow is to hand over.
    pub keeps: watch::Sender<Option<BTreeSet<NodeIndex>>>,
    pub identities: Identities,
    pub names: Arc<[String]>,
    /// What gives rows to inputs by hand.
    pub intakes: Arc<Intakes>,
    pub secrets: Arc<Secrets>,
}

/// How long a flow with state that is stopped may take to come to a barrier, where inputs end epochs by rows alone.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long nodes of which nothing counts have to remove what they have staged. One that computes is not waited for.
const LAST_MOMENT: Duration = Duration::from_secs(1);

type Finishing = BTreeMap<NodeIndex, Finished>;

impl ReadyFlow {
    /// Starts the tasks of the nodes on `runtime`.
    pub fn start(self, runtime: &Handle) -> RunningFlow {
        let mut tasks = JoinSet::new();
        // Nodes begin when what the last checkpoint had staged is visible.
        let (begin, begun) = watch::channel(None);
        for (index, task) in self.tasks.into_iter().enumerate() {
            let (mut begun, stats) = (begun.clone(), self.common.stats.clone());
            let task = async move {
                let has_begun = begun.wait_for(Option::is_some).await.is_ok();
                if has_begun { stats.nodes[index].clock.attend(guard(task)).await } else { Err(Stop::Closed) }
            };
            // What is logged on the way names the flow and the node.
            let node = self.common.stats.nodes[index].name.as_str();
            let span = tracing::error_span!("node", flow = self.common.stats.flow.as_str(), node);
            tasks.spawn_on(async move { (index, task.await) }.instrument(span), runtime);
        }
        let hurry = self.coordinator.hurry();
        let span = tracing::error_span!("flow", flow = self.common.stats.flow.as_str());
        let coordinator = runtime.spawn(coordinate(self.coordinator, begin).instrument(span));
        RunningFlow { common: self.common, tasks, coordinator, begun, hurry, started: Instant::now() }
    }
}

impl RunningFlow {
    /// Prepares a flow, takes it over, and starts it on `runtime`.
    ///
    /// # Errors
    /// For the reasons of [`PreparedFlow::new`] and [`PreparedFlow::take_over`], and if its owner writes a checkpoint
    /// meanwhile.
    pub fn start(plan: Plan, effects: RunMode, runtime: &Handle) -> Result<Self, FlowError> {
        match PreparedFlow::new(plan, effects)?.take_over()? {
            TakeOver::Ready(ready) => Ok(ready.start(runtime)),
            TakeOver::Outrun(checkpoints) => Err(checkpoints.outrun().into()),
        }
    }

    /// The counters, which stay readable after the end.
    pub fn stats(&self) -> Arc<FlowStats> {
        self.common.stats.clone()
    }

    /// What tells the flow what to do.
    pub fn control(&self) -> FlowControl {
        let is_given_up = !self.common.durable && self.common.repeatable;
        let stop = if is_given_up { Phase::Abandoned } else { Phase::Draining };
        let (phase, held) = (self.common.phase.clone(), self.common.held.clone());
        let Common { keeps, identities, names, intakes, .. } = &self.common;
        let (keeps, identities, names, intakes) = (keeps.clone(), identities.clone(), names.clone(), intakes.clone());
        let durable = self.common.durable;
        FlowControl { phase, hurry: self.hurry.clone(), held, stop, durable, keeps, identities, names, intakes }
    }

    /// Tells when its nodes have begun: as soon as what was decided before is visible that has to be.
    pub fn begun(&self) -> watch::Receiver<Option<Instant>> {
        self.begun.clone()
    }

    /// Waits for the end: of all nodes, then of their commits.
    pub async fn join(mut self) -> Outcome {
        let (finished, failure) = self.join_nodes().await;
        let common = self.common;
        // If all nodes came to their end, the coordinator is about to.
        if finished.len() < common.stats.nodes.len() {
            common.advance(Phase::Failing);
        }
        let concluded = self.coordinator.await.unwrap_or_default();
        let mut failure = failure.or(concluded.failure);
        let abandoned = common.is_abandoned() && concluded.last.is_none();
        if failure.is_none() && concluded.last.is_none() && !abandoned {
            let unfinished = (0..common.stats.nodes.len()).find(|index| !finished.contains_key(index));
            failure = Some(Failure { node: unfinished, error: Error::new("interrupted before its end") });
        }
        let (finished, handed_over) = match concluded.legacy.filter(|_| failure.is_none()) {
            Some(legacy) => (Finishing::new(), Some(Box::new(common.hand_over(finished, legacy)))),
            None => (finished, None),
        };
        let committed = common.part(finished, &concluded.committed).await;
        let status = common.status(failure, concluded.last);
        let unfinished = common.repeatable && matches!(status, Status::Stopped);
        let (elapsed, replayed) = (self.started.elapsed(), concluded.replayed);
        Outcome { status, unfinished, abandoned, committed, elapsed, handed_over, replayed }
    }

    /// Waits for the end of all nodes. Gives back those that came to it, and the first failure, with its node.
    async fn join_nodes(&mut self) -> (Finishing, Option<Failure>) {
        let (mut finished, mut failure) = (Finishing::new(), None);
        let mut draining = self.common.phase.subscribe();
        let mut patience = Box::pin(async move {
            reached(&mut draining, Phase::Draining).await;
            tokio::time::sleep(PATIENCE).await;
        });
        let mut is_patient = !self.common.finite.is_empty() && self.common.durable;
        let mut abandoned = self.common.phase.subscribe();
        let mut last_moment = Box::pin(async move {
            reached(&mut abandoned, Phase::Abandoned).await;
            tokio::time::sleep(LAST_MOMENT).await;
        });
        loop {
            let joined = tokio::select! {
                joined = self.tasks.join_next() => joined,
                () = &mut patience, if is_patient => {
                    is_patient = false;
                    self.common.give_way(&finished);
                    continue;
                }
                () = &mut last_moment => return (finished, failure),
            };
            match joined {
                None => return (finished, failure),
                Some(Ok((index, Ok(node)))) => _ = finished.insert(index, node),
                Some(Ok((index, Err(Stop::Failed(error))))) => {
                    self.common.advance(Phase::Failing);
                    failure.get_or_insert(Failure::of(index)(error));
                }
                // Of a node beside the one that failed, or of a runtime that is being shut down.
                Some(Ok((_, Err(Stop::Closed | Stop::AtBarrier))) | Err(_)) => {}
            }
        }
    }
}

impl Common {
    pub fn new(plan: &Plan, durable: bool, queues: impl IntoIterator<Item = Arc<Queue>>) -> Self {
        let phase = watch::Sender::new(Phase::Running);
        let is_input = |node: &&PlannedNode| node.role() == Role::Input;
        let inputs = plan.nodes.iter().filter(is_input).count();
        let is_finite = |index: &NodeIndex| matches!(plan.nodes[*index].body, PlannedBody::Input { finite: true, .. });
        let may_leave = plan.unreplayable_inputs().is_empty();
        Self {
            stats: Arc::new(FlowStats::new(plan, queues)),
            durable,
            repeatable: plan.is_repeatable(),
            finite: (0..plan.nodes.len()).filter(is_finite).filter(|_| may_leave).collect(),
            caught_up: Arc::new(CaughtUp::new(inputs, phase.clone())),
            held: watch::Sender::new(None),
            intakes: Arc::default(),
            phase,
            keeps: watch::Sender::new(None),
            identities: plan.identities(),
            names: plan.nodes.iter().map(|node| node.name.clone()).collect(),
            secrets: plan.secrets.clone(),
        }
    }

    fn advance(&self, to: Phase) {
        self.phase.send_if_modified(|phase| advance(phase, to));
    }

    /// Leaves a flow that is to stop where its last checkpoint was, from which it is resumed, if it does not come to a barrier
    /// in time: because an input ends its epochs by rows alone, or in a flow of only such inputs, because a node is slow.
    fn give_way(&self, finished: &Finishing) {
        let is_awaited = self.repeatable || self.finite.iter().any(|input| !finished.contains_key(input));
        if is_awaited && !self.caught_up.is_all() {
            self.phase.send_if_modified(|phase| *phase == Phase::Draining && advance(phase, Phase::Abandoned));
        }
    }

    /// Whether the flow was stopped between two barriers.
    fn is_abandoned(&self) -> bool {
        *self.phase.borrow() == Phase::Abandoned
    }

    /// What the flow that goes on in place of this one is given: of the nodes that were told to go on, those that have come to the border.
    fn hand_over(&self, finished: Finishing, legacy: Legacy) -> HandedOver {
        let keeps = self.keeps.borrow().clone().unwrap_or_default();
        let nodes = finished.into_iter().filter(|(index, _)| keeps.contains(index));
        let nodes = nodes.map(|(index, node)| (self.names[index].clone(), node)).collect();
        HandedOver::new(nodes, self.identities.clone(), legacy)
    }

    /// Takes leave of all nodes, which report once more, since commits come behind their last rows. Where outputs had staged something
    /// that was not committed, they undo it. Returns the names of the nodes whose effects count.
    async fn part(&self, finished: Finishing, committed: &[NodeIndex]) -> Vec<String> {
        let mut names = Vec::new();
        for (index, node) in finished {
            let counts = committed.contains(&index);
            match node {
                Finished::Input(_) => continue,
                Finished::Processor(processor) => self.stats.nodes[index].set_report(processor.report()),
                Finished::Output(mut output) => {
                    self.stats.nodes[index].set_report(output.report());
                    // What a flow with state has staged is needed by the run that goes on with it.
                    if !counts && !self.durable {
                        output.abort().await;
                    }
                }
            }
            if counts {
                names.push(self.stats.nodes[index].name.clone());
            }
        }
        names
    }

    fn status(&self, failure: Option<Failure>, last: Option<Then>) -> Status {
        match failure {
            Some(Failure { node, error }) => {
                let node = node.map(|index| self.stats.nodes[index].name.clone());
                Status::Failed(FlowError { node, error }.without_secrets(&self.secrets))
            }
            None if last == Some(Then::Stop) && self.caught_up.is_all() => Status::Done,
            None if last.is_none() || last == Some(Then::Stop) => Status::Stopped,
            // Without state, inputs that are told to stop end as if nothing more had come.
            None if !self.durable && *self.phase.borrow() == Phase::Draining => Status::Stopped,
            None => Status::Done,
        }
    }
}

/// ReadOrder a panic into an error of the node.
async fn guard(task: Task) -> Result<Finished, Stop> {
    let caught = AssertUnwindSafe(task).catch_unwind().await;
    caught.unwrap_or_else(|panic| {
        let error = Error::new(format!("panicked: {}", panic_message(&*panic)));
        Err(Stop::Failed(error.of_class(ErrorClass::Bug)))
    })
}

/// Does what the run before had decided, lets the nodes begin, and takes checkpoints until the end.
async fn coordinate(mut coordinator: Coordinator, begin: watch::Sender<Option<Instant>>) -> Conclusion {
    if let Err(failure) = coordinator.recover().await {
        return Conclusion { failure: Some(failure), ..Conclusion::default() };
    }
    begin.send_replace(Some(Instant::now()));
    coordinator.run().await
}
