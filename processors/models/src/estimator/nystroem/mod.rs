//! Another estimator over Nyström features: kernels between a row and landmarks, which are rows that came before.
//!
//! Williams and Seeger, "Using the Nyström method to speed up kernel machines" (2001), as scikit-learn's `Nystroem`: the product of the components of two
//! rows is their kernel, as far as the landmarks can tell.

mod eigen;
mod landmarks;

use millstream_core::{Problem, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checks::{check_from_to, check_positive};
use super::mapped::{Mapped, components};
use super::settings::an_estimator;
use super::{Estimator, EstimatorSettings, Gives, Kind, Labels, Settings, Shape};
use crate::encode::Feature;
use crate::label::Class;
use landmarks::Landmarks;

/// What another estimator predicts, which learns from how near a row is to landmarks instead of from the features themselves (Williams & Seeger 2001;
/// scikit-learn's `Nystroem`): from `n_components` numbers `K^(-1/2) k`, where `k` has the kernels `exp(-gamma |x - y|²)` between the row `x` and each landmark
/// `y`, and `K` those between the landmarks. Landmarks are the first rows that differ, behind `after` others by which numbers are standardised. Until all
/// are there, the numbers are 0, so that only what does not depend on features is learned.
///
/// Take it as you would `rbf_sampler`: landmarks lie where rows are, so that fewer components do as well; it takes longer for each. Where what rows look
/// like changes, `rbf_sampler` is better, since landmarks stay. The landmarks and, of each two, a number are kept.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Nystroem {
    /// What learns from the numbers, as `estimator` has it: `{ type = "logistic_regression", learning_rate = 1 }`.
    #[schemars(schema_with = "an_estimator")]
    estimator: EstimatorSettings,
    /// How near rows have to be to be alike: the kernel is `exp(-gamma |x - y|²)`. One by the number of features if nothing is said, which suits
    /// numbers that are standardised.
    #[schemars(extend("exclusiveMinimum" = 0))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gamma: Option<f64>,
    /// How many landmarks there are, and so numbers of a row.
    #[serde(default = "n_components")]
    #[schemars(range(min = 1, max = 500))]
    n_components: u32,
    /// Landmarks are taken from the rows behind so many.
    #[serde(default = "after")]
    #[schemars(range(max = 1_000_000))]
    after: u32,
}

fn n_components() -> u32 {
    100
}

fn after() -> u32 {
    100
}

/// What is computed once all landmarks are there takes as long as their cube.
const MOST_COMPONENTS: u32 = 500;

impl Kind for Nystroem {
    const NAME: &'static str = "nystroem";
    const EXAMPLE: &'static str =
        "estimator = { type = \"softmax_regression\", learning_rate = 1 }\nn_components = 50\nafter = 20";
}

impl Settings for Nystroem {
    fn labels(&self) -> Labels {
        self.estimator.labels()
    }

    fn takes_weights(&self) -> bool {
        self.estimator.takes_weights()
    }

    fn gives(&self, classes: &[Class]) -> Gives {
        self.estimator.gives(classes)
    }

    fn check(&self, classes: &[Class]) -> Result<(), Problem> {
        check_from_to(&[
            ("n_components", self.n_components.into(), 1.0, MOST_COMPONENTS.into()),
            ("after", self.after.into(), 0.0, 1e6),
        ])?;
        if let Some(gamma) = self.gamma {
            check_positive(&[("gamma", gamma)])?;
        }
        let of_estimator = |problem: Problem| problem.under("estimator");
        let labels = self.estimator.labels().check(self.estimator.name(), classes);
        labels.map_err(|wrong| of_estimator(Problem::new(wrong)))?;
        self.estimator.settings().check(classes).map_err(of_estimator)
    }

    fn check_features(&self, _features: &[Feature]) -> Result<(), Problem> {
        let fits = self.estimator.settings().check_features(&components(self.n_components));
        fits.map_err(|problem| problem.under("estimator"))
    }

    fn largest(&self) -> f64 {
        self.estimator.settings().largest()
    }

    fn most_numbers(&self, features: &[Feature], classes: &[Class]) -> u64 {
        let (Shape { numbers, slots, .. }, count) = (Shape::new(features, classes), u64::from(self.n_components));
        let own = (numbers as u64 + slots as u64 + 1).max(count).saturating_mul(count);
        own.max(self.estimator.settings().most_numbers(&components(self.n_components), classes))
    }

    fn can_diverge(&self) -> bool {
        self.estimator.settings().can_diverge()
    }

    fn supports_devices(&self) -> bool {
        self.estimator.settings().supports_devices()
    }

    fn build(&self, features: &[Feature], classes: &[Class]) -> Box<dyn Estimator> {
        let gamma = self.gamma.unwrap_or(1.0 / features.len().max(1) as f64);
        let shape = Shape::new(features, classes);
        let landmarks = Landmarks::new(gamma, self.n_components as usize, self.after.into(), shape);
        Box::new(Mapped::new(landmarks, &components(self.n_components), &self.estimator, classes))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
