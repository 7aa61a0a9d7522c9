//! Leveraging bagging.

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

/// Two or more classes: Hoeffding trees that vote, each of which has learned every row as often as a Poisson distribution says (Bifet, Holmes &
/// Pfahringer, "Leveraging bagging for evolving data streams", 2010). A vote counts as much as its tree was right. ADWIN watches each tree's errors:
/// when those of one have risen, the tree with the most errors is replaced by a new one.
///
/// Take it where an `adaptive_random_forest` replaces too much, or where there are few features, so that there is little to draw from. Its trees look at
/// all of them, which takes longer. Of Elec2, the price of electricity, ten trees predict 0.878 rightly (River's 0.862).
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LeveragingBagging {
    /// How many trees there are.
    #[serde(default = "n_models")]
    #[schemars(range(min = 1, max = 1000))]
    n_models: u32,
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
    /// How probable it is that a tree is replaced though nothing has changed.
    #[serde(default = "drift_delta")]
    drift_delta: f64,
    /// What is drawn by chance follows from this.
    #[serde(default)]
    seed: u64,
    /// How much memory the trees take at most, each the same share of it. Where a split would need more, leaves with few
    /// wrong rows stop counting, and stay leaves.
    #[serde(default = "max_memory")]
    max_memory: ByteSize,
}

fn n_models() -> u32 {
    10
}

fn lambda() -> f64 {
    6.0
}

fn grace_period() -> u32 {
    200
}

fn delta() -> f64 {
    1e-3
}

fn tau() -> f64 {
    0.1
}

fn max_share_to_split() -> f64 {
    0.99
}

fn split_points() -> u32 {
    10
}

fn drift_delta() -> f64 {
    0.002
}

fn max_memory() -> ByteSize {
    ByteSize(256 << 20)
}

impl LeveragingBagging {
    fn growth(&self) -> Growth {
        Growth {
            grace: self.grace_period.into(),
            delta: self.delta,
            tie: self.tau,
            max_bytes: self.max_memory.0 / self.n_models as usize,
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
            subspace: None,
            poisson: Poisson::new(self.lambda),
            seed: self.seed,
            drift: adwin::Settings::of(self.drift_delta),
            renewal: Renewal::Worst,
        }
    }
}

impl Kind for LeveragingBagging {
    const NAME: &'static str = "leveraging_bagging";
    const EXAMPLE: &'static str = "n_models = 5\nseed = 7\nmax_memory = \"20MiB\"";
    const EXPORTS: bool = true;
}

impl Settings for LeveragingBagging {
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
            ("max_share_to_split", self.max_share_to_split, 0.0, 1.0),
            ("split_points", self.split_points.into(), 1.0, 1000.0),
        ])?;
        check_inside(&[("delta", self.delta), ("drift_delta", self.drift_delta)])
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
