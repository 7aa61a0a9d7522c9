//! The area under the ROC curve of a stream, from a histogram of probabilities.

use serde::{Deserialize, Serialize};

use super::is_plausible;

/// How many bins there are. Probabilities in one bin count as equal: with so many, the area is off by less than 0.0001
/// unless nearly all probabilities fall into a few bins.
const BINS: usize = 1 << 14;

/// How often each probability was given to positive and to negative rows.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(into = "Vec<Occupied>", try_from = "Vec<Occupied>")]
pub(crate) struct Histogram {
    /// For each bin the negative and the positive rows, side by side.
    counts: Vec<[u64; 2]>,
}

/// The number of a bin that is not empty, and its negative and positive rows: how a histogram is kept, since most bins are
/// empty most of the time.
type Occupied = (u16, u64, u64);

impl From<Histogram> for Vec<Occupied> {
    fn from(histogram: Histogram) -> Self {
        let bins = (0..).zip(histogram.counts).filter(|(_, counts)| *counts != [0; 2]);
        bins.map(|(bin, [negative, positive])| (bin, negative, positive)).collect()
    }
}

impl TryFrom<Vec<Occupied>> for Histogram {
    type Error = &'static str;

    fn try_from(occupied: Vec<Occupied>) -> Result<Self, Self::Error> {
        let mut histogram = Self::new();
        for (bin, negative, positive) in occupied {
            let counts = histogram.counts.get_mut(usize::from(bin)).ok_or("there are not so many bins")?;
            *counts = [negative, positive];
        }
        let plausible = is_plausible(histogram.counts.as_flattened().iter().copied());
        if plausible { Ok(histogram) } else { Err("there can't be so many rows") }
    }
}

impl Histogram {
    pub fn new() -> Self {
        Self { counts: vec![[0; 2]; BINS] }
    }

    /// Counts one row. NaN counts as 0.
    #[inline]
    pub fn add(&mut self, probability: f64, positive: bool) {
        self.add_many(probability, positive, 1);
    }

    /// Counts so many rows.
    #[inline]
    pub fn add_many(&mut self, probability: f64, positive: bool, rows: u64) {
        let bin = ((probability * BINS as f64) as usize).min(BINS - 1);
        self.counts[bin][usize::from(positive)] += rows;
    }

    /// How likely a positive row got a higher probability than a negative one, ties counting half. NaN unless there
    /// are both.
    pub fn area(&self) -> f64 {
        let (mut negatives, mut positives, mut pairs) = (0.0, 0.0, 0.0);
        for &[negative, positive] in &self.counts {
            let (negative, positive) = (negative as f64, positive as f64);
            pairs += positive * (negatives + negative / 2.0);
            negatives += negative;
            positives += positive;
        }
        pairs / (negatives * positives)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_bins_that_are_not_empty_are_kept() {
        let mut histogram = Histogram::new();
        for (probability, positive) in [(0.0, false), (0.7, true), (0.7, false), (1.0, true)] {
            histogram.add(probability, positive);
        }
        let kept: Vec<Occupied> = histogram.clone().into();
        assert_eq!(kept, [(0, 1, 0), (11_468, 1, 1), (16_383, 0, 1)]);
        assert_eq!(Histogram::try_from(kept).unwrap().counts, histogram.counts);
        assert!(Histogram::try_from(vec![(16_384, 1, 1)]).is_err());
        assert!(Histogram::try_from(vec![(0, u64::MAX, 0), (1, u64::MAX, 0)]).is_err());
    }

    #[test]
    fn the_area_is_the_share_of_pairs_in_order() {
        let mut histogram = Histogram::new();
        assert!(histogram.area().is_nan());
        for (probability, positive) in [(0.1, false), (0.4, false), (0.35, true), (0.8, true)] {
            histogram.add(probability, positive);
        }
        assert_eq!(histogram.area(), 0.75);
        for (probability, positive) in [(1.0, true), (0.0, false), (f64::NAN, false)] {
            histogram.add(probability, positive);
        }
        assert_eq!(histogram.area(), 11.0 / 12.0);
    }
}
