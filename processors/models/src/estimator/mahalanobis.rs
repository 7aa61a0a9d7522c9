//! Anomalies: how far a row is off the mean, by how its numbers vary together.

use millstream_core::{Error, Problem, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checks::check_from_to;
use super::z_score::{MOST, Moments, decay};
use super::{ByRow, Estimator, Gives, Kind, Labels, PredictedColumn, Row, Settings, Shape, Takes};
use crate::encode::Feature;
use crate::label::Class;
use crate::tensors::Tensors;

/// Anomalies, without a label: how far a row is off the mean of the rows before it, by how numbers vary together (the distance of Mahalanobis, 1936).
/// A row of usual numbers that don't belong together is far off. Adds the column `anomaly`, which is 1,000,000 at most, and null until there were
/// twice as many rows as there are numbers; of rows as they should be its square is as large as there are numbers, on average. Categories are not
/// looked at. The metric is `mean_anomaly`.
///
/// Take it for measurements that depend on each other, such as those of one machine. The covariance is kept as its Cholesky factor, which every row
/// updates: it stays exact, and takes as many numbers as there are pairs of features. Where there are several usual states, take `half_space_trees`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Mahalanobis {
    /// By how much rows count less with every further one: with 1 all count alike; with 0.999 about the last thousand, so that what changes slowly
    /// is no anomaly.
    #[serde(default = "decay")]
    #[schemars(range(min = 0, max = 1))]
    decay: f64,
    /// What is added to the sum of the squares of each number, so that one which hardly varies is not taken for one that can't.
    #[serde(default = "ridge")]
    ridge: f64,
}

fn ridge() -> f64 {
    0.01
}

const COLUMNS: &[PredictedColumn] = &[PredictedColumn { name: "anomaly", whole: false, mean: Some("mean_anomaly") }];

impl Kind for Mahalanobis {
    const NAME: &'static str = "mahalanobis";
    const EXAMPLE: &'static str = "decay = 0.999";
}

impl Settings for Mahalanobis {
    fn labels(&self) -> Labels {
        Labels::Nothing
    }

    fn gives(&self, _classes: &[Class]) -> Gives {
        Gives::Columns(COLUMNS)
    }

    fn takes(&self) -> Takes {
        Takes::Dense
    }

    fn check(&self, _classes: &[Class]) -> Result<(), Problem> {
        check_from_to(&[("decay", self.decay, 0.0, 1.0), ("ridge", self.ridge, 1e-9, 1e9)])
    }

    fn most_numbers(&self, features: &[Feature], classes: &[Class]) -> u64 {
        let Shape { width, .. } = Shape::new(features, classes);
        (width as u64).saturating_mul(width as u64).max(1)
    }

    fn build(&self, features: &[Feature], classes: &[Class]) -> Box<dyn Estimator> {
        Box::new(Covariance::new(self, Shape::new(features, classes)))
    }
}

#[derive(Clone, Debug)]
struct Covariance {
    decay: f64,
    /// The least that the diagonal of the factor has.
    least: f64,
    shape: Shape,
    /// How many rows it has learned.
    rows: u64,
    moments: Moments,
    /// The lower triangle whose product with itself is the sum of the products of the distances from the means; column by column, each as long as
    /// a row with padding.
    factor: Vec<f64>,
}

impl Covariance {
    fn new(settings: &Mahalanobis, shape: Shape) -> Self {
        let least = settings.ridge.sqrt();
        let mut factor = vec![0.0; shape.numbers * shape.width];
        (0..shape.numbers).for_each(|place| factor[place * shape.width + place] = least);
        Self { decay: settings.decay, least, shape, rows: 0, moments: Moments::new(shape), factor }
    }

    /// The square of the distance, but for the weight of all rows: that of the solution `y` of `factor y = off`.
    #[inline(always)]
    fn square(&self, off: &mut [f64]) -> f64 {
        let mut square = 0.0;
        for (place, column) in self.factor.chunks_exact(self.shape.width).enumerate() {
            let y = off[place] / column[place];
            square += y * y;
            // Those above the diagonal are 0, and what is behind is what is still to be solved.
            off.iter_mut().zip(column).for_each(|(off, factor)| *off -= factor * y);
        }
        square
    }

    /// Has the factor be that of its product with itself, less by the decay, and more by that of a row with itself.
    #[inline(always)]
    fn update(&mut self, row: &mut [f64]) {
        let fade = self.decay.sqrt();
        for (place, column) in self.factor.chunks_exact_mut(self.shape.width).enumerate() {
            let diagonal = (column[place] * fade).max(self.least);
            let length = (diagonal * diagonal + row[place] * row[place]).sqrt();
            let (cosine, sine) = (diagonal / length, row[place] / length);
            for (factor, row) in column.iter_mut().zip(row.iter_mut()).skip(place + 1) {
                let (own, other) = (*factor * fade, *row);
                *factor = cosine * own + sine * other;
                *row = cosine * other - sine * own;
            }
            column[place] = length;
        }
    }
}

impl ByRow for Covariance {
    #[inline(always)]
    fn outputs(&self) -> usize {
        COLUMNS.len()
    }

    #[inline(always)]
    fn predict_one(&self, row: Row<'_>, into: &mut [f64]) {
        let mut off: Vec<_> = row.numbers.iter().zip(&self.moments.means).map(|(number, mean)| number - mean).collect();
        let distance = (self.moments.weight * self.square(&mut off)).sqrt();
        let is_known = self.rows >= 2 * self.shape.numbers as u64 && self.rows > 1;
        into[0] = if is_known { distance.min(MOST) } else { f64::NAN };
    }

    #[inline(always)]
    fn learn_one(&mut self, row: Row<'_>, _target: f64) {
        let before = self.moments.weight * self.decay;
        // The product of what it is off the old mean and the new one is that of the former with itself, times this.
        let by = (before / (before + 1.0)).sqrt();
        let off = row.numbers.iter().zip(&self.moments.means).map(|(number, mean)| by * (number - mean));
        let mut off: Vec<_> = off.collect();
        self.update(&mut off);
        self.moments.learn(row.numbers, self.decay);
        self.rows += 1;
    }

    fn save(&self, tensors: &mut Tensors) {
        let Shape { numbers, width, .. } = self.shape;
        tensors.put_u64("estimator.rows", &[self.rows]);
        self.moments.save(tensors);
        tensors.put_f64("estimator.factor", &[numbers, width], &self.factor);
    }

    fn load(&mut self, tensors: &Tensors) -> Result<()> {
        let Shape { numbers, width, .. } = self.shape;
        let rows = tensors.u64s("estimator.rows")?;
        self.rows = *rows.first().ok_or_else(|| Error::new("the tensor `estimator.rows` of the model is damaged"))?;
        self.moments.load(tensors)?;
        self.factor = tensors.f64s("estimator.factor", &[numbers, width])?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { numbers: 2, width: 8, slots: 0, classes: 0 };

    fn row(a: f64, b: f64) -> [f64; 8] {
        [a, b, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    }

    fn learned(decay: f64, rows: &[(f64, f64)]) -> Covariance {
        let mut of = Covariance::new(&Mahalanobis { decay, ridge: 1e-9 }, SHAPE);
        rows.iter().for_each(|(a, b)| of.learn_one(Row { numbers: &row(*a, *b), slots: &[] }, 0.0));
        of
    }

    fn distance(of: &Covariance, a: f64, b: f64) -> f64 {
        let mut into = [0.0];
        of.predict_one(Row { numbers: &row(a, b), slots: &[] }, &mut into);
        into[0]
    }

    /// Numbers that go together, more or less.
    fn rows(count: u32) -> Vec<(f64, f64)> {
        (0..count)
            .map(|row| (f64::from(row * 7 % 13), f64::from(row * 7 % 13) * 2.0 + f64::from(row * 5 % 7)))
            .collect()
    }

    #[test]
    fn the_distance_is_that_of_the_covariance_of_all_rows() {
        for decay in [1.0, 0.97] {
            let rows = rows(200);
            let of = learned(decay, &rows);
            let weights: Vec<_> = (0..200).map(|row| f64::powi(decay, 199 - row)).collect();
            let total: f64 = weights.iter().sum();
            let mean = |of: &dyn Fn(f64, f64) -> f64| {
                rows.iter().zip(&weights).map(|((a, b), weight)| weight * of(*a, *b)).sum::<f64>() / total
            };
            let (a, b) = (mean(&|a, _| a), mean(&|_, b| b));
            let [aa, ab, bb] =
                [mean(&|x, _| (x - a) * (x - a)), mean(&|x, y| (x - a) * (y - b)), mean(&|_, y| (y - b) * (y - b))];
            for (x, y) in [(3.0, 9.0), (0.0, 0.0), (12.0, 0.0), (-5.0, 80.0)] {
                let (x_off, y_off) = (x - a, y - b);
                let square = (bb * x_off * x_off - 2.0 * ab * x_off * y_off + aa * y_off * y_off) / (aa * bb - ab * ab);
                let found = distance(&of, x, y);
                assert!((found - square.sqrt()).abs() < 1e-6, "{decay}: {x}, {y}: {found}, not {}", square.sqrt());
            }
        }
    }

    #[test]
    fn usual_numbers_that_do_not_belong_together_are_far_off() {
        let of = learned(1.0, &rows(500));
        assert!(distance(&of, 12.0, 26.0) < 3.0 && distance(&of, 12.0, 3.0) > 10.0);
    }

    #[test]
    fn of_few_rows_nothing_is_said() {
        assert!(distance(&learned(1.0, &rows(3)), 1.0, 2.0).is_nan());
        assert!(distance(&learned(1.0, &rows(4)), 1.0, 2.0).is_finite());
    }

    #[test]
    fn numbers_that_never_vary_are_no_end() {
        let of = learned(0.9, &vec![(1.0, 2.0); 5000]);
        assert_eq!(distance(&of, 1.0, 2.0), 0.0);
        assert!(distance(&of, 1.0, 3.0) > 1000.0 && distance(&of, 1.0, 1e300) == MOST);
    }
}
