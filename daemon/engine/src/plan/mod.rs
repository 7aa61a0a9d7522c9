//! From a flow file to a plan: every node's ports and columns, the edges between them, and the order of reading.
//!
//! Planning has no side effects, and finds all that is wrong with a flow at once:
//!
//! 1. `wiring`: which node reads from which port, and the order in which nodes can be planned.
//! 2. `columns`: columns go forward through every node; then what nobody uses goes back to the inputs, which are
//!    planned again without it.
//! 3. `stages`: which edges of a node are read before others, and which inputs wait until then.
//! 4. `time_groups`: which inputs advance together in event time.

mod acknowledged;
mod answers;
mod buffers;
mod columns;
mod dead_letters;
mod event_time;
mod exclusive;
mod identity;
mod kept;
mod probes;
mod shape;
mod sources;
mod stages;
mod time_groups;
mod waits;
mod wiring;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use millstream_core::{
    Batch, Canonical, Collector, Delivery, EventTime, Expression, FilesRead, HttpEndpoint, Input, NodeTypes, Output,
    PortRole, Processor, Reads, Result, Role, Share, Writes,
};

pub(crate) use dead_letters::DEAD_LETTERS;
pub use identity::Identities;
pub use kept::KeptStates;
pub use probes::{Probed, probe};
pub use shape::Shape;
pub use sources::{Asked, ask_sources};
pub use stages::PlannedStage;
pub use time_groups::{PlannedMember, PlannedTimeGroup};

use self::probes::is_remote;
use crate::edge::Limits;
use crate::file::{
    Diagnostics, FlowFile, Interval, LimitSettings, LoadOptions, OnError, ReplayLogRetention, Secrets, read_text,
};

/// Which of the nodes of a plan a node is.
pub type NodeIndex = usize;

/// What a flow is planned with, besides its file.
#[derive(Clone, Debug)]
pub struct PlanOptions<'a> {
    /// The types of nodes that there are.
    pub registry: &'a NodeTypes,
    /// The folder that paths of outputs and of the registry are relative to.
    pub work_folder: PathBuf,
    /// Whether inputs leave out the columns that the flow doesn't use.
    pub prune: bool,
    /// Whether inputs give the rows of a test instead of their own.
    pub scripted: bool,
    /// What nodes have kept that are going to be resumed.
    pub kept: KeptStates,
}

impl<'a> PlanOptions<'a> {
    /// For a flow that begins with its first rows.
    pub fn new(registry: &'a NodeTypes, work_folder: impl Into<PathBuf>) -> Self {
        let work_folder = work_folder.into();
        Self { registry, work_folder, prune: true, scripted: false, kept: KeptStates::default() }
    }
}

/// A flow that was checked and can be built.
#[derive(Debug)]
pub struct Plan {
    /// The flow's name.
    pub flow: String,
    /// What the flow is for.
    pub description: Option<String>,
    /// The nodes; each comes after those that it reads from.
    pub nodes: Vec<PlannedNode>,
    /// The edges.
    pub edges: Vec<PlannedEdge>,
    /// The limits of each edge.
    pub limits: Limits,
    /// How many rows of an input make an epoch.
    pub epoch_rows: usize,
    /// How long an epoch of a live input takes at most.
    pub epoch_interval: Duration,
    /// How often checkpoints are taken.
    pub checkpoints: Interval,
    /// How many checkpoints are kept.
    pub keep_checkpoints: usize,
    /// How long it is kept what time has decided.
    pub replay_log_retention: ReplayLogRetention,
    /// How much of the machine the flow may take.
    pub budget: LimitSettings,
    /// Inputs that advance together in event time.
    pub time_groups: Vec<PlannedTimeGroup>,
    /// What may not be meant: ports that nobody reads, rows that are predicted by what became known later.
    pub warnings: Vec<String>,
    /// The variables in the flow, whose values are not to be read anywhere.
    pub secrets: Arc<Secrets>,
    /// The files that it was made from, besides the text of the flow.
    pub files: FilesRead,
}

/// A node of a plan.
#[derive(Debug)]
pub struct PlannedNode {
    /// The name in the flow.
    pub name: String,
    /// What `type` says.
    pub kind: &'static str,
    /// The input ports, `from` first.
    pub inputs: Vec<InputPort>,
    /// The output ports; the last is `failed` if the node may refuse rows.
    pub ports: Vec<OutputPort>,
    /// The order in which the edges to this node are read.
    pub stages: Vec<PlannedStage>,
    /// Edges that are read in every stage.
    pub always: Vec<usize>,
    /// What happens to rejected rows that nobody reads.
    pub on_error: OnError,
    /// The fraction of rejected rows above which the node fails the flow.
    pub max_failed: Option<Share>,
    /// What its state depends on: its settings and the columns that it looks at.
    pub shape: Shape,
    /// What it is built from; none of what is never taken from one flow to the next.
    pub identity: Option<String>,
    /// What the node was called when the state was kept that it is to have.
    pub renamed_from: Option<String>,
    /// Without which state it does not run.
    pub needs_state: NeedsState,
    /// Whether it does not run with a state that is elsewhere.
    pub keeps_log: bool,
    /// Whether the engine has added it, so that it is not in the flow file.
    pub hidden: bool,
    /// Whether it has another side, such as a server, with which it may lose contact.
    pub is_remote: bool,
    /// How to make it.
    pub body: PlannedBody,
}

/// Without which state a node does not run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NeedsState {
    /// It runs without.
    #[default]
    No,
    /// Without any.
    Anywhere,
    /// Without one in a local folder.
    Here,
}

/// What there is to know of a node by its role, and how to make it.
pub enum PlannedBody {
    /// An input.
    Input {
        /// Whether it ends by itself.
        finite: bool,
        /// Whether it is not live either: each run stops behind what is there.
        pauses: bool,
        /// Whether the same positions give the same rows again.
        replayable: bool,
        /// Whether it tells those who send rows that they are taken.
        acknowledges: bool,
        /// How many rows there are, if known.
        rows: Option<u64>,
        /// The event time of the rows.
        event_time: Option<PlannedTime>,
        /// How many nodes keep the input's gate closed at first.
        gate: usize,
        /// Whether it reads the file at a path.
        reads: Option<Reads>,
        /// Where rows are sent to it by HTTP, if they are.
        endpoint: Option<HttpEndpoint>,
        /// Makes the input.
        build: Build<dyn Input>,
    },
    /// A processor.
    Processor {
        /// How it asks others, if it does.
        requests: Option<PlannedRequests>,
        /// How it keeps rows while there is no room behind it, if it does.
        buffering: Option<PlannedBuffering>,
        /// Makes the processor.
        build: Build<dyn Processor>,
    },
    /// An output.
    Output {
        /// How often a row is delivered.
        delivery: Delivery,
        /// A file that it writes.
        writes: Option<Writes>,
        /// Where its rows are when they are committed, in words for people.
        place: Option<String>,
        /// Whether it goes on from its state when other columns arrive.
        takes_other_columns: bool,
        /// Makes the output.
        build: Build<dyn Output>,
    },
}

/// How a processor asks others.
#[derive(Clone, Copy, Debug)]
pub struct PlannedRequests {
    /// How many batches may wait for their answers at a time.
    pub in_flight: usize,
    /// How long one call may take.
    pub timeout: Duration,
    /// Whether it may be told something else when it asks another time.
    pub answers_may_differ: bool,
}

/// How a processor keeps rows while there is no room behind it.
#[derive(Clone, Copy, Debug)]
pub struct PlannedBuffering {
    /// Whether rows wait at all: some come from inputs that do not end.
    pub is_live: bool,
    /// Whether rows leave in the order in which they came.
    pub keeps_order: bool,
    /// How many nodes keep its gate closed at first, since they do not read yet what it would give.
    pub gate: usize,
}

/// The event time of an input, as [`crate::file::EventTimeSettings`] says it.
#[derive(Clone, Debug)]
pub struct PlannedTime {
    /// Where it is, by output port.
    pub columns: Vec<TimeColumn>,
    /// In microseconds.
    pub lateness: EventTime,
    /// After how many rows of a partition the watermark moves.
    pub watermark_rows: usize,
    /// How long a partition may be without rows until it is no longer waited for. Never set for finite inputs.
    pub idle: Option<Duration>,
    /// Whether rows of several partitions come mixed.
    pub interleaved: bool,
}

/// Where the event time is in the rows that leave by a port of an input.
#[derive(Clone, Debug)]
pub struct TimeColumn {
    /// Which column it is.
    pub index: usize,
    /// How it is computed, if no column of the input has it.
    pub derived: Option<Arc<DerivedTime>>,
}

/// Event times that are computed from the columns of an input, and stand in a column behind these.
#[derive(Debug)]
pub struct DerivedTime {
    /// How what the input pushes is brought to the columns that the expression looks at.
    pub input: Canonical,
    /// What computes the times.
    pub expression: Box<dyn Expression>,
    /// The columns that leave.
    pub schema: SchemaRef,
}

impl DerivedTime {
    /// The name of the column that the times get.
    pub fn name(&self) -> &str {
        self.schema.field(self.schema.fields().len() - 1).name()
    }
}

/// Makes a node, without I/O.
pub type Build<T> = Box<dyn FnOnce() -> Result<Box<T>> + Send>;

/// An input port of a node.
#[derive(Clone, Debug)]
pub struct InputPort {
    /// `from`, the side input's key, or `model`.
    pub name: String,
    /// What arrives.
    pub role: PortRole,
    /// The columns that arrive.
    pub schema: SchemaRef,
}

/// An output port of a node.
#[derive(Clone, Debug)]
pub struct OutputPort {
    /// The port's name.
    pub name: String,
    /// How what the node pushes is brought to the columns that leave.
    pub canonical: Canonical,
    /// The column with the event time.
    pub event_time: Option<String>,
    /// Whether the column with the event time has other values than the one of the node's input, by which rows are late.
    pub has_other_time: bool,
    /// What leaves by it.
    pub role: PortRole,
    /// Whether rows leave by it only when all inputs have ended.
    pub only_at_the_end: bool,
    /// The edges that read the port.
    pub edges: Vec<usize>,
}

/// An edge of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedEdge {
    /// The node and output port that it leads from.
    pub from: (NodeIndex, usize),
    /// The node and input port that it leads to.
    pub to: (NodeIndex, usize),
}

impl PlannedNode {
    /// Input, processor or output.
    pub fn role(&self) -> Role {
        match self.body {
            PlannedBody::Input { .. } => Role::Input,
            PlannedBody::Processor { .. } => Role::Processor,
            PlannedBody::Output { .. } => Role::Output,
        }
    }
}

impl PlannedNode {
    /// Whether it can be resumed from a state that was kept with this shape.
    pub(crate) fn fits(&self, kept: &Shape) -> bool {
        let takes_other_columns = matches!(self.body, PlannedBody::Output { takes_other_columns: true, .. });
        kept.hash == self.shape.hash || (takes_other_columns && kept.settings == self.shape.settings)
    }

    /// Whether it makes a model.
    pub(crate) fn makes_model(&self) -> bool {
        self.ports.iter().any(|port| port.role == PortRole::Versions)
    }

    /// How it asks others, if it does.
    pub(crate) fn requests(&self) -> Option<&PlannedRequests> {
        match &self.body {
            PlannedBody::Processor { requests, .. } => requests.as_ref(),
            PlannedBody::Input { .. } | PlannedBody::Output { .. } => None,
        }
    }

    /// Whether it may be told something else when it asks another time.
    pub(crate) fn may_be_told_otherwise(&self) -> bool {
        self.requests().is_some_and(|requests| requests.answers_may_differ)
    }

    /// How it keeps rows while there is no room behind it, if it does.
    pub(crate) fn buffering(&self) -> Option<&PlannedBuffering> {
        match &self.body {
            PlannedBody::Processor { buffering, .. } => buffering.as_ref(),
            PlannedBody::Input { .. } | PlannedBody::Output { .. } => None,
        }
    }

    /// Whether rows wait there while there is no room behind it.
    pub(crate) fn keeps_rows(&self) -> bool {
        self.buffering().is_some_and(|buffering| buffering.is_live)
    }

    /// How many nodes keep its gate closed at first.
    pub(crate) fn gate(&self) -> usize {
        match &self.body {
            PlannedBody::Input { gate, .. } => *gate,
            PlannedBody::Processor { .. } => self.buffering().map_or(0, |buffering| buffering.gate),
            PlannedBody::Output { .. } => 0,
        }
    }

    /// Whether it is an input that has no part in checkpoints as long as its gate is closed.
    pub(crate) fn may_wait(&self) -> bool {
        self.role() == Role::Input && self.gate() > 0
    }
}

impl Plan {
    /// Reads, checks and plans a flow; `kept` has what its nodes have kept, by its name. The error has everything that is
    /// wrong with it.
    pub fn load(
        path: &Path,
        load: LoadOptions<'_>,
        options: PlanOptions<'_>,
        kept: impl FnOnce(&str) -> KeptStates,
    ) -> Result<Self, Diagnostics> {
        Self::read(path, &read_text(path)?, load, options, kept)
    }

    /// The same, for the text of a file that has been read.
    pub fn read(
        path: &Path,
        text: &str,
        load: LoadOptions<'_>,
        options: PlanOptions<'_>,
        kept: impl FnOnce(&str) -> KeptStates,
    ) -> Result<Self, Diagnostics> {
        let (file, mut diagnostics) = FlowFile::check(path, text, load);
        let Some(file) = file else {
            return Err(diagnostics);
        };
        let options = PlanOptions { kept: kept(&file.flow.name), ..options };
        match Self::new(&file, &options) {
            Ok(plan) if diagnostics.is_empty() => Ok(plan),
            Ok(_) => Err(diagnostics),
            Err(more) => {
                diagnostics.extend(more);
                Err(diagnostics)
            }
        }
    }

    /// Plans a flow whose settings have been checked.
    pub fn new(file: &FlowFile, options: &PlanOptions<'_>) -> Result<Self, Diagnostics> {
        let wiring = wiring::Wiring::new(file, options.registry)?;
        let drafts = columns::plan_columns(file, &wiring, options)?;
        exclusive::check(file, &wiring, &drafts)?;
        answers::check(file, &wiring, &drafts)?;
        stages::assemble(file, wiring, drafts, options)
    }

    /// The node of that name.
    pub fn node(&self, name: &str) -> Option<&PlannedNode> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// The nodes that do not run without such a state.
    pub fn needing_state(&self, state: NeedsState) -> impl Iterator<Item = &PlannedNode> {
        self.nodes.iter().filter(move |node| node.needs_state == state)
    }

    /// The nodes that do not run with a state that is elsewhere, though they may without any.
    pub fn keeping_logs(&self) -> impl Iterator<Item = &PlannedNode> {
        self.nodes.iter().filter(|node| node.keeps_log)
    }

    /// The node that has or had that name.
    pub fn node_once_called(&self, name: &str) -> Option<&PlannedNode> {
        let renamed = || self.nodes.iter().find(|node| node.renamed_from.as_deref() == Some(name));
        self.node(name).or_else(renamed)
    }

    /// The nodes that have got another name: their former names, and those that they have now.
    pub fn renames(&self) -> impl Iterator<Item = (&str, &str)> {
        self.nodes.iter().filter_map(|node| Some((node.renamed_from.as_deref()?, node.name.as_str())))
    }

    /// The names of the inputs that can't be read again from where they were.
    pub fn unreplayable_inputs(&self) -> Vec<String> {
        let is_one = |node: &&PlannedNode| matches!(node.body, PlannedBody::Input { replayable: false, .. });
        self.nodes.iter().filter(is_one).map(|node| node.name.clone()).collect()
    }

    /// Whether there are inputs that come to barriers by their rows alone.
    pub(crate) fn has_strict_inputs(&self) -> bool {
        let is_strict =
            |node: &PlannedNode| matches!(node.body, PlannedBody::Input { finite: true, replayable: true, .. });
        self.nodes.iter().any(is_strict)
    }

    /// Makes all outputs drop their rows.
    pub fn drop_outputs(&mut self) {
        for node in &mut self.nodes {
            if let PlannedBody::Output { build, .. } = &mut node.body {
                *build = Box::new(|| Ok(Box::new(Dropping)));
            }
        }
    }

    /// How an edge brings batches to the columns of all streams that its reader unites. None if they have these.
    pub fn union(&self, edge: &PlannedEdge) -> Option<Canonical> {
        let (from, to) = (&self.nodes[edge.from.0].ports[edge.from.1], &self.nodes[edge.to.0].inputs[edge.to.1]);
        Canonical::between(from.canonical.schema(), to.schema.clone())
    }

    /// A port as flow files name it: `NODE`, or `NODE.PORT`.
    pub fn port_name(&self, (node, port): (NodeIndex, usize)) -> String {
        let node = &self.nodes[node];
        match node.ports[port].name.as_str() {
            millstream_core::MAIN => node.name.clone(),
            port => format!("{}.{port}", node.name),
        }
    }

    /// How an edge is called: `NODE.PORT>NODE`.
    pub fn edge_name(&self, edge: &PlannedEdge) -> String {
        let (from, to) = (&self.nodes[edge.from.0], &self.nodes[edge.to.0]);
        format!("{}.{}>{}", from.name, from.ports[edge.from.1].name, to.name)
    }

    /// Whether two runs on the same data give the same, bit for bit: nothing depends on time, or on what others say.
    pub fn is_strict(&self) -> bool {
        let is_free =
            |node: &PlannedNode| node.may_be_told_otherwise() || node.stages.iter().any(PlannedStage::is_by_arrival);
        self.is_repeatable() && !self.nodes.iter().any(is_free)
    }

    /// Whether it can be run again from the start, to the same end: all inputs end by themselves, and can be read again.
    pub fn is_repeatable(&self) -> bool {
        self.is_finite() && self.unreplayable_inputs().is_empty()
    }

    /// Whether a node makes a model, of which versions can be made again by a replay.
    pub fn makes_models(&self) -> bool {
        self.nodes.iter().any(PlannedNode::makes_model)
    }

    /// Whether all inputs end by themselves.
    pub fn is_finite(&self) -> bool {
        self.nodes.iter().all(|node| !matches!(node.body, PlannedBody::Input { finite: false, .. }))
    }
}

/// An output whose rows nobody wants.
struct Dropping;

#[async_trait]
impl Output for Dropping {
    async fn write(&mut self, _: Batch, _: &mut Collector) -> Result<()> {
        Ok(())
    }
}

impl std::fmt::Debug for PlannedBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Input { .. } => "Input",
            Self::Processor { .. } => "Processor",
            Self::Output { .. } => "Output",
        })
    }
}
