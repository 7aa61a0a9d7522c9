//! How a model does lately: the figures of the last rows.

use std::collections::VecDeque;

use millstream_core::Metrics;

use super::Scores;
use crate::label::Task;

/// How many rows count as the last ones, as in CapyMOA's prequential evaluation.
const ROWS: usize = 1000;

/// Keeps the last rows with their predictions; figures are made of them when somebody asks.
///
/// So a row costs next to nothing, a figure is as exact as over all rows, and nothing is ever subtracted.
#[derive(Clone, Debug)]
pub struct Recent {
    task: Task,
    rows: VecDeque<(f64, Box<[f64]>)>,
}

impl Recent {
    /// Of nothing yet.
    pub fn new(task: Task) -> Self {
        Self { task, rows: VecDeque::new() }
    }

    /// Takes in rows, by label and prediction, the last of them first.
    pub fn add_backwards<'a>(&mut self, rows: impl Iterator<Item = (f64, &'a [f64])>) {
        let mut new: Vec<_> = rows.take(ROWS).map(|(target, prediction)| (target, prediction.into())).collect();
        let surplus = (self.rows.len() + new.len()).saturating_sub(ROWS);
        self.rows.drain(..surplus);
        self.rows.extend(new.drain(..).rev());
    }

    /// The figures.
    pub fn metrics(&self) -> Metrics {
        let mut scores = Scores::new(self.task);
        self.rows.iter().for_each(|(target, prediction)| scores.add(*target, prediction));
        scores.metrics()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_rows_count_however_they_come() {
        // Wrong up to row 1500, right from there on.
        let prediction = |row: usize| [if (row % 2 == 1) == (row >= 1500) { 0.9 } else { 0.1 }];
        let predictions: Vec<[f64; 1]> = (0..2300).map(prediction).collect();
        for cut in [1, 7, 999, 1000, 2300] {
            let mut recent = Recent::new(Task::Binary);
            let rows: Vec<usize> = (0..2300).collect();
            for rows in rows.chunks(cut) {
                recent.add_backwards(rows.iter().rev().map(|row| ((row % 2) as f64, &predictions[*row][..])));
            }
            assert_eq!(recent.metrics().get("accuracy"), Some(0.8), "of the rows from 1300 on, in batches of {cut}");
        }
    }
}
