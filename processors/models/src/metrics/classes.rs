//! Metrics of predicted classes.

use millstream_core::{ConfusionMatrix, Metrics};
use serde::{Deserialize, Serialize};

use super::confusion::Confusion;
use super::histogram::Histogram;
use super::log_loss::LogLoss;
use super::reliability::Reliability;
use crate::decision::Decision;
use crate::estimator::{Certainty, likeliest, positive};

/// Predicted classes and their probabilities, compared with labels.
///
/// Of two classes the second is the positive one. Of more, `precision`, `recall` and `f1` are the mean over the classes that
/// occur, `brier` sums over the classes, `ece` is that of the likeliest class, and `auc` and `pr_auc` are not defined. Figures that can't be computed are NaN.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClassScores {
    confusion: Confusion,
    log_loss: LogLoss,
    brier: f64,
    #[serde(skip)]
    reliability: Reliability,
    /// Of the positive of two classes.
    histogram: Option<Histogram>,
    /// Whether every row had probabilities.
    probable: bool,
    decision: Decision,
}

impl ClassScores {
    /// Of so many classes, and nothing yet.
    pub fn new(classes: usize) -> Self {
        let histogram = (classes == 2).then(Histogram::new);
        Self {
            confusion: Confusion::new(classes),
            log_loss: LogLoss::new(),
            brier: 0.0,
            reliability: Reliability::default(),
            histogram,
            probable: true,
            decision: Certainty::Probability.into(),
        }
    }

    /// How far probabilities are off, which is kept beside the others.
    pub fn reliability(&self) -> &Reliability {
        &self.reliability
    }

    /// The same, with what was kept beside them.
    pub fn with_reliability(self, reliability: Reliability) -> Self {
        Self { reliability, ..self }
    }

    /// The same, where classes are chosen otherwise, or by scores. Of these there are no figures about probabilities.
    pub(crate) fn of(self, decision: Decision) -> Self {
        Self { decision, probable: decision.certainty == Certainty::Probability, ..self }
    }

    /// Counts one row: the index of its class, and the predicted probability of every class, or of the positive of
    /// two.
    #[inline]
    pub fn add(&mut self, class: usize, prediction: &[f64]) {
        self.confusion.add(class, self.decision.class(prediction));
        if self.decision.certainty == Certainty::Probability {
            self.add_probabilities(class, prediction);
        }
    }

    /// Counts one row of which only the predicted class is known. There will be no figures about probabilities.
    pub fn add_class(&mut self, class: usize, predicted: usize) {
        self.grow(class.max(predicted) + 1);
        self.confusion.add(class, predicted);
        self.probable = false;
    }

    /// Makes room for so many classes.
    pub fn grow(&mut self, classes: usize) {
        self.confusion.grow(classes);
    }

    /// Counts one row whose predicted class is not the likeliest one, but was chosen some other way.
    pub fn add_chosen(&mut self, class: usize, predicted: usize, prediction: &[f64]) {
        self.confusion.add(class, predicted);
        self.add_probabilities(class, prediction);
    }

    #[inline]
    fn add_probabilities(&mut self, class: usize, prediction: &[f64]) {
        let of_class = match &mut self.histogram {
            Some(histogram) => {
                let positive = positive(prediction);
                histogram.add(positive, class == 1);
                self.reliability.add_many(positive, class == 1, 1);
                let of_class = if class == 1 { positive } else { 1.0 - positive };
                self.brier += (1.0 - of_class) * (1.0 - of_class);
                of_class
            }
            None => {
                let squares = prediction.iter().fold(0.0, |sum, probability| sum + probability * probability);
                self.brier += squares + 1.0 - 2.0 * prediction[class];
                let predicted = likeliest(prediction, Certainty::Probability);
                self.reliability.add_many(prediction[predicted], predicted == class, 1);
                prediction[class]
            }
        };
        self.log_loss.add(of_class);
    }

    /// Whether a row like this could be counted: the index of its class, and the predicted probabilities.
    pub fn takes(&self, class: usize, prediction: &[f64]) -> bool {
        let classes = self.confusion.classes;
        class < classes && (prediction.len() == classes || prediction.len() == 1 && classes == 2)
    }

    /// Whether these may be scores of the same kind of predictions as `other`, whoever wrote them.
    pub fn are_like(&self, other: &Self) -> bool {
        self.confusion.is_like(&other.confusion)
            && self.histogram.is_some() == other.histogram.is_some()
            && self.decision.certainty == other.decision.certainty
    }

    /// Chooses classes like `other` from now on.
    pub(crate) fn decide_like(&mut self, other: &Self) {
        self.decision = other.decision;
    }

    /// The scores of predictions that are one class each, with certainty.
    pub(super) fn certain(confusion: Confusion) -> Self {
        let classes = confusion.classes;
        let mut scores = Self::new(classes);
        let errors = confusion.rows() - confusion.right();
        scores.log_loss.add_many(0.0, errors);
        scores.log_loss.add_many(1.0, confusion.right());
        scores.brier = errors as f64 * if classes == 2 { 1.0 } else { 2.0 };
        if let Some(histogram) = &mut scores.histogram {
            for (class, counts) in confusion.pairs().into_iter().flatten().enumerate() {
                for (predicted, rows) in counts.into_iter().enumerate() {
                    histogram.add_many(predicted as f64, class == 1, rows);
                    scores.reliability.add_many(predicted as f64, class == 1, rows);
                }
            }
        } else {
            scores.reliability.add_many(1.0, true, confusion.right());
            scores.reliability.add_many(1.0, false, errors);
        }
        scores.confusion = confusion;
        scores
    }

    /// How many rows were counted.
    pub fn rows(&self) -> u64 {
        self.confusion.rows()
    }

    /// Of each of these classes: how many rows it has, its precision, its recall and its F1.
    pub fn by_class(&self, classes: &[String]) -> Vec<(String, Metrics)> {
        classes.iter().cloned().zip(self.confusion.by_class()).collect()
    }

    /// How often each of these classes was predicted for the rows of each; `None` of too many classes.
    pub fn confusion(&self, classes: impl Iterator<Item = String>) -> Option<ConfusionMatrix> {
        Some(ConfusionMatrix { classes: classes.collect(), counts: self.confusion.pairs()? })
    }

    /// The figures.
    pub fn metrics(&self) -> Metrics {
        let confusion = &self.confusion;
        let rows = if self.probable { confusion.rows() as f64 } else { f64::NAN };
        let has_positive = self.histogram.is_some();
        let of_ranks =
            |figure: fn(&Histogram) -> f64| self.histogram.as_ref().filter(|_| self.probable).map_or(f64::NAN, figure);
        Metrics(vec![
            ("accuracy", confusion.accuracy()),
            ("balanced_accuracy", confusion.balanced_accuracy()),
            ("precision", confusion.precision(has_positive)),
            ("recall", confusion.recall(has_positive)),
            ("f1", confusion.f1(has_positive)),
            ("kappa", confusion.kappa()),
            ("log_loss", self.log_loss.sum() / rows),
            ("auc", of_ranks(Histogram::area)),
            ("pr_auc", of_ranks(Histogram::average_precision)),
            ("brier", self.brier / rows),
            ("ece", self.reliability.error()),
        ])
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn near(metrics: &Metrics, expected: &[(&str, f64)]) {
        for (name, value) in expected {
            let actual = metrics.get(name).unwrap();
            assert!(
                (actual - value).abs() < 1e-12 || actual.is_nan() && value.is_nan(),
                "{name}: {actual}, not {value}"
            );
        }
    }

    /// The expected figures of this and the next test are scikit-learn 1.9.1's, where nothing else is said.
    #[test]
    fn two_classes() {
        let mut scores = ClassScores::new(2);
        let rows = [(1, 0.9), (0, 0.2), (1, 0.4), (0, 0.6), (1, 0.7), (0, 0.1), (1, 1.0), (0, 0.3)];
        rows.iter().for_each(|(class, probability)| scores.add(*class, &[*probability]));
        let expected = [
            ("accuracy", 0.75),
            ("balanced_accuracy", 0.75),
            ("precision", 0.75),
            ("recall", 0.75),
            ("f1", 0.75),
            ("kappa", 0.5),
            ("log_loss", 0.372_474_491_781_954_7),
            ("auc", 0.9375),
            ("pr_auc", 0.95),
            ("brier", 0.12),
            // By hand: each is alone in its bin.
            ("ece", 0.275),
        ];
        near(&scores.metrics(), &expected);
    }

    #[test]
    fn three_classes() {
        let mut scores = ClassScores::new(3);
        scores.add(0, &[0.7, 0.2, 0.1]);
        scores.add(1, &[0.3, 0.3, 0.4]);
        scores.add(2, &[0.1, 0.1, 0.8]);
        scores.add(0, &[0.5, 0.5, 0.0]);
        scores.add(1, &[0.2, 0.8, 0.0]);
        let expected = [
            ("accuracy", 0.8),
            ("balanced_accuracy", 0.833_333_333_333_333_4),
            ("precision", 0.833_333_333_333_333_4),
            ("recall", 0.833_333_333_333_333_4),
            ("f1", 0.777_777_777_777_777_7),
            ("kappa", 0.705_882_352_941_176_5),
            ("log_loss", 0.540_016_406_290_606_7),
            ("auc", f64::NAN),
            ("brier", 0.304),
            // By hand: 0.3, 0.4 and 0.5 alone, and two of 0.8.
            ("ece", 0.32),
        ];
        near(&scores.metrics(), &expected);
    }

    #[test]
    fn what_was_never_predicted_has_no_precision() {
        let mut scores = ClassScores::new(2);
        scores.add(1, &[0.2]);
        near(&scores.metrics(), &[("precision", f64::NAN), ("recall", 0.0), ("f1", 0.0)]);
    }

    #[test]
    fn certain_predictions_are_scored_as_if_one_by_one() {
        let rows = [(0, 1), (1, 1), (1, 0), (0, 0), (1, 1)];
        let (mut one_by_one, mut confusion) = (ClassScores::new(2), Confusion::new(2));
        for (class, predicted) in rows {
            one_by_one.add(class, &[predicted as f64]);
            confusion.add(class, predicted);
        }
        let expected: Vec<_> = one_by_one.metrics().0;
        near(&ClassScores::certain(confusion).metrics(), &expected);
    }

    #[test]
    fn of_nothing_there_are_no_figures() {
        assert!(ClassScores::new(2).metrics().0.iter().all(|(_, value)| value.is_nan()));
    }

    #[test]
    fn without_probabilities_there_are_only_figures_about_classes() {
        let mut scores = ClassScores::new(0);
        scores.add_class(0, 0);
        scores.add_class(2, 1);
        near(&scores.metrics(), &[("accuracy", 0.5), ("f1", 1.0 / 3.0), ("log_loss", f64::NAN), ("brier", f64::NAN)]);
    }
}
