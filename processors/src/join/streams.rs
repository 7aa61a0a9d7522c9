//! `join` with `within`: both sides are streams, whose rows meet if their event times are near.

mod side;
mod state;

use std::ops::Range;
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch};
use arrow::compute::{cast, filter_record_batch, interleave, not};
use arrow::datatypes::{DataType, SchemaRef, TimestampMicrosecondType};
use arrow::row::{RowConverter, Rows, SortField};
use millstream_core::{
    Batch, Collector, EventTime, Origin, Parts, Processor, Result, Snapshot, State, canonical_floats, refuse_timeless,
};

use self::side::{Place, Row, Side};
use super::JoinKind;
use crate::rows::BATCH_ROWS;

/// The output ports.
const MAIN_PORT: usize = 0;
const LATE_PORT: usize = 1;
const LATE_WITH_PORT: usize = 2;

/// What the sides are called in the state.
const SIDES: [&str; 2] = ["from", "with"];

/// Which rows meet and leave, and when.
pub struct Rules {
    pub kind: JoinKind,
    pub within: i64,
    /// How many rows of each side are kept at most.
    pub max_rows: usize,
    /// Whether a row of the left side meets the first of the right only.
    pub only_first: bool,
    /// Whether rows leave when none can come any more that they could meet, instead of at once.
    pub at_expiry: bool,
    /// By column that is added, what stands there in rows without a match: one value each.
    pub otherwise: Vec<ArrayRef>,
}

/// A join of two streams.
pub struct Streams {
    rules: Rules,
    schema: SchemaRef,
    converter: Arc<RowConverter>,
    types: Vec<DataType>,
    sides: [Side; 2],
    watermark: EventTime,
    /// Of the last rows of the left side.
    origin: Option<Origin>,
    /// What is left of the rows that have come last.
    rest: Option<Rest>,
    /// What is to leave.
    pairs: Pairs,
    /// How many rows were looked at because others came.
    #[cfg(test)]
    looked_at: usize,
}

/// Rows that have come, in time, and have not met the others yet.
struct Rest {
    port: usize,
    batch: Batch,
    keys: Rows,
    has_null: BooleanArray,
    /// The number of the first of them.
    first: u64,
    /// The one that is next.
    row: usize,
}

/// Rows on their way out: one of the left side, and one of the right or none.
#[derive(Default)]
struct Pairs {
    left: Vec<Row>,
    right: Vec<Option<Row>>,
    /// How many of them have left.
    sent: usize,
}

/// One side of a join as it is planned: key columns, time column, columns that come out.
pub type PlannedSide = (Vec<usize>, usize, Vec<usize>);

impl Streams {
    pub fn new(rules: Rules, schema: SchemaRef, types: Vec<DataType>, sides: [PlannedSide; 2]) -> Result<Self> {
        let converter = RowConverter::new(types.iter().cloned().map(SortField::new).collect())?;
        let [left, right] = sides;
        let side = |name, (keys, time, taken)| Side::new(name, keys, time, taken);
        let sides = [side(SIDES[0], left), side(SIDES[1], right)];
        let (converter, watermark) = (Arc::new(converter), EventTime::MIN);
        Ok(Self {
            rules,
            schema,
            converter,
            types,
            sides,
            watermark,
            origin: None,
            rest: None,
            pairs: Pairs::default(),
            #[cfg(test)]
            looked_at: 0,
        })
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

    /// Lets rows meet until enough has come of it for a piece, and pushes that.
    fn advance(&mut self, out: &mut Collector) -> Result<()> {
        if let Some(mut rest) = self.rest.take() {
            while rest.row < rest.batch.len() && self.pairs.len() < BATCH_ROWS {
                self.meet_next(&rest, out)?;
                rest.row += 1;
            }
            if rest.row < rest.batch.len() { self.rest = Some(rest) } else { self.sides[rest.port].release(rest.first) }
        }
        self.push(out)
    }

    /// Lets the next row meet those of the other side, and keeps it for those that are yet to come.
    fn meet_next(&mut self, rest: &Rest, out: &mut Collector) -> Result<()> {
        let Rest { port, batch, first, row, .. } = rest;
        let (port, place) = (*port, (*first, *row as u32));
        let time = batch.rows.column(self.sides[port].time).as_primitive::<TimestampMicrosecondType>().value(*row);
        // Null meets nothing, but a row with it may still leave as one without a match.
        let can_meet = !rest.has_null.value(*row);
        if !can_meet && (port == 1 || matches!(self.rules.kind, JoinKind::Inner | JoinKind::Semi)) {
            return Ok(());
        }
        if self.sides[port].rows >= self.rules.max_rows {
            let why = format!("{} rows of this side are kept already (`max_rows`)", self.rules.max_rows);
            return out.fail_row(batch, *row, why);
        }
        let Some(this) = self.sides[port].row(place) else { return Ok(()) };
        let key = rest.keys.row(*row);
        let matched = can_meet && !self.rules.at_expiry && self.meet(port, key.data(), time, this);
        // One that has a match is done with where it matters only whether there is one, or which is the first.
        if port == 1 || !matched || self.rules.kind.adds_columns() && !self.rules.only_first {
            let key: &[u8] = if can_meet { key.data() } else { NO_KEY };
            let slot = self.sides[port].keep(key, time, place, matched);
            self.sides[port].chunks.changed(slot);
        }
        Ok(())
    }

    /// Lets a row meet those of the other side. Whether it met any.
    fn meet(&mut self, port: usize, key: &[u8], time: EventTime, row: Row) -> bool {
        let other = &self.sides[1 - port];
        let near = other.near(key, time, self.rules.within);
        if near.is_empty() {
            return false;
        }
        match (self.rules.kind, port) {
            (JoinKind::Left | JoinKind::Inner, 0) if self.rules.only_first => {
                let first = other.first_near(key, near);
                self.pairs.push(row, first);
            }
            (JoinKind::Left | JoinKind::Inner, _) if self.rules.only_first => {
                let met = self.sides[0].take(key, near);
                met.into_iter().for_each(|left| self.pairs.push(left, Some(row.clone())));
            }
            (JoinKind::Left | JoinKind::Inner, _) => self.meet_each(port, key, near, &row),
            (JoinKind::Semi, 0) => self.pairs.push(row, None),
            (JoinKind::Anti, 0) => {}
            (JoinKind::Semi | JoinKind::Anti, _) => {
                self.look_at(near.len());
                let met = self.sides[0].take(key, near);
                if self.rules.kind == JoinKind::Semi {
                    met.into_iter().for_each(|row| self.pairs.push(row, None));
                }
            }
        }
        true
    }

    /// Makes a pair of a row and each of those that are near, in the order in which these came.
    fn meet_each(&mut self, port: usize, key: &[u8], near: Range<usize>, row: &Row) {
        self.look_at(near.len());
        if port == 1 && self.rules.kind == JoinKind::Left {
            // The others leave with a match, or not at all.
            self.sides[0].note_matched(key, near.clone());
        }
        let Side { by_key, batches, .. } = &self.sides[1 - port];
        let Some(entries) = by_key.get(key) else { return };
        let pairs = &mut self.pairs;
        let mut pair = |place: Place| {
            let Some(held) = batches.get(&place.0) else { return };
            let there = (held.columns.clone(), place.1 as usize);
            match port {
                0 => pairs.push(row.clone(), Some(there)),
                _ => pairs.push(there, Some(row.clone())),
            }
        };
        let places = || entries.range(near.clone()).map(|entry| entry.place);
        // Rows mostly come in the order of their times.
        if places().is_sorted() {
            return places().for_each(pair);
        }
        let mut places: Vec<Place> = places().collect();
        places.sort_unstable();
        places.into_iter().for_each(&mut pair);
    }

    /// Counts for tests how much work it is.
    fn look_at(&mut self, _rows: usize) {
        #[cfg(test)]
        {
            self.looked_at += _rows;
        }
    }

    /// Pushes a piece of what is to leave.
    fn push(&mut self, out: &mut Collector) -> Result<()> {
        let (left, right) = self.pairs.next();
        let (Some(origin), false) = (&self.origin, left.is_empty()) else { return Ok(()) };
        let mut columns = gather(&left.iter().map(Some).collect::<Vec<_>>(), self.sides[0].taken.len(), None)?;
        let otherwise = &self.rules.otherwise[..];
        let right: Vec<_> = right.iter().map(Option::as_ref).collect();
        columns.extend(gather(&right, otherwise.len(), Some(otherwise))?);
        let rows = RecordBatch::try_new(self.schema.clone(), columns)?;
        out.push(MAIN_PORT, Batch::new(rows, origin.clone()));
        self.pairs.drop_sent();
        Ok(())
    }
}

impl Pairs {
    fn push(&mut self, left: Row, right: Option<Row>) {
        self.left.push(left);
        self.right.push(right);
    }

    /// How many are to leave.
    fn len(&self) -> usize {
        self.left.len() - self.sent
    }

    /// The next ones to leave, as many as make a piece at most.
    fn next(&mut self) -> (&[Row], &[Option<Row>]) {
        let start = self.sent;
        self.sent = self.left.len().min(start + BATCH_ROWS);
        (&self.left[start..self.sent], &self.right[start..self.sent])
    }

    /// Forgets those that have left, when all have.
    fn drop_sent(&mut self) {
        if self.len() == 0 {
            *self = Self::default();
        }
    }
}

/// Puts columns together from rows of several batches; `otherwise` stands where there is no row.
fn gather(rows: &[Option<&Row>], count: usize, otherwise: Option<&[ArrayRef]>) -> Result<Vec<ArrayRef>> {
    let mut columns = Vec::with_capacity(count);
    for column in 0..count {
        let mut sources: Vec<&dyn Array> = Vec::new();
        let mut places = Vec::with_capacity(rows.len());
        for row in rows {
            let (source, place) = match (row, otherwise) {
                (Some((columns, place)), _) => (columns[column].as_ref(), *place),
                (None, Some(otherwise)) => (otherwise[column].as_ref(), 0),
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
        let first = self.sides[port].hold(taken.into(), rows.num_rows());
        self.rest = Some(Rest { port, batch: batch.with_rows(rows), keys, has_null, first, row: 0 });
        self.advance(out)
    }

    fn more(&mut self, out: &mut Collector) -> Result<bool> {
        let is_more = self.rest.is_some() || self.pairs.len() > 0;
        self.advance(out)?;
        Ok(is_more)
    }

    fn watermark(&mut self, at: EventTime, out: &mut Collector) -> Result<EventTime> {
        self.watermark = at;
        self.forget(at, out)?;
        // A row may leave when the last one has come that it could meet.
        Ok(at.saturating_sub(self.rules.within))
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
        let Rules { kind, within, only_first, at_expiry, .. } = self.rules;
        let leaves = matches!(kind, JoinKind::Left | JoinKind::Anti);
        let ([from, with], pairs) = (&mut self.sides, &mut self.pairs);
        from.forget(watermark, within, |key, time, row| {
            let near = if at_expiry { with.near(key, time, within) } else { 0..0 };
            match near.is_empty() {
                true if leaves => pairs.push(row, None),
                true => {}
                false if only_first => pairs.push(row, with.first_near(key, near)),
                false => with.rows_near(key, near).into_iter().for_each(|other| pairs.push(row.clone(), Some(other))),
            }
        });
        // A row that leaves at its expiry may meet one whose time is as far before its own.
        let kept = if at_expiry { within.saturating_mul(2) } else { within };
        with.forget(watermark, kept, |_, _, _| {});
        self.push(out)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
