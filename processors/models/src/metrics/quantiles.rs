//! Metrics of predicted quantiles.

use millstream_core::Metrics;
use serde::{Deserialize, Serialize};

use super::{NumberScores, is_plausible};
use crate::estimator::Quantiles;

/// Predicted quantiles compared with labels, and the central one of them as the number that it stands for. Figures that can't be computed are
/// NaN.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct QuantileScores {
    numbers: NumberScores,
    /// The mean over the quantiles, summed up over the rows.
    loss: f64,
    /// How many labels lay between the lowest and the highest one, or on them.
    inside: u64,
    /// Which they are is known from the estimator.
    #[serde(skip)]
    quantiles: Quantiles,
}

impl QuantileScores {
    /// Of nothing yet.
    pub fn of(quantiles: Quantiles) -> Self {
        Self { numbers: NumberScores::default(), loss: 0.0, inside: 0, quantiles }
    }

    /// Counts one row: the prediction is the number, and the quantiles behind it.
    #[inline]
    pub fn add(&mut self, target: f64, prediction: &[f64]) {
        let (number, quantiles) = (prediction[0], &prediction[1..]);
        self.numbers.add(target, number);
        self.loss += self.quantiles.loss(target, quantiles) / quantiles.len() as f64;
        let (lowest, highest) = (quantiles[0], quantiles[quantiles.len() - 1]);
        self.inside += u64::from((lowest..=highest).contains(&target));
    }

    /// Whether a row like this could be counted.
    pub(crate) fn takes(&self, prediction: &[f64]) -> bool {
        prediction.len() == 1 + self.quantiles.shares().len()
    }

    /// Whether these may be scores, whoever wrote them.
    pub(crate) fn is_sound(&self) -> bool {
        self.numbers.is_sound() && is_plausible([self.inside])
    }

    /// Is of the quantiles of `other` from now on.
    pub(crate) fn go_on_like(&mut self, other: &Self) {
        self.quantiles = other.quantiles;
    }

    /// How many rows were counted.
    pub fn rows(&self) -> u64 {
        self.numbers.rows()
    }

    /// The figures: those of the number, the mean loss of the quantiles, and the share of the labels that lay between the outer ones.
    pub fn metrics(&self) -> Metrics {
        let rows = self.rows() as f64;
        let mut metrics = self.numbers.metrics();
        metrics.0.extend([("quantile_loss", self.loss / rows), ("coverage", self.inside as f64 / rows)]);
        metrics
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn figures_by_hand() {
        let mut scores = QuantileScores::of(Quantiles::of(&[0.25, 0.75]));
        assert!(scores.metrics().0.iter().all(|(_, value)| value.is_nan()));
        // The first lies between them; the second costs 3 quarters of 4 and a quarter of 6.
        scores.add(2.0, &[1.0, 1.0, 3.0]);
        scores.add(-3.0, &[1.0, 1.0, 3.0]);
        let metrics = scores.metrics();
        let of_rows = [(0.25 + 0.25) / 2.0, (3.0 + 1.5) / 2.0];
        assert_eq!(metrics.get("quantile_loss"), Some((of_rows[0] + of_rows[1]) / 2.0));
        assert_eq!((metrics.get("coverage"), metrics.get("mae")), (Some(0.5), Some(2.5)));
        let mut again: QuantileScores = serde_json::from_str(&serde_json::to_string(&scores).unwrap()).unwrap();
        assert!(!again.takes(&[1.0, 1.0, 3.0]) && again.is_sound());
        again.go_on_like(&scores);
        assert!(again.takes(&[1.0, 1.0, 3.0]) && !again.takes(&[1.0]));
        assert_eq!(again.metrics(), metrics);
    }
}
