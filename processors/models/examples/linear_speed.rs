//! How fast logistic regression learns rows of 1 to 1,000 features, and how fast the memory is that it reads and writes on the
//! way; and `sgd_classifier` with a million slots and a strong penalty. Prints JSON, a second being one of computing.
#![allow(clippy::print_stdout, clippy::print_stderr)]
#![allow(clippy::disallowed_methods, reason = "what is measured is time")]

use std::error::Error;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, RecordBatch, StringArray};
use millstream_models::{Encoder, EstimatorSettings, Features, Missing, Model, Signature};
use serde_json::json;

const ROWS: usize = 8192;

fn main() -> Result<(), Box<dyn Error>> {
    let logistic = serde_json::from_value(json!({ "type": "logistic_regression" }))?;
    for features in [1, 10, 100, 1000] {
        let rate = rows_per_second(&numbers(features)?, &logistic, None)?;
        // Read: the row, and of each feature five figures of its statistics, and its weight. Written: four and the weight.
        let bytes = rate * features as f64 * 8.0 * 14.0;
        println!("{}", json!({ "features": features, "rows/s": rate, "GB/s through the statistics": bytes / 1e9 }));
    }
    println!("{}", json!({ "GB/s of a copy in the cache": copy_speed(6000)?, "of memory": copy_speed(1 << 25)? }));
    let strong =
        json!({ "type": "sgd_classifier", "loss": "log_loss", "learning_rate": "constant", "eta0": 0.01, "alpha": 50 });
    let rate = rows_per_second(&words()?, &serde_json::from_value(strong)?, Some(Encoder::Hash(1 << 20)))?;
    println!("{}", json!({ "slots": 1 << 20, "alpha": 50, "rows/s": rate }));
    Ok(())
}

fn noise(row: usize, salt: usize) -> f64 {
    let mixed = (row as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(salt as u64).rotate_left(31);
    (mixed.wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 11) as f64 / (1_u64 << 53) as f64
}

fn labelled(columns: impl Iterator<Item = (String, ArrayRef)>) -> Result<RecordBatch, Box<dyn Error>> {
    let labels: BooleanArray = (0..ROWS).map(|row| Some(noise(row, 0) < 0.4)).collect();
    let label: (String, ArrayRef) = ("y".to_owned(), Arc::new(labels));
    Ok(RecordBatch::try_from_iter(columns.chain([label]))?)
}

fn numbers(features: usize) -> Result<RecordBatch, Box<dyn Error>> {
    let column = |salt| -> ArrayRef { Arc::new(Float64Array::from_iter_values((0..ROWS).map(|row| noise(row, salt)))) };
    labelled((0..features).map(|feature| (format!("x{feature}"), column(feature + 1))))
}

fn words() -> Result<RecordBatch, Box<dyn Error>> {
    let words = StringArray::from_iter_values((0..ROWS).map(|row| format!("{}", (noise(row, 7) * 1e6) as u64)));
    labelled([("word".to_owned(), Arc::new(words) as ArrayRef)].into_iter())
}

fn rows_per_second(
    rows: &RecordBatch,
    estimator: &EstimatorSettings,
    encoder: Option<Encoder>,
) -> Result<f64, Box<dyn Error>> {
    let names =
        rows.schema().fields().iter().map(|field| field.name().clone()).filter(|name| name != "y").collect::<Vec<_>>();
    let features = match encoder {
        None => Features::Listed(names),
        Some(encoder) => Features::Encoded(names.into_iter().map(|name| (name, encoder.into())).collect()),
    };
    let signature = Signature::plan(&rows.schema(), estimator, &features, "y", None, Missing::Fail)
        .map_err(|problems| format!("{problems:?}"))?;
    let mut model = Model::new(signature);
    model.step_batch(rows)?;
    let (start, before) = (Instant::now(), cpu_seconds()?);
    while start.elapsed().as_secs_f64() < 2.0 {
        model.step_batch(rows)?;
    }
    Ok((model.rows() - ROWS as u64) as f64 / (cpu_seconds()? - before))
}

/// For how long this process has been computing: what else the machine does matters less than to the time that passes.
fn cpu_seconds() -> Result<f64, Box<dyn Error>> {
    let statistics = std::fs::read_to_string("/proc/self/schedstat")?;
    Ok(statistics.split(' ').next().unwrap_or_default().parse::<f64>()? / 1e9)
}

/// Bytes that are read and written each second, in billions, where so many numbers are copied again and again.
fn copy_speed(numbers: usize) -> Result<f64, Box<dyn Error>> {
    let (from, mut to) = (vec![1.0_f64; numbers], vec![2.0_f64; numbers]);
    let (start, before, mut copied) = (Instant::now(), cpu_seconds()?, 0);
    while start.elapsed().as_secs_f64() < 1.0 {
        to.copy_from_slice(black_box(&from));
        black_box(&mut to);
        copied += numbers;
    }
    Ok(copied as f64 * 16.0 / (cpu_seconds()? - before) / 1e9)
}
