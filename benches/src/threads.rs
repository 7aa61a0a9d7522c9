//! What a second thread brings a flow that reads files and works on their rows: rows per second of wall clock.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Instant;

use millstream_core::{Error, Result};

use crate::measurement::{Goal, Measurement, median};
use crate::{place, text};

/// A run on one thread, one on two, and two on one thread each take turns so often.
const TURNS: usize = 5;

/// How many rows there are of each format: text has fewer in a file, and so the file is read several times.
const ROWS: u64 = 5_000_000;

/// The rows per second on two threads beside those on one, of each format; and those of two runs beside each other, which is what the
/// machine has to give.
pub fn run() -> Result<Vec<Measurement>> {
    let folder = place::empty_folder("threads")?;
    let mut measurements = Vec::new();
    for (format, rows) in [("ndjson", 1_000_000), ("csv", 1_000_000), ("parquet", 5_000_000)] {
        measurements.extend(two_beside_one(&folder, format, ROWS / rows)?);
    }
    Ok(measurements)
}

fn two_beside_one(folder: &Path, format: &str, files: u64) -> Result<[Measurement; 2]> {
    for number in 0..files {
        fs::hard_link(place::data(&format!("payments.{format}")), folder.join(format!("{number}.{format}")))?;
    }
    let mut settings = if format == "parquet" { Vec::new() } else { text::settings(format).to_vec() };
    settings.push(format!("input.payments.path={}", folder.join(format!("*.{format}")).display()));
    let start = |threads: &str| {
        let mut command = place::millstream_run(folder, &place::flow("payments.toml"), &settings)?;
        command.args(["--threads", threads]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok::<_, Error>(command.spawn()?)
    };
    let rows_per_second = |threads: &[&str]| {
        let begin = Instant::now();
        let runs: Vec<_> = threads.iter().map(|threads| start(threads)).collect::<Result<_>>()?;
        runs.into_iter().try_for_each(done)?;
        Ok::<_, Error>((ROWS * threads.len() as u64) as f64 / begin.elapsed().as_secs_f64())
    };
    let (mut one, mut two, mut apart) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..TURNS {
        one.push(rows_per_second(&["1"])?);
        two.push(rows_per_second(&["2"])?);
        apart.push(rows_per_second(&["1", "1"])?);
    }
    let name = format!("threads: {format} → sql → drop, 5 M rows");
    let one = median(one);
    Ok([
        Measurement::new(format!("{name}; two beside one"), "rows/s", median(two), Goal::Times(1.7)).beside(one),
        Measurement::new(format!("{name}; two programs beside one"), "rows/s", median(apart), Goal::Shown).beside(one),
    ])
}

fn done(mut run: Child) -> Result<()> {
    let status = run.wait()?;
    if status.success() { Ok(()) } else { Err(Error::new(format!("a flow has ended with {status}"))) }
}
