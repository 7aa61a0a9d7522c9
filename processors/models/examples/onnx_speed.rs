//! How many rows a second a model of others predicts, which is an ONNX file over numbers: `onnx_speed FILE [ROWS]`. Needs onnxruntime, as the program does;
//! `benches/python/onnxruntime_forest.py` writes a file, and measures onnxruntime in Python beside it. Prints JSON.
#![allow(clippy::print_stdout, clippy::print_stderr)]
#![allow(clippy::disallowed_methods, reason = "what is measured is time")]

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, Float64Array, RecordBatch};
use millstream_models::{Import, Model};
use serde_json::json;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().ok_or("which file?")?;
    let rows = arguments.next().map_or(Ok(1024), |rows| rows.parse())?;
    let model = Model::import(&std::fs::read(file)?, &Import::default())?;
    let batch = batch(&model, rows)?;
    let mut best = f64::MAX;
    for _ in 0..200 {
        let start = Instant::now();
        model.predict_batch(&batch)?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    println!("{}", json!({ "rows": rows, "µs": best * 1e6, "rows/s": rows as f64 / best }));
    Ok(())
}

/// Numbers between -2 and 2, the same as in Python.
fn batch(model: &Model, rows: usize) -> Result<RecordBatch, Box<dyn Error>> {
    let features = &model.signature().features;
    let number = |row: usize, column: usize| ((row * features.len() + column) * 7919 % 1000) as f64 / 250.0 - 2.0;
    let column =
        |at: usize| -> ArrayRef { Arc::new(Float64Array::from_iter_values((0..rows).map(|row| number(row, at)))) };
    Ok(RecordBatch::try_from_iter(features.iter().enumerate().map(|(at, feature)| (&feature.name, column(at))))?)
}
