//! `join` with `within`: both sides are streams, whose rows meet if their event times are near.

mod state;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, new_null_array};
use arrow::compute::{cast, filter_record_batch, interleave, not};
use arrow::datatypes::{DataType, SchemaRef, TimestampMicrosecondType};
use arrow::row::{RowConverter, Rows, SortField};
use foldhash::fast::RandomState;
use millstream_core::{
    Batch, Collector, EventTime, Origin, Parts, Processor, Result, Snapshot, State, canonical_floats, refuse_timeless,
};

use super::JoinKind;
use crate::rows::BATCH_ROWS;

/// The output ports.
const MAIN_PORT: usize = 0;
const LATE_PORT: usize = 1;
const LATE_WITH_PORT: usize = 2;

/// A join of two streams.
pub struct Streams {
    kind: JoinKind,
    within: i64,
    max_rows: usize,
    schema: SchemaRef,
    converter: Arc<RowConverter>,
    types: Vec<DataType>,
    sides: [Side; 2],
    watermark: EventTime,
    /// Of the last rows of the left side.
    origin: Option<Origin>,
}

/// What one side keeps.
struct Side {
    /// The columns of the key.
    keys: Vec<usize>,
    time: usize,
    /// The columns that come out.
    taken: Vec<usize>,
    batches: BTreeMap<u64, Held>,
    by_key: HashMap<Box<[u8]>, Vec<Entry>, RandomState>,
    /// When rows can be forgotten, in the order in which those of the same time came.
    expiry: BinaryHeap<Reverse<Expiry>>,
    rows: usize,
    next: u64,
}

/// The columns of a batch that come out, and how many of its rows are still kept.
struct Held {
    columns: Arc<[ArrayRef]>,
    rows: usize,
}

/// The columns of a batch, and a place in them.
type Row = (Arc<[ArrayRef]>, usize);

/// Where a row is: the number of its batch, and its place there.
type Place = (u64, usize);

/// The time behind which a row can be forgotten, the row, and its key.
type Expiry = (EventTime, Place, Box<[u8]>);

#[derive(Clone, Copy)]
struct Entry {
    time: EventTime,
    place: Place,
    matched: bool,
}

/// Rows on their way out: one of the left side, and one of the right or none.
#[derive(Default)]
struct Pairs {
    left: Vec<Row>,
    right: Vec<Option<Row>>,
}

impl Side {
    pub fn new(keys: Vec<usize>, time: usize, taken: Vec<usize>) -> Self {
        Self {
            keys,
            time,
            taken,
            batches: BTreeMap::new(),
            by_key: HashMap::default(),
            expiry: BinaryHeap::new(),
            rows: 0,
            next: 0,
        }
    }

    /// Keeps the columns of a batch that come out, for its rows that are going to be kept.
    fn hold(&mut self, columns: Arc<[ArrayRef]>) -> u64 {
        self.next += 1;
        self.batches.insert(self.next, Held { columns, rows: 0 });
        self.next
    }

    /// Keeps a row until the watermark is more than `within` behind it.
    fn keep(&mut self, key: &[u8], entry: Entry, within: i64) {
        self.rows += 1;
        if let Some(held) = self.batches.get_mut(&entry.place.0) {
            held.rows += 1;
        }
        self.expiry.push(Reverse((entry.time.saturating_add(within), entry.place, key.into())));
        match self.by_key.get_mut(key) {
            Some(entries) => entries.push(entry),
            None => _ = self.by_key.insert(key.into(), vec![entry]),
        }
    }

    /// The columns of a row, and its place in them.
    fn row(&self, place: Place) -> Option<Row> {
        self.batches.get(&place.0).map(|held| (held.columns.clone(), place.1))
    }

    fn release(&mut self, batch: u64) {
        if let Some(held) = self.batches.get_mut(&batch)
            && held.rows == 0
        {
            self.batches.remove(&batch);
        }
    }

    /// Forgets the rows that nothing can meet any more. Those of them that have met none go to `unmatched`.
    fn forget(&mut self, watermark: EventTime, mut unmatched: impl FnMut(Row)) {
        while self.expiry.peek().is_some_and(|Reverse((until, ..))| *until < watermark) {
            let Some(Reverse((_, place, key))) = self.expiry.pop() else { break };
            let Some(entries) = self.by_key.get_mut(&key) else { continue };
            let Some(at) = entries.iter().position(|entry| entry.place == place) else { continue };
            let entry = entries.remove(at);
            if entries.is_empty() {
                self.by_key.remove(&key);
            }
            if !entry.matched
                && let Some(row) = self.row(place)
            {
                unmatched(row);
            }
            self.rows -= 1;
            if let Some(held) = self.batches.get_mut(&place.0) {
                held.rows -= 1;
            }
            self.release(place.0);
        }
    }
}

/// One side of a join as it is planned: key columns, time column, columns that come out.
pub type PlannedSide = (Vec<usize>, usize, Vec<usize>);

impl Streams {
    pub fn new(
        kind: JoinKind,
        within: i64,
        max_rows: usize,
        schema: SchemaRef,
        types: Vec<DataType>,
        sides: [PlannedSide; 2],
    ) -> Result<Self> {
        let converter = RowConverter::new(types.iter().cloned().map(SortField::new).collect())?;
        let sides = sides.map(|(keys, time, taken)| Side::new(keys, time, taken));
        let (converter, watermark) = (Arc::new(converter), EventTime::MIN);
        Ok(Self { kind, within, max_rows, schema, converter, types, sides, watermark, origin: None })
    }

    /// The keys of rows from their key columns, and which rows have none because a part of it is null.
    fn keys(&self, columns: &[ArrayRef]) -> Result<(Rows, BooleanArray)> {
        let mut has_null = vec![false; columns.first().map_or(0, |column| column.len())];
        let mut comparable = Vec::with_capacity(self.types.len());
        for (column, data_type) in columns.iter().zip(&self.types) {
            let column = cast(column, data_type)?;
            (0..column.len()).filter(|row| column.is_null(*row)).for_each(|row| has_null[row] = true);
            comparable.push(canonical_floats(&column));
        }
        Ok((self.converter.convert_columns(&comparable)?, has_null.into()))
    }

    fn set_late_aside(&self, port: usize, batch: &Batch, out: &mut Collector) -> Result<RecordBatch> {
        let times = batch.rows.column(self.sides[port].time).as_primitive::<TimestampMicrosecondType>().values();
        let late: BooleanArray = times.iter().map(|time| Some(*time < self.watermark)).collect();
        if late.true_count() == 0 {
            return Ok(batch.rows.clone());
        }
        let late_port = if port == 0 { LATE_PORT } else { LATE_WITH_PORT };
        out.push(late_port, batch.with_rows(filter_record_batch(&batch.rows, &late)?));
        Ok(filter_record_batch(&batch.rows, &not(&late)?)?)
    }

    /// Lets a row meet those of the other side. Whether it met any.
    fn meet(&mut self, port: usize, key: &[u8], time: EventTime, row: &Row, pairs: &mut Pairs) -> bool {
        let (within, kind) = (self.within, self.kind);
        let [left, right] = &mut self.sides;
        let other = if port == 0 { right } else { left };
        let Side { by_key, batches, .. } = other;
        let Some(entries) = by_key.get_mut(key) else { return false };
        let mut met = false;
        for entry in entries.iter_mut().filter(|entry| (entry.time - time).abs() <= within) {
            let Some(held) = batches.get(&entry.place.0) else { continue };
            let there = || (held.columns.clone(), entry.place.1);
            match (kind, port) {
                (JoinKind::Left | JoinKind::Inner, 0) => pairs.push(row.clone(), Some(there())),
                (JoinKind::Left | JoinKind::Inner, _) => pairs.push(there(), Some(row.clone())),
                (JoinKind::Semi, 0) if !met => pairs.push(row.clone(), None),
                (JoinKind::Semi, 1) if !entry.matched => pairs.push(there(), None),
                (JoinKind::Semi | JoinKind::Anti, _) => {}
            }
            entry.matched = true;
            met = true;
        }
        met
    }

    fn push(&self, pairs: Pairs, out: &mut Collector) -> Result<()> {
        let Some(origin) = &self.origin else { return Ok(()) };
        let (mut left, mut right) = (pairs.left.as_slice(), pairs.right.as_slice());
        while !left.is_empty() {
            let count = left.len().min(BATCH_ROWS);
            let mut columns =
                gather(&left[..count].iter().map(Some).collect::<Vec<_>>(), self.sides[0].taken.len(), None)?;
            let types = &self.schema.fields()[columns.len()..];
            let nulls: Vec<ArrayRef> = types.iter().map(|field| new_null_array(field.data_type(), 1)).collect();
            columns.extend(gather(
                &right[..count].iter().map(Option::as_ref).collect::<Vec<_>>(),
                nulls.len(),
                Some(&nulls),
            )?);
            let rows = RecordBatch::try_new(self.schema.clone(), columns)?;
            out.push(MAIN_PORT, Batch::new(rows, origin.clone()));
            (left, right) = (&left[count..], &right[count..]);
        }
        Ok(())
    }
}

impl Pairs {
    fn push(&mut self, left: Row, right: Option<Row>) {
        self.left.push(left);
        self.right.push(right);
    }
}

/// Puts columns together from rows of several batches; `nulls` stand where there is no row.
fn gather(rows: &[Option<&Row>], count: usize, nulls: Option<&[ArrayRef]>) -> Result<Vec<ArrayRef>> {
    let mut columns = Vec::with_capacity(count);
    for column in 0..count {
        let mut sources: Vec<&dyn Array> = Vec::new();
        let mut places = Vec::with_capacity(rows.len());
        for row in rows {
            let (source, place) = match (row, nulls) {
                (Some((columns, place)), _) => (columns[column].as_ref(), *place),
                (None, Some(nulls)) => (nulls[column].as_ref(), 0),
                (None, None) => continue,
            };
            // Rows of one batch mostly follow each other.
            if !sources.last().is_some_and(|last| std::ptr::addr_eq(*last, source)) {
                sources.push(source);
            }
            places.push((sources.len() - 1, place));
        }
        columns.push(interleave(&sources, &places)?);
    }
    Ok(columns)
}

impl Processor for Streams {
    fn process(&mut self, port: usize, batch: Batch, out: &mut Collector) -> Result<()> {
        if port == 0 {
            self.origin = Some(batch.origin.clone());
        }
        let batch = refuse_timeless(batch, self.sides[port].time, out)?;
        let rows = self.set_late_aside(port, &batch, out)?;
        let (keys, has_null) = self.keys(&project(&rows, &self.sides[port].keys))?;
        let taken = project(&rows, &self.sides[port].taken);
        let number = self.sides[port].hold(taken.into());
        let mut pairs = Pairs::default();
        for row in 0..rows.num_rows() {
            let times = rows.column(self.sides[port].time).as_primitive::<TimestampMicrosecondType>();
            let (time, place) = (times.value(row), (number, row));
            // Null meets nothing, but a row with it may still leave as one without a match.
            let can_meet = !has_null.value(row);
            if !can_meet && (port == 1 || matches!(self.kind, JoinKind::Inner | JoinKind::Semi)) {
                continue;
            }
            if self.sides[port].rows >= self.max_rows {
                let why = format!("{} rows of this side are kept already (`max_rows`)", self.max_rows);
                out.fail_row(&batch.with_rows(rows.clone()), row, why)?;
                continue;
            }
            let Some(this) = self.sides[port].row(place) else { continue };
            let key = keys.row(row);
            let matched = can_meet && self.meet(port, key.data(), time, &this, &mut pairs);
            let key: &[u8] = if can_meet { key.data() } else { NO_KEY };
            self.sides[port].keep(key, Entry { time, place, matched }, self.within);
        }
        self.sides[port].release(number);
        self.push(pairs, out)
    }

    fn watermark(&mut self, at: EventTime, out: &mut Collector) -> Result<EventTime> {
        self.watermark = at;
        self.forget(at, out)?;
        // A row may leave when the last one has come that it could meet.
        Ok(at.saturating_sub(self.within))
    }

    fn finish(&mut self, out: &mut Collector) -> Result<()> {
        self.forget(EventTime::MAX, out)
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        let mut parts = Parts::default();
        self.save(&mut parts)?;
        Ok(Snapshot::of(parts))
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        self.load(state)
    }
}

fn project(rows: &RecordBatch, columns: &[usize]) -> Vec<ArrayRef> {
    columns.iter().map(|column| rows.column(*column).clone()).collect()
}

/// Stands for keys with a null in them. No other key is this: each begins with a byte for each of its values.
const NO_KEY: &[u8] = b"";

impl Streams {
    fn forget(&mut self, watermark: EventTime, out: &mut Collector) -> Result<()> {
        let mut pairs = Pairs::default();
        let leaves = matches!(self.kind, JoinKind::Left | JoinKind::Anti);
        self.sides[0].forget(watermark, |row| {
            if leaves {
                pairs.push(row, None);
            }
        });
        self.sides[1].forget(watermark, |_| {});
        self.push(pairs, out)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "streams_tests.rs"]
mod tests;
