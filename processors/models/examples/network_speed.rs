//! How many rows of made-up numbers a network learns and predicts in a second, on a device: `network_speed DEVICE FEATURES
//! LAYERS BATCH_ROWS ROWS`, as in `network_speed cuda:0 100 512,512,512 4096 1000000`. Prints JSON.
//!
//! Learning is all that `train` does but for its metrics: every row is predicted, too. `benches/gpu` runs it beside PyTorch.
#![allow(clippy::print_stdout, clippy::print_stderr)]
#![allow(clippy::disallowed_methods, reason = "what is measured is time")]

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, RecordBatch};
use millstream_models::device;
use millstream_models::{Encoder, EstimatorSettings, Features, Missing, Model, Signature};
use serde_json::json;

/// How many rows come at once.
const BATCH_ROWS: usize = 8192;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [device, features, layers, batch_rows, rows] = arguments.as_slice() else {
        return Err("usage: network_speed DEVICE FEATURES LAYERS BATCH_ROWS ROWS".into());
    };
    let units: Vec<usize> = layers.split(',').map(str::parse).collect::<Result<_, _>>()?;
    let layers: Vec<_> = units.iter().map(|units| json!({ "dense": units })).collect();
    let batch_rows: usize = batch_rows.parse()?;
    let estimator = serde_json::from_value(json!({ "type": "network", "layers": layers, "batch_rows": batch_rows }))?;
    let device = device::open(device.parse::<device::DeviceSettings>()?)?;
    let batch = batch(features.parse()?)?;
    let mut model = model(&batch, &estimator)?;
    model.compute_on(&device)?;
    let batches = rows.parse::<usize>()?.div_ceil(BATCH_ROWS);
    let learned = measure(batches, || model.step_batch(&batch).map(|_| ()))?;
    // So that nothing of it is still on its way.
    model.save()?;
    let predicted = measure(batches, || model.predict_batch(&batch).map(|_| ()))?;
    println!("{}", json!({ "learned": learned, "predicted": predicted }));
    Ok(())
}

/// Rows of uniform numbers, labelled by their sum.
fn batch(features: usize) -> Result<RecordBatch, Box<dyn Error>> {
    let value = |place: usize| {
        let mixed = (place as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        ((mixed ^ (mixed >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93) >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    };
    let column = |column: usize| (0..BATCH_ROWS).map(move |row| value(row * features + column));
    let label =
        (0..BATCH_ROWS).map(|row| Some((0..features).map(|column| value(row * features + column)).sum::<f64>() > 0.0));
    let mut columns: Vec<(String, ArrayRef)> = Vec::new();
    for index in 0..features {
        columns.push((format!("x{index}"), Arc::new(Float64Array::from_iter_values(column(index)))));
    }
    columns.push(("y".to_owned(), Arc::new(label.collect::<BooleanArray>())));
    Ok(RecordBatch::try_from_iter(columns)?)
}

fn model(batch: &RecordBatch, estimator: &EstimatorSettings) -> Result<Model, Box<dyn Error>> {
    let schema = batch.schema();
    let names = schema.fields().iter().map(|field| field.name().clone()).filter(|name| name != "y");
    // As they are, as they are in PyTorch.
    let features = Features::Encoded(names.map(|name| (name, Encoder::Raw.into())).collect());
    let signature = Signature::plan(&schema, estimator, &features, "y", None, Missing::Fail);
    Ok(Model::new(signature.map_err(|problems| format!("{problems:?}"))?))
}

/// Rows per second of so many batches, after a tenth of them that is not measured.
fn measure(batches: usize, mut work: impl FnMut() -> millstream_core::Result<()>) -> Result<f64, Box<dyn Error>> {
    (0..batches.div_ceil(10)).try_for_each(|_| work())?;
    let start = Instant::now();
    (0..batches).try_for_each(|_| work())?;
    Ok((batches * BATCH_ROWS) as f64 / start.elapsed().as_secs_f64())
}
