//! How often the truth lies in the intervals that are predicted, and how wide these are.

use millstream_core::Metrics;
use serde::{Deserialize, Serialize};

use super::is_plausible;

/// Intervals compared with labels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CoverageScores {
    rows: u64,
    inside: u64,
    /// The sum of all widths.
    width: f64,
}

impl CoverageScores {
    /// Counts one row, unless it has no interval: the prediction, and the two ends.
    #[inline]
    pub fn add(&mut self, target: f64, prediction: &[f64]) {
        let &[_, low, high] = prediction else { return };
        if low.is_nan() || high.is_nan() {
            return;
        }
        self.rows += 1;
        self.inside += u64::from(low <= target && target <= high);
        self.width += high - low;
    }

    /// Whether these may be scores, whoever wrote them.
    pub fn is_sound(&self) -> bool {
        is_plausible([self.rows]) && self.inside <= self.rows
    }

    /// The figures.
    pub fn metrics(&self) -> Metrics {
        let rows = self.rows as f64;
        Metrics(vec![("coverage", self.inside as f64 / rows), ("interval_width", self.width / rows)])
    }
}
