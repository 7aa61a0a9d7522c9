//! EDDM (Baena-García et al., "Early drift detection method", 2006): errors that follow each other more and more closely.

use millstream_core::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Change, Check, Detect, Signal, check_between_0_and_1};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// So many errors come before the first alarm.
    #[serde(default = "min_errors")]
    min_errors: u32,
    /// Errors are warned of whose distance is less than this share of the largest that it had.
    #[serde(default = "warning")]
    warning: f64,
    /// Below this share they have drifted.
    #[serde(default = "drift")]
    drift: f64,
}

fn min_errors() -> u32 {
    30
}

fn warning() -> f64 {
    0.95
}

fn drift() -> f64 {
    0.9
}

impl Check for Settings {
    fn check(&self) -> Result<(), Problem> {
        check_between_0_and_1(&[("warning", self.warning), ("drift", self.drift)])?;
        if self.drift > self.warning {
            let problem = format!("`drift` is {}, and should be `warning` ({}) at most", self.drift, self.warning);
            return Err(Problem::new(problem).under("drift"));
        }
        Ok(())
    }
}

/// The distances between errors: how many, their mean, and the sum of the squares of their distances from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Distances {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Distances {
    fn update(&mut self, distance: f64) {
        self.count += 1.0;
        let off = distance - self.mean;
        self.mean += off / self.count;
        self.squares += off * (distance - self.mean);
    }

    /// The mean and two standard deviations: that is as far as most of them go.
    fn reach(&self) -> f64 {
        let variance = if self.count > 1.0 { self.squares / (self.count - 1.0) } else { 0.0 };
        self.mean + 2.0 * variance.sqrt()
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Detector {
    seen: u64,
    /// The number of the last error.
    last: u64,
    distances: Distances,
    /// The largest reach so far, and the mean then.
    largest: Option<(f64, f64)>,
    /// What the last error has said, which holds until the next one.
    is_warned: bool,
}

impl Detector {
    fn change(&self) -> Change {
        let before = self.largest.map_or(f64::NAN, |(_, mean)| 1.0 / mean);
        Change { before, after: 1.0 / self.distances.mean }
    }
}

impl Detect for Detector {
    type Settings = Settings;

    const IS_FOR_RATES: bool = true;

    fn new(_: &Settings) -> Self {
        Self::default()
    }

    fn update(&mut self, settings: &Settings, value: f64) -> Signal {
        self.seen += 1;
        let standing = if self.is_warned { Signal::Warning(self.change()) } else { Signal::Stable };
        if value != 1.0 {
            return standing;
        }
        self.distances.update((self.seen - self.last) as f64);
        self.last = self.seen;
        if self.seen <= settings.min_errors.into() {
            return standing;
        }
        let reach = self.distances.reach();
        match self.largest {
            Some((largest, _)) if reach <= largest => {
                if self.distances.count <= f64::from(settings.min_errors) {
                    return standing;
                }
                let level = reach / largest;
                if level < settings.drift {
                    return Signal::Drift(self.change());
                }
                self.is_warned = level < settings.warning;
            }
            _ => self.largest = Some((reach, self.distances.mean)),
        }
        if self.is_warned { Signal::Warning(self.change()) } else { Signal::Stable }
    }
}
