//! Runs a plan: builds the nodes, spawns a task for each, and decides at the end whether what they did counts.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use millstream_core::{Epoch, Error, Output, Processor};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::align::{Inputs, Stage};
use crate::edge::{Fill, Receiver, Sender, edge};
use crate::gate::Gate;
use crate::plan::{Plan, PlannedBody, PlannedNode};
use crate::stats::FlowStats;
use crate::task::{Borders, Clock, Phase, Ports, Stop, run_input, run_output, run_processor};

/// A flow whose nodes are at work.
#[derive(Debug)]
pub struct RunningFlow {
    stats: Arc<FlowStats>,
    fills: Vec<Fill>,
    phase: watch::Sender<Phase>,
    tasks: JoinSet<(usize, Result<Finished, Stop>)>,
    started: Instant,
    commit: bool,
}

/// How a flow ended.
#[derive(Debug)]
pub struct Outcome {
    /// Done, stopped or failed.
    pub status: Status,
    /// The nodes whose effects count: all if the flow ended well, none if a node failed, some if a commit failed.
    pub committed: Vec<String>,
    /// How long it ran.
    pub elapsed: Duration,
}

/// How a flow ended.
#[derive(Debug)]
pub enum Status {
    /// All inputs have ended, and everything is committed.
    Done,
    /// It was told to stop; what was read until then is committed.
    Stopped,
    /// A node failed, or the flow was told to give up.
    Failed(NodeError),
}

/// The node that failed, and why.
#[derive(Debug)]
pub struct NodeError {
    /// The node's name.
    pub node: String,
    /// Why.
    pub error: Error,
}

impl fmt::Display for NodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node `{}`: {}", self.node, self.error)
    }
}

impl std::error::Error for NodeError {}

/// Tells a running flow to end.
#[derive(Clone, Debug)]
pub struct Stopper(watch::Sender<Phase>);

impl Stopper {
    /// Ends the inputs; what they have read is worked off and committed.
    pub fn drain(&self) {
        self.0.send_if_modified(|phase| advance(phase, Phase::Draining));
    }

    /// Gives up: nothing counts, and what was staged is removed.
    pub fn give_up(&self) {
        self.0.send_if_modified(|phase| advance(phase, Phase::Failing));
    }
}

fn advance(phase: &mut Phase, to: Phase) -> bool {
    let later = to > *phase;
    *phase = (*phase).max(to);
    later
}

/// A node that came to its end.
enum Finished {
    Input,
    Processor(Box<dyn Processor>),
    Output(Box<dyn Output>),
}

impl fmt::Debug for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Finished")
    }
}

/// Whether what a flow did counts at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effects {
    /// Outputs and models are committed.
    Commit,
    /// Nothing outside the flow changes: for tests.
    None,
}

impl RunningFlow {
    /// Builds all nodes, then starts their tasks on `runtime`.
    pub fn start(plan: Plan, effects: Effects, runtime: &Handle) -> Result<Self, NodeError> {
        let stats = Arc::new(FlowStats::new(&plan));
        let (senders, receivers): (Vec<_>, Vec<_>) = plan.edges.iter().map(|_| edge(plan.limits)).unzip();
        let fills = senders.iter().map(Sender::fill).collect();
        let (phase, _) = watch::channel(Phase::Running);
        let mut setup = Setup {
            gates: plan.nodes.iter().map(|node| Gate::new(node.gate())).collect(),
            senders: senders.into_iter().map(Some).collect(),
            receivers: receivers.into_iter().map(Some).collect(),
            targets: plan.edges.iter().map(|edge| edge.to).collect(),
            epoch_rows: plan.epoch_rows,
            epoch_interval: plan.epoch_interval,
            last_border: watch::channel(Epoch::default()).0,
            phase: phase.clone(),
            stats: stats.clone(),
        };
        let mut tasks = JoinSet::new();
        let mut ready = Vec::new();
        for (place, node) in plan.nodes.into_iter().enumerate() {
            ready.push(setup.task(place, node)?);
        }
        for (place, task) in ready.into_iter().enumerate() {
            tasks.spawn_on(async move { (place, guard(task).await) }, runtime);
        }
        let commit = effects == Effects::Commit;
        Ok(Self { stats, fills, phase, tasks, started: Instant::now(), commit })
    }

    /// The counters, which stay readable after the end.
    pub fn stats(&self) -> Arc<FlowStats> {
        self.stats.clone()
    }

    /// How full the edges are, in the order of the plan.
    pub fn fills(&self) -> Vec<Fill> {
        self.fills.clone()
    }

    /// Tells the flow to end.
    pub fn stopper(&self) -> Stopper {
        Stopper(self.phase.clone())
    }

    /// Waits for the end: of all nodes, then of their commits.
    pub async fn join(mut self) -> Outcome {
        let mut finished: HashMap<usize, Finished> = HashMap::new();
        let mut failure: Option<(usize, Error)> = None;
        while let Some(joined) = self.tasks.join_next().await {
            match joined {
                Ok((place, Ok(node))) => {
                    finished.insert(place, node);
                }
                Ok((place, Err(Stop::Failed(error)))) => {
                    self.phase.send_if_modified(|phase| advance(phase, Phase::Failing));
                    failure.get_or_insert((place, error));
                }
                // Of a node beside the one that failed, or of a runtime that is being shut down.
                Ok((_, Err(Stop::Closed))) | Err(_) => {}
            }
        }
        if failure.is_none() {
            // A node that could not be interrupted may have come to its end after the flow was given up.
            let given_up = *self.phase.borrow() == Phase::Failing;
            let unfinished = (0..self.stats.nodes.len()).find(|place| given_up || !finished.contains_key(place));
            failure = unfinished.map(|place| (place, Error::new("interrupted before its end")));
        }
        let committed = self.settle_all(finished, &mut failure).await;
        Outcome { status: self.status(failure), committed, elapsed: self.started.elapsed() }
    }

    /// Commits all nodes, or undoes what they have staged, from the first failure on. Models come last: a version that
    /// is published stays.
    async fn settle_all(
        &self,
        mut finished: HashMap<usize, Finished>,
        failure: &mut Option<(usize, Error)>,
    ) -> Vec<String> {
        let mut places: Vec<usize> = finished.keys().copied().collect();
        places.sort_by_key(|place| (!matches!(finished[place], Finished::Output(_)), *place));
        let mut committed = Vec::new();
        for place in places {
            let Some(node) = finished.remove(&place) else { continue };
            let has_effects = !matches!(node, Finished::Input);
            match self.settle(place, node, self.commit && failure.is_none()).await {
                Ok(true) if has_effects => committed.push(self.stats.nodes[place].name.clone()),
                Ok(_) => {}
                Err(error) => _ = failure.get_or_insert((place, error)),
            }
        }
        committed
    }

    /// Commits a node, or undoes what it has staged. Whether it was committed.
    async fn settle(&self, place: usize, node: Finished, count: bool) -> Result<bool, Error> {
        match node {
            Finished::Input => Ok(count),
            Finished::Processor(mut processor) => {
                let committed = if count { processor.commit() } else { Ok(()) };
                self.stats.nodes[place].set_report(processor.report());
                committed.map(|()| count)
            }
            Finished::Output(mut output) => {
                let committed = if count { output.commit().await } else { Ok(()) };
                if !count || committed.is_err() {
                    output.abort().await;
                }
                committed.map(|()| count)
            }
        }
    }

    fn status(&self, failure: Option<(usize, Error)>) -> Status {
        match failure {
            Some((place, error)) => Status::Failed(NodeError { node: self.stats.nodes[place].name.clone(), error }),
            None if *self.phase.borrow() == Phase::Draining => Status::Stopped,
            None => Status::Done,
        }
    }
}

impl PlannedNode {
    fn gate(&self) -> usize {
        match self.body {
            PlannedBody::Input { gate, .. } => gate,
            _ => 0,
        }
    }
}

type Task = futures::future::BoxFuture<'static, Result<Finished, Stop>>;

/// What tasks are made from; every edge's ends are taken once.
struct Setup {
    gates: Vec<Arc<Gate>>,
    senders: Vec<Option<Sender>>,
    receivers: Vec<Option<Receiver>>,
    /// The node and input port that each edge leads to.
    targets: Vec<(usize, usize)>,
    epoch_rows: usize,
    epoch_interval: Duration,
    last_border: watch::Sender<Epoch>,
    phase: watch::Sender<Phase>,
    stats: Arc<FlowStats>,
}

impl Setup {
    fn task(&mut self, place: usize, node: PlannedNode) -> Result<Task, NodeError> {
        let senders =
            node.ports.iter().map(|port| port.edges.iter().filter_map(|edge| self.senders[*edge].take()).collect());
        let senders: Vec<Vec<Sender>> = senders.collect();
        let ports = Ports::new(place, &node, senders, self.stats.clone());
        let inputs = self.inputs(place, &node);
        let phase = self.phase.subscribe();
        let failed = |error| NodeError { node: node.name.clone(), error };
        Ok(match node.body {
            PlannedBody::Input { build, finite, event_time, .. } => {
                let input = build().map_err(failed)?;
                let (gate, clock) = (self.gates[place].clone(), event_time.map(Clock::new));
                let interval = (!finite).then_some(self.epoch_interval);
                let borders = Borders { rows: self.epoch_rows, interval, last: self.last_border.clone() };
                async move { run_input(input, ports, gate, borders, clock, phase).await.map(|()| Finished::Input) }
                    .boxed()
            }
            PlannedBody::Processor { build } => {
                let processor = build().map_err(failed)?;
                async move { run_processor(processor, inputs, ports).await.map(Finished::Processor) }.boxed()
            }
            PlannedBody::Output { build, .. } => {
                let output = build().map_err(failed)?;
                async move { run_output(output, inputs, ports, phase).await.map(Finished::Output) }.boxed()
            }
        })
    }

    /// The fan-in of a node. The aligner counts the node's own edges from 0.
    fn inputs(&mut self, place: usize, node: &PlannedNode) -> Inputs {
        let own: Vec<usize> = (0..self.targets.len()).filter(|edge| self.targets[*edge].0 == place).collect();
        let local = |edge: &usize| own.iter().position(|candidate| candidate == edge);
        let stages = node.stages.iter().map(|stage| Stage {
            edges: stage.edges.iter().filter_map(local).collect(),
            turns: stage.turns,
            gates: stage.gates.iter().map(|input| self.gates[*input].clone()).collect(),
        });
        let stages = stages.collect();
        let always = node.always.iter().filter_map(local).collect();
        let take = |edge: &usize| Some((self.targets[*edge].1, self.receivers[*edge].take()?));
        Inputs::new(own.iter().filter_map(take).collect(), stages, always)
    }
}

/// Turns a panic into an error of the node.
async fn guard(task: Task) -> Result<Finished, Stop> {
    let caught = AssertUnwindSafe(task).catch_unwind().await;
    caught.unwrap_or_else(|panic| Err(Stop::Failed(Error::new(format!("panicked: {}", panic_message(&*panic))))))
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}
