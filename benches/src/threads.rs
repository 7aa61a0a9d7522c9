//! What a second thread brings a flow that reads files and works on their rows: rows per second of wall clock.

use std::fs;
use std::path::Path;
use std::time::Instant;

use millstream_core::{Error, Result};

use crate::measurement::{Goal, Measurement, median};
use crate::{flow, place, text};

/// Runs on one thread and runs on two take turns so often.
const TURNS: usize = 5;

/// How many rows there are of each format: text has fewer in a file, and so the file is read several times.
const ROWS: u64 = 5_000_000;

/// The rows per second on two threads beside those on one, of each format.
pub fn run() -> Result<Vec<Measurement>> {
    let folder = place::empty_folder("threads")?;
    [("ndjson", 1_000_000), ("csv", 1_000_000), ("parquet", 5_000_000)]
        .into_iter()
        .map(|(format, rows)| two_beside_one(&folder, format, ROWS / rows))
        .collect()
}

fn two_beside_one(folder: &Path, format: &str, files: u64) -> Result<Measurement> {
    for number in 0..files {
        fs::hard_link(place::data(&format!("payments.{format}")), folder.join(format!("{number}.{format}")))?;
    }
    let mut settings = if format == "parquet" { Vec::new() } else { text::settings(format).to_vec() };
    settings.push(format!("input.payments.path={}", folder.join(format!("*.{format}")).display()));
    let rows_per_second = |threads: usize| {
        let begin = Instant::now();
        flow::rows_into("payments.toml", &settings, threads, "dropped")?;
        Ok::<_, Error>(ROWS as f64 / begin.elapsed().as_secs_f64())
    };
    let (mut one, mut two) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        one.push(rows_per_second(1)?);
        two.push(rows_per_second(2)?);
    }
    let name = format!("threads: {format} → sql → drop, 5 M rows; two beside one");
    Ok(Measurement::new(name, "rows/s", median(two), Goal::Times(1.7)).beside(median(one)))
}
