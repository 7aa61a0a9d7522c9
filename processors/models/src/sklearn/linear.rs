//! Linear models: weighted sums, and what becomes of them.

use millstream_core::{Error, Result};
use serde_json::json;

use super::skops::Object;
use super::{Learned, Read, Target, classes};
use crate::layers::Layer;

/// What predicts the sum itself.
pub(super) const NUMBERS: &[&str] = &[
    "LinearRegression",
    "Ridge",
    "RidgeCV",
    "Lasso",
    "LassoCV",
    "LassoLars",
    "ElasticNet",
    "ElasticNetCV",
    "Lars",
    "OrthogonalMatchingPursuit",
    "BayesianRidge",
    "ARDRegression",
    "HuberRegressor",
    "QuantileRegressor",
    "TheilSenRegressor",
    "LinearSVR",
    "SGDRegressor",
    "PassiveAggressiveRegressor",
];

/// What makes probabilities of sums by the logistic function, or by softmax.
pub(super) const LOGISTIC: &[&str] = &["LogisticRegression", "LogisticRegressionCV", "LinearDiscriminantAnalysis"];

/// What takes the class with the largest sum, and may have probabilities of its own.
pub(super) const SCORES: &[&str] = &[
    "SGDClassifier",
    "LinearSVC",
    "RidgeClassifier",
    "RidgeClassifierCV",
    "Perceptron",
    "PassiveAggressiveClassifier",
];

pub(super) fn numbers(object: &Object<'_>, features: usize) -> Result<Read> {
    let (sums, weights) = object.matrix("coef_", features)?;
    if sums != 1 {
        return Err(Error::new(format!(
            "the `{}` in it predicts {sums} numbers, and should predict one",
            object.class()
        )));
    }
    let layer = Layer::dense(features, 1, weights, vec![object.number("intercept_")?]);
    Ok((json!({ "type": "linear_regression" }), Target::Number, Learned::Layers(vec![layer])))
}

/// Those of two classes have one sum. Of more, each class has one; those against all others (`ovr`) share out what each has for itself.
pub(super) fn logistic(object: &Object<'_>, features: usize) -> Result<Read> {
    let (classes, layer) = sums(object, features)?;
    let of_all = object.setting("multi_class");
    let against_others = of_all == "ovr" || object.setting("solver") == "liblinear";
    let estimator = match (classes.len(), against_others) {
        (2, _) if of_all == "multinomial" => {
            return Err(Error::new(
                "the `LogisticRegression` in it has the softmax of two sums; fit it by a newer scikit-learn",
            ));
        }
        (2, _) => json!({ "type": "logistic_regression" }),
        (_, true) => json!({ "type": "sgd_classifier", "loss": "log_loss" }),
        (_, false) => json!({ "type": "softmax_regression", "fit_intercept": true }),
    };
    Ok((estimator, Target::Classes(classes), Learned::Layers(vec![layer])))
}

pub(super) fn scores(object: &Object<'_>, features: usize) -> Result<Read> {
    let (classes, layer) = sums(object, features)?;
    let loss = object.setting("loss");
    let own = ["log_loss", "modified_huber", "squared_hinge", "perceptron"].into_iter().find(|own| loss == *own);
    let loss = own.filter(|_| object.class() == "SGDClassifier").unwrap_or("hinge");
    let estimator = json!({ "type": "sgd_classifier", "loss": loss });
    Ok((estimator, Target::Classes(classes), Learned::Layers(vec![layer])))
}

/// The classes, and the weighted sums: one for two classes, else one for each.
fn sums(object: &Object<'_>, features: usize) -> Result<(Vec<super::Class>, Layer)> {
    let classes = classes(object)?;
    let (sums, weights) = object.matrix("coef_", features)?;
    if sums != if classes.len() == 2 { 1 } else { classes.len() } {
        let (class, count) = (object.class(), classes.len());
        return Err(Error::new(format!("the `{class}` in it has {sums} sums for {count} classes")));
    }
    // A number where there is none for each.
    let intercepts = match object.setting("intercept_").as_f64() {
        Some(number) => vec![number; sums],
        None if sums == 1 => vec![object.number("intercept_")?],
        None => object.numbers("intercept_", &[sums])?,
    };
    let kernel: Vec<f64> =
        (0..features).flat_map(|number| weights.iter().skip(number).step_by(features).copied()).collect();
    Ok((classes, Layer::dense(features, sums, kernel, intercepts)))
}
