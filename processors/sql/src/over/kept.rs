//! What `over` keeps beyond a crash: the remembered rows, in the order in which they came.

use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{Int64Type, SchemaRef};
use arrow::row::RowConverter;
use millstream_core::{Error, Parts, Result, State};

use super::counting::Counting;
use super::feature::Feature;
use super::history::{History, Key, Place};
use super::segments::{SEGMENT_ROWS, Segments};
use crate::accumulate::aggregate::Arguments;

impl History {
    /// Keeps the rows, in the order in which they came.
    pub fn save(&self, parts: &mut Parts) {
        // Room for all at once: this is waited for.
        let mut places = Vec::with_capacity(self.segments.live());
        self.keys.values().for_each(|of_key| places.extend(&of_key.places));
        let copied = Copied {
            converter: self.converter.clone(),
            keys: self.keys.iter().map(|(key, of_key)| (key.clone(), of_key.places.len())).collect(),
            places,
            segments: self.segments.clone(),
            schema: self.schema.clone(),
        };
        parts.put_rows_later("rows", self.schema.clone(), move || copied.batches());
    }

    /// Takes in the rows that were kept. There are none yet.
    pub fn load(&mut self, state: &State, features: &mut [Feature]) -> Result<()> {
        for rows in state.rows("rows", &self.schema.clone())? {
            let (keys, rest) = rows.columns().split_at(self.columns.len());
            let keys = self.read_keys(keys)?;
            let arguments = rest[2..].chunks(2).map(Arguments::of_columns).collect();
            let first = self.segments.push(arguments, rows.num_rows())?;
            let [numbers, times] = [0, 1].map(|column| rest[column].as_primitive::<Int64Type>().values());
            let mut counting = Counting::default();
            for (row, (number, time)) in numbers.iter().zip(times).enumerate() {
                let key = keys.as_ref().map_or(&[][..], |keys| keys.row(row).data());
                let place = Place { row: first + row as u64, time: *time, number: numbered(*number)? };
                self.remember_again(key, place, &mut counting)?;
            }
            self.build(&counting, features)?;
        }
        Ok(())
    }

    fn remember_again(&mut self, key: &[u8], place: Place, counting: &mut Counting) -> Result<()> {
        let blocks = self.blocks();
        let of_key = self.keys.entry(key.into()).or_default();
        if of_key.places.back().is_some_and(|last| last.number >= place.number) {
            return Err(Error::new("the state has rows of a key in another order than that in which they came"));
        }
        of_key.remember(place, blocks, &mut self.slots, counting);
        self.segments.remember(place.row);
        self.forget_later(key, place.time);
        Ok(())
    }
}

fn numbered(number: i64) -> Result<u64> {
    u64::try_from(number).map_err(|_| Error::new("the state has a row without a number"))
}

/// The remembered rows of one moment.
struct Copied {
    converter: Option<Arc<RowConverter>>,
    /// With the number of their places.
    keys: Vec<(Key, usize)>,
    places: Vec<Place>,
    segments: Segments,
    schema: SchemaRef,
}

impl Copied {
    /// The rows in the order in which they came.
    fn batches(&self) -> Result<Vec<RecordBatch>> {
        let keys = self.keys.iter().flat_map(|(key, count)| std::iter::repeat_n(key, *count));
        let mut all: Vec<(&Key, Place)> = keys.zip(self.places.iter().copied()).collect();
        all.sort_unstable_by_key(|(_, place)| place.row);
        all.chunks(SEGMENT_ROWS).map(|rows| self.batch(rows)).collect()
    }

    fn batch(&self, rows: &[(&Key, Place)]) -> Result<RecordBatch> {
        let mut columns = Vec::new();
        if let Some(converter) = &self.converter {
            let parser = converter.parser();
            columns = converter.convert_rows(rows.iter().map(|(key, _)| parser.parse(key)))?;
        }
        let numbers = |of: fn(&Place) -> i64| -> ArrayRef {
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|(_, place)| of(place))))
        };
        columns.extend([numbers(|place| place.number as i64), numbers(|place| place.time)]);
        let places = self.segments.find(rows.iter().map(|(_, place)| place.row));
        columns.extend(self.segments.gather_all(&places)?.into_iter().flat_map(Arguments::into_columns));
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }
}
