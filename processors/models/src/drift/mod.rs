//! Detectors of drift: they are told one number after the other, such as whether a prediction was wrong, and say when their mean is no
//! longer what it was.
//!
//! A detector is a file beside this one and a line in `detectors!`. The same numbers give the same alarms on every machine, and what a
//! detector remembers has a bound.

pub(crate) mod adwin;
mod ddm;
mod eddm;
mod fhddm;
mod hddm_a;
mod hddm_w;
mod kswin;
mod mean;
mod page_hinkley;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::fmt::Debug;

use millstream_core::{Error, Problem, Result};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// What a detector says of the numbers that it has had.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Signal {
    /// Nothing speaks for a change.
    Stable,
    /// Something speaks for a change, and not enough. Not all detectors warn.
    Warning(Change),
    /// The numbers have changed. The detector starts from scratch with the next one.
    Drift(Change),
}

/// What speaks for a change: the means of the numbers before and after it, as the detector knows them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// The mean before.
    pub before: f64,
    /// The mean after.
    pub after: f64,
}

/// A way to detect drift.
trait Detect: Clone + Debug + Serialize + DeserializeOwned {
    /// How it is set.
    type Settings;

    /// Whether it only makes sense of numbers from 0 to 1, such as those that say whether a prediction was wrong.
    const IS_FOR_RATES: bool = false;

    /// One that has seen nothing.
    fn new(settings: &Self::Settings) -> Self;

    /// Takes one more number, which is finite.
    fn update(&mut self, settings: &Self::Settings, value: f64) -> Signal;
}

/// Checks of settings that the type of a value doesn't say.
trait Check {
    /// Says what is wrong.
    fn check(&self) -> Result<(), Problem>;
}

/// Says which of the values does not lie between 0 and 1, both excluded.
fn check_between_0_and_1(values: &[(&'static str, f64)]) -> Result<(), Problem> {
    match values.iter().find(|(_, value)| !(*value > 0.0 && *value < 1.0)) {
        None => Ok(()),
        Some((name, value)) => {
            Err(Problem::new(format!("`{name}` is {value}, and should lie between 0 and 1")).under(*name))
        }
    }
}

macro_rules! detectors {
    ($($(#[$doc:meta])* $name:ident: $module:ident,)*) => {
        /// How drift is detected, by its `type`.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
        pub enum DetectorSettings {
            $($(#[$doc])* $name($module::Settings),)*
        }

        /// What a detector remembers.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        enum Memory {
            $($name($module::Detector),)*
        }

        impl DetectorSettings {
            /// Says what is wrong with the settings.
            ///
            /// # Errors
            /// If a value makes no sense, at its place.
            pub fn check(&self) -> Result<(), Problem> {
                match self {
                    $(Self::$name(settings) => settings.check(),)*
                }
            }

            /// Whether it only makes sense of numbers from 0 to 1, such as those that say whether a prediction was wrong.
            pub fn is_for_rates(&self) -> bool {
                match self {
                    $(Self::$name(_) => <$module::Detector as Detect>::IS_FOR_RATES,)*
                }
            }

            fn memory(&self) -> Memory {
                match self {
                    $(Self::$name(settings) => Memory::$name(<$module::Detector as Detect>::new(settings)),)*
                }
            }
        }

        impl Memory {
            fn update(&mut self, settings: &DetectorSettings, value: f64) -> Signal {
                match (self, settings) {
                    $((Self::$name(memory), DetectorSettings::$name(settings)) => memory.update(settings, value),)*
                    // A detector is restored by the settings that it was saved with.
                    _ => Signal::Stable,
                }
            }
        }
    };
}

detectors! {
    /// Keeps a window as long as its mean is the same: where two parts of it differ by more than chance lets them, the older one is dropped.
    Adwin: adwin,
    /// Sums up by how much numbers exceed their mean: above a threshold, they have changed.
    PageHinkley: page_hinkley,
    /// Watches a rate of errors: it drifts when it exceeds its least by some standard deviations.
    Ddm: ddm,
    /// Watches the distance between errors: it drifts when that gets shorter. Notices slow changes.
    Eddm: eddm,
    /// Compares the rate of hits in a short window with the highest that it has had.
    Fhddm: fhddm,
    /// Compares the mean of all numbers with that up to the best cut, by Hoeffding's bound. For changes that are sudden.
    HddmA: hddm_a,
    /// Compares moving averages of numbers by McDiarmid's bound. For changes that are gradual.
    HddmW: hddm_w,
    /// Compares how the last numbers are distributed with those before them, by the test of Kolmogorov and Smirnov.
    Kswin: kswin,
}

/// A detector at work.
///
/// ```
/// use millstream_models::drift::{Detector, DetectorSettings, Signal};
///
/// let settings: DetectorSettings = serde_json::from_str(r#"{ "type": "adwin" }"#)?;
/// let mut detector = Detector::new(settings);
/// let errors = (0..2000).map(|row| if row < 1000 { row % 10 == 0 } else { row % 2 == 0 });
/// let alarm = errors.map(f64::from).position(|error| matches!(detector.update(error), Signal::Drift(_)));
/// assert!((1000..1200).contains(&alarm.expect("the rate of errors went from a tenth to a half")));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Detector {
    settings: DetectorSettings,
    memory: Memory,
}

impl Detector {
    /// One that has seen nothing.
    pub fn new(settings: DetectorSettings) -> Self {
        let memory = settings.memory();
        Self { settings, memory }
    }

    /// Takes one more number. One that is infinite or none is passed over.
    pub fn update(&mut self, value: f64) -> Signal {
        if !value.is_finite() {
            return Signal::Stable;
        }
        let signal = self.memory.update(&self.settings, value);
        if matches!(signal, Signal::Drift(_)) {
            self.memory = self.settings.memory();
        }
        signal
    }

    /// What it remembers, to be [restored](Self::restore) later.
    pub fn state(&self) -> DetectorState {
        DetectorState(self.memory.clone())
    }

    /// Remembers what one with the same settings remembered.
    ///
    /// # Errors
    /// If that was a detector of another type.
    pub fn restore(&mut self, state: DetectorState) -> Result<()> {
        if std::mem::discriminant(&state.0) != std::mem::discriminant(&self.memory) {
            return Err(Error::new("what is kept is of a detector of another type"));
        }
        self.memory = state.0;
        Ok(())
    }
}

/// What a detector remembers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DetectorState(Memory);
