//! The rows that are remembered, by their keys, and what they add to those that come.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{concat, take};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow::row::{RowConverter, SortField};
use foldhash::fast::RandomState;
use millstream_core::{Parts, Result, State, canonical_floats};

use super::feature::Feature;
use super::segments::{SEGMENT_ROWS, Segments};
use crate::accumulate::accumulator::Rows;
use crate::accumulate::aggregate::Fed;

/// Which rows count.
#[derive(Clone, Copy, Debug)]
pub enum Reach {
    /// Those of so many microseconds.
    Time(i64),
    /// The last ones.
    Rows(usize),
}

type Key = Arc<[u8]>;

/// The remembered rows.
pub struct History {
    /// Of the key columns; none if there are no keys.
    converter: Option<Arc<RowConverter>>,
    columns: Vec<usize>,
    reach: Reach,
    /// Whether a row counts for itself.
    current: bool,
    most: usize,
    /// The rows of each key in the order in which they came. Seeded at random; no result depends on hashes.
    keys: HashMap<Key, VecDeque<Place>, RandomState>,
    segments: Segments,
    /// When rows can be forgotten.
    forget: BinaryHeap<Reverse<(i64, Key)>>,
    /// What is kept: the key columns, the time, and for each feature its values and whether they count.
    schema: SchemaRef,
}

/// A row that is remembered.
#[derive(Clone, Copy)]
struct Place {
    row: u64,
    time: i64,
}

/// How many rows are looked at together.
const LOOK_AT: usize = 1 << 16;

/// The rows that count for some rows in a row.
#[derive(Default)]
struct Counting {
    places: Vec<Place>,
    /// For which of the rows each place counts.
    slots: Vec<u32>,
    /// The row before each row.
    before: Vec<Option<Place>>,
    times: Vec<i64>,
}

impl History {
    /// Nothing yet of rows of `input`.
    pub fn new(
        input: &Schema,
        columns: Vec<usize>,
        features: &[Feature],
        reach: Reach,
        current: bool,
        most: usize,
    ) -> Result<Self> {
        let fields: Vec<Field> =
            columns.iter().map(|column| input.field(*column).clone().with_nullable(true)).collect();
        let sort = fields.iter().map(|field| SortField::new(field.data_type().clone())).collect::<Vec<_>>();
        let converter = if sort.is_empty() { None } else { Some(Arc::new(RowConverter::new(sort)?)) };
        let kept = features.iter().flat_map(|feature| {
            let name = feature.field().name();
            [
                Field::new(name, feature.remembered(), true),
                Field::new(format!("{name} counts"), DataType::Boolean, true),
            ]
        });
        let time = Field::new("time", DataType::Int64, false);
        let schema = Arc::new(Schema::new(fields.into_iter().chain([time]).chain(kept).collect::<Vec<_>>()));
        Ok(Self {
            converter,
            columns,
            reach,
            current,
            most,
            keys: HashMap::default(),
            segments: Segments::default(),
            forget: BinaryHeap::new(),
            schema,
        })
    }

    /// Takes rows in, one after the other, and gives the features of those that fit, with a mask of these.
    pub fn take(
        &mut self,
        rows: &RecordBatch,
        fed: Vec<Fed>,
        times: Option<&[i64]>,
        features: &mut [Feature],
    ) -> Result<(Vec<ArrayRef>, BooleanArray)> {
        let first = self.segments.push(fed, rows.num_rows())?;
        let columns: Vec<ArrayRef> = self.columns.iter().map(|column| rows.column(*column).clone()).collect();
        let keys = self.read_keys(&columns)?;
        let mut parts: Vec<Vec<ArrayRef>> = vec![Vec::new(); features.len()];
        let (mut fit, mut counting) = (Vec::with_capacity(rows.num_rows()), Counting::default());
        for row in 0..rows.num_rows() {
            let time = times.map_or(0, |times| times[row]);
            let key = keys.as_ref().map_or(&[][..], |keys| keys.row(row).data());
            let held = self.keys.get(key).map_or(0, VecDeque::len);
            if counting.places.len() + self.reached(held) > LOOK_AT && !counting.before.is_empty() {
                self.compute(std::mem::take(&mut counting), features, &mut parts)?;
            }
            let fits = self.has_room(held);
            if fits {
                self.remember(key, held, Place { row: first + row as u64, time }, &mut counting);
            }
            fit.push(fits);
        }
        self.compute(counting, features, &mut parts)?;
        self.tidy()?;
        let whole = parts.iter().map(|parts| Ok(concat(&parts.iter().map(|part| part.as_ref()).collect::<Vec<_>>())?));
        Ok((whole.collect::<Result<_>>()?, BooleanArray::from(fit)))
    }

    fn read_keys(&self, columns: &[ArrayRef]) -> Result<Option<arrow::row::Rows>> {
        let columns: Vec<ArrayRef> = columns.iter().map(canonical_floats).collect();
        Ok(self.converter.as_ref().map(|converter| converter.convert_columns(&columns)).transpose()?)
    }

    /// How many rows can count for one whose key holds so many.
    fn reached(&self, held: usize) -> usize {
        let all = held + usize::from(self.current);
        match self.reach {
            Reach::Time(_) => all,
            Reach::Rows(rows) => all.min(rows),
        }
    }

    /// Whether a row can be remembered whose key holds so many.
    fn has_room(&self, held: usize) -> bool {
        // The first one of the key makes room.
        let is_full = matches!(self.reach, Reach::Rows(rows) if held >= kept_of_each(rows));
        is_full || self.segments.live() < self.most
    }

    /// Notes which rows count for a row, whose key holds `held`, and remembers it.
    fn remember(&mut self, key: &[u8], held: usize, place: Place, counting: &mut Counting) {
        if held == 0 {
            self.keys.insert(key.into(), VecDeque::new());
        }
        let reach = self.reach;
        let counts = |other: &&Place| match reach {
            Reach::Time(span) => other.time <= place.time && place.time.saturating_sub(other.time) < span,
            Reach::Rows(_) => true,
        };
        let slot = counting.before.len() as u32;
        let skipped = held + usize::from(self.current) - self.reached(held);
        let Some(places) = self.keys.get_mut(key) else { return };
        counting.places.extend(places.iter().skip(skipped).filter(counts));
        counting.before.push(places.iter().rev().find(counts).copied());
        places.push_back(place);
        if self.current {
            counting.places.push(place);
        }
        counting.slots.resize(counting.places.len(), slot);
        counting.times.push(place.time);
        self.segments.remember();
        self.forget_more_than_count(key, place.time);
    }

    fn forget_more_than_count(&mut self, key: &[u8], time: i64) {
        match self.reach {
            Reach::Time(_) => {
                if let Some((key, _)) = self.keys.get_key_value(key) {
                    self.forget.push(Reverse((time, key.clone())));
                }
            }
            Reach::Rows(rows) => {
                let Some(places) = self.keys.get_mut(key) else { return };
                while places.len() > kept_of_each(rows) {
                    if let Some(place) = places.pop_front() {
                        self.segments.forget(place.row);
                    }
                }
            }
        }
    }

    /// Forgets rows that don't count for any that can still come, none of which is earlier than `watermark`.
    pub fn forget(&mut self, watermark: i64) {
        let Reach::Time(span) = self.reach else { return };
        while self.forget.peek().is_some_and(|Reverse((time, _))| time.saturating_add(span) <= watermark) {
            let Some(Reverse((time, key))) = self.forget.pop() else { break };
            let Some(places) = self.keys.get_mut(&key) else { continue };
            if let Some(place) = places.iter().position(|place| place.time == time).and_then(|at| places.remove(at)) {
                self.segments.forget(place.row);
            }
            if places.is_empty() {
                self.keys.remove(&key);
            }
        }
    }

    /// The features of the rows that others count for.
    fn compute(&self, counting: Counting, features: &mut [Feature], parts: &mut [Vec<ArrayRef>]) -> Result<()> {
        let rows = counting.before.len();
        let slots: Vec<u32> = (0..rows as u32).collect();
        let times: Vec<i64> = counting.places.iter().map(|place| place.time).collect();
        let places = self.segments.find(counting.places.iter().map(|place| place.row));
        for (number, feature) in features.iter_mut().enumerate() {
            let part = match feature {
                Feature::Aggregate(aggregate) => {
                    aggregate.accumulator.grow(rows);
                    let fed = self.segments.gather(number, &places)?;
                    aggregate.update(&fed, Rows { slots: &counting.slots, times: &times })?;
                    let values = canonical_floats(&aggregate.accumulator.finish(&slots)?);
                    slots.iter().for_each(|slot| aggregate.accumulator.clear(*slot));
                    values
                }
                Feature::Lag(..) => self.lag(number, &counting.before)?,
                Feature::TimeSince(_) => {
                    let since =
                        |(before, time): (&Option<Place>, &i64)| before.map(|before| (time - before.time) as f64 / 1e6);
                    Arc::new(counting.before.iter().zip(&counting.times).map(since).collect::<Float64Array>())
                }
            };
            parts[number].push(part);
        }
        Ok(())
    }

    /// The values at some places, and null where there is none.
    fn lag(&self, feature: usize, before: &[Option<Place>]) -> Result<ArrayRef> {
        let there = self.segments.find(before.iter().flatten().map(|place| place.row));
        let values = self.segments.gather(feature, &there)?;
        let mut next = 0;
        let places: UInt32Array = before
            .iter()
            .map(|before| {
                before.map(|_| {
                    next += 1;
                    next - 1
                })
            })
            .collect();
        Ok(take(values.values(), &places, None)?)
    }

    /// Drops segments of which nothing is left, and puts the rest together where most of it is gone.
    fn tidy(&mut self) -> Result<()> {
        self.segments.drop_forgotten();
        if !self.segments.are_sparse() {
            return Ok(());
        }
        let mut places: Vec<&mut Place> = self.keys.values_mut().flatten().collect();
        places.sort_unstable_by_key(|place| place.row);
        self.segments.compact(places.iter().map(|place| place.row))?;
        places.into_iter().zip(0..).for_each(|(place, row)| place.row = row);
        Ok(())
    }

    /// Keeps the rows, in the order in which they came.
    pub fn save(&self, parts: &mut Parts) {
        // Room for all at once: this is waited for.
        let mut places = Vec::with_capacity(self.segments.live());
        self.keys.values().for_each(|of_key| places.extend(of_key));
        let copied = Copied {
            converter: self.converter.clone(),
            keys: self.keys.iter().map(|(key, places)| (key.clone(), places.len())).collect(),
            places,
            segments: self.segments.clone(),
            schema: self.schema.clone(),
        };
        parts.put_rows_later("rows", self.schema.clone(), move || copied.batches());
    }

    /// Takes in the rows that were kept. There are none yet.
    pub fn load(&mut self, state: &State) -> Result<()> {
        for rows in state.rows("rows", &self.schema)? {
            let (keys, rest) = rows.columns().split_at(self.columns.len());
            let keys = self.read_keys(keys)?;
            let fed = rest[1..].chunks(2).map(Fed::of_columns).collect();
            let first = self.segments.push(fed, rows.num_rows())?;
            for (row, time) in rest[0].as_primitive::<Int64Type>().values().iter().enumerate() {
                let key: Key = keys.as_ref().map_or(&[][..], |keys| keys.row(row).data()).into();
                if matches!(self.reach, Reach::Time(_)) {
                    self.forget.push(Reverse((*time, key.clone())));
                }
                self.keys.entry(key).or_default().push_back(Place { row: first + row as u64, time: *time });
                self.segments.remember();
            }
        }
        Ok(())
    }
}

/// How many rows are kept of each key: one is needed as the row before, even where only a row itself counts.
fn kept_of_each(rows: usize) -> usize {
    rows.max(1)
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
        columns.push(Arc::new(Int64Array::from_iter_values(rows.iter().map(|(_, place)| place.time))));
        let places = self.segments.find(rows.iter().map(|(_, place)| place.row));
        columns.extend(self.segments.gather_all(&places)?.into_iter().flat_map(Fed::into_columns));
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }
}
