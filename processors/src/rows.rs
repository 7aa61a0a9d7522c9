//! Rows on their way into a state, where it does not show how they came in batches.

use arrow::array::RecordBatch;
use arrow::compute::BatchCoalescer;
use arrow::datatypes::SchemaRef;
use millstream_core::Result;

/// How many rows a batch has, given out or kept.
pub const BATCH_ROWS: usize = 8192;

/// The same rows in batches of [`BATCH_ROWS`].
pub fn evenly(schema: SchemaRef, batches: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
    let mut even = BatchCoalescer::new(schema, BATCH_ROWS);
    batches.into_iter().try_for_each(|batch| even.push_batch(batch))?;
    even.finish_buffered_batch()?;
    Ok(std::iter::from_fn(|| even.next_completed_batch()).collect())
}
