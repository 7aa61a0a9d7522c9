//! How long a node with much state keeps the data waiting at a checkpoint, and how long it takes to write it; and how much of a gigabyte
//! of it is written when one key of a hundred has changed.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use millstream_core::{Barrier, Batch, Collector, Epoch, Error, Origin, Processor, Result, Then};
use millstream_engine::checkpoint::{FlowCheckpoints, NodeEntry, Piece, ReplayLog, ResumeOptions};
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
    for (kind, settings) in [("aggregate", summed_up_by_key()), ("dedup", json!({ "keys": ["k"], "within": "7800s" }))]
    {
        measurements.extend(changes(kind, settings)?);
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
        checkpoints
            .write(barrier, &mut entries, vec![Some(snapshot)], ReplayLog::default())
            .map_err(|failure| failure.error)?;
        checkpoints.mark_committed(checkpoints.number())?;
        checkpoints.remove_old()?;
        writings.push(start.elapsed().as_secs_f64());
        disks.push(disk_seconds(&folder, bytes(&checkpoints)?)?);
    }
    let size = bytes(&checkpoints)? as f64 / f64::from(1 << 20);
    let stall = stalls.into_iter().fold(0.0, f64::max);
    Ok(Costs { stall, size, writing: median(writings), disk: median(disks) })
}

/// How many rows a keyed state has of which little changes, so that it takes about a gigabyte, and how many of them change. They
/// follow each other by a millisecond, and `dedup` forgets them after as many.
const MANY: u64 = 7_800_000;
const CHANGED: u64 = MANY / 100;

/// How many characters a key has.
const KEY_BYTES: usize = 100;

/// How many checkpoints there are, before each of which a hundredth changes: so many that chunks are dissolved.
const CHANGES: u64 = 100;

fn summed_up_by_key() -> Value {
    json!({ "keys": ["k"], "emit": "complete", "select": summed_up()["select"] })
}

/// What a checkpoint of a node writes when one key of a hundred has changed since the one before: of `aggregate` any group, of
/// `dedup` keys that are new and as many that are forgotten.
fn changes(kind: &str, settings: Value) -> Result<Vec<Measurement>> {
    let (mut node, ports) = build(kind, settings, &["from"], &rows_of(0..1)?)?;
    let mut out = Collector::new(ports);
    let mut take = |node: &mut dyn Processor, numbers: Vec<u64>| {
        numbers
            .chunks(BATCH_ROWS as usize)
            .try_for_each(|numbers| process(node, rows_of(numbers.iter().copied())?, &mut out))
    };
    take(node.as_mut(), (0..MANY).collect())?;
    let folder = place::empty_folder("state")?.join(kind);
    let plan = flow::plan("payments.toml", &[])?;
    let checkpoints = FlowCheckpoints::open_folder(&plan, &folder, &ResumeOptions::default())?;
    let mut entries = [(kind.to_owned(), NodeEntry::default())];
    let (whole, first) = checkpoint(&checkpoints, node.as_mut(), &mut entries, 0)?;
    let (mut most, mut seconds, mut stalls) = (0, Vec::new(), Vec::new());
    for round in 0..CHANGES {
        let new = MANY + round * CHANGED..MANY + (round + 1) * CHANGED;
        let any = new.clone().map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % MANY);
        take(node.as_mut(), if kind == "dedup" { new.clone().collect() } else { any.collect() })?;
        node.watermark(new.end as i64 * 1000, &mut Collector::new(ports))?;
        let (written, cost) = checkpoint(&checkpoints, node.as_mut(), &mut entries, round + 1)?;
        most = most.max(written);
        seconds.push(cost.writing);
        stalls.push(cost.stall);
    }
    let name = format!("state: {kind}, {:.0} MB, of which 1% has changed", whole as f64 / 1e6);
    let share = 100.0 * most as f64 / whole as f64;
    let stall = stalls.into_iter().fold(0.0, f64::max);
    Ok(vec![
        Measurement::new(format!("{name}: most that a checkpoint writes"), "%", share, Goal::AtMost(3.0)),
        Measurement::new(format!("{name}: the same"), "MB", most as f64 / 1e6, Goal::Shown).beside(whole as f64 / 1e6),
        Measurement::new(format!("{name}: written; beside all of it"), "s", median(seconds), Goal::Shown)
            .beside(first.writing),
        Measurement::new(format!("{name}: the longest that data waits; beside all of it"), "ms", stall, Goal::Shown)
            .beside(first.stall),
    ])
}

/// Rows of some numbers, each with a key of its own.
fn rows_of(numbers: impl Iterator<Item = u64> + Clone) -> Result<RecordBatch> {
    let times = TimestampMicrosecondArray::from_iter_values(numbers.clone().map(|number| number as i64 * 1000));
    let key = |number: u64| format!("{number:0KEY_BYTES$}");
    let columns: [(&str, ArrayRef); 3] = [
        ("at", Arc::new(times.with_timezone("UTC"))),
        ("k", Arc::new(StringArray::from_iter_values(numbers.clone().map(key)))),
        ("v", Arc::new(Float64Array::from_iter_values(numbers.map(|number| (number as f64).sin())))),
    ];
    Ok(RecordBatch::try_from_iter(columns)?)
}

/// A checkpoint of a node: how many bytes it has written, and what it has cost.
fn checkpoint(
    checkpoints: &FlowCheckpoints,
    node: &mut dyn Processor,
    entries: &mut [(String, NodeEntry)],
    round: u64,
) -> Result<(u64, Costs)> {
    let start = Instant::now();
    let snapshot = node.snapshot()?;
    let stall = start.elapsed().as_secs_f64() * 1e3;
    let start = Instant::now();
    let barrier = Barrier { epoch: Epoch(round + 1), then: Then::Continue };
    checkpoints.write(barrier, entries, vec![Some(snapshot)], ReplayLog::default()).map_err(|failure| failure.error)?;
    let writing = start.elapsed().as_secs_f64();
    let Some((manifest, _)) = checkpoints.store().latest()? else { return Err(Error::new("nothing was written")) };
    let prefix = format!("blobs/{:020}", manifest.number);
    let blobs = manifest.nodes.values().flat_map(NodeEntry::pieces).filter_map(|piece| match piece {
        Piece::Blob(key) if key.blob.starts_with(&prefix) => Some(key.bytes),
        _ => None,
    });
    let written = blobs.sum::<u64>() + manifest.to_bytes()?.0.len() as u64;
    checkpoints.mark_committed(checkpoints.number())?;
    checkpoints.remove_old()?;
    Ok((written, Costs { stall, writing, size: 0.0, disk: 0.0 }))
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
