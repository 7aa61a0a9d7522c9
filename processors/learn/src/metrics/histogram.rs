//! The area under the ROC curve of a stream, from a histogram of probabilities.

/// How many bins there are. Probabilities in one bin count as equal: with so many, the area is off by less than 0.0001
/// unless nearly all probabilities fall into a few bins.
const BINS: usize = 1 << 14;

/// How often each probability was given to positive and to negative rows.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    /// For each bin the negative and the positive rows, side by side.
    counts: Vec<[u64; 2]>,
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
mod tests {
    use super::*;

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
