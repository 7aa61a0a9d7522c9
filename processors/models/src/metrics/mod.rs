//! Metrics: cheap sums and counts per row, and the figures made of them when somebody asks.

mod baseline;
mod classes;
mod confusion;
mod coverage;
mod histogram;
mod log_loss;
mod means;
mod numbers;
mod quantiles;
mod recent;
mod reliability;
mod rewards;

use millstream_core::Metrics;
use serde::{Deserialize, Serialize};

pub use baseline::BaselineScores;
pub use classes::ClassScores;
pub use coverage::CoverageScores;
pub use means::MeanScores;
pub use numbers::NumberScores;
pub use quantiles::QuantileScores;
pub use recent::Recent;
pub use reliability::Reliability;
pub use rewards::RewardScores;

use crate::decision::Decision;
use crate::label::Task;

/// How predictions compare with labels.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Scores {
    /// Of classes.
    Classes(ClassScores),
    /// Of numbers.
    Numbers(NumberScores),
    /// Of what is predicted without a label.
    Means(MeanScores),
    /// Of actions.
    Rewards(RewardScores),
    /// Of numbers, with quantiles of what they may be.
    Quantiles(QuantileScores),
}

impl Scores {
    /// Of nothing yet.
    pub fn new(task: Task, decision: Decision) -> Self {
        match task {
            Task::Regression => Self::Numbers(NumberScores::default()),
            Task::Binary => Self::Classes(ClassScores::new(2).of(decision)),
            Task::Multiclass(classes) => Self::Classes(ClassScores::new(classes).of(decision)),
        }
    }

    /// Counts one row: its label (a number, or the index of a class) and its prediction, as
    /// [`crate::Predictions::row`] gives it; of an action, its reward behind that.
    #[inline]
    pub fn add(&mut self, target: f64, prediction: &[f64]) {
        match self {
            Self::Classes(scores) => scores.add(target as usize, prediction),
            Self::Numbers(scores) => scores.add(target, prediction[0]),
            Self::Means(scores) => scores.add(prediction),
            Self::Rewards(scores) => scores.add(target as usize, prediction),
            Self::Quantiles(scores) => scores.add(target, prediction),
        }
    }

    /// Whether a row like this could be counted: its label and its prediction.
    pub(crate) fn takes(&self, target: f64, prediction: &[f64]) -> bool {
        match self {
            Self::Classes(scores) => scores.takes(target as usize, prediction),
            // With the ends of its interval, if it has one.
            Self::Numbers(_) => matches!(prediction.len(), 1 | 3),
            Self::Means(scores) => scores.takes(prediction),
            Self::Rewards(scores) => scores.takes(target as usize, prediction),
            Self::Quantiles(scores) => scores.takes(prediction),
        }
    }

    /// Whether these may be scores of the same kind of predictions as `other`, whoever wrote them.
    pub(crate) fn are_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Classes(scores), Self::Classes(other)) => scores.are_like(other),
            (Self::Numbers(scores), Self::Numbers(_)) => scores.is_sound(),
            (Self::Means(scores), Self::Means(other)) => scores.are_like(other),
            (Self::Rewards(scores), Self::Rewards(other)) => scores.are_like(other),
            (Self::Quantiles(scores), Self::Quantiles(_)) => scores.is_sound(),
            _ => false,
        }
    }

    /// Chooses classes, names means, and is of the quantiles, like `other` from now on.
    pub(crate) fn go_on_like(&mut self, other: &Self) {
        match (self, other) {
            (Self::Classes(scores), Self::Classes(other)) => scores.decide_like(other),
            (Self::Means(scores), Self::Means(other)) => scores.named_like(other),
            (Self::Quantiles(scores), Self::Quantiles(other)) => scores.go_on_like(other),
            _ => {}
        }
    }

    /// How far probabilities are off, of classes: it is kept beside the others.
    pub(crate) fn reliability(&self) -> Option<&Reliability> {
        if let Self::Classes(scores) = self { Some(scores.reliability()) } else { None }
    }

    /// The same, with what was kept beside them.
    pub(crate) fn with_reliability(self, reliability: Option<Reliability>) -> Self {
        match self {
            Self::Classes(scores) => Self::Classes(scores.with_reliability(reliability.unwrap_or_default())),
            others => others,
        }
    }

    /// How many rows were counted.
    pub fn rows(&self) -> u64 {
        match self {
            Self::Classes(scores) => scores.rows(),
            Self::Numbers(scores) => scores.rows(),
            Self::Means(scores) => scores.rows(),
            Self::Rewards(scores) => scores.rows(),
            Self::Quantiles(scores) => scores.rows(),
        }
    }

    /// The figures.
    pub fn metrics(&self) -> Metrics {
        match self {
            Self::Classes(scores) => scores.metrics(),
            Self::Numbers(scores) => scores.metrics(),
            Self::Means(scores) => scores.metrics(),
            Self::Rewards(scores) => scores.metrics(),
            Self::Quantiles(scores) => scores.metrics(),
        }
    }
}

/// Whether so many rows may have been counted. More are a damage: nothing will ever reach them, and they would overflow.
fn is_plausible(counts: impl IntoIterator<Item = u64>) -> bool {
    counts.into_iter().map(u128::from).sum::<u128>() < 1 << 53
}
