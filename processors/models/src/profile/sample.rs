//! A sample of the rows that a model has learned. Which rows are in it follows from their numbers alone.

use std::collections::BTreeMap;

use arrow::array::{Array, Float64Array};
use millstream_core::{Error, Result};
use serde::{Deserialize, Serialize};

use super::{FeatureProfile, Frequent, Values};
use crate::encode::{Feature, Rows};
use crate::estimator::mixed;

/// How many rows a sample has, unless that were too many values.
const ROWS: usize = 500;

/// How many rows it has in any case.
const FEWEST_ROWS: usize = 64;

/// How many values it has, if these are more than its fewest rows.
const VALUES: usize = 1 << 15;

/// How many bytes of a text are kept.
const TEXT_BYTES: usize = 64;

/// Into how many parts numbers are cut.
const PARTS: usize = 10;

/// How many rows of the sample a value must have to be told.
const FREQUENT_ROWS: usize = 5;

/// How many frequent values are told.
const MOST_FREQUENT: usize = 20;

/// A uniform sample without repetition: those rows whose numbers have the lowest hashes (bottom-k: Cohen and Kaplan 2007, *Summarizing Data
/// using Bottom-k Sketches*).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// How many rows there were.
    seen: u64,
    /// Below which a hash is among the lowest.
    limit: u64,
    /// The sampled ones, by the hashes of their numbers.
    rows: BTreeMap<u64, SampledRow>,
}

/// The features of a row.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct SampledRow {
    /// NaN is missing.
    numbers: Box<[f64]>,
    texts: Box<[Option<Box<str>>]>,
}

impl Sample {
    /// Of no row.
    pub fn new() -> Self {
        Self { seen: 0, limit: u64::MAX, rows: BTreeMap::new() }
    }

    /// Takes in row `row` of `rows`.
    #[inline]
    pub fn add(&mut self, rows: &Rows, row: usize) {
        let hash = mixed(self.seen);
        self.seen += 1;
        if hash < self.limit {
            self.insert(hash, rows, row);
        }
    }

    #[cold]
    fn insert(&mut self, hash: u64, rows: &Rows, row: usize) {
        let most = most_rows(rows.numbers().len() + rows.texts().len());
        self.rows.insert(hash, SampledRow::new(rows, row));
        if self.rows.len() > most {
            self.rows.pop_last();
        }
        if self.rows.len() == most {
            self.limit = self.rows.last_key_value().map_or(0, |(last, _)| *last);
        }
    }

    /// An error unless it may be of rows with such features.
    pub fn check(&self, features: &[Feature]) -> Result<()> {
        let numbers = features.iter().filter(|feature| feature.encoder.is_number()).count();
        let texts = features.len() - numbers;
        let fits = |row: &SampledRow| row.numbers.len() == numbers && row.texts.len() == texts;
        if self.rows.len() <= most_rows(features.len()) && self.rows.values().all(fits) {
            return Ok(());
        }
        Err(Error::new("the sample of learned rows in the state is damaged, or not of this model's features"))
    }

    /// What the values of each feature are.
    pub fn profile(&self, features: &[Feature]) -> Vec<FeatureProfile> {
        let (mut numbers, mut texts) = (0, 0);
        let of_feature = |feature: &Feature| {
            let (values, present) = if feature.encoder.is_number() {
                numbers += 1;
                self.numbers(numbers - 1)
            } else {
                texts += 1;
                self.categories(texts - 1)
            };
            let rows = self.rows.len();
            let missing = share(rows - present, rows);
            FeatureProfile { feature: feature.name.clone(), rows: rows as u64, missing, values }
        };
        features.iter().map(of_feature).collect()
    }

    /// The values of a column of numbers, and how many there are.
    fn numbers(&self, column: usize) -> (Values, usize) {
        let numbers = self.rows.values().map(|row| row.numbers[column]);
        let mut numbers: Vec<f64> = numbers.filter(|number| !number.is_nan()).collect();
        numbers.sort_unstable_by(f64::total_cmp);
        let count = numbers.len();
        let cuts = (1..PARTS).filter(|_| count > 0).map(|part| numbers[(part * count).div_ceil(PARTS) - 1]);
        let mut edges: Vec<f64> = cuts.collect();
        edges.dedup();
        let ends = edges.iter().map(|edge| numbers.partition_point(|number| number <= edge)).chain([count]);
        let mut begin = 0;
        let shares = ends.map(|end| share(end - std::mem::replace(&mut begin, end), count)).collect();
        let mean = mean(&numbers);
        let squares: Vec<f64> = numbers.iter().map(|number| (number - mean) * (number - mean)).collect();
        (Values::Numbers { mean, deviation: libm::sqrt(self::mean(&squares)), edges, shares }, count)
    }

    /// The values of a column of categories, and how many there are.
    fn categories(&self, column: usize) -> (Values, usize) {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        let texts = self.rows.values().filter_map(|row| row.texts[column].as_deref());
        texts.for_each(|text| *counts.entry(text).or_default() += 1);
        let count = counts.values().sum();
        let mut frequent: Vec<_> = counts.into_iter().filter(|(_, rows)| *rows >= FREQUENT_ROWS).collect();
        // The sort is stable: equally frequent ones stay in the order of their letters.
        frequent.sort_by_key(|(_, rows)| std::cmp::Reverse(*rows));
        frequent.truncate(MOST_FREQUENT);
        let others = count - frequent.iter().map(|(_, rows)| rows).sum::<usize>();
        let told = |(value, rows): (&str, usize)| Frequent { value: value.to_owned(), share: share(rows, count) };
        let frequent = frequent.into_iter().map(told).collect();
        (Values::Categories { frequent, others: share(others, count) }, count)
    }
}

impl SampledRow {
    fn new(rows: &Rows, row: usize) -> Self {
        let number = |column: &Float64Array| if column.is_null(row) { f64::NAN } else { column.value(row) };
        let texts =
            rows.texts().iter().map(|column| (!column.is_null(row)).then(|| beginning(column.value(row)).into()));
        Self { numbers: rows.numbers().iter().map(number).collect(), texts: texts.collect() }
    }
}

/// What is kept of a text.
pub(super) fn beginning(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES)]
}

/// How many rows are sampled that have so many features.
fn most_rows(features: usize) -> usize {
    (VALUES / features.max(1)).clamp(FEWEST_ROWS, ROWS)
}

fn share(rows: usize, of: usize) -> f64 {
    if of == 0 { 0.0 } else { rows as f64 / of as f64 }
}

/// The mean, which is finite for all numbers that may be learned from; 0 of none.
fn mean(numbers: &[f64]) -> f64 {
    let count = numbers.len().max(1) as f64;
    numbers.iter().map(|number| number / count).sum()
}
