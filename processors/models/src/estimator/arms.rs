//! What is known of actions: of each a ridge regression of what it was worth, and how well it is known.
//!
//! The inverse of a matrix of each action is kept up to date by the formula of Sherman and Morrison.

use millstream_core::Result;

use super::{Lesson, Row, Shape};
use crate::tensors::Tensors;

/// How many weights an action has: one a number, one a slot, and an intercept.
pub(super) fn size(shape: Shape) -> usize {
    shape.numbers + shape.slots + 1
}

/// What is known of the actions.
#[derive(Clone, Debug)]
pub(super) struct Arms {
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
    /// Of actions of which nothing is known; `l2` is how strongly weights are drawn to 0.
    pub fn new(l2: f64, shape: Shape) -> Self {
        let size = size(shape);
        let identity = |place: usize| if place.is_multiple_of(size + 1) { 1.0 / l2 } else { 0.0 };
        Self {
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

    /// How many actions there are.
    #[inline(always)]
    pub fn count(&self) -> usize {
        self.shape.classes
    }

    /// What an action is expected to be worth, and how far off that may be: its standard deviation, where rewards have 1.
    #[inline(always)]
    pub fn expect(&self, action: usize, row: Row<'_>) -> (f64, f64) {
        let entries = Self::entries(self.shape, row);
        let inverse = &self.inverses[action * self.size * self.size..];
        let weights = &self.weights[action * self.size..];
        let (mut worth, mut variance) = (0.0, 0.0);
        for (place, value) in entries.clone() {
            worth += weights[place] * value;
            let line = &inverse[place * self.size..];
            variance += value * entries.clone().fold(0.0, |sum, (other, value)| sum + line[other] * value);
        }
        (worth, variance.max(0.0).sqrt())
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

    /// Takes in what an action was worth.
    #[inline(always)]
    pub fn learn(&mut self, row: Row<'_>, lesson: &Lesson<'_>) {
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

    pub fn save(&self, tensors: &mut Tensors) {
        let (size, actions) = (self.size, self.shape.classes);
        tensors.put_f64("estimator.inverses", &[actions, size, size], &self.inverses);
        tensors.put_f64("estimator.sums", &[actions, size], &self.sums);
    }

    pub fn load(&mut self, tensors: &Tensors) -> Result<()> {
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

    #[test]
    fn an_inverse_that_is_kept_up_to_date_is_that_of_the_matrix_of_all_rows() {
        let mut arms = Arms::new(1.0, Shape { numbers: 1, width: 8, slots: 2, classes: 2 });
        // The matrix of all rows, and 1 on its diagonal.
        let mut matrix = [[0.0; 4]; 4];
        (0..4).for_each(|place| matrix[place][place] = 1.0);
        for row in 0..200_u32 {
            let (number, slot) = (f64::from(row % 17) / 7.0 - 1.0, row % 3 % 2);
            let numbers = [number, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
            let lesson = Lesson { target: 1.0, reward: f64::from(row % 5), weight: 1.0, prediction: &[] };
            arms.learn(Row { numbers: &numbers, slots: &[slot] }, &lesson);
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
}
