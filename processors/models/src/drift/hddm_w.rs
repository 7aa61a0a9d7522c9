//! HDDM with weights (Frías-Blanco et al., "Online and non-parametric drift detection methods based on Hoeffding's bounds", TKDE 2015): moving
//! averages, compared by McDiarmid's bound.

use millstream_core::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Change, Check, Detect, Signal, check_between_0_and_1};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// How probable it is that a drift is none.
    #[serde(default = "drift")]
    drift: f64,
    /// How probable it is that what is warned of is none.
    #[serde(default = "warning")]
    warning: f64,
    /// How much a new number counts in the moving average.
    #[serde(default = "lambda")]
    lambda: f64,
    /// Whether numbers that get smaller have drifted, too.
    #[serde(default)]
    two_sided: bool,
}

fn drift() -> f64 {
    0.001
}

fn warning() -> f64 {
    0.005
}

fn lambda() -> f64 {
    0.05
}

impl Check for Settings {
    fn check(&self) -> Result<(), Problem> {
        check_between_0_and_1(&[("drift", self.drift), ("warning", self.warning), ("lambda", self.lambda)])
    }
}

/// A moving average, and the sum of the squares of the weights of its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Average {
    value: f64,
    weights: f64,
    is_empty: bool,
}

impl Default for Average {
    fn default() -> Self {
        Self { value: 0.0, weights: 1.0, is_empty: true }
    }
}

impl Average {
    fn update(&mut self, lambda: f64, number: f64) {
        // The first number is the average.
        self.value = if self.is_empty { number } else { lambda * number + (1.0 - lambda) * self.value };
        self.weights = lambda * lambda + (1.0 - lambda) * (1.0 - lambda) * self.weights;
        self.is_empty = false;
    }
}

/// The average up to a cut, and that behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Cut {
    /// How far the average may have been at the cut. None before the first number.
    at: Option<f64>,
    before: Average,
    after: Average,
}

impl Cut {
    /// Moves the cut here if `at` exceeds where it is, or takes one more number behind it.
    fn update(&mut self, at: f64, exceeds: fn(f64, f64) -> bool, all: Average, lambda: f64, number: f64) {
        if self.at.is_none_or(|cut| exceeds(at, cut)) {
            *self = Self { at: Some(at), before: all, after: Average::default() };
        } else {
            self.after.update(lambda, number);
        }
    }

    /// What is said of averages that differ by so much in the direction that counts.
    fn says(&self, difference: f64, settings: &Settings) -> Signal {
        if self.before.is_empty || self.after.is_empty {
            return Signal::Stable;
        }
        let change = Change { before: self.before.value, after: self.after.value };
        let weights = self.before.weights + self.after.weights;
        if difference > bound(weights, settings.drift) {
            Signal::Drift(change)
        } else if difference > bound(weights, settings.warning) {
            Signal::Warning(change)
        } else {
            Signal::Stable
        }
    }
}

/// How far an average with these weights may be from what is to be expected, but for this probability.
fn bound(weights: f64, probability: f64) -> f64 {
    (weights * libm::log(1.0 / probability) / 2.0).sqrt()
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Detector {
    all: Average,
    up: Cut,
    down: Cut,
}

impl Detect for Detector {
    type Settings = Settings;

    const IS_FOR_RATES: bool = true;

    fn new(_: &Settings) -> Self {
        Self::default()
    }

    fn update(&mut self, settings: &Settings, value: f64) -> Signal {
        let lambda = settings.lambda;
        self.all.update(lambda, value);
        let far = bound(self.all.weights, settings.drift);
        self.up.update(self.all.value + far, |least, cut| least < cut, self.all, lambda, value);
        self.down.update(self.all.value - far, |most, cut| most > cut, self.all, lambda, value);
        let up = self.up.says(self.up.after.value - self.up.before.value, settings);
        if !settings.two_sided || matches!(up, Signal::Drift(_)) {
            return up;
        }
        let down = self.down.says(self.down.before.value - self.down.after.value, settings);
        if down == Signal::Stable { up } else { down }
    }
}
