//! Runs a plan: builds the nodes, spawns a task for each, and decides at the end whether what they did counts.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use millstream_core::{Error, Home, Output, Processor, Run, Then};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::align::{Inputs, Stage};
use crate::checkpoint::{
    Beginning, Coordinator, Keeper, Replay, Reporter, Settled, Steps, Visibility, draw_incarnation,
};
use crate::edge::{Fill, Receiver, Sender, edge};
use crate::gate::Gate;
use crate::plan::{Build, Plan, PlannedBody, PlannedNode, PlannedStage, PlannedTimeGroup};
use crate::stats::FlowStats;
use crate::task::{Borders, CaughtUp, Clock, Keeping, Phase, Ports, Stop, run_input, run_output, run_processor};
use crate::time_group::{self, Member};

/// A flow that is about to be taken over: a former owner can still go on with it.
pub struct PreparedFlow {
    plan: Plan,
    effects: Effects,
    /// Where it goes on, if it keeps state.
    found: Beginning,
}

/// A flow that has been taken over, and whose nodes have not begun.
pub struct ReadyFlow {
    common: Common,
    tasks: Vec<Task>,
    coordinator: Coordinator,
}

/// A flow whose nodes are at work.
#[derive(Debug)]
pub struct RunningFlow {
    common: Common,
    tasks: JoinSet<(usize, Result<Finished, Stop>)>,
    coordinator: JoinHandle<Settled>,
    started: Instant,
}

/// What is known of a flow before it begins and while it runs.
#[derive(Debug)]
struct Common {
    stats: Arc<FlowStats>,
    fills: Vec<Fill>,
    phase: watch::Sender<Phase>,
    durable: bool,
    /// Whether it can be run again from the start, to the same end.
    repeatable: bool,
    caught_up: Arc<CaughtUp>,
}

/// How a flow ended.
#[derive(Debug)]
pub struct Outcome {
    /// Done, stopped or failed.
    pub status: Status,
    /// Whether it was stopped although its inputs end by themselves, so that a run which is not stopped gives more. Without
    /// state, nothing of it is committed then.
    pub unfinished: bool,
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
    /// It was told to stop; what was read until then is committed, unless [`Outcome::unfinished`] says otherwise.
    Stopped,
    /// A node failed, or the flow was told to give up.
    Failed(FlowError),
}

/// Why a flow failed.
#[derive(Debug)]
pub struct FlowError {
    /// The name of the node that failed. None if it was the flow as a whole, such as where its state can't be written.
    pub node: Option<String>,
    /// Why.
    pub error: Error,
}

impl fmt::Display for FlowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.node {
            Some(node) => write!(f, "node `{node}`: {}", self.error),
            None => self.error.fmt(f),
        }
    }
}

impl std::error::Error for FlowError {}

/// Tells a running flow to end.
#[derive(Clone, Debug)]
pub struct Stopper {
    phase: watch::Sender<Phase>,
    /// What becomes of a flow that is stopped.
    stop: Phase,
}

impl Stopper {
    /// Ends the inputs, or where the flow keeps state, stops them at a border; what they have read is worked off and
    /// committed. A flow without state that can be run again from the start is given up: half of a result must not take the
    /// place of a whole one.
    pub fn stop(&self) {
        self.phase.send_if_modified(|phase| advance(phase, self.stop));
    }

    /// Whether [`Stopper::stop`] commits what has been read.
    pub fn commits(&self) -> bool {
        self.stop == Phase::Draining
    }

    /// Gives up: nothing counts, and what was staged is removed.
    pub fn give_up(&self) {
        self.phase.send_if_modified(|phase| advance(phase, Phase::Failing));
    }
}

fn advance(phase: &mut Phase, to: Phase) -> bool {
    let later = to > *phase;
    *phase = (*phase).max(to);
    later
}

/// A node that came to its end, or to the border at which the flow stops.
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

/// What becomes of a flow's effects and state.
#[derive(Debug)]
pub enum Effects {
    /// Nothing outside the flow changes: for tests.
    None,
    /// Outputs and models are committed at the end.
    Commit,
    /// Outputs and models are committed at checkpoints, from which the flow can be resumed.
    Keep(Keeper),
    /// Nothing outside the flow changes: what was done before is done again, and looked at.
    Replay(Replay),
}

impl PreparedFlow {
    /// If the flow keeps state, builds all nodes, claims outputs, and reads the state. Waits for files and for the network.
    /// What may go wrong goes wrong here, where nothing has been taken over.
    ///
    /// # Errors
    /// If a node can't be built, an output can't be claimed, or the state can't be read from which the flow is resumed.
    pub fn new(mut plan: Plan, effects: Effects) -> Result<Self, FlowError> {
        let found = match &effects {
            Effects::Keep(keeper) => {
                plan.prepare(|node| keeper.home(node))?;
                keeper.beginning().map_err(|error| FlowError { node: None, error })?
            }
            Effects::None | Effects::Commit | Effects::Replay(_) => Beginning::default(),
        };
        Ok(Self { plan, effects, found })
    }

    /// Takes over what the flow keeps. Of several flows, none should be before all are prepared.
    ///
    /// # Errors
    /// If a node can't be built of a flow that keeps no state, or for the reasons of [`Keeper::take_over`].
    pub fn take_over(self) -> Result<ReadyFlow, FlowError> {
        let Self { plan, effects, found } = self;
        let stats = Arc::new(FlowStats::new(&plan));
        let (senders, receivers): (Vec<_>, Vec<_>) = plan
            .edges
            .iter()
            .map(|planned| {
                let (sender, receiver) = edge(plan.limits);
                (sender.uniting(plan.union(planned)), receiver)
            })
            .unzip();
        let fills = senders.iter().map(Sender::fill).collect();
        let phase = watch::Sender::new(Phase::Running);
        let (visibility, keeper, beginning, homes) = match effects {
            Effects::None => (Visibility::None, None, Beginning::default(), Homes::None),
            Effects::Commit => (Visibility::Committed, None, Beginning::default(), Homes::None),
            Effects::Keep(keeper) => {
                let beginning = keeper.take_over(&plan, found).map_err(|error| FlowError { node: None, error })?;
                let homes = Homes::Own(keeper.clone());
                (Visibility::Committed, Some(keeper), beginning, homes)
            }
            Effects::Replay(replay) => {
                (Visibility::Watched(replay.watch), None, replay.beginning, Homes::Past(replay.homes))
            }
        };
        let durable = keeper.is_some();
        let run = match &keeper {
            Some(keeper) => keeper.run(),
            None => {
                Run { incarnation: draw_incarnation().map_err(|error| FlowError { node: None, error })?, generation: 0 }
            }
        };
        let repeatable = plan.is_repeatable();
        let takes_notes = durable && plan.makes_models();
        let (coordinator, reporter) = Coordinator::new(&plan, keeper, visibility, beginning.epoch, phase.clone());
        let is_input = |node: &&PlannedNode| matches!(node.body, PlannedBody::Input { .. });
        let caught_up = Arc::new(CaughtUp::new(plan.nodes.iter().filter(is_input).count(), phase.clone()));
        let mut setup = Setup {
            caught_up: caught_up.clone(),
            gates: plan.nodes.iter().map(|node| Gate::new(node.gate())).collect(),
            senders: senders.into_iter().map(Some).collect(),
            receivers: receivers.into_iter().map(Some).collect(),
            edges: plan.edges.iter().map(|edge| (plan.port_name(edge.from), edge.to)).collect(),
            members: members(&plan.time_groups, matches!(homes, Homes::Past(_))),
            epoch_rows: plan.epoch_rows,
            epoch_interval: plan.epoch_interval,
            coordinator,
            reporter,
            durable,
            takes_notes,
            homes,
            run,
            beginning,
            phase: phase.clone(),
            stats: stats.clone(),
        };
        let nodes = plan.nodes.into_iter().enumerate();
        let tasks = nodes.map(|(place, node)| setup.task(place, node)).collect::<Result<Vec<_>, FlowError>>()?;
        let common = Common { stats, fills, phase, durable, repeatable, caught_up };
        Ok(ReadyFlow { common, tasks, coordinator: setup.coordinator })
    }
}

impl fmt::Debug for PreparedFlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PreparedFlow").field("flow", &self.plan.flow).finish_non_exhaustive()
    }
}

impl ReadyFlow {
    /// Starts the tasks of the nodes on `runtime`.
    pub fn start(self, runtime: &Handle) -> RunningFlow {
        let mut tasks = JoinSet::new();
        // Nodes begin when what the last checkpoint had staged is visible.
        let (begin, begun) = watch::channel(false);
        for (place, task) in self.tasks.into_iter().enumerate() {
            let mut begun = begun.clone();
            let task = async move {
                let has_begun = begun.wait_for(|begun| *begun).await.is_ok();
                if has_begun { guard(task).await } else { Err(Stop::Closed) }
            };
            tasks.spawn_on(async move { (place, task.await) }, runtime);
        }
        let coordinator = runtime.spawn(coordinate(self.coordinator, begin));
        RunningFlow { common: self.common, tasks, coordinator, started: Instant::now() }
    }
}

impl fmt::Debug for ReadyFlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadyFlow").field("common", &self.common).finish_non_exhaustive()
    }
}

impl RunningFlow {
    /// Prepares a flow, takes it over, and starts it on `runtime`.
    ///
    /// # Errors
    /// For the reasons of [`PreparedFlow::new`] and [`PreparedFlow::take_over`].
    pub fn start(plan: Plan, effects: Effects, runtime: &Handle) -> Result<Self, FlowError> {
        Ok(PreparedFlow::new(plan, effects)?.take_over()?.start(runtime))
    }

    /// The counters, which stay readable after the end.
    pub fn stats(&self) -> Arc<FlowStats> {
        self.common.stats.clone()
    }

    /// How full the edges are, in the order of the plan.
    pub fn fills(&self) -> Vec<Fill> {
        self.common.fills.clone()
    }

    /// Tells the flow to end.
    pub fn stopper(&self) -> Stopper {
        let is_given_up = !self.common.durable && self.common.repeatable;
        let stop = if is_given_up { Phase::Abandoned } else { Phase::Draining };
        Stopper { phase: self.common.phase.clone(), stop }
    }

    /// Waits for the end: of all nodes, then of their commits.
    pub async fn join(mut self) -> Outcome {
        let common = self.common;
        let mut finished: BTreeMap<usize, Finished> = BTreeMap::new();
        let mut failure: Option<(Option<usize>, Error)> = None;
        while let Some(joined) = self.tasks.join_next().await {
            match joined {
                Ok((place, Ok(node))) => _ = finished.insert(place, node),
                Ok((place, Err(Stop::Failed(error)))) => {
                    common.phase.send_if_modified(|phase| advance(phase, Phase::Failing));
                    failure.get_or_insert((Some(place), error));
                }
                // Of a node beside the one that failed, or of a runtime that is being shut down.
                Ok((_, Err(Stop::Closed | Stop::AtBorder))) | Err(_) => {}
            }
        }
        // If all nodes came to their end, the coordinator is about to.
        if finished.len() < common.stats.nodes.len() {
            common.phase.send_if_modified(|phase| advance(phase, Phase::Failing));
        }
        let settled = self.coordinator.await.unwrap_or_default();
        failure = failure.or(settled.failure);
        if failure.is_none() && settled.last.is_none() && !common.is_abandoned() {
            let unfinished = (0..common.stats.nodes.len()).find(|place| !finished.contains_key(place));
            failure = Some((unfinished, Error::new("interrupted before its end")));
        }
        let committed = common.part(finished, &settled.committed).await;
        let status = common.status(failure, settled.last);
        let unfinished = common.repeatable && matches!(status, Status::Stopped);
        Outcome { status, unfinished, committed, elapsed: self.started.elapsed() }
    }
}

impl Common {
    /// Whether the flow was stopped, and keeps nothing of what it has read.
    fn is_abandoned(&self) -> bool {
        *self.phase.borrow() == Phase::Abandoned
    }

    /// Takes leave of all nodes. Where outputs had staged something that was not committed, they undo it. Returns the names
    /// of the nodes whose effects count.
    async fn part(&self, finished: BTreeMap<usize, Finished>, committed: &[usize]) -> Vec<String> {
        let mut names = Vec::new();
        for (place, node) in finished {
            let counts = committed.contains(&place);
            match node {
                Finished::Input => continue,
                Finished::Processor(processor) => self.stats.nodes[place].set_report(processor.report()),
                // What a flow with state has staged is needed by the run that goes on with it.
                Finished::Output(mut output) if !counts && !self.durable => output.abort().await,
                Finished::Output(_) => {}
            }
            if counts {
                names.push(self.stats.nodes[place].name.clone());
            }
        }
        names
    }

    fn status(&self, failure: Option<(Option<usize>, Error)>, last: Option<Then>) -> Status {
        match failure {
            Some((place, error)) => {
                let node = place.map(|place| self.stats.nodes[place].name.clone());
                Status::Failed(FlowError { node, error })
            }
            None if last == Some(Then::Stop) && self.caught_up.is_all() => Status::Done,
            None if last.is_none() || last == Some(Then::Stop) => Status::Stopped,
            // Without state, inputs that are told to stop end as if nothing more had come.
            None if !self.durable && *self.phase.borrow() == Phase::Draining => Status::Stopped,
            None => Status::Done,
        }
    }
}

/// Does what the run before had decided, lets the nodes begin, and takes checkpoints until the end.
async fn coordinate(mut coordinator: Coordinator, begin: watch::Sender<bool>) -> Settled {
    if let Err(failure) = coordinator.recover().await {
        return Settled { failure: Some(failure), ..Settled::default() };
    }
    begin.send_replace(true);
    coordinator.run().await
}

/// Where nodes keep what has to outlive the run.
enum Homes {
    None,
    Own(Keeper),
    /// Those of a run before: the folder that they are in, if it is a local one.
    Past(Option<PathBuf>),
}

impl Homes {
    fn of(&self, node: &str) -> Home {
        match self {
            Self::None => Home::Nowhere,
            Self::Own(keeper) => keeper.home(node),
            Self::Past(homes) => Home::Past(homes.as_ref().map(|homes| homes.join(node))),
        }
    }

    fn may_remove_published(&self, node: &str) -> bool {
        matches!(self, Self::Own(keeper) if keeper.may_remove_published(node))
    }
}

impl Plan {
    /// Builds all nodes, and lets outputs claim what they need for themselves.
    fn prepare(&mut self, home: impl Fn(&str) -> Home) -> Result<(), FlowError> {
        for node in &mut self.nodes {
            let home = home(&node.name);
            node.body.prepare(&home).map_err(|error| FlowError { node: Some(node.name.clone()), error })?;
        }
        Ok(())
    }
}

impl PlannedBody {
    fn prepare(&mut self, home: &Home) -> Result<(), Error> {
        match self {
            Self::Input { build, .. } => made(build),
            Self::Processor { build } => made(build),
            Self::Output { build, .. } => {
                let mut output = take(build)?;
                output.claim(home)?;
                *build = Box::new(|| Ok(output));
                Ok(())
            }
        }
    }
}

/// Makes a node now instead of later.
fn made<T: ?Sized + Send + 'static>(build: &mut Build<T>) -> Result<(), Error> {
    let node = take(build)?;
    *build = Box::new(|| Ok(node));
    Ok(())
}

fn take<T: ?Sized>(build: &mut Build<T>) -> Result<Box<T>, Error> {
    std::mem::replace(build, Box::new(|| Err(Error::new("it can be made once only"))))()
}

type Task = futures::future::BoxFuture<'static, Result<Finished, Stop>>;

/// What tasks are made from; every edge's ends are taken once.
struct Setup {
    gates: Vec<Arc<Gate>>,
    senders: Vec<Option<Sender>>,
    receivers: Vec<Option<Receiver>>,
    /// The name of the port that each edge leads from, and the node and input port that it leads to.
    edges: Vec<(String, (usize, usize))>,
    /// The inputs that advance together with others in event time, and whether their borders depend on no time.
    members: BTreeMap<usize, (Member, bool)>,
    epoch_rows: usize,
    epoch_interval: Duration,
    coordinator: Coordinator,
    reporter: Reporter,
    durable: bool,
    /// Whether it is written down what time decides.
    takes_notes: bool,
    homes: Homes,
    run: Run,
    caught_up: Arc<CaughtUp>,
    beginning: Beginning,
    phase: watch::Sender<Phase>,
    stats: Arc<FlowStats>,
}

impl Setup {
    fn task(&mut self, place: usize, node: PlannedNode) -> Result<Task, FlowError> {
        let name = node.name.clone();
        self.build(place, node).map_err(|error| FlowError { node: Some(name), error })
    }

    fn build(&mut self, place: usize, node: PlannedNode) -> Result<Task, Error> {
        let senders =
            node.ports.iter().map(|port| port.edges.iter().filter_map(|edge| self.senders[*edge].take()).collect());
        let senders: Vec<Vec<Sender>> = senders.collect();
        let ports = Ports::new(place, &node, senders, self.stats.clone());
        let mut inputs = self.inputs(place, &node);
        let keeping = self.keeping(place, &node.name);
        match &keeping.steps {
            Steps::Order(script) => inputs.follow(script.clone()),
            // What comes as it comes is noted, so that it can come like that again.
            _ if keeping.takes_notes && node.stages.iter().any(PlannedStage::is_by_arrival) => inputs.take_notes(),
            _ => {}
        }
        let phase = self.phase.subscribe();
        Ok(match node.body {
            PlannedBody::Input { build, finite, replayable, event_time, .. } => {
                let input = build()?;
                let (gate, (member, is_strict)) = (self.gates[place].clone(), self.members.remove(&place).unzip());
                let is_predicted = member.as_ref().is_some_and(Member::is_predicted);
                let clock = event_time.map(|time| Clock::new(time).predicted(is_predicted));
                let interval = (!(finite && replayable)).then_some(self.epoch_interval);
                let are_noted = interval.is_some() || is_strict == Some(false);
                let is_scripted = matches!(keeping.steps, Steps::Input(_));
                // Its borders are in the script.
                let rows = if is_scripted { usize::MAX } else { self.epoch_rows };
                let borders = Borders { rows, interval: interval.filter(|_| !is_scripted), member, are_noted };
                async move {
                    match run_input(input, ports, gate, borders, clock, keeping, phase).await {
                        Ok(()) | Err(Stop::AtBorder) => Ok(Finished::Input),
                        Err(stop) => Err(stop),
                    }
                }
                .boxed()
            }
            PlannedBody::Processor { build } => {
                let mut processor = build()?;
                self.coordinator.set_committer(place, processor.committer());
                async move { run_processor(processor, inputs, ports, keeping).await.map(Finished::Processor) }.boxed()
            }
            PlannedBody::Output { build, .. } => {
                let mut output = build()?;
                self.coordinator.set_committer(place, output.committer());
                async move { run_output(output, inputs, ports, keeping, phase).await.map(Finished::Output) }.boxed()
            }
        })
    }

    /// A node's part in checkpoints, and where it goes on.
    fn keeping(&mut self, place: usize, name: &str) -> Keeping {
        let edges = self.edges.iter().filter(|(_, to)| to.0 == place).map(|(from, _)| from.clone()).collect();
        let resume = self.beginning.nodes.remove(name);
        if let Some(resume) = &resume {
            self.coordinator.set_entry(place, resume.entry.clone());
        }
        Keeping {
            reporter: self.reporter.clone(),
            place,
            edges,
            resume,
            passed: self.beginning.epoch,
            steps: self.beginning.decisions.of(name),
            durable: self.durable,
            takes_notes: self.takes_notes,
            home: self.homes.of(name),
            run: self.run.clone(),
            may_remove_published: self.homes.may_remove_published(name),
            caught_up: self.caught_up.clone(),
        }
    }

    /// The fan-in of a node. The aligner counts the node's own edges from 0.
    fn inputs(&mut self, place: usize, node: &PlannedNode) -> Inputs {
        let own: Vec<usize> = (0..self.edges.len()).filter(|edge| self.edges[*edge].1.0 == place).collect();
        let local = |edge: &usize| own.iter().position(|candidate| candidate == edge);
        let stages = node.stages.iter().map(|stage| Stage {
            edges: stage.edges.iter().filter_map(local).collect(),
            turns: stage.turns,
            gates: stage.gates.iter().map(|input| self.gates[*input].clone()).collect(),
        });
        let stages = stages.collect();
        let always = node.always.iter().filter_map(local).collect();
        let take = |edge: &usize| Some((self.edges[*edge].1.1, self.receivers[*edge].take()?));
        Inputs::new(own.iter().filter_map(take).collect(), stages, always)
    }
}

/// The members of all groups. When a run is gone through again, its script says how inputs have advanced where that
/// depended on time.
fn members(groups: &[PlannedTimeGroup], is_replay: bool) -> BTreeMap<usize, (Member, bool)> {
    let groups = groups.iter().filter(|group| group.is_strict || !is_replay);
    let members =
        |group| time_group::members(group).into_iter().map(|(input, member)| (input, (member, group.is_strict)));
    groups.flat_map(members).collect()
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
