//! From a plan and where its flow goes on to the tasks of its nodes, and the edges between them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use millstream_core::{Error, Home, Run};

use super::hand_over::GoesOn;
use super::running::Common;
use super::{Finished, FlowError, RunMode};
use crate::align::{Inputs, Stage};
use crate::checkpoint::{
    Coordinator, FlowCheckpoints, ReplayEvents, Reporter, StartPoint, Visibility, draw_incarnation,
};
use crate::edge::{Receiver, Sender, edge};
use crate::file::Secrets;
use crate::gate::Gate;
use crate::hold::Hold;
use crate::plan::{
    NodeIndex, Plan, PlannedBody, PlannedBuffering, PlannedEdge, PlannedNode, PlannedStage, PlannedTimeGroup,
};
use crate::task::{
    EpochPolicy, InputAtWork, Manner, NodeCheckpointing, Ports, Stop, WatermarkGenerator, run_input, run_output,
    run_processor,
};
use crate::time_group::{self, Member};

pub(super) type Task = futures::future::BoxFuture<'static, Result<Finished, Stop>>;

/// What tasks are made from; every edge's ends are taken once.
pub(super) struct Setup {
    gates: Vec<Arc<Gate>>,
    senders: Vec<Option<Sender>>,
    receivers: Vec<Option<Receiver>>,
    /// The name of the port that each edge leads from, and the node and input port that it leads to.
    edges: Vec<(String, (NodeIndex, usize))>,
    /// The inputs that advance together with others in event time, and whether their barriers depend on no time.
    members: BTreeMap<NodeIndex, (Member, bool)>,
    secrets: Arc<Secrets>,
    epoch_rows: usize,
    epoch_interval: Duration,
    pub coordinator: Coordinator,
    reporter: Reporter,
    /// Whether a flow that stops does so at a barrier, behind which it can go on.
    stops_at_barrier: bool,
    /// Whether it is written down what time decides.
    records: bool,
    homes: Homes,
    run: Run,
    start_point: StartPoint,
    /// The nodes that go on as they were in the flow before.
    pub go_on: BTreeMap<NodeIndex, GoesOn>,
    pub common: Common,
}

impl Setup {
    /// For the nodes of a plan, which are built and restored.
    pub fn new(plan: &Plan, effects: RunMode, start_point: StartPoint) -> Result<Self, Error> {
        let mut until = None;
        let (visibility, checkpoints, homes) = match effects {
            RunMode::None => (Visibility::None, None, Homes::None),
            RunMode::Commit { .. } => (Visibility::Committed, None, Homes::None),
            RunMode::Keep(checkpoints) => (Visibility::Committed, Some(checkpoints.clone()), Homes::Own(checkpoints)),
            RunMode::Replay(replay) => {
                until = replay.until;
                (Visibility::Watched(replay.watch), None, Homes::Replay(replay.homes))
            }
        };
        let run = match &checkpoints {
            Some(checkpoints) => checkpoints.run(),
            None => Run { incarnation: draw_incarnation()?, generation: 0 },
        };
        let (durable, is_replay) = (checkpoints.is_some(), matches!(homes, Homes::Replay(_)));
        let (senders, receivers): (Vec<_>, Vec<_>) = plan.edges.iter().map(|planned| edge_of(plan, planned)).unzip();
        let common = Common::new(plan, durable, senders.iter().map(Sender::queue));
        if let Some(resumed) = checkpoints.as_ref().and_then(FlowCheckpoints::resumed) {
            common.stats.set_resumed(resumed);
        }
        common.stats.do_without(&start_point.quarantine.rows);
        let phase = common.phase.clone();
        let (mut coordinator, reporter) = Coordinator::new(
            plan,
            checkpoints,
            run.clone(),
            visibility,
            start_point.epoch,
            phase,
            common.stats.clone(),
        );
        coordinator.set_keeps(common.keeps.subscribe());
        until.into_iter().for_each(|until| coordinator.stop_at(until));
        if durable && plan.has_strict_inputs() {
            coordinator.set_held(common.held.subscribe());
        }
        Ok(Self {
            gates: plan.nodes.iter().map(|node| Gate::new(node.gate())).collect(),
            senders: senders.into_iter().map(Some).collect(),
            receivers: receivers.into_iter().map(Some).collect(),
            edges: plan.edges.iter().map(|edge| (plan.port_name(edge.from), edge.to)).collect(),
            members: members(&plan.time_groups, is_replay),
            secrets: plan.secrets.clone(),
            epoch_rows: plan.epoch_rows,
            epoch_interval: plan.epoch_interval,
            coordinator,
            reporter,
            stops_at_barrier: durable || until.is_some(),
            records: durable && plan.makes_models(),
            homes,
            run,
            start_point,
            go_on: BTreeMap::new(),
            common,
        })
    }

    /// The task of a node.
    pub fn task(&mut self, index: NodeIndex, node: PlannedNode) -> Result<Task, FlowError> {
        let name = node.name.clone();
        self.build(index, node).map_err(|error| FlowError { node: Some(name), error })
    }

    fn build(&mut self, index: NodeIndex, node: PlannedNode) -> Result<Task, Error> {
        let senders =
            node.ports.iter().map(|port| port.edges.iter().filter_map(|edge| self.senders[*edge].take()).collect());
        let senders: Vec<Vec<Sender>> = senders.collect();
        let ports = Ports::new(index, &node, senders, self.common.stats.clone(), self.secrets.clone());
        let mut inputs = self.inputs(index, &node);
        let goes_on = self.go_on.remove(&index);
        inputs.set_quarantine(self.start_point.quarantine.of_node(&node.name));
        let checkpointing = self.checkpointing(index, &node, goes_on.is_some())?;
        if checkpointing.had_ended() {
            inputs.open_gates();
        }
        if node.keeps_rows() {
            inputs.of_buffer();
        }
        let is_by_arrival = || node.keeps_rows() || node.stages.iter().any(PlannedStage::is_by_arrival);
        match &checkpointing.steps {
            ReplayEvents::Order(replay) => inputs.follow(replay.clone()),
            // What comes as it comes is noted, so that it can come like that again.
            _ if checkpointing.records && is_by_arrival() => inputs.record(),
            _ => {}
        }
        let phase = self.common.phase.subscribe();
        let is_new = goes_on.is_none();
        let rest = goes_on.and_then(|GoesOn { rest, legacy }| {
            self.coordinator.inherit_node(index, legacy);
            rest
        });
        Ok(match node.body {
            PlannedBody::Input { build, finite, replayable, event_time, .. } => {
                let (input, gate) = (build()?, self.gates[index].clone());
                if let Some(intake) = input.intake() {
                    Arc::make_mut(&mut self.common.intakes).insert(node.name, intake);
                }
                let barriers = self.barriers(index, finite && replayable, &checkpointing.steps);
                let is_predicted = barriers.member.as_ref().is_some_and(Member::is_predicted);
                let watermarks = event_time.map(|time| WatermarkGenerator::new(time).predicted(is_predicted));
                let hold = Hold::new(self.common.held.subscribe(), phase, barriers.interval.is_none());
                let input = InputAtWork { input, rest };
                let run = run_input(input, ports, gate, barriers, watermarks, checkpointing, hold);
                async move { run.await.map(Finished::Input) }.boxed()
            }
            PlannedBody::Processor { requests, buffering, build } => {
                let mut processor = build()?;
                if is_new {
                    self.coordinator.set_committer(index, processor.committer());
                }
                let manner = match (buffering, requests) {
                    (Some(PlannedBuffering { is_live, .. }), _) => {
                        Manner::Buffering { is_live, gate: self.gates[index].clone() }
                    }
                    (None, Some(requests)) => Manner::Asking(requests),
                    (None, None) => Manner::InOrder,
                };
                let run = run_processor(processor, manner, inputs, ports, checkpointing, phase);
                async move { run.await.map(Finished::Processor) }.boxed()
            }
            PlannedBody::Output { build, .. } => {
                let mut output = build()?;
                if is_new {
                    self.coordinator.set_committer(index, output.committer());
                }
                async move { run_output(output, inputs, ports, checkpointing, phase).await.map(Finished::Output) }
                    .boxed()
            }
        })
    }

    /// Where the epochs of an input end. `is_strict` says that it ends by itself, and gives the same rows again.
    fn barriers(&mut self, index: NodeIndex, is_strict: bool, steps: &ReplayEvents) -> EpochPolicy {
        let (member, is_group_strict) = self.members.remove(&index).unzip();
        let interval = (!is_strict).then_some(self.epoch_interval);
        let are_recorded = interval.is_some() || is_group_strict == Some(false);
        // Of a run that is gone through again, they are in the script.
        let is_replay = matches!(steps, ReplayEvents::Input(_));
        let rows = if is_replay { usize::MAX } else { self.epoch_rows };
        EpochPolicy { rows, interval: interval.filter(|_| !is_replay), member, are_recorded }
    }

    /// A node's part in checkpoints, and where it goes on.
    fn checkpointing(
        &mut self,
        index: NodeIndex,
        node: &PlannedNode,
        goes_on: bool,
    ) -> Result<NodeCheckpointing, Error> {
        let name = node.name.as_str();
        let is_told = node.may_be_told_otherwise() && matches!(self.homes, Homes::Replay(_));
        let edges = self.edges.iter().filter(|(_, to)| to.0 == index).map(|(from, _)| from.clone()).collect();
        let resume = self.start_point.nodes.remove(name);
        resume.iter().for_each(|resume| self.coordinator.set_resumed(index, resume));
        Ok(NodeCheckpointing {
            reporter: self.reporter.clone(),
            node: index,
            edges,
            resume,
            passed: self.start_point.epoch,
            steps: self.start_point.replay_log.of(name),
            told: is_told.then(|| self.start_point.told(name)).transpose()?,
            durable: self.stops_at_barrier,
            records: self.records,
            home: self.homes.of(name),
            run: self.run.clone(),
            alone: self.start_point.quarantine.alone(name),
            caught_up: self.common.caught_up.clone(),
            goes_on,
        })
    }

    /// The fan-in of a node. The aligner counts the node's own edges from 0.
    fn inputs(&mut self, index: NodeIndex, node: &PlannedNode) -> Inputs {
        let own: Vec<usize> = (0..self.edges.len()).filter(|edge| self.edges[*edge].1.0 == index).collect();
        let local = |edge: &usize| own.iter().position(|candidate| candidate == edge);
        let stages = node.stages.iter().map(|stage| Stage {
            edges: stage.edges.iter().filter_map(local).collect(),
            read_order: stage.read_order,
            gates: stage.gates.iter().map(|input| self.gates[*input].clone()).collect(),
        });
        let stages = stages.collect();
        let always = node.always.iter().filter_map(local).collect();
        let take = |edge: &usize| Some((self.edges[*edge].1.1, self.receivers[*edge].take()?));
        Inputs::new(own.iter().filter_map(take).collect(), stages, always)
    }
}

/// The two ends of an edge.
fn edge_of(plan: &Plan, planned: &PlannedEdge) -> (Sender, Receiver) {
    let (sender, receiver) = edge(plan.limits);
    (sender.uniting(plan.union(planned)), receiver)
}

/// The members of all groups. When a run is gone through again, its script says how inputs have advanced where that
/// depended on time.
fn members(groups: &[PlannedTimeGroup], is_replay: bool) -> BTreeMap<NodeIndex, (Member, bool)> {
    let groups = groups.iter().filter(|group| group.is_strict || !is_replay);
    let members =
        |group| time_group::members(group).into_iter().map(|(input, member)| (input, (member, group.is_strict)));
    groups.flat_map(members).collect()
}

/// Where nodes keep what has to outlive the run.
enum Homes {
    None,
    Own(FlowCheckpoints),
    /// Those of a run before: the folder that they are in, if it is a local one.
    Replay(Option<PathBuf>),
}

impl Homes {
    fn of(&self, node: &str) -> Home {
        match self {
            Self::None => Home::Nowhere,
            Self::Own(checkpoints) => checkpoints.home(node),
            Self::Replay(homes) => Home::Replay(homes.as_ref().map(|homes| homes.join(node))),
        }
    }
}
