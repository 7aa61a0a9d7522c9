//! Inputs: where rows enter a flow.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;

use crate::{
    Collector, Epoch, Error, Held, Home, Intake, LeftOut, Parts, PlanContext, PortPlan, Positions, Probe, Problems,
    Report, Result, SchemaSource, State,
};

/// An input's TOML table.
pub trait InputSettings: Send + Sync {
    /// The columns that will come, without side effects. Local files may be read.
    fn plan(&self, context: &PlanContext) -> Result<InputPlan, Problems>;

    /// Whether each run stops behind what is there, and the next one goes on with what is new. Such an input is not finite.
    fn pauses(&self) -> bool {
        false
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

/// Whether an input reads the file that is or will be at a path.
pub type Reads = Box<dyn Fn(&Path) -> bool + Send>;

/// An input that has been checked and can be built.
pub struct InputPlan {
    /// The output ports, to which the engine adds `failed`. An input that has several, such as one for each table of a stream of
    /// changes, pushes their rows in one order, in which they are counted and cut. Of the columns of one that has only the main
    /// port, at most `PlanContext::columns` need be there.
    pub ports: Vec<PortPlan>,
    /// Whether the input ends by itself. Such inputs are read strictly in order, live ones as rows arrive.
    pub finite: bool,
    /// Whether the same positions give the same rows again, after a crash.
    pub replayable: bool,
    /// Whether the input tells those who send rows that they are taken. These forget them, so that a row that turns out to be
    /// of no use can't be asked for again, and comes in every run: the flow has to say what becomes of such rows.
    pub acknowledges: bool,
    /// Whether those who send rows wait for what an output of the flow answers. There has to be one then.
    pub is_answered: bool,
    /// Whether rows of several partitions come mixed. Otherwise one partition ends where the next begins.
    pub interleaved: bool,
    /// Whether a run reads what no run before has read, so that the input has no sense without a state.
    pub continues: bool,
    /// Whether it reads the file that is or will be at a path, if it reads files.
    pub reads: Option<Reads>,
    /// Where rows are sent to it by HTTP, if they are.
    pub endpoint: Option<HttpEndpoint>,
    /// How many rows there are, if that is known and cheap to know: for the progress bar.
    pub rows: Option<u64>,
    /// Columns of what it reads that it leaves out.
    pub left_out: Vec<LeftOut>,
    /// Makes the input, without I/O.
    pub build: Box<dyn FnOnce() -> Result<Box<dyn Input>> + Send>,
}

impl InputPlan {
    /// Of an input with one port, that ends by itself, and gives the same rows at the same positions again. The others are written
    /// as `InputPlan { finite: false, ..InputPlan::new(schema, build) }`.
    pub fn new<I: Input + 'static>(schema: SchemaRef, build: impl FnOnce() -> Result<I> + Send + 'static) -> Self {
        Self {
            ports: vec![PortPlan::main(schema)],
            finite: true,
            replayable: true,
            acknowledges: false,
            is_answered: false,
            interleaved: false,
            continues: false,
            reads: None,
            endpoint: None,
            rows: None,
            left_out: Vec::new(),
            build: Box::new(|| Ok(Box::new(build()?))),
        }
    }
}

/// Where rows are sent to an input by HTTP, as the bodies of `POST`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpEndpoint {
    /// Where it listens.
    pub address: SocketAddr,
    /// The path of the URL.
    pub path: String,
    /// Whether it speaks HTTP only over TLS.
    pub is_encrypted: bool,
}

impl fmt::Debug for InputPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InputPlan").field("ports", &self.ports).field("finite", &self.finite).finish_non_exhaustive()
    }
}

/// Whether an input has more to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There may be more.
    More,
    /// There is nothing more for this run, but there may be for a later one. A flow without state takes it for the end. One with
    /// state stops, as soon as all its inputs have come so far or to their end; meanwhile `next` is called again, and waits.
    CaughtUp,
    /// It has ended; `next` is not called again.
    End,
}

/// Reads rows. The engine calls `restore` if the flow is resumed, then `open` once, then `next` until the end or until
/// the flow is stopped.
/// The numbers from 1 to 3, a row at a time. The position of a row is its index, so that it can be gone on with from anywhere:
///
/// ```
/// use std::sync::Arc;
///
/// use arrow::array::{ArrayRef, Int64Array, RecordBatch};
/// use millstream_core::{Batch, Collector, Input, Origin, Positions, Progress, Result, State};
///
/// struct Numbers {
///     next: u64,
/// }
///
/// #[async_trait::async_trait]
/// impl Input for Numbers {
///     async fn next(&mut self, out: &mut Collector) -> Result<Progress> {
///         let number: ArrayRef = Arc::new(Int64Array::from(vec![self.next as i64 + 1]));
///         let origin = Origin::new("numbers", "", self.next, self.next + 1);
///         out.push(0, Batch::new(RecordBatch::try_from_iter([("n", number)])?, origin));
///         self.next += 1;
///         Ok(if self.next < 3 { Progress::More } else { Progress::End })
///     }
///
///     fn restore(&mut self, positions: &Positions, _: &State) -> Result<()> {
///         self.next = positions.get("").copied().unwrap_or_default();
///         Ok(())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<()> {
/// let mut input = Numbers { next: 0 };
/// input.restore(&[("".into(), 2)].into(), &State::default())?;
/// let mut out = Collector::of_input(1);
/// assert_eq!(input.next(&mut out).await?, Progress::End);
/// assert_eq!(out.take(0).next().unwrap().origin.start, 2);
/// # Ok(())
/// # }
/// ```
#[async_trait]
pub trait Input: Send {
    /// Connects, opens files.
    async fn open(&mut self, _home: &Home) -> Result<()> {
        Ok(())
    }

    /// Pushes the next rows (or none) to `out`, and those that could not be read.
    ///
    /// Cancel safe: the engine drops the returned future to stop the flow or to cut an epoch by time, so nothing may
    /// be lost between two polls. May compute for milliseconds, but must not block on anything that may never come.
    async fn next(&mut self, out: &mut Collector) -> Result<Progress>;

    /// The barrier of an epoch: what has been sent before it lies before these positions. Called before any node gets to it.
    fn barrier(&mut self, _epoch: Epoch, _positions: &Positions) {}

    /// What it takes, besides `positions`, to go on from there. They lie within or right behind the rows that `next` has
    /// pushed last.
    fn snapshot(&mut self, _positions: &Positions) -> Result<Parts> {
        Ok(Parts::default())
    }

    /// Goes on from there: the first row that is pushed of a partition is the one at its position. Called before this process
    /// takes the flow over, so that one which can't go on leaves another alone that can. Changes nothing outside.
    fn restore(&mut self, _positions: &Positions, _state: &State) -> Result<()> {
        Err(Error::new("this input can't be read again from where it was"))
    }

    /// Durable checkpoints cover all rows before these positions: the newest, and the oldest that is kept. No run will ask for
    /// what lies before `newest`. What is not before `oldest` can be asked for by those who go through rows again.
    async fn checkpoint_completed(&mut self, _newest: &Positions, _oldest: &Positions) -> Result<()> {
        Ok(())
    }

    /// The input is held from now on, or, with `None`, no longer: until then `next` is not called. Who pushes rows to it is best told to come
    /// again. Called after `open`, between calls of `next`.
    fn hold(&mut self, _held: Option<&Held>) {}

    /// What gives it rows by hand, if somebody may. Asked for before `open`.
    fn intake(&self) -> Option<Arc<dyn Intake>> {
        None
    }

    /// What it has to report, such as how far it is behind its source. Asked for between calls of `next`.
    fn report(&self) -> Option<Report> {
        None
    }

    /// Rows of a run before are gone through again, and these are of a partition that it had added with this locator. Called
    /// after `open`, of which the home was [`Home::Replay`].
    ///
    /// # Errors
    /// If they can't be found any more.
    fn locate(&mut self, _partition: &Arc<str>, _trace: &str) -> Result<()> {
        Ok(())
    }
}
