//! What reading text costs in a flow, beside DuckDB in process: rows per second of CPU time, on one thread.

use millstream_core::{Error, Result};

use crate::measurement::{Goal, Measurement, median};
use crate::own_process::numbers_of;
use crate::{flow, place, python, sql};

/// How often the two take turns.
const TURNS: usize = 5;

/// How many rows the files have.
const ROWS: f64 = 1e6;

/// The rows per CPU second of both, for NDJSON and for CSV.
pub fn run() -> Result<Vec<Measurement>> {
    ["ndjson", "csv"].into_iter().map(beside_duckdb).collect()
}

fn beside_duckdb(format: &str) -> Result<Measurement> {
    let query = sql::query_of_the_flow()?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        let [left, seconds] = numbers_of(&["text", format])?;
        let other = python::duckdb(&file(format), &query)?;
        let left_of_other = place::number(&other, "/rows")?;
        if left != left_of_other {
            return Err(Error::new(format!("of {format}, {left} rows are left here, and {left_of_other} in DuckDB")));
        }
        ours.push(ROWS / seconds);
        theirs.push(ROWS / place::number(&other, "/seconds")?);
    }
    let name = format!("text: {format} → sql → drop, 1 M rows; beside DuckDB in process");
    Ok(Measurement::new(name, "rows/CPU s", median(ours), Goal::Shown).beside(median(theirs)))
}

/// The flow over the file of a format. Gives the rows that the query leaves.
pub fn millstream(format: &str) -> Result<u64> {
    flow::rows_into("payments.toml", &settings(format), 1, "dropped")
}

/// What lets the flow read the file of a format in place of that of Parquet.
pub fn settings(format: &str) -> [String; 2] {
    let types = r#"{ id = "int64", quantity = "int64", price = "float64", discount = "float64", country = "utf8", at = "timestamp" }"#;
    [format!("input.payments.path={}", file(format).display()), format!("input.payments.schema={types}")]
}

fn file(format: &str) -> std::path::PathBuf {
    place::data(&format!("payments.{format}"))
}
