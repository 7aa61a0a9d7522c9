//! The join of a stream with a table, batch by batch.

use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array, UInt32Builder};
use arrow::compute::{filter, filter_record_batch, is_not_null, is_null, take};
use arrow::datatypes::{DataType, SchemaRef};
use millstream_core::{Batch, ByteSize, Collector, Error, Parts, Processor, Result, Snapshot, State};

use super::JoinKind;
use super::on::Keys;
use super::table::{Side, Table};
use crate::rows::BATCH_ROWS;

/// Rows of a stream meet those of a table, which has been read before.
pub struct TableJoin {
    kind: JoinKind,
    /// The keys of the stream.
    left: Vec<usize>,
    /// The types in which keys are compared.
    types: Vec<DataType>,
    /// What leaves.
    schema: SchemaRef,
    side: Side,
    limit: ByteSize,
    /// The table, once all of it has come.
    table: Option<Table>,
    /// Rows that have come and are still to leave.
    rest: Option<Rest>,
}

impl Processor for TableJoin {
    fn process(&mut self, port: usize, batch: Batch, out: &mut Collector) -> Result<()> {
        if port == 1 {
            return self.side.keep(&batch.rows, self.limit);
        }
        let Some(table) = &self.table else {
            return Err(Error::new("rows arrived before `with` was read"));
        };
        let keys: Vec<ArrayRef> = self.left.iter().map(|&column| batch.rows.column(column).clone()).collect();
        let matches = table.lookup.find(&keys)?;
        match self.kind {
            JoinKind::Semi => out.push(0, batch.with_rows(filter_record_batch(&batch.rows, &is_not_null(&matches)?)?)),
            JoinKind::Anti => out.push(0, batch.with_rows(filter_record_batch(&batch.rows, &is_null(&matches)?)?)),
            JoinKind::Left if table.lookup.is_unique() => {
                out.push(0, batch.with_rows(self.joined(batch.rows.columns().to_vec(), &matches, table)?));
            }
            JoinKind::Inner if table.lookup.is_unique() => {
                let matched = is_not_null(&matches)?;
                let rows = filter_record_batch(&batch.rows, &matched)?;
                let matches: UInt32Array = filter(&matches, &matched)?.to_data().into();
                out.push(0, batch.with_rows(self.joined(rows.columns().to_vec(), &matches, table)?));
            }
            JoinKind::Left | JoinKind::Inner => {
                self.rest = Some(Rest::new(batch, matches));
                self.advance(out)?;
            }
        }
        Ok(())
    }

    fn more(&mut self, out: &mut Collector) -> Result<bool> {
        let is_more = self.rest.is_some();
        self.advance(out)?;
        Ok(is_more)
    }

    fn ended(&mut self, port: usize, _: &mut Collector) -> Result<()> {
        if port == 1 {
            self.table = Some(self.side.table(&self.types, self.limit)?);
        }
        Ok(())
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        let mut parts = Parts::default();
        self.side.save(&mut parts, self.limit)?;
        Ok(Snapshot::of(parts))
    }

    /// If `with` had ended, `ended` is called again, and makes the table.
    fn restore(&mut self, state: &State) -> Result<()> {
        self.side.load(state)
    }
}

impl TableJoin {
    /// A join by these keys, in which rows with these columns leave.
    pub fn new(kind: JoinKind, keys: Keys, schema: SchemaRef, side: Side, limit: ByteSize) -> Self {
        Self { kind, left: keys.left, types: keys.types, schema, side, limit, table: None, rest: None }
    }

    /// Rows of the stream, with the columns of their matches behind.
    fn joined(&self, mut columns: Vec<ArrayRef>, matches: &UInt32Array, table: &Table) -> Result<RecordBatch> {
        for column in &table.taken {
            columns.push(take(column, matches, None)?);
        }
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }

    /// Pushes the next piece of what has to leave once for each match.
    fn advance(&mut self, out: &mut Collector) -> Result<()> {
        let (Some(mut rest), Some(table)) = (self.rest.take(), &self.table) else { return Ok(()) };
        let mut pairs = Pairs::default();
        while pairs.rows.len() < BATCH_ROWS && !rest.is_over() {
            if rest.matched.is_some() || self.kind == JoinKind::Left {
                pairs.push(rest.row, rest.matched);
            }
            rest.advance(table);
        }
        let rows = UInt32Array::from(pairs.rows);
        let columns = rest.batch.rows.columns().iter().map(|column| take(column, &rows, None));
        let rows = self.joined(columns.collect::<Result<_, _>>()?, &pairs.matches.finish(), table)?;
        out.push(0, rest.batch.with_rows(rows));
        self.rest = (!rest.is_over()).then_some(rest);
        Ok(())
    }
}

/// What is left of a batch whose rows leave once for each of their matches.
struct Rest {
    batch: Batch,
    /// The first match of each row.
    first: UInt32Array,
    /// The row that is next, and its match that is.
    row: usize,
    matched: Option<u32>,
}

impl Rest {
    fn new(batch: Batch, first: UInt32Array) -> Self {
        let mut rest = Self { batch, first, row: 0, matched: None };
        rest.matched = rest.first_of(0);
        rest
    }

    fn first_of(&self, row: usize) -> Option<u32> {
        (row < self.first.len() && self.first.is_valid(row)).then(|| self.first.value(row))
    }

    fn is_over(&self) -> bool {
        self.row == self.first.len()
    }

    fn advance(&mut self, table: &Table) {
        self.matched = self.matched.and_then(|matched| table.lookup.next(matched));
        if self.matched.is_none() {
            self.row += 1;
            self.matched = self.first_of(self.row);
        }
    }
}

/// Rows of the stream and their matches.
#[derive(Default)]
struct Pairs {
    rows: Vec<u32>,
    matches: UInt32Builder,
}

impl Pairs {
    fn push(&mut self, row: usize, matched: Option<u32>) {
        self.rows.push(row as u32);
        self.matches.append_option(matched);
    }
}
