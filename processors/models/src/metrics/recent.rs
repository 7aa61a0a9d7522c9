//! The last rows, from which figures of late are made.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// How many rows count as the last ones, as in CapyMOA's prequential evaluation.
const ROWS: usize = 1000;

/// Keeps what is needed of the last rows; figures are made of it when somebody asks.
///
/// So a row costs next to nothing, a figure is as exact as over all rows, and nothing is ever subtracted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Recent<Row> {
    rows: VecDeque<Row>,
}

impl<Row> Default for Recent<Row> {
    fn default() -> Self {
        Self { rows: VecDeque::new() }
    }
}

impl<Row> Recent<Row> {
    /// Takes in rows, the last of them first.
    pub fn add_backwards(&mut self, rows: impl Iterator<Item = Row>) {
        let new: Vec<_> = rows.take(ROWS).collect();
        let surplus = (self.rows.len() + new.len()).saturating_sub(ROWS);
        self.rows.drain(..surplus);
        self.rows.extend(new.into_iter().rev());
    }

    /// The last rows, in their order.
    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_rows_count_however_they_come() {
        for cut in [1, 7, 999, 1000, 2300] {
            let mut recent = Recent::default();
            let rows: Vec<usize> = (0..2300).collect();
            for rows in rows.chunks(cut) {
                recent.add_backwards(rows.iter().rev().copied());
            }
            assert!(recent.rows().copied().eq(1300..2300), "in batches of {cut}");
        }
    }
}
