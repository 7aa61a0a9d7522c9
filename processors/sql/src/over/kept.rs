//! What `over` keeps beyond a crash: the remembered rows, in chunks.

use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{ArrayRef, Int64Array, LargeBinaryArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow::row::RowConverter;
use millstream_core::{Chunks, Error, Parts, Result, State};

use super::counting::Counting;
use super::feature::Feature;
use super::history::{History, Key, Place};
use super::segments::Held;
use crate::accumulate::aggregate::Fed;

/// What the state calls the rows.
const ROWS: &str = "rows";

/// Where the remembered rows lie in the state. Each has a slot.
pub struct Kept {
    /// By slot: the key of the row, and its number among all. A free slot has no key.
    rows: Vec<(Key, u64)>,
    free: Vec<u32>,
    chunks: Chunks,
    /// The key columns, the number within the key, the time, for each feature its values and whether they count, and the number
    /// among all rows.
    schema: SchemaRef,
}

impl Kept {
    /// No rows yet, with these key columns.
    pub fn new(keys: Vec<Field>, features: &[Feature]) -> Self {
        let of_feature = |feature: &Feature| {
            let name = feature.field().name();
            let counts = Field::new(format!("{name} counts"), DataType::Boolean, true);
            [Field::new(name, feature.remembered(), true), counts]
        };
        let integer = |name: &str| Field::new(name, DataType::Int64, false);
        let place = ["number", "time"].map(integer);
        let features = features.iter().flat_map(of_feature);
        let fields: Vec<Field> = keys.into_iter().chain(place).chain(features).chain([integer("row")]).collect();
        let schema = Arc::new(Schema::new(fields));
        Self { rows: Vec::new(), free: Vec::new(), chunks: Chunks::new(ROWS), schema }
    }

    /// A row is remembered, which has this number among all.
    pub fn remember(&mut self, key: &Key, row: u64) -> u32 {
        let slot = self.take_slot(key.clone(), row);
        self.chunks.changed(slot);
        slot
    }

    /// A row is remembered that was read from the state: slots are given in the order of the rows.
    pub fn restored(&mut self, key: &Key, row: u64) -> u32 {
        self.take_slot(key.clone(), row)
    }

    fn take_slot(&mut self, key: Key, row: u64) -> u32 {
        if let Some(slot) = self.free.pop() {
            self.rows[slot as usize] = (key, row);
            return slot;
        }
        self.rows.push((key, row));
        self.rows.len() as u32 - 1
    }

    /// A row is forgotten: its key and number.
    pub fn forget(&mut self, slot: u32) -> (Key, u64) {
        self.chunks.gone(slot);
        self.free.push(slot);
        std::mem::take(&mut self.rows[slot as usize])
    }
}

impl History {
    /// Keeps the rows that have come since it was last done.
    pub fn save(&mut self, parts: &mut Parts) -> Result<()> {
        let Kept { rows, chunks, schema, .. } = &mut self.kept;
        let (keys, held, converter) = (&self.keys, Arc::new(self.segments.held()), &self.converter);
        let row_bytes = self.segments.row_bytes() + size_of::<Place>();
        chunks.put(
            parts,
            schema,
            |slot| rows[slot as usize].0.len() + row_bytes,
            |slots| {
                let of_slots = slots.iter().map(|slot| &rows[*slot as usize]);
                let places = of_slots.clone().filter_map(|(key, row)| keys.get(key)?.place(*row)).collect::<Vec<_>>();
                let keys = LargeBinaryArray::from_iter_values(of_slots.map(|(key, _)| key));
                let copied =
                    Copied { converter: converter.clone(), keys, places, held: held.clone(), schema: schema.clone() };
                move || copied.batch()
            },
        )
    }

    /// Takes in the rows that were kept. There are none yet.
    pub fn load(&mut self, state: &State, features: &mut [Feature]) -> Result<()> {
        let (schema, own) = (self.kept.schema.clone(), self.kept.schema.fields().len() - 1);
        // They once were in one piece, in their order, without their numbers among all.
        if state.has(ROWS) {
            let places: Vec<usize> = (0..own).collect();
            let rows = state.rows(ROWS, &Arc::new(schema.project(&places)?))?;
            rows.iter().try_for_each(|rows| self.take_in(rows, own, features))?;
            (0..self.kept.rows.len() as u32).for_each(|slot| self.kept.chunks.changed(slot));
            return Ok(());
        }
        let mut chunks = Chunks::new(ROWS);
        chunks.load(state, &schema, None, &[own], |rows| self.take_in(&rows, own, features))?;
        self.kept.chunks = chunks;
        Ok(())
    }

    fn take_in(&mut self, rows: &RecordBatch, own: usize, features: &mut [Feature]) -> Result<()> {
        let (keys, rest) = rows.columns().split_at(self.columns.len());
        let keys = self.read_keys(keys)?;
        let fed = rest[2..own - self.columns.len()].chunks(2).map(Fed::of_columns).collect();
        let in_order = || Error::new("the state has rows in another order than that in which they came");
        let numbers = match rows.columns().get(own) {
            None => self.segments.numbers_of_next(rows.num_rows()),
            Some(numbers) => {
                let numbers = numbers.as_primitive::<Int64Type>().values().iter();
                numbers.map(|number| u64::try_from(*number)).collect::<Result<_, _>>().map_err(|_| in_order())?
            }
        };
        self.segments.push_numbered(fed, &numbers).ok_or_else(in_order)??;
        let [of_key, times] = [0, 1].map(|column| rest[column].as_primitive::<Int64Type>().values());
        let mut counting = Counting::default();
        for (row, (number, time)) in of_key.iter().zip(times).enumerate() {
            let key = keys.as_ref().map_or(&[][..], |keys| keys.row(row).data());
            let number = u64::try_from(*number).map_err(|_| in_order())?;
            let place = Place { row: numbers[row], time: *time, number };
            self.remember_again(key, place, &mut counting).ok_or_else(in_order)?;
        }
        self.build(&counting, features)
    }
}

/// Some of the remembered rows on their way into a state.
struct Copied {
    converter: Option<Arc<RowConverter>>,
    keys: LargeBinaryArray,
    places: Vec<Place>,
    held: Arc<Held>,
    schema: SchemaRef,
}

impl Copied {
    fn batch(self) -> Result<RecordBatch> {
        let mut columns = Vec::new();
        if let Some(converter) = &self.converter {
            let parser = converter.parser();
            columns = converter.convert_rows(self.keys.iter().flatten().map(|key| parser.parse(key)))?;
        }
        let numbers =
            |of: fn(&Place) -> i64| -> ArrayRef { Arc::new(Int64Array::from_iter_values(self.places.iter().map(of))) };
        columns.extend([numbers(|place| place.number as i64), numbers(|place| place.time)]);
        let places = self.held.find(self.places.iter().map(|place| place.row));
        columns.extend(self.held.gather_all(&places)?.into_iter().flat_map(Fed::into_columns));
        columns.push(numbers(|place| place.row as i64));
        Ok(RecordBatch::try_new(self.schema, columns)?)
    }
}
