//! The quickstart from the start of the program to its end, beside River's loop over the same rows in memory.

use std::path::Path;
use std::time::{Duration, Instant};

use millstream_core::Result;

use crate::measurement::{Goal, Measurement, median, rate};
use crate::{place, python};

const RUNS: usize = 5;

/// Rows that reach the model per second.
pub fn run() -> Result<Vec<Measurement>> {
    let folder = place::empty_folder("quickstart")?;
    let rows = rows_of_the_model(&folder)?;
    let times = (0..RUNS).map(|_| time(&folder)).collect::<Result<Vec<_>>>()?;
    let river = python::river(&folder.join("rows.parquet"))?;
    let ours = median(times.iter().map(|time| rate(rows, *time)));
    let theirs = place::number(&river, "/rows")? / place::number(&river, "/seconds")?;
    let name = "quickstart: whole program; beside River's loop over dicts in memory";
    Ok(vec![
        Measurement::new(name, "rows/s", ours, Goal::Times(40.0)).beside(theirs),
        Measurement::new(
            "quickstart: whole program",
            "s",
            median(times.iter().map(Duration::as_secs_f64)),
            Goal::Shown,
        ),
    ])
}

fn time(folder: &Path) -> Result<Duration> {
    let start = Instant::now();
    place::json_of(place::millstream_run(folder, &flow(), &[])?.arg("--json"))?;
    Ok(start.elapsed())
}

/// Writes the rows that reach the model to a file, features and label only, and counts them.
fn rows_of_the_model(folder: &Path) -> Result<u64> {
    let wanted =
        "month, day, departs, log_distance, carrier, origin, dest, temp, humid, wind_speed, precip, visib, part";
    let query = format!("SELECT {wanted}, late AS label FROM input");
    let sets = [
        format!(r#"processor.wanted={{ type = "sql", from = "parts", query = "{query}" }}"#),
        r#"output.rows={ type = "file", from = "wanted", path = "rows.parquet" }"#.to_owned(),
    ];
    let summary = place::json_of(place::millstream_run(folder, &flow(), &sets)?.arg("--json"))?;
    Ok(place::number(&summary, "/nodes/lateness/rows_in")? as u64)
}

fn flow() -> std::path::PathBuf {
    place::root().join("flows/quickstart.toml")
}
