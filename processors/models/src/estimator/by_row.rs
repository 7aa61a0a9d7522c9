//! Estimators that learn one row at a time.

use millstream_core::Result;

use super::linear::Linear;
use super::sgd::Sgd;
use super::softmax::Softmax;
use crate::encode::Row;
use crate::tensors::Tensors;

/// What an estimator does that learns one row at a time.
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

/// Any of them. An enum, since calls through a table are not compiled for wide vectors.
#[derive(Clone, Debug)]
pub(crate) enum ByRow {
    Linear(Linear),
    Softmax(Softmax),
    Sgd(Sgd),
}

impl Estimate for ByRow {
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
