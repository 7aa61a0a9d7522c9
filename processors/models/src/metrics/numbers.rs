//! Metrics of predicted numbers.

use millstream_core::Metrics;
use serde::{Deserialize, Serialize};

use super::is_plausible;

/// Predicted numbers compared with labels. Figures that can't be computed are NaN.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct NumberScores {
    rows: u64,
    absolute: f64,
    squared: f64,
    mean: f64,
    /// Of the labels, squared distances from their mean, by Welford's method.
    spread: f64,
}

impl NumberScores {
    /// Counts one row.
    #[inline]
    pub fn add(&mut self, target: f64, prediction: f64) {
        let error = prediction - target;
        self.rows += 1;
        self.absolute += error.abs();
        self.squared += error * error;
        let before = target - self.mean;
        self.mean += before / self.rows as f64;
        self.spread += before * (target - self.mean);
    }

    /// Whether these may be scores, whoever wrote them.
    pub fn is_sound(&self) -> bool {
        is_plausible([self.rows])
    }

    /// How many rows were counted.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The mean of the labels; 0 before the first.
    pub fn mean(&self) -> f64 {
        self.mean
    }

    /// The root of the mean squared error; NaN before the first row.
    pub fn root_mean_square(&self) -> f64 {
        (self.squared / self.rows as f64).sqrt()
    }

    /// The figures.
    pub fn metrics(&self) -> Metrics {
        let rows = self.rows as f64;
        let r2 = if self.spread > 0.0 { 1.0 - self.squared / self.spread } else { f64::NAN };
        Metrics(vec![("mae", self.absolute / rows), ("rmse", self.root_mean_square()), ("r2", r2)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_by_hand() {
        let mut scores = NumberScores::default();
        assert!(scores.metrics().0.iter().all(|(_, value)| value.is_nan()));
        for (target, prediction) in [(1.0, 2.0), (2.0, 2.0), (3.0, 1.0)] {
            scores.add(target, prediction);
        }
        assert_eq!(scores.metrics().0, [("mae", 1.0), ("rmse", (5.0_f64 / 3.0).sqrt()), ("r2", 1.0 - 5.0 / 2.0)]);
    }
}
