//! What predictions reach that need no model: the last label again, and the most frequent one or the mean.

use millstream_core::Baselines;
use serde::{Deserialize, Serialize};

use super::confusion::Confusion;
use super::{ClassScores, NumberScores, Reliability, is_plausible};
use crate::label::Task;

/// Scores both baselines, each predicting a row before it knows its label.
///
/// Before the first row they predict the first class, or 0.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum BaselineScores {
    /// Of classes.
    Classes(ClassBaselines),
    /// Of numbers.
    Numbers(NumberBaselines),
    /// There is no label, and so nothing to compare with.
    Nothing,
}

impl BaselineScores {
    /// Of nothing yet.
    pub fn new(task: Task) -> Self {
        let classes = match task {
            Task::Regression => return Self::Numbers(NumberBaselines::default()),
            Task::Binary => 2,
            Task::Multiclass(classes) => classes,
        };
        Self::Classes(ClassBaselines {
            last: 0,
            persistence: Confusion::new(classes),
            counts: vec![0; classes],
            rows: 0,
            shares: vec![1.0 / classes as f64; classes],
            majority: ClassScores::new(classes),
        })
    }

    /// Counts one row by its label: a number, or the index of a class.
    #[inline]
    pub fn add(&mut self, target: f64) {
        match self {
            Self::Classes(baselines) => baselines.add(target as usize),
            Self::Numbers(baselines) => baselines.add(target),
            Self::Nothing => {}
        }
    }

    /// Whether these may be scores of the same kind of labels as `other`, whoever wrote them.
    pub fn are_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Classes(baselines), Self::Classes(other)) => baselines.are_like(other),
            (Self::Numbers(baselines), Self::Numbers(_)) => {
                baselines.persistence.is_sound() && baselines.mean.is_sound()
            }
            (Self::Nothing, Self::Nothing) => true,
            _ => false,
        }
    }

    /// How far the shares of classes are off as probabilities, which is kept beside the others.
    pub fn reliability(&self) -> Option<&Reliability> {
        if let Self::Classes(baselines) = self { Some(baselines.majority.reliability()) } else { None }
    }

    /// The same, with what was kept beside them.
    pub fn with_reliability(self, reliability: Option<Reliability>) -> Self {
        match self {
            Self::Classes(mut baselines) => {
                baselines.majority = baselines.majority.with_reliability(reliability.unwrap_or_default());
                Self::Classes(baselines)
            }
            others => others,
        }
    }

    /// The figures.
    pub fn metrics(&self) -> Baselines {
        match self {
            Self::Classes(baselines) => Baselines {
                persistence: ClassScores::certain(baselines.persistence.clone()).metrics(),
                majority: baselines.majority.metrics(),
            },
            Self::Numbers(baselines) => {
                Baselines { persistence: baselines.persistence.metrics(), majority: baselines.mean.metrics() }
            }
            Self::Nothing => Baselines::default(),
        }
    }
}

/// The baselines of classes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClassBaselines {
    last: usize,
    /// Its predictions are certain, so counting them is enough.
    persistence: Confusion,
    counts: Vec<u64>,
    rows: u64,
    /// The share of each class so far, which is what the majority baseline gives as its probability.
    shares: Vec<f64>,
    majority: ClassScores,
}

impl ClassBaselines {
    fn are_like(&self, other: &Self) -> bool {
        let lengths = |baselines: &Self| [baselines.counts.len(), baselines.shares.len()];
        lengths(self) == lengths(other)
            && self.last < other.counts.len()
            && is_plausible(self.counts.iter().copied().chain([self.rows]))
            && self.persistence.is_like(&other.persistence)
            && self.majority.are_like(&other.majority)
    }

    #[inline]
    fn add(&mut self, class: usize) {
        self.persistence.add(class, self.last);
        self.last = class;
        self.majority.add(class, &self.shares);
        self.counts[class] += 1;
        self.rows += 1;
        let each = 1.0 / self.rows as f64;
        self.shares.iter_mut().zip(&self.counts).for_each(|(share, count)| *share = *count as f64 * each);
    }
}

/// The baselines of numbers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct NumberBaselines {
    last: f64,
    persistence: NumberScores,
    mean: NumberScores,
}

impl NumberBaselines {
    /// The root of the mean squared error of the mean so far.
    pub(crate) fn error_of_mean(&self) -> f64 {
        self.mean.root_mean_square()
    }

    #[inline]
    fn add(&mut self, target: f64) {
        self.persistence.add(target, self.last);
        self.last = target;
        self.mean.add(target, self.mean.mean());
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::disallowed_methods)]
mod tests {
    use super::*;

    #[test]
    fn classes_that_stay_favour_persistence() {
        let mut baselines = BaselineScores::new(Task::Binary);
        [1.0, 1.0, 1.0, 0.0, 0.0, 0.0].into_iter().for_each(|target| baselines.add(target));
        let Baselines { persistence, majority } = baselines.metrics();
        // Before the first row persistence says 0, and so does the majority of nothing.
        assert_eq!(persistence.get("accuracy").unwrap(), 4.0 / 6.0);
        assert_eq!(majority.get("accuracy").unwrap(), 2.0 / 6.0);
        let probabilities = [0.5, 1.0, 1.0, 0.0, 0.25, 0.4];
        let loss: f64 = probabilities.iter().map(|p: &f64| -p.clamp(1e-15, 1.0 - 1e-15).ln()).sum();
        assert!((majority.get("log_loss").unwrap() - loss / 6.0).abs() < 1e-12);
    }

    #[test]
    fn numbers_are_compared_with_the_last_and_the_mean() {
        let mut baselines = BaselineScores::new(Task::Regression);
        [2.0, 4.0, 3.0].into_iter().for_each(|target| baselines.add(target));
        let Baselines { persistence, majority } = baselines.metrics();
        assert_eq!(persistence.get("mae").unwrap(), 5.0 / 3.0);
        assert_eq!(majority.get("mae").unwrap(), 4.0 / 3.0);
    }
}
