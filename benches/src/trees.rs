//! How well a Hoeffding tree predicts real rows, and how many it predicts, scores and learns in a second, on one thread.

use std::time::Instant;

use arrow::array::RecordBatch;
use millstream_core::{Error, Result, ResultExt};
use millstream_models::{Class, EstimatorSettings, Features, Missing, ScoredModel, Signature};
use serde_json::json;

use crate::measurement::{Goal, Measurement, rate};
use crate::nodes::read_batches;
use crate::{place, python};

const BATCH_ROWS: usize = 8192;

/// River's takes a minute for them.
const RIVER_ROWS: usize = 20_000;

/// The kinds of forest of Covertype by 54 numbers, and the price of electricity, each from Arrow batches in memory, with the settings as they are.
pub fn run() -> Result<Vec<Measurement>> {
    let forest: Vec<_> = (1..=7).map(Class::Integer).collect();
    let [covtype, elec2] =
        ["covtype7.parquet", "elec2.parquet"].map(|file| read_batches(&place::data(file), BATCH_ROWS, usize::MAX));
    let (accuracy, speed) = learn(&covtype?, Some(&forest))?;
    let river = python::river_tree(&place::data("covtype7.parquet"), RIVER_ROWS)?;
    let river = place::number(&river, "/rows")? / place::number(&river, "/seconds")?;
    let (of_elec2, _) = learn(&elec2?, None)?;
    let name = |what: &str| format!("trees: `hoeffding_tree`, {what}");
    Ok(vec![
        Measurement::new(
            name("Covertype, 7 classes, 100,000 rows in the order of the file"),
            "accuracy",
            accuracy,
            Goal::AtLeast(0.855),
        ),
        Measurement::new(name("Covertype; beside River's"), "rows/s", speed, Goal::AtLeast(150_000.0)).beside(river),
        Measurement::new(name("Elec2"), "accuracy", of_elec2, Goal::Shown),
    ])
}

/// The accuracy and the rows per second of one pass.
fn learn(batches: &[RecordBatch], classes: Option<&[Class]>) -> Result<(f64, f64)> {
    let mut model = ScoredModel::new(signature(batches, classes)?);
    let start = Instant::now();
    for batch in batches {
        model.step_batch(batch)?;
    }
    let speed = rate(model.model().rows(), start.elapsed());
    Ok((model.metrics().get("accuracy").unwrap_or(f64::NAN), speed))
}

fn signature(batches: &[RecordBatch], classes: Option<&[Class]>) -> Result<Signature> {
    let schema = batches.first().ok_or_else(|| Error::new("the file has no rows"))?.schema();
    let names = schema.fields().iter().map(|field| field.name().clone()).filter(|name| name != "label");
    let features = Features::Listed(names.collect());
    let estimator: EstimatorSettings =
        serde_json::from_value(json!({ "type": "hoeffding_tree" })).doing(|| "reading the settings")?;
    let planned = Signature::plan(&schema, &estimator, &features, "label", classes, Missing::Fail);
    planned.map_err(|problems| Error::new(format!("{problems:?}")))
}
