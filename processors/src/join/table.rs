//! The table of a join: kept while it arrives, then looked up.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use millstream_core::{ByteSize, Error, Parts, Problem, Problems, Result, ResultExt, State, batch_bytes};

use crate::lookup::Lookup;
use crate::rows::evenly;

/// What the state calls the table.
const WITH: &str = "with";

/// What is kept of the table: its key columns, then those that are taken.
pub struct Side {
    columns: Vec<usize>,
    keys: usize,
    schema: SchemaRef,
    rows: Vec<RecordBatch>,
    bytes: usize,
    /// Whether the state has all of them.
    is_saved: bool,
}

impl Side {
    /// Nothing yet of a stream with the schema `with`.
    pub fn new(with: &Schema, keys: &[usize], taken: &[usize]) -> Result<Self, Problems> {
        let columns: Vec<usize> = keys.iter().chain(taken).copied().collect();
        let schema = with.project(&columns).map_err(|error| Problem::new(error.to_string()))?;
        Ok(Self { columns, keys: keys.len(), schema: Arc::new(schema), rows: Vec::new(), bytes: 0, is_saved: false })
    }

    /// Keeps rows. Beyond the limit they are only counted, so that the error can say how much there is.
    pub fn keep(&mut self, rows: &RecordBatch, limit: ByteSize) -> Result<()> {
        let columns = self.columns.iter().map(|&column| rows.column(column).clone()).collect();
        let rows = RecordBatch::try_new(self.schema.clone(), columns)?;
        self.bytes += batch_bytes(&rows);
        self.is_saved = false;
        if self.bytes > limit.0 {
            self.rows.clear();
        } else {
            self.rows.push(rows);
        }
        Ok(())
    }

    /// All that was kept, ready to be looked up.
    pub fn table(&mut self, types: &[DataType], limit: ByteSize) -> Result<Table> {
        self.check(limit)?;
        let rows =
            concat_batches(&self.schema, &std::mem::take(&mut self.rows)).doing(|| "keeping the rows of `with`")?;
        let (keys, taken) = rows.columns().split_at(self.keys);
        let table = Table { lookup: Lookup::new(keys, types.to_vec())?, taken: taken.to_vec() };
        self.rows.push(rows);
        Ok(table)
    }

    /// Whether no rows are missing.
    fn check(&self, limit: ByteSize) -> Result<()> {
        if self.bytes <= limit.0 {
            return Ok(());
        }
        let needed = self.bytes.div_ceil(1 << 20);
        Err(Error::new(format!(
            "`with` has {needed}MiB in the columns that the join needs, and `max_bytes` is {limit}; set it to {needed}MiB or more"
        )))
    }

    /// The rows, which are all there: a flow must not be resumed, with a higher limit, from only some of them.
    ///
    /// A table that has come to its end is handed over once.
    pub fn save(&mut self, parts: &mut Parts, limit: ByteSize) -> Result<()> {
        self.check(limit)?;
        if std::mem::replace(&mut self.is_saved, true) {
            parts.keep(WITH);
            return Ok(());
        }
        let (schema, rows) = (self.schema.clone(), self.rows.clone());
        parts.put_rows_later(WITH, schema.clone(), move || evenly(schema, rows));
        Ok(())
    }

    /// Takes in the rows that were kept.
    pub fn load(&mut self, state: &State) -> Result<()> {
        self.rows = state.rows(WITH, &self.schema)?;
        self.is_saved = true;
        self.bytes = self.rows.iter().map(batch_bytes).sum();
        Ok(())
    }
}

/// The table, once it is known whole.
pub struct Table {
    pub lookup: Lookup,
    /// The columns that are added to matches.
    pub taken: Vec<ArrayRef>,
}
