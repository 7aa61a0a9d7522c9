//! What a model learns from, what it predicts, and how: planned from the columns that there are.

use std::collections::HashSet;

use arrow::datatypes::{DataType, Field, Schema};
use millstream_core::{Problem, Problems, Result, ResultExt, require_column, type_name};
use serde::{Deserialize, Serialize};

use super::features::check_slots;
use super::{Decision, Features, Predictions};
use crate::device::{self, DeviceSettings};
use crate::encode::{Feature, LARGEST, LARGEST_OF_32_BITS, Missing};
use crate::estimator::{Certainty, EstimatorSettings, Labels};
use crate::label::{Class, Label, Task};
use crate::metrics::Scores;

/// What a model learns from, what it predicts, and how. It stands in the model's file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// What learns.
    pub estimator: EstimatorSettings,
    /// What it learns from.
    pub features: Vec<Feature>,
    /// What it predicts.
    pub label: Label,
    /// What happens to rows that lack a feature.
    pub missing: Missing,
    /// Above which probability or score the positive of two classes is predicted, if it is not simply the likelier one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
}

impl Signature {
    /// Checks what was asked for against the columns that there are.
    ///
    /// `estimator`, `features`, `label` and `classes` are also the keys under which problems are reported.
    pub fn plan(
        schema: &Schema,
        estimator: &EstimatorSettings,
        features: &Features,
        label: &str,
        classes: Option<&[Class]>,
        missing: Missing,
    ) -> Result<Self, Problems> {
        let mut problems = Problems::new();
        let features = features.plan(schema, label).map_err(|found| problems.extend(found));
        let label = plan_label(schema, estimator, label, classes).map_err(|found| problems.push(found));
        let classes = label.as_ref().map_or(&[][..], |label| &label.classes);
        if let Err(problem) = estimator.check(classes) {
            problems.push(problem.under("estimator"));
        }
        match (features, label) {
            (Ok(features), Ok(label)) if problems.is_empty() => {
                let signature = Self { estimator: estimator.clone(), features, label, missing, threshold: None };
                signature.check().map(|()| signature).map_err(|message| Problem::new(message).into())
            }
            _ => Err(problems),
        }
    }

    /// The same, but that the positive of two classes is predicted above another probability or score, if one is given.
    ///
    /// `threshold` is also the key under which problems are reported.
    pub fn with_threshold(self, threshold: Option<f64>) -> Result<Self, Problem> {
        let signature = Self { threshold: threshold.or(self.threshold), ..self };
        signature.check_threshold().map(|()| signature).map_err(|message| Problem::new(message).under("threshold"))
    }

    fn check_threshold(&self) -> Result<(), String> {
        let Some(threshold) = self.threshold else { return Ok(()) };
        if self.label.task() != Task::Binary {
            return Err(format!(
                "a threshold is for two classes, which the label `{}` does not have",
                self.label.column
            ));
        }
        match self.estimator.certainty() {
            Certainty::Probability if !(0.0..=1.0).contains(&threshold) => {
                Err(format!("`threshold` is {threshold}, and should be a probability from 0 to 1"))
            }
            Certainty::Score if !threshold.is_finite() => Err(format!("`threshold` is {threshold}, which is no score")),
            _ => Ok(()),
        }
    }

    /// How classes are chosen.
    pub(crate) fn decision(&self) -> Decision {
        Decision { certainty: self.estimator.certainty(), threshold: self.threshold }
    }

    /// Says if a device was asked for that such a model isn't computed on.
    pub fn check_device(&self, device: DeviceSettings) -> Result<(), Problem> {
        match (&self.estimator, device) {
            (_, DeviceSettings::Auto | DeviceSettings::Cpu) => Ok(()),
            (EstimatorSettings::Network(_), DeviceSettings::Cuda(_)) => {
                device::check_build(device).map_err(|problem| problem.under("device"))
            }
            (estimator, DeviceSettings::Cuda(_)) => {
                let problem = format!("`{}` is always computed on the CPU", estimator.name());
                Err(Problem::new(problem).help("leave `device` out: it is for networks").under("device"))
            }
        }
    }

    /// As JSON, always the same for equal signatures.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a signature has only texts as keys")
    }

    /// From JSON.
    pub fn from_json(text: &str) -> Result<Self> {
        let signature: Self = serde_json::from_str(text).doing(|| "reading the signature of the model")?;
        signature.check().map_err(millstream_core::Error::new).doing(|| "reading the signature of the model")?;
        Ok(signature)
    }

    /// The largest number that may be learned, or learned from as it is.
    pub(crate) fn largest(&self) -> f64 {
        match self.estimator {
            EstimatorSettings::Network(_) => LARGEST_OF_32_BITS,
            _ => LARGEST,
        }
    }

    /// Room for the predictions of so many rows, each of so many numbers.
    pub(crate) fn predictions(&self, rows: usize, outputs: usize) -> Predictions {
        Predictions::new(rows, outputs, self.decision())
    }

    /// Scores of nothing yet.
    pub(crate) fn scores(&self) -> Scores {
        Scores::new(self.label.task(), self.decision())
    }

    /// What has to hold for a model to be built, whoever wrote the signature.
    fn check(&self) -> Result<(), String> {
        self.features.iter().try_for_each(check_slots)?;
        check_classes(&self.estimator, &self.label.classes)?;
        if let Some(odd) = self.label.classes.iter().find(|class| !self.label.has(class)) {
            let Label { column, type_name, .. } = &self.label;
            return Err(format!("`{odd}` is no value of the label `{column}`, which is {type_name}"));
        }
        self.estimator.check(&self.label.classes).map_err(|problem| problem.message)?;
        self.check_threshold()?;
        let weights = self.weights();
        if weights > MOST_WEIGHTS {
            return Err(format!("the model would have {weights} weights; {MOST_WEIGHTS} are the most"));
        }
        Ok(())
    }

    /// How many weights the largest part of the model has: those of slots, or those of a network's layers for all rows that
    /// are learned at once.
    fn weights(&self) -> u64 {
        let classes = self.label.classes.len().max(1) as u64;
        let slots = self.features.iter().map(|feature| u64::from(feature.encoder.slots())).sum::<u64>();
        let numbers = self.features.iter().filter(|feature| feature.encoder.is_number()).count() as u64;
        let EstimatorSettings::Network(settings) = &self.estimator else {
            return (slots + numbers).saturating_mul(classes);
        };
        settings.most_numbers(numbers, self.features.len() as u64 - numbers, slots, classes)
    }
}

/// The most weights that a part of a model may have: 1 GiB of them.
const MOST_WEIGHTS: u64 = 1 << 27;

/// The most classes: every row has a prediction for each, and some rows are kept.
const MOST_CLASSES: usize = 10_000;

fn plan_label(
    schema: &Schema,
    estimator: &EstimatorSettings,
    label: &str,
    classes: Option<&[Class]>,
) -> Result<Label, Problem> {
    let field = require_column(label, schema).map_err(|problem| problem.under("label"))?;
    let type_name = type_name(field.data_type()).into_owned();
    let classes = match estimator.labels() {
        Labels::Numbers => regression_classes(estimator, field, classes)?,
        Labels::TwoClasses => plan_classes(field, classes, true)?,
        Labels::Classes => plan_classes(field, classes, false)?,
        Labels::Any if classes.is_none() && field.data_type().is_numeric() => Vec::new(),
        Labels::Any => plan_classes(field, classes, false)?,
    };
    check_classes(estimator, &classes).map_err(|message| Problem::new(message).under("classes"))?;
    Ok(Label { column: label.to_owned(), type_name, classes })
}

fn regression_classes(
    estimator: &EstimatorSettings,
    label: &Field,
    classes: Option<&[Class]>,
) -> Result<Vec<Class>, Problem> {
    if classes.is_some() {
        let problem = format!("`{}` predicts a number, which has no classes", estimator.name());
        return Err(Problem::new(problem).under("classes"));
    }
    if label.data_type().is_numeric() {
        return Ok(Vec::new());
    }
    let problem = format!("label `{}` is {}, and should be a number", label.name(), type_name(label.data_type()));
    let help = "`logistic_regression` predicts one of two classes, `softmax_regression` one of several";
    Err(Problem::new(problem).help(help).under("label"))
}

/// The classes of a label: those that are given, or those that its type has.
fn plan_classes(label: &Field, given: Option<&[Class]>, binary: bool) -> Result<Vec<Class>, Problem> {
    let (name, data_type) = (label.name(), label.data_type());
    match (data_type, given) {
        (DataType::Boolean, None) => Ok(vec![Class::Boolean(false), Class::Boolean(true)]),
        (integer, None) if integer.is_integer() && binary => Ok(vec![Class::Integer(0), Class::Integer(1)]),
        (DataType::Boolean | DataType::Utf8, Some(given)) => fitting_classes(label, given),
        (integer, Some(given)) if integer.is_integer() => fitting_classes(label, given),
        (integer, None) if *integer == DataType::Utf8 || integer.is_integer() => {
            let problem = format!("which values the label `{name}` can have must be said");
            let help = "add `classes = [..]`; of two classes the second is the positive one";
            Err(Problem::new(problem).help(help).under("label"))
        }
        (other, _) => {
            let problem = format!("label `{name}` is {}, and classes are boolean, integers or utf8", type_name(other));
            let help = "cast it in an `sql` node, or predict the number by `linear_regression`";
            Err(Problem::new(problem).help(help).under("label"))
        }
    }
}

fn fitting_classes(label: &Field, given: &[Class]) -> Result<Vec<Class>, Problem> {
    match given.iter().position(|class| !class.is_of(label.data_type())) {
        None => Ok(given.to_vec()),
        Some(odd) => {
            let type_name = type_name(label.data_type());
            let problem = format!("`{}` is no value of the label `{}`, which is {type_name}", given[odd], label.name());
            Err(Problem::new(problem).under(odd).under("classes"))
        }
    }
}

fn check_classes(estimator: &EstimatorSettings, classes: &[Class]) -> Result<(), String> {
    if classes.len() > MOST_CLASSES {
        return Err(format!("there are {} classes; {MOST_CLASSES} are the most", classes.len()));
    }
    let distinct: HashSet<_> = classes.iter().collect();
    if distinct.len() != classes.len() {
        return Err("a class is listed twice".to_owned());
    }
    let (fits, wanted) = match estimator.labels() {
        Labels::Numbers => (classes.is_empty(), "no classes"),
        Labels::TwoClasses => (classes.len() == 2, "two classes"),
        Labels::Classes => (classes.len() >= 2, "two or more classes"),
        Labels::Any => (classes.len() != 1, "no classes, or two or more"),
    };
    if fits {
        return Ok(());
    }
    let help = if classes.len() > 2 { "; `softmax_regression` has any number" } else { "" };
    Err(format!("`{}` has {wanted}, and there are {}{help}", estimator.name(), classes.len()))
}
