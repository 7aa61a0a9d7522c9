//! What an estimator is given: the rows of a batch, what encodes them, and a place for the predictions.

use arrow::array::{Array, BooleanArray};

use crate::encode::{Encoders, Rows};

/// Rows that are to be predicted, and then learned, one after the other.
pub(crate) struct Step<'a> {
    /// They learn every row that is learned.
    pub encoders: &'a mut Encoders,
    pub rows: &'a Rows,
    /// Numbers, or the indexes of classes; NaN for rows without a label. Without meaning where none is learned.
    pub targets: &'a [f64],
    /// What each row was worth; empty where the targets are no actions.
    pub rewards: &'a [f64],
    /// How much each row counts; empty if nothing is said.
    pub weights: &'a [f64],
    /// The rows to learn; all if nothing is said.
    pub learn: Option<&'a BooleanArray>,
    /// For the predictions, one row behind the other.
    pub predictions: &'a mut [f64],
}

impl Step<'_> {
    /// What a row was worth, if its target is an action.
    #[inline(always)]
    pub fn reward(&self, row: usize) -> f64 {
        self.rewards.get(row).copied().unwrap_or(f64::NAN)
    }

    /// How much a row counts.
    #[inline(always)]
    pub fn weight(&self, row: usize) -> f64 {
        self.weights.get(row).copied().unwrap_or(1.0)
    }

    /// The target of a row that is to be learned.
    #[inline(always)]
    pub fn target(&self, row: usize) -> Option<f64> {
        let wanted = self.learn.is_none_or(|learn| learn.is_valid(row) && learn.value(row)) && self.weight(row) > 0.0;
        Some(self.targets[row]).filter(|target| wanted && !target.is_nan())
    }
}

/// Rows that are to be predicted.
pub(crate) struct Predict<'a> {
    pub encoders: &'a Encoders,
    pub rows: &'a Rows,
    /// For the predictions, one row behind the other.
    pub predictions: &'a mut [f64],
}
