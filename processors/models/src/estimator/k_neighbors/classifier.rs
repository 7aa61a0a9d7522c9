//! Classes by their neighbours.

use super::*;

/// Two or more classes: those of the nearest of the last rows, by their distance (scikit-learn's `KNeighborsClassifier`, over a window). All rows of the
/// window are compared, several at once, so that the nearest are always found.
///
/// Take it where little is known and rows that are alike belong together, such as at the beginning of a flow or for the readings of a few sensors: it
/// predicts as soon as there are rows, and forgets what is older than the window. Features should be few: where they are many, all
/// rows are about equally far away. Numbers are standardised, by what is known when a row is learned, unless `features` says something else.
/// The window of numbers takes 8 bytes for each row and feature.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::estimator) struct KNeighborsClassifier {
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

impl Kind for KNeighborsClassifier {
    const NAME: &'static str = "k_neighbors_classifier";
    const EXAMPLE: &'static str = "n_neighbors = 7\nwindow = 300";
}

impl Settings for KNeighborsClassifier {
    fn labels(&self) -> Labels {
        Labels::Classes
    }

    fn gives(&self, _classes: &[Class]) -> Gives {
        Gives::Probabilities
    }

    fn check(&self, _classes: &[Class]) -> Result<(), Problem> {
        check(self.n_neighbors, self.window)
    }

    fn can_diverge(&self) -> bool {
        false
    }

    fn most_numbers(&self, features: &[Feature], _classes: &[Class]) -> u64 {
        most_numbers(self.window, features)
    }

    fn build(&self, features: &[Feature], classes: &[Class]) -> Box<dyn Estimator> {
        let verdict = Shares { classes: classes.len() };
        Box::new(Neighbours::new(self.n_neighbors, self.weights, self.window, features, verdict))
    }
}

/// The share that the neighbours of each class have; all the same if there are none.
#[derive(Clone, Debug)]
pub(super) struct Shares {
    pub classes: usize,
}

impl Verdict for Shares {
    #[inline(always)]
    fn outputs(&self) -> usize {
        if self.classes == 2 { 1 } else { self.classes }
    }

    #[inline(always)]
    fn conclude(&self, neighbours: impl Iterator<Item = (f64, f64)> + Clone, into: &mut [f64]) {
        let total = neighbours.clone().fold(0.0, |sum, (_, counts)| sum + counts);
        if total == 0.0 {
            into.fill(1.0 / self.classes as f64);
            return;
        }
        // Of two classes, only the second.
        let skipped = self.classes - into.len();
        into.fill(0.0);
        for (class, counts) in neighbours {
            if let Some(share) = (class as usize).checked_sub(skipped).and_then(|class| into.get_mut(class)) {
                *share += counts;
            }
        }
        into.iter_mut().for_each(|share| *share /= total);
    }
}
