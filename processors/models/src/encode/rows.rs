//! Reads the features of a batch.

use arrow::array::cast::AsArray;
use arrow::array::{Array, ArrayRef, Float64Array, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, TimeUnit};
use arrow::util::display::array_value_to_string;
use millstream_core::{Error, Result, ResultExt};

use super::{Encoder, Feature, Missing};
use crate::refused::Refused;

/// The largest number that may be learned from: its square is finite, and so is a sum of such.
pub const LARGEST: f64 = 1e150;

/// The same, where it is computed with in 32 bits: the square of the product of an error and a number is finite.
pub(crate) const LARGEST_OF_32_BITS: f64 = 1e9;

/// Whether a number may be learned from, if it is at most so large.
#[inline(always)]
pub fn is_usable(number: f64, largest: f64) -> bool {
    number.abs() <= largest
}

/// The largest number of a feature, where numbers as they are may be as large as `raw`. Standardised numbers get small.
fn largest(feature: &Feature, raw: f64) -> f64 {
    if feature.encoder == Encoder::Raw { raw } else { LARGEST }
}

/// The features of a batch, column by column.
#[derive(Clone, Debug)]
pub(crate) struct Rows {
    count: usize,
    numbers: Vec<Float64Array>,
    texts: Vec<StringArray>,
}

impl Rows {
    /// Of so many rows, whose columns are these.
    pub fn new(count: usize, numbers: Vec<Float64Array>, texts: Vec<StringArray>) -> Self {
        Self { count, numbers, texts }
    }

    /// Of so many rows, whose columns of numbers are these, and that have no categories.
    pub fn of_numbers(count: usize, numbers: Vec<Float64Array>) -> Self {
        Self::new(count, numbers, Vec::new())
    }

    /// Some of their columns, of numbers and of categories.
    pub fn of_columns(&self, numbers: &[usize], texts: &[usize]) -> Self {
        Self {
            count: self.count,
            numbers: numbers.iter().map(|column| self.numbers[*column].clone()).collect(),
            texts: texts.iter().map(|column| self.texts[*column].clone()).collect(),
        }
    }

    pub fn count(&self) -> usize {
        self.count
    }

    /// The columns of numbers, in the order of the features. Null or NaN is missing.
    pub fn numbers(&self) -> &[Float64Array] {
        &self.numbers
    }

    /// The columns of categories, in the order of the features. Null is missing.
    #[inline(always)]
    pub fn texts(&self) -> &[StringArray] {
        &self.texts
    }
}

/// Reads the features of a batch, and marks the rows that lack one where that is not allowed. A number that is larger than
/// may be, which is `raw` for one that is learned from as it is, is missing.
pub(crate) fn read(
    features: &[Feature],
    raw: f64,
    missing: Missing,
    rows: &RecordBatch,
    refused: &mut Refused,
) -> Result<Rows> {
    let mut read = Rows { count: rows.num_rows(), numbers: Vec::new(), texts: Vec::new() };
    for feature in features {
        let column = column(rows, &feature.name)?;
        if !feature.encoder.is_number() {
            let texts = texts(column, feature)?;
            if feature.missing_or(missing) == Missing::Fail {
                mark_nulls(&texts, refused);
            }
            read.texts.push(texts);
            continue;
        }
        let mut numbers = numbers(column, feature)?;
        let largest = largest(feature, raw);
        if !all_usable(&numbers, largest) {
            match feature.missing_or(missing) {
                Missing::Fail => mark_unusable(&numbers, largest, refused),
                _ => numbers = without_unusable(&numbers, largest),
            }
        }
        read.numbers.push(numbers);
    }
    Ok(read)
}

/// Why a row was marked: the first feature that it lacks.
pub(crate) fn why_refused(
    features: &[Feature],
    raw: f64,
    missing: Missing,
    rows: &RecordBatch,
    row: usize,
) -> Result<Option<String>> {
    for feature in features.iter().filter(|feature| feature.missing_or(missing) == Missing::Fail) {
        let name = &feature.name;
        let column = column(rows, name)?.slice(row, 1);
        if column.is_null(0) {
            return Ok(Some(format!(
                "feature `{name}` is null; `missing = \"mean\"` of `train` lets such rows through"
            )));
        }
        let largest = largest(feature, raw);
        if feature.encoder.is_number() && !all_usable(&numbers(&column, feature)?, largest) {
            let value = array_value_to_string(&column, 0)?;
            let problem =
                format!("feature `{name}` is {value}; numbers that are learned from are finite, up to {largest:e}");
            return Ok(Some(problem));
        }
    }
    Ok(None)
}

/// The column of that name; an error if there is none.
pub fn column<'a>(rows: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    rows.column_by_name(name).ok_or_else(|| Error::new(format!("the rows have no column `{name}`")))
}

fn numbers(column: &ArrayRef, feature: &Feature) -> Result<Float64Array> {
    if let Some(numbers) = column.as_primitive_opt::<Float64Type>() {
        return Ok(numbers.clone());
    }
    if let DataType::Timestamp(unit, _) = column.data_type() {
        return seconds(column, *unit);
    }
    let numbers =
        cast(column, &DataType::Float64).doing(|| format!("reading feature `{}` as numbers", feature.name))?;
    Ok(numbers.as_primitive::<Float64Type>().clone())
}

/// Timestamps as seconds since 1970.
fn seconds(column: &ArrayRef, unit: TimeUnit) -> Result<Float64Array> {
    let of_second = match unit {
        TimeUnit::Second => 1.0,
        TimeUnit::Millisecond => 1e3,
        TimeUnit::Microsecond => 1e6,
        TimeUnit::Nanosecond => 1e9,
    };
    let ticks = cast(&cast(column, &DataType::Int64)?, &DataType::Float64)?;
    Ok(ticks.as_primitive::<Float64Type>().unary(|ticks| ticks / of_second))
}

fn texts(column: &ArrayRef, feature: &Feature) -> Result<StringArray> {
    if let Some(texts) = column.as_string_opt::<i32>() {
        return Ok(texts.clone());
    }
    let texts = cast(column, &DataType::Utf8).doing(|| format!("reading feature `{}` as text", feature.name))?;
    Ok(texts.as_string::<i32>().clone())
}

fn all_usable(numbers: &Float64Array, largest: f64) -> bool {
    // No early exit, so that it is a few instructions for several numbers at once.
    numbers.null_count() == 0 && numbers.values().iter().fold(true, |all, number| all & is_usable(*number, largest))
}

fn mark_unusable(numbers: &Float64Array, largest: f64, refused: &mut Refused) {
    for (row, number) in numbers.iter().enumerate() {
        if !number.is_some_and(|number| is_usable(number, largest)) {
            refused.mark(row, numbers.len());
        }
    }
}

fn mark_nulls(texts: &StringArray, refused: &mut Refused) {
    let Some(nulls) = texts.nulls().filter(|nulls| nulls.null_count() > 0) else { return };
    for row in (0..texts.len()).filter(|row| nulls.is_null(*row)) {
        refused.mark(row, texts.len());
    }
}

fn without_unusable(numbers: &Float64Array, largest: f64) -> Float64Array {
    numbers.iter().map(|number| number.filter(|number| is_usable(*number, largest))).collect()
}
