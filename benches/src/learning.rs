//! How many rows logistic regression predicts, scores and learns in a second, on one thread.

use std::time::Instant;

use arrow::array::RecordBatch;
use millstream_core::{Error, Result, ResultExt};
use millstream_models::{EstimatorSettings, Features, Missing, ScoredModel, Signature};
use serde_json::json;

use crate::measurement::{Goal, Measurement, median, rate};
use crate::nodes::read_batches;
use crate::{place, python};

const BATCH_ROWS: usize = 8192;
const RUNS: usize = 5;

/// Ours from Arrow batches in memory, beside Vowpal Wabbit from its binary cache, in turns; and River's speed.
pub fn run() -> Result<Vec<Measurement>> {
    let batches = read_batches(&place::data("synth28.parquet"), BATCH_ROWS, usize::MAX)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        ours.push(learn(&batches)?);
        let cached = python::vowpal_wabbit(&place::data("synth28.vw"))?;
        theirs.push(place::number(&cached, "/rows")? / place::number(&cached, "/seconds")?);
    }
    let (ours, theirs) = (median(ours), median(theirs));
    let river = python::river(&place::data("synth28.parquet"))?;
    let river = place::number(&river, "/rows")? / place::number(&river, "/seconds")?;
    let measure = |other, goal, reference| {
        let name = format!("learning: synth28 from memory, one thread; beside {other}");
        Measurement::new(name, "rows/s", ours, goal).beside(reference)
    };
    Ok(vec![
        measure("Vowpal Wabbit's cache", Goal::Times(4.0), theirs),
        measure("River's `learn_one`", Goal::Shown, river),
    ])
}

/// Rows per second of one pass.
fn learn(batches: &[RecordBatch]) -> Result<f64> {
    let mut model = ScoredModel::new(signature(batches)?);
    let start = Instant::now();
    for batch in batches {
        model.step_batch(batch)?;
    }
    Ok(rate(model.model().rows(), start.elapsed()))
}

fn signature(batches: &[RecordBatch]) -> Result<Signature> {
    let schema = batches.first().ok_or_else(|| Error::new("the file has no rows"))?.schema();
    let names = schema.fields().iter().map(|field| field.name().clone()).filter(|name| name != "label");
    let features = Features::Listed(names.collect());
    let settings = json!({ "type": "logistic_regression", "learning_rate": 0.01 });
    let estimator: EstimatorSettings = serde_json::from_value(settings).doing(|| "reading the settings")?;
    let planned = Signature::plan(&schema, &estimator, &features, "label", None, Missing::Fail);
    planned.map_err(|problems| Error::new(format!("{problems:?}")))
}
