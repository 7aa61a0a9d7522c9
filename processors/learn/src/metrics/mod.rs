//! Metrics: cheap sums and counts per row, and the figures made of them when somebody asks.

mod baseline;
mod classes;
mod histogram;
mod log_loss;
mod numbers;
mod recent;

use millstream_core::Metrics;

pub use baseline::BaselineScores;
pub use classes::ClassScores;
pub use numbers::NumberScores;
pub use recent::Recent;

use crate::estimator::Certainty;
use crate::label::Task;

/// How predictions compare with labels.
#[derive(Clone, Debug)]
pub enum Scores {
    /// Of classes.
    Classes(ClassScores),
    /// Of numbers.
    Numbers(NumberScores),
}

impl Scores {
    /// Of nothing yet.
    pub fn new(task: Task, certainty: Certainty) -> Self {
        match task {
            Task::Regression => Self::Numbers(NumberScores::default()),
            Task::Binary => Self::Classes(ClassScores::new(2).of(certainty)),
            Task::Multiclass(classes) => Self::Classes(ClassScores::new(classes).of(certainty)),
        }
    }

    /// Counts one row: its label (a number, or the index of a class) and its prediction, as
    /// [`crate::Predictions::row`] gives it.
    #[inline]
    pub fn add(&mut self, target: f64, prediction: &[f64]) {
        match self {
            Self::Classes(scores) => scores.add(target as usize, prediction),
            Self::Numbers(scores) => scores.add(target, prediction[0]),
        }
    }

    /// How many rows were counted.
    pub fn rows(&self) -> u64 {
        match self {
            Self::Classes(scores) => scores.rows(),
            Self::Numbers(scores) => scores.rows(),
        }
    }

    /// The figures.
    pub fn metrics(&self) -> Metrics {
        match self {
            Self::Classes(scores) => scores.metrics(),
            Self::Numbers(scores) => scores.metrics(),
        }
    }
}
