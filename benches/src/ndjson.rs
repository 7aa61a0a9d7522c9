//! What decoding JSON costs in a flow, beside Arrow's decoder alone: rows per second of CPU time.

use std::fs::File;
use std::io::BufReader;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow::json::ReaderBuilder;
use millstream_core::Result;

use crate::measurement::{Goal, Measurement};
use crate::own_process::compare_cpu;
use crate::{flow, place, text};

/// What Arrow's readers take by default in flows.
const BATCH_ROWS: usize = 8192;

/// The rows per CPU second of both.
pub fn run() -> Result<Vec<Measurement>> {
    let (rows, [ours, alone]) = compare_cpu("ndjson-millstream", "ndjson-arrow")?;
    let name = "ndjson: NDJSON → sql → drop, 1 M rows; beside arrow-json's decoding alone";
    Ok(vec![Measurement::new(name, "rows/CPU s", rows / ours, Goal::Times(0.9)).beside(rows / alone)])
}

/// The flow, with the file of JSON in place of that of Parquet. Gives the rows that it has read.
pub fn millstream() -> Result<u64> {
    flow::rows_into("payments.toml", &text::settings("ndjson"), 1, "revenue")
}

/// Arrow's decoder alone. Gives the rows that it has read.
pub fn arrow_json() -> Result<u64> {
    let field = |name, data_type| Field::new(name, data_type, false);
    let schema = Schema::new(vec![
        field("id", DataType::Int64),
        field("quantity", DataType::Int64),
        field("price", DataType::Float64),
        field("discount", DataType::Float64),
        field("country", DataType::Utf8),
        field("at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
    ]);
    let file = BufReader::new(File::open(place::data("payments.ndjson"))?);
    let reader = ReaderBuilder::new(Arc::new(schema)).with_batch_size(BATCH_ROWS).build(file)?;
    let mut rows = 0;
    for batch in reader {
        rows += batch?.num_rows() as u64;
    }
    Ok(rows)
}
