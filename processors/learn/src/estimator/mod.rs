//! Estimators: what learns from encoded rows, one at a time. They know nothing of flows, columns or files.

mod linear;
mod settings;
mod sgd;
mod softmax;

use millstream_core::Result;

pub use settings::Certainty;
pub use settings::EstimatorSettings;
pub(crate) use settings::Labels;
pub use sgd::SgdSettings;

use crate::encode::Row;
use crate::label::Class;
use crate::tensors::Tensors;
use linear::{Linear, Loss};
use sgd::Sgd;
use softmax::Softmax;

/// What an estimator does.
///
/// Everything is deterministic: the same rows in the same order give the same bits.
pub(crate) trait Estimate {
    /// How many numbers a prediction has.
    fn outputs(&self) -> usize;

    /// Predicts one row: a probability for classes, each in its place, else a number.
    fn predict(&self, row: Row<'_>, into: &mut [f64]);

    /// Learns one row. `target` is the number, or the index of the class.
    fn learn(&mut self, row: Row<'_>, target: f64);

    /// Writes what was learned.
    fn save(&self, tensors: &mut Tensors);

    /// Reads what was learned into a new estimator.
    fn load(&mut self, tensors: &Tensors) -> Result<()>;
}

/// An estimator of any type. An enum, since calls through a table are not compiled for wide vectors.
#[derive(Clone, Debug)]
pub(crate) enum Estimator {
    Linear(Linear),
    Softmax(Softmax),
    Sgd(Sgd),
}

impl Estimator {
    /// One that has learned nothing, for rows of this shape and labels of these classes.
    pub fn new(settings: &EstimatorSettings, classes: &[Class], shape: Shape) -> Self {
        match settings {
            EstimatorSettings::LogisticRegression { learning_rate, l2 } => {
                Self::Linear(Linear::new(Loss::Log, *learning_rate, *l2, shape))
            }
            EstimatorSettings::LinearRegression { learning_rate, l2 } => {
                Self::Linear(Linear::new(Loss::Squared, *learning_rate, *l2, shape))
            }
            EstimatorSettings::SoftmaxRegression { learning_rate, l2 } => {
                Self::Softmax(Softmax::new(*learning_rate, *l2, shape))
            }
            EstimatorSettings::SgdClassifier(settings) | EstimatorSettings::SgdRegressor(settings) => {
                Self::Sgd(Sgd::new(settings, classes, shape))
            }
        }
    }
}

/// The sizes of what an estimator learns from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// How many numbers a row has.
    pub numbers: usize,
    /// How many there are with padding.
    pub width: usize,
    /// How many slots there are.
    pub slots: usize,
    /// How many classes there are, 0 for none.
    pub classes: usize,
}

impl Estimate for Estimator {
    #[inline(always)]
    fn outputs(&self) -> usize {
        match self {
            Self::Linear(linear) => linear.outputs(),
            Self::Softmax(softmax) => softmax.outputs(),
            Self::Sgd(sgd) => sgd.outputs(),
        }
    }

    #[inline(always)]
    fn predict(&self, row: Row<'_>, into: &mut [f64]) {
        match self {
            Self::Linear(linear) => linear.predict(row, into),
            Self::Softmax(softmax) => softmax.predict(row, into),
            Self::Sgd(sgd) => sgd.predict(row, into),
        }
    }

    #[inline(always)]
    fn learn(&mut self, row: Row<'_>, target: f64) {
        match self {
            Self::Linear(linear) => linear.learn(row, target),
            Self::Softmax(softmax) => softmax.learn(row, target),
            Self::Sgd(sgd) => sgd.learn(row, target),
        }
    }

    fn save(&self, tensors: &mut Tensors) {
        match self {
            Self::Linear(linear) => linear.save(tensors),
            Self::Softmax(softmax) => softmax.save(tensors),
            Self::Sgd(sgd) => sgd.save(tensors),
        }
    }

    fn load(&mut self, tensors: &Tensors) -> Result<()> {
        match self {
            Self::Linear(linear) => linear.load(tensors),
            Self::Softmax(softmax) => softmax.load(tensors),
            Self::Sgd(sgd) => sgd.load(tensors),
        }
    }
}
