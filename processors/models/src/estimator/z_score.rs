//! Anomalies: how many standard deviations a number is off its mean.

use millstream_core::{Error, Problem, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checks::check_from_to;
use super::{ByRow, Estimator, Gives, Kind, Labels, PredictedColumn, Row, Settings, Shape, Takes};
use crate::encode::Feature;
use crate::label::Class;
use crate::onnx::{Attribute, ElementType, Encoded, Graph, Value};
use crate::tensors::Tensors;

/// Anomalies, without a label: by how many standard deviations the number of a row is off that is off most (the z-score), by the means and deviations
/// of the rows before it (Welford, 1962). Adds the columns `anomaly`, which is 1,000,000 at most, and `feature`, which says whose number it was:
/// its place among the features, counted from 0. Both are null before the second row. Numbers are taken as they are (`raw`); categories are not
/// looked at. The metric is `mean_anomaly`.
///
/// Take it for single measurements that leave their range: it says which one, and costs next to nothing. What is odd only in how numbers go
/// together is found by `mahalanobis`, and what lies between several usual ranges by `half_space_trees`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ZScore {
    /// By how much rows count less with every further one: with 1 all count alike; with 0.999 about the last thousand, so that what changes slowly
    /// is no anomaly.
    #[serde(default = "decay")]
    #[schemars(range(min = 0, max = 1))]
    decay: f64,
}

pub(super) fn decay() -> f64 {
    1.0
}

/// What is off by more, or differs from numbers that were all the same, is off by that.
pub(super) const MOST: f64 = 1e6;

/// The squares of the distances of such numbers can be added up.
const LARGEST: f64 = 1e100;

const COLUMNS: &[PredictedColumn] = &[
    PredictedColumn { name: "anomaly", whole: false, mean: Some("mean_anomaly") },
    PredictedColumn { name: "feature", whole: true, mean: None },
];

impl Kind for ZScore {
    const NAME: &'static str = "z_score";
    const EXAMPLE: &'static str = "decay = 0.999";
    const EXPORTS: bool = true;
}

impl Settings for ZScore {
    fn takes(&self) -> Takes {
        Takes::Raw
    }

    fn labels(&self) -> Labels {
        Labels::Nothing
    }

    fn gives(&self, _classes: &[Class]) -> Gives {
        Gives::Columns(COLUMNS)
    }

    fn check(&self, _classes: &[Class]) -> Result<(), Problem> {
        check_from_to(&[("decay", self.decay, 0.0, 1.0)])
    }

    fn largest(&self) -> f64 {
        LARGEST
    }

    fn build(&self, features: &[Feature], classes: &[Class]) -> Box<dyn Estimator> {
        let places = (0..features.len()).filter(|place| features[*place].encoder.is_number()).collect();
        let shape = Shape::new(features, classes);
        Box::new(Deviations { decay: self.decay, places, moments: Moments::new(shape) })
    }
}

/// The means of numbers, and how far they are spread about them.
#[derive(Clone, Debug)]
pub(super) struct Moments {
    shape: Shape,
    /// How much the rows count.
    pub weight: f64,
    pub means: Vec<f64>,
    /// The sums of the squares of the distances from the means.
    squares: Vec<f64>,
}

impl Moments {
    pub fn new(shape: Shape) -> Self {
        Self { shape, weight: 0.0, means: vec![0.0; shape.width], squares: vec![0.0; shape.width] }
    }

    /// Takes in a row, behind which those before count less.
    #[inline(always)]
    pub fn learn(&mut self, numbers: &[f64], decay: f64) {
        self.weight = self.weight * decay + 1.0;
        let share = 1.0 / self.weight;
        for ((number, mean), squares) in numbers.iter().zip(&mut self.means).zip(&mut self.squares) {
            let off = number - *mean;
            *mean += off * share;
            *squares = *squares * decay + off * (number - *mean);
        }
    }

    /// By how many standard deviations a number is off its mean.
    #[inline(always)]
    fn deviations(&self, index: usize, number: f64) -> f64 {
        let off = number - self.means[index];
        let deviation = (self.squares[index] / self.weight).sqrt();
        if off == 0.0 { 0.0 } else { (off / deviation).abs().min(MOST) }
    }

    pub fn save(&self, tensors: &mut Tensors) {
        let numbers = self.shape.numbers;
        tensors.put_f64("estimator.weight", &[1], &[self.weight]);
        tensors.put_f64("estimator.means", &[numbers], &self.means[..numbers]);
        tensors.put_f64("estimator.squares", &[numbers], &self.squares[..numbers]);
    }

    pub fn load(&mut self, tensors: &Tensors) -> Result<()> {
        let numbers = self.shape.numbers;
        self.weight = tensors.f64s("estimator.weight", &[1])?[0];
        self.means[..numbers].copy_from_slice(&tensors.f64s("estimator.means", &[numbers])?);
        self.squares[..numbers].copy_from_slice(&tensors.f64s("estimator.squares", &[numbers])?);
        Ok(())
    }
}

#[derive(Clone, Debug)]
struct Deviations {
    decay: f64,
    /// By number, its place among the features.
    places: Vec<usize>,
    moments: Moments,
}

impl ByRow for Deviations {
    #[inline(always)]
    fn outputs(&self) -> usize {
        COLUMNS.len()
    }

    #[inline(always)]
    fn predict_one(&self, row: Row<'_>, into: &mut [f64]) {
        (into[0], into[1]) = (f64::NAN, f64::NAN);
        if self.moments.weight <= 1.0 {
            return;
        }
        for (index, place) in self.places.iter().enumerate() {
            let deviations = self.moments.deviations(index, row.numbers[index]);
            if into[0].is_nan() || deviations > into[0] {
                (into[0], into[1]) = (deviations, *place as f64);
            }
        }
    }

    #[inline(always)]
    fn learn_one(&mut self, row: Row<'_>, _target: f64) {
        self.moments.learn(row.numbers, self.decay);
    }

    fn save(&self, tensors: &mut Tensors) {
        self.moments.save(tensors);
    }

    fn to_onnx(&self, graph: &mut Graph, row: &Encoded) -> Result<Value> {
        let (Moments { weight, means, squares, .. }, count) = (&self.moments, self.places.len());
        let Some(numbers) = row.numbers.as_ref().filter(|_| *weight > 1.0) else {
            return Err(Error::new("it knows of no deviations yet"));
        };
        let deviations: Vec<f64> = squares[..count].iter().map(|squares| (squares / weight).sqrt()).collect();
        let (means, deviations) =
            (graph.doubles(&[1, count], &means[..count]), graph.doubles(&[1, count], &deviations));
        let (none, most) = (graph.doubles(&[], &[0.0]), graph.doubles(&[], &[MOST]));
        let off = graph.add("Sub", &[numbers, &means]);
        let far = graph.add("Div", &[&off, &deviations]);
        let far = graph.add("Abs", &[&far]);
        let far = graph.add("Min", &[&far, &most]);
        let is_mean = graph.add("Equal", &[&off, &none]);
        let far = graph.add("Where", &[&is_mean, &none, &far]);
        let farthest = graph.add_with("ReduceMax", &[&far], [("axes", Attribute::Ints(vec![1]))]);
        let which = graph.add_with("ArgMax", &[&far], [("axis", Attribute::Int(1))]);
        let places = graph.ints(&self.places.iter().map(|place| *place as i64).collect::<Vec<_>>());
        let place = graph.add("Gather", &[&places, &which]);
        let place = graph.cast(&place, ElementType::Double);
        Ok(graph.side_by_side(&[&farthest, &place]))
    }

    fn load(&mut self, tensors: &Tensors) -> Result<()> {
        self.moments.load(tensors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { numbers: 2, width: 8, slots: 0, classes: 0 };

    fn row(a: f64, b: f64) -> [f64; 8] {
        [a, b, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    }

    fn predict(of: &Deviations, a: f64, b: f64) -> [f64; 2] {
        let mut into = [0.0; 2];
        of.predict_one(Row { numbers: &row(a, b), slots: &[] }, &mut into);
        into
    }

    fn learned(decay: f64, rows: impl Iterator<Item = (f64, f64)>) -> Deviations {
        let mut of = Deviations { decay, places: vec![0, 3], moments: Moments::new(SHAPE) };
        rows.for_each(|(a, b)| of.learn_one(Row { numbers: &row(a, b), slots: &[] }, 0.0));
        of
    }

    #[test]
    fn the_number_that_is_off_most_is_told() {
        let of = learned(1.0, (0..100).map(|index| (f64::from(index % 2) * 2.0, f64::from(index % 2) * 20.0)));
        // Means 1 and 10, deviations 1 and 10.
        for (a, b, wanted) in [(4.0, 10.0, [3.0, 0.0]), (0.0, -10.0, [2.0, 3.0]), (1.0, 10.0, [0.0, 0.0])] {
            let found = predict(&of, a, b);
            assert!((found[0] - wanted[0]).abs() < 1e-12 && found[1] == wanted[1], "{a}, {b}: {found:?}");
        }
    }

    #[test]
    fn what_never_varied_is_far_off_when_it_does_and_of_one_row_nothing_is_known() {
        let of = learned(1.0, (0..10).map(|index| (5.0, f64::from(index))));
        assert_eq!(predict(&of, 6.0, 4.5), [MOST, 0.0]);
        assert!(predict(&learned(1.0, [(1.0, 1.0)].into_iter()), 6.0, 4.5).iter().all(|value| value.is_nan()));
    }

    #[test]
    fn what_changes_slowly_is_forgotten() {
        let rows = || (0..4000).map(|index| (f64::from(index / 2000) * 100.0 + f64::from(index % 2), 0.0));
        let [all, recent] = [1.0, 0.99].map(|decay| predict(&learned(decay, rows()), 0.0, 0.0)[0]);
        assert!(all < 2.0 && recent > 100.0, "{all}, {recent}");
    }
}
