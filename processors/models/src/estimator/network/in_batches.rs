//! Predicting and learning by a network: rows are encoded one at a time, predicted as many at once as there are before the
//! network changes, and learned in batches of its own.

use millstream_core::Result;

use super::super::{Estimator, Predict, Step};
use super::{Network, Questions};
use crate::encode::{TILE_ROWS, Tile};
use crate::simd::Work;

/// Some work, by a network.
pub(super) struct InBatches<W, N> {
    pub work: W,
    pub network: N,
}

impl Work for InBatches<Step<'_>, &mut Network> {
    /// How many rows were learned, or wait to be.
    type Output = Result<u64>;

    #[inline(always)]
    fn run(self) -> Result<u64> {
        let Self { work, network } = self;
        let rows = work.rows;
        let mut tile = Tile::new(rows.count(), work.encoders.width());
        let mut scratch = work.encoders.scratch();
        let mut answers = Answers::new(network);
        let mut learned = 0;
        let mut start = 0;
        while start < rows.count() {
            let count = tile.fill(rows.numbers(), start, rows.count());
            for offset in 0..count {
                let (row, numbers) = (start + offset, tile.row(offset));
                work.encoders.encode(rows, row, numbers, &mut scratch);
                answers.questions.push(scratch.row());
                if let Some(target) = work.target(row) {
                    work.encoders.learn(rows, row, numbers, &mut scratch);
                    network.teach(scratch.row(), target);
                    learned += 1;
                }
                if answers.questions.is_full() || network.is_taught_enough() {
                    answers.give(network, work.predictions)?;
                }
                if network.is_taught_enough() {
                    network.learn()?;
                }
            }
            start += TILE_ROWS;
        }
        answers.give(network, work.predictions)?;
        Ok(learned)
    }
}

impl Work for InBatches<Predict<'_>, &Network> {
    type Output = Result<()>;

    #[inline(always)]
    fn run(self) -> Result<()> {
        let Self { work: Predict { encoders, rows, predictions }, network } = self;
        let mut tile = Tile::new(rows.count(), encoders.width());
        let mut scratch = encoders.scratch();
        let mut answers = Answers::new(network);
        let mut start = 0;
        while start < rows.count() {
            let count = tile.fill(rows.numbers(), start, rows.count());
            for offset in 0..count {
                encoders.encode(rows, start + offset, tile.row(offset), &mut scratch);
                answers.questions.push(scratch.row());
                if answers.questions.is_full() {
                    answers.give(network, predictions)?;
                }
            }
            start += TILE_ROWS;
        }
        answers.give(network, predictions)
    }
}

/// Rows that wait to be predicted, behind those that were.
struct Answers {
    questions: Questions,
    given: usize,
}

impl Answers {
    fn new(network: &Network) -> Self {
        Self { questions: network.questions(), given: 0 }
    }

    fn give(&mut self, network: &Network, predictions: &mut [f64]) -> Result<()> {
        let (count, outputs) = (self.questions.len(), network.outputs());
        network.answer(&mut self.questions, &mut predictions[self.given * outputs..][..count * outputs])?;
        self.given += count;
        Ok(())
    }
}
