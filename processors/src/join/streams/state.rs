//! What a join of two streams keeps beyond a crash: the rows of both sides that something may still meet.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{
    ArrayRef, BooleanArray, LargeBinaryArray, LargeBinaryBuilder, RecordBatch, TimestampMicrosecondArray,
    new_null_array,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType};
use arrow::row::RowConverter;
use millstream_core::{Error, Parts, Result, State, timeless};

use super::side::{Entry, Place, Row};
use super::{NO_KEY, Streams, gather};
use crate::rows::BATCH_ROWS;

/// The names of the sides.
const SIDES: [&str; 2] = ["from", "with"];

impl Streams {
    /// What goes into a state.
    pub fn save(&self, parts: &mut Parts) -> Result<()> {
        parts.put("watermark", &self.watermark)?;
        parts.put("origin", &self.origin)?;
        for (port, name) in SIDES.into_iter().enumerate() {
            let kept = self.kept(port)?;
            parts.put_rows_later(name, kept.schema.clone(), move || kept.rows());
        }
        Ok(())
    }

    /// Takes in what [`Self::save`] has kept.
    pub fn load(&mut self, state: &State) -> Result<()> {
        self.watermark = state.get("watermark")?;
        self.origin = state.get("origin")?;
        for (port, name) in SIDES.into_iter().enumerate() {
            let rows = state.arrived_rows(name, &self.kept_schema(port), self.types.len() + 2)?;
            rows.iter().try_for_each(|rows| self.take_in(port, rows))?;
        }
        Ok(())
    }

    /// The columns that come out, those of the key, the event time, and whether the row has met another one.
    fn kept_schema(&self, port: usize) -> SchemaRef {
        let (left, right) = self.schema.fields().split_at(self.sides[0].taken.len());
        let taken = [left, right][port].iter().map(|field| field.as_ref().clone());
        let keys = self.types.iter().map(|data_type| Field::new("key", data_type.clone(), true));
        let time = Field::new("time", DataType::Timestamp(TimeUnit::Microsecond, None), false);
        let matched = Field::new("matched", DataType::Boolean, false);
        Arc::new(Schema::new(taken.chain(keys).chain([time, matched]).collect::<Vec<_>>()))
    }

    fn kept(&self, port: usize) -> Result<Kept> {
        let side = &self.sides[port];
        let (mut entries, mut keys) = (Vec::with_capacity(side.rows), LargeBinaryBuilder::new());
        for (key, of_key) in &side.by_key {
            entries.extend(of_key);
            of_key.iter().for_each(|_| keys.append_value(key));
        }
        let nulls: Vec<_> = self.types.iter().map(|data_type| new_null_array(data_type, 1)).collect();
        Ok(Kept {
            schema: self.kept_schema(port),
            converter: self.converter.clone(),
            no_key: self.converter.convert_columns(&nulls)?.row(0).data().into(),
            taken: side.taken.len(),
            batches: side.batches.iter().map(|(number, held)| (*number, held.columns.clone())).collect(),
            entries,
            keys: keys.finish(),
        })
    }

    fn take_in(&mut self, port: usize, rows: &RecordBatch) -> Result<()> {
        let (taken, others) = rows.columns().split_at(self.sides[port].taken.len());
        let (keys, [times, matched]) = others.split_at(self.types.len()) else { return Ok(()) };
        if timeless(rows, rows.num_columns() - 2).is_some() {
            return Err(Error::new(format!("the state has rows of `{}` without an event time", SIDES[port])));
        }
        let (times, matched) = (times.as_primitive::<TimestampMicrosecondType>(), matched.as_boolean());
        let (keys, has_null) = self.keys(keys)?;
        let number = self.sides[port].hold(taken.into());
        for row in 0..rows.num_rows() {
            // Earlier builds kept rows that were done with.
            if port == 0 && matched.value(row) && !self.kind.adds_columns() {
                continue;
            }
            let key = keys.row(row);
            let key = if has_null.value(row) { NO_KEY } else { key.data() };
            let entry = Entry { time: times.value(row), place: (number, row), matched: matched.value(row) };
            self.sides[port].keep(key, entry);
        }
        self.sides[port].release(number);
        Ok(())
    }
}

/// The rows of one side, copied as they lay there.
struct Kept {
    schema: SchemaRef,
    converter: Arc<RowConverter>,
    /// The key of nulls.
    no_key: Box<[u8]>,
    /// How many columns come out.
    taken: usize,
    batches: BTreeMap<u64, Arc<[ArrayRef]>>,
    entries: Vec<Entry>,
    /// The key of each entry.
    keys: LargeBinaryArray,
}

impl Kept {
    /// The rows as they came.
    fn rows(self) -> Result<Vec<RecordBatch>> {
        let mut order: Vec<usize> = (0..self.entries.len()).collect();
        order.sort_unstable_by_key(|number| self.entries[*number].place);
        order.chunks(BATCH_ROWS).map(|numbers| self.batch(numbers)).collect()
    }

    fn batch(&self, numbers: &[usize]) -> Result<RecordBatch> {
        let entries = numbers.iter().map(|number| self.entries[*number]);
        let rows: Vec<Row> = entries.clone().filter_map(|entry| self.row(entry.place)).collect();
        let mut columns = gather(&rows.iter().map(Some).collect::<Vec<_>>(), self.taken, None)?;
        let parser = self.converter.parser();
        let key = |number: &usize| match self.keys.value(*number) {
            NO_KEY => &self.no_key,
            key => key,
        };
        columns.extend(self.converter.convert_rows(numbers.iter().map(|number| parser.parse(key(number))))?);
        let times: TimestampMicrosecondArray = entries.clone().map(|entry| Some(entry.time)).collect();
        let matched: BooleanArray = entries.map(|entry| Some(entry.matched)).collect();
        columns.extend([Arc::new(times) as ArrayRef, Arc::new(matched)]);
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }

    fn row(&self, place: Place) -> Option<Row> {
        self.batches.get(&place.0).map(|columns| (columns.clone(), place.1))
    }
}
