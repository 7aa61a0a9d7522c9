//! The figures of segments: the rows with the same value of a column, apart from those of others.

use std::collections::{BTreeMap, HashMap};

use arrow::array::{Array, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use millstream_core::{Error, Evaluation, Parts, Result, State};

use super::classes::texts;
use super::comparison::{CLASSES_OF_FORMAT_4, Comparison, NUMBERS_OF_FORMAT_4};

/// What the rows are called that have no value, and those whose value came when there were as many segments as there may be.
const NONE: &str = "(none)";
const OTHERS: &str = "(others)";

/// The part of the state with the values, in the order in which they came.
const VALUES: &str = "segments";

/// Rows apart by the values of a column.
pub(super) struct Segments {
    pub column: String,
    /// How many values have figures of their own.
    most: usize,
    /// What has counted nothing yet.
    blank: Comparison,
    /// By value, its place among the segments.
    places: HashMap<String, usize>,
    segments: Vec<(String, Comparison)>,
}

impl Segments {
    pub fn new(column: String, most: usize, blank: Comparison) -> Self {
        Self { column, most, blank, places: HashMap::new(), segments: Vec::new() }
    }

    /// Counts the rows. Those that can't be compared are not counted, as they are not among all.
    pub fn count(&mut self, rows: &RecordBatch) -> Result<()> {
        let values = texts(rows, &self.column)?;
        let mut by_segment: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
        for row in 0..rows.num_rows() {
            let place = self.place(if values.is_null(row) { NONE } else { values.value(row) });
            by_segment.entry(place).or_default().push(row as u32);
        }
        let compared = rows.project(&self.compared(rows)?)?;
        for (place, rows) in by_segment {
            let own = take_record_batch(&compared, &UInt32Array::from(rows))?;
            self.segments[place].1.compare(&own)?;
        }
        Ok(())
    }

    /// The places of the columns that are compared.
    fn compared(&self, rows: &RecordBatch) -> Result<Vec<usize>> {
        let schema = rows.schema();
        let mut places: Vec<_> = self.blank.columns().map(|name| schema.index_of(name)).collect::<Result<_, _>>()?;
        places.sort_unstable();
        places.dedup();
        Ok(places)
    }

    /// The place of a value's segment.
    fn place(&mut self, value: &str) -> usize {
        if let Some(place) = self.places.get(value) {
            return *place;
        }
        let is_full = self.segments.iter().filter(|(value, _)| value != OTHERS).count() == self.most;
        let value = if is_full { OTHERS } else { value };
        if let Some(place) = self.places.get(value) {
            return *place;
        }
        self.add(value)
    }

    fn add(&mut self, value: &str) -> usize {
        self.places.insert(value.to_owned(), self.segments.len());
        self.segments.push((value.to_owned(), self.blank.clone()));
        self.segments.len() - 1
    }

    /// The figures by value.
    pub fn evaluations(&self) -> BTreeMap<String, Evaluation> {
        self.segments.iter().map(|(value, comparison)| (value.clone(), comparison.evaluation())).collect()
    }

    /// Adds what was counted so far.
    pub fn keep(&self, parts: &mut Parts) {
        let values: Vec<_> = self.segments.iter().map(|(value, _)| value.clone()).collect();
        parts.put_later(VALUES, values);
        for (place, (_, comparison)) in self.segments.iter().enumerate() {
            comparison.keep(parts, &prefix(place));
        }
    }

    /// Goes on from what was counted. In format 4 there were no segments: they begin here.
    pub fn restore(&mut self, state: &State) -> Result<()> {
        if state.has(NUMBERS_OF_FORMAT_4) || state.has(CLASSES_OF_FORMAT_4) {
            return Ok(());
        }
        let values: Vec<String> = state.get(VALUES)?;
        for (place, value) in values.iter().enumerate() {
            if self.places.contains_key(value) || place > self.most {
                return Err(Error::new(format!("the segments of `{}` are damaged in the state", self.column)));
            }
            self.add(value);
            self.segments[place].1.restore(state, &prefix(place))?;
        }
        Ok(())
    }
}

/// What the parts of a segment's state begin with.
fn prefix(place: usize) -> String {
    format!("segment {place}: ")
}
