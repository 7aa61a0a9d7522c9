//! Windows: how fast they are, how much memory their groups take, and whether they are what DataFusion computes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::cast::AsArray;
use arrow::array::{ArrayRef, Decimal128Array, Float64Array, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType};
use datafusion::prelude::SessionContext;
use millstream_core::{
    Batch, Collector, Error, NodeTypes, Origin, Parsed, Processor, ProcessorSettings, Result, Role, Stream,
};
use millstream_testkit::{Timing, context, drive_in_time};
use serde_json::json;

use crate::measurement::{Goal, Measurement, median, rate};
use crate::memory::resident;
use crate::{flow, own_process};

const ROWS: u64 = 10_000_000;
/// How many rows a [`batch`] has.
pub const BATCH_ROWS: u64 = 1024;
const KEYS: u64 = 1000;

/// How many µs there are between rows.
const STEP: i64 = 600;

const RUNS: usize = 5;
const MANY_KEYS: u64 = 1_000_000;
const CASES: u64 = 1000;

/// All three.
pub fn run() -> Result<Vec<Measurement>> {
    let rates = (0..RUNS).map(|_| throughput("window", summed_up(), &["from"], ROWS)).collect::<Result<Vec<_>>>()?;
    let [groups, mib] = own_process::numbers_of(&["windows-memory"])?;
    let differences =
        (0..CASES).map(differs).collect::<Result<Vec<_>>>()?.into_iter().filter(|differs| *differs).count();
    Ok(vec![
        Measurement::new(
            "windows: 3 aggregates over 1,000 keys, one thread",
            "rows/s",
            median(rates),
            Goal::AtLeast(5e6),
        ),
        Measurement::new(
            format!("windows: memory of {groups} open groups, 3 aggregates"),
            "MiB",
            mib,
            Goal::AtMost(500.0),
        ),
        Measurement::new(
            format!("windows: of {CASES} random cases, those that DataFusion computes differently"),
            "",
            differences as f64,
            Goal::AtMost(0.0),
        ),
    ])
}

/// Reads the settings of a processor.
pub fn processor(kind: &str, settings: serde_json::Value) -> Result<Box<dyn ProcessorSettings>> {
    let registry: NodeTypes = flow::registry();
    let found = registry.find(Role::Processor, kind).ok_or_else(|| Error::new(format!("there is no `{kind}`")))?;
    match found.parse(settings).map_err(|problem| Error::new(problem.to_string()))? {
        Parsed::Processor(settings) => Ok(settings),
        Parsed::Input(_) | Parsed::Output(_) => Err(Error::new(format!("`{kind}` is no processor"))),
    }
}

fn window(settings: serde_json::Value) -> Result<Box<dyn ProcessorSettings>> {
    processor("window", settings)
}

/// A processor over such rows on all of its inputs, and how many ports it has.
pub fn build(
    kind: &str,
    settings: serde_json::Value,
    inputs: &[&str],
    rows: &RecordBatch,
) -> Result<(Box<dyn Processor>, usize)> {
    let stream = |port: &&str| Stream {
        port: (*port).into(),
        node: (*port).into(),
        schema: rows.schema(),
        event_time: Some("at".into()),
        is_live: false,
    };
    let streams: Vec<Stream> = inputs.iter().map(stream).collect();
    let plan = processor(kind, settings)?.plan(&context(), &streams);
    let plan = plan.map_err(|problems| Error::new(format!("{problems:?}")))?;
    Ok(((plan.build)()?, plan.ports.len()))
}

/// A window of a minute with three aggregates.
pub fn summed_up() -> serde_json::Value {
    json!({ "size": "1m", "keys": ["k"], "select": { "n": "count(*)", "mean": "avg(v)", "most": "max(v)" } })
}

/// A batch of rows that follow each other by [`STEP`], so that a minute has 100 of each of 1,000 keys.
pub fn batch(first: u64, keys: u64) -> Result<RecordBatch> {
    let rows = first..first + BATCH_ROWS;
    let columns: [(&str, ArrayRef); 3] = [
        (
            "at",
            Arc::new(
                TimestampMicrosecondArray::from_iter_values(rows.clone().map(|row| row as i64 * STEP))
                    .with_timezone("UTC"),
            ),
        ),
        ("k", Arc::new(Int64Array::from_iter_values(rows.clone().map(|row| (row * 7919 % keys) as i64)))),
        ("v", Arc::new(Float64Array::from_iter_values(rows.map(|row| (row as f64).sin())))),
    ];
    Ok(RecordBatch::try_from_iter(columns)?)
}

/// How many rows a processor takes in a second, all inputs together.
pub fn throughput(kind: &str, settings: serde_json::Value, inputs: &[&str], rows: u64) -> Result<f64> {
    let batches = (0..rows / BATCH_ROWS).map(|number| batch(number * BATCH_ROWS, KEYS)).collect::<Result<Vec<_>>>()?;
    let (mut processor, ports) = build(kind, settings, inputs, &batches[0])?;
    let mut out = Collector::new(ports);
    let start = Instant::now();
    for (number, rows) in (0..).zip(&batches) {
        let (start, end) = (number * BATCH_ROWS, (number + 1) * BATCH_ROWS);
        for port in 0..inputs.len() {
            processor.process(port, Batch::new(rows.clone(), Origin::new("input", "", start, end)), &mut out)?;
        }
        processor.watermark(end as i64 * STEP, &mut out)?;
        out.take(0).for_each(drop);
    }
    processor.finish(&mut out)?;
    let rows = batches.len() as u64 * BATCH_ROWS * inputs.len() as u64;
    Ok(rate(rows, start.elapsed()))
}

/// How many groups are open, and how many MiB they take.
pub fn memory(_: &[String]) -> Result<[f64; 2]> {
    let settings = json!({ "size": "24h", "keys": ["k"], "select": summed_up()["select"] });
    let (mut window, ports) = build("window", settings, &["from"], &batch(0, MANY_KEYS)?)?;
    let mut out = Collector::new(ports);
    let before = resident()?;
    for number in 0..MANY_KEYS.div_ceil(BATCH_ROWS) {
        let rows = batch(number * BATCH_ROWS, MANY_KEYS)?;
        window.process(0, Batch::new(rows, Origin::new("input", "", 0, 0)), &mut out)?;
    }
    let after = resident()?;
    window.finish(&mut out)?;
    let groups: usize = out.take(0).map(|batch| batch.len()).sum();
    Ok([groups as f64, after - before])
}

/// Random numbers, the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// One row of a random case.
struct Row {
    at: i64,
    key: i64,
    float: Option<f64>,
    whole: Option<i64>,
    decimal: i128,
}

fn rows_of(dice: &mut Dice) -> Vec<Row> {
    let mut at = 100_000_000;
    let count = 1 + dice.below(400);
    let row = |_| {
        at += dice.below(12_000_000) as i64 - 4_000_000;
        Row {
            at,
            key: dice.below(4) as i64,
            float: (dice.below(8) > 0).then(|| dice.below(1 << 30) as f64 / 7.0),
            whole: (dice.below(8) > 0).then(|| dice.below(1000) as i64 - 500),
            decimal: i128::from(dice.below(100_000)) - 50_000,
        }
    };
    (0..count).map(row).collect()
}

/// The rows as a batch; `starts` puts those of windows in front, each with a row of its own.
fn table(rows: &[&Row], starts: Option<Vec<i64>>) -> Result<RecordBatch> {
    let time = |times: Vec<i64>| -> ArrayRef { Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC")) };
    let decimals =
        Decimal128Array::from_iter_values(rows.iter().map(|row| row.decimal)).with_precision_and_scale(12, 2)?;
    let mut columns: Vec<(&str, ArrayRef)> = vec![
        ("at", time(rows.iter().map(|row| row.at).collect())),
        ("k", Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.key)))),
        ("f", Arc::new(rows.iter().map(|row| row.float).collect::<Float64Array>())),
        ("i", Arc::new(rows.iter().map(|row| row.whole).collect::<Int64Array>())),
        ("d", Arc::new(decimals)),
    ];
    columns.extend(starts.map(|starts| ("start", time(starts))));
    Ok(RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))?)
}

const SELECT: &[(&str, &str)] = &[
    ("n", "count(*)"),
    ("floats", "count(f)"),
    ("kinds", "count(DISTINCT i)"),
    ("total", "sum(i)"),
    ("low", "min(i)"),
    ("high", "max(f)"),
    ("money", "sum(d)"),
    ("share", "avg(d)"),
    ("sum", "sum(f)"),
    ("mean", "avg(f)"),
    ("dev", "stddev(f)"),
    ("some", "sum(i) FILTER (WHERE f > 1000000)"),
];

/// How many of the columns are whole numbers, and how many decimals follow them; the others are floats.
const KINDS: [&str; 12] = ["i", "i", "i", "i", "i", "f", "d", "d", "~", "~", "~", "i"];

/// Whether windows over random rows, with random lateness, cut at random, differ from what DataFusion computes of the
/// rows that are not late; or from themselves in another cut.
fn differs(case: u64) -> Result<bool> {
    let mut dice = Dice(case);
    let rows = rows_of(&mut dice);
    let (size, every) = [(10, 10), (30, 10), (25, 10), (60, 60)][dice.below(4) as usize];
    let lateness = dice.below(15) as i64 * 1_000_000;
    let (watermark_rows, epoch_rows) = (1 + dice.below(30) as usize, 1 + dice.below(100) as usize);
    let select: serde_json::Map<_, _> = SELECT.iter().map(|(name, text)| ((*name).to_owned(), json!(text))).collect();
    let settings =
        window(json!({ "size": format!("{size}s"), "every": format!("{every}s"), "keys": ["k"], "select": select }))?;
    let all = table(&rows.iter().collect::<Vec<_>>(), None)?;
    let mut ours = Vec::new();
    for batch_rows in [1 + dice.below(50) as usize, 8192] {
        let timing = Timing { lateness, watermark_rows, epoch_rows, batch_rows };
        let batches = drive_in_time(settings.as_ref(), &all, timing).ports.remove("main").unwrap_or_default();
        let Some(first) = batches.first() else { return Ok(false) };
        ours.push(concat_batches(&first.schema(), &batches)?);
    }
    let windows = in_windows(&rows, size * 1_000_000, every * 1_000_000, |row| {
        let moves = (row + 1) % watermark_rows == 0 || (row + 1) % epoch_rows == 0;
        moves.then_some(lateness)
    });
    let theirs = by_datafusion(&rows, windows)?;
    Ok(ours[0] != ours[1] || !is_same(&ours[0], &theirs))
}

/// The windows that each row is in when it comes, by the rules of the documentation, computed the simple way.
fn in_windows(rows: &[Row], size: i64, every: i64, moves: impl Fn(usize) -> Option<i64>) -> Vec<(usize, i64)> {
    let (mut windows, mut latest, mut watermark) = (Vec::new(), i64::MIN, i64::MIN);
    for (number, row) in rows.iter().enumerate() {
        let mut start = row.at.div_euclid(every) * every;
        while start + size > row.at {
            if start + size > watermark {
                windows.push((number, start));
            }
            start -= every;
        }
        latest = latest.max(row.at);
        if let Some(lateness) = moves(number) {
            watermark = watermark.max(latest - lateness);
        }
    }
    windows
}

fn by_datafusion(rows: &[Row], windows: Vec<(usize, i64)>) -> Result<RecordBatch> {
    let (numbers, starts): (Vec<usize>, Vec<i64>) = windows.into_iter().unzip();
    let table = table(&numbers.iter().map(|number| &rows[*number]).collect::<Vec<_>>(), Some(starts))?;
    let columns: Vec<String> = SELECT.iter().map(|(name, text)| format!("{text} AS {name}")).collect();
    let query = format!("SELECT start, k, {} FROM rows GROUP BY start, k ORDER BY start, k", columns.join(", "));
    let runtime = flow::runtime(1)?;
    let schema = table.schema();
    let batches = runtime.block_on(async {
        let context = SessionContext::new();
        context.register_batch("rows", table)?;
        context.sql(&query).await?.collect().await
    });
    let batches = batches.map_err(|error| Error::new(error.to_string()))?;
    let schema = batches.first().map_or(schema, RecordBatch::schema);
    Ok(concat_batches(&schema, &batches)?)
}

/// Whether counts, whole numbers, decimals, least and largest values are equal, and sums within 1e-12.
fn is_same(ours: &RecordBatch, theirs: &RecordBatch) -> bool {
    let key = |rows: &RecordBatch, row: usize, start: &str| {
        let of = |name: &str| rows.column_by_name(name).cloned();
        let start = of(start).map(|column| column.as_primitive::<TimestampMicrosecondType>().value(row));
        (start, of("k").map(|column| column.as_primitive::<Int64Type>().value(row)))
    };
    let places: BTreeMap<_, usize> = (0..theirs.num_rows()).map(|row| (key(theirs, row, "start"), row)).collect();
    ours.num_rows() == theirs.num_rows()
        && (0..ours.num_rows()).all(|row| {
            let Some(other) = places.get(&key(ours, row, "window_start")) else { return false };
            let mut columns = SELECT.iter().zip(KINDS);
            columns.all(|((name, _), kind)| {
                let (Some(a), Some(b)) = (ours.column_by_name(name), theirs.column_by_name(name)) else { return false };
                let (a, b) = (a.slice(row, 1), b.slice(*other, 1));
                if a.is_null(0) || b.is_null(0) {
                    return a.is_null(0) == b.is_null(0);
                }
                match kind {
                    "i" => a.as_primitive::<Int64Type>().value(0) == b.as_primitive::<Int64Type>().value(0),
                    "d" => a.as_primitive::<Decimal128Type>().value(0) == b.as_primitive::<Decimal128Type>().value(0),
                    "f" => a.as_primitive::<Float64Type>().value(0) == b.as_primitive::<Float64Type>().value(0),
                    _ => {
                        let (a, b) =
                            (a.as_primitive::<Float64Type>().value(0), b.as_primitive::<Float64Type>().value(0));
                        (a - b).abs() <= 1e-12 * a.abs().max(b.abs()).max(1.0)
                    }
                }
            })
        })
}
