//! Nearest neighbours: `KNeighborsClassifier` and `KNeighborsRegressor`, whose rows become the window.

use millstream_core::{Error, Result};
use serde_json::json;

use super::skops::Object;
use super::{Learned, Read, Target, classes};
use crate::tensors::Tensors;

pub(super) fn classifier(object: &Object<'_>, features: usize) -> Result<Read> {
    let classes = classes(object)?;
    let read = read(object, features, "k_neighbors_classifier", |target| {
        target >= 0.0 && target < classes.len() as f64 && target.fract() == 0.0
    })?;
    Ok((read.0, Target::Classes(classes), read.1))
}

pub(super) fn regressor(object: &Object<'_>, features: usize) -> Result<Read> {
    let read = read(object, features, "k_neighbors_regressor", |_| true)?;
    Ok((read.0, Target::Number, read.1))
}

/// The settings and the window of rows whose targets are all such.
fn read(
    object: &Object<'_>,
    features: usize,
    name: &str,
    is_target: impl Fn(f64) -> bool,
) -> Result<(serde_json::Value, Learned)> {
    let (metric, weights) = (object.setting("effective_metric_"), object.setting("weights"));
    if metric != "euclidean" {
        return Err(Error::new(format!("its metric is {metric}, and should be euclidean")));
    }
    if weights != "uniform" && weights != "distance" {
        return Err(Error::new("its weights are a function; `uniform` and `distance` are taken over"));
    }
    let (rows, numbers) = object.matrix("_fit_X", features)?;
    let targets = object.array("_y")?.numbers()?;
    if targets.len() != rows || !targets.iter().all(|target| target.is_finite() && is_target(*target)) {
        return Err(Error::new(format!("its {rows} rows should have a label each, and one that it knows")));
    }
    let by_column: Vec<f64> =
        (0..features).flat_map(|column| numbers.iter().skip(column).step_by(features).copied()).collect();
    let mut state = Tensors::default();
    state.put_f64("estimator.numbers", &[features, rows], &by_column);
    state.put_u32("estimator.slots", &[0, rows], &[]);
    state.put_f64("estimator.targets", &[rows], &targets);
    let settings =
        json!({ "type": name, "n_neighbors": object.setting("n_neighbors"), "weights": weights, "window": rows });
    Ok((settings, Learned::State(state)))
}
