//! What a model learns from, what it predicts, and how: planned from the columns that there are.

use arrow::datatypes::Schema;
use millstream_core::{Problem, Problems, Result, ResultExt, require_column, type_name};
use serde::{Deserialize, Serialize};

use super::features::check_slots;
use super::{Features, Predictions};
use crate::decision::Decision;
use crate::device::{self, DeviceSettings};
use crate::encode::{Feature, Missing};
use crate::estimator::{EstimatorSettings, Gives};
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
        let features = features.plan(schema, label, estimator.takes()).map_err(|found| problems.extend(found));
        let label = plan_label(schema, estimator, label, classes).map_err(|found| problems.push(found));
        let classes = label.as_ref().map_or(&[][..], |label| &label.classes);
        if let Err(problem) = estimator.settings().check(classes) {
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
        match self.gives() {
            Gives::Probabilities if !(0.0..=1.0).contains(&threshold) => {
                Err(format!("`threshold` is {threshold}, and should be a probability from 0 to 1"))
            }
            Gives::Scores if !threshold.is_finite() => Err(format!("`threshold` is {threshold}, which is no score")),
            _ => Ok(()),
        }
    }

    /// What its predictions are.
    pub fn gives(&self) -> Gives {
        self.estimator.gives(&self.label.classes)
    }

    /// How classes are chosen.
    pub(crate) fn decision(&self) -> Decision {
        Decision { certainty: self.gives().certainty(), threshold: self.threshold }
    }

    /// Says if a device was asked for that such a model isn't computed on.
    pub fn check_device(&self, device: DeviceSettings) -> Result<(), Problem> {
        if !matches!(device, DeviceSettings::Cuda(_)) {
            return Ok(());
        }
        if self.estimator.settings().supports_devices() {
            return device::check_build(device).map_err(|problem| problem.under("device"));
        }
        let problem = format!("`{}` is always computed on the CPU", self.estimator.name());
        Err(Problem::new(problem).help("leave `device` out: it is for networks").under("device"))
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
        self.estimator.settings().largest()
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
        self.estimator.labels().check(self.estimator.name(), &self.label.classes)?;
        if let Some(odd) = self.label.classes.iter().find(|class| !self.label.has(class)) {
            let Label { column, type_name, .. } = &self.label;
            return Err(format!("`{odd}` is no value of the label `{column}`, which is {type_name}"));
        }
        self.estimator.settings().check(&self.label.classes).map_err(|problem| problem.message)?;
        self.check_threshold()?;
        let weights = self.estimator.settings().most_numbers(&self.features, &self.label.classes);
        if weights > MOST_WEIGHTS {
            return Err(format!("the model would have {weights} weights; {MOST_WEIGHTS} are the most"));
        }
        Ok(())
    }
}

/// The most weights that a part of a model may have: 1 GiB of them.
const MOST_WEIGHTS: u64 = 1 << 27;

fn plan_label(
    schema: &Schema,
    estimator: &EstimatorSettings,
    label: &str,
    classes: Option<&[Class]>,
) -> Result<Label, Problem> {
    let field = require_column(label, schema).map_err(|problem| problem.under("label"))?;
    let type_name = type_name(field.data_type()).into_owned();
    let classes = estimator.labels().classes(estimator.name(), field, classes)?;
    Ok(Label { column: label.to_owned(), type_name, classes })
}
