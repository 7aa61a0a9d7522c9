//! The areas under the ROC curve and under the curve of precision and recall of a stream, from a histogram of probabilities.

use serde::{Deserialize, Serialize};

use super::is_plausible;

/// How many bins there are to a doubling, of probabilities up to a half, and of what is missing to 1 above: so bins are
/// narrow where probabilities are, also those of a class that comes once in a million rows.
const BINS_A_DOUBLING: u64 = 1 << BITS;
const BITS: u32 = 9;

/// Probabilities that are nearer to 0 than `2 ^ -DOUBLINGS` count as 0. No number but 1 is as near to 1.
const DOUBLINGS: u64 = 64;

/// The bins of probabilities up to a half: that of 0, those of all doublings up to it, and its own.
const HALF: usize = ((DOUBLINGS - 1) * BINS_A_DOUBLING) as usize + 2;

/// How many bins there are. Probabilities in one bin count as equal; they differ by a five-hundredth of themselves at most,
/// or of what is missing to 1. An area is off by no more than half the share of pairs, of a positive row and a negative one,
/// that lie in one bin: less than 0.001 where probabilities are spread over two doublings, and usually far less.
const BINS: usize = 2 * HALF - 1;

/// The bin of a probability; that of NaN is that of 0.
#[inline]
fn bin(probability: f64) -> usize {
    if probability > 0.5 {
        BINS - 1 - bin_below_half((1.0 - probability).max(0.0))
    } else {
        // Of two zeros, either may be the larger one, and the sum is the one without a sign.
        bin_below_half(probability.max(0.0) + 0.0)
    }
}

/// Numbers that are not negative are in the order of their bits, of which the first are the doubling.
#[inline]
fn bin_below_half(probability: f64) -> usize {
    let first = ((1023 - DOUBLINGS) << BITS) - 1;
    (probability.to_bits() >> (52 - BITS)).saturating_sub(first) as usize
}

/// How often each probability was given to positive and to negative rows.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(into = "Vec<Occupied>", try_from = "Vec<Occupied>")]
pub(crate) struct Histogram {
    /// For each bin the negative and the positive rows, side by side; in pages, of which those without rows have no bins.
    pages: Vec<Vec<[u64; 2]>>,
}

/// How many bins a page has: those of a doubling, for about as many pages as there are doublings in use.
const PAGE: usize = BINS_A_DOUBLING as usize;

/// The number of a bin that is not empty, and its negative and positive rows: how a histogram is kept, since most bins are
/// empty most of the time.
type Occupied = (u16, u64, u64);

impl From<Histogram> for Vec<Occupied> {
    fn from(histogram: Histogram) -> Self {
        let bins = histogram.bins().filter(|(_, counts)| *counts != [0; 2]);
        bins.map(|(bin, [negative, positive])| (bin as u16, negative, positive)).collect()
    }
}

impl TryFrom<Vec<Occupied>> for Histogram {
    type Error = &'static str;

    fn try_from(occupied: Vec<Occupied>) -> Result<Self, Self::Error> {
        if !is_plausible(occupied.iter().flat_map(|(_, negative, positive)| [*negative, *positive])) {
            return Err("there can't be so many rows");
        }
        let mut histogram = Self::new();
        for (bin, negative, positive) in occupied {
            if usize::from(bin) >= BINS {
                return Err("there are not so many bins");
            }
            *histogram.counts(usize::from(bin)) = [negative, positive];
        }
        Ok(histogram)
    }
}

impl Histogram {
    pub fn new() -> Self {
        Self { pages: vec![Vec::new(); BINS.div_ceil(PAGE)] }
    }

    #[inline]
    fn counts(&mut self, bin: usize) -> &mut [u64; 2] {
        let page = &mut self.pages[bin / PAGE];
        if page.is_empty() {
            page.resize(PAGE, [0; 2]);
        }
        &mut page[bin % PAGE]
    }

    /// The bins of all pages that have some, and their negative and positive rows.
    fn bins(&self) -> impl DoubleEndedIterator<Item = (usize, [u64; 2])> {
        let pages = self.pages.iter().enumerate();
        pages.flat_map(|(page, bins)| bins.iter().enumerate().map(move |(bin, counts)| (page * PAGE + bin, *counts)))
    }

    /// Counts one row. NaN counts as 0.
    #[inline]
    pub fn add(&mut self, probability: f64, positive: bool) {
        self.add_many(probability, positive, 1);
    }

    /// Counts so many rows.
    #[inline]
    pub fn add_many(&mut self, probability: f64, positive: bool, rows: u64) {
        self.counts(bin(probability))[usize::from(positive)] += rows;
    }

    /// How likely a positive row got a higher probability than a negative one, ties counting half. NaN unless there
    /// are both.
    pub fn area(&self) -> f64 {
        let (mut negatives, mut positives, mut pairs) = (0.0, 0.0, 0.0);
        for (_, [negative, positive]) in self.bins() {
            let (negative, positive) = (negative as f64, positive as f64);
            pairs += positive * (negatives + negative / 2.0);
            negatives += negative;
            positives += positive;
        }
        pairs / (negatives * positives)
    }

    /// The average precision: the mean of the precision at every threshold, weighted by how much the recall rises at it. NaN
    /// unless there are positive rows.
    pub fn average_precision(&self) -> f64 {
        let (mut rows, mut positives, mut sum) = (0.0, 0.0, 0.0);
        for (_, [negative, positive]) in self.bins().rev().filter(|(_, counts)| *counts != [0; 2]) {
            let positive = positive as f64;
            rows += negative as f64 + positive;
            positives += positive;
            sum += positive * (positives / rows);
        }
        sum / positives
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::disallowed_methods)]
mod tests {
    use super::*;

    #[test]
    fn only_bins_that_are_not_empty_are_kept() {
        let mut histogram = Histogram::new();
        for (probability, positive) in [(0.0, false), (0.7, true), (0.7, false), (1.0, true)] {
            histogram.add(probability, positive);
        }
        let kept: Vec<Occupied> = histogram.clone().into();
        let last = (BINS - 1) as u16;
        assert_eq!(kept, [(0, 1, 0), (bin(0.7) as u16, 1, 1), (last, 0, 1)]);
        assert_eq!(Histogram::try_from(kept).unwrap().pages, histogram.pages);
        assert!(Histogram::try_from(vec![(last + 1, 1, 1)]).is_err());
        assert!(Histogram::try_from(vec![(0, u64::MAX, 0), (1, u64::MAX, 0)]).is_err());
    }

    #[test]
    fn bins_are_in_order_and_narrow_on_both_sides() {
        let below = (0..2000).map(|step| 2.0_f64.powf(-66.0 + f64::from(step) * 65.0 / 2000.0));
        let above: Vec<_> = below.clone().map(|probability| 1.0 - probability).rev().collect();
        let probabilities: Vec<_> = below.chain([0.5, 0.5_f64.next_up()]).chain(above).collect();
        assert!(probabilities.is_sorted() && probabilities.iter().map(|each| bin(*each)).is_sorted());
        assert_eq!([bin(0.0), bin(f64::NAN), bin(-0.0), bin(1.0)], [0, 0, 0, BINS - 1]);
        assert_eq!([bin(0.5), bin(0.5_f64.next_up())], [HALF - 1, HALF]);
        for probability in [1e-18, 1e-6, 0.01, 0.3, 0.7, 0.99] {
            let missing: f64 = if probability > 0.5 { 1.0 - probability } else { probability };
            assert!(bin(probability + missing * 0.003) > bin(probability), "{probability}");
        }
        // The number of a bin is kept as u16.
        const { assert!(BINS <= 1 << 16) };
    }

    /// 51 positives among many rows whose probabilities are all below one equal bin of 16,384.
    #[test]
    fn areas_of_rare_classes_are_those_of_the_rows_in_order() {
        let noise = |row: u64| (row.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 11) as f64 / (1_u64 << 53) as f64;
        let rows: Vec<_> = (0..100_000_u64)
            .map(|row| {
                (1e-5 * (noise(row) * 4.0 - 2.0 + if row % 1960 == 0 { 1.2 } else { 0.0 }).exp(), row % 1960 == 0)
            })
            .collect();
        let mut histogram = Histogram::new();
        rows.iter().for_each(|(probability, positive)| histogram.add(*probability, *positive));
        let positives = || rows.iter().filter(|(_, positive)| *positive);
        let below = |mark: f64| rows.iter().filter(|(probability, positive)| !positive && *probability < mark).count();
        let pairs: usize = positives().map(|(probability, _)| below(*probability)).sum();
        let area = pairs as f64 / (52.0 * (100_000.0 - 52.0));
        assert!(
            (histogram.area() - area).abs() < 0.00001 && (0.7..0.85).contains(&area),
            "{} and {area}",
            histogram.area()
        );
        let precision = |mark: f64| {
            let above = |positive: bool| rows.iter().filter(|row| row.0 >= mark && row.1 == positive).count() as f64;
            above(true) / (above(true) + above(false))
        };
        let average = positives().map(|(probability, _)| precision(*probability)).sum::<f64>() / 52.0;
        assert!((histogram.average_precision() / average - 1.0).abs() < 0.02, "{average}");
    }

    /// scikit-learn's `average_precision_score`, by hand: `(1 + 2/3) / 2`.
    #[test]
    fn the_average_precision_is_the_mean_over_the_recall() {
        let mut histogram = Histogram::new();
        assert!(histogram.average_precision().is_nan());
        for (probability, positive) in [(0.1, false), (0.4, false), (0.35, true), (0.8, true)] {
            histogram.add(probability, positive);
        }
        assert_eq!(histogram.average_precision(), (1.0 + 2.0 / 3.0) / 2.0);
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
