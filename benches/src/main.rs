//! Measures Millstream beside other systems: `benches [NAME…]` prints one line of JSON for each measurement.
//!
//! `benches/run` makes the data and the release build first, and turns the lines into a table.
#![allow(clippy::print_stdout, clippy::print_stderr)]
#![allow(clippy::disallowed_methods, reason = "what is measured is time")]

mod acquisition;
mod answers;
mod beside_learning;
mod bits;
mod chain;
mod checkpoints;
mod daemon;
mod databases;
mod detectors;
mod edge;
mod flow;
mod ingest;
mod kafka;
mod kafka_through;
mod labels;
mod learning;
mod measurement;
mod memory;
mod messages;
mod mysql;
mod ndjson;
mod neighbours;
mod networks;
mod nodes;
mod objects;
mod own_process;
mod place;
mod postgres;
mod python;
mod quickstart;
mod recovery;
mod registry;
mod serving;
mod sql;
mod start;
mod state;
mod text;
mod threads;
mod time;
mod trees;
mod windows;

use std::process::ExitCode;

use millstream_core::Result;

use crate::measurement::Measurement;

type Benchmark = fn() -> Result<Vec<Measurement>>;

/// All benchmarks, in the order of the table.
const BENCHMARKS: &[(&str, Benchmark)] = &[
    ("answers", answers::run),
    ("bits", bits::run),
    ("learning", learning::run),
    ("networks", networks::run),
    ("trees", trees::run),
    ("neighbours", neighbours::run),
    ("detectors", detectors::run),
    ("quickstart", quickstart::run),
    ("sql", sql::run),
    ("ndjson", ndjson::run),
    ("text", text::run),
    ("threads", threads::run),
    ("chain", chain::run),
    ("windows", windows::run),
    ("time", time::run),
    ("edge", edge::run),
    ("memory", memory::run),
    ("start", start::run),
    ("checkpoints", checkpoints::run),
    ("state", state::run),
    ("recovery", recovery::run),
    ("ingest", ingest::run),
    ("registry", registry::run),
    ("serving", serving::run),
    ("messages", messages::run),
    ("acquisition", acquisition::run),
    ("daemon", daemon::run),
    ("kafka", kafka::run),
    ("kafka_through", kafka_through::run),
    ("mysql", mysql::run),
    ("postgres", postgres::run),
    ("objects", objects::run),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [once, job @ ..] if once == own_process::ONCE => own_process::run_once(job),
        names => run(names),
    }
}

fn run(names: &[String]) -> ExitCode {
    if let Some(unknown) = names.iter().find(|name| !BENCHMARKS.iter().any(|(known, _)| known == name)) {
        let known: Vec<_> = BENCHMARKS.iter().map(|(name, _)| *name).collect();
        eprintln!("there is no benchmark `{unknown}`; there are {}", known.join(", "));
        return ExitCode::from(2);
    }
    let mut met = true;
    for (name, benchmark) in BENCHMARKS.iter().filter(|(name, _)| names.is_empty() || names.iter().any(|n| n == name)) {
        eprintln!("running {name}");
        let measurements = benchmark().unwrap_or_else(|error| {
            eprintln!("{name} failed: {error}");
            vec![Measurement::failed(name)]
        });
        for measurement in measurements {
            met &= measurement.is_met();
            println!("{}", measurement.to_json());
        }
    }
    if met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
