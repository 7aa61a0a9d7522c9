//! Whether a flow's model and output are the same bits however its rows are cut into batches, and on however many
//! threads.

use std::collections::BTreeSet;

use millstream_core::{Error, Result, ResultExt};
use serde_json::Value;

use crate::measurement::{Goal, Measurement};
use crate::place;

const THREADS: [usize; 2] = [1, 2];

/// How many different results there are: one, it is hoped.
pub fn run() -> Result<Vec<Measurement>> {
    let few = place::data("flights_20000.parquet").canonicalize()?;
    let few = format!("input.departures.path={}", few.display());
    let measure = |flow: &str, rows: &str, path: Option<&String>, sizes: &[usize]| -> Result<Measurement> {
        let count = different(flow, path, sizes)? as f64;
        let runs = sizes.len() * THREADS.len();
        let sizes: Vec<_> = sizes.iter().map(usize::to_string).collect();
        let sizes = sizes.join(", ");
        let name = format!("bits: different results of `{flow}`, {rows} flights, batches of {sizes}, {runs} runs");
        Ok(Measurement::new(name, "", count, Goal::AtMost(1.0)))
    };
    Ok(vec![
        measure("flights", "20,000", Some(&few), &[1, 8192])?,
        measure("flights", "all", None, &[7, 1024, 8192])?,
        measure("network", "20,000", Some(&few), &[1, 5000])?,
        measure("network", "all", None, &[7, 500, 5000])?,
    ])
}

fn different(flow: &str, path: Option<&String>, sizes: &[usize]) -> Result<usize> {
    let mut results = BTreeSet::new();
    for batch_rows in sizes {
        for threads in THREADS {
            let mut sets = vec![format!("input.departures.batch_rows={batch_rows}")];
            sets.extend(path.cloned());
            results.insert(result(flow, &sets, threads)?);
        }
    }
    Ok(results.len())
}

/// The fingerprint of the model, and the rows that were written.
fn result(flow: &str, sets: &[String], threads: usize) -> Result<(String, Vec<u8>)> {
    let folder = place::empty_folder("bits")?;
    let mut command = place::millstream_run(&folder, &place::flow(&format!("{flow}.toml")), sets)?;
    let summary = place::json_of(command.args(["--json", "--threads", &threads.to_string()]))?;
    let sha256 = summary.pointer(&format!("/models/{flow}/sha256")).and_then(Value::as_str);
    let sha256 = sha256.ok_or_else(|| Error::new(format!("there is no sha256 in {summary}")))?;
    let rows = std::fs::read(folder.join("predictions.ndjson")).doing(|| "reading the predictions")?;
    if rows.is_empty() {
        return Err(Error::new("there are no predictions"));
    }
    Ok((sha256.to_owned(), rows))
}
