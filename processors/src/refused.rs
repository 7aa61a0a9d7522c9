//! The rows of a batch that a node refuses, and why.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::filter;
use arrow::datatypes::SchemaRef;
use millstream_core::{Batch, Collector, Result};

/// The rows that are refused, by their number. The first reason counts.
#[derive(Debug, Default)]
pub struct Refused(BTreeMap<usize, String>);

impl Refused {
    /// Refuses a row.
    pub fn add(&mut self, row: usize, why: impl FnOnce() -> String) {
        self.0.entry(row).or_insert_with(why);
    }

    /// Refuses the rows that are null only in the second of two columns.
    pub fn add_new_nulls(&mut self, before: &ArrayRef, after: &ArrayRef, why: impl Fn(usize) -> String) {
        if after.null_count() > before.null_count() {
            let rows = (0..after.len()).filter(|row| after.is_null(*row) && before.is_valid(*row));
            rows.for_each(|row| self.add(row, || why(row)));
        }
    }

    /// Refuses the rows that are null.
    pub fn add_nulls(&mut self, column: &ArrayRef, why: impl Fn() -> String) {
        if column.null_count() > 0 {
            (0..column.len()).filter(|row| column.is_null(*row)).for_each(|row| self.add(row, &why));
        }
    }

    /// Sends what is refused of a batch to `failed`, and makes rows of what has become of the others.
    pub fn sift(
        self,
        batch: &Batch,
        schema: &SchemaRef,
        columns: Vec<ArrayRef>,
        out: &mut Collector,
    ) -> Result<RecordBatch> {
        let options = |rows: usize| RecordBatchOptions::new().with_row_count(Some(rows));
        if self.0.is_empty() {
            return Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options(batch.len()))?);
        }
        let kept: BooleanArray = (0..batch.len()).map(|row| Some(!self.0.contains_key(&row))).collect();
        let columns = columns.iter().map(|column| Ok(filter(column, &kept)?)).collect::<Result<Vec<_>>>()?;
        let rows = batch.len() - self.0.len();
        for (row, why) in self.0 {
            out.fail_row(batch, row, why)?;
        }
        Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options(rows))?)
    }
}
