//! HDDM with averages (Frías-Blanco et al., "Online and non-parametric drift detection methods based on Hoeffding's bounds", TKDE 2015).

use millstream_core::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::mean::Mean;
use super::{Check, Detect, Signal, check_between_0_and_1};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// How probable it is that a drift is none.
    #[serde(default = "drift")]
    drift: f64,
    /// How probable it is that what is warned of is none.
    #[serde(default = "warning")]
    warning: f64,
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

impl Check for Settings {
    fn check(&self) -> Result<(), Problem> {
        check_between_0_and_1(&[("drift", self.drift), ("warning", self.warning)])
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Detector {
    all: Mean,
    /// The mean up to the cut behind which it may have increased.
    least: Mean,
    /// The mean up to the cut behind which it may have decreased.
    most: Mean,
}

/// How far a mean of so many numbers from 0 to 1 may be from what is to be expected, but for this probability.
fn bound(count: f64, probability: f64) -> f64 {
    (libm::log(1.0 / probability) / (2.0 * count)).sqrt()
}

impl Detector {
    /// Whether two means differ by more than chance lets them: that of all numbers, and that up to a cut.
    fn exceeds(&self, cut: &Mean, difference: f64, probability: f64) -> bool {
        if cut.count == self.all.count {
            return false;
        }
        let inverse = (self.all.count - cut.count) / cut.count / self.all.count;
        difference >= (inverse / 2.0 * libm::log(2.0 / probability)).sqrt()
    }

    fn says(&self, cut: &Mean, difference: f64, settings: &Settings) -> Signal {
        if self.exceeds(cut, difference, settings.drift) {
            Signal::Drift(self.all.change_since(cut))
        } else if self.exceeds(cut, difference, settings.warning) {
            Signal::Warning(self.all.change_since(cut))
        } else {
            Signal::Stable
        }
    }
}

impl Detect for Detector {
    type Settings = Settings;

    const IS_FOR_RATES: bool = true;

    fn new(_: &Settings) -> Self {
        Self::default()
    }

    fn update(&mut self, settings: &Settings, value: f64) -> Signal {
        self.all.update(value);
        let of_all = bound(self.all.count, settings.drift);
        if self.least.count == 0.0
            || self.least.value + bound(self.least.count, settings.drift) >= self.all.value + of_all
        {
            self.least = self.all;
        }
        if self.most.count == 0.0 || self.most.value - bound(self.most.count, settings.drift) <= self.all.value - of_all
        {
            self.most = self.all;
        }
        let up = self.says(&self.least, self.all.value - self.least.value, settings);
        if !settings.two_sided || matches!(up, Signal::Drift(_)) {
            return up;
        }
        let down = self.says(&self.most, self.most.value - self.all.value, settings);
        if down == Signal::Stable { up } else { down }
    }
}
