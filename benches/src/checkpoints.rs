//! What checkpoints cost a flow: rows per second of file → sql → train → file with one every second, beside none at all.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use millstream_core::Result;
use millstream_engine::checkpoint::CheckpointStore;
use millstream_store::LocalStore;

use crate::measurement::{Goal, Measurement, median};
use crate::own_process::cpu_seconds_of_children;
use crate::place;

/// How often a run with checkpoints and one without take turns.
const TURNS: usize = 5;

/// How many times the file of payments is read in a run.
const FILES: u64 = 6;

const PAYMENTS: u64 = 5_000_000;

/// What a run took.
struct Cost {
    seconds: f64,
    cpu_seconds: f64,
    checkpoints: u64,
}

/// Rows per second and CPU time of both, and how many checkpoints a run has.
pub fn run() -> Result<Vec<Measurement>> {
    let folder = place::empty_folder("checkpoints")?;
    for number in 0..FILES {
        fs::hard_link(place::data("payments.parquet"), folder.join(format!("payments-{number}.parquet")))?;
    }
    let (mut kept, mut plain) = (Vec::new(), Vec::new());
    for turn in 0..TURNS {
        // What comes second finds the machine as the first has left it.
        for keeps in [turn % 2 == 0, turn % 2 == 1] {
            let costs = if keeps { &mut kept } else { &mut plain };
            costs.push(cost(&folder, keeps)?);
        }
    }
    let rate = |costs: &[Cost]| median(costs.iter().map(|cost| (FILES * PAYMENTS) as f64 / cost.seconds));
    let cpu = |costs: &[Cost]| median(costs.iter().map(|cost| cost.cpu_seconds));
    let name = "checkpoints: file → sql → train → file, one every second; beside none";
    let checkpoints = median(kept.iter().map(|cost| cost.checkpoints as f64));
    Ok(vec![
        Measurement::new(name, "rows/s", rate(&kept), Goal::Times(0.97)).beside(rate(&plain)),
        Measurement::new(format!("{name}, CPU time"), "CPU s", cpu(&kept), Goal::Shown).beside(cpu(&plain)),
        Measurement::new("checkpoints: in one of these runs", "", checkpoints, Goal::Shown),
    ])
}

/// One run, in the state and with the files of none before it.
fn cost(folder: &Path, keeps: bool) -> Result<Cost> {
    let work = folder.join("work");
    if work.exists() {
        fs::remove_dir_all(&work)?;
    }
    fs::create_dir(&work)?;
    let mut command = place::millstream_run(&work, &place::flow("kept.toml"), &[])?;
    if keeps {
        command.args(["--state", "state"]);
    }
    let (start, cpu) = (Instant::now(), cpu_seconds_of_children()?);
    place::json_of(command.arg("--json"))?;
    let (seconds, cpu_seconds) = (start.elapsed().as_secs_f64(), cpu_seconds_of_children()? - cpu);
    let checkpoint_store = CheckpointStore::new(Arc::new(LocalStore::new(work.join("state"))), "kept", "state");
    Ok(Cost { seconds, cpu_seconds, checkpoints: checkpoint_store.numbers()?.pop().unwrap_or_default() })
}
