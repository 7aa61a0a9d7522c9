//! Predicting and learning a batch one row at a time.

use super::{Predict, Step};
use crate::encode::{TILE_ROWS, Tile};
use crate::estimator::{self, Estimate};
use crate::simd::Work;

/// Some work, by an estimator that learns one row at a time.
pub(super) struct ByRow<W, E> {
    pub work: W,
    pub estimator: E,
}

impl Work for ByRow<Step<'_>, &mut estimator::ByRow> {
    /// How many rows were learned.
    type Output = u64;

    #[inline(always)]
    fn run(self) -> u64 {
        let Self { work, estimator } = self;
        let rows = &work.input.rows;
        let mut tile = Tile::new(rows.count(), work.encoders.width());
        let mut scratch = work.encoders.scratch();
        let mut learned = 0;
        let mut start = 0;
        while start < rows.count() {
            let count = tile.fill(rows.numbers(), start, rows.count());
            for offset in 0..count {
                let (row, numbers) = (start + offset, tile.row(offset));
                work.encoders.encode(rows, row, numbers, &mut scratch);
                estimator.predict(scratch.row(), work.predictions.row_mut(row));
                let Some(target) = work.target(row) else { continue };
                work.encoders.learn(rows, row, numbers, &mut scratch);
                estimator.learn(scratch.row(), target);
                learned += 1;
            }
            start += TILE_ROWS;
        }
        learned
    }
}

impl Work for ByRow<Predict<'_>, &estimator::ByRow> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { work: Predict { encoders, rows, predictions }, estimator } = self;
        let mut tile = Tile::new(rows.count(), encoders.width());
        let mut scratch = encoders.scratch();
        let mut start = 0;
        while start < rows.count() {
            let count = tile.fill(rows.numbers(), start, rows.count());
            for offset in 0..count {
                encoders.encode(rows, start + offset, tile.row(offset), &mut scratch);
                estimator.predict(scratch.row(), predictions.row_mut(start + offset));
            }
            start += TILE_ROWS;
        }
    }
}
