//! Another estimator over random Fourier features: a linear one becomes a kernel machine that learns online.
//!
//! Rahimi and Recht, "Random features for large-scale kernel machines" (2007), as scikit-learn's `RBFSampler`: a row `x` becomes the numbers
//! `sqrt(2 / D) cos(w x + b)`, with `w` drawn from a normal distribution of the variance `2 gamma` and `b` from 0 to `2 π`. The product of two such
//! rows is about `exp(-gamma |x - y|²)`.

use millstream_core::{Problem, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checks::{check_from_to, check_positive};
use super::mapped::{AT_ONCE, Map, Mapped, components};
use super::random::Random;
use super::settings::an_estimator;
use super::{Estimator, EstimatorSettings, Gives, Kind, Labels, Settings, Shape};
use crate::encode::{Feature, Scratch};
use crate::label::Class;
use crate::vector::cos;

/// What another estimator predicts, which learns from random Fourier features instead of the features themselves (Rahimi & Recht 2007; scikit-learn's and
/// River's `RBFSampler`): from `n_components` numbers `sqrt(2 / n_components) cos(w x + b)` of the whole row `x`, where each `w` and `b` is drawn once. Two rows
/// that lie near each other get about the same numbers. A sum of them, which is all that a linear estimator learns, can follow any smooth border or curve:
/// `logistic_regression`, `sgd_classifier` with the loss `hinge` and `linear_regression` come near to support vector machines with an RBF kernel, and go on with every row.
///
/// Take it where a linear estimator is not enough, features are numbers, and rows are many or change with time. Where they are few, `svc` and `svr` are more exact;
/// where features are many and most say nothing, trees are better. The numbers of a row have together the length 1, so that linear
/// estimators want a large `learning_rate`, about 1. More components come nearer to the kernel and take longer: of rows of 28 numbers with 256 components, 100,000 are
/// learned in a second, and of those of scikit-learn's `make_classification` 0.887 are right behind 10,000, where a line alone has 0.818 and `svc`
/// 0.975; on two numbers 100 components are nearly as good as `svc`. Drawn are 8 bytes for each feature, or slot
/// of a category, with each component; they follow from the seed, so that models don't have them in their files.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RbfSampler {
    /// What learns from the numbers, as `estimator` has it: `{ type = "logistic_regression", learning_rate = 1 }`.
    #[schemars(schema_with = "an_estimator")]
    estimator: EstimatorSettings,
    /// How near rows have to be to be alike: the kernel is `exp(-gamma |x - y|²)`. One by the number of features if nothing is said, which suits
    /// numbers that are standardised.
    #[schemars(extend("exclusiveMinimum" = 0))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gamma: Option<f64>,
    /// How many numbers a row becomes.
    #[serde(default = "n_components")]
    #[schemars(range(min = 1, max = 65536))]
    n_components: u32,
    /// What is drawn by chance follows from this.
    #[serde(default)]
    seed: u64,
}

fn n_components() -> u32 {
    100
}

const MOST_COMPONENTS: u32 = 1 << 16;

impl Kind for RbfSampler {
    const NAME: &'static str = "rbf_sampler";
    const EXAMPLE: &'static str = "estimator = { type = \"softmax_regression\", learning_rate = 1 }\nn_components = 50";
}

impl Settings for RbfSampler {
    fn labels(&self) -> Labels {
        self.estimator.labels()
    }

    fn takes_weights(&self) -> bool {
        self.estimator.takes_weights()
    }

    fn gives(&self, classes: &[Class]) -> Gives {
        self.estimator.gives(classes)
    }

    fn check(&self, classes: &[Class]) -> Result<(), Problem> {
        check_from_to(&[("n_components", self.n_components.into(), 1.0, MOST_COMPONENTS.into())])?;
        if let Some(gamma) = self.gamma {
            check_positive(&[("gamma", gamma)])?;
        }
        let of_estimator = |problem: Problem| problem.under("estimator");
        self.estimator
            .labels()
            .check(self.estimator.name(), classes)
            .map_err(|wrong| of_estimator(Problem::new(wrong)))?;
        self.estimator.settings().check(classes).map_err(of_estimator)
    }

    fn check_features(&self, _features: &[Feature]) -> Result<(), Problem> {
        let fits = self.estimator.settings().check_features(&components(self.n_components));
        fits.map_err(|problem| problem.under("estimator"))
    }

    fn largest(&self) -> f64 {
        self.estimator.settings().largest()
    }

    fn most_numbers(&self, features: &[Feature], classes: &[Class]) -> u64 {
        let Shape { numbers, slots, .. } = Shape::new(features, classes);
        let drawn = (numbers as u64 + slots as u64 + 1).saturating_mul(self.n_components.into());
        drawn.max(self.estimator.settings().most_numbers(&components(self.n_components), classes))
    }

    fn can_diverge(&self) -> bool {
        self.estimator.settings().can_diverge()
    }

    fn supports_devices(&self) -> bool {
        self.estimator.settings().supports_devices()
    }

    fn build(&self, features: &[Feature], classes: &[Class]) -> Box<dyn Estimator> {
        let gamma = self.gamma.unwrap_or(1.0 / features.len().max(1) as f64);
        let waves = Waves::draw(gamma, self.n_components as usize, self.seed, Shape::new(features, classes));
        Box::new(Mapped::new(waves, &components(self.n_components), &self.estimator, classes))
    }
}

/// What was drawn: all of it follows from the settings.
#[derive(Clone, Debug)]
struct Waves {
    count: usize,
    /// With padding.
    stride: usize,
    /// What each component is multiplied by.
    size: f64,
    /// By number and then by slot, how often it counts for each component.
    directions: Vec<f64>,
    /// By component, what is added.
    phases: Vec<f64>,
    numbers: usize,
}

impl Waves {
    fn draw(gamma: f64, count: usize, seed: u64, shape: Shape) -> Self {
        let (stride, lines) = (count.next_multiple_of(AT_ONCE), shape.numbers + shape.slots);
        let mut directions = vec![0.0; stride * lines];
        let scale = (2.0 * gamma).sqrt();
        for (line, directions) in directions.chunks_exact_mut(stride).enumerate() {
            // The phases have the first stream.
            let mut random = Random::new(seed, line as u64 + 1, 0);
            directions[..count].iter_mut().for_each(|direction| *direction = scale * random.normal());
        }
        let (mut phases, mut random) = (vec![0.0; stride], Random::new(seed, 0, 0));
        phases[..count].iter_mut().for_each(|phase| *phase = std::f64::consts::TAU * random.uniform());
        let size = (2.0 / count as f64).sqrt();
        Self { count, stride, size, directions, phases, numbers: shape.numbers }
    }
}

impl Map for Waves {
    fn count(&self) -> usize {
        self.count
    }

    #[inline(always)]
    fn stride(&self) -> usize {
        self.stride
    }

    /// Each is added up in the order of the numbers, whatever the width of vectors.
    #[inline(always)]
    fn components(&self, row: &Scratch, into: &mut [f64]) {
        for (start, into) in into.as_chunks_mut::<AT_ONCE>().0.iter_mut().enumerate() {
            let start = start * AT_ONCE;
            let line = |line: usize| self.directions[line * self.stride + start..].first_chunk::<AT_ONCE>();
            let mut sums = [0.0; AT_ONCE];
            for (number, directions) in row.numbers[..self.numbers].iter().zip((0..).map_while(line)) {
                for lane in 0..AT_ONCE {
                    sums[lane] += number * directions[lane];
                }
            }
            for directions in row.slots.iter().filter_map(|slot| line(self.numbers + *slot as usize)) {
                for lane in 0..AT_ONCE {
                    sums[lane] += directions[lane];
                }
            }
            let phases = &self.phases[start..start + AT_ONCE];
            for lane in 0..AT_ONCE {
                into[lane] = self.size * cos(sums[lane] + phases[lane]);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::vector::padded;

    fn components_of(waves: &Waves, numbers: &[f64], slots: &[u32]) -> Vec<f64> {
        let mut row = Scratch { numbers: numbers.to_vec(), slots: slots.to_vec() };
        row.numbers.resize(padded(numbers.len()), 0.0);
        let mut components = vec![0.0; waves.stride];
        waves.components(&row, &mut components);
        components
    }

    #[test]
    fn products_of_components_are_about_the_kernel() {
        let shape = Shape { numbers: 3, width: 8, slots: 4, classes: 0 };
        let waves = Waves::draw(0.4, 20_000, 7, shape);
        for (numbers, slots) in [([0.1, -0.2, 0.3], [0]), ([1.5, 0.0, -0.5], [0]), ([0.1, -0.2, 0.3], [2])] {
            let [own, other] =
                [components_of(&waves, &[0.1, -0.2, 0.3], &[0]), components_of(&waves, &numbers, &slots)];
            let product: f64 = own.iter().zip(&other).take(waves.count).map(|(own, other)| own * other).sum();
            let square: f64 = numbers.iter().zip([0.1, -0.2, 0.3]).map(|(a, b)| (a - b) * (a - b)).sum();
            let of_slots = if slots == [0] { 0.0 } else { 2.0 };
            let kernel = libm::exp(-0.4 * (square + of_slots));
            assert!((product - kernel).abs() < 0.02, "{product}, and the kernel is {kernel}");
        }
    }

    #[test]
    fn components_are_cosines_of_what_was_drawn() {
        let shape = Shape { numbers: 1, width: 8, slots: 2, classes: 0 };
        let waves = Waves::draw(0.5, 3, 0, shape);
        let found = components_of(&waves, &[2.0], &[1]);
        for (component, found) in found.iter().enumerate().take(3) {
            let [number, slot] = [0, 2].map(|line| waves.directions[line * waves.stride + component]);
            let wanted = (2.0_f64 / 3.0).sqrt() * libm::cos(2.0 * number + slot + waves.phases[component]);
            assert!((found - wanted).abs() < 1e-14);
        }
    }

    #[test]
    fn what_is_wrong_is_said_at_its_place() {
        let settings = |table: serde_json::Value| serde_json::from_value::<RbfSampler>(table).unwrap();
        let classes = [false, true].map(Class::Boolean);
        let refused = |table| settings(table).check(&classes).unwrap_err();
        let logistic = serde_json::json!({ "type": "logistic_regression" });
        assert!(refused(serde_json::json!({ "estimator": logistic, "gamma": 0 })).message.contains("`gamma` is 0"));
        let none = refused(serde_json::json!({ "estimator": logistic, "n_components": 0 }));
        assert!(none.message.contains("`n_components` is 0"));
        let inner = refused(serde_json::json!({ "estimator": { "type": "linear_regression" } }));
        assert!(inner.message.contains("no classes"), "{inner}");
    }
}
