//! Linear and logistic regression by stochastic gradient descent, one step a row.
//!
//! The formulas are those of River 0.26.1's `LinearRegression` and `LogisticRegression` with `SGD`: the gradient is
//! clipped, the intercept moves at the rate of the weights, and only the weights that a row uses feel the penalty.

use millstream_core::Result;

use super::{ByRow, Lesson, Row, Shape};
use crate::onnx::{Encoded, Graph, Value, WeightedSums};
use crate::tensors::Tensors;
use crate::vector::{descend, dot, exp};

/// The largest gradient of the loss that is followed.
const CLIP: f64 = 1e12;

/// The rate of the settings that say nothing about it.
pub(super) fn default_learning_rate() -> f64 {
    0.01
}

/// What is minimised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// Of a probability.
    Log,
    /// Of a number.
    Squared,
}

impl Loss {
    /// The prediction that belongs to a sum.
    #[inline(always)]
    fn prediction(self, sum: f64) -> f64 {
        match self {
            Self::Log => sigmoid(sum),
            Self::Squared => sum,
        }
    }

    /// How the loss changes with the sum.
    #[inline(always)]
    fn gradient(self, sum: f64, target: f64) -> f64 {
        match self {
            Self::Log => log_gradient(sum, target),
            Self::Squared => 2.0 * (sum - target),
        }
    }
}

#[inline(always)]
pub(super) fn sigmoid(sum: f64) -> f64 {
    if sum < -30.0 {
        return 0.0;
    }
    if sum > 30.0 {
        return 1.0;
    }
    1.0 / (1.0 + exp(-sum))
}

#[inline(always)]
pub(super) fn log_gradient(sum: f64, target: f64) -> f64 {
    let sign = if target == 0.0 { -1.0 } else { 1.0 };
    let margin = sum * sign;
    if margin > 18.0 {
        return -sign * exp(-margin);
    }
    if margin < -18.0 {
        return -sign;
    }
    -sign / (exp(margin) + 1.0)
}

/// One weight a number, one a slot, and an intercept.
#[derive(Clone, Debug)]
pub(super) struct Linear {
    loss: Loss,
    learning_rate: f64,
    l2: f64,
    /// How much rows count whose target is 0, and others.
    counts: [f64; 2],
    numbers: usize,
    weights: Vec<f64>,
    slots: Vec<f64>,
    intercept: f64,
}

impl Linear {
    pub fn new(loss: Loss, learning_rate: f64, l2: f64, shape: Shape) -> Self {
        let (weights, slots) = (vec![0.0; shape.width], vec![0.0; shape.slots]);
        let counts = [1.0; 2];
        Self { loss, learning_rate, l2, counts, numbers: shape.numbers, weights, slots, intercept: 0.0 }
    }

    /// The same, where rows of two classes count so much.
    pub fn weighing(self, counts: &[f64]) -> Self {
        Self { counts: counts.try_into().unwrap_or(self.counts), ..self }
    }

    fn sums(&self) -> WeightedSums {
        WeightedSums {
            weights: vec![self.weights[..self.numbers].to_vec()],
            slots: self.slots.clone(),
            intercepts: vec![self.intercept],
        }
    }

    #[inline(always)]
    fn sum(&self, row: Row<'_>) -> f64 {
        let slots = row.slots.iter().fold(0.0, |sum, slot| sum + self.slots[*slot as usize]);
        dot(&self.weights, row.numbers) + slots + self.intercept
    }

    /// Learns a row that counts so much.
    #[inline(always)]
    fn learn_weighted(&mut self, row: Row<'_>, target: f64, weight: f64) {
        let counts = self.counts[usize::from(target != 0.0)];
        let gradient = self.loss.gradient(self.sum(row), target).clamp(-CLIP, CLIP) * counts * weight;
        self.intercept -= self.learning_rate * gradient;
        descend(&mut self.weights, row.numbers, gradient, self.l2, self.learning_rate);
        for slot in row.slots {
            let weight = &mut self.slots[*slot as usize];
            *weight -= self.learning_rate * (gradient + self.l2 * *weight);
        }
    }
}

impl ByRow for Linear {
    #[inline(always)]
    fn outputs(&self) -> usize {
        1
    }

    #[inline(always)]
    fn predict_one(&self, row: Row<'_>, into: &mut [f64]) {
        into[0] = self.loss.prediction(self.sum(row));
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
        tensors.put_f64("estimator.weights", &[self.numbers], &self.weights[..self.numbers]);
        tensors.put_f64("estimator.slots", &[self.slots.len()], &self.slots);
        tensors.put_f64("estimator.intercept", &[1], &[self.intercept]);
    }

    fn weighted_sums(&self) -> Option<WeightedSums> {
        Some(self.sums())
    }

    fn take_sums(&mut self, sums: WeightedSums) -> Result<()> {
        self.weights[..self.numbers].copy_from_slice(&sums.weights[0]);
        (self.slots, self.intercept) = (sums.slots, sums.intercepts[0]);
        Ok(())
    }

    fn to_onnx(&self, graph: &mut Graph, row: &Encoded) -> Result<Value> {
        let sum = self.sums().of(row, graph);
        Ok(if self.loss == Loss::Log { graph.add("Sigmoid", &[&sum]) } else { sum })
    }

    fn load(&mut self, tensors: &Tensors) -> Result<()> {
        let weights = tensors.f64s("estimator.weights", &[self.numbers])?;
        self.weights[..self.numbers].copy_from_slice(&weights);
        self.slots = tensors.f64s("estimator.slots", &[self.slots.len()])?;
        self.intercept = tensors.f64s("estimator.intercept", &[1])?[0];
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_step_by_hand() {
        let shape = Shape { numbers: 2, width: 8, slots: 3, classes: 2 };
        let mut linear = Linear::new(Loss::Log, 0.1, 0.0, shape);
        let row = Row { numbers: &[1.0, -2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], slots: &[2] };
        let mut probability = [0.0];
        linear.predict_one(row, &mut probability);
        assert_eq!(probability, [0.5]);
        linear.learn_one(row, 1.0);
        assert_eq!(linear.weights[..2], [0.05, -0.1]);
        assert_eq!((linear.slots[2], linear.intercept), (0.05, 0.05));
    }

    #[test]
    fn rows_of_a_class_can_count_more() {
        let shape = Shape { numbers: 0, width: 0, slots: 1, classes: 2 };
        let mut linear = Linear::new(Loss::Log, 0.1, 0.0, shape).weighing(&[0.5, 20.0]);
        linear.learn_one(Row { numbers: &[], slots: &[] }, 1.0);
        assert_eq!(linear.intercept, 0.1 * 0.5 * 20.0);
        linear.intercept = 0.0;
        linear.learn_one(Row { numbers: &[], slots: &[] }, 0.0);
        assert_eq!(linear.intercept, -0.1 * 0.5 * 0.5);
    }

    #[test]
    fn the_penalty_draws_only_the_weights_in_use() {
        let shape = Shape { numbers: 0, width: 0, slots: 2, classes: 0 };
        let mut linear = Linear::new(Loss::Squared, 0.1, 0.5, shape);
        linear.slots = vec![1.0, 1.0];
        linear.learn_one(Row { numbers: &[], slots: &[0] }, 1.0);
        assert_eq!(linear.slots, [0.95, 1.0]);
    }

    #[test]
    fn probabilities_and_gradients_stay_finite() {
        assert_eq!((sigmoid(-1e9), sigmoid(1e9), sigmoid(0.0)), (0.0, 1.0, 0.5));
        assert_eq!((log_gradient(-1e9, 1.0), log_gradient(1e9, 1.0)), (-1.0, 0.0));
        assert_eq!((log_gradient(0.0, 1.0), log_gradient(0.0, 0.0)), (-0.5, 0.5));
        assert!(sigmoid(f64::NAN).is_nan());
    }
}
