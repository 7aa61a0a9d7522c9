//! Clusters by how alike the states of qubits are that a circuit makes of rows and centres.

use millstream_core::{Error, Problem, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checks::check_from_to;
use super::quantum::{Circuit, FeatureMap, fidelity};
use super::random::{Random, binomial};
use super::{ByRow, Estimator, Gives, Kind, Labels, Lesson, PredictedColumn, Row, Settings, Shape, Takes};
use crate::encode::Feature;
use crate::label::Class;
use crate::tensors::Tensors;

/// Clusters, without a label, as a quantum computer would find them: a circuit makes states of qubits of rows and of centres, and a row belongs to the centre whose
/// state is most like its own, by `1 - |⟨row|centre⟩|²`, which a swap test measures (Lloyd, Mohseni & Rebentrost, "Quantum algorithms for supervised and
/// unsupervised machine learning", 2013). The centre then moves towards it, as that of `k_means` does; the first rows that differ are the first centres. Adds the
/// columns `cluster` (counted from 0) and `distance`, from 0 to 1, both null before the first row. The metric is `mean_distance`.
///
/// States are computed here, amplitude by amplitude, so it says what such a computer would find, and not sooner than it could. Take it to try that;
/// to find clusters, take `k_means`. Features are numbers, one a qubit, and 12 at most: angles, so bring them to a range such as 0 to 3 in an
/// `sql` node. Each centre has a state of `2^(n + 1)` numbers, for `n` features.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct QuantumKMeans {
    /// How many clusters there are.
    #[schemars(range(min = 1, max = 1000))]
    clusters: u32,
    /// The circuit.
    #[serde(default = "by_angles")]
    feature_map: FeatureMap,
    /// How often each swap test is done: what is found is that much off, as on a real computer. Nothing is off if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65536))]
    shots: Option<u32>,
    /// By how much the rows of a cluster count less with every further one, as in `k_means`.
    #[serde(default = "decay")]
    #[schemars(range(min = 0, max = 1))]
    decay: f64,
    /// What is drawn by chance follows from this.
    #[serde(default)]
    seed: u64,
}

fn by_angles() -> FeatureMap {
    FeatureMap::of(Circuit::Angle)
}

fn decay() -> f64 {
    1.0
}

/// Every row is compared with all of them.
const MOST_CLUSTERS: u32 = 1000;

const COLUMNS: &[PredictedColumn] = &[
    PredictedColumn { name: "cluster", whole: true, mean: None },
    PredictedColumn { name: "distance", whole: false, mean: Some("mean_distance") },
];

impl Kind for QuantumKMeans {
    const NAME: &'static str = "quantum_k_means";
    const EXAMPLE: &'static str = "clusters = 3\nshots = 1024";
}

impl Settings for QuantumKMeans {
    fn takes(&self) -> Takes {
        Takes::Raw
    }

    fn labels(&self) -> Labels {
        Labels::Nothing
    }

    fn takes_weights(&self) -> bool {
        true
    }

    fn gives(&self, _classes: &[Class]) -> Gives {
        Gives::Columns(COLUMNS)
    }

    fn check(&self, _classes: &[Class]) -> Result<(), Problem> {
        check_from_to(&[
            ("clusters", self.clusters.into(), 1.0, MOST_CLUSTERS.into()),
            ("shots", self.shots.unwrap_or(1).into(), 1.0, 65536.0),
            ("decay", self.decay, 0.0, 1.0),
        ])?;
        self.feature_map.check().map_err(|problem| problem.under("feature_map"))
    }

    fn check_features(&self, features: &[Feature]) -> Result<(), Problem> {
        FeatureMap::check_features(features)
    }

    fn largest(&self) -> f64 {
        // Of larger angles nothing is left behind their whole turns.
        1e9
    }

    fn most_numbers(&self, features: &[Feature], _classes: &[Class]) -> u64 {
        (self.feature_map.numbers(features.len()) as u64).saturating_mul(self.clusters.into())
    }

    fn build(&self, features: &[Feature], classes: &[Class]) -> Box<dyn Estimator> {
        Box::new(Centres {
            map: self.feature_map.clone(),
            shots: self.shots,
            decay: self.decay,
            seed: self.seed,
            most: self.clusters as usize,
            numbers: Shape::new(features, classes).numbers,
            rows: 0,
            centres: Vec::new(),
        })
    }
}

#[derive(Clone, Debug)]
struct Centre {
    /// How much its rows count.
    weight: f64,
    numbers: Vec<f64>,
    state: Vec<f64>,
}

/// The centres, those that rows have made.
#[derive(Clone, Debug)]
struct Centres {
    map: FeatureMap,
    shots: Option<u32>,
    decay: f64,
    seed: u64,
    most: usize,
    numbers: usize,
    /// How many rows were learned.
    rows: u64,
    centres: Vec<Centre>,
}

impl Centres {
    fn state(&self, numbers: &[f64]) -> Vec<f64> {
        let mut state = Vec::new();
        self.map.state(numbers, &mut state);
        state
    }

    /// How far a row is from a centre, as the swap tests find it: the qubit that they read is 0 with a probability of a half and half of the fidelity.
    fn distance(&self, index: usize, row: Row<'_>, state: &[f64]) -> f64 {
        let fidelity = fidelity(&self.centres[index].state, state);
        let Some(shots) = self.shots else { return 1.0 - fidelity };
        let uniform = Random::of_row(self.seed, index as u64, row, self.rows).uniform();
        let zeros = binomial(shots, 0.5 + 0.5 * fidelity, uniform);
        1.0 - (2.0 * f64::from(zeros) / f64::from(shots) - 1.0)
    }

    /// The nearest centre, the first of equals, and how far it is.
    fn nearest(&self, row: Row<'_>) -> Option<(usize, f64)> {
        let state = self.state(&row.numbers[..self.numbers]);
        let distances = (0..self.centres.len()).map(|index| (index, self.distance(index, row, &state)));
        distances.min_by(|(_, one), (_, other)| one.total_cmp(other))
    }

    fn learn_weighted(&mut self, row: Row<'_>, weight: f64) {
        let numbers = &row.numbers[..self.numbers];
        let is_new = self.centres.iter().all(|centre| centre.numbers != numbers);
        if self.centres.len() < self.most && is_new {
            let state = self.state(numbers);
            self.centres.push(Centre { weight, numbers: numbers.to_vec(), state });
        } else if let Some((index, _)) = self.nearest(row) {
            let centre = &mut self.centres[index];
            centre.weight = centre.weight * self.decay + weight;
            let rate = weight / centre.weight;
            centre.numbers.iter_mut().zip(numbers).for_each(|(own, number)| *own += rate * (number - *own));
            self.map.state(&centre.numbers, &mut centre.state);
        }
        self.rows += 1;
    }
}

impl ByRow for Centres {
    fn outputs(&self) -> usize {
        COLUMNS.len()
    }

    fn predict_one(&self, row: Row<'_>, into: &mut [f64]) {
        let nearest = self.nearest(row).map(|(index, distance)| (index as f64, distance));
        (into[0], into[1]) = nearest.unwrap_or((f64::NAN, f64::NAN));
    }

    fn learn_one(&mut self, row: Row<'_>, _target: f64) {
        self.learn_weighted(row, 1.0);
    }

    fn learn(&mut self, row: Row<'_>, lesson: &Lesson<'_>) {
        self.learn_weighted(row, lesson.weight);
    }

    fn save(&self, tensors: &mut Tensors) {
        let weights: Vec<_> = self.centres.iter().map(|centre| centre.weight).collect();
        let numbers: Vec<_> = self.centres.iter().flat_map(|centre| centre.numbers.iter().copied()).collect();
        tensors.put_u64("estimator.rows", &[self.rows]);
        tensors.put_f64("estimator.weights", &[weights.len()], &weights);
        tensors.put_f64("estimator.numbers", &[weights.len(), self.numbers], &numbers);
    }

    fn load(&mut self, tensors: &Tensors) -> Result<()> {
        let rows = tensors.u64s("estimator.rows")?;
        self.rows = *rows.first().ok_or_else(|| Error::new("the tensor `estimator.rows` of the model is damaged"))?;
        let made = tensors.rows("estimator.weights")?;
        if made > self.most {
            return Err(Error::new(format!("the model has {made} centres, and {} are the most", self.most)));
        }
        let weights = tensors.f64s("estimator.weights", &[made])?;
        let numbers = tensors.f64s("estimator.numbers", &[made, self.numbers])?;
        let centre = |(index, weight): (usize, &f64)| {
            let numbers = numbers[index * self.numbers..(index + 1) * self.numbers].to_vec();
            Centre { weight: *weight, state: self.state(&numbers), numbers }
        };
        self.centres = weights.iter().enumerate().map(centre).collect();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn centres(clusters: u32, shots: Option<u32>) -> Centres {
        Centres {
            map: by_angles(),
            shots,
            decay: 1.0,
            seed: 3,
            most: clusters as usize,
            numbers: 2,
            rows: 0,
            centres: Vec::new(),
        }
    }

    fn predict(centres: &Centres, numbers: [f64; 2]) -> [f64; 2] {
        let mut prediction = [0.0; 2];
        centres.predict_one(Row { numbers: &numbers, slots: &[] }, &mut prediction);
        prediction
    }

    fn learn(centres: &mut Centres, rows: &[[f64; 2]]) {
        rows.iter().for_each(|numbers| centres.learn_one(Row { numbers, slots: &[] }, 0.0));
    }

    #[test]
    fn rows_belong_to_the_centre_whose_state_is_most_alike() {
        let mut centres = centres(2, None);
        assert!(predict(&centres, [0.0, 0.0]).iter().all(|value| value.is_nan()));
        learn(&mut centres, &[[0.0, 0.0], [0.0, 0.0], [3.0, 3.0]]);
        assert_eq!(centres.centres.len(), 2);
        let [cluster, distance] = predict(&centres, [0.4, 0.0]);
        // Of one qubit that is turned by 0.4.
        assert_eq!(cluster, 0.0);
        assert!((distance - (1.0 - libm::cos(0.2) * libm::cos(0.2))).abs() < 1e-12);
        // A whole turn more is the same state.
        let [cluster, again] = predict(&centres, [0.4 + std::f64::consts::TAU, 0.0]);
        assert!(cluster == 0.0 && (again - distance).abs() < 1e-12);
        learn(&mut centres, &[[0.6, 0.3]]);
        assert!((centres.centres[0].numbers[0] - 0.2).abs() < 1e-12 && centres.centres[0].weight == 3.0);
    }

    #[test]
    fn shots_are_off_by_what_swap_tests_are() {
        let mut centres = centres(1, Some(1000));
        learn(&mut centres, &[[0.0, 0.0]]);
        let exact = 1.0 - libm::cos(0.5) * libm::cos(0.5);
        let found: Vec<_> = (0..400).map(|row| predict(&centres, [1.0, f64::from(row) * 1e-9])[1]).collect();
        let mean = found.iter().sum::<f64>() / 400.0;
        let deviation = (found.iter().map(|found| (found - mean) * (found - mean)).sum::<f64>() / 400.0).sqrt();
        let zeros = 1.0 - 0.5 * exact;
        let wanted = 2.0 * (zeros * (1.0 - zeros) / 1000.0).sqrt();
        assert!((mean - exact).abs() < 0.005 && (deviation / wanted - 1.0).abs() < 0.15, "{mean}, {deviation}");
        assert_eq!(predict(&centres, [1.0, 0.0]), predict(&centres, [1.0, 0.0]));
    }
}
