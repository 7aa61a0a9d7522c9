//! How long a program that was just started takes until its first rows are out.

use std::io::Read;
use std::process::Stdio;
use std::time::Instant;

use millstream_core::{Error, Result, ResultExt};

use crate::measurement::{Goal, Measurement, median};
use crate::place;

const RUNS: usize = 11;

/// The median time from starting the program to the first byte on its standard output.
pub fn run() -> Result<Vec<Measurement>> {
    let times = (0..RUNS).map(|_| one()).collect::<Result<Vec<_>>>()?;
    let name = "start: from starting the program to the first row of a small CSV file";
    Ok(vec![Measurement::new(name, "ms", median(times), Goal::AtMost(150.0))])
}

fn one() -> Result<f64> {
    let folder = place::empty_folder("start")?;
    let mut command = place::millstream_run(&folder, &place::flow("small.toml"), &[])?;
    let start = Instant::now();
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut child = child.doing(|| "starting the program")?;
    let mut stdout = child.stdout.take().ok_or_else(|| Error::new("the program has no standard output"))?;
    let mut first = [0];
    stdout.read_exact(&mut first).doing(|| "reading the first row")?;
    let elapsed = start.elapsed();
    std::io::copy(&mut stdout, &mut std::io::sink())?;
    child.wait()?;
    Ok(elapsed.as_secs_f64() * 1e3)
}
