//! The log loss of many rows, with hardly any logarithm taken.

use serde::{Deserialize, Serialize};

/// The least and, from 1, the most that a probability counts as, as in River and scikit-learn.
const NEAREST: f64 = 1e-15;

/// Products below this are turned into logarithms. Another factor leaves them far above the smallest number there is.
const SMALL: f64 = 1e-290;

/// The sum of `-ln p` over the probabilities that were given to the classes that came.
///
/// Probabilities are multiplied, and the logarithm is taken of their product, once it is small: a multiplication a row,
/// whose rounding changes the sum by about 1e-16.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct LogLoss {
    sum: f64,
    product: f64,
}

impl LogLoss {
    /// Of no rows.
    pub fn new() -> Self {
        Self { sum: 0.0, product: 1.0 }
    }

    /// Counts one row by the probability that its class was given.
    #[inline]
    pub fn add(&mut self, probability: f64) {
        self.product *= probability.clamp(NEAREST, 1.0 - NEAREST);
        if self.product < SMALL {
            self.sum -= libm::log(self.product);
            self.product = 1.0;
        }
    }

    /// Counts so many rows whose class was given the same probability.
    pub fn add_many(&mut self, probability: f64, rows: u64) {
        self.sum -= rows as f64 * libm::log(probability.clamp(NEAREST, 1.0 - NEAREST));
    }

    /// The sum of the losses.
    pub fn sum(&self) -> f64 {
        self.sum - libm::log(self.product)
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_of_products_is_the_sum_of_logarithms() {
        let probabilities = (0..10_000_u32).map(|row| f64::from(row.wrapping_mul(2_654_435_761) >> 8) / 16_777_216.0);
        let (mut loss, mut expected) = (LogLoss::new(), 0.0);
        for probability in probabilities.chain([0.0, 1.0, 0.0]) {
            loss.add(probability);
            expected -= probability.clamp(NEAREST, 1.0 - NEAREST).ln();
        }
        assert!((loss.sum() - expected).abs() < 1e-12 * expected, "{} and {expected}", loss.sum());
        let mut certain = LogLoss::new();
        certain.add_many(0.5, 4);
        assert_eq!(certain.sum(), 4.0 * std::f64::consts::LN_2);
        certain.add(f64::NAN);
        assert!(certain.sum().is_nan());
    }
}
