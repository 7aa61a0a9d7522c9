//! Which action is worth most: Thompson sampling, with a ridge regression for each action.
//!
//! Agrawal and Goyal, "Thompson sampling for contextual bandits with linear payoffs" (2013), with disjoint linear models. What a row needs of the weights that
//! would be drawn is one sum, which has a normal distribution, so that only the sum is drawn.

use millstream_core::{Error, Problem, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::arms::{Arms, size};
use super::checks::{check_not_negative, check_positive};
use super::random::Random;
use super::{ByRow, Estimator, Gives, Kind, Labels, Lesson, Row, Settings, Shape};
use crate::encode::Feature;
use crate::label::Class;
use crate::tensors::Tensors;

/// Which action is worth most, from actions that were chosen and what each was worth: a ridge regression of the `reward` for each action, the
/// `label`, of which a value is drawn that is as probable as what is known allows (Thompson sampling with disjoint linear models, Agrawal & Goyal 2013). The
/// highest is the `action`: so one of which little is known is chosen now and then, and less the more is known. Columns, metrics and memory are those of `lin_ucb`.
///
/// Take it in the place of `lin_ucb` where rewards come late: until they are there, `lin_ucb` chooses the same action for the same rows, and this one draws
/// anew with every row that is learned, and for every other row. It needs no `decide`. Where the propensity of each choice has to be known, such as for
/// `evaluate_policy`, take `lin_ucb` with `alpha = 0` and a `decide` behind it.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LinThompson {
    /// How widely values are drawn: the standard deviation of rewards. 0 chooses what has been worth most.
    #[serde(default = "alpha")]
    #[schemars(range(min = 0))]
    alpha: f64,
    /// How strongly weights are drawn to 0.
    #[serde(default = "l2")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    l2: f64,
    /// What is drawn by chance follows from this.
    #[serde(default)]
    seed: u64,
}

fn alpha() -> f64 {
    1.0
}

fn l2() -> f64 {
    1.0
}

impl Kind for LinThompson {
    const NAME: &'static str = "lin_thompson";
    const EXAMPLE: &'static str = "alpha = 0.5";
}

impl Settings for LinThompson {
    fn labels(&self) -> Labels {
        Labels::Actions
    }

    fn gives(&self, _classes: &[Class]) -> Gives {
        Gives::Actions
    }

    fn check(&self, _classes: &[Class]) -> Result<(), Problem> {
        check_not_negative(&[("alpha", self.alpha)])?;
        check_positive(&[("l2", self.l2)])
    }

    fn most_numbers(&self, features: &[Feature], classes: &[Class]) -> u64 {
        let size = size(Shape::new(features, classes)) as u64;
        size.saturating_mul(size).saturating_mul(classes.len() as u64)
    }

    fn build(&self, features: &[Feature], classes: &[Class]) -> Box<dyn Estimator> {
        let arms = Arms::new(self.l2, Shape::new(features, classes));
        Box::new(Draws { alpha: self.alpha, seed: self.seed, rows: 0, arms })
    }
}

/// The actions, and how many rows were learned, by which values are drawn.
#[derive(Clone, Debug)]
struct Draws {
    alpha: f64,
    seed: u64,
    rows: u64,
    arms: Arms,
}

impl ByRow for Draws {
    #[inline(always)]
    fn outputs(&self) -> usize {
        self.arms.count()
    }

    #[inline(always)]
    fn predict_one(&self, row: Row<'_>, into: &mut [f64]) {
        // Of each number are two of the generator.
        let before = 2 * self.rows;
        for (action, score) in into.iter_mut().enumerate() {
            let (worth, deviation) = self.arms.expect(action, row);
            let drawn = Random::of_row(self.seed, action as u64, row, before).normal();
            *score = worth + self.alpha * deviation * drawn;
        }
    }

    /// There is nothing to learn of an action alone.
    #[inline(always)]
    fn learn_one(&mut self, _row: Row<'_>, _action: f64) {}

    #[inline(always)]
    fn learn(&mut self, row: Row<'_>, lesson: &Lesson<'_>) {
        self.arms.learn(row, lesson);
        self.rows += 1;
    }

    fn save(&self, tensors: &mut Tensors) {
        tensors.put_u64("estimator.rows", &[self.rows]);
        self.arms.save(tensors);
    }

    fn load(&mut self, tensors: &Tensors) -> Result<()> {
        let rows = tensors.u64s("estimator.rows")?;
        let rows = rows.first().filter(|rows| **rows < 1 << 53);
        self.rows = *rows.ok_or_else(|| Error::new("the tensor `estimator.rows` of the model is damaged"))?;
        self.arms.load(tensors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { numbers: 1, width: 8, slots: 0, classes: 3 };

    fn numbers(number: f64) -> [f64; 8] {
        [number, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    }

    fn draws() -> Draws {
        Draws { alpha: 1.0, seed: 9, rows: 0, arms: Arms::new(1.0, SHAPE) }
    }

    fn scores(draws: &Draws, number: f64) -> [f64; 3] {
        let mut scores = [0.0; 3];
        draws.predict_one(Row { numbers: &numbers(number), slots: &[] }, &mut scores);
        scores
    }

    fn learn(draws: &mut Draws, number: f64, action: usize, reward: f64) {
        let lesson = Lesson { target: action as f64, reward, weight: 1.0, prediction: &[] };
        draws.learn(Row { numbers: &numbers(number), slots: &[] }, &lesson);
    }

    /// Of a number and an intercept of which nothing is known, the variance is the square of the number and 1.
    #[test]
    fn values_are_drawn_as_widely_as_little_is_known() {
        let mut draws = draws();
        let moments = |draws: &Draws| {
            let found: Vec<_> = (0..3000).map(|row| scores(draws, 2.0 + f64::from(row) * 1e-9)[0]).collect();
            let mean = found.iter().sum::<f64>() / 3000.0;
            (mean, found.iter().map(|found| (found - mean) * (found - mean)).sum::<f64>() / 3000.0)
        };
        let (mean, variance) = moments(&draws);
        assert!(mean.abs() < 0.15 && (variance / 5.0 - 1.0).abs() < 0.1, "{mean}, {variance}");
        (0..50).for_each(|_| learn(&mut draws, 2.0, 0, 3.0));
        let (mean, variance) = moments(&draws);
        let known = 1.0 / 50.2;
        assert!((mean - 3.0).abs() < 0.05 && (variance / known - 1.0).abs() < 0.1, "{mean}, {variance}");
    }

    #[test]
    fn the_best_action_is_chosen_more_and_more() {
        let mut draws = draws();
        let mut best = [0; 2];
        for row in 0..2000_u32 {
            let number = f64::from(row % 11) / 5.0 - 1.0;
            let scores = scores(&draws, number);
            let action = (0..3).fold(0, |best, action| if scores[action] > scores[best] { action } else { best });
            learn(&mut draws, number, action, [number, -number, 0.1][action]);
            let wanted = if number > 0.1 {
                0
            } else if number < -0.1 {
                1
            } else {
                2
            };
            best[usize::from(row >= 1000)] += u32::from(action == wanted);
        }
        assert!(best[1] > 900 && best[1] > best[0], "{best:?}");
    }
}
