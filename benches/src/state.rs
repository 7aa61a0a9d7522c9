//! How long a node with much state keeps the data waiting at a checkpoint, and how long it takes to write it.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use arrow::array::RecordBatch;
use millstream_core::{Barrier, Batch, Collector, Epoch, Origin, Processor, Result, Then};
use millstream_engine::checkpoint::{FlowCheckpoints, NodeEntry, ReplayLog, ResumeOptions};
use millstream_testkit::table;
use serde_json::{Value, json};

use crate::measurement::{Goal, Measurement, median};
use crate::windows::{BATCH_ROWS, batch, build, summed_up};
use crate::{flow, place};

const ROUNDS: u64 = 7;

/// How many keys there are, and how many rows of them come before the first checkpoint.
const KEYS: u64 = 2_000_000;
const ROWS: u64 = 1_000_000;

/// What checkpoints of a node cost.
struct Costs {
    /// The longest time that data waited, in milliseconds.
    stall: f64,
    /// How large the state is, in MiB.
    size: f64,
    /// The seconds from the snapshot until the checkpoint is durable, and older ones are removed.
    writing: f64,
    /// The seconds that the disk takes for as many bytes.
    disk: f64,
}

/// A network of 50 MiB, and nodes with a million keys.
pub fn run() -> Result<Vec<Measurement>> {
    let network = network()?;
    let (most, second) = (Goal::AtMost(20.0), Goal::AtMost(network.disk.max(1.0)));
    let mut measurements = network.measurements("a network with AdamW", most, second);
    let windows = json!({ "size": "24h", "keys": ["k"], "select": summed_up()["select"] });
    let nodes = [
        ("dedup, a million keys", "dedup", json!({ "keys": ["k"], "within": "24h" })),
        ("window, a million open groups", "window", windows),
    ];
    for (name, kind, settings) in nodes {
        measurements.extend(keyed(kind, settings)?.measurements(name, Goal::Shown, Goal::Shown));
    }
    Ok(measurements)
}

impl Costs {
    fn measurements(&self, name: &str, stall: Goal, writing: Goal) -> Vec<Measurement> {
        let size = self.size;
        vec![
            Measurement::new(
                format!("state: {name}, {size:.1} MiB, the longest that data waits"),
                "ms",
                self.stall,
                stall,
            ),
            Measurement::new(format!("state: {name}, written; beside the disk alone"), "s", self.writing, writing)
                .beside(self.disk),
        ]
    }
}

fn network() -> Result<Costs> {
    let rows = table("a:float64 b:float64 y:boolean\n1 2 true\n2 1 false\n3 5 true\n5 4 false");
    let estimator = json!({
        "type": "network", "layers": [{ "dense": 2090 }, { "dense": 2090 }], "optimizer": { "type": "adamw" }, "batch_rows": 2
    });
    let settings = json!({ "model": "large", "features": ["a", "b"], "label": "y", "estimator": estimator });
    let (mut trainer, ports) = build("train", settings, &["from"], &rows)?;
    let mut out = Collector::new(ports);
    costs("network", trainer.as_mut(), |trainer, _| process(trainer, rows.clone(), &mut out))
}

fn keyed(kind: &str, settings: Value) -> Result<Costs> {
    let (mut node, ports) = build(kind, settings, &["from"], &batch(0, KEYS)?)?;
    let mut out = Collector::new(ports);
    let before = ROWS.div_ceil(BATCH_ROWS);
    for number in 0..before {
        process(node.as_mut(), batch(number * BATCH_ROWS, KEYS)?, &mut out)?;
    }
    costs(kind, node.as_mut(), |node, round| process(node, batch((before + round) * BATCH_ROWS, KEYS)?, &mut out))
}

fn process(node: &mut dyn Processor, rows: RecordBatch, out: &mut Collector) -> Result<()> {
    node.process(0, Batch::new(rows, Origin::new("input", "", 0, 0)), out)?;
    out.take(0).for_each(drop);
    Ok(())
}

/// Takes checkpoints of a node, between which it changes.
fn costs(
    name: &str,
    node: &mut dyn Processor,
    mut change: impl FnMut(&mut dyn Processor, u64) -> Result<()>,
) -> Result<Costs> {
    let folder = place::empty_folder("state")?.join(name);
    // Which flow it is does not matter: what the checkpoint is of comes from here.
    let checkpoints =
        FlowCheckpoints::open_folder(&flow::plan("payments.toml", &[])?, &folder, &ResumeOptions::default())?;
    let mut entries = [(name.to_owned(), NodeEntry::default())];
    let (mut stalls, mut writings, mut disks) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        change(node, round)?;
        let start = Instant::now();
        let snapshot = node.snapshot()?;
        stalls.push(start.elapsed().as_secs_f64() * 1e3);
        let start = Instant::now();
        let barrier = Barrier { epoch: Epoch(round + 1), then: Then::Continue };
        checkpoints.write(barrier, &mut entries, vec![Some(snapshot)], ReplayLog::default())?;
        checkpoints.mark_committed(checkpoints.number())?;
        checkpoints.remove_old()?;
        writings.push(start.elapsed().as_secs_f64());
        disks.push(disk_seconds(&folder, bytes(&checkpoints)?)?);
    }
    let size = bytes(&checkpoints)? as f64 / f64::from(1 << 20);
    let stall = stalls.into_iter().fold(0.0, f64::max);
    Ok(Costs { stall, size, writing: median(writings), disk: median(disks) })
}

/// How large the last checkpoint is.
fn bytes(checkpoints: &FlowCheckpoints) -> Result<u64> {
    Ok(checkpoints.store().latest()?.map_or(0, |(manifest, _)| manifest.bytes()))
}

/// How long it takes to write so many bytes to a file, and to sync it.
fn disk_seconds(folder: &Path, bytes: u64) -> Result<f64> {
    let (path, bytes) = (folder.join("disk"), vec![b'x'; bytes as usize]);
    let start = Instant::now();
    let mut file = File::create(&path)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    let seconds = start.elapsed().as_secs_f64();
    std::fs::remove_file(path)?;
    Ok(seconds)
}
