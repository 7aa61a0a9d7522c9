//! FTRL-proximal.

use std::collections::BTreeMap;

use millstream_core::{Problem, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checks::{ClassWeight, check_class_weight, check_from_to, check_not_negative, weights_of};
use super::linear::{log_gradient, sigmoid};
use super::{ByRow, Estimator, Gives, Kind, Labels, Row, Settings, Shape};
use crate::encode::Feature;
use crate::label::Class;
use crate::tensors::Tensors;
use crate::vector::dot;

/// Two classes: logistic regression by FTRL-proximal (McMahan et al., "Ad click prediction: a view from the trenches", 2013). Each weight has a rate
/// of its own, which gets smaller with its gradients, and is 0 as long as not enough speaks for it: `l1` says how much.
///
/// Take it for clicks and the like: many categories with rare values, best `{ hash = 1048576 }`, where a value that is seen for the first time has to
/// count at once. Two numbers are kept for each slot, however many rows there are.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Ftrl {
    /// How far rows move a weight at first.
    #[serde(default = "alpha")]
    alpha: f64,
    /// How long it takes until they move it less: about as long as the squares of its gradients add up to the square of this.
    #[serde(default = "beta")]
    beta: f64,
    /// The L1 penalty: what has to speak for a weight before it is not 0.
    #[serde(default)]
    #[schemars(range(min = 0))]
    l1: f64,
    /// The L2 penalty: how strongly weights are drawn towards 0.
    #[serde(default)]
    #[schemars(range(min = 0))]
    l2: f64,
    /// How much the rows of a class count, by the class: `{ true = 20 }`. Classes that are not named count 1.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    class_weight: ClassWeight,
}

fn alpha() -> f64 {
    0.1
}

fn beta() -> f64 {
    1.0
}

impl Kind for Ftrl {
    const NAME: &'static str = "ftrl";
    const EXAMPLE: &'static str = "alpha = 0.05\nl1 = 0.5";
}

impl Settings for Ftrl {
    fn labels(&self) -> Labels {
        Labels::TwoClasses
    }

    fn gives(&self, _classes: &[Class]) -> Gives {
        Gives::Probabilities
    }

    fn check(&self, classes: &[Class]) -> Result<(), Problem> {
        check_from_to(&[("alpha", self.alpha, 1e-9, 1e9), ("beta", self.beta, 1e-9, 1e9)])?;
        check_not_negative(&[("l1", self.l1), ("l2", self.l2)])?;
        check_class_weight(&self.class_weight, classes)
    }

    fn build(&self, features: &[Feature], classes: &[Class]) -> Box<dyn Estimator> {
        let Self { alpha, beta, l1, l2, .. } = *self;
        let counts = weights_of(classes, &self.class_weight).try_into().unwrap_or([1.0; 2]);
        let shape = Shape::new(features, classes);
        Box::new(Proximal {
            rule: Rule { alpha, beta, l1, l2 },
            counts,
            numbers: shape.numbers,
            of_numbers: Weights::new(shape.width),
            of_slots: Weights::new(shape.slots),
            intercept: Weights::new(1),
        })
    }
}

/// How weights follow from gradients.
#[derive(Clone, Copy, Debug)]
struct Rule {
    alpha: f64,
    beta: f64,
    l1: f64,
    l2: f64,
}

impl Rule {
    /// The weight for which so much speaks, of which the squares of the gradients add up to so much.
    #[inline(always)]
    fn weight(&self, against: f64, squares: f64) -> f64 {
        let beyond = against - self.l1.copysign(against);
        let weight = -beyond / ((self.beta + squares.sqrt()) / self.alpha + self.l2);
        if against.abs() > self.l1 { weight } else { 0.0 }
    }

    /// What speaks against a weight, the squares of its gradients, and the weight, behind one more gradient.
    #[inline(always)]
    fn step(&self, (against, squares, weight): (f64, f64, f64), gradient: f64) -> (f64, f64, f64) {
        let more = squares + gradient * gradient;
        let nearer = (more.sqrt() - squares.sqrt()) / self.alpha;
        let against = against + (gradient - nearer * weight);
        (against, more, self.weight(against, more))
    }
}

/// Weights, and what they follow from.
#[derive(Clone, Debug)]
struct Weights {
    /// What speaks against each: its gradients, less what drew it to where it is.
    against: Vec<f64>,
    squares: Vec<f64>,
    weights: Vec<f64>,
}

impl Weights {
    fn new(count: usize) -> Self {
        Self { against: vec![0.0; count], squares: vec![0.0; count], weights: vec![0.0; count] }
    }

    #[inline(always)]
    fn step(&mut self, rule: Rule, place: usize, gradient: f64) {
        let step = rule.step((self.against[place], self.squares[place], self.weights[place]), gradient);
        (self.against[place], self.squares[place], self.weights[place]) = step;
    }

    /// All of them, each by a gradient that is as many times this as its number.
    #[inline(always)]
    fn step_all(&mut self, rule: Rule, numbers: &[f64], gradient: f64) {
        let own = self.against.iter_mut().zip(&mut self.squares).zip(&mut self.weights);
        for (((against, squares), weight), number) in own.zip(numbers) {
            (*against, *squares, *weight) = rule.step((*against, *squares, *weight), gradient * number);
        }
    }

    fn save(&self, name: &str, count: usize, tensors: &mut Tensors) {
        tensors.put_f64(&format!("estimator.{name}.against"), &[count], &self.against[..count]);
        tensors.put_f64(&format!("estimator.{name}.squares"), &[count], &self.squares[..count]);
    }

    fn load(&mut self, rule: Rule, name: &str, count: usize, tensors: &Tensors) -> Result<()> {
        self.against[..count].copy_from_slice(&tensors.f64s(&format!("estimator.{name}.against"), &[count])?);
        self.squares[..count].copy_from_slice(&tensors.f64s(&format!("estimator.{name}.squares"), &[count])?);
        for ((weight, against), squares) in self.weights.iter_mut().zip(&self.against).zip(&self.squares) {
            *weight = rule.weight(*against, *squares);
        }
        Ok(())
    }
}

/// A weight for each number and slot, and an intercept.
#[derive(Clone, Debug)]
struct Proximal {
    rule: Rule,
    /// How much rows of either class count.
    counts: [f64; 2],
    numbers: usize,
    of_numbers: Weights,
    of_slots: Weights,
    intercept: Weights,
}

impl Proximal {
    #[inline(always)]
    fn sum(&self, row: Row<'_>) -> f64 {
        let slots = row.slots.iter().fold(0.0, |sum, slot| sum + self.of_slots.weights[*slot as usize]);
        dot(&self.of_numbers.weights, row.numbers) + slots + self.intercept.weights[0]
    }
}

impl ByRow for Proximal {
    #[inline(always)]
    fn outputs(&self) -> usize {
        1
    }

    #[inline(always)]
    fn predict_one(&self, row: Row<'_>, into: &mut [f64]) {
        into[0] = sigmoid(self.sum(row));
    }

    #[inline(always)]
    fn learn_one(&mut self, row: Row<'_>, target: f64) {
        let gradient = log_gradient(self.sum(row), target) * self.counts[usize::from(target != 0.0)];
        self.intercept.step(self.rule, 0, gradient);
        self.of_numbers.step_all(self.rule, row.numbers, gradient);
        row.slots.iter().for_each(|slot| self.of_slots.step(self.rule, *slot as usize, gradient));
    }

    fn save(&self, tensors: &mut Tensors) {
        self.of_numbers.save("numbers", self.numbers, tensors);
        self.of_slots.save("slots", self.of_slots.weights.len(), tensors);
        self.intercept.save("intercept", 1, tensors);
    }

    fn load(&mut self, tensors: &Tensors) -> Result<()> {
        self.of_numbers.load(self.rule, "numbers", self.numbers, tensors)?;
        self.of_slots.load(self.rule, "slots", self.of_slots.weights.len(), tensors)?;
        self.intercept.load(self.rule, "intercept", 1, tensors)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn proximal(l1: f64) -> Proximal {
        Proximal {
            rule: Rule { alpha: 0.5, beta: 1.0, l1, l2: 0.1 },
            counts: [1.0; 2],
            numbers: 1,
            of_numbers: Weights::new(8),
            of_slots: Weights::new(4),
            intercept: Weights::new(1),
        }
    }

    #[test]
    fn two_steps_are_those_of_the_paper() {
        let mut proximal = proximal(0.0);
        let (mut z, mut n, mut w) = (0.0_f64, 0.0_f64, 0.0_f64);
        for target in [1.0, 0.0] {
            let gradient = 1.0 / (1.0 + libm::exp(-(w + w))) - target;
            let sigma = ((n + gradient * gradient).sqrt() - n.sqrt()) / 0.5;
            (z, n) = (z + gradient - sigma * w, n + gradient * gradient);
            w = -z / ((1.0 + n.sqrt()) / 0.5 + 0.1);
            proximal.learn_one(Row { numbers: &[0.0; 8], slots: &[2] }, target);
        }
        assert!((proximal.of_slots.weights[2] - w).abs() < 1e-15 && (proximal.intercept.weights[0] - w).abs() < 1e-15);
        assert_eq!(proximal.of_slots.weights[..2], [0.0; 2]);
    }

    #[test]
    fn a_weight_for_which_too_little_speaks_is_0() {
        let mut proximal = proximal(2.0);
        for row in 0..400 {
            // Slot 0 says the class, slot 1 comes rarely.
            let slots: &[u32] = if row % 200 == 7 {
                &[1]
            } else if row % 2 == 0 {
                &[0]
            } else {
                &[3]
            };
            proximal.learn_one(Row { numbers: &[0.0; 8], slots }, f64::from(u8::from(row % 2 == 0)));
        }
        let [says, rare] = [0, 1].map(|slot: usize| proximal.of_slots.weights[slot]);
        assert!(says > 0.5 && rare == 0.0, "{says}, {rare}");
    }
}
