//! How many rows a network of 64 and 32 units predicts, scores and learns in a second, on one thread, and how well.

use std::time::Instant;

use arrow::array::RecordBatch;
use millstream_core::{Error, Result, ResultExt};
use millstream_models::{EstimatorSettings, Features, Missing, ScoredModel, Signature};
use serde_json::json;

use crate::measurement::{Goal, Measurement, median, rate};
use crate::nodes::read_batches;
use crate::{place, python};

const BATCH_ROWS: usize = 8192;
const RUNS: usize = 3;

/// Four times the usual, which suits batches as large as scikit-learn's. It makes two steps of each, 200 rows and the rest.
const LEARNING_RATE: f64 = 0.004;

/// Ours with mini-batches of 256 and of 32 rows, beside scikit-learn's with 256, in turns.
pub fn run() -> Result<Vec<Measurement>> {
    let path = place::data("synth28.parquet");
    let batches = read_batches(&path, BATCH_ROWS, usize::MAX)?;
    let (mut of_256, mut of_32, mut theirs) = (Runs::default(), Runs::default(), Runs::default());
    for _ in 0..RUNS {
        of_256.add(learn(&batches, 256)?);
        of_32.add(learn(&batches, 32)?);
        let figures = python::scikit_learn_network(&path, 256)?;
        let rate = place::number(&figures, "/rows")? / place::number(&figures, "/seconds")?;
        theirs.add((rate, place::number(&figures, "/accuracy")?));
    }
    let name = |rows: usize, what: &str| format!("networks: 64-32 on synth28, mini-batches of {rows}, {what}");
    let speed = |rows, ours: &Runs, goal| {
        let name = name(rows, "one thread; beside scikit-learn's of 256");
        Measurement::new(name, "rows/s", ours.rate(), Goal::Times(goal)).beside(theirs.rate())
    };
    let accuracy = |rows, ours: &Runs, goal| {
        let name = name(rows, "accuracy; beside scikit-learn's of 256");
        Measurement::new(name, "", ours.accuracy, Goal::AtLeast(goal)).beside(theirs.accuracy)
    };
    Ok(vec![
        speed(256, &of_256, 8.0),
        accuracy(256, &of_256, 0.947),
        speed(32, &of_32, 6.0),
        accuracy(32, &of_32, 0.968),
    ])
}

/// Some runs of one system.
#[derive(Default)]
struct Runs {
    rates: Vec<f64>,
    /// The same in every run.
    accuracy: f64,
}

impl Runs {
    fn add(&mut self, (rate, accuracy): (f64, f64)) {
        self.rates.push(rate);
        self.accuracy = accuracy;
    }

    fn rate(&self) -> f64 {
        median(self.rates.iter().copied())
    }
}

/// Rows per second of one pass, and the accuracy of the predictions, each made before its row was learned.
fn learn(batches: &[RecordBatch], batch_rows: usize) -> Result<(f64, f64)> {
    let mut model = ScoredModel::new(signature(batches, batch_rows)?);
    let start = Instant::now();
    for batch in batches {
        model.step_batch(batch)?;
    }
    let rate = rate(model.model().rows(), start.elapsed());
    Ok((rate, model.metrics().get("accuracy").unwrap_or(f64::NAN)))
}

fn signature(batches: &[RecordBatch], batch_rows: usize) -> Result<Signature> {
    let schema = batches.first().ok_or_else(|| Error::new("the file has no rows"))?.schema();
    let names = schema.fields().iter().map(|field| field.name().clone()).filter(|name| name != "label");
    let features = Features::Listed(names.collect());
    let layers = json!([{ "dense": 64 }, { "dense": 32 }]);
    let optimizer = json!({ "type": "adam", "learning_rate": LEARNING_RATE });
    let settings =
        json!({ "type": "network", "layers": layers, "optimizer": optimizer, "batch_rows": batch_rows, "seed": 42 });
    let estimator: EstimatorSettings = serde_json::from_value(settings).doing(|| "reading the settings")?;
    let planned = Signature::plan(&schema, &estimator, &features, "label", None, Missing::Fail);
    planned.map_err(|problems| Error::new(format!("{problems:?}")))
}
