//! How many rows nearest neighbours over a window predict, score and learn in a second, on one thread.

use millstream_core::Result;
use millstream_models::limit_threads;
use serde_json::json;

use crate::measurement::{Goal, Measurement};
use crate::nodes::read_batches;
use crate::{place, trees};

const BATCH_ROWS: usize = 8192;

/// Each row is compared with the thousand before it.
const WINDOW: usize = 1000;

/// The price of electricity by 6 numbers, and synth28, each from Arrow batches in memory.
pub fn run() -> Result<Vec<Measurement>> {
    limit_threads(1);
    let mut measurements = Vec::new();
    for (file, what, rows, goal) in [
        ("elec2.parquet", "Elec2, 6 numbers", usize::MAX, 400_000.0),
        ("synth28.parquet", "synth28", 50_000, 250_000.0),
    ] {
        let batches = read_batches(&place::data(file), BATCH_ROWS, rows)?;
        let estimator = json!({ "type": "k_neighbors_classifier", "window": WINDOW });
        let (metrics, speed) = trees::learn(&batches, "label", None, &estimator)?;
        let name = format!("neighbours: `k_neighbors_classifier`, window of {WINDOW}, {what}");
        let accuracy = metrics.get("accuracy").unwrap_or(f64::NAN);
        measurements.push(Measurement::new(format!("{name}; accuracy"), "accuracy", accuracy, Goal::Shown));
        measurements.push(Measurement::new(name, "rows/s", speed, Goal::AtLeast(goal)));
    }
    Ok(measurements)
}
