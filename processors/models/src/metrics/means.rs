//! Metrics of what is predicted without a label: means of the predictions themselves.

use millstream_core::Metrics;
use serde::{Deserialize, Serialize};

use super::is_plausible;
use crate::estimator::PredictedColumn;

/// The means of predicted columns that say how well a model does, such as the distance from the nearest cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MeanScores {
    rows: u64,
    /// Column by column: how many numbers there were, and their sum.
    sums: Vec<(u64, f64)>,
    /// What the columns are is known from the estimator.
    #[serde(skip)]
    columns: &'static [PredictedColumn],
}

impl MeanScores {
    /// Of nothing yet.
    pub fn of(columns: &'static [PredictedColumn]) -> Self {
        Self { rows: 0, sums: vec![(0, 0.0); columns.len()], columns }
    }

    /// Counts one row. NaN stands for nothing.
    #[inline]
    pub fn add(&mut self, prediction: &[f64]) {
        self.rows += 1;
        for ((count, sum), number) in self.sums.iter_mut().zip(prediction).filter(|(_, number)| !number.is_nan()) {
            *count += 1;
            *sum += number;
        }
    }

    /// Whether a row like this could be counted.
    pub(crate) fn takes(&self, prediction: &[f64]) -> bool {
        prediction.len() == self.sums.len()
    }

    /// Whether these may be scores of the same columns as `other`, whoever wrote them.
    pub(crate) fn are_like(&self, other: &Self) -> bool {
        self.sums.len() == other.sums.len()
            && is_plausible(self.sums.iter().map(|(count, _)| *count).chain([self.rows]))
    }

    /// Has the columns of `other` from now on.
    pub(crate) fn named_like(&mut self, other: &Self) {
        self.columns = other.columns;
    }

    /// How many rows were counted.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The figures. Those of nothing are NaN.
    pub fn metrics(&self) -> Metrics {
        let mean = |(column, (count, sum)): (&PredictedColumn, &(u64, f64))| Some((column.mean?, sum / *count as f64));
        Metrics(self.columns.iter().zip(&self.sums).filter_map(mean).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_of_the_numbers_that_there_are() {
        let column = |mean| PredictedColumn { name: "a", whole: false, mean };
        let columns = Box::leak(Box::new([column(None), column(Some("mean_distance"))]));
        let mut scores = MeanScores::of(columns);
        assert!(scores.metrics().get("mean_distance").is_some_and(f64::is_nan));
        [[0.0, f64::NAN], [1.0, 2.0], [7.0, 4.0]].iter().for_each(|row| scores.add(row));
        assert_eq!((scores.rows(), scores.metrics()), (3, Metrics(vec![("mean_distance", 3.0)])));
    }
}
