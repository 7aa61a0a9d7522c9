//! `quantile(x, q)`: from a sketch whose answer is within 1% of the true value, whatever the order of the rows. The true value is
//! the one of rank `floor(q * (n - 1))`, counted from 0, of `n` in their order; the rank itself is exact.
//!
//! Method: DDSketch (Masson, Rim, Lee, VLDB 2019). Values are counted in bins whose borders grow by a constant factor, so
//! the bin of the wanted rank has the value up to a relative error. No bins are ever put together, so that neither the
//! order nor the cut of the rows matters; a group has at most as many as there are magnitudes among its values.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{Array, ArrayRef, Float64Array, Int32Array, ListArray, UInt64Array};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{Field, Int32Type, UInt64Type};
use millstream_core::{Error, Result};

use super::accumulator::{Accumulator, Rows, Saved, apart, floats, for_present, together};

/// How far the answer is from the true value at most, as a share of it.
pub const ERROR: f64 = 0.01;

/// Each bin's upper barrier, as a multiple of its lower one.
const GROWTH: f64 = (1.0 + ERROR) / (1.0 - ERROR);

/// The natural logarithm of that.
const LOG_GROWTH: f64 = 0.020000666706669435;

/// The value below which a share of the values lies.
pub struct Quantile {
    share: Share,
    sketches: Vec<Sketch>,
}

/// A share as it was written, which floats such as 0.29 are not.
#[derive(Clone, Copy)]
struct Share {
    numerator: u64,
    denominator: u64,
}

impl Share {
    /// The shortest decimal number that stands for this float, which is between 0 and 1.
    fn of(share: f64) -> Self {
        let text = share.to_string();
        let (whole, digits) = text.split_once('.').unwrap_or((&text, ""));
        let digits = &digits[..digits.len().min(18)];
        let numerator = format!("{whole}{digits}").parse().unwrap_or_default();
        Self { numerator, denominator: 10_u64.pow(digits.len() as u32) }
    }

    /// That share of a number, rounded down.
    fn floor_of(self, number: u64) -> u64 {
        (u128::from(self.numerator) * u128::from(number) / u128::from(self.denominator)) as u64
    }
}

/// How many values each bin has. The bins of negative numbers count by their absolute values.
#[derive(Clone, Default)]
struct Sketch {
    negative: Bins,
    zeros: u64,
    positive: Bins,
    rows: u64,
}

type Bins = BTreeMap<i32, u64>;

impl Sketch {
    fn add(&mut self, value: f64) {
        if value.is_nan() {
            return;
        }
        self.rows += 1;
        match value {
            0.0 => self.zeros += 1,
            positive if positive > 0.0 => *self.positive.entry(bin(positive)).or_default() += 1,
            negative => *self.negative.entry(bin(-negative)).or_default() += 1,
        }
    }

    fn merge(&mut self, other: &Self) {
        self.rows += other.rows;
        self.zeros += other.zeros;
        other.negative.iter().for_each(|(bin, rows)| *self.negative.entry(*bin).or_default() += rows);
        other.positive.iter().for_each(|(bin, rows)| *self.positive.entry(*bin).or_default() += rows);
    }

    fn value_at(&self, share: Share) -> Option<f64> {
        let rank = share.floor_of(self.rows.checked_sub(1)?);
        let negative = self.negative.iter().rev().map(|(bin, rows)| (-middle(*bin), *rows));
        let positive = self.positive.iter().map(|(bin, rows)| (middle(*bin), *rows));
        let mut below = 0;
        let mut bins = negative.chain([(0.0, self.zeros)]).chain(positive);
        bins.find(|(_, rows)| {
            below += rows;
            below > rank
        })
        .map(|(value, _)| value)
    }
}

fn bin(magnitude: f64) -> i32 {
    (libm::log(magnitude) / LOG_GROWTH).ceil() as i32
}

/// The value of a bin that is nearest to all others of it.
fn middle(bin: i32) -> f64 {
    2.0 * libm::exp(f64::from(bin) * LOG_GROWTH) / (GROWTH + 1.0)
}

/// The bins of some sketches, as a list for each.
fn save_bins<'a>(sketches: impl Iterator<Item = &'a Bins> + Clone) -> Result<ArrayRef> {
    let bins = Int32Array::from_iter_values(sketches.clone().flat_map(BTreeMap::keys).copied());
    let rows = UInt64Array::from_iter_values(sketches.clone().flat_map(BTreeMap::values).copied());
    let pairs = together([("bin", Arc::new(bins)), ("rows", Arc::new(rows))]);
    let field = Arc::new(Field::new("bins", pairs.data_type().clone(), true));
    Ok(Arc::new(ListArray::try_new(field, OffsetBuffer::from_lengths(sketches.map(BTreeMap::len)), pairs, None)?))
}

fn load_bins(column: &ArrayRef) -> Result<Vec<Bins>> {
    let lists = column.as_list::<i32>();
    let [bins, rows] = apart(lists.values())?;
    let (bins, rows) = (bins.as_primitive::<Int32Type>(), rows.as_primitive::<UInt64Type>());
    let places = lists.value_offsets().windows(2).map(|ends| ends[0] as usize..ends[1] as usize);
    Ok(places.map(|places| places.map(|place| (bins.value(place), rows.value(place))).collect()).collect())
}

impl Quantile {
    /// `share` is between 0 and 1.
    pub fn new(share: f64) -> Self {
        Self { share: Share::of(share), sketches: Vec::new() }
    }
}

impl Accumulator for Quantile {
    fn grow(&mut self, slots: usize) {
        self.sketches.resize(slots, Sketch::default());
    }

    fn update(&mut self, values: &ArrayRef, rows: Rows<'_>) -> Result<()> {
        let numbers = floats(values)?;
        for_present(values, rows, |row, slot| self.sketches[slot].add(numbers.values()[row]));
        Ok(())
    }

    fn merge(&mut self, from: u32, into: u32) {
        let from = self.sketches[from as usize].clone();
        self.sketches[into as usize].merge(&from);
    }

    fn is_small(&self) -> bool {
        false
    }

    fn clear(&mut self, slot: u32) {
        self.sketches[slot as usize] = Sketch::default();
    }

    fn finish(&self, slots: &[u32]) -> Result<ArrayRef> {
        let values = slots.iter().map(|slot| self.sketches[*slot as usize].value_at(self.share));
        Ok(Arc::new(values.collect::<Float64Array>()))
    }

    fn save(&self, slots: &[u32]) -> Saved {
        let sketches = slots.iter().map(|slot| &self.sketches[*slot as usize]);
        let zeros = UInt64Array::from_iter_values(sketches.clone().map(|sketch| sketch.zeros));
        let negative = save_bins(sketches.clone().map(|sketch| &sketch.negative));
        let positive = save_bins(sketches.map(|sketch| &sketch.positive));
        Box::new(|| Ok(together([("zeros", Arc::new(zeros)), ("negative", negative?), ("positive", positive?)])))
    }

    fn fixed_bytes(&self) -> Option<usize> {
        None
    }

    fn bytes(&self, slot: u32) -> usize {
        let Sketch { negative, positive, .. } = &self.sketches[slot as usize];
        (negative.len() + positive.len()) * size_of::<(i32, u64)>()
    }

    fn load(&mut self, column: &ArrayRef) -> Result<()> {
        let [zeros, negative, positive] = apart(column)?;
        let sides = load_bins(&negative)?.into_iter().zip(load_bins(&positive)?);
        for (zeros, (negative, positive)) in zeros.as_primitive::<UInt64Type>().values().iter().zip(sides) {
            let mut counts = negative.values().chain(positive.values());
            let rows = counts.try_fold(*zeros, |rows, more| rows.checked_add(*more));
            let rows = rows.ok_or_else(|| Error::new("the state of a quantile has too many rows"))?;
            self.sketches.push(Sketch { negative, zeros: *zeros, positive, rows });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_the_error_in_any_order() {
        let value = |row: u32| (f64::from(row.wrapping_mul(2_654_435_761) >> 4) - 1e8) * 1e-3;
        let mut sorted: Vec<f64> = (0..10_001).map(value).collect();
        let (mut sketch, mut left, mut right) = (Sketch::default(), Sketch::default(), Sketch::default());
        sorted.iter().for_each(|value| sketch.add(*value));
        sorted.iter().rev().enumerate().for_each(|(row, value)| [&mut left, &mut right][row % 2].add(*value));
        left.merge(&right);
        sorted.sort_by(f64::total_cmp);
        for (share, place) in [(0.0, 0), (0.01, 100), (0.25, 2500), (0.5, 5000), (0.99, 9900), (1.0, 10_000)] {
            let found = sketch.value_at(Share::of(share)).expect("there are values");
            assert!(
                (found - sorted[place]).abs() <= ERROR * sorted[place].abs(),
                "{share}: {found}, {}",
                sorted[place]
            );
            assert_eq!(left.value_at(Share::of(share)), Some(found));
        }
        assert_eq!(Sketch::default().value_at(Share::of(0.5)), None);
    }

    #[test]
    fn ranks_are_exact() {
        for percent in 0..=100 {
            let share: f64 = format!("{}.{:02}", percent / 100, percent % 100).parse().expect("a number");
            assert_eq!(Share::of(share).floor_of(100), percent);
            assert_eq!(Share::of(share).floor_of(100_000_000_000_000), percent * 1_000_000_000_000);
        }
        assert_eq!(Share::of(1e-20).floor_of(u64::MAX), 0);
        assert_eq!(Share::of(0.999_999_999_999_999_9).floor_of(1_000_000), 999_999);
    }
}
