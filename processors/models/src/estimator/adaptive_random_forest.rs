//! The adaptive random forest.

use millstream_core::{ByteSize, Problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checks::{check_from_to, check_inside};
use super::forest::{Forest, Plan, Renewal};
use super::hoeffding_tree::{LARGEST, Leaves, most_numbers_of_trees};
use super::random::Poisson;
use super::tree::{ClassRules, Classes, Growth};
use super::{Estimator, Gives, Kind, Labels, Settings, Shape, Takes};
use crate::drift::adwin;
use crate::encode::Feature;
use crate::label::Class;

/// Two or more classes: Hoeffding trees that vote, and of which each is replaced when it gets worse (Gomes et al., "Adaptive random forests for
/// evolving data stream classification", 2017). The trees differ, since each row counts for each of them as often as a Poisson distribution says,
/// and each leaf looks at some features only, which are drawn. A vote counts as much as its tree was right. ADWIN watches each tree's errors: when
/// they seem to rise, a new tree begins to learn beside it, and when they have risen, it takes its place.
///
/// Take it where the best accuracy is worth the time, and where what is to be learned changes. It takes as long as its trees together, on several
/// threads if there are any; what it learns does not depend on how many. Where nothing changes, and rows are many, a `hoeffding_tree` is
/// quicker and smaller. Of Elec2, the price of electricity, ten trees predict 0.877 rightly (River's forest 0.855, MOA's 0.874).
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AdaptiveRandomForest {
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
    /// Splits that differ by less, in bits of information, are equally good.
    #[serde(default = "tau")]
    tau: f64,
    /// A leaf whose most frequent class has a larger share is not split.
    #[serde(default = "max_share_to_split")]
    max_share_to_split: f64,
    /// So many points of each number are tried.
    #[serde(default = "split_points")]
    #[schemars(range(min = 1, max = 1000))]
    split_points: u32,
    /// What leaves predict by.
    #[serde(default)]
    leaf_prediction: Leaves,
    /// How probable it is that a new tree begins though nothing has changed.
    #[serde(default = "warning_delta")]
    warning_delta: f64,
    /// How probable it is that a tree is replaced though nothing has changed.
    #[serde(default = "drift_delta")]
    drift_delta: f64,
    /// What is drawn by chance follows from this.
    #[serde(default)]
    seed: u64,
    /// How much memory the trees take at most: each, and each that is to follow, the same share of it. Where a split would need more, leaves with few
    /// wrong rows stop counting, and stay leaves.
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

fn max_share_to_split() -> f64 {
    0.99
}

fn split_points() -> u32 {
    10
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

impl AdaptiveRandomForest {
    fn growth(&self) -> Growth {
        Growth {
            grace: self.grace_period.into(),
            delta: self.delta,
            tie: self.tau,
            max_bytes: self.max_memory.0 / (2 * self.n_models as usize),
            beside_node: 0,
        }
    }

    fn rules(&self) -> ClassRules {
        let leaves = self.leaf_prediction.into();
        ClassRules { most_share: self.max_share_to_split, points: self.split_points, leaves }
    }

    fn plan(&self, features: &[Feature], classes: &[Class]) -> Plan<Classes> {
        Plan {
            trees: self.n_models,
            growth: self.growth(),
            rules: self.rules(),
            features: features.to_vec(),
            shape: Shape::new(features, classes),
            subspace: Plan::<Classes>::subspace(self.max_features, features),
            poisson: Poisson::new(self.lambda),
            seed: self.seed,
            drift: adwin::Settings::of(self.drift_delta),
            renewal: Renewal::Own { warning: adwin::Settings::of(self.warning_delta) },
        }
    }
}

impl Kind for AdaptiveRandomForest {
    const NAME: &'static str = "adaptive_random_forest";
    const EXAMPLE: &'static str = "n_models = 5\nseed = 7\nmax_memory = \"20MiB\"";
    const EXPORTS: bool = true;
}

impl Settings for AdaptiveRandomForest {
    fn takes(&self) -> Takes {
        Takes::Raw
    }

    fn labels(&self) -> Labels {
        Labels::Classes
    }

    fn takes_weights(&self) -> bool {
        true
    }

    fn gives(&self, _classes: &[Class]) -> Gives {
        Gives::Probabilities
    }

    fn check(&self, _classes: &[Class]) -> Result<(), Problem> {
        check_from_to(&[
            ("n_models", self.n_models.into(), 1.0, 1000.0),
            ("lambda", self.lambda, 0.01, 100.0),
            ("grace_period", self.grace_period.into(), 1.0, u32::MAX.into()),
            ("tau", self.tau, 0.0, 1.0),
            ("max_features", self.max_features, 0.0, 1.0),
            ("max_share_to_split", self.max_share_to_split, 0.0, 1.0),
            ("split_points", self.split_points.into(), 1.0, 1000.0),
        ])?;
        check_inside(&[("delta", self.delta), ("warning_delta", self.warning_delta), ("drift_delta", self.drift_delta)])
    }

    fn largest(&self) -> f64 {
        LARGEST
    }

    fn can_diverge(&self) -> bool {
        false
    }

    fn most_numbers(&self, _features: &[Feature], classes: &[Class]) -> u64 {
        most_numbers_of_trees(self.max_memory, classes)
    }

    fn build(&self, features: &[Feature], classes: &[Class]) -> Box<dyn Estimator> {
        Box::new(Forest::new(self.plan(features, classes)))
    }
}
