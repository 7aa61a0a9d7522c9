//! Support vector machines: `SVC`, `NuSVC`, `SVR` and `NuSVR`, whose attributes are those of libsvm.

use millstream_core::{Error, Result};
use serde_json::{Value as Json, json};

use super::skops::Object;
use super::{Learned, Read, Target, classes};
use crate::tensors::Tensors;

pub(super) fn classifier(object: &Object<'_>, features: usize) -> Result<Read> {
    let classes = classes(object)?;
    let sizes = object.numbers("_n_support", &[classes.len()])?;
    let sizes: Vec<u64> = sizes.into_iter().map(|size| size as u64).collect();
    read(object, features, "svc", &sizes, Target::Classes(classes))
}

pub(super) fn regressor(object: &Object<'_>, features: usize) -> Result<Read> {
    let (count, _) = object.matrix("support_vectors_", features)?;
    read(object, features, "svr", &[count as u64], Target::Number)
}

/// `sizes` are how many support vectors each class has.
fn read(object: &Object<'_>, features: usize, name: &str, sizes: &[u64], target: Target) -> Result<Read> {
    let (count, vectors) = object.matrix("support_vectors_", features)?;
    let all = sizes.iter().fold(0, |all: u64, size| all.saturating_add(*size));
    if all != count as u64 {
        return Err(Error::new(format!("it has {count} support vectors, and counts {all}")));
    }
    let (others, pairs) =
        (sizes.len().saturating_sub(1).max(1), (sizes.len() * sizes.len().saturating_sub(1) / 2).max(1));
    let gamma = object.number("_gamma")?;
    // What is added there is subtracted here.
    let rho: Vec<f64> = object.numbers("_intercept_", &[pairs])?.into_iter().map(|number| -number).collect();
    let by_column: Vec<f64> =
        (0..features).flat_map(|column| vectors.iter().skip(column).step_by(features).copied()).collect();
    let mut state = Tensors::default();
    state.put_u64("estimator.rows", &[0]);
    put_no_rows(features, &mut state);
    state.put_f64("estimator.vectors.numbers", &[features, count], &by_column);
    state.put_u32("estimator.vectors.slots", &[0, count], &[]);
    state.put_f64("estimator.coefficients", &[others, count], &object.numbers("_dual_coef_", &[others, count])?);
    state.put_u64("estimator.vectors.by_class", sizes);
    state.put_f64("estimator.rho", &[pairs], &rho);
    state.put_f64("estimator.gamma", &[1], &[gamma]);
    Ok((settings(object, name, gamma, count)?, target, Learned::State(state)))
}

/// The window, which has no rows: those that it was fitted to are not known.
fn put_no_rows(features: usize, state: &mut Tensors) {
    state.put_f64("estimator.numbers", &[features, 0], &[]);
    state.put_u32("estimator.slots", &[0, 0], &[]);
    state.put_f64("estimator.targets", &[0], &[]);
    state.put_f64("estimator.weights", &[0], &[]);
}

/// The settings as ours. The window is as large as it has to be for so many support vectors.
fn settings(object: &Object<'_>, name: &str, gamma: f64, count: usize) -> Result<Json> {
    let kernel = object.setting("kernel");
    if !["linear", "rbf", "poly", "sigmoid"].into_iter().any(|known| kernel == known) {
        return Err(Error::new(format!("its kernel is {kernel}, and should be linear, rbf, poly or sigmoid")));
    }
    let mut settings = json!({ "type": name, "kernel": kernel, "window": count.max(1000) });
    if gamma > 0.0 {
        settings["gamma"] = json!(gamma);
    }
    for own in ["C", "degree", "coef0", "epsilon", "tol"] {
        let said = object.setting(own);
        if said.as_f64().is_some_and(|number| number > 0.0 || own == "coef0") {
            settings[own] = said;
        }
    }
    Ok(settings)
}
