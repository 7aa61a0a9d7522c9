//! The Hoeffding adaptive tree of numbers as an estimator.

use millstream_core::{Problem, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::adaptive_tree::AdaptiveTree;
use super::hoeffding_adaptive_tree::Adaptation;
use super::hoeffding_tree::LARGEST;
use super::hoeffding_tree_regressor::HoeffdingTreeRegressor;
use super::tree::{Amounts, Learned};
use super::{ByRow, Estimator, Gives, Kind, Labels, Lesson, Row, Settings, Shape, Takes};
use crate::encode::Feature;
use crate::label::Class;
use crate::onnx::{Encoded, Graph, Value};
use crate::tensors::Tensors;

/// A number: a `hoeffding_tree_regressor` that gives up what has changed, as `hoeffding_adaptive_tree` does. An error is watched as its share of itself
/// and the mean error of the tree, so that one as large as usual is a half, whatever the size of the numbers.
///
/// Take it where one tree is to follow what changes, and is to be read or to be small: a forest predicts better and takes longer.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct HoeffdingAdaptiveTreeRegressor {
    #[serde(flatten)]
    tree: HoeffdingTreeRegressor,
    #[serde(flatten)]
    adaptation: Adaptation,
}

impl Kind for HoeffdingAdaptiveTreeRegressor {
    const NAME: &'static str = "hoeffding_adaptive_tree_regressor";
    const EXAMPLE: &'static str = "grace_period = 100\nswitch_delta = 0.1\nmax_memory = \"10MiB\"";
    const EXPORTS: bool = true;
}

impl Settings for HoeffdingAdaptiveTreeRegressor {
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

    fn check(&self, classes: &[Class]) -> Result<(), Problem> {
        self.tree.check(classes)?;
        self.adaptation.check()
    }

    fn largest(&self) -> f64 {
        LARGEST
    }

    fn can_diverge(&self) -> bool {
        false
    }

    fn most_numbers(&self, features: &[Feature], classes: &[Class]) -> u64 {
        self.tree.most_numbers(features, classes)
    }

    fn build(&self, features: &[Feature], classes: &[Class]) -> Box<dyn Estimator> {
        let (shape, exchange) = (Shape::new(features, classes), self.adaptation.exchange());
        Box::new(OneTree(AdaptiveTree::new(self.tree.growth(), self.tree.rules(), exchange, features, shape)))
    }
}

#[derive(Clone, Debug)]
struct OneTree(AdaptiveTree<Amounts>);

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
        let mut prediction = [0.0];
        self.predict_one(row, &mut prediction);
        self.learn(row, &Lesson { target, reward: f64::NAN, weight: 1.0, prediction: &prediction });
    }

    #[inline(always)]
    fn learn(&mut self, row: Row<'_>, lesson: &Lesson<'_>) {
        let Lesson { target, weight, prediction: predicted, .. } = *lesson;
        self.0.learn(&Learned { row, target, weight, predicted });
    }

    fn save(&self, tensors: &mut Tensors) {
        self.0.save(tensors);
    }

    fn to_onnx(&self, graph: &mut Graph, row: &Encoded) -> Result<Value> {
        self.0.to_onnx(graph, row)
    }

    fn load(&mut self, tensors: &Tensors) -> Result<()> {
        self.0.load(tensors)
    }
}
