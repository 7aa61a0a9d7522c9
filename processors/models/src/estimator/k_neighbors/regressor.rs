//! Numbers by their neighbours.

use super::*;

/// A number: the mean of those of the nearest of the last rows, by their distance (scikit-learn's `KNeighborsRegressor`, over a window). It finds its
/// neighbours, and takes its features, as `k_neighbors_classifier` does.
///
/// Take it where rows that are alike have like numbers, and there is no time to learn more. It never predicts a number that lies beyond those
/// it has seen, so it does not go on with a trend.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::estimator) struct KNeighborsRegressor {
    /// How many neighbours say what a row is.
    #[serde(default = "n_neighbors")]
    #[schemars(range(min = 1, max = 1000))]
    n_neighbors: u32,
    /// How many rows are remembered: the last ones.
    #[serde(default = "window")]
    #[schemars(range(min = 1, max = 1000000))]
    window: u32,
    /// How much a neighbour counts.
    #[serde(default)]
    weights: Weights,
}

impl Kind for KNeighborsRegressor {
    const NAME: &'static str = "k_neighbors_regressor";
    const EXAMPLE: &'static str = "n_neighbors = 7\nwindow = 300";
}

impl Settings for KNeighborsRegressor {
    fn labels(&self) -> Labels {
        Labels::Numbers
    }

    fn gives(&self, _classes: &[Class]) -> Gives {
        Gives::Number
    }

    fn check(&self, _classes: &[Class]) -> Result<(), Problem> {
        check(self.n_neighbors, self.window)
    }

    fn largest(&self) -> f64 {
        // A number may be multiplied by one by a distance.
        1e100
    }

    fn can_diverge(&self) -> bool {
        false
    }

    fn most_numbers(&self, features: &[Feature], _classes: &[Class]) -> u64 {
        most_numbers(self.window, features)
    }

    fn build(&self, features: &[Feature], _classes: &[Class]) -> Box<dyn Estimator> {
        Box::new(Neighbours::new(self.n_neighbors, self.weights, self.window, features, Mean))
    }
}

/// The mean of the neighbours; 0 if there are none.
#[derive(Clone, Debug)]
pub(super) struct Mean;

impl Verdict for Mean {
    #[inline(always)]
    fn outputs(&self) -> usize {
        1
    }

    #[inline(always)]
    fn conclude(&self, neighbours: impl Iterator<Item = (f64, f64)> + Clone, into: &mut [f64]) {
        let (sum, total) =
            neighbours.fold((0.0, 0.0), |(sum, total), (number, counts)| (sum + counts * number, total + counts));
        into[0] = if total > 0.0 { sum / total } else { 0.0 };
    }
}
