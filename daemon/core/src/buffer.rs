//! Processors that keep rows while those behind them have no room.

use std::time::Duration;

use crate::{Batch, Collector, EventTime, Home, Processor, Result};

/// What the plan says of a node that is a [`Buffer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffering {
    /// Whether rows leave in the order in which they came.
    pub keeps_order: bool,
}

/// A processor that goes on taking rows while those behind it have no room, and gives them when they have.
///
/// Nothing waits where all rows come from inputs that end: when they leave would depend on time. There, and as long as nothing waits and
/// there is room, the engine calls [`Processor::process`], by which rows *pass* as they came. Otherwise it calls [`Buffer::take`], and
/// [`Buffer::give`] when there is room, whatever comes meanwhile.
///
/// Rows that wait at a barrier are part of the snapshot, as what is in flight is with Flink's unaligned checkpoints: the barrier passes at
/// once, and they belong to the epoch in which they leave. How many rows have come and left one after the other is recorded, and a replay
/// does the same. So what leaves may depend on nothing else: not on time, and not on how rows are cut into batches.
///
/// One that keeps rows in memory, and gives them as they came:
///
/// ```
/// use std::collections::VecDeque;
///
/// use millstream_core::{Batch, Buffer, Collector, EventTime, Parts, Processor, Result, Snapshot};
///
/// #[derive(Default)]
/// struct Queue {
///     waiting: VecDeque<Batch>,
///     come: Option<EventTime>,
/// }
///
/// impl Processor for Queue {
///     fn process(&mut self, _port: usize, batch: Batch, out: &mut Collector) -> Result<()> {
///         out.push(0, batch);
///         Ok(())
///     }
///
///     fn buffer(&mut self) -> Option<&mut dyn Buffer> {
///         Some(self)
///     }
///
///     // `snapshot` and `restore` keep what waits.
/// }
///
/// impl Buffer for Queue {
///     fn take(&mut self, _port: usize, batch: Batch, _out: &mut Collector) -> Result<()> {
///         self.waiting.push_back(batch);
///         Ok(())
///     }
///
///     fn waiting(&self) -> usize {
///         self.waiting.iter().map(Batch::len).sum()
///     }
///
///     fn give(&mut self, rows: usize, out: &mut Collector) -> Result<usize> {
///         let Some(batch) = self.waiting.pop_front() else { return Ok(0) };
///         let count = batch.len().min(rows);
///         out.push(0, batch.with_rows(batch.rows.slice(0, count)));
///         if count < batch.len() {
///             self.waiting.push_front(batch.with_rows(batch.rows.slice(count, batch.len() - count)));
///         }
///         Ok(count)
///     }
///
///     fn come(&self) -> Option<EventTime> {
///         self.come
///     }
/// }
///
/// # use std::sync::Arc;
/// # use arrow::array::{ArrayRef, Int64Array, RecordBatch};
/// # let rows = RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(vec![1, 2, 3])) as ArrayRef)])?;
/// let (mut node, mut out) = (Queue::default(), Collector::new(1));
/// node.take(0, Batch::new(rows, millstream_core::Origin::new("rows", "", 0, 3)), &mut out)?;
/// assert_eq!((node.give(2, &mut out)?, node.waiting()), (2, 1));
/// # Ok::<(), millstream_core::Error>(())
/// ```
pub trait Buffer: Processor {
    /// Where it may keep rows. Called once, before anything else but [`Processor::restore`].
    ///
    /// # Errors
    /// If it can't keep any there.
    fn open(&mut self, _home: &Home) -> Result<()> {
        Ok(())
    }

    /// Keeps rows that arrived at input port `port`. Those that it has no room for may be pushed to another port than the first.
    ///
    /// # Errors
    /// If they can't be kept.
    fn take(&mut self, port: usize, batch: Batch, out: &mut Collector) -> Result<()>;

    /// How many rows wait.
    fn waiting(&self) -> usize;

    /// Whether no more rows should come until others have left.
    fn is_full(&self) -> bool {
        false
    }

    /// Lets the next rows leave, `rows` at most, by the first port, or by another one if they are of no use any more. Returns how many: at
    /// least one if there are any, and none behind the one with which [`Buffer::come`] moves, so that event time has its place among them.
    ///
    /// # Errors
    /// If what is kept can't be read.
    fn give(&mut self, rows: usize, out: &mut Collector) -> Result<usize>;

    /// How far event time has come for the rows that are still to leave: no row is overtaken that came before the watermark.
    /// What [`Processor::watermark`] returns, too.
    fn come(&self) -> Option<EventTime>;

    /// How long the row that has waited longest may wait yet; none if there is no limit.
    fn patience(&self) -> Option<Duration> {
        None
    }

    /// Gives up rows that have waited longest, and lets them leave by another port than the first: those that have waited for too long, or
    /// `rows` if that is known from the run that is gone through again. Returns how many, with the same limit as [`Buffer::give`].
    ///
    /// # Errors
    /// If what is kept can't be read.
    fn expire(&mut self, _rows: Option<usize>, _out: &mut Collector) -> Result<usize> {
        Ok(0)
    }
}
