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
use crate::window::accumulator::Rows;
use crate::window::aggregate::Fed;

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
    converter: Option<RowConverter>,
    columns: Vec<usize>,
    reach: Reach,
    /// Whether a row counts for itself.
    current: bool,
    most: usize,
    /// The rows of each key in the order in which they came. Seeded at random; no result depends on hashes.
    keys: HashMap<Key, VecDeque<Place>, RandomState>,
    segments: VecDeque<Segment>,
    /// The number of the first segment.
    first: u64,
    live: usize,
    /// When rows can be forgotten.
    forget: BinaryHeap<Reverse<(i64, Key)>>,
    /// What is kept: the key columns, the time, and for each feature its values and whether they count.
    schema: SchemaRef,
}

/// Where a row is remembered.
#[derive(Clone, Copy)]
struct Place {
    segment: u64,
    row: u32,
    time: i64,
}

/// What some neighbouring rows feed the features with.
struct Segment {
    fed: Vec<Fed>,
    rows: usize,
    live: usize,
}

/// How many rows a segment has before another one is begun.
const SEGMENT_ROWS: usize = 8192;

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
        let converter = if sort.is_empty() { None } else { Some(RowConverter::new(sort)?) };
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
            segments: VecDeque::new(),
            first: 0,
            live: 0,
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
        let (segment, offset) = self.push(fed, rows.num_rows())?;
        let columns: Vec<ArrayRef> = self.columns.iter().map(|column| rows.column(*column).clone()).collect();
        let keys = self.read_keys(&columns)?;
        let mut parts: Vec<Vec<ArrayRef>> = vec![Vec::new(); features.len()];
        let (mut fits, mut counting) = (Vec::with_capacity(rows.num_rows()), Counting::default());
        for row in 0..rows.num_rows() {
            let time = times.map_or(0, |times| times[row]);
            let place = Place { segment, row: (offset + row) as u32, time };
            let key = keys.as_ref().map_or(&[][..], |keys| keys.row(row).data());
            fits.push(self.remember(key, place, &mut counting));
            if counting.places.len() >= LOOK_AT {
                self.compute(std::mem::take(&mut counting), features, &mut parts)?;
            }
        }
        self.compute(counting, features, &mut parts)?;
        self.tidy()?;
        let whole = parts.iter().map(|parts| Ok(concat(&parts.iter().map(|part| part.as_ref()).collect::<Vec<_>>())?));
        Ok((whole.collect::<Result<_>>()?, BooleanArray::from(fits)))
    }

    fn read_keys(&self, columns: &[ArrayRef]) -> Result<Option<arrow::row::Rows>> {
        let columns: Vec<ArrayRef> = columns.iter().map(canonical_floats).collect();
        Ok(self.converter.as_ref().map(|converter| converter.convert_columns(&columns)).transpose()?)
    }

    /// Adds what rows are fed with: the number of its segment, and where in it they begin.
    fn push(&mut self, fed: Vec<Fed>, rows: usize) -> Result<(u64, usize)> {
        match self.segments.back_mut() {
            Some(last) if last.rows + rows <= SEGMENT_ROWS => {
                let offset = last.rows;
                let both = last.fed.iter().zip(&fed).map(|(one, other)| Fed::concat(&[one, other]));
                last.fed = both.collect::<Result<_>>()?;
                last.rows += rows;
                Ok((self.first + self.segments.len() as u64 - 1, offset))
            }
            _ => {
                self.segments.push_back(Segment { fed, rows, live: 0 });
                Ok((self.first + self.segments.len() as u64 - 1, 0))
            }
        }
    }

    /// Notes which rows count for a row, and remembers it; false if there is no room for it.
    fn remember(&mut self, key: &[u8], place: Place, counting: &mut Counting) -> bool {
        if self.live >= self.most {
            return false;
        }
        if !self.keys.contains_key(key) {
            self.keys.insert(key.into(), VecDeque::new());
        }
        let reach = self.reach;
        let counts = |other: &&Place| match reach {
            Reach::Time(span) => other.time <= place.time && place.time.saturating_sub(other.time) < span,
            Reach::Rows(_) => true,
        };
        let slot = counting.before.len() as u32;
        let Some(places) = self.keys.get_mut(key) else { return false };
        let skipped = match reach {
            Reach::Rows(rows) => (places.len() + usize::from(self.current)).saturating_sub(rows),
            Reach::Time(_) => 0,
        };
        counting.places.extend(places.iter().skip(skipped).filter(counts));
        counting.before.push(places.iter().rev().find(counts).copied());
        places.push_back(place);
        if self.current {
            counting.places.push(place);
        }
        counting.slots.resize(counting.places.len(), slot);
        counting.times.push(place.time);
        self.live += 1;
        self.segments[(place.segment - self.first) as usize].live += 1;
        self.forget_more_than_count(key, place.time);
        true
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
                // One is needed as the row before, even where only a row itself counts.
                while places.len() > rows.max(1) {
                    if let Some(place) = places.pop_front() {
                        self.live -= 1;
                        self.segments[(place.segment - self.first) as usize].live -= 1;
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
                self.live -= 1;
                self.segments[(place.segment - self.first) as usize].live -= 1;
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
        for (number, feature) in features.iter_mut().enumerate() {
            let part = match feature {
                Feature::Aggregate(aggregate) => {
                    aggregate.accumulator.grow(rows);
                    let fed = self.gather(number, &counting.places)?;
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

    /// What a feature is fed with at some places.
    fn gather(&self, feature: usize, places: &[Place]) -> Result<Fed> {
        let fed: Vec<&Fed> = self.segments.iter().map(|segment| &segment.fed[feature]).collect();
        let places: Vec<(usize, usize)> =
            places.iter().map(|place| ((place.segment - self.first) as usize, place.row as usize)).collect();
        Fed::gather(&fed, &places)
    }

    /// The values at some places, and null where there is none.
    fn lag(&self, feature: usize, before: &[Option<Place>]) -> Result<ArrayRef> {
        let there: Vec<Place> = before.iter().copied().flatten().collect();
        let values = self.gather(feature, &there)?;
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
        while self.segments.len() > 1 && self.segments.front().is_some_and(|segment| segment.live == 0) {
            self.segments.pop_front();
            self.first += 1;
        }
        let rows: usize = self.segments.iter().map(|segment| segment.rows).sum();
        if rows <= 2 * self.live + 4 * SEGMENT_ROWS {
            return Ok(());
        }
        let mut places: Vec<&mut Place> = self.keys.values_mut().flatten().collect();
        places.sort_unstable_by_key(|place| (place.segment, place.row));
        let old: Vec<(usize, usize)> =
            places.iter().map(|place| ((place.segment - self.first) as usize, place.row as usize)).collect();
        let number = self.first + self.segments.len() as u64;
        let features = self.segments.front().map_or(0, |segment| segment.fed.len());
        let fed = (0..features).map(|feature| {
            let all: Vec<&Fed> = self.segments.iter().map(|segment| &segment.fed[feature]).collect();
            Fed::gather(&all, &old)
        });
        let fed = fed.collect::<Result<Vec<_>>>()?;
        for (row, place) in places.into_iter().enumerate() {
            (place.segment, place.row) = (number, row as u32);
        }
        self.segments = VecDeque::from([Segment { fed, rows: old.len(), live: old.len() }]);
        self.first = number;
        Ok(())
    }

    /// Keeps the rows, in the order in which they came.
    pub fn save(&self, parts: &mut Parts) -> Result<()> {
        let mut all: Vec<(&Key, Place)> =
            self.keys.iter().flat_map(|(key, places)| places.iter().map(move |place| (key, *place))).collect();
        all.sort_unstable_by_key(|(_, place)| (place.segment, place.row));
        let batches = all.chunks(SEGMENT_ROWS).map(|rows| self.kept(rows)).collect::<Result<Vec<_>>>()?;
        parts.put_rows("rows", self.schema.clone(), batches);
        Ok(())
    }

    fn kept(&self, rows: &[(&Key, Place)]) -> Result<RecordBatch> {
        let mut columns = Vec::new();
        if let Some(converter) = &self.converter {
            let parser = converter.parser();
            columns = converter.convert_rows(rows.iter().map(|(key, _)| parser.parse(key)))?;
        }
        columns.push(Arc::new(Int64Array::from_iter_values(rows.iter().map(|(_, place)| place.time))));
        let places: Vec<Place> = rows.iter().map(|(_, place)| *place).collect();
        let features = self.segments.front().map_or(0, |segment| segment.fed.len());
        for feature in 0..features {
            columns.extend(self.gather(feature, &places)?.into_columns());
        }
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }

    /// Takes in the rows that were kept. There are none yet.
    pub fn load(&mut self, state: &State) -> Result<()> {
        for rows in state.rows("rows", &self.schema)? {
            let (keys, rest) = rows.columns().split_at(self.columns.len());
            let keys = self.read_keys(keys)?;
            let fed = rest[1..].chunks(2).map(Fed::of_columns).collect();
            let (segment, offset) = self.push(fed, rows.num_rows())?;
            for (row, time) in rest[0].as_primitive::<Int64Type>().values().iter().enumerate() {
                let key = keys.as_ref().map_or(&[][..], |keys| keys.row(row).data());
                let place = Place { segment, row: (offset + row) as u32, time: *time };
                self.keys.entry(key.into()).or_default().push_back(place);
                self.live += 1;
                self.segments[(segment - self.first) as usize].live += 1;
                if matches!(self.reach, Reach::Time(_)) {
                    self.forget.push(Reverse((*time, key.into())));
                }
            }
        }
        Ok(())
    }
}
