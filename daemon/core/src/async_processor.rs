//! Processors that wait for others: they look rows up elsewhere, or have them computed there.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{Batch, Collector, Error, ErrorClass, Processor, Report, Result};

/// Asks others about rows. [`asking`] makes a [`Processor`] of it, whose [`Kind`](crate::Kind) has `ASKS`.
///
/// Several batches are asked about at a time, as many as the flow says (`in_flight`). What comes of them leaves in the order in which
/// they came, as with Flink's `AsyncDataStream.orderedWait`; a barrier waits until all before it are answered, so that no checkpoint has
/// to know of a question. Whoever is asked is asked again after a crash, and behind every error that may be over in a while, so
/// that asking twice must do no harm. The node keeps no state.
/// One that passes on the rows that a service knows. Whatever may be over in a while is a transient error, and the service is asked again:
///
/// ```
/// use millstream_core::{AsyncProcessor, Batch, Collector, Error, ErrorClass, Result, asking};
///
/// struct Known {
///     is_down: bool,
/// }
///
/// impl Known {
///     /// What a request to a service would tell.
///     async fn first_unknown(&self, rows: usize) -> Result<usize> {
///         let unreachable = || Error::new("the service can't be reached").of_class(ErrorClass::Transient);
///         if self.is_down { Err(unreachable()) } else { Ok(rows - 1) }
///     }
/// }
///
/// #[async_trait::async_trait]
/// impl AsyncProcessor for Known {
///     async fn ask(&self, _port: usize, batch: &Batch, out: &mut Collector) -> Result<()> {
///         let known = self.first_unknown(batch.len()).await?;
///         out.push(0, batch.with_rows(batch.rows.slice(0, known)));
///         for row in known..batch.len() {
///             out.fail_row(batch, row, "the service does not know it")?;
///         }
///         Ok(())
///     }
/// }
///
/// // What the plan of such a node builds.
/// assert!(asking(Known { is_down: false }).asks().is_some());
/// ```
#[async_trait]
pub trait AsyncProcessor: Send + Sync {
    /// Asks about rows that arrived at input port `port` (the index in the `inputs` of the plan), and pushes what comes of them.
    /// What becomes of a row depends on no other batch, nor on how rows are cut into batches. A row that the other side refuses
    /// goes to [`Collector::fail_row`].
    ///
    /// Dropped where it takes longer than the flow allows (`timeout`), and called again, with nothing in `out`.
    ///
    /// # Errors
    /// One that is [transient](ErrorClass::Transient) has the same rows asked about again after a pause, for as long as it takes. Any
    /// other one ends the flow.
    async fn ask(&self, port: usize, batch: &Batch, out: &mut Collector) -> Result<()>;

    /// How the node does, for people. Asked for a few times a second, and at the end.
    fn report(&self) -> Option<Report> {
        None
    }
}

/// The processor that asks.
pub fn asking(node: impl AsyncProcessor + 'static) -> Box<dyn Processor> {
    Box::new(Asking(Arc::new(node)))
}

struct Asking(Arc<dyn AsyncProcessor>);

impl Processor for Asking {
    fn process(&mut self, _: usize, _: Batch, _: &mut Collector) -> Result<()> {
        Err(Error::new("a node that asks others is not declared as one (`Kind::ASKS`)").of_class(ErrorClass::Bug))
    }

    fn asks(&self) -> Option<Arc<dyn AsyncProcessor>> {
        Some(self.0.clone())
    }

    fn report(&self) -> Option<Report> {
        self.0.report()
    }
}
