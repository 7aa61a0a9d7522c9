//! Linear models by stochastic gradient descent, one step a row: scikit-learn's `SGDClassifier` and `SGDRegressor`.
//!
//! The formulas are those of scikit-learn 1.9.1's `partial_fit` over dense rows, all given to it at once. Three things are
//! otherwise. The rate `adaptive` is missing, since it only differs from `constant` when rows are seen again and again.
//! With an L1 penalty the average is the mean of the weights after every row, while scikit-learn counts the whole
//! penalty for every row of the past. And an L1 penalty draws the weight of a slot only when a row uses it, though then by all
//! that it has missed, as scikit-learn's does over sparse rows.

mod classifier;
mod loss;
mod pending;
mod regressor;
mod settings;
mod weights;

use millstream_core::{Error, Result};

pub(super) use classifier::SgdClassifier;
pub(super) use regressor::SgdRegressor;

use super::checks::weight_of;
use super::{ByRow, Certainty, Lesson, Row, Shape, likeliest};
use crate::label::Class;
use crate::onnx::{Encoded, Graph, Value, WeightedSums};
use crate::tensors::Tensors;
use crate::vector::dot;
use loss::Loss;
use settings::{LearningRate, SgdSettings};
use weights::{Step, Weights};

/// The largest gradient of the loss that is followed.
const CLIP: f64 = 1e12;

/// One weighted sum for a number or for two classes; for more, one for each class against all others.
#[derive(Clone, Debug)]
struct Sgd {
    rules: Rules,
    sums: Vec<Weights>,
    /// The number of the row that is learned next, from 1.
    next: f64,
    /// By how much every weight should have been shrunk towards 0 so far by the L1 penalty.
    l1: f64,
}

/// What the settings say, ready to compute with.
#[derive(Clone, Debug)]
struct Rules {
    classifier: bool,
    loss: Loss,
    epsilon: f64,
    rate: LearningRate,
    eta0: f64,
    power_t: f64,
    /// What `optimal` starts from.
    start: f64,
    alpha: f64,
    /// The penalties: shares of `alpha`.
    l1: f64,
    l2: f64,
    intercept: bool,
    average_from: Option<f64>,
    /// What rows of each class count, where the target is the class and where it isn't.
    class_weights: Vec<[f64; 2]>,
}

impl Rules {
    fn new(settings: &SgdSettings, classes: &[Class]) -> Self {
        let classifier = !classes.is_empty();
        let loss = settings.loss(classifier);
        let (l1, l2) = settings.penalties();
        let weight = |class| weight_of(class, &settings.class_weight);
        let class_weights = match classes {
            [] => vec![[1.0, 1.0]],
            [negative, positive] => vec![[weight(positive), weight(negative)]],
            several => several.iter().map(|class| [weight(class), 1.0]).collect(),
        };
        Self {
            classifier,
            loss,
            epsilon: settings.epsilon,
            rate: settings.learning_rate(classifier),
            eta0: settings.eta0,
            power_t: settings.power_t(classifier),
            start: optimal_start(loss, settings.alpha, settings.epsilon),
            alpha: settings.alpha,
            l1,
            l2,
            intercept: settings.fit_intercept,
            average_from: settings.average.first_row().map(|row| row as f64),
            class_weights,
        }
    }

    /// How far the given row moves the weights, if it is not the row that says so.
    #[inline(always)]
    fn rate(&self, row: f64) -> f64 {
        match self.rate {
            LearningRate::Constant | LearningRate::Pa1 | LearningRate::Pa2 => self.eta0,
            LearningRate::Optimal => 1.0 / (self.alpha * (self.start + row - 1.0)),
            LearningRate::InvScaling => self.eta0 / libm::pow(row, self.power_t),
        }
    }

    /// How often a row is added to the weights.
    #[inline(always)]
    fn update(&self, sum: f64, target: f64, rate: f64, row: Row<'_>) -> f64 {
        if !self.rate.is_passive() {
            return -rate * self.loss.gradient(sum, target, self.epsilon).clamp(-CLIP, CLIP);
        }
        let squares = squares(row);
        let loss = self.loss.value(sum, target, self.epsilon);
        let size = match self.rate {
            LearningRate::Pa1 => (loss / squares).min(self.eta0),
            _ => loss / (squares + 0.5 / self.eta0),
        };
        let towards_target = if self.classifier {
            target
        } else if target < sum {
            -1.0
        } else {
            1.0
        };
        size * towards_target
    }
}

/// From which row number the rate `optimal` starts, by Leon Bottou's rule: so that the first rate suits weights of the size
/// that `alpha` leads to.
fn optimal_start(loss: Loss, alpha: f64, epsilon: f64) -> f64 {
    let weight = (1.0 / alpha.sqrt()).sqrt();
    let rate = weight / loss.gradient(-weight, 1.0, epsilon).max(1.0);
    1.0 / (rate * alpha)
}

#[inline(always)]
fn squares(row: Row<'_>) -> f64 {
    dot(row.numbers, row.numbers) + row.slots.len() as f64
}

impl Sgd {
    /// One that has learned nothing; without classes it is a regressor.
    pub fn new(settings: &SgdSettings, classes: &[Class], shape: Shape) -> Self {
        let rules = Rules::new(settings, classes);
        let weights = || Weights::new(shape, rules.l1 > 0.0, rules.average_from.is_some());
        let sums = (0..rules.class_weights.len()).map(|_| weights()).collect();
        Self { rules, sums, next: 1.0, l1: 0.0 }
    }

    /// Whether the mean of the weights predicts.
    #[inline(always)]
    fn predicts_by_average(&self) -> bool {
        self.rules.average_from.is_some_and(|from| from < self.next)
    }

    /// The weighted sums that predict.
    fn plain_sums(&self) -> WeightedSums {
        let plain: Vec<_> = self.sums.iter().map(|weights| weights.plain(self.predicts_by_average())).collect();
        let slots = plain.first().map_or(0, |(_, slots, _)| slots.len());
        WeightedSums {
            weights: plain.iter().map(|(numbers, ..)| numbers.clone()).collect(),
            slots: (0..slots).flat_map(|slot| plain.iter().map(move |(_, slots, _)| slots[slot])).collect(),
            intercepts: plain.iter().map(|(.., intercept)| *intercept).collect(),
        }
    }

    /// The weighted sum that predicts.
    #[inline(always)]
    fn sum(&self, weights: &Weights, row: Row<'_>) -> f64 {
        if self.predicts_by_average() { weights.average_sum(row) } else { weights.sum(row) }
    }

    /// Learns a row that counts so much.
    #[inline(always)]
    fn learn_weighted(&mut self, row: Row<'_>, target: f64, weight: f64) {
        let rules = &self.rules;
        if rules.rate == LearningRate::Pa1 && squares(row) == 0.0 {
            return;
        }
        let rate = rules.rate(self.next);
        self.l1 += rules.l1 * rate;
        let decay = (1.0 - rules.l2 * rate).max(0.0);
        for (index, weights) in self.sums.iter_mut().enumerate() {
            let (target, counts) = match (rules.classifier, rules.class_weights.len()) {
                (false, _) => (target, 1.0),
                (true, 1) => sided(target == 1.0, rules.class_weights[0]),
                (true, _) => sided(target == index as f64, rules.class_weights[index]),
            };
            let update = weight * counts * rules.update(weights.sum(row), target, rate, row);
            weights.step(row, Step { decay, update, l1: self.l1 });
            if rules.intercept {
                weights.move_intercept(update);
            }
            if let Some(from) = rules.average_from.filter(|from| *from <= self.next) {
                weights.count_in(self.next - from + 1.0);
            }
        }
        self.next += 1.0;
    }
}

impl ByRow for Sgd {
    #[inline(always)]
    fn outputs(&self) -> usize {
        self.sums.len()
    }

    #[inline(always)]
    fn predict_one(&self, row: Row<'_>, into: &mut [f64]) {
        for (into, weights) in into.iter_mut().zip(&self.sums) {
            *into = self.sum(weights, row);
        }
        if self.rules.classifier && self.rules.loss.has_probabilities() {
            let best = likeliest(into, Certainty::Score);
            into.iter_mut().for_each(|value| *value = self.rules.loss.probability(*value));
            share_out(into);
            prefer(best, into);
        }
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
        tensors.put_f64("estimator.next_and_l1", &[2], &[self.next, self.l1]);
        let each = self.sums.iter().enumerate();
        each.for_each(|(index, weights)| weights.save(&format!("estimator.{index}"), tensors));
    }

    fn weighted_sums(&self) -> Option<WeightedSums> {
        Some(self.plain_sums())
    }

    fn take_sums(&mut self, sums: WeightedSums) -> Result<()> {
        let count = self.sums.len();
        for (sum, weights) in self.sums.iter_mut().enumerate() {
            let slots = sums.slots.iter().skip(sum).step_by(count).copied().collect();
            weights.take(&sums.weights[sum], slots, sums.intercepts[sum]);
        }
        Ok(())
    }

    fn to_onnx(&self, graph: &mut Graph, row: &Encoded) -> Result<Value> {
        let sums = self.plain_sums().of(row, graph);
        if !self.rules.classifier || !self.rules.loss.has_probabilities() {
            return Ok(sums);
        }
        let probabilities = self.rules.loss.to_onnx(&sums, graph);
        if self.sums.len() == 1 {
            return Ok(probabilities);
        }
        let total = graph.sum(&probabilities, 1, true);
        let shares = graph.add("Div", &[&probabilities, &total]);
        let none = graph.doubles(&[], &[0.0]);
        let equal = graph.doubles(&[], &[1.0 / self.sums.len() as f64]);
        let is_any = graph.add("Greater", &[&total, &none]);
        Ok(graph.add("Where", &[&is_any, &shares, &equal]))
    }

    fn load(&mut self, tensors: &Tensors) -> Result<()> {
        let figures = tensors.f64s("estimator.next_and_l1", &[2])?;
        (self.next, self.l1) = (figures[0], figures[1]);
        if self.next.is_nan() || self.next < 1.0 {
            return Err(Error::new(format!("the model is damaged: its next row is {}", self.next)));
        }
        let mut each = self.sums.iter_mut().enumerate();
        each.try_for_each(|(index, weights)| weights.load(&format!("estimator.{index}"), tensors))
    }
}

/// The target of one of two sides, and what its rows count.
#[inline(always)]
fn sided(positive: bool, [of_positive, of_negative]: [f64; 2]) -> (f64, f64) {
    if positive { (1.0, of_positive) } else { (-1.0, of_negative) }
}

/// Makes probabilities of several classes sum to 1.
#[inline(always)]
fn share_out(probabilities: &mut [f64]) {
    if probabilities.len() == 1 {
        return;
    }
    let sum: f64 = probabilities.iter().sum();
    let equal = 1.0 / probabilities.len() as f64;
    probabilities.iter_mut().for_each(|value| *value = if sum > 0.0 { *value / sum } else { equal });
}

/// Lets the class with the highest sum be the likeliest also where others are as probable, since sums that differ may be
/// too large, or too small, for probabilities that do: by the least that there is between two numbers.
#[inline(always)]
fn prefer(best: usize, probabilities: &mut [f64]) {
    if probabilities.len() == 1 {
        return;
    }
    let below = probabilities[best].next_down();
    for (class, probability) in probabilities.iter_mut().enumerate() {
        if class != best && *probability > below {
            *probability = below;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
