//! What a model learns from, what it predicts, and how: planned from the columns that there are.

use std::collections::HashSet;

use arrow::datatypes::Schema;
use millstream_core::{Problem, Problems, Result, ResultExt};
use serde::{Deserialize, Serialize};

use super::features::check_encoding;
use super::{Features, Predictions, weight};
use crate::calibration::CalibrationSettings;
use crate::decision::Decision;
use crate::device::{self, DeviceSettings};
use crate::drift::DetectorSettings;
use crate::encode::{Feature, Missing, Preprocessing};
use crate::estimator::{EstimatorSettings, Gives, Labels};
use crate::interval::IntervalSettings;
use crate::label::{Class, Label, LabelColumns, Task};
use crate::metrics::{BaselineScores, MeanScores, QuantileScores, RewardScores, Scores};

/// What a model learns from, what it predicts, and how. It stands in the model's file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// What learns.
    pub estimator: EstimatorSettings,
    /// What it learns from.
    pub features: Vec<Feature>,
    /// What it predicts, where it learns from a label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<Label>,
    /// The column that says how much each row counts, if they don't count the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<String>,
    /// What happens to rows that lack a feature.
    pub missing: Missing,
    /// Above which probability or score the positive of two classes is predicted, if it is not simply the likelier one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// How predictions become probabilities that are as frequent as they say, if the estimator's are not taken as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<CalibrationSettings>,
    /// How sure the interval about each number is to be, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<IntervalSettings>,
}

impl Signature {
    /// Checks what was asked for against the columns that there are.
    ///
    /// `estimator`, `features`, `label`, `weight` and `classes` are also the keys under which problems are reported.
    pub fn plan<'a>(
        schema: &Schema,
        estimator: &EstimatorSettings,
        features: &Features,
        label: impl Into<LabelColumns<'a>>,
        classes: Option<&[Class]>,
        missing: Missing,
    ) -> Result<Self, Problems> {
        let (label, mut problems) = (label.into(), Problems::new());
        missing.check().map_err(|message| Problem::new(message).under("missing"))?;
        // A column that is named as a label where none is learned is no answer, and its problem is the label's.
        let learns_answers = estimator.labels() != Labels::Nothing;
        let answers = if learns_answers { [label.label, label.reward] } else { [None, None] };
        let features =
            features.plan(schema, answers, estimator.takes(), missing).map_err(|found| problems.extend(found));
        let weight = label.weight.map(str::to_owned);
        if let Err(problem) = weight::check(weight.as_deref(), schema, estimator) {
            problems.push(problem);
        }
        if !estimator.settings().learns() {
            let problem = format!("`{}` is a model of others, which learns nothing", estimator.name());
            let help = "`millstream models import` brings one into the registry, and `predict` takes it from there";
            problems.push(Problem::new(problem).help(help).under("estimator"));
        }
        let label = estimator.labels().plan(estimator.name(), schema, label, classes);
        let label = label.map_err(|found| problems.push(found));
        let classes = label.as_ref().map_or(&[][..], |label| classes_of(label.as_ref()));
        if let Err(problem) = estimator.settings().check(classes) {
            problems.push(problem.under("estimator"));
        }
        if let Ok(features) = &features
            && let preprocessing = Preprocessing::new(features, missing, classes.len(), estimator.takes())
            && let Err(problem) = estimator.settings().check_features(preprocessing.features())
        {
            problems.push(problem.under("estimator"));
        }
        match (features, label) {
            (Ok(features), Ok(label)) if problems.is_empty() => {
                let estimator = estimator.clone();
                let signature = Self {
                    estimator,
                    features,
                    label,
                    weight,
                    missing,
                    threshold: None,
                    calibration: None,
                    interval: None,
                };
                signature.check().map(|()| signature).map_err(|message| Problem::new(message).into())
            }
            _ => Err(problems),
        }
    }

    /// The same, but that its predictions are calibrated, if that is said.
    ///
    /// `calibration` is also the key under which problems are reported.
    pub fn with_calibration(self, calibration: Option<CalibrationSettings>) -> Result<Self, Problem> {
        let signature = Self { calibration: calibration.or(self.calibration), ..self };
        signature.check_calibration().map(|()| signature).map_err(|problem| problem.under("calibration"))
    }

    fn check_calibration(&self) -> Result<(), Problem> {
        let Some(calibration) = &self.calibration else { return Ok(()) };
        if !matches!(self.estimator.gives(self.classes()), Gives::Probabilities | Gives::Scores) {
            let name = self.estimator.name();
            let problem = Problem::new(format!("`{name}` predicts neither probabilities nor scores of classes"));
            return Err(problem.help("leave `calibration` out"));
        }
        calibration.check()
    }

    /// The same, but that its predictions have intervals, if that is said.
    ///
    /// `interval` is also the key under which problems are reported.
    pub fn with_interval(self, interval: Option<IntervalSettings>) -> Result<Self, Problem> {
        let signature = Self { interval: interval.or(self.interval), ..self };
        signature.check_interval().map(|()| signature).map_err(|problem| problem.under("interval"))
    }

    fn check_interval(&self) -> Result<(), Problem> {
        let Some(interval) = &self.interval else { return Ok(()) };
        let name = self.estimator.name();
        let problem = match self.estimator.gives(self.classes()) {
            Gives::Number => return interval.check(),
            Gives::Quantiles(_) => format!("`{name}` predicts quantiles, which say between which numbers the label is"),
            _ => format!("`{name}` predicts no numbers"),
        };
        Err(Problem::new(problem).help("leave `interval` out"))
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
        match &self.label {
            Some(label) if label.task() == Task::Binary && label.reward.is_none() => {}
            Some(Label { column, .. }) => {
                return Err(format!("a threshold is for two classes, which the label `{column}` does not have"));
            }
            None => {
                let name = self.estimator.name();
                return Err(format!("a threshold is for two classes, which `{name}` does not predict"));
            }
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
        match self.calibration {
            Some(_) => Gives::Probabilities,
            None => self.estimator.gives(self.classes()),
        }
    }

    /// Whether such models can be written as ONNX.
    pub fn can_be_exported(&self) -> bool {
        self.estimator.can_be_exported() && self.calibration.is_none()
    }

    /// How many numbers the largest part of the state of such a model has at most.
    pub(crate) fn most_numbers(&self) -> u64 {
        let of_calibration = self.calibration.map_or(0, |calibration| calibration.most_numbers(self.classes().len()));
        let of_interval = self.interval.map_or(0, |interval| interval.most_numbers());
        let features = self.preprocessing();
        self.estimator.settings().most_numbers(features.features(), self.classes()).max(of_calibration).max(of_interval)
    }

    /// What its features go through before they are encoded, having learned nothing.
    pub(crate) fn preprocessing(&self) -> Preprocessing {
        Preprocessing::new(&self.features, self.missing, self.classes().len(), self.estimator.takes())
    }

    /// How many numbers a row takes at most, encoded or predicted, besides those of its columns.
    pub fn numbers_of_row(&self) -> usize {
        self.preprocessing().features().len().max(self.classes().len())
    }

    /// The classes of the label; none where it is a number, or there is none.
    pub fn classes(&self) -> &[Class] {
        classes_of(self.label.as_ref())
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
        Err(Problem::new(problem).help("leave `device` out: it is for networks over single rows").under("device"))
    }

    /// Says if the errors of such a model can't be watched by that detector.
    ///
    /// # Errors
    /// If the detector is set wrongly, or there are no errors that it makes sense of.
    pub fn check_drift(&self, detector: &DetectorSettings) -> Result<(), Problem> {
        detector.check()?;
        match self.label.as_ref().filter(|label| label.reward.is_none()).map(Label::task) {
            None => {
                let problem = format!("`{}` makes no errors that could be watched", self.estimator.name());
                Err(Problem::new(problem).help("leave `drift` out, or watch columns by the node `drift`"))
            }
            Some(Task::Regression) if detector.is_for_rates() => {
                let problem =
                    Problem::new("this detector watches whether predictions are wrong, and those are numbers");
                Err(problem.help("take `adwin`, which also watches by how much they are wrong"))
            }
            Some(_) => Ok(()),
        }
    }

    /// How wrong a prediction is: of classes, 1 if another one is predicted; of numbers, by how much.
    pub(crate) fn error(&self, target: f64, prediction: &[f64]) -> f64 {
        if matches!(self.gives(), Gives::Number | Gives::Quantiles(_)) {
            return (target - prediction[0]).abs();
        }
        f64::from(u8::from(self.decision().class(prediction) != target as usize))
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
    pub fn largest(&self) -> f64 {
        self.estimator.settings().largest()
    }

    /// Room for the predictions of so many rows, each of so many numbers.
    pub(crate) fn predictions(&self, rows: usize, outputs: usize) -> Predictions {
        Predictions::new(rows, outputs, self.decision())
    }

    /// Scores of nothing yet.
    pub(crate) fn scores(&self) -> Scores {
        match (&self.label, self.gives()) {
            (Some(Label { reward: Some(_), classes, .. }), _) => Scores::Rewards(RewardScores::of(classes.len())),
            (Some(_), Gives::Quantiles(quantiles)) => Scores::Quantiles(QuantileScores::of(quantiles)),
            (Some(label), _) => Scores::new(label.task(), self.decision()),
            (None, Gives::Columns(columns)) => Scores::Means(MeanScores::of(columns)),
            (None, _) => Scores::Means(MeanScores::of(&[])),
        }
    }

    /// Scores of the baselines, of nothing yet.
    pub(crate) fn baselines(&self) -> BaselineScores {
        let label = self.label.as_ref().filter(|label| label.reward.is_none());
        label.map_or(BaselineScores::Nothing, |label| BaselineScores::new(label.task()))
    }

    /// What has to hold for a model to be built, whoever wrote the signature.
    fn check(&self) -> Result<(), String> {
        let has_answers = self.label.as_ref().is_some_and(|label| label.reward.is_none());
        self.features.iter().try_for_each(|feature| check_encoding(feature, self.missing, has_answers))?;
        self.check_names()?;
        let name = self.estimator.name();
        self.estimator.labels().check(name, self.classes())?;
        match (&self.label, self.estimator.labels() == Labels::Nothing) {
            (Some(Label { column, .. }), true) => return Err(format!("`{name}` learns without the label `{column}`")),
            (None, false) => return Err(format!("`{name}` learns from a label, and there is none")),
            (Some(Label { reward, .. }), _) if reward.is_some() != (self.estimator.labels() == Labels::Actions) => {
                return Err(format!("`{name}` and its label do not agree on whether there are rewards"));
            }
            _ => {}
        }
        if self.weight.is_some() && !self.estimator.takes_weights() {
            return Err(format!("all rows count the same for `{name}`, and a weight is named"));
        }
        if let Some(label) = &self.label
            && let Some(odd) = label.classes.iter().find(|class| !label.has(class))
        {
            let Label { column, type_name, .. } = label;
            return Err(format!("`{odd}` is no value of the label `{column}`, which is {type_name}"));
        }
        self.estimator.settings().check(self.classes()).map_err(|problem| problem.message)?;
        self.estimator.settings().check_features(self.preprocessing().features()).map_err(|problem| problem.message)?;
        self.check_calibration().map_err(|problem| problem.message)?;
        self.check_interval().map_err(|problem| problem.message)?;
        self.check_threshold()?;
        let weights = self.most_numbers();
        if weights > MOST_WEIGHTS {
            return Err(format!("the model would have {weights} weights; {MOST_WEIGHTS} are the most"));
        }
        Ok(())
    }

    /// No column is there twice.
    fn check_names(&self) -> Result<(), String> {
        let mut names = HashSet::new();
        if let Some(twice) = self.features.iter().find(|feature| !names.insert(&feature.name)) {
            return Err(format!("`{}` is a feature twice", twice.name));
        }
        match &self.label {
            Some(Label { column, .. }) if names.contains(column) => {
                Err(format!("`{column}` is the label, so the model would learn from the answer"))
            }
            _ => Ok(()),
        }
    }
}

/// The most weights that a part of a model may have: 1 GiB of them.
const MOST_WEIGHTS: u64 = 1 << 27;

fn classes_of(label: Option<&Label>) -> &[Class] {
    label.map_or(&[], |label| &label.classes)
}
