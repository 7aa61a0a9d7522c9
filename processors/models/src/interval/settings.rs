//! How sure intervals are to be, and from how many rows they are learned.

use millstream_core::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How often the true number is to lie inside, and from how many rows that is learned.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "Said")]
#[schemars(with = "Said")]
pub struct IntervalSettings {
    /// The share of the rows whose true number is to lie inside.
    pub(super) coverage: f64,
    /// How many errors it remembers.
    pub(super) window: u32,
    /// By how much a row outside, or inside, moves the share that is aimed at.
    pub(super) rate: f64,
}

/// A share, or a table with what else there is to say.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Said {
    /// The share of the rows whose true number is to lie inside.
    Coverage(#[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))] f64),
    /// That share, and from how many rows it is learned.
    Table(Table),
}

/// The share of the rows whose true number is to lie inside, and from how many rows that is learned.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
struct Table {
    /// The share of the rows whose true number is to lie inside.
    #[serde(default = "coverage")]
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    coverage: f64,
    /// The errors of so many of the last rows are compared.
    #[serde(default = "window")]
    #[schemars(range(min = 10, max = 1_000_000))]
    window: u32,
    /// By how much a row outside, or inside, moves the share that is aimed at; 0 for the errors of the window alone.
    #[serde(default = "rate")]
    #[schemars(range(min = 0, max = 1))]
    rate: f64,
}

fn coverage() -> f64 {
    0.9
}

fn window() -> u32 {
    500
}

fn rate() -> f64 {
    0.01
}

const MOST: u32 = 1_000_000;

impl From<Said> for IntervalSettings {
    fn from(said: Said) -> Self {
        match said {
            Said::Coverage(coverage) => Self { coverage, window: window(), rate: rate() },
            Said::Table(Table { coverage, window, rate }) => Self { coverage, window, rate },
        }
    }
}

impl IntervalSettings {
    /// Says what is wrong with the values.
    pub(crate) fn check(&self) -> Result<(), Problem> {
        let Self { coverage, window, rate } = self;
        if !(*coverage > 0.0 && *coverage < 1.0) {
            let problem = format!("the coverage is {coverage}, and should lie between 0 and 1, such as 0.9");
            return Err(Problem::new(problem));
        }
        if !(10..=MOST).contains(window) {
            return Err(Problem::new(format!("`window` is {window}, and should be from 10 to {MOST}")).under("window"));
        }
        if !(0.0..=1.0).contains(rate) {
            return Err(Problem::new(format!("`rate` is {rate}, and should be from 0 to 1")).under("rate"));
        }
        Ok(())
    }

    /// How many numbers the largest part of its state has at most.
    pub(crate) fn most_numbers(&self) -> u64 {
        self.window.into()
    }
}
