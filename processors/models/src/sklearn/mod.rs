//! What scikit-learn has fitted, as files of skops have it: estimators of which there is one here that predicts the same become that one.
//!
//! Attributes are read, and nothing is unpickled or run. A line of [`KINDS`] says which classes of scikit-learn 1.9 a function reads.

mod clusters;
mod linear;
mod neighbours;
mod network;
mod npy;
mod scaling;
mod skops;
mod svm;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use millstream_core::{Error, Result, ResultExt as _};
use serde_json::Value as Json;

pub(crate) use scaling::Scaling;
pub(crate) use skops::is_zip;

use crate::estimator::EstimatorSettings;
use crate::label::Class;
use crate::layers::Layer;
use crate::tensors::Tensors;
use npy::Values;
use skops::{Object, Skops};

/// A model of scikit-learn, as one of ours.
#[derive(Debug)]
pub(crate) struct Fitted {
    /// The names of the features, if it was fitted to columns with names.
    pub names: Option<Vec<String>>,
    /// How many features there are.
    pub features: usize,
    /// What becomes of their numbers before all else, if they are not taken as they are.
    pub scaling: Option<Scaling>,
    pub estimator: EstimatorSettings,
    pub target: Target,
    pub learned: Learned,
}

/// What is predicted.
#[derive(Debug, PartialEq)]
pub(crate) enum Target {
    /// What needs no label.
    Nothing,
    /// A number.
    Number,
    /// One of these.
    Classes(Vec<Class>),
}

/// What was learned.
#[derive(Debug)]
pub(crate) enum Learned {
    /// The weights of its layers.
    Layers(Vec<Layer>),
    /// The state of the estimator, as it is saved.
    State(Tensors),
}

/// What a function reads of an estimator: the settings as flows have them, what is predicted, and what was learned.
type Read = (Json, Target, Learned);

/// Reads an estimator of so many features.
type Reader = fn(&Object<'_>, usize) -> Result<Read>;

/// What reads which classes.
const KINDS: &[(&[&str], Reader)] = &[
    (linear::NUMBERS, linear::numbers),
    (linear::LOGISTIC, linear::logistic),
    (linear::SCORES, linear::scores),
    (&["MLPClassifier", "MLPRegressor"], network::read),
    (&["KMeans", "MiniBatchKMeans"], clusters::read),
    (&["SVC", "NuSVC"], svm::classifier),
    (&["SVR", "NuSVR"], svm::regressor),
    (&["KNeighborsClassifier"], neighbours::classifier),
    (&["KNeighborsRegressor"], neighbours::regressor),
];

/// Classes that look for the best of several, which is the one that predicts.
const SEARCHES: &[&str] = &["GridSearchCV", "RandomizedSearchCV", "HalvingGridSearchCV", "HalvingRandomSearchCV"];

/// Reads a file of skops.
///
/// # Errors
/// If it is none, or has an estimator in it that none here predicts the same as.
pub(crate) fn read(bytes: &[u8]) -> Result<Fitted> {
    let file = Skops::open(bytes)?;
    let mut steps = Vec::new();
    let mut names = None;
    flatten(file.root()?, &mut steps, &mut names)?;
    let last = steps.pop().ok_or_else(|| Error::new("its pipeline has no steps"))?;
    let first = steps.first().unwrap_or(&last);
    let features = first.number("n_features_in_")? as usize;
    if features == 0 {
        return Err(Error::new("it was fitted to no features"));
    }
    let scaling = Scaling::of(&steps, features)?;
    let class = last.class();
    let kind = KINDS.iter().find(|(classes, _)| classes.contains(&class)).ok_or_else(|| unknown(&last))?;
    let (estimator, target, learned) = kind.1(&last, features)?;
    let estimator = serde_json::from_value(estimator).doing(|| format!("taking over the `{class}` in it"))?;
    Ok(Fitted { names, features, scaling, estimator, target, learned })
}

/// The steps through which rows go, in their order, and the first names of features that are found.
fn flatten<'a>(object: Object<'a>, steps: &mut Vec<Object<'a>>, names: &mut Option<Vec<String>>) -> Result<()> {
    if names.is_none() && object.has("feature_names_in_") {
        *names = match object.array("feature_names_in_")?.values {
            Values::Texts(names) => Some(names),
            _ => None,
        };
    }
    match object.class() {
        "Pipeline" => object.steps()?.into_iter().try_for_each(|step| flatten(step, steps, names)),
        search if SEARCHES.contains(&search) => flatten(object.object("best_estimator_")?, steps, names),
        _ => {
            steps.push(object);
            Ok(())
        }
    }
}

/// What is said of an estimator that there is no like of.
fn unknown(object: &Object<'_>) -> Error {
    let known: Vec<_> = KINDS.iter().flat_map(|(classes, _)| classes.iter().copied()).collect();
    Error::new(format!(
        "it has a `{}`, and no estimator here predicts the same; write it as ONNX by skl2onnx, and import that. Taken over are {}, behind scalers or not",
        object.full_name(),
        known.join(", ")
    ))
}

/// The classes that an estimator predicts, in the order of its numbers.
fn classes(object: &Object<'_>) -> Result<Vec<Class>> {
    match object.array("classes_")?.values {
        Values::Flags(flags) => Ok(flags.into_iter().map(Class::Boolean).collect()),
        Values::Whole(whole) => Ok(whole.into_iter().map(Class::Integer).collect()),
        Values::Texts(texts) => Ok(texts.into_iter().map(Class::Text).collect()),
        Values::Numbers(numbers) => numbers.into_iter().map(whole).collect(),
    }
}

/// A class that is a whole number, and was written as a fraction.
fn whole(number: f64) -> Result<Class> {
    if number.fract() == 0.0 && number.abs() < 1e15 {
        return Ok(Class::Integer(number as i64));
    }
    Err(Error::new(format!("it predicts the class {number}; classes are yes and no, whole numbers or texts")))
}
