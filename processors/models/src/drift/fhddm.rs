//! FHDDM (Pesaranghader & Viktor, "Fast Hoeffding drift detection method", ECML-PKDD 2016): the rate of hits in a window, compared with the
//! highest that it has had.

use std::collections::VecDeque;

use millstream_core::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Change, Check, Detect, Signal, check_between_0_and_1};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// How many numbers the window has.
    #[serde(default = "window")]
    #[schemars(range(min = 1, max = 100_000))]
    window: u32,
    /// How probable it is that it cries wolf.
    #[serde(default = "delta")]
    delta: f64,
}

/// A window is kept whole.
const LONGEST: u32 = 100_000;

fn window() -> u32 {
    100
}

fn delta() -> f64 {
    1e-6
}

impl Check for Settings {
    fn check(&self) -> Result<(), Problem> {
        if !(1..=LONGEST).contains(&self.window) {
            let problem = format!("`window` is {}, and should be from 1 to {LONGEST}", self.window);
            return Err(Problem::new(problem).under("window"));
        }
        check_between_0_and_1(&[("delta", self.delta)])
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Detector {
    /// Whether the last ones were hits: numbers that are 0 are, errors are not.
    window: VecDeque<bool>,
    hits: u32,
    most: u32,
}

impl Detect for Detector {
    type Settings = Settings;

    const IS_FOR_RATES: bool = true;

    fn new(_: &Settings) -> Self {
        Self::default()
    }

    fn update(&mut self, settings: &Settings, value: f64) -> Signal {
        let is_hit = value == 0.0;
        self.window.push_back(is_hit);
        self.hits += u32::from(is_hit);
        if self.window.len() > settings.window as usize {
            self.hits -= u32::from(self.window.pop_front() == Some(true));
        }
        if self.window.len() < settings.window as usize {
            return Signal::Stable;
        }
        self.most = self.most.max(self.hits);
        let length = f64::from(settings.window);
        let bound = (libm::log(1.0 / settings.delta) / (2.0 * length)).sqrt();
        let (most, hits) = (f64::from(self.most) / length, f64::from(self.hits) / length);
        if most - hits > bound {
            Signal::Drift(Change { before: 1.0 - most, after: 1.0 - hits })
        } else {
            Signal::Stable
        }
    }
}
