//! What a join of two streams keeps beyond a crash: the rows of both sides that something may still meet.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{
    ArrayRef, BooleanArray, Int64Array, LargeBinaryArray, RecordBatch, TimestampMicrosecondArray, new_null_array,
};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType};
use arrow::row::RowConverter;
use millstream_core::{Chunks, Error, Parts, Result, State, timeless};

use super::side::{Held, Kept, Row, Side};
use super::{NO_KEY, SIDES, Streams, gather};

/// The columns behind those that come out and those of the key: event time, whether the row has met another one, its number.
const OWN: [(&str, DataType); 3] = [
    ("time", DataType::Timestamp(TimeUnit::Microsecond, None)),
    ("matched", DataType::Boolean),
    ("number", DataType::Int64),
];

impl Streams {
    /// What goes into a state.
    pub fn save(&mut self, parts: &mut Parts) -> Result<()> {
        parts.put("watermark", &self.watermark)?;
        parts.put("origin", &self.origin)?;
        let nulls: Vec<_> = self.types.iter().map(|data_type| new_null_array(data_type, 1)).collect();
        let no_key: Arc<[u8]> = self.converter.convert_columns(&nulls)?.row(0).data().into();
        for port in 0..SIDES.len() {
            let (schema, converter) = (self.kept_schema(port, OWN.len()), self.converter.clone());
            let Side { chunks, kept, batches, taken, .. } = &mut self.sides[port];
            let bytes = |slot: u32| {
                let Kept { key, place, .. } = &kept[slot as usize];
                batches.get(&place.0).map_or(0, |held| row_bytes(&held.columns, place.1 as usize)) + key.len()
            };
            chunks.put(parts, &schema, bytes, |slots| {
                let copied = Copied::new(slots.iter().map(|slot| &kept[*slot as usize]), batches, taken.len(), &no_key);
                let (schema, converter) = (schema.clone(), converter.clone());
                move || copied.batch(schema, &converter)
            })?;
        }
        Ok(())
    }

    /// Takes in what [`Self::save`] has kept.
    pub fn load(&mut self, state: &State) -> Result<()> {
        self.watermark = state.get("watermark")?;
        self.origin = state.get("origin")?;
        for (port, name) in SIDES.into_iter().enumerate() {
            // In format 3 they were in one piece, as they had come.
            if state.has(name) {
                let rows = state.arrived_rows(name, &self.kept_schema(port, 2), self.types.len() + 2)?;
                rows.iter().try_for_each(|rows| self.take_in(port, rows, None))?;
                continue;
            }
            let (schema, own) = (self.kept_schema(port, OWN.len()), self.types.len() + OWN.len());
            let number = schema.fields().len() - 1;
            let mut chunks = Chunks::new(name);
            chunks.load(state, &schema, Some(own), &[number], |rows| {
                let numbers = rows.column(number).as_primitive::<Int64Type>().values();
                let numbers = numbers.iter().map(|number| u64::try_from(*number)).collect::<Result<_, _>>();
                let numbers = numbers.map_err(|_| wrong_numbers(name))?;
                self.take_in(port, &rows, Some(numbers))
            })?;
            self.sides[port].chunks = chunks;
        }
        Ok(())
    }

    /// The columns that come out, those of the key, and the first of [`OWN`].
    fn kept_schema(&self, port: usize, own: usize) -> SchemaRef {
        let (left, right) = self.schema.fields().split_at(self.sides[0].taken.len());
        let taken = [left, right][port].iter().map(|field| field.as_ref().clone());
        let keys = self.types.iter().map(|data_type| Field::new("key", data_type.clone(), true));
        let own = OWN.into_iter().take(own).map(|(name, data_type)| Field::new(name, data_type, false));
        Arc::new(Schema::new(taken.chain(keys).chain(own).collect::<Vec<_>>()))
    }

    /// Takes in rows that were kept: with their numbers, in whose order they are, or without, if they are numbered anew.
    fn take_in(&mut self, port: usize, rows: &RecordBatch, numbers: Option<Vec<u64>>) -> Result<()> {
        let (taken, others) = rows.columns().split_at(self.sides[port].taken.len());
        let (keys, [times, matched, ..]) = others.split_at(self.types.len()) else { return Ok(()) };
        if timeless(rows, taken.len() + keys.len()).is_some() {
            return Err(Error::new(format!("the state has rows of `{}` without an event time", SIDES[port])));
        }
        let (times, matched) = (times.as_primitive::<TimestampMicrosecondType>(), matched.as_boolean());
        let (keys, has_null) = self.keys(keys)?;
        let (side, is_new) = (&mut self.sides[port], numbers.is_none());
        let first = match numbers {
            Some(numbers) => side.hold_numbered(taken.into(), numbers).ok_or_else(|| wrong_numbers(SIDES[port]))?,
            None => side.hold(taken.into(), rows.num_rows()),
        };
        for row in 0..rows.num_rows() {
            // Earlier builds kept rows that were done with.
            if is_new && port == 0 && matched.value(row) && !self.rules.kind.adds_columns() {
                continue;
            }
            let key = keys.row(row);
            let key = if has_null.value(row) { NO_KEY } else { key.data() };
            let slot = side.keep(key, times.value(row), (first, row as u32), matched.value(row));
            if is_new {
                side.chunks.changed(slot);
            }
        }
        side.release(first);
        Ok(())
    }
}

/// How many bytes a row takes, about.
fn row_bytes(columns: &[ArrayRef], row: usize) -> usize {
    let bytes = |column: &ArrayRef| match column.data_type() {
        DataType::Utf8 => column.as_string::<i32>().value_length(row) as usize,
        DataType::Binary => column.as_binary::<i32>().value_length(row) as usize,
        other => other.primitive_width().unwrap_or(size_of::<i128>()),
    };
    OWN.len() * size_of::<i64>() + columns.iter().map(bytes).sum::<usize>()
}

fn wrong_numbers(side: &str) -> Error {
    Error::new(format!("the state has rows of `{side}` with numbers that do not ascend"))
}

/// Some rows of one side on their way into the state.
struct Copied {
    rows: Vec<Row>,
    /// How many columns come out.
    taken: usize,
    keys: LargeBinaryArray,
    times: TimestampMicrosecondArray,
    matched: BooleanArray,
    numbers: Int64Array,
}

impl Copied {
    /// Those with null in their key have the key `no_key`.
    fn new<'a>(
        kept: impl Iterator<Item = &'a Kept> + Clone,
        batches: &BTreeMap<u64, Held>,
        taken: usize,
        no_key: &'a [u8],
    ) -> Self {
        let key = |row: &'a Kept| if *row.key == *NO_KEY { no_key } else { &row.key };
        let held = kept.clone().filter_map(|kept| Some((kept.place, batches.get(&kept.place.0)?)));
        Self {
            rows: held.clone().map(|((_, row), held)| (held.columns.clone(), row as usize)).collect(),
            taken,
            keys: LargeBinaryArray::from_iter_values(kept.clone().map(key)),
            times: TimestampMicrosecondArray::from_iter_values(kept.clone().map(|row| row.time)),
            matched: kept.map(|row| Some(row.matched)).collect(),
            numbers: Int64Array::from_iter_values(held.map(|((first, row), held)| held.number(first, row) as i64)),
        }
    }

    fn batch(self, schema: SchemaRef, converter: &RowConverter) -> Result<RecordBatch> {
        let mut columns = gather(&self.rows.iter().map(Some).collect::<Vec<_>>(), self.taken, None)?;
        let parser = converter.parser();
        columns.extend(converter.convert_rows(self.keys.iter().flatten().map(|key| parser.parse(key)))?);
        columns.extend([Arc::new(self.times) as ArrayRef, Arc::new(self.matched), Arc::new(self.numbers)]);
        Ok(RecordBatch::try_new(schema, columns)?)
    }
}
