//! Compares every single prediction with River's, on the fixtures that `data/make_fixtures.py` wrote, and `data/make_neighbours_fixtures.py`.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, RecordBatch, StringArray};
use millstream_models::{Class, EstimatorSettings, Features, Missing, Model, ScoredModel, Signature};
use serde_json::json;

/// A fixture: its features and label `y` as rows, and behind them River's predictions.
struct Fixture {
    rows: RecordBatch,
    features: Vec<String>,
    /// Row by row what River predicts.
    river: Vec<Vec<f64>>,
    /// The names of the columns of `river`.
    outputs: Vec<String>,
}

fn fixture(text: &str) -> Fixture {
    let mut lines = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let header = lines.next().unwrap();
    let lines: Vec<_> = lines.collect();
    let label = header.iter().position(|name| *name == "y").unwrap();
    let columns = header[..=label].iter().enumerate().map(|(index, name)| (*name, column(&lines, index)));
    let river = lines.iter().map(|line| line[label + 1..].iter().map(|cell| cell.parse().unwrap()).collect());
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect();
    Fixture {
        rows: RecordBatch::try_from_iter(columns).unwrap(),
        features: names(&header[..label]),
        river: river.collect(),
        outputs: names(&header[label + 1..]),
    }
}

fn column(lines: &[Vec<&str>], index: usize) -> ArrayRef {
    let cells = lines.iter().map(|line| line[index]);
    if cells.clone().all(|cell| cell.parse::<f64>().is_ok()) {
        return Arc::new(cells.map(|cell| cell.parse::<f64>().ok()).collect::<Float64Array>());
    }
    if cells.clone().all(|cell| cell == "True" || cell == "False") {
        return Arc::new(cells.map(|cell| Some(cell == "True")).collect::<BooleanArray>());
    }
    Arc::new(cells.map(Some).collect::<StringArray>())
}

/// The largest distance between a prediction and River's.
fn distance(fixture: &Fixture, estimator: EstimatorSettings, classes: Option<&[Class]>) -> f64 {
    let features = Features::Listed(fixture.features.clone());
    let schema = fixture.rows.schema();
    let signature = Signature::plan(&schema, &estimator, &features, "y", classes, Missing::Fail).unwrap();
    let predictions = Model::new(signature).step_batch(&fixture.rows).unwrap();
    assert_eq!(predictions.len(), fixture.river.len());
    let mut largest = 0.0_f64;
    for (row, river) in fixture.river.iter().enumerate() {
        // River predicts no class before it has seen one.
        if river.iter().all(|value| *value == 0.0) && classes.is_some() {
            continue;
        }
        for (ours, theirs) in predictions.row(row).iter().zip(river) {
            largest = largest.max((ours - theirs).abs());
        }
    }
    largest
}

fn settings(name: &str, learning_rate: f64, l2: f64) -> EstimatorSettings {
    serde_json::from_value(json!({ "type": name, "learning_rate": learning_rate, "l2": l2 })).unwrap()
}

#[test]
fn logistic_regression_on_bananas() {
    let fixture = fixture(include_str!("data/bananas.csv"));
    let estimator = settings("logistic_regression", 0.01, 0.0);
    assert!(distance(&fixture, estimator, None) < 1e-9);
}

#[test]
fn logistic_regression_with_penalty_on_phishing() {
    let fixture = fixture(include_str!("data/phishing.csv"));
    let estimator = settings("logistic_regression", 0.1, 0.01);
    assert!(distance(&fixture, estimator, None) < 1e-9);
}

#[test]
fn softmax_regression_on_image_segments() {
    let fixture = fixture(include_str!("data/segments.csv"));
    let classes: Vec<_> = fixture.outputs.iter().cloned().map(Class::Text).collect();
    let estimator = settings("softmax_regression", 0.01, 0.0);
    assert!(distance(&fixture, estimator, Some(&classes)) < 1e-9);
}

#[test]
fn linear_regression_on_approval() {
    let fixture = fixture(include_str!("data/approval.csv"));
    let estimator = settings("linear_regression", 0.01, 0.0);
    assert!(distance(&fixture, estimator, None) < 1e-9);
}

#[test]
fn linear_regression_with_categories_and_penalty_on_chicks() {
    let fixture = fixture(include_str!("data/chicks.csv"));
    let estimator = settings("linear_regression", 0.01, 0.001);
    assert!(distance(&fixture, estimator, None) < 1e-9);
}

/// What River's nearest neighbours predict for the first rows of a fixture, in place of what is there.
fn by_neighbours(mut fixture: Fixture, name: &str) -> Fixture {
    let mut lines = include_str!("data/k_neighbors.csv").lines().map(|line| line.split(',').collect::<Vec<_>>());
    let column = lines.next().unwrap().iter().position(|column| *column == name).unwrap();
    fixture.river = lines.filter_map(|line| Some(vec![line[column].parse().ok()?])).collect();
    fixture
}

fn neighbours(name: &str, n_neighbors: u32, window: u32, weights: &str) -> EstimatorSettings {
    let table = json!({ "type": name, "n_neighbors": n_neighbors, "window": window, "weights": weights });
    serde_json::from_value(table).unwrap()
}

#[test]
fn nearest_neighbours_on_bananas() {
    let fixture = by_neighbours(fixture(include_str!("data/bananas.csv")), "bananas");
    let estimator = neighbours("k_neighbors_classifier", 7, 150, "distance");
    let classes = [Class::Boolean(false), Class::Boolean(true)];
    assert!(distance(&fixture, estimator, Some(&classes)) < 1e-9);
}

#[test]
fn nearest_neighbours_on_approval() {
    let fixture = by_neighbours(fixture(include_str!("data/approval.csv")), "approval");
    assert!(distance(&fixture, neighbours("k_neighbors_regressor", 4, 100, "distance"), None) < 1e-8);
}

#[test]
fn nearest_neighbours_that_count_the_same_on_approval() {
    let fixture = by_neighbours(fixture(include_str!("data/approval.csv")), "approval_uniform");
    assert!(distance(&fixture, neighbours("k_neighbors_regressor", 4, 1000, "uniform"), None) < 1e-9);
}

/// The mean error of an estimator over the rows of a fixture, each predicted before it is learned.
fn mean_error(fixture: &Fixture, estimator: &serde_json::Value) -> f64 {
    let estimator = serde_json::from_value(estimator.clone()).unwrap();
    let features = Features::Listed(fixture.features.clone());
    let schema = fixture.rows.schema();
    let signature = Signature::plan(&schema, &estimator, &features, "y", None, Missing::Fail).unwrap();
    let mut model = ScoredModel::new(signature);
    model.step_batch(&fixture.rows).unwrap();
    model.metrics().get("mae").unwrap()
}

/// `data/regression_trees.py` says how large River's errors are: those of its tree with the same settings behind a `StandardScaler`, the best of the
/// trees that it tries (grace periods of 50 and 200, `delta` of 1e-7 and 1e-3, all leaves), and those of its forest of ten behind one.
#[test]
fn trees_of_numbers_are_as_good_as_river_s() {
    let approval = fixture(include_str!("data/approval.csv"));
    let error = |estimator| mean_error(&approval, &estimator);
    let tree = error(json!({ "type": "hoeffding_tree_regressor" }));
    let same = error(json!({ "type": "hoeffding_tree_regressor", "grace_period": 200, "delta": 1e-7 }));
    let forest = error(json!({ "type": "adaptive_random_forest_regressor" }));
    assert!(tree < 1.115 && same < 1.175 && forest < 1.036, "{tree}, {same}, {forest}");
}
