//! From a plan and where its flow goes on to the tasks of its nodes, and the edges between them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use millstream_core::{Error, Home, Run};

use super::running::Common;
use super::{Effects, Finished, FlowError};
use crate::align::{Inputs, Stage};
use crate::checkpoint::{Beginning, Coordinator, Keeper, Reporter, Steps, Visibility, draw_incarnation};
use crate::edge::{Receiver, Sender, edge};
use crate::gate::Gate;
use crate::plan::{Plan, PlannedBody, PlannedEdge, PlannedNode, PlannedStage, PlannedTimeGroup};
use crate::task::{Borders, Clock, Keeping, Ports, Stop, run_input, run_output, run_processor};
use crate::time_group::{self, Member};

pub(super) type Task = futures::future::BoxFuture<'static, Result<Finished, Stop>>;

/// What tasks are made from; every edge's ends are taken once.
pub(super) struct Setup {
    gates: Vec<Arc<Gate>>,
    senders: Vec<Option<Sender>>,
    receivers: Vec<Option<Receiver>>,
    /// The name of the port that each edge leads from, and the node and input port that it leads to.
    edges: Vec<(String, (usize, usize))>,
    /// The inputs that advance together with others in event time, and whether their borders depend on no time.
    members: BTreeMap<usize, (Member, bool)>,
    epoch_rows: usize,
    epoch_interval: Duration,
    pub coordinator: Coordinator,
    reporter: Reporter,
    durable: bool,
    /// Whether it is written down what time decides.
    takes_notes: bool,
    homes: Homes,
    run: Run,
    beginning: Beginning,
    pub common: Common,
}

impl Setup {
    /// For the nodes of a plan, which are built and restored.
    pub fn new(plan: &Plan, effects: Effects, beginning: Beginning) -> Result<Self, Error> {
        let (visibility, keeper, homes) = match effects {
            Effects::None => (Visibility::None, None, Homes::None),
            Effects::Commit { .. } => (Visibility::Committed, None, Homes::None),
            Effects::Keep(keeper) => (Visibility::Committed, Some(keeper.clone()), Homes::Own(keeper)),
            Effects::Replay(replay) => (Visibility::Watched(replay.watch), None, Homes::Past(replay.homes)),
        };
        let run = match &keeper {
            Some(keeper) => keeper.run(),
            None => Run { incarnation: draw_incarnation()?, generation: 0 },
        };
        let (durable, is_replay) = (keeper.is_some(), matches!(homes, Homes::Past(_)));
        let (senders, receivers): (Vec<_>, Vec<_>) = plan.edges.iter().map(|planned| edge_of(plan, planned)).unzip();
        let common = Common::new(plan, durable);
        let phase = common.phase.clone();
        let (coordinator, reporter) = Coordinator::new(plan, keeper, visibility, beginning.epoch, phase);
        Ok(Self {
            gates: plan.nodes.iter().map(|node| Gate::new(node.gate())).collect(),
            senders: senders.into_iter().map(Some).collect(),
            receivers: receivers.into_iter().map(Some).collect(),
            edges: plan.edges.iter().map(|edge| (plan.port_name(edge.from), edge.to)).collect(),
            members: members(&plan.time_groups, is_replay),
            epoch_rows: plan.epoch_rows,
            epoch_interval: plan.epoch_interval,
            coordinator,
            reporter,
            durable,
            takes_notes: durable && plan.makes_models(),
            homes,
            run,
            beginning,
            common,
        })
    }

    /// The task of a node.
    pub fn task(&mut self, place: usize, node: PlannedNode) -> Result<Task, FlowError> {
        let name = node.name.clone();
        self.build(place, node).map_err(|error| FlowError { node: Some(name), error })
    }

    fn build(&mut self, place: usize, node: PlannedNode) -> Result<Task, Error> {
        let senders =
            node.ports.iter().map(|port| port.edges.iter().filter_map(|edge| self.senders[*edge].take()).collect());
        let senders: Vec<Vec<Sender>> = senders.collect();
        let ports = Ports::new(place, &node, senders, self.common.stats.clone());
        let mut inputs = self.inputs(place, &node);
        let keeping = self.keeping(place, &node.name);
        match &keeping.steps {
            Steps::Order(script) => inputs.follow(script.clone()),
            // What comes as it comes is noted, so that it can come like that again.
            _ if keeping.takes_notes && node.stages.iter().any(PlannedStage::is_by_arrival) => inputs.take_notes(),
            _ => {}
        }
        let phase = self.common.phase.subscribe();
        Ok(match node.body {
            PlannedBody::Input { build, finite, replayable, event_time, .. } => {
                let (input, gate) = (build()?, self.gates[place].clone());
                let borders = self.borders(place, finite && replayable, &keeping.steps);
                let is_predicted = borders.member.as_ref().is_some_and(Member::is_predicted);
                let clock = event_time.map(|time| Clock::new(time).predicted(is_predicted));
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
                async move { run_processor(processor, inputs, ports, keeping, phase).await.map(Finished::Processor) }
                    .boxed()
            }
            PlannedBody::Output { build, .. } => {
                let mut output = build()?;
                self.coordinator.set_committer(place, output.committer());
                async move { run_output(output, inputs, ports, keeping, phase).await.map(Finished::Output) }.boxed()
            }
        })
    }

    /// Where the epochs of an input end. `is_strict` says that it ends by itself, and gives the same rows again.
    fn borders(&mut self, place: usize, is_strict: bool, steps: &Steps) -> Borders {
        let (member, is_group_strict) = self.members.remove(&place).unzip();
        let interval = (!is_strict).then_some(self.epoch_interval);
        let are_noted = interval.is_some() || is_group_strict == Some(false);
        // Of a run that is gone through again, they are in the script.
        let is_scripted = matches!(steps, Steps::Input(_));
        let rows = if is_scripted { usize::MAX } else { self.epoch_rows };
        Borders { rows, interval: interval.filter(|_| !is_scripted), member, are_noted }
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
            caught_up: self.common.caught_up.clone(),
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

/// The two ends of an edge.
fn edge_of(plan: &Plan, planned: &PlannedEdge) -> (Sender, Receiver) {
    let (sender, receiver) = edge(plan.limits);
    (sender.uniting(plan.union(planned)), receiver)
}

/// The members of all groups. When a run is gone through again, its script says how inputs have advanced where that
/// depended on time.
fn members(groups: &[PlannedTimeGroup], is_replay: bool) -> BTreeMap<usize, (Member, bool)> {
    let groups = groups.iter().filter(|group| group.is_strict || !is_replay);
    let members =
        |group| time_group::members(group).into_iter().map(|(input, member)| (input, (member, group.is_strict)));
    groups.flat_map(members).collect()
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
}
