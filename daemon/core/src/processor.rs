//! Processors: rows in, rows out.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::{
    AsyncProcessor, Batch, Buffer, Buffering, Collector, Committer, Epoch, EventTime, PlanContext, PortPlan, Probe,
    Problems, Report, Result, SchemaSource, Snapshot, State, Stream, Uses,
};

/// A processor's TOML table.
pub trait ProcessorSettings: Send + Sync {
    /// The output ports and their columns from those of the inputs, without side effects.
    ///
    /// `inputs` holds `from` first, then the side input and the model edge where there are any.
    fn plan(&self, context: &PlanContext, inputs: &[Stream]) -> Result<ProcessorPlan, Problems>;

    /// The order in which the rows of several `from`s arrive.
    fn order(&self) -> Order {
        Order::default()
    }

    /// The model that this node trains. It then has a port `model`, on which new versions leave.
    fn trains(&self) -> Option<&str> {
        None
    }

    /// After how many rows the node has something to do at the next barrier, such as to publish a version. Epochs that are not
    /// set otherwise are short enough for it not to come much later.
    fn barrier_rows(&self) -> Option<u64> {
        None
    }

    /// The model, trained by a node of this flow, that this node wants the versions of on an input port `model`.
    fn follows_model(&self) -> Option<&str> {
        None
    }

    /// Of a node that [asks others](AsyncProcessor): whether they may say something else about the same rows when they are asked
    /// another time. What they have said is then recorded where `millstream replay` will need it.
    fn answers_may_differ(&self) -> bool {
        true
    }

    /// Of a node that is a [`Buffer`]: how it keeps rows.
    fn buffering(&self) -> Option<Buffering> {
        None
    }

    /// What looks whether the other side is there, as `check --connect` does. Asked for when the plan is good; none if there is no
    /// other side.
    fn probe(&self, _context: &PlanContext) -> Option<Probe> {
        None
    }

    /// The sources elsewhere that know the columns which the settings leave out. `check --connect --lock` asks them, whatever else is wrong
    /// with the node, and a plan finds in `PlanContext::locked` what they have said.
    fn schema_sources(&self, _context: &PlanContext) -> Vec<SchemaSource> {
        Vec::new()
    }
}

/// The order in which the rows of several edges into one port are processed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// `Sequence` for finite inputs, `Arrival` for live ones.
    #[default]
    Automatic,
    /// As they come. Differs from run to run.
    Arrival,
    /// All rows of the first edge, then all of the second. Where edges stem from the same input: epoch by epoch.
    Sequence,
    /// So many rows of each edge in turn.
    RoundRobin {
        /// How many rows of an edge before it is the next one's turn.
        rows: usize,
    },
    /// The edge whose event time is furthest behind, so that all come along together. Side inputs, too, are read like
    /// that, instead of to their end first.
    EventTime,
}

/// A processor that has been checked and can be built.
pub struct ProcessorPlan {
    /// The output ports; the first is the main one if it is named so. The engine adds `failed` where `fails`.
    pub ports: Vec<PortPlan>,
    /// What is needed of each of `inputs`, in their order.
    pub uses: Vec<Uses>,
    /// Whether the node may refuse rows.
    pub fails: bool,
    /// Makes the processor, without I/O.
    pub build: Box<dyn FnOnce() -> Result<Box<dyn Processor>> + Send>,
}

impl fmt::Debug for ProcessorPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessorPlan").field("ports", &self.ports).field("uses", &self.uses).finish_non_exhaustive()
    }
}

/// Transforms rows. The engine owns the loop and calls these one at a time, in the order of the messages.
///
/// Results must not depend on how the rows are cut into batches.
/// One that numbers rows. What it remembers is in its state, so that numbers go on behind a crash:
///
/// ```
/// use std::sync::Arc;
///
/// use arrow::array::{ArrayRef, Int64Array, RecordBatch};
/// use millstream_core::{Batch, Collector, Origin, Parts, Processor, Result, Snapshot, State};
///
/// #[derive(Default)]
/// struct Number {
///     rows: i64,
/// }
///
/// impl Processor for Number {
///     fn process(&mut self, _port: usize, batch: Batch, out: &mut Collector) -> Result<()> {
///         let numbers = Int64Array::from_iter_values((self.rows..).take(batch.len()));
///         self.rows += batch.len() as i64;
///         out.push(0, batch.with_rows(RecordBatch::try_from_iter([("number", Arc::new(numbers) as ArrayRef)])?));
///         Ok(())
///     }
///
///     fn snapshot(&mut self) -> Result<Snapshot> {
///         let mut parts = Parts::default();
///         parts.put("rows", &self.rows)?;
///         Ok(Snapshot::of(parts))
///     }
///
///     fn restore(&mut self, state: &State) -> Result<()> {
///         self.rows = state.get("rows")?;
///         Ok(())
///     }
/// }
///
/// let rows = RecordBatch::try_from_iter([("name", Arc::new(arrow::array::StringArray::from(vec!["Ada", "Tim"])) as ArrayRef)])?;
/// let (mut node, mut out) = (Number::default(), Collector::new(1));
/// node.process(0, Batch::new(rows, Origin::new("people", "", 0, 2)), &mut out)?;
/// assert_eq!(out.take(0).next().unwrap().len(), 2);
/// assert_eq!(node.rows, 2);
/// # Ok::<(), millstream_core::Error>(())
/// ```
pub trait Processor: Send {
    /// Rows that arrived at input port `port` (the index in the `inputs` of the plan).
    fn process(&mut self, port: usize, batch: Batch, out: &mut Collector) -> Result<()>;

    /// Pushes the next piece of what follows from the last call, where that is too much to be pushed at once. Returns whether
    /// there may be more.
    ///
    /// Called behind every other call that pushes rows until there is no more, and before any other call. What is pushed each
    /// time has to be taken first, so a node that makes many rows of few keeps no more of them than one piece.
    fn more(&mut self, _out: &mut Collector) -> Result<bool> {
        Ok(false)
    }

    /// How long the engine waits before it calls `more` again, for nodes that decide when rows leave. Asked behind each call of it that
    /// said that there may be more. Nothing else of the node is called meanwhile, so that those before it wait as well.
    fn pause(&self) -> Option<Duration> {
        None
    }

    /// Event time has come to `at`: rows with an earlier one are late from now on. Called with ever later times.
    ///
    /// Returns how far event time has come for the rows that this node is still to give, at most `at`.
    fn watermark(&mut self, at: EventTime, _out: &mut Collector) -> Result<EventTime> {
        Ok(at)
    }

    /// All inputs have reached the barrier of `epoch`. What is pushed now still belongs to that epoch. Before its first row, a
    /// node pushes nothing here: those who read it may not read yet, and at a barrier nothing must wait on an edge.
    fn barrier(&mut self, _epoch: Epoch, _out: &mut Collector) -> Result<()> {
        Ok(())
    }

    /// Nothing more will arrive at input port `port`. Called again after `restore` for ports that had ended before.
    fn ended(&mut self, _port: usize, _out: &mut Collector) -> Result<()> {
        Ok(())
    }

    /// All ports have ended, and `ended` was called for each. What is pushed now is the last.
    fn finish(&mut self, _out: &mut Collector) -> Result<()> {
        Ok(())
    }

    /// Another node that does the same, if this one is *stateless*: what becomes of the rows of a batch depends on no other batch,
    /// and it does nothing at watermarks, barriers and ends. The engine then works on several batches at a time, each on a lane of
    /// its own, and puts what comes out into the order in which they came in. None for a node whose rows depend on those before.
    fn lane(&self) -> Option<Box<dyn Processor>> {
        None
    }

    /// What asks others about rows, if this node is one of [`asking`](crate::asking). It is called in place of all that takes rows here.
    fn asks(&self) -> Option<Arc<dyn AsyncProcessor>> {
        None
    }

    /// The node, if it keeps rows while those behind it have no room.
    fn buffer(&mut self) -> Option<&mut dyn Buffer> {
        None
    }

    /// What the node needs to go on from here, and what it has staged. Called at barriers behind `barrier`, and at the end
    /// behind `finish`.
    ///
    /// It is waited for, so whatever takes long is left for later ([`crate::Parts::put_later`]).
    fn snapshot(&mut self) -> Result<Snapshot> {
        Ok(Snapshot::default())
    }

    /// Goes on from a snapshot. Called at most once, before anything else, on a node that was built from settings that
    /// leave the state as it is; also before this process takes the flow over, so that one which can't go on from it leaves
    /// another alone that can. Changes nothing outside.
    fn restore(&mut self, _state: &State) -> Result<()> {
        Ok(())
    }

    /// What makes visible what the node stages. Called once, before anything else.
    fn committer(&mut self) -> Option<Box<dyn Committer>> {
        None
    }

    /// How the node does, for people. Asked for a few times a second, and at the end.
    fn report(&self) -> Option<Report> {
        None
    }
}
