//! Softmax regression by stochastic gradient descent, one step a row.
//!
//! The formulas are those of River 0.26.1's `SoftmaxRegression` with `SGD`: a class takes part from its first row on.

use std::collections::BTreeMap;

use millstream_core::{Error, Problem, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checks::{ClassWeight, check_class_weight, check_not_negative, weights_of};
use super::linear::default_learning_rate;
use super::{ByRow, Estimator, Gives, Kind, Labels, Lesson, Row, Settings, Shape};
use crate::encode::Feature;
use crate::label::Class;
use crate::onnx::{Attribute, Encoded, Graph, Value, WeightedSums};
use crate::tensors::Tensors;
use crate::vector::{descend, dot, exp};

/// Two or more classes: the probabilities are the softmax of one weighted sum per class, without intercept unless `fit_intercept` says so.
/// Classes that no row has had yet have the probability 0.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SoftmaxRegression {
    /// How far one row moves the weights.
    #[serde(default = "default_learning_rate")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    learning_rate: f64,
    /// The L2 penalty: how strongly the weights that a row uses are shrunk towards 0.
    #[serde(default)]
    #[schemars(range(min = 0))]
    l2: f64,
    /// Whether each sum has an intercept, which moves as the weights do and is not shrunk. River's has none.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    fit_intercept: bool,
    /// How much the rows of a class count, by the class: `{ fraud = 20 }`. Classes that are not named count 1.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    class_weight: ClassWeight,
}

impl Kind for SoftmaxRegression {
    const NAME: &'static str = "softmax_regression";
    const EXAMPLE: &'static str = "learning_rate = 0.05\nl2 = 0.001";
    const EXPORTS: bool = true;
}

impl Settings for SoftmaxRegression {
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
        check_not_negative(&[("learning_rate", self.learning_rate), ("l2", self.l2)])?;
        check_class_weight(&self.class_weight, classes)
    }

    fn build(&self, features: &[Feature], classes: &[Class]) -> Box<dyn Estimator> {
        let mut softmax = Softmax::new(self.learning_rate, self.l2, Shape::new(features, classes));
        softmax.has_intercepts = self.fit_intercept;
        Box::new(softmax.weighing(weights_of(classes, &self.class_weight)))
    }
}

/// The nearest to 0 and to 1 that a probability counts as in the gradient.
const NEAREST: f64 = 1e-15;

/// For every class one weight a number and one a slot.
#[derive(Clone, Debug)]
struct Softmax {
    learning_rate: f64,
    l2: f64,
    /// How much rows of each class count.
    counts: Vec<f64>,
    shape: Shape,
    /// Class by class.
    weights: Vec<f64>,
    /// Slot by slot, so that those of one slot lie together.
    slots: Vec<f64>,
    /// By class, what is added to its sum: 0 where there are no intercepts.
    intercepts: Vec<f64>,
    has_intercepts: bool,
    /// 1 for the classes that some row has had.
    seen: Vec<u8>,
    /// Memory for the probabilities of one row.
    probabilities: Vec<f64>,
}

impl Softmax {
    fn new(learning_rate: f64, l2: f64, shape: Shape) -> Self {
        Self {
            learning_rate,
            l2,
            counts: vec![1.0; shape.classes],
            shape,
            weights: vec![0.0; shape.classes * shape.width],
            slots: vec![0.0; shape.slots * shape.classes],
            intercepts: vec![0.0; shape.classes],
            has_intercepts: false,
            seen: vec![0; shape.classes],
            probabilities: vec![0.0; shape.classes],
        }
    }

    /// The same, where rows of the classes count so much.
    fn weighing(self, counts: Vec<f64>) -> Self {
        Self { counts, ..self }
    }

    fn sums(&self) -> WeightedSums {
        let Shape { numbers, width, classes, .. } = self.shape;
        // Of a class that no row has had yet the sum is the least there is.
        let seen = self.seen.iter().zip(&self.intercepts);
        let seen = seen.map(|(seen, intercept)| if *seen == 1 { *intercept } else { f64::NEG_INFINITY });
        WeightedSums {
            weights: (0..classes).map(|class| self.weights[class * width..][..numbers].to_vec()).collect(),
            slots: self.slots.clone(),
            intercepts: seen.collect(),
        }
    }

    #[inline(always)]
    fn sum(&self, row: Row<'_>, class: usize) -> f64 {
        let weights = &self.weights[class * self.shape.width..][..self.shape.width];
        let slot_weight = |slot: &u32| self.slots[*slot as usize * self.shape.classes + class];
        let slots = row.slots.iter().fold(0.0, |sum, slot| sum + slot_weight(slot));
        dot(weights, row.numbers) + slots + self.intercepts[class]
    }

    /// Learns a row that counts so much.
    #[inline(always)]
    fn learn_weighted(&mut self, row: Row<'_>, target: f64, weight: f64) {
        let target = target as usize;
        let mut probabilities = std::mem::take(&mut self.probabilities);
        self.predict_one(row, &mut probabilities);
        if self.seen[target] == 0 {
            self.seen[target] = 1;
            probabilities[target] = 0.0;
        }
        let Shape { width, classes, .. } = self.shape;
        let counts = self.counts[target] * weight;
        for class in (0..classes).filter(|class| self.seen[*class] == 1) {
            let wanted = if class == target { 1.0 } else { 0.0 };
            let gradient = (probabilities[class].clamp(NEAREST, 1.0 - NEAREST) - wanted) * counts;
            let weights = &mut self.weights[class * width..][..width];
            descend(weights, row.numbers, gradient, self.l2, self.learning_rate);
            for slot in row.slots {
                let weight = &mut self.slots[*slot as usize * classes + class];
                *weight -= self.learning_rate * (gradient + self.l2 * *weight);
            }
            if self.has_intercepts {
                self.intercepts[class] -= self.learning_rate * gradient;
            }
        }
        self.probabilities = probabilities;
    }
}

impl ByRow for Softmax {
    #[inline(always)]
    fn outputs(&self) -> usize {
        self.shape.classes
    }

    #[inline(always)]
    fn predict_one(&self, row: Row<'_>, into: &mut [f64]) {
        let mut largest = f64::NEG_INFINITY;
        for (class, value) in into.iter_mut().enumerate() {
            *value = if self.seen[class] == 1 { self.sum(row, class) } else { f64::NEG_INFINITY };
            largest = largest.max(*value);
        }
        if largest == f64::NEG_INFINITY {
            // Nothing is known about any class.
            into.fill(1.0 / into.len() as f64);
            return;
        }
        let mut total = 0.0;
        for value in into.iter_mut() {
            *value = exp(*value - largest);
            total += *value;
        }
        into.iter_mut().for_each(|value| *value /= total);
    }

    #[inline(always)]
    fn learn_one(&mut self, row: Row<'_>, target: f64) {
        self.learn_weighted(row, target, 1.0);
    }

    #[inline(always)]
    fn learn(&mut self, row: Row<'_>, lesson: &Lesson<'_>) {
        self.learn_weighted(row, lesson.target, lesson.weight);
    }

    fn save(&self, tensors: &mut Tensors) {
        let Shape { numbers, width, slots, classes } = self.shape;
        let weights: Vec<f64> =
            (0..classes).flat_map(|class| &self.weights[class * width..][..numbers]).copied().collect();
        tensors.put_f64("estimator.weights", &[classes, numbers], &weights);
        tensors.put_f64("estimator.slots", &[slots, classes], &self.slots);
        if self.has_intercepts {
            tensors.put_f64("estimator.intercepts", &[classes], &self.intercepts);
        }
        tensors.put_u8("estimator.seen", &self.seen);
    }

    fn weighted_sums(&self) -> Option<WeightedSums> {
        Some(self.sums())
    }

    fn take_sums(&mut self, sums: WeightedSums) -> Result<()> {
        if !self.has_intercepts && sums.intercepts.iter().any(|intercept| *intercept != 0.0) {
            return Err(Error::new("there are intercepts; set `fit_intercept = true`"));
        }
        let Shape { numbers, width, .. } = self.shape;
        for (class, weights) in sums.weights.iter().enumerate() {
            self.weights[class * width..][..numbers].copy_from_slice(weights);
        }
        (self.slots, self.intercepts) = (sums.slots, sums.intercepts);
        self.seen.fill(1);
        Ok(())
    }

    fn to_onnx(&self, graph: &mut Graph, row: &Encoded) -> Result<Value> {
        let sums = self.sums().of(row, graph);
        Ok(graph.add_with("Softmax", &[&sums], [("axis", Attribute::Int(1))]))
    }

    fn load(&mut self, tensors: &Tensors) -> Result<()> {
        let Shape { numbers, width, slots, classes } = self.shape;
        let weights = tensors.f64s("estimator.weights", &[classes, numbers])?;
        for class in 0..classes {
            self.weights[class * width..][..numbers].copy_from_slice(&weights[class * numbers..][..numbers]);
        }
        self.slots = tensors.f64s("estimator.slots", &[slots, classes])?;
        if self.has_intercepts {
            self.intercepts = tensors.f64s("estimator.intercepts", &[classes])?;
        }
        let seen = tensors.u8s("estimator.seen")?;
        if seen.len() != classes || seen.iter().any(|seen| *seen > 1) {
            return Err(Error::new(format!(
                "the tensor `estimator.seen` of the model should be {classes} times 0 or 1"
            )));
        }
        self.seen = seen.to_vec();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_takes_part_from_its_first_row_on() {
        let shape = Shape { numbers: 1, width: 8, slots: 1, classes: 3 };
        let mut softmax = Softmax::new(0.1, 0.0, shape);
        let row = Row { numbers: &[1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], slots: &[0] };
        let mut probabilities = [0.0; 3];
        softmax.predict_one(row, &mut probabilities);
        assert_eq!(probabilities, [1.0 / 3.0; 3]);
        softmax.learn_one(row, 1.0);
        softmax.predict_one(row, &mut probabilities);
        assert_eq!(probabilities, [0.0, 1.0, 0.0]);
        softmax.learn_one(row, 0.0);
        softmax.predict_one(row, &mut probabilities);
        assert_eq!(probabilities[2], 0.0);
        assert!((probabilities[0] + probabilities[1] - 1.0).abs() < 1e-15);
    }
}
