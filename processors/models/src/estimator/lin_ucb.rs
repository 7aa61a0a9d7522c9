//! Which action is worth most: LinUCB, a ridge regression for each action, and a bonus for what is little known.
//!
//! Li, Chu, Langford and Schapire, "A contextual-bandit approach to personalized news article recommendation" (2010), with
//! disjoint linear models.

use millstream_core::{Problem, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::arms::{Arms, size};
use super::checks::{check_not_negative, check_positive};
use super::{ByRow, Estimator, Gives, Kind, Labels, Lesson, Row, Settings, Shape};
use crate::encode::Feature;
use crate::label::Class;
use crate::tensors::Tensors;

/// Which action is worth most, from actions that were chosen and what each was worth: a ridge regression of the `reward` for each
/// action, the `label`, with a bonus for how little is known of a row like this (LinUCB with disjoint models, Li et al. 2010). Adds the
/// columns `action` (that with the highest score), `score` and `scores` (the upper bound of what each action is worth). An action
/// takes as many numbers as there are features, squared, each category counting as many as it has slots: give it few of these. Metrics are
/// `mean_reward` of the actions that were chosen, `agreement` (how often the model would have chosen the same), and `own_reward`
/// (the mean over the rows where it would have; what its own choice is worth if actions were drawn at random, each as often as the
/// others).
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LinUcb {
    /// How much it counts that little is known of an action: 0 chooses what has been worth most.
    #[serde(default = "default_alpha")]
    #[schemars(range(min = 0))]
    alpha: f64,
    /// How strongly weights are drawn to 0.
    #[serde(default = "default_l2")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    l2: f64,
}

fn default_alpha() -> f64 {
    1.0
}

fn default_l2() -> f64 {
    1.0
}

impl Kind for LinUcb {
    const NAME: &'static str = "lin_ucb";
    const EXAMPLE: &'static str = "alpha = 0.5";
}

impl Settings for LinUcb {
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
        Box::new(Bounds { alpha: self.alpha, arms })
    }
}

/// The actions, and how much it counts that little is known of them.
#[derive(Clone, Debug)]
struct Bounds {
    alpha: f64,
    arms: Arms,
}

impl ByRow for Bounds {
    #[inline(always)]
    fn outputs(&self) -> usize {
        self.arms.count()
    }

    #[inline(always)]
    fn predict_one(&self, row: Row<'_>, into: &mut [f64]) {
        for (action, score) in into.iter_mut().enumerate() {
            let (worth, deviation) = self.arms.expect(action, row);
            *score = worth + self.alpha * deviation;
        }
    }

    /// There is nothing to learn of an action alone.
    #[inline(always)]
    fn learn_one(&mut self, _row: Row<'_>, _action: f64) {}

    #[inline(always)]
    fn learn(&mut self, row: Row<'_>, lesson: &Lesson<'_>) {
        self.arms.learn(row, lesson);
    }

    fn save(&self, tensors: &mut Tensors) {
        self.arms.save(tensors);
    }

    fn load(&mut self, tensors: &Tensors) -> Result<()> {
        self.arms.load(tensors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { numbers: 1, width: 8, slots: 2, classes: 2 };

    fn arms(alpha: f64) -> Bounds {
        Bounds { alpha, arms: Arms::new(1.0, SHAPE) }
    }

    fn learn(arms: &mut Bounds, number: f64, slot: u32, action: usize, reward: f64) {
        let numbers = [number, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        let lesson = Lesson { target: action as f64, reward, weight: 1.0, prediction: &[] };
        arms.learn(Row { numbers: &numbers, slots: &[slot] }, &lesson);
    }

    fn scores(arms: &Bounds, number: f64, slot: u32) -> [f64; 2] {
        let mut scores = [0.0; 2];
        arms.predict_one(Row { numbers: &[number, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], slots: &[slot] }, &mut scores);
        scores
    }

    #[test]
    fn what_is_little_known_gets_a_bonus() {
        let mut arms = arms(2.0);
        // Nothing is known: the root of 1 + 1 + 1, for the number, the slot and the intercept, twice.
        assert_eq!(scores(&arms, 1.0, 0), [2.0 * 3.0_f64.sqrt(); 2]);
        learn(&mut arms, 1.0, 0, 0, 0.0);
        let [tried, other] = scores(&arms, 1.0, 0);
        // x A⁻¹ x = 3 - 9 / 4.
        assert!((tried - 2.0 * 0.75_f64.sqrt()).abs() < 1e-12 && other > tried);
    }

    #[test]
    fn the_better_action_is_learned_where_each_is_better_somewhere() {
        let mut arms = arms(0.0);
        for row in 0..1000_u32 {
            let (slot, action) = (row / 2 % 2, row as usize % 2);
            learn(&mut arms, 0.0, slot, action, if slot as usize == action { 1.0 } else { 0.2 });
        }
        let [[first, worse], [worse_too, second]] = [scores(&arms, 0.0, 0), scores(&arms, 0.0, 1)];
        assert!(first > worse + 0.5 && second > worse_too + 0.5);
    }
}
