//! How predictions are calibrated.

use millstream_core::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How predictions are calibrated, and from how many rows that is learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "Said")]
#[schemars(with = "Said")]
pub struct CalibrationSettings {
    /// The curve.
    #[serde(rename = "type")]
    pub(super) method: CalibrationMethod,
    /// How many rows it remembers.
    pub(super) window: u32,
    /// After how many more rows it is fitted again.
    pub(super) every: u32,
}

/// A curve from what an estimator predicts to probabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CalibrationMethod {
    /// A sigmoid of the score, or of the logarithm of the odds (Platt, "Probabilistic outputs for support vector machines", 1999): two numbers, for
    /// which few rows are enough.
    Platt,
    /// Any curve that never falls (Zadrozny & Elkan, "Transforming classifier scores into accurate multiclass probability estimates", 2002): it needs a
    /// thousand rows or more.
    Isotonic,
}

/// A curve by its name, or by a table with what else there is to say.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Said {
    /// A curve, learned as usual.
    Method(CalibrationMethod),
    /// A curve, and from how many rows it is learned.
    Table(Table),
}

/// A curve, and from how many rows it is learned.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
struct Table {
    /// The curve.
    #[serde(rename = "type")]
    method: CalibrationMethod,
    /// It is learned from so many of the last rows.
    #[serde(default = "window")]
    #[schemars(range(min = 10, max = 1_000_000))]
    window: u32,
    /// It is fitted again after so many more.
    #[serde(default = "every")]
    #[schemars(range(min = 1, max = 1_000_000))]
    every: u32,
}

fn window() -> u32 {
    2000
}

fn every() -> u32 {
    200
}

const MOST: u32 = 1_000_000;

impl From<Said> for CalibrationSettings {
    fn from(said: Said) -> Self {
        match said {
            Said::Method(method) => Self { method, window: window(), every: every() },
            Said::Table(Table { method, window, every }) => Self { method, window, every },
        }
    }
}

impl CalibrationSettings {
    /// Says what is wrong with the values.
    pub(crate) fn check(&self) -> Result<(), Problem> {
        for (name, value, least) in [("window", self.window, 10), ("every", self.every, 1)] {
            if !(least..=MOST).contains(&value) {
                let problem = format!("`{name}` is {value}, and should be from {least} to {MOST}");
                return Err(Problem::new(problem).under(name));
            }
        }
        Ok(())
    }

    /// How many numbers the largest part of its state has at most, for so many classes.
    pub(crate) fn most_numbers(&self, classes: usize) -> u64 {
        // A curve has two numbers for each row at most.
        2 * u64::from(self.window) * classes as u64
    }
}
