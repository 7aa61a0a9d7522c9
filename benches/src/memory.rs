//! Whether memory stays flat while an output is a hundred times slower than its input.

use std::time::{Duration, Instant};

use millstream_core::{Error, Result, ResultExt};

use crate::measurement::{Goal, Measurement, rate};
use crate::{flow, own_process};

/// As the file has.
const ROWS: u64 = 5_000_000;
const SLOWER: f64 = 100.0;
const SETTLED: Duration = Duration::from_secs(10);
const WATCHED: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(100);

/// By how much the resident memory grows after the tenth second.
pub fn run() -> Result<Vec<Measurement>> {
    let slow = full_speed()? / SLOWER;
    let [settled, most] = own_process::numbers_of(&["memory", &slow.to_string()])?;
    let name = "memory: growth from the 10th to the 30th second, output 100 x slower";
    Ok(vec![
        Measurement::new(name, "MiB", most - settled, Goal::AtMost(64.0)),
        Measurement::new("memory: resident at the 10th second", "MiB", settled, Goal::Shown),
    ])
}

/// Rows per second of the flow when its output keeps up.
fn full_speed() -> Result<f64> {
    let runtime = flow::runtime(threads()?)?;
    let running = flow::start(flow::plan("slow.toml", &[])?, &runtime)?;
    let outcome = flow::done(runtime.block_on(running.join()))?;
    Ok(rate(ROWS, outcome.elapsed))
}

fn threads() -> Result<usize> {
    Ok(std::thread::available_parallelism()?.get())
}

/// Runs the flow with an output of so many rows a second, and gives the resident memory in MiB when it has settled,
/// and the most from then on. To be called in a process that has done nothing else.
pub fn watch(arguments: &[String]) -> Result<[f64; 2]> {
    let sets: Vec<_> = arguments.iter().map(|rate| format!("output.slow.rows_per_second={rate}")).collect();
    let runtime = flow::runtime(threads()?)?;
    let running = runtime.spawn(flow::start(flow::plan("slow.toml", &sets)?, &runtime)?.join());
    let start = Instant::now();
    std::thread::sleep(SETTLED);
    let settled = resident()?;
    let mut most = settled;
    while start.elapsed() < WATCHED {
        std::thread::sleep(PAUSE);
        most = resident()?.max(most);
    }
    if running.is_finished() {
        return Err(Error::new("the flow ended while it was watched"));
    }
    runtime.shutdown_background();
    Ok([settled, most])
}

/// The resident memory of this process in MiB.
pub fn resident() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/self/statm")?;
    let pages: Option<f64> = text.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    let pages = pages.ok_or_else(|| Error::new("unexpected text")).doing(|| "reading /proc/self/statm")?;
    Ok(pages * rustix::param::page_size() as f64 / f64::from(1 << 20))
}
