//! Event times that are computed from the columns of a row.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::{filter, not};
use arrow::datatypes::{Field, Schema};
use millstream_core::{Batch, Evaluated, FailedRow, Result, timeless, why_timeless};

use super::input_batch::InputBatch;
use crate::plan::DerivedTime;

/// The rows of an input with the column of their times behind the others. Those that have none are refused, as they came.
pub fn with_times(time: &DerivedTime, port: usize, batch: Batch, failed: &mut Vec<FailedRow>) -> Result<InputBatch> {
    let batch = batch.try_map(|rows| time.input.apply(rows))?;
    let Evaluated { values, failed: whys } = time.expression.evaluate(&batch.rows)?;
    let field = Field::new(time.name(), values.data_type().clone(), true);
    let mut times = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![values])?;
    let mut read = InputBatch::new(port, batch, failed);
    if let Some(timeless) = timeless(&times, 0) {
        let place = |row: usize| whys.binary_search_by_key(&row, |(failed, _)| *failed);
        let why = |row: usize| place(row).ok().map(|place| whys[place].1.clone());
        read.refuse(&timeless, |_, row| why(row).unwrap_or_else(|| why_timeless(&times, 0, row)))?;
        let kept = filter(times.column(0), &not(&timeless)?)?;
        times = RecordBatch::try_new(times.schema(), vec![kept])?;
    }
    let columns = read.batch.rows.columns().iter().chain(times.columns()).cloned();
    read.batch.rows = RecordBatch::try_new(time.schema.clone(), columns.collect())?;
    Ok(read)
}
