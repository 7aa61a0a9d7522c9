//! A measured number beside the number that it is compared with, and the goal.

use std::time::Duration;

use serde_json::{Value, json};

/// One line of the table.
#[derive(Debug)]
pub struct Measurement {
    name: String,
    unit: &'static str,
    measured: f64,
    reference: Option<f64>,
    goal: Goal,
}

/// What is asked of a measurement.
#[derive(Clone, Copy, Debug)]
pub enum Goal {
    /// The measured is at least so many times the reference.
    Times(f64),
    /// The measured is at most so many times the reference.
    AtMostTimes(f64),
    /// The measured is as near as that to the reference.
    Within(f64),
    /// The measured is at least that.
    AtLeast(f64),
    /// The measured is at most that.
    AtMost(f64),
    /// Nothing: the number is shown for comparison.
    Shown,
}

impl Measurement {
    /// A number that stands for itself.
    pub fn new(name: impl Into<String>, unit: &'static str, measured: f64, goal: Goal) -> Self {
        Self { name: name.into(), unit, measured, reference: None, goal }
    }

    /// The number that it is compared with.
    pub fn beside(self, reference: f64) -> Self {
        Self { reference: Some(reference), ..self }
    }

    /// A benchmark that came to no number.
    pub fn failed(name: &str) -> Self {
        Self::new(format!("{name}: failed"), "", f64::NAN, Goal::AtLeast(0.0))
    }

    fn ratio(&self) -> f64 {
        self.measured / self.reference.unwrap_or(f64::NAN)
    }

    /// Whether the goal is met.
    pub fn is_met(&self) -> bool {
        let distance = (self.measured - self.reference.unwrap_or(f64::NAN)).abs();
        match self.goal {
            Goal::Times(least) => self.ratio() >= least,
            Goal::AtMostTimes(most) => self.ratio() <= most,
            Goal::Within(most) => distance <= most,
            Goal::AtLeast(least) => self.measured >= least,
            Goal::AtMost(most) => self.measured <= most,
            Goal::Shown => true,
        }
    }

    /// As a line for the table.
    pub fn to_json(&self) -> Value {
        let show = |value: f64| format!("{} {}", round(value), self.unit).trim().to_owned();
        let goal = match self.goal {
            Goal::Times(least) => format!("≥ {least} x"),
            Goal::AtMostTimes(most) => format!("≤ {most} x"),
            Goal::Within(most) => format!("± {most}"),
            Goal::AtLeast(least) => format!("≥ {}", show(least)),
            Goal::AtMost(most) => format!("≤ {}", show(most)),
            Goal::Shown => String::new(),
        };
        json!({
            "name": self.name,
            "measured": show(self.measured),
            "reference": self.reference.map(show),
            "ratio": self.reference.map(|_| self.ratio()),
            "goal": goal,
            "ok": (!matches!(self.goal, Goal::Shown)).then(|| self.is_met()),
        })
    }
}

/// A number with as many digits as tell something.
fn round(value: f64) -> String {
    match value.abs() {
        size if size >= 1e6 => format!("{:.2} M", value / 1e6),
        size if size >= 1e3 => format!("{:.1} k", value / 1e3),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size == size.trunc() => format!("{value}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

/// The value in the middle.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    quantile(values, 0.5)
}

/// The least value that this share of all values is not above.
pub fn quantile(values: impl IntoIterator<Item = f64>, share: f64) -> f64 {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    let place = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(place.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// How many rows go by in a second.
pub fn rate(rows: u64, time: Duration) -> f64 {
    rows as f64 / time.as_secs_f64()
}
