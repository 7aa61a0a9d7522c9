//! The adaptive random forest of numbers.

use millstream_core::{ByteSize, Problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checks::{check_from_to, check_inside};
use super::forest::{Forest, Plan, Renewal};
use super::hoeffding_tree::LARGEST;
use super::hoeffding_tree_regressor::{
    AmountLeaves, bins, learning_rate, model_selector_decay, most_numbers_of_amounts,
};
use super::random::Poisson;
use super::tree::{AmountRules, Amounts, Growth};
use super::{Estimator, Gives, Kind, Labels, Settings, Shape, Takes};
use crate::drift::adwin;
use crate::encode::Feature;
use crate::label::Class;

/// A number: trees as of `hoeffding_tree_regressor`, the mean of whose predictions is predicted, and of which each is replaced when it gets worse
/// (Gomes et al., "Adaptive random forests for data stream regression", 2018). The trees differ, since each row counts for each of them as often as a
/// Poisson distribution says, and each leaf looks at some features only, which are drawn. ADWIN watches each tree's errors, compared with
/// what they usually are: when they seem to rise, a new tree begins to learn beside it, and when they have risen, it takes its place.
///
/// Take it where the best accuracy is worth the time, and where what is to be learned changes. It takes as long as its trees together, on several
/// threads if there are any; what it learns does not depend on how many.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AdaptiveRandomForestRegressor {
    /// How many trees there are.
    #[serde(default = "n_models")]
    #[schemars(range(min = 1, max = 1000))]
    n_models: u32,
    /// The share of the features that a leaf looks at: at least one.
    #[serde(default = "max_features")]
    max_features: f64,
    /// How often a row counts on average.
    #[serde(default = "lambda")]
    lambda: f64,
    /// A leaf is looked at again after its rows have counted so much more.
    #[serde(default = "grace_period")]
    #[schemars(range(min = 1))]
    grace_period: u32,
    /// How probable it is that a split is not the best one.
    #[serde(default = "delta")]
    delta: f64,
    /// Where the best split may be better by less than this share, all that come near it are equally good.
    #[serde(default = "tau")]
    tau: f64,
    /// What leaves predict by.
    #[serde(default)]
    leaf_prediction: AmountLeaves,
    /// Which share of its error a row takes away from the linear model of its leaf.
    #[serde(default = "learning_rate")]
    learning_rate: f64,
    /// How much errors of mean and model count less with every further one, where leaves predict by what was closer.
    #[serde(default = "model_selector_decay")]
    model_selector_decay: f64,
    /// Into so many bins each number is divided in each leaf: splits lie between them.
    #[serde(default = "bins")]
    #[schemars(range(min = 2, max = 1000))]
    bins: u32,
    /// How probable it is that a new tree begins though nothing has changed.
    #[serde(default = "warning_delta")]
    warning_delta: f64,
    /// How probable it is that a tree is replaced though nothing has changed.
    #[serde(default = "drift_delta")]
    drift_delta: f64,
    /// What is drawn by chance follows from this.
    #[serde(default)]
    seed: u64,
    /// How much memory the trees take at most: each, and each that is to follow, the same share of it. Where a split would need more, leaves with
    /// little variance stop counting, and stay leaves.
    #[serde(default = "max_memory")]
    max_memory: ByteSize,
}

fn n_models() -> u32 {
    10
}

fn max_features() -> f64 {
    0.6
}

fn lambda() -> f64 {
    6.0
}

fn grace_period() -> u32 {
    50
}

fn delta() -> f64 {
    0.01
}

fn tau() -> f64 {
    0.05
}

fn warning_delta() -> f64 {
    0.01
}

fn drift_delta() -> f64 {
    0.001
}

fn max_memory() -> ByteSize {
    ByteSize(256 << 20)
}

impl AdaptiveRandomForestRegressor {
    fn growth(&self) -> Growth {
        Growth {
            grace: self.grace_period.into(),
            delta: self.delta,
            tie: self.tau,
            max_bytes: self.max_memory.0 / (2 * self.n_models as usize),
            beside_node: 0,
        }
    }

    fn rules(&self) -> AmountRules {
        let Self { bins, learning_rate, model_selector_decay, .. } = *self;
        AmountRules { bins, leaves: self.leaf_prediction.into(), rate: learning_rate, decay: model_selector_decay }
    }

    fn plan(&self, features: &[Feature], classes: &[Class]) -> Plan<Amounts> {
        Plan {
            trees: self.n_models,
            growth: self.growth(),
            rules: self.rules(),
            features: features.to_vec(),
            shape: Shape::new(features, classes),
            subspace: Plan::<Amounts>::subspace(self.max_features, features),
            poisson: Poisson::new(self.lambda),
            seed: self.seed,
            drift: adwin::Settings::of(self.drift_delta),
            renewal: Renewal::Own { warning: adwin::Settings::of(self.warning_delta) },
        }
    }
}

impl Kind for AdaptiveRandomForestRegressor {
    const NAME: &'static str = "adaptive_random_forest_regressor";
    const EXAMPLE: &'static str = "n_models = 5\nseed = 7\nmax_memory = \"20MiB\"";
    const EXPORTS: bool = true;
}

impl Settings for AdaptiveRandomForestRegressor {
    fn takes(&self) -> Takes {
        Takes::Raw
    }

    fn labels(&self) -> Labels {
        Labels::Numbers
    }

    fn takes_weights(&self) -> bool {
        true
    }

    fn gives(&self, _classes: &[Class]) -> Gives {
        Gives::Number
    }

    fn check(&self, _classes: &[Class]) -> Result<(), Problem> {
        check_from_to(&[
            ("n_models", self.n_models.into(), 1.0, 1000.0),
            ("lambda", self.lambda, 0.01, 100.0),
            ("grace_period", self.grace_period.into(), 1.0, u32::MAX.into()),
            ("tau", self.tau, 0.0, 1.0),
            ("max_features", self.max_features, 0.0, 1.0),
            ("learning_rate", self.learning_rate, 0.0, 1.0),
            ("model_selector_decay", self.model_selector_decay, 0.0, 1.0),
            ("bins", self.bins.into(), 2.0, 1000.0),
        ])?;
        check_inside(&[("delta", self.delta), ("warning_delta", self.warning_delta), ("drift_delta", self.drift_delta)])
    }

    fn largest(&self) -> f64 {
        LARGEST
    }

    fn can_diverge(&self) -> bool {
        false
    }

    fn most_numbers(&self, features: &[Feature], classes: &[Class]) -> u64 {
        most_numbers_of_amounts(self.max_memory, features, classes)
    }

    fn build(&self, features: &[Feature], classes: &[Class]) -> Box<dyn Estimator> {
        Box::new(Forest::new(self.plan(features, classes)))
    }
}
