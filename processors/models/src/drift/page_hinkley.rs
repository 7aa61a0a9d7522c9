//! Page-Hinkley (Page, "Continuous inspection schemes", Biometrika 1954): sums up by how much numbers exceed their mean.

use millstream_core::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::mean::Mean;
use super::{Check, Detect, Signal};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// So many numbers come before the first alarm.
    #[serde(default = "min_rows")]
    min_rows: u32,
    /// A distance from the mean that counts for nothing.
    #[serde(default = "delta")]
    delta: f64,
    /// Numbers have changed when the sum of their distances exceeds this.
    #[serde(default = "threshold")]
    threshold: f64,
    /// By how much the sum counts less with every further number.
    #[serde(default = "alpha")]
    alpha: f64,
    /// Which changes count.
    #[serde(default)]
    direction: Direction,
}

/// Which changes count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Numbers get larger.
    Up,
    /// Numbers get smaller.
    Down,
    /// Either.
    #[default]
    Both,
}

fn min_rows() -> u32 {
    30
}

fn delta() -> f64 {
    0.005
}

fn threshold() -> f64 {
    50.0
}

fn alpha() -> f64 {
    0.9999
}

impl Check for Settings {
    fn check(&self) -> Result<(), Problem> {
        let wrong = |name: &'static str, value: f64, right: &str| {
            Err(Problem::new(format!("`{name}` is {value}, and should be {right}")).under(name))
        };
        if !(self.delta >= 0.0 && self.delta.is_finite()) {
            return wrong("delta", self.delta, "a number from 0 up");
        }
        if !(self.threshold > 0.0 && self.threshold.is_finite()) {
            return wrong("threshold", self.threshold, "a number above 0");
        }
        if !(0.0..=1.0).contains(&self.alpha) {
            return wrong("alpha", self.alpha, "from 0 to 1");
        }
        Ok(())
    }
}

/// A sum of distances, and the mean of the numbers where it was at its extreme.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Side {
    sum: f64,
    extreme: Option<(f64, Mean)>,
}

impl Side {
    /// Adds a distance. `mean` is that of all numbers, and `exceeds` says whether a sum is more extreme than another.
    fn add(&mut self, alpha: f64, distance: f64, mean: Mean, exceeds: fn(f64, f64) -> bool) {
        self.sum = alpha * self.sum + distance;
        if self.extreme.is_none_or(|(extreme, _)| exceeds(self.sum, extreme)) {
            self.extreme = Some((self.sum, mean));
        }
    }

    /// The mean at the extreme, if the sum has come further from it than the threshold.
    fn beyond(&self, threshold: f64) -> Option<Mean> {
        self.extreme.filter(|(extreme, _)| (self.sum - extreme).abs() > threshold).map(|(_, mean)| mean)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Detector {
    mean: Mean,
    up: Side,
    down: Side,
}

impl Detect for Detector {
    type Settings = Settings;

    fn new(_: &Settings) -> Self {
        Self::default()
    }

    fn update(&mut self, settings: &Settings, value: f64) -> Signal {
        self.mean.update(value);
        let distance = value - self.mean.value;
        self.up.add(settings.alpha, distance - settings.delta, self.mean, |sum, least| sum < least);
        self.down.add(settings.alpha, distance + settings.delta, self.mean, |sum, most| sum > most);
        if self.mean.count < f64::from(settings.min_rows) {
            return Signal::Stable;
        }
        let up = self.up.beyond(settings.threshold).filter(|_| settings.direction != Direction::Down);
        let down = self.down.beyond(settings.threshold).filter(|_| settings.direction != Direction::Up);
        up.or(down).map_or(Signal::Stable, |earlier| Signal::Drift(self.mean.change_since(&earlier)))
    }
}
