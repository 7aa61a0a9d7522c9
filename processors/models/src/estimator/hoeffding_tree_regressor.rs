//! The Hoeffding tree of numbers as an estimator.

use millstream_core::{ByteSize, Problem, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checks::{check_from_to, check_inside};
use super::hoeffding_tree::{LARGEST, most_numbers_of_trees};
use super::tree::{AmountRules, Amounts, Growth, LeafModel, Learned, Tree};
use super::{ByRow, Estimator, Gives, Kind, Labels, Lesson, Row, Settings, Shape, Takes};
use crate::encode::Feature;
use crate::label::Class;
use crate::onnx::{Encoded, Graph, Value};
use crate::tensors::Tensors;

/// A number: a decision tree that grows while rows come, as `hoeffding_tree` does, but that a split is good which takes much of the variance away
/// (Ikonomovska, Gama & Džeroski, "Learning model trees from evolving data streams", 2011). Leaves predict by their mean or by a linear model of
/// their own, whichever was closer lately. Numbers are taken as they are (`raw`), whatever their sizes, and categories as what they are; linear
/// models are of the numbers alone.
///
/// Take it where a number depends on more than a sum of others, or on categories with several values each: there is nothing to scale. It forgets
/// nothing but by the linear models (`adaptive_random_forest_regressor` does), and needs some hundred rows for each split. Of the delays of the first
/// 50,000 flights from New York in 2013, by hour, distance and month, its error (`rmse`) is 39.2 minutes (River's tree: 42.5, and 39.5 by means alone).
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HoeffdingTreeRegressor {
    /// A leaf is looked at again after so many more rows.
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
    /// How much memory the tree takes at most. Where a split would need more, leaves with little variance stop counting, and stay leaves.
    #[serde(default = "max_memory")]
    max_memory: ByteSize,
}

/// What leaves predict by.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum AmountLeaves {
    /// The mean of their rows.
    Mean,
    /// A linear model.
    Model,
    /// Whichever of both was closer lately.
    #[default]
    Adaptive,
}

impl From<AmountLeaves> for LeafModel {
    fn from(leaves: AmountLeaves) -> Self {
        match leaves {
            AmountLeaves::Mean => Self::Mean,
            AmountLeaves::Model => Self::Linear,
            AmountLeaves::Adaptive => Self::Adaptive,
        }
    }
}

fn grace_period() -> u32 {
    200
}

fn delta() -> f64 {
    1e-3
}

fn tau() -> f64 {
    0.05
}

pub(super) fn learning_rate() -> f64 {
    0.1
}

pub(super) fn model_selector_decay() -> f64 {
    0.95
}

pub(super) fn bins() -> u32 {
    64
}

fn max_memory() -> ByteSize {
    ByteSize(32 << 20)
}

impl HoeffdingTreeRegressor {
    pub fn growth(&self) -> Growth {
        Growth {
            grace: self.grace_period.into(),
            delta: self.delta,
            tie: self.tau,
            max_bytes: self.max_memory.0,
            beside_node: 0,
        }
    }

    pub fn rules(&self) -> AmountRules {
        let Self { bins, learning_rate, model_selector_decay, .. } = *self;
        AmountRules { bins, leaves: self.leaf_prediction.into(), rate: learning_rate, decay: model_selector_decay }
    }
}

impl Kind for HoeffdingTreeRegressor {
    const NAME: &'static str = "hoeffding_tree_regressor";
    const EXAMPLE: &'static str = "grace_period = 100\nmax_memory = \"10MiB\"";
    const EXPORTS: bool = true;
}

impl Settings for HoeffdingTreeRegressor {
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
            ("grace_period", self.grace_period.into(), 1.0, u32::MAX.into()),
            ("tau", self.tau, 0.0, 1.0),
            ("learning_rate", self.learning_rate, 0.0, 1.0),
            ("model_selector_decay", self.model_selector_decay, 0.0, 1.0),
            ("bins", self.bins.into(), 2.0, 1000.0),
        ])?;
        check_inside(&[("delta", self.delta)])
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
        let shape = Shape::new(features, classes);
        Box::new(OneTree(Tree::new(self.growth(), self.rules(), features, shape, None)))
    }
}

/// How many numbers a part of trees of numbers has at most that take so much memory: a leaf with a linear model is there in any case.
pub(super) fn most_numbers_of_amounts(max_memory: ByteSize, features: &[Feature], classes: &[Class]) -> u64 {
    most_numbers_of_trees(max_memory, classes).max(4 * (features.len() as u64 + 1))
}

#[derive(Clone, Debug)]
struct OneTree(Tree<Amounts>);

impl ByRow for OneTree {
    #[inline(always)]
    fn outputs(&self) -> usize {
        1
    }

    #[inline(always)]
    fn predict_one(&self, row: Row<'_>, into: &mut [f64]) {
        self.0.predict(row, into);
    }

    #[inline(always)]
    fn learn_one(&mut self, row: Row<'_>, target: f64) {
        self.0.learn(&Learned { row, target, weight: 1.0, predicted: &[] });
    }

    #[inline(always)]
    fn learn(&mut self, row: Row<'_>, lesson: &Lesson<'_>) {
        let Lesson { target, weight, prediction: predicted, .. } = *lesson;
        self.0.learn(&Learned { row, target, weight, predicted });
    }

    fn save(&self, tensors: &mut Tensors) {
        self.0.save("estimator", tensors);
    }

    fn to_onnx(&self, graph: &mut Graph, row: &Encoded) -> Result<Value> {
        self.0.to_onnx(graph, row)
    }

    fn load(&mut self, tensors: &Tensors) -> Result<()> {
        self.0.load("estimator", tensors)
    }
}
