//! Predicting and learning by a network: rows are encoded one at a time, predicted as many at once as there are before the
//! network changes, and learned in batches of its own.

use millstream_core::Result;

use super::super::{Estimator, Predict, Step};
use super::{Network, PendingRows};
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
        let mut pending = PendingPredictions::new(network);
        let mut learned = 0;
        let mut start = 0;
        while start < rows.count() {
            let count = tile.fill(rows.numbers(), start, rows.count());
            for offset in 0..count {
                let (row, numbers) = (start + offset, tile.row(offset));
                work.encoders.encode(rows, row, numbers, &mut scratch);
                pending.rows.push(scratch.row());
                if let Some(target) = work.target(row) {
                    work.encoders.learn(rows, row, numbers, &mut scratch);
                    network.teach(scratch.row(), target, work.weight(row));
                    learned += 1;
                }
                if pending.rows.is_full() || network.is_taught_enough() {
                    pending.predict(network, work.predictions)?;
                }
                if network.is_taught_enough() {
                    network.learn()?;
                }
            }
            start += TILE_ROWS;
        }
        pending.predict(network, work.predictions)?;
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
        let mut pending = PendingPredictions::new(network);
        let mut start = 0;
        while start < rows.count() {
            let count = tile.fill(rows.numbers(), start, rows.count());
            for offset in 0..count {
                encoders.encode(rows, start + offset, tile.row(offset), &mut scratch);
                pending.rows.push(scratch.row());
                if pending.rows.is_full() {
                    pending.predict(network, predictions)?;
                }
            }
            start += TILE_ROWS;
        }
        pending.predict(network, predictions)
    }
}

/// Rows that wait to be predicted, behind those that were.
pub(super) struct PendingPredictions {
    pub rows: PendingRows,
    given: usize,
}

impl PendingPredictions {
    pub fn new(network: &Network) -> Self {
        Self { rows: network.pending_rows(), given: 0 }
    }

    pub fn predict(&mut self, network: &Network, predictions: &mut [f64]) -> Result<()> {
        let (count, outputs) = (self.rows.len(), network.outputs());
        network.predict_pending(&mut self.rows, &mut predictions[self.given * outputs..][..count * outputs])?;
        self.given += count;
        Ok(())
    }
}
