//! Which action is worth most: LinUCB, a ridge regression for each action, and a bonus for what is little known.
//!
//! Li, Chu, Langford and Schapire, "A contextual-bandit approach to personalized news article recommendation" (2010), with
//! disjoint linear models. The inverse of a matrix of each action is kept up to date by the formula of Sherman and Morrison.

use millstream_core::{Problem, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checks::check_not_negative;
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
        check_not_negative(&[("alpha", self.alpha), ("l2", self.l2)])?;
        if self.l2 > 0.0 { Ok(()) } else { Err(Problem::new("`l2` is 0, and should be more, such as 1").under("l2")) }
    }

    fn most_numbers(&self, features: &[Feature], classes: &[Class]) -> u64 {
        let size = size(Shape::new(features, classes)) as u64;
        size.saturating_mul(size).saturating_mul(classes.len() as u64)
    }

    fn build(&self, features: &[Feature], classes: &[Class]) -> Box<dyn Estimator> {
        Box::new(Arms::new(self, Shape::new(features, classes)))
    }
}

/// How many weights an action has: one a number, one a slot, and an intercept.
fn size(shape: Shape) -> usize {
    shape.numbers + shape.slots + 1
}

/// What is known of the actions.
#[derive(Clone, Debug)]
struct Arms {
    alpha: f64,
    shape: Shape,
    size: usize,
    /// By action, the inverse of the matrix of its rows.
    inverses: Vec<f64>,
    /// By action, the sum of its rows, each times its reward.
    sums: Vec<f64>,
    /// By action, the product of both.
    weights: Vec<f64>,
    /// The product of an inverse and the row that is learned.
    product: Vec<f64>,
}

impl Arms {
    fn new(settings: &LinUcb, shape: Shape) -> Self {
        let size = size(shape);
        let identity = |place: usize| if place.is_multiple_of(size + 1) { 1.0 / settings.l2 } else { 0.0 };
        Self {
            alpha: settings.alpha,
            shape,
            size,
            inverses: (0..shape.classes).flat_map(|_| (0..size * size).map(identity)).collect(),
            sums: vec![0.0; size * shape.classes],
            weights: vec![0.0; size * shape.classes],
            product: vec![0.0; size],
        }
    }

    /// The places of a row that are not 0, and what is there.
    #[inline(always)]
    fn entries(shape: Shape, row: Row<'_>) -> impl Iterator<Item = (usize, f64)> + Clone {
        let Shape { numbers, slots, .. } = shape;
        let ones = row.slots.iter().map(move |slot| (numbers + *slot as usize, 1.0));
        row.numbers[..numbers].iter().copied().enumerate().chain(ones).chain([(numbers + slots, 1.0)])
    }

    #[inline(always)]
    fn score(&self, action: usize, row: Row<'_>) -> f64 {
        let entries = Self::entries(self.shape, row);
        let inverse = &self.inverses[action * self.size * self.size..];
        let weights = &self.weights[action * self.size..];
        let (mut worth, mut variance) = (0.0, 0.0);
        for (place, value) in entries.clone() {
            worth += weights[place] * value;
            let line = &inverse[place * self.size..];
            variance += value * entries.clone().fold(0.0, |sum, (other, value)| sum + line[other] * value);
        }
        worth + self.alpha * variance.max(0.0).sqrt()
    }

    /// Multiplies the inverse of an action and its sums.
    #[inline(always)]
    fn solve(&mut self, action: usize) {
        let size = self.size;
        let sums = &self.sums[action * size..(action + 1) * size];
        for (place, line) in self.inverses[action * size * size..].chunks_exact(size).take(size).enumerate() {
            self.weights[action * size + place] = line.iter().zip(sums).fold(0.0, |sum, (a, b)| sum + a * b);
        }
    }
}

impl ByRow for Arms {
    #[inline(always)]
    fn outputs(&self) -> usize {
        self.shape.classes
    }

    #[inline(always)]
    fn predict_one(&self, row: Row<'_>, into: &mut [f64]) {
        into.iter_mut().enumerate().for_each(|(action, score)| *score = self.score(action, row));
    }

    /// There is nothing to learn of an action alone.
    #[inline(always)]
    fn learn_one(&mut self, _row: Row<'_>, _action: f64) {}

    #[inline(always)]
    fn learn(&mut self, row: Row<'_>, lesson: &Lesson<'_>) {
        let (action, reward, size) = (lesson.target as usize, lesson.reward, self.size);
        let entries = Self::entries(self.shape, row);
        let inverse = &mut self.inverses[action * size * size..(action + 1) * size * size];
        for (product, line) in self.product.iter_mut().zip(inverse.chunks_exact(size)) {
            *product = entries.clone().fold(0.0, |sum, (place, value)| sum + line[place] * value);
        }
        let spread = 1.0 + entries.clone().fold(0.0, |sum, (place, value)| sum + self.product[place] * value);
        for (line, by) in inverse.chunks_exact_mut(size).zip(&self.product) {
            let by = by / spread;
            line.iter_mut().zip(&self.product).for_each(|(number, product)| *number -= by * product);
        }
        entries.for_each(|(place, value)| self.sums[action * size + place] += reward * value);
        self.solve(action);
    }

    fn save(&self, tensors: &mut Tensors) {
        let (size, actions) = (self.size, self.shape.classes);
        tensors.put_f64("estimator.inverses", &[actions, size, size], &self.inverses);
        tensors.put_f64("estimator.sums", &[actions, size], &self.sums);
    }

    fn load(&mut self, tensors: &Tensors) -> Result<()> {
        let (size, actions) = (self.size, self.shape.classes);
        self.inverses = tensors.f64s("estimator.inverses", &[actions, size, size])?;
        self.sums = tensors.f64s("estimator.sums", &[actions, size])?;
        (0..actions).for_each(|action| self.solve(action));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { numbers: 1, width: 8, slots: 2, classes: 2 };

    fn arms(alpha: f64) -> Arms {
        Arms::new(&LinUcb { alpha, l2: 1.0 }, SHAPE)
    }

    fn learn(arms: &mut Arms, number: f64, slot: u32, action: usize, reward: f64) {
        let numbers = [number, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        let lesson = Lesson { target: action as f64, reward, weight: 1.0, prediction: &[] };
        arms.learn(Row { numbers: &numbers, slots: &[slot] }, &lesson);
    }

    fn scores(arms: &Arms, number: f64, slot: u32) -> [f64; 2] {
        let mut scores = [0.0; 2];
        arms.predict_one(Row { numbers: &[number, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], slots: &[slot] }, &mut scores);
        scores
    }

    #[test]
    fn an_inverse_that_is_kept_up_to_date_is_that_of_the_matrix_of_all_rows() {
        let mut arms = arms(1.0);
        // The matrix of all rows, and 1 on its diagonal.
        let mut matrix = [[0.0; 4]; 4];
        (0..4).for_each(|place| matrix[place][place] = 1.0);
        for row in 0..200_u32 {
            let (number, slot) = (f64::from(row % 17) / 7.0 - 1.0, row % 3 % 2);
            learn(&mut arms, number, slot, 1, f64::from(row % 5));
            let x = [number, f64::from(1 - slot), f64::from(slot), 1.0];
            (0..16).for_each(|place| matrix[place / 4][place % 4] += x[place / 4] * x[place % 4]);
        }
        for (line, matrix) in matrix.iter().enumerate() {
            for column in 0..4 {
                let product: f64 = (0..4).map(|place| matrix[place] * arms.inverses[16 + place * 4 + column]).sum();
                let wanted = if line == column { 1.0 } else { 0.0 };
                assert!((product - wanted).abs() < 1e-9, "{line}, {column}: {product}");
            }
        }
        assert_eq!(arms.weights[..4], [0.0; 4], "nothing was learned of the other action");
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
