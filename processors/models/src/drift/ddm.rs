//! DDM (Gama et al., "Learning with drift detection", SBIA 2004): a rate of errors that exceeds its least by some standard deviations.

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
    /// So many standard deviations above the least are a warning.
    #[serde(default = "warning")]
    warning: f64,
    /// So many are a drift.
    #[serde(default = "drift")]
    drift: f64,
}

fn min_rows() -> u32 {
    30
}

fn warning() -> f64 {
    2.0
}

fn drift() -> f64 {
    3.0
}

impl Check for Settings {
    fn check(&self) -> Result<(), Problem> {
        for (name, value) in [("warning", self.warning), ("drift", self.drift)] {
            if !(value > 0.0 && value.is_finite()) {
                return Err(Problem::new(format!("`{name}` is {value}, and should be a number above 0")).under(name));
            }
        }
        Ok(())
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Detector {
    rate: Mean,
    /// The rate where it and its deviation were least, and the deviation.
    least: Option<(Mean, f64)>,
}

impl Detect for Detector {
    type Settings = Settings;

    const IS_FOR_RATES: bool = true;

    fn new(_: &Settings) -> Self {
        Self::default()
    }

    fn update(&mut self, settings: &Settings, value: f64) -> Signal {
        self.rate.update(value);
        let rate = self.rate.value;
        // That of a share; a number that is no 0 or 1 may bring the mean out of these bounds.
        let deviation = (rate * (1.0 - rate) / self.rate.count).max(0.0).sqrt();
        if self.rate.count <= f64::from(settings.min_rows) {
            return Signal::Stable;
        }
        let now = rate + deviation;
        if self.least.is_none_or(|(least, deviation)| now <= least.value + deviation) {
            self.least = Some((self.rate, deviation));
        }
        let Some((least, least_deviation)) = self.least else { return Signal::Stable };
        let exceeds = |deviations: f64| now > least.value + deviations * least_deviation;
        if exceeds(settings.drift) {
            Signal::Drift(self.rate.change_since(&least))
        } else if exceeds(settings.warning) {
            Signal::Warning(self.rate.change_since(&least))
        } else {
            Signal::Stable
        }
    }
}
