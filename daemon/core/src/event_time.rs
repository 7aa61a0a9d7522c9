//! Event times that can be used: neither null nor so far away that sums of times and spans would overflow.

use arrow::array::cast::AsArray;
use arrow::array::{Array, BooleanArray, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;

use crate::{Batch, Collector, EventTime, Result};

/// How far from 1970 an event time may be, in microseconds: about 73,000 years.
const FURTHEST: EventTime = EventTime::MAX / 4;

/// The rows whose time in `column` can't be used; `None` if there are no such.
pub fn timeless(rows: &RecordBatch, column: usize) -> Option<BooleanArray> {
    let times = rows.column(column).as_primitive::<TimestampMicrosecondType>();
    let is_near = |time: &EventTime| (-FURTHEST..=FURTHEST).contains(time);
    // Where there is null the value is 0. No early exit, so that several times are checked at once.
    if times.null_count() == 0 && times.values().iter().fold(true, |all, time| all & is_near(time)) {
        return None;
    }
    Some(times.iter().map(|time| Some(!time.is_some_and(|time| is_near(&time)))).collect())
}

/// Why the time of a row can't be used.
pub fn why_timeless(rows: &RecordBatch, column: usize, row: usize) -> String {
    let name = rows.schema_ref().field(column).name().clone();
    let times = rows.column(column).as_primitive::<TimestampMicrosecondType>();
    if times.is_null(row) {
        format!("the event time `{name}` is null")
    } else {
        format!("the event time `{name}` is {} µs from 1970, which is out of range", times.value(row))
    }
}

/// Refuses the rows whose time in `column` can't be used, and returns the others.
pub fn refuse_timeless(batch: Batch, column: usize, out: &mut Collector) -> Result<Batch> {
    let Some(timeless) = timeless(&batch.rows, column) else { return Ok(batch) };
    let rows = out.fail_rows(&batch, &timeless, |row| why_timeless(&batch.rows, column, row))?;
    Ok(batch.with_rows(rows))
}
