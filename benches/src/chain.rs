//! Ten `sql` nodes in a row: how many rows pass in a second.

use millstream_core::Result;

use crate::flow;
use crate::measurement::{Goal, Measurement, median, rate};

/// As the flow says.
const ROWS: u64 = 10_000_000;
const RUNS: usize = 5;

/// Rows that enter the chain per second, on all cores.
pub fn run() -> Result<Vec<Measurement>> {
    let cores = std::thread::available_parallelism()?.get();
    let rates = (0..RUNS).map(|_| one(cores)).collect::<Result<Vec<_>>>()?;
    let name = format!("chain: ten sql nodes, batches of 1,024 rows, {cores} threads");
    Ok(vec![Measurement::new(name, "rows/s", median(rates), Goal::AtLeast(5e6))])
}

fn one(threads: usize) -> Result<f64> {
    let runtime = flow::runtime(threads)?;
    let running = flow::start(flow::plan("chain.toml", &[])?, &runtime)?;
    let outcome = flow::done(runtime.block_on(running.join()))?;
    Ok(rate(ROWS, outcome.elapsed))
}
