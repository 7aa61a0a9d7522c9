//! Metrics of predicted classes.

use millstream_core::Metrics;
use serde::{Deserialize, Serialize};

use super::histogram::Histogram;
use super::is_plausible;
use super::log_loss::LogLoss;
use crate::estimator::Certainty;
use crate::model::{likeliest, positive};

/// Predicted classes and their probabilities, compared with labels.
///
/// Of two classes the second is the positive one. Of more, `f1` is the mean over the classes that occur, `brier` sums
/// over the classes, and `auc` is not defined. Figures that can't be computed are NaN.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClassScores {
    confusion: Confusion,
    log_loss: LogLoss,
    brier: f64,
    /// Of the positive of two classes.
    histogram: Option<Histogram>,
    /// Whether every row had probabilities.
    probable: bool,
    certainty: Certainty,
}

impl ClassScores {
    /// Of so many classes, and nothing yet.
    pub fn new(classes: usize) -> Self {
        let histogram = (classes == 2).then(Histogram::new);
        Self {
            confusion: Confusion::new(classes),
            log_loss: LogLoss::new(),
            brier: 0.0,
            histogram,
            probable: true,
            certainty: Certainty::Probability,
        }
    }

    /// The same, of predictions that may be scores. Of them there are no figures about probabilities.
    pub(crate) fn of(self, certainty: Certainty) -> Self {
        Self { certainty, probable: certainty == Certainty::Probability, ..self }
    }

    /// Counts one row: the index of its class, and the predicted probability of every class, or of the positive of
    /// two.
    #[inline]
    pub fn add(&mut self, class: usize, prediction: &[f64]) {
        self.confusion.add(class, likeliest(prediction, self.certainty));
        if self.certainty == Certainty::Probability {
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
    pub(crate) fn grow(&mut self, classes: usize) {
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
                let of_class = if class == 1 { positive } else { 1.0 - positive };
                self.brier += (1.0 - of_class) * (1.0 - of_class);
                of_class
            }
            None => {
                let squares = prediction.iter().fold(0.0, |sum, probability| sum + probability * probability);
                self.brier += squares + 1.0 - 2.0 * prediction[class];
                prediction[class]
            }
        };
        self.log_loss.add(of_class);
    }

    /// Whether a row like this could be counted: the index of its class, and the predicted probabilities.
    pub(crate) fn takes(&self, class: usize, prediction: &[f64]) -> bool {
        let classes = self.confusion.classes;
        class < classes && (prediction.len() == classes || prediction.len() == 1 && classes == 2)
    }

    /// Whether these may be scores of the same kind of predictions as `other`, whoever wrote them.
    pub(crate) fn are_like(&self, other: &Self) -> bool {
        self.confusion.is_like(&other.confusion)
            && self.histogram.is_some() == other.histogram.is_some()
            && self.certainty == other.certainty
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
            for (class, predicted) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                histogram.add_many(predicted as f64, class == 1, confusion.count(class, predicted));
            }
        }
        scores.confusion = confusion;
        scores
    }

    /// How many rows were counted.
    pub fn rows(&self) -> u64 {
        self.confusion.rows()
    }

    /// The figures.
    pub fn metrics(&self) -> Metrics {
        let confusion = &self.confusion;
        let rows = if self.probable { confusion.rows() as f64 } else { f64::NAN };
        let auc = self.histogram.as_ref().filter(|_| self.probable).map_or(f64::NAN, Histogram::area);
        Metrics(vec![
            ("accuracy", confusion.accuracy()),
            ("balanced_accuracy", confusion.balanced_accuracy()),
            ("f1", confusion.f1()),
            ("kappa", confusion.kappa()),
            ("log_loss", self.log_loss.sum() / rows),
            ("auc", auc),
            ("brier", self.brier / rows),
        ])
    }
}

/// How often each class was predicted for each.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Confusion {
    classes: usize,
    /// Class by class, what was predicted for its rows.
    counts: Vec<u64>,
}

impl Confusion {
    pub fn new(classes: usize) -> Self {
        Self { classes, counts: vec![0; classes * classes] }
    }

    #[inline]
    pub fn add(&mut self, class: usize, predicted: usize) {
        self.counts[class * self.classes + predicted] += 1;
    }

    /// Makes room for so many classes.
    fn grow(&mut self, classes: usize) {
        if classes <= self.classes {
            return;
        }
        let mut grown = Self::new(classes);
        for class in 0..self.classes {
            for predicted in 0..self.classes {
                grown.counts[class * classes + predicted] = self.count(class, predicted);
            }
        }
        *self = grown;
    }

    pub fn is_like(&self, other: &Self) -> bool {
        let fits = self.classes == other.classes && self.counts.len() == other.counts.len();
        fits && is_plausible(self.counts.iter().copied())
    }

    fn count(&self, class: usize, predicted: usize) -> u64 {
        self.counts[class * self.classes + predicted]
    }

    /// Rows of a class.
    fn of(&self, class: usize) -> u64 {
        (0..self.classes).map(|predicted| self.count(class, predicted)).sum()
    }

    /// Rows for which a class was predicted.
    fn predicted(&self, class: usize) -> u64 {
        (0..self.classes).map(|of| self.count(of, class)).sum()
    }

    pub fn rows(&self) -> u64 {
        self.counts.iter().sum()
    }

    fn right(&self) -> u64 {
        (0..self.classes).map(|class| self.count(class, class)).sum()
    }

    fn accuracy(&self) -> f64 {
        self.right() as f64 / self.rows() as f64
    }

    /// The mean over the classes that occur of the share of their rows that is predicted rightly.
    fn balanced_accuracy(&self) -> f64 {
        let occurring = (0..self.classes).filter(|class| self.of(*class) > 0);
        mean(occurring.map(|class| self.count(class, class) as f64 / self.of(class) as f64))
    }

    /// Of the positive of two classes, else the mean over the classes that occur or were predicted.
    fn f1(&self) -> f64 {
        let f1 = |class| 2.0 * self.count(class, class) as f64 / (self.of(class) + self.predicted(class)) as f64;
        if self.classes == 2 {
            return f1(1);
        }
        mean((0..self.classes).filter(|class| self.of(*class) + self.predicted(*class) > 0).map(f1))
    }

    /// Cohen's kappa: by how much the accuracy exceeds that of chance.
    fn kappa(&self) -> f64 {
        let rows = self.rows() as f64;
        let share = |count: u64| count as f64 / rows;
        let chance: f64 = (0..self.classes).map(|class| share(self.of(class)) * share(self.predicted(class))).sum();
        (self.accuracy() - chance) / (1.0 - chance)
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    sum / count
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

    /// The expected figures of this and the next test are scikit-learn 1.9.1's.
    #[test]
    fn two_classes() {
        let mut scores = ClassScores::new(2);
        let rows = [(1, 0.9), (0, 0.2), (1, 0.4), (0, 0.6), (1, 0.7), (0, 0.1), (1, 1.0), (0, 0.3)];
        rows.iter().for_each(|(class, probability)| scores.add(*class, &[*probability]));
        let expected = [
            ("accuracy", 0.75),
            ("balanced_accuracy", 0.75),
            ("f1", 0.75),
            ("kappa", 0.5),
            ("log_loss", 0.372_474_491_781_954_7),
            ("auc", 0.9375),
            ("brier", 0.12),
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
            ("f1", 0.777_777_777_777_777_7),
            ("kappa", 0.705_882_352_941_176_5),
            ("log_loss", 0.540_016_406_290_606_7),
            ("auc", f64::NAN),
            ("brier", 0.304),
        ];
        near(&scores.metrics(), &expected);
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
