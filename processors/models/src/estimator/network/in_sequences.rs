//! Predicting and learning by a network over sequences: each row is computed with the rows of its key before it.
//!
//! A row is remembered as it was encoded when it came, whether it is learned or not, and before the next one is looked at. Rows that are only
//! predicted are not remembered, so that each is predicted from what was learned, and not from the rows beside it.

use millstream_core::Result;

use super::super::{Predict, Step};
use super::Network;
use super::in_batches::{InBatches, PendingPredictions};
use super::sequences::Sequences;
use crate::encode::{TILE_ROWS, Tile};
use crate::simd::Work;

/// The same work as [`InBatches`], of a network that has these sequences.
pub(super) struct InSequences<W, N, S>(pub InBatches<W, N>, pub S);

impl Work for InSequences<Step<'_>, &mut Network, &mut Sequences> {
    /// How many rows were learned, or wait to be.
    type Output = Result<u64>;

    #[inline(always)]
    fn run(self) -> Result<u64> {
        let Self(InBatches { work, network }, sequences) = self;
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
                let key = sequences.key_of(rows, row);
                work.encoders.encode(rows, row, numbers, &mut scratch);
                pending.rows.rows.push_window(sequences.rows_of(key), scratch.row());
                if let Some(target) = work.target(row) {
                    work.encoders.learn(rows, row, numbers, &mut scratch);
                    let (before, weight) = (sequences.rows_of(key), work.weight(row));
                    network.pending.push_labelled_window(before, scratch.row(), target, weight);
                    learned += 1;
                }
                sequences.remember(key, pending.rows.rows.last());
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

impl Work for InSequences<Predict<'_>, &Network, &Sequences> {
    type Output = Result<()>;

    #[inline(always)]
    fn run(self) -> Result<()> {
        let Self(InBatches { work: Predict { encoders, rows, predictions }, network }, sequences) = self;
        let mut tile = Tile::new(rows.count(), encoders.width());
        let mut scratch = encoders.scratch();
        let mut pending = PendingPredictions::new(network);
        let mut start = 0;
        while start < rows.count() {
            let count = tile.fill(rows.numbers(), start, rows.count());
            for offset in 0..count {
                encoders.encode(rows, start + offset, tile.row(offset), &mut scratch);
                let before = sequences.rows_of(sequences.key_of(rows, start + offset));
                pending.rows.rows.push_window(before, scratch.row());
                if pending.rows.is_full() {
                    pending.predict(network, predictions)?;
                }
            }
            start += TILE_ROWS;
        }
        pending.predict(network, predictions)
    }
}
