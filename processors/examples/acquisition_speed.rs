//! How fast `parse` reads lines of an access log and JSON, beside what it is made of, and how fast `mask` hashes. Prints JSON, of one
//! thread; the rows are those of `flows/data/access_log`.
#![allow(clippy::print_stdout)]
#![allow(clippy::disallowed_methods, reason = "what is measured is time")]

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use millstream_core::{Batch, Collector, NodeTypes, Origin, Parsed, Problem, Role};
use millstream_testkit::{context, stream};
use serde_json::{Value, json};

const ROWS: usize = 8192;
const SECONDS: f64 = 2.0;

const COMBINED: &str = r#"{"clientip":"utf8","auth":"utf8?","timestamp":"timestamp","verb":"utf8?","request":"utf8?","response":"int32","bytes":"int64?","agent":"utf8"}"#;

fn main() -> Result<(), Box<dyn Error>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../flows/data/access_log/access.log");
    let log = std::fs::read_to_string(path)?;
    let lines: Vec<&str> = log.lines().filter(|line| line.ends_with('"')).cycle().take(ROWS).collect();
    let objects: Vec<String> = lines
        .iter()
        .enumerate()
        .map(|(row, line)| {
            json!({ "id": row, "at": "2026-03-14T10:00:00Z", "client": &line[..12], "bytes": row * 7, "ok": true })
                .to_string()
        })
        .collect();
    let (lines, objects) = (texts(lines.iter()), texts(objects.iter()));
    let grok =
        json!({ "type": "grok", "pattern": "^%{COMBINEDAPACHELOG}$", "timestamp_format": "%d/%b/%Y:%H:%M:%S %z" });
    let combined: Value = serde_json::from_str(COMBINED)?;
    measure(
        "parse grok, combined access log",
        "parse",
        json!({ "column": "text", "format": grok, "schema": combined }),
        &lines,
    )?;
    let client = json!({ "clientip": "utf8" });
    measure(
        "parse grok, one column of it",
        "parse",
        json!({ "column": "text", "format": grok, "schema": client }),
        &lines,
    )?;
    let plain = json!({ "type": "regex", "pattern": r#"^(?<client>\S+) \S+ \S+ \[(?<at>[^\]]+)\] "(?<verb>[A-Z]+) (?<request>\S+)"# });
    let schema = json!({ "client": "utf8", "at": "utf8", "verb": "utf8", "request": "utf8" });
    measure(
        "parse regex, four columns",
        "parse",
        json!({ "column": "text", "format": plain, "schema": schema }),
        &lines,
    )?;
    let schema = json!({ "id": "int64", "at": "timestamp", "client": "utf8", "bytes": "int64", "ok": "boolean" });
    measure(
        "parse json, five columns",
        "parse",
        json!({ "column": "text", "format": "json", "schema": schema }),
        &objects,
    )?;
    let key = "0123456789abcdef0123456789abcdef";
    measure("mask hash", "mask", json!({ "key": key, "columns": { "text": { "type": "hash" } } }), &lines)?;
    let addresses = texts((0..ROWS).map(|row| format!("198.51.100.{}", row % 256)));
    measure(
        "mask hash, addresses",
        "mask",
        json!({ "key": key, "columns": { "text": { "type": "hash" } } }),
        &addresses,
    )?;
    measure(
        "mask tokenise, addresses",
        "mask",
        json!({ "key": key, "columns": { "text": { "type": "tokenise" } } }),
        &addresses,
    )
}

fn texts<T: AsRef<str>>(texts: impl Iterator<Item = T>) -> RecordBatch {
    let column: ArrayRef = Arc::new(StringArray::from_iter_values(texts));
    RecordBatch::try_from_iter([("text", column)]).unwrap_or_else(|error| panic!("{error}"))
}

fn measure(name: &str, node: &str, settings: Value, rows: &RecordBatch) -> Result<(), Box<dyn Error>> {
    let mut types = NodeTypes::default();
    millstream_processors::register(&mut types);
    let said = |problem: Problem| problem.to_string();
    let kind = types.find(Role::Processor, node).ok_or("no such node")?;
    let Parsed::Processor(settings) = kind.parse(settings).map_err(said)? else { return Err("no processor".into()) };
    let plan =
        settings.plan(&context(), &[stream("from", rows.schema())]).map_err(|problems| format!("{problems:?}"))?;
    let mut processor = (plan.build)()?;
    let mut out = Collector::new(1);
    let begin = Instant::now();
    let mut count = 0;
    while begin.elapsed().as_secs_f64() < SECONDS {
        processor.process(0, Batch::new(rows.clone(), Origin::new("rows", "", 0, ROWS as u64)), &mut out)?;
        count += out.take(0).map(|batch| batch.len()).sum::<usize>();
        let failed = out.take_failed();
        if let Some(row) = failed.first() {
            return Err(row.error.clone().into());
        }
    }
    let rate = count as f64 / begin.elapsed().as_secs_f64();
    println!("{}", json!({ "what": name, "rows/s": rate.round() }));
    Ok(())
}
