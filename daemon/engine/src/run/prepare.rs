//! From a plan to a flow that is taken over: whatever may go wrong is tried before.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use millstream_core::{Error, Input, Output, Positions, PriorOutput, Processor, Result, Run};

use super::RunMode;
use super::hand_over::GoesOn;
use super::outcome::FlowError;
use super::running::Common;
use super::setup::{Setup, Task};
use crate::checkpoint::{Coordinator, FlowCheckpoints, Legacy, NodePhase, NodeResume, StartPoint};
use crate::plan::{Build, NodeIndex, Plan, PlannedBody, PlannedNode};

/// A flow that is about to be taken over: a former owner can still go on with it.
pub struct PreparedFlow {
    /// Its nodes are built and restored.
    plan: Plan,
    effects: RunMode,
    /// Where it goes on.
    start_point: StartPoint,
}

/// A flow that has been taken over, and whose nodes have not begun.
pub struct ReadyFlow {
    pub(super) common: Common,
    pub(super) tasks: Vec<Task>,
    pub(super) coordinator: Coordinator,
}

/// What has come of a try to take a flow over.
pub enum TakeOver {
    /// It has been taken over.
    Ready(Box<ReadyFlow>),
    /// Its owner has written another checkpoint since it was prepared. It is to be planned and prepared again, with these checkpoints.
    Outrun(FlowCheckpoints),
}

impl PreparedFlow {
    /// Builds all nodes, and if the flow keeps state, claims outputs, reads the state and restores the nodes. Waits for files and
    /// for the network. What may go wrong goes wrong here, where nothing has been taken over.
    ///
    /// # Errors
    /// If a node can't be built, an output can't be claimed, the state can't be read from which the flow is resumed, or a node
    /// refuses what it has kept.
    pub fn new(mut plan: Plan, mut effects: RunMode) -> Result<Self, FlowError> {
        let start_point = effects.prepare_all(&mut plan, &BTreeSet::new())?;
        Ok(Self { plan, effects, start_point })
    }

    /// All that would keep nodes from going on from what the checkpoints hold, or from beginning beside it. Claims nothing, so that
    /// it can be asked while the flow runs.
    ///
    /// # Errors
    /// If the state can't be read.
    pub fn check(plan: &mut Plan, checkpoints: &FlowCheckpoints) -> Result<Vec<FlowError>> {
        let mut start_point = checkpoints.start_point()?;
        let mut problems = Vec::new();
        for node in &mut plan.nodes {
            let former = checkpoints.former(&node.name);
            let resume = start_point.nodes.get_mut(&node.name);
            if let Err(error) = node.body.prepare(false, resume, former, &checkpoints.run()) {
                problems.push(FlowError::of(node, error));
            }
        }
        Ok(problems)
    }

    /// Takes over what the flow keeps. Of several flows, none should be before all are prepared.
    ///
    /// # Errors
    /// For the reasons of [`FlowCheckpoints::take_over`].
    pub fn take_over(self) -> Result<TakeOver, FlowError> {
        let Self { plan, effects, start_point } = self;
        if let RunMode::Keep(checkpoints) = &effects
            && !checkpoints.take_over(&plan)?
        {
            return Ok(TakeOver::Outrun(checkpoints.clone()));
        }
        let setup = Setup::new(&plan, effects, start_point)?;
        Ok(TakeOver::Ready(Box::new(ReadyFlow::new(setup, plan)?)))
    }
}

impl ReadyFlow {
    /// A flow whose nodes are built and restored.
    fn new(mut setup: Setup, plan: Plan) -> Result<Self, FlowError> {
        let nodes = plan.nodes.into_iter().enumerate();
        let tasks = nodes.map(|(index, node)| setup.task(index, node)).collect::<Result<Vec<_>, FlowError>>()?;
        let Setup { common, coordinator, .. } = setup;
        Ok(Self { common, tasks, coordinator })
    }

    /// A flow that goes on in place of another, of which it takes over nodes as they are.
    pub(super) fn going_on(
        plan: Plan,
        (effects, start_point): (RunMode, StartPoint),
        go_on: BTreeMap<NodeIndex, GoesOn>,
        legacy: &Legacy,
    ) -> Result<Self, FlowError> {
        let mut setup = Setup::new(&plan, effects, start_point)?;
        setup.coordinator.inherit(legacy);
        setup.go_on = go_on;
        Self::new(setup, plan)
    }
}

impl Plan {
    /// Builds the nodes that are not in `kept`: what goes wrong there does so before anything depends on it.
    pub(super) fn build_besides(&mut self, kept: &BTreeSet<String>) -> Result<(), FlowError> {
        for node in self.nodes.iter_mut().filter(|node| !kept.contains(&node.name)) {
            let built = match &mut node.body {
                PlannedBody::Input { build, .. } => made(build, |_| Ok(())),
                PlannedBody::Processor { build, .. } => made(build, |_| Ok(())),
                PlannedBody::Output { build, .. } => made(build, |_| Ok(())),
            };
            built.map_err(|error| FlowError::of(node, error))?;
        }
        Ok(())
    }
}

impl TakeOver {
    /// The flow.
    ///
    /// # Errors
    /// If its owner has written another checkpoint meanwhile.
    pub fn ready(self) -> Result<ReadyFlow, FlowError> {
        match self {
            Self::Ready(flow) => Ok(*flow),
            Self::Outrun(checkpoints) => Err(checkpoints.outrun().into()),
        }
    }
}

impl FlowError {
    fn of(node: &PlannedNode, error: Error) -> Self {
        Self { node: Some(node.name.clone()), error }
    }
}

impl From<Error> for FlowError {
    fn from(error: Error) -> Self {
        Self { node: None, error }
    }
}

impl fmt::Debug for PreparedFlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PreparedFlow").field("flow", &self.plan.flow).finish_non_exhaustive()
    }
}

impl fmt::Debug for ReadyFlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadyFlow").field("common", &self.common).finish_non_exhaustive()
    }
}

impl fmt::Debug for TakeOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready(flow) => flow.fmt(f),
            Self::Outrun(checkpoints) => f.debug_tuple("Outrun").field(checkpoints).finish(),
        }
    }
}

impl RunMode {
    /// Builds and restores the nodes that are not in `kept`. Where the flow goes on.
    pub(super) fn prepare_all(&mut self, plan: &mut Plan, kept: &BTreeSet<String>) -> Result<StartPoint, FlowError> {
        let mut start_point = match self {
            Self::Keep(checkpoints) => checkpoints.start_point()?,
            Self::Replay(replay) => std::mem::take(&mut replay.start_point),
            Self::None | Self::Commit { .. } => StartPoint::default(),
        };
        for node in plan.nodes.iter_mut().filter(|node| !kept.contains(&node.name)) {
            self.prepare(node, &mut start_point).map_err(|error| FlowError::of(node, error))?;
        }
        Ok(start_point)
    }

    /// Builds a node, and restores it or lets it begin.
    fn prepare(&self, node: &mut PlannedNode, start_point: &mut StartPoint) -> Result<()> {
        let resume = start_point.nodes.get_mut(&node.name);
        match self {
            Self::Keep(checkpoints) => {
                node.body.prepare(true, resume, checkpoints.former(&node.name), &checkpoints.run())
            }
            Self::Commit { remove_published: true } => {
                node.body.prepare(false, resume, PriorOutput::MayGo, &Run::default())
            }
            Self::None | Self::Commit { .. } | Self::Replay(_) => {
                node.body.prepare(false, resume, PriorOutput::Ended, &Run::default())
            }
        }
    }
}

impl PlannedBody {
    /// Builds the node, and restores it. An output claims what it needs for itself before, and begins if there is nothing that it
    /// could be restored from.
    fn prepare(&mut self, claims: bool, resume: Option<&mut NodeResume>, former: PriorOutput, run: &Run) -> Result<()> {
        match self {
            Self::Input { build, .. } => made(build, |input| restore_input(input, resume)),
            Self::Processor { build, .. } => made(build, |processor| restore_processor(processor, resume)),
            Self::Output { build, .. } => made(build, |output| {
                if claims {
                    output.claim()?;
                }
                match resume {
                    Some(resume) => restore_output(output, resume),
                    None => output.begin(former, run),
                }
            }),
        }
    }
}

/// Makes a node now instead of later.
fn made<T: ?Sized + Send + 'static>(build: &mut Build<T>, prepare: impl FnOnce(&mut T) -> Result<()>) -> Result<()> {
    let taken: Build<T> = Box::new(|| Err(Error::new("it can be made once only")));
    let mut node = std::mem::replace(build, taken)()?;
    prepare(&mut node)?;
    *build = Box::new(|| Ok(node));
    Ok(())
}

// What nodes have kept may be large, and is needed no more when they are restored.

fn restore_input(input: &mut dyn Input, resume: Option<&mut NodeResume>) -> Result<()> {
    let Some(resume) = resume.filter(|resume| resume.entry.phase == NodePhase::Running) else { return Ok(()) };
    let positions: Positions = resume.entry.positions();
    input.restore(&positions, &std::mem::take(&mut resume.state))
}

fn restore_processor(processor: &mut dyn Processor, resume: Option<&mut NodeResume>) -> Result<()> {
    let state = resume.map(|resume| std::mem::take(&mut resume.state)).filter(|state| !state.is_empty());
    state.map_or(Ok(()), |state| processor.restore(&state))
}

fn restore_output(output: &mut dyn Output, resume: &mut NodeResume) -> Result<()> {
    match resume.entry.phase {
        NodePhase::Ended => Ok(()),
        NodePhase::Waiting | NodePhase::Running => output.restore(&std::mem::take(&mut resume.state)),
    }
}
