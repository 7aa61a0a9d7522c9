//! How far probabilities are from how often what they say comes true: the expected calibration error (Naeini, Cooper & Hauskrecht, "Obtaining well
//! calibrated probabilities using Bayesian binning", 2015).

use serde::{Deserialize, Serialize};

/// How many bins of the same width there are.
const BINS: usize = 15;

/// By bin, what is known of the rows whose probabilities are in it. It is kept beside the other figures of classes, since states of format 4 lack it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Reliability {
    rows: u64,
    bins: Box<[Bin; BINS]>,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Bin {
    probabilities: f64,
    /// How many of the rows were what the probability was of.
    came_true: u64,
}

impl Reliability {
    /// Counts so many rows of the same probability.
    #[inline]
    pub(super) fn add_many(&mut self, probability: f64, came_true: bool, rows: u64) {
        let bin = &mut self.bins[((probability * BINS as f64) as usize).min(BINS - 1)];
        // Those of a damaged state may be any.
        self.rows = self.rows.saturating_add(rows);
        bin.probabilities += probability * rows as f64;
        bin.came_true = bin.came_true.saturating_add(if came_true { rows } else { 0 });
    }

    /// By how many rows more or fewer than said it came true, added up over the bins, of all rows.
    pub(super) fn error(&self) -> f64 {
        let rows: f64 = self.bins.iter().map(|bin| (bin.probabilities - bin.came_true as f64).abs()).sum();
        rows / self.rows as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bin_is_off_by_its_own() {
        let mut reliability = Reliability::default();
        // Of the first bin, then one of the fifth (0.3 * 15 = 4.5), and of the last.
        for (probability, came_true) in
            [(0.0, false), (0.05, true), (0.3, true), (0.3, false), (0.31, false), (1.0, true)]
        {
            reliability.add_many(probability, came_true, 1);
        }
        reliability.add_many(0.96, false, 2);
        assert!((reliability.error() - (0.95 + 0.09 + 1.92) / 8.0).abs() < 1e-12);
    }
}
