//! What numbers are like: how much they count, their mean, and how far they lie from it.

use super::Sums;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Moments {
    pub weight: f64,
    pub mean: f64,
    /// The sum of the squares of the distances from the mean.
    pub squares: f64,
}

impl Moments {
    /// Those of numbers of which these are the sums.
    pub fn of(sums: Sums, origin: f64) -> Self {
        let [weight, off, _] = sums;
        Self { weight, mean: origin + off / weight, squares: squares(sums) }
    }

    #[inline(always)]
    pub fn add(&mut self, number: f64, weight: f64) {
        self.weight += weight;
        let off = number - self.mean;
        self.mean += off * (weight / self.weight);
        self.squares += weight * off * (number - self.mean);
    }
}

/// The sum of the squares of the distances from the mean, of numbers of which these are the sums.
#[inline(always)]
pub(super) fn squares([weight, off, squares]: Sums) -> f64 {
    (squares - off * off / weight).max(0.0)
}
