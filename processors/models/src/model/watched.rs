//! Watches the errors of a model for drift while it learns.

use millstream_core::Result;
use serde::{Deserialize, Serialize};

use crate::drift::{Change, Detector, DetectorSettings, DetectorState, Signal};

/// The errors of a model, and what was seen in them.
#[derive(Clone, Debug)]
pub(super) struct Watched {
    detector: Detector,
    seen: Seen,
}

/// What was seen in errors.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Seen {
    drifts: u64,
    /// How many rows there were since the last drift.
    rows: u64,
    /// The mean error before the last drift, and behind it.
    last: Option<(f64, f64)>,
}

/// What it takes to go on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct WatchedState {
    detector: DetectorState,
    seen: Seen,
}

impl Watched {
    pub fn new(settings: DetectorSettings) -> Self {
        Self { detector: Detector::new(settings), seen: Seen::default() }
    }

    /// Takes in the error of one more row.
    pub fn add(&mut self, error: f64) {
        self.seen.rows += 1;
        if let Signal::Drift(Change { before, after }) = self.detector.update(error) {
            self.seen = Seen { drifts: self.seen.drifts + 1, rows: 0, last: Some((before, after)) };
        }
    }

    /// The figures: those of the last drift if there was one.
    pub fn metrics(&self) -> Vec<(&'static str, f64)> {
        let Seen { drifts, rows, last } = &self.seen;
        let mut metrics = vec![("drifts", *drifts as f64)];
        if let Some((before, after)) = last {
            let finite = [("error_before_drift", *before), ("error_after_drift", *after)];
            metrics.push(("rows_since_drift", *rows as f64));
            metrics.extend(finite.into_iter().filter(|(_, mean)| mean.is_finite()));
        }
        metrics
    }

    /// What it takes to go on from here.
    pub fn state(&self) -> WatchedState {
        WatchedState { detector: self.detector.state(), seen: self.seen.clone() }
    }

    /// Goes on from there.
    pub fn restore(&mut self, state: WatchedState) -> Result<()> {
        self.seen = state.seen;
        self.detector.restore(state.detector)
    }
}
