//! The Hoeffding adaptive tree as an estimator.

use millstream_core::{Problem, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::adaptive_tree::{AdaptiveTree, Exchange};
use super::checks::{check_from_to, check_inside};
use super::hoeffding_tree::{HoeffdingTree, LARGEST};
use super::tree::{Classes, Learned};
use super::{ByRow, Estimator, Gives, Kind, Labels, Lesson, Row, Settings, Shape, Takes};
use crate::drift::adwin;
use crate::encode::Feature;
use crate::label::Class;
use crate::onnx::{Encoded, Graph, Value};
use crate::tensors::Tensors;

/// Two or more classes: a `hoeffding_tree` that gives up what has changed (Bifet & Gavaldà, "Adaptive learning from evolving data streams", 2009). ADWIN
/// watches at each node how wrong the tree is about the rows that come through it. Where that rises, a subtree begins to learn them beside the
/// node, and takes its place once it is better by more than chance lets it be; it is given up once it is worse.
///
/// Take it where one tree is to follow what changes, and is to be read or to be small: a forest predicts better and takes longer. Its alternates
/// are part of `max_memory`; where there is no room, none begins. Of Elec2, the price of electricity, it predicts 0.835 rightly (River's 0.821, and a
/// `hoeffding_tree` of River's 0.773).
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct HoeffdingAdaptiveTree {
    #[serde(flatten)]
    tree: HoeffdingTree,
    #[serde(flatten)]
    adaptation: Adaptation,
}

/// When parts of a tree are given up.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(super) struct Adaptation {
    /// How probable it is that a subtree begins beside a node though nothing has changed, at each look.
    #[serde(default = "drift_delta")]
    drift_delta: f64,
    /// How probable it is that the worse of a node and the subtree beside it is kept.
    #[serde(default = "switch_delta")]
    switch_delta: f64,
    /// Both are compared when they have predicted so many rows.
    #[serde(default = "least_rows")]
    #[schemars(range(min = 1))]
    least_rows: u32,
}

fn drift_delta() -> f64 {
    0.01
}

fn switch_delta() -> f64 {
    0.05
}

fn least_rows() -> u32 {
    100
}

impl Adaptation {
    pub fn exchange(&self) -> Exchange {
        let drift = adwin::Settings::of(self.drift_delta);
        Exchange { drift, delta: self.switch_delta, least_rows: self.least_rows.into() }
    }

    pub fn check(&self) -> Result<(), Problem> {
        check_from_to(&[("least_rows", self.least_rows.into(), 1.0, u32::MAX.into())])?;
        check_inside(&[("drift_delta", self.drift_delta), ("switch_delta", self.switch_delta)])
    }
}

impl Kind for HoeffdingAdaptiveTree {
    const NAME: &'static str = "hoeffding_adaptive_tree";
    const EXAMPLE: &'static str = "grace_period = 100\nswitch_delta = 0.1\nmax_memory = \"10MiB\"";
    const EXPORTS: bool = true;
}

impl Settings for HoeffdingAdaptiveTree {
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
        let tree = AdaptiveTree::new(self.tree.growth(), self.tree.rules(), exchange, features, shape);
        Box::new(OneTree { tree, shares: vec![0.0; shape.classes] })
    }
}

#[derive(Clone, Debug)]
struct OneTree {
    tree: AdaptiveTree<Classes>,
    /// Room for the shares of the classes.
    shares: Vec<f64>,
}

impl ByRow for OneTree {
    /// Of two classes, only the second.
    #[inline(always)]
    fn outputs(&self) -> usize {
        match self.shares.len() {
            2 => 1,
            classes => classes,
        }
    }

    #[inline(always)]
    fn predict_one(&self, row: Row<'_>, into: &mut [f64]) {
        if let [positive] = into {
            let mut both = [0.0; 2];
            self.tree.predict(row, &mut both);
            *positive = both[1];
        } else {
            self.tree.predict(row, into);
        }
    }

    #[inline(always)]
    fn learn_one(&mut self, row: Row<'_>, target: f64) {
        let mut prediction = vec![0.0; ByRow::outputs(self)];
        self.predict_one(row, &mut prediction);
        self.learn(row, &Lesson { target, reward: f64::NAN, weight: 1.0, prediction: &prediction });
    }

    #[inline(always)]
    fn learn(&mut self, row: Row<'_>, lesson: &Lesson<'_>) {
        match lesson.prediction {
            [positive] => self.shares.copy_from_slice(&[1.0 - positive, *positive]),
            shares => self.shares.copy_from_slice(shares),
        }
        let (target, weight) = (lesson.target as usize, lesson.weight);
        self.tree.learn(&Learned { row, target, weight, predicted: &self.shares });
    }

    fn save(&self, tensors: &mut Tensors) {
        self.tree.save(tensors);
    }

    fn to_onnx(&self, graph: &mut Graph, row: &Encoded) -> Result<Value> {
        let predicted = self.tree.to_onnx(graph, row)?;
        Ok(if ByRow::outputs(self) == 1 { graph.column(&predicted, 1) } else { predicted })
    }

    fn load(&mut self, tensors: &Tensors) -> Result<()> {
        self.tree.load(tensors)
    }
}
