//! What a second thread brings a flow that reads files and works on their rows: rows per second of wall clock.

use std::time::Instant;

use millstream_core::{Error, Result};

use crate::measurement::{Goal, Measurement, median};
use crate::{flow, text};

/// Runs on one thread and runs on two take turns so often.
const TURNS: usize = 7;

/// Every file has so many rows.
const ROWS: f64 = 1e6;

/// The rows per second on two threads beside those on one, of each format.
pub fn run() -> Result<Vec<Measurement>> {
    ["ndjson", "csv", "parquet"].into_iter().map(two_beside_one).collect()
}

fn two_beside_one(format: &str) -> Result<Measurement> {
    let settings = if format == "parquet" { Vec::new() } else { text::settings(format).to_vec() };
    let rows_per_second = |threads: usize| {
        let begin = Instant::now();
        flow::rows_into("payments.toml", &settings, threads, "dropped")?;
        Ok::<_, Error>(ROWS / begin.elapsed().as_secs_f64())
    };
    let (mut one, mut two) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        one.push(rows_per_second(1)?);
        two.push(rows_per_second(2)?);
    }
    let name = format!("threads: {format} → sql → drop, 1 M rows; two beside one");
    Ok(Measurement::new(name, "rows/s", median(two), Goal::Times(1.7)).beside(median(one)))
}
