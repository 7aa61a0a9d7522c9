//! What taking texts apart costs, beside what does nothing else: `parse` beside Arrow's reader of JSON and beside bare captures of an
//! expression; and what hashing costs that hides who somebody is. All on one thread, from memory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, AsArray as _, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use millstream_core::{Batch, Collector, Error, Origin, Processor, Result, ResultExt as _};
use millstream_testkit::{context, stream};
use regex::Regex;
use serde_json::{Value, json};

use crate::measurement::{Goal, Measurement, median};
use crate::place;
use crate::windows::processor;

/// The two that are compared take turns so often; the medians count.
const TURNS: usize = 5;

/// Each turn of one takes so long.
const SPAN: Duration = Duration::from_secs(1);

/// A batch has so many rows.
const ROWS: usize = 8192;

/// The beginning of a line of an access log.
const LINE: &str = r#"^(?<client>\S+) \S+ \S+ \[(?<at>[^\]]+)\] "(?<verb>[A-Z]+) (?<request>\S+)"#;

/// Measures the rows a second of each.
pub fn run() -> Result<Vec<Measurement>> {
    let log = std::fs::read_to_string(place::root().join("flows/data/access_log/access.log"))?;
    let lines = texts(log.lines().filter(|line| line.ends_with('"')).cycle().take(ROWS));
    let objects = texts((0..ROWS).map(object));
    let addresses = texts((0..ROWS).map(|row| format!("198.51.100.{}", row % 256)));
    let mut measurements = vec![json_beside_arrow(&objects)?, regex_beside_captures(&lines)?];
    let grok =
        json!({ "type": "grok", "pattern": "^%{COMBINEDAPACHELOG}$", "timestamp_format": "%d/%b/%Y:%H:%M:%S %z" });
    let all = json!({ "clientip": "utf8", "auth": "utf8?", "timestamp": "timestamp", "verb": "utf8?", "request": "utf8?",
                      "response": "int32", "bytes": "int64?", "agent": "utf8" });
    let hash = json!({ "key": "0123456789abcdef0123456789abcdef", "columns": { "text": { "type": "hash" } } });
    for (name, node, settings, rows) in [
        ("parse, 8 columns of a combined access log by grok", "parse", parse(grok, all), &lines),
        ("mask, hashes of addresses", "mask", hash, &addresses),
    ] {
        let mut worker = Worker::new(node, settings, rows)?;
        let rates = (0..TURNS).map(|_| rate(|| worker.take(rows))).collect::<Result<Vec<_>>>()?;
        let name = format!("acquisition: {name}, one thread");
        measurements.push(Measurement::new(name, "rows/s", median(rates), Goal::Shown));
    }
    Ok(measurements)
}

fn object(row: usize) -> String {
    let client = format!("198.51.100.{}", row % 256);
    json!({ "id": row, "at": "2026-03-14T10:00:00Z", "client": client, "bytes": row * 7, "ok": true }).to_string()
}

fn texts<T: AsRef<str>>(texts: impl Iterator<Item = T>) -> RecordBatch {
    let schema = Schema::new(vec![Field::new("text", DataType::Utf8, false)]);
    let column: ArrayRef = Arc::new(StringArray::from_iter_values(texts));
    RecordBatch::try_new(Arc::new(schema), vec![column]).unwrap_or_else(|error| panic!("{error}"))
}

fn parse(format: Value, schema: Value) -> Value {
    json!({ "column": "text", "format": format, "schema": schema })
}

/// Compares `parse` with the decoder of arrow-json, which gets the same texts one after the other.
fn json_beside_arrow(objects: &RecordBatch) -> Result<Measurement> {
    let types = json!({ "id": "int64", "at": "timestamp", "client": "utf8", "bytes": "int64", "ok": "boolean" });
    let mut worker = Worker::new("parse", parse(json!("json"), types), objects)?;
    let field = |name, data_type| Field::new(name, data_type, false);
    let schema = Schema::new(vec![
        field("id", DataType::Int64),
        field("at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
        field("client", DataType::Utf8),
        field("bytes", DataType::Int64),
        field("ok", DataType::Boolean),
    ]);
    let mut decoder = arrow::json::ReaderBuilder::new(Arc::new(schema)).with_batch_size(ROWS).build_decoder()?;
    let mut arrow = || {
        for text in objects.column(0).as_string::<i32>().iter().flatten() {
            decoder.decode(text.as_bytes())?;
        }
        Ok(decoder.flush()?.map_or(0, |batch| batch.num_rows()))
    };
    let [ours, bare] = in_turns(&mut || worker.take(objects), &mut arrow)?;
    let name = "acquisition: parse, 5 columns of JSON, one thread; beside arrow-json, fed one by one";
    Ok(Measurement::new(name, "rows/s", ours, Goal::Times(0.9)).beside(bare))
}

/// Compares `parse` with the captures of the same expression, of which nothing is made.
fn regex_beside_captures(lines: &RecordBatch) -> Result<Measurement> {
    let types = json!({ "client": "utf8", "at": "utf8", "verb": "utf8", "request": "utf8" });
    let format = json!({ "type": "regex", "pattern": LINE });
    let mut worker = Worker::new("parse", parse(format, types), lines)?;
    let expression = Regex::new(LINE).doing(|| "reading the expression")?;
    let mut places = expression.capture_locations();
    let mut captures = || {
        let texts = lines.column(0).as_string::<i32>().iter().flatten();
        Ok(texts.filter(|text| expression.captures_read(&mut places, text).is_some()).count())
    };
    let [ours, bare] = in_turns(&mut || worker.take(lines), &mut captures)?;
    let name = "acquisition: parse, 4 columns of a line by an expression, one thread; beside its captures alone";
    Ok(Measurement::new(name, "rows/s", ours, Goal::Times(0.8)).beside(bare))
}

/// The medians of the rows a second of two that take turns.
fn in_turns(ours: &mut dyn FnMut() -> Result<usize>, other: &mut dyn FnMut() -> Result<usize>) -> Result<[f64; 2]> {
    let mut figures = [Vec::new(), Vec::new()];
    for _ in 0..TURNS {
        figures[0].push(rate(&mut *ours)?);
        figures[1].push(rate(&mut *other)?);
    }
    Ok(figures.map(median))
}

/// How many rows a second come out of something that is done again and again.
fn rate(mut job: impl FnMut() -> Result<usize>) -> Result<f64> {
    let (begin, mut rows) = (Instant::now(), 0);
    while begin.elapsed() < SPAN {
        rows += job()?;
    }
    Ok(rows as f64 / begin.elapsed().as_secs_f64())
}

/// A processor that takes the same rows again and again.
struct Worker {
    processor: Box<dyn Processor>,
    out: Collector,
}

impl Worker {
    fn new(node: &str, settings: Value, rows: &RecordBatch) -> Result<Self> {
        let settings = processor(node, settings)?;
        let plan = settings.plan(&context(), &[stream("from", rows.schema())]);
        let plan = plan.map_err(|problems| Error::new(format!("{problems:?}")))?;
        Ok(Self { processor: (plan.build)()?, out: Collector::new(1) })
    }

    /// Says how many rows came out, all of which have to.
    fn take(&mut self, rows: &RecordBatch) -> Result<usize> {
        let origin = Origin::new("rows", "", 0, ROWS as u64);
        self.processor.process(0, Batch::new(rows.clone(), origin), &mut self.out)?;
        match self.out.take_failed().first() {
            Some(row) => Err(Error::new(row.error.clone())),
            None => Ok(self.out.take(0).map(|batch| batch.len()).sum()),
        }
    }
}
