//! `sum` and `avg`.

use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{ArrayRef, Decimal128Array, Float64Array, Int64Array, UInt64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int64Type, UInt64Type};
use millstream_core::{Error, Result};

use super::accumulator::{Accumulator, Rows, Saved, apart, floats, for_present, together};

/// Sum or mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    Sum,
    Mean,
}

/// The type of the result for values of a type; `None` for values that can't be added.
pub fn result_type(of: Of, values: &DataType) -> Option<DataType> {
    Some(match (of, values) {
        (Of::Sum, integer) if integer.is_signed_integer() => DataType::Int64,
        (Of::Sum, integer) if integer.is_unsigned_integer() => DataType::UInt64,
        (Of::Sum, DataType::Decimal128(precision, scale)) => DataType::Decimal128(38.min(precision + 10), *scale),
        (Of::Mean, DataType::Decimal128(precision, scale)) => {
            DataType::Decimal128(38.min(precision + 4), 38.min(scale + 4))
        }
        (_, number) if number.is_numeric() => DataType::Float64,
        _ => return None,
    })
}

/// An accumulator for values of a type that can be added.
pub fn new(of: Of, values: &DataType, result: DataType) -> Box<dyn Accumulator> {
    match values {
        exact if exact.is_integer() || matches!(exact, DataType::Decimal128(_, _)) => {
            Box::new(Exact { of, result, scale: scale(exact), sums: Vec::new(), rows: Vec::new() })
        }
        _ => Box::new(Floats { of, sums: Vec::new(), rows: Vec::new() }),
    }
}

fn scale(data_type: &DataType) -> i8 {
    match data_type {
        DataType::Decimal128(_, scale) => *scale,
        _ => 0,
    }
}

/// Of floating-point numbers, added one by one in the order of the rows.
struct Floats {
    of: Of,
    sums: Vec<f64>,
    rows: Vec<u64>,
}

impl Accumulator for Floats {
    fn grow(&mut self, slots: usize) {
        self.sums.resize(slots, 0.0);
        self.rows.resize(slots, 0);
    }

    fn update(&mut self, values: &ArrayRef, rows: Rows<'_>) -> Result<()> {
        let numbers = floats(values)?;
        for_present(values, rows, |row, slot| {
            self.sums[slot] += numbers.values()[row];
            self.rows[slot] += 1;
        });
        Ok(())
    }

    fn merge(&mut self, from: u32, into: u32) {
        self.sums[into as usize] += self.sums[from as usize];
        self.rows[into as usize] += self.rows[from as usize];
    }

    fn clear(&mut self, slot: u32) {
        (self.sums[slot as usize], self.rows[slot as usize]) = (0.0, 0);
    }

    fn finish(&self, slots: &[u32]) -> Result<ArrayRef> {
        let result = slots.iter().map(|slot| {
            let (sum, rows) = (self.sums[*slot as usize], self.rows[*slot as usize]);
            let result = if self.of == Of::Sum { sum } else { sum / rows as f64 };
            (rows > 0).then_some(result)
        });
        Ok(Arc::new(result.collect::<Float64Array>()))
    }

    fn save(&self, slots: &[u32]) -> Saved {
        let sums = Float64Array::from_iter_values(of_slots(&self.sums, slots));
        let rows = UInt64Array::from_iter_values(of_slots(&self.rows, slots));
        Box::new(|| Ok(together([("sum", Arc::new(sums)), ("rows", Arc::new(rows))])))
    }

    fn load(&mut self, column: &ArrayRef) -> Result<()> {
        let [sums, rows] = apart(column)?;
        self.sums.extend(sums.as_primitive::<Float64Type>().values());
        self.rows.extend(rows.as_primitive::<UInt64Type>().values());
        Ok(())
    }
}

fn of_slots<T: Copy>(values: &[T], slots: &[u32]) -> impl Iterator<Item = T> {
    slots.iter().map(|slot| values[*slot as usize])
}

/// Of integers and decimals, which are added without any error.
struct Exact {
    of: Of,
    result: DataType,
    /// How many digits behind the point the values have.
    scale: i8,
    sums: Vec<i128>,
    rows: Vec<u64>,
}

/// Stands for a sum that has overflown: no result type has so many digits. Integers never get there, decimals of 38
/// digits may.
const OVERFLOWN: i128 = i128::MAX;

#[inline]
fn sum(a: i128, b: i128) -> i128 {
    if a == OVERFLOWN || b == OVERFLOWN {
        return OVERFLOWN;
    }
    a.checked_add(b).unwrap_or(OVERFLOWN)
}

impl Exact {
    fn add(&mut self, slot: usize, value: i128) {
        self.sums[slot] = sum(self.sums[slot], value);
        self.rows[slot] += 1;
    }

    /// The results as integers, those of decimals without their point.
    fn results(&self, slots: &[u32]) -> impl Iterator<Item = Option<i128>> {
        let digits = i32::from(scale(&self.result)) - i32::from(self.scale);
        slots.iter().map(move |slot| {
            let (sum, rows) = (self.sums[*slot as usize], self.rows[*slot as usize]);
            let result = match self.of {
                Of::Sum => sum,
                // As DataFusion does: digits that there is no place for are cut off.
                Of::Mean if sum == OVERFLOWN => OVERFLOWN,
                Of::Mean => {
                    let scaled = sum.checked_mul(10_i128.pow(digits.unsigned_abs()));
                    scaled.map_or(OVERFLOWN, |sum| sum / i128::from(rows.max(1)))
                }
            };
            (rows > 0).then_some(result)
        })
    }
}

impl Accumulator for Exact {
    fn grow(&mut self, slots: usize) {
        self.sums.resize(slots, 0);
        self.rows.resize(slots, 0);
    }

    fn update(&mut self, values: &ArrayRef, rows: Rows<'_>) -> Result<()> {
        match values.data_type() {
            DataType::Decimal128(_, _) => {
                let numbers = values.as_primitive::<Decimal128Type>();
                for_present(values, rows, |row, slot| self.add(slot, numbers.value(row)));
            }
            unsigned if unsigned.is_unsigned_integer() => {
                let numbers = cast(values, &DataType::UInt64)?;
                let numbers = numbers.as_primitive::<UInt64Type>();
                for_present(values, rows, |row, slot| self.add(slot, numbers.value(row).into()));
            }
            _ => {
                let numbers = cast(values, &DataType::Int64)?;
                let numbers = numbers.as_primitive::<Int64Type>();
                for_present(values, rows, |row, slot| self.add(slot, numbers.value(row).into()));
            }
        }
        Ok(())
    }

    fn merge(&mut self, from: u32, into: u32) {
        self.sums[into as usize] = sum(self.sums[into as usize], self.sums[from as usize]);
        self.rows[into as usize] += self.rows[from as usize];
    }

    fn clear(&mut self, slot: u32) {
        (self.sums[slot as usize], self.rows[slot as usize]) = (0, 0);
    }

    fn finish(&self, slots: &[u32]) -> Result<ArrayRef> {
        let too_large = || Error::new("a sum is larger than its type can hold; cast the values to float64");
        match &self.result {
            DataType::Int64 => {
                let sums = self.results(slots).map(|sum| sum.map(i64::try_from).transpose());
                Ok(Arc::new(sums.collect::<Result<Int64Array, _>>().map_err(|_| too_large())?))
            }
            DataType::UInt64 => {
                let sums = self.results(slots).map(|sum| sum.map(u64::try_from).transpose());
                Ok(Arc::new(sums.collect::<Result<UInt64Array, _>>().map_err(|_| too_large())?))
            }
            DataType::Decimal128(precision, scale) => {
                let sums: Decimal128Array = self.results(slots).collect();
                let sums = sums.with_precision_and_scale(*precision, *scale)?;
                sums.validate_decimal_precision(*precision).map_err(|_| too_large())?;
                Ok(Arc::new(sums))
            }
            // The mean of integers.
            _ => {
                let mean = |slot: &u32| {
                    let rows = self.rows[*slot as usize];
                    (rows > 0).then(|| self.sums[*slot as usize] as f64 / rows as f64)
                };
                Ok(Arc::new(slots.iter().map(mean).collect::<Float64Array>()))
            }
        }
    }

    fn save(&self, slots: &[u32]) -> Saved {
        // 128 bits, whatever they stand for.
        let sums = Decimal128Array::from_iter_values(of_slots(&self.sums, slots));
        let rows = UInt64Array::from_iter_values(of_slots(&self.rows, slots));
        Box::new(|| Ok(together([("sum", Arc::new(sums)), ("rows", Arc::new(rows))])))
    }

    fn load(&mut self, column: &ArrayRef) -> Result<()> {
        let [sums, rows] = apart(column)?;
        self.sums.extend(sums.as_primitive::<Decimal128Type>().values());
        self.rows.extend(rows.as_primitive::<UInt64Type>().values());
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_that_overflows_is_an_error_also_if_it_comes_back() {
        let largest = 10_i128.pow(38) - 1;
        let decimal = DataType::Decimal128(38, 0);
        let values = |values: Vec<i128>| -> ArrayRef {
            Arc::new(Decimal128Array::from(values).with_precision_and_scale(38, 0).unwrap())
        };
        for of in [Of::Sum, Of::Mean] {
            let mut total = new(of, &decimal, result_type(of, &decimal).unwrap());
            total.grow(1);
            let rows = |count: usize| Rows { slots: &[0; 4][..count], times: &[0; 4][..count] };
            total.update(&values(vec![largest, largest, -largest, -largest]), rows(4)).unwrap();
            assert!(total.finish(&[0]).is_err(), "{of:?}");
            let saved = total.save(&[0])().unwrap();
            let mut restored = new(of, &decimal, result_type(of, &decimal).unwrap());
            restored.load(&saved).unwrap();
            assert!(restored.finish(&[0]).is_err(), "{of:?}");
            total.clear(0);
            total.update(&values(vec![7, 8]), rows(2)).unwrap();
            assert!(total.finish(&[0]).is_ok(), "{of:?}");
        }
    }
}
