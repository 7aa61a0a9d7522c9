//! How fast support vector machines are fitted and predict, how fast random Fourier features are learned from, and how good both are, on rows of 28 numbers: 10,000 to learn from and as
//! many to predict. With a path, the rows are read from that CSV file (numbers, and the label 0 or 1 behind them), so that others can be given the same. Prints JSON,
//! a second being one of computing.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::error::Error;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, RecordBatch};
use millstream_models::{Encoder, Features, Missing, Model, Signature, limit_threads};
use serde_json::{Value, json};

const ROWS: usize = 10_000;
const NUMBERS: usize = 28;

fn main() -> Result<(), Box<dyn Error>> {
    limit_threads(1);
    let rows = match std::env::args().nth(1) {
        Some(path) => read(&std::fs::read_to_string(path)?),
        None => drawn(),
    };
    let (learned, predicted) = (batch(&rows[..ROWS])?, batch(&rows[ROWS..2 * ROWS])?);
    let svc = json!({ "type": "svc", "window": ROWS, "refit": ROWS });
    let line = json!({ "type": "logistic_regression", "learning_rate": 2.0 });
    let waves = json!({ "type": "rbf_sampler", "n_components": 256, "estimator": line });
    let neighbours = json!({ "type": "k_neighbors_classifier", "window": 1000 });
    for estimator in [svc, waves, neighbours] {
        println!("{}", measured(&learned, &predicted, &estimator)?);
    }
    Ok(())
}

fn measured(learned: &RecordBatch, predicted: &RecordBatch, estimator: &Value) -> Result<Value, Box<dyn Error>> {
    let numbers = (0..NUMBERS).map(|number| (format!("x{number}"), Encoder::Raw.into())).collect();
    let kind = serde_json::from_value(estimator.clone())?;
    let signature = Signature::plan(&learned.schema(), &kind, &Features::Encoded(numbers), "y", None, Missing::Fail);
    let mut model = Model::new(signature.map_err(|problems| format!("{problems:?}"))?);
    let before = cpu_seconds()?;
    // All but the last row, so that the last fit is apart.
    model.step_batch(&learned.slice(0, ROWS - 1))?;
    let until_last = cpu_seconds()?;
    model.step_batch(&learned.slice(ROWS - 1, 1))?;
    let until_fit = cpu_seconds()?;
    let predictions = model.predict_batch(predicted)?;
    let end = cpu_seconds()?;
    let even = if estimator["type"] == "svc" { 0.0 } else { 0.5 };
    let labels = predicted.column(NUMBERS).as_any().downcast_ref::<BooleanArray>().ok_or("no labels")?;
    let right = (0..ROWS).filter(|row| (predictions.row(*row)[0] > even) == labels.value(*row)).count();
    Ok(json!({
        "estimator": estimator,
        "learned rows/s": (ROWS - 1) as f64 / (until_last - before),
        "the last row, s": until_fit - until_last,
        "predicted rows/s": ROWS as f64 / (end - until_fit),
        "accuracy": right as f64 / ROWS as f64,
    }))
}

fn read(text: &str) -> Vec<Vec<f64>> {
    text.lines().map(|line| line.split(',').filter_map(|cell| cell.parse().ok()).collect()).collect()
}

/// Two classes by how far half of the numbers are from 0.
fn drawn() -> Vec<Vec<f64>> {
    let noise = |row: usize, salt: usize| {
        let mixed = (row as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(salt as u64).rotate_left(31);
        (mixed.wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 11) as f64 / (1_u64 << 53) as f64 * 4.0 - 2.0
    };
    let row = |row: usize| {
        let mut numbers: Vec<_> = (0..NUMBERS).map(|number| noise(row, number)).collect();
        let square: f64 = numbers[..NUMBERS / 2].iter().map(|number| number * number).sum();
        numbers.push(f64::from(u8::from(square > NUMBERS as f64 * 2.0 / 3.0)));
        numbers
    };
    (0..2 * ROWS).map(row).collect()
}

fn batch(rows: &[Vec<f64>]) -> Result<RecordBatch, Box<dyn Error>> {
    let column =
        |number: usize| -> ArrayRef { Arc::new(rows.iter().map(|row| Some(row[number])).collect::<Float64Array>()) };
    let numbers = (0..NUMBERS).map(|number| (format!("x{number}"), column(number)));
    let labels: BooleanArray = rows.iter().map(|row| Some(row[NUMBERS] > 0.0)).collect();
    let label: (String, ArrayRef) = ("y".to_owned(), Arc::new(labels));
    Ok(RecordBatch::try_from_iter(numbers.chain([label]))?)
}

/// For how long this process has been computing: what else the machine does matters less than to the time that passes.
fn cpu_seconds() -> Result<f64, Box<dyn Error>> {
    let statistics = std::fs::read_to_string("/proc/self/schedstat")?;
    Ok(statistics.split(' ').next().unwrap_or_default().parse::<f64>()? / 1e9)
}
