//! How long a flow with 50 MiB of state takes to go on after `kill -9`: from starting the program to the next row.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_core::{Error, Result, ResultExt};
use millstream_engine::checkpoint::{CheckpointStore, Manifest};
use millstream_store::LocalStore;

use crate::measurement::{Goal, Measurement, median};
use crate::place;

const RUNS: usize = 7;
const PAUSE: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(120);

/// The median time, and how large the state is.
pub fn run() -> Result<Vec<Measurement>> {
    let folder = place::empty_folder("recovery")?;
    let (mut seconds, mut bytes) = (Vec::new(), 0);
    for run in 0..=RUNS {
        let before = last(&folder)?.map_or(0, |manifest| manifest.number);
        let (mut child, first) = start(&folder)?;
        // The first run has nothing to go on from.
        if run > 0 {
            seconds.push(first);
        }
        // One that takes the flow over, then one of a barrier.
        let written = wait_for(&folder, before + 2);
        child.kill()?;
        child.wait()?;
        bytes = written?.bytes();
    }
    let mib = bytes as f64 / f64::from(1 << 20);
    let name = format!("recovery: with {mib:.1} MiB of state, from starting the program to the next row");
    Ok(vec![Measurement::new(name, "s", median(seconds), Goal::AtMost(2.0))])
}

/// Starts the program, and says how many seconds it took to the first byte on its standard output.
fn start(folder: &Path) -> Result<(Child, f64)> {
    let mut command = place::millstream_run(folder, &place::flow("large.toml"), &[])?;
    command.args(["--state", "state"]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let start = Instant::now();
    let mut child = command.spawn().doing(|| "starting the program")?;
    let mut stdout = child.stdout.take().ok_or_else(|| Error::new("the program has no standard output"))?;
    stdout.read_exact(&mut [0]).doing(|| "reading the first row")?;
    let seconds = start.elapsed().as_secs_f64();
    std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
    Ok((child, seconds))
}

/// Waits for a checkpoint of that number.
fn wait_for(folder: &Path, number: u64) -> Result<Manifest> {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        match last(folder)? {
            Some(manifest) if manifest.number >= number => return Ok(manifest),
            _ => std::thread::sleep(PAUSE),
        }
    }
    Err(Error::new(format!("there is no checkpoint {number} after {PATIENCE:?}")))
}

fn last(folder: &Path) -> Result<Option<Manifest>> {
    let checkpoint_store = CheckpointStore::new(Arc::new(LocalStore::new(folder.join("state"))), "large", "state");
    Ok(checkpoint_store.latest()?.map(|(manifest, _)| manifest))
}
