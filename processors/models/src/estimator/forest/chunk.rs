//! Some rows of a batch, encoded, so that several trees can go through them, each at its own pace.

use std::ops::Range;

use crate::encode::{Encoders, Row, Rows, Scratch, TILE_ROWS, Tile};
use crate::estimator::Step;
use crate::simd::Work;

/// Encoded rows, one behind the other.
#[derive(Clone, Debug, Default)]
struct Encoded {
    width: usize,
    numbers: Vec<f64>,
    slots: Vec<u32>,
    /// By row, the end of its slots.
    ends: Vec<usize>,
}

impl Encoded {
    fn of_width(width: usize) -> Self {
        Self { width, ..Self::default() }
    }

    #[inline(always)]
    fn push(&mut self, row: Row<'_>) {
        self.numbers.extend_from_slice(row.numbers);
        self.slots.extend_from_slice(row.slots);
        self.ends.push(self.slots.len());
    }

    #[inline(always)]
    fn row(&self, row: usize) -> Row<'_> {
        let start = if row == 0 { 0 } else { self.ends[row - 1] };
        Row {
            numbers: &self.numbers[row * self.width..(row + 1) * self.width],
            slots: &self.slots[start..self.ends[row]],
        }
    }
}

/// Rows as they are to be predicted, and as they are to be learned then: what encodes them learns in between.
#[derive(Clone, Debug)]
pub(super) struct Chunk {
    predicted: Encoded,
    learned: Encoded,
    /// By row, the target that is to be learned, if any is.
    targets: Vec<Option<f64>>,
    /// By row, how much it counts.
    weights: Vec<f64>,
}

impl Chunk {
    fn of_width(width: usize) -> Self {
        Self {
            predicted: Encoded::of_width(width),
            learned: Encoded::of_width(width),
            targets: Vec::new(),
            weights: Vec::new(),
        }
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.targets.len()
    }

    /// A row as it is to be predicted.
    #[inline(always)]
    pub fn row(&self, row: usize) -> Row<'_> {
        self.predicted.row(row)
    }

    /// A row as it is to be learned, its target, and how much it counts.
    #[inline(always)]
    pub fn learned(&self, row: usize) -> Option<(Row<'_>, f64, f64)> {
        self.targets[row].map(|target| (self.learned.row(row), target, self.weights[row]))
    }

    /// How many of these rows are to be learned.
    pub fn count_learned(&self, rows: Range<usize>) -> u64 {
        self.targets[rows].iter().flatten().count() as u64
    }
}

/// Encodes rows that are to be predicted and learned.
pub(super) struct Learn<'a, 'b> {
    pub step: &'a mut Step<'b>,
    pub rows: Range<usize>,
}

impl Work for Learn<'_, '_> {
    type Output = Chunk;

    #[inline(always)]
    fn run(self) -> Chunk {
        let Self { step, rows } = self;
        let width = step.encoders.width();
        let mut chunk = Chunk::of_width(width);
        let mut scratch = step.encoders.scratch();
        each_row(step.rows, rows, width, |row, numbers| {
            step.encoders.encode(step.rows, row, numbers, &mut scratch);
            chunk.predicted.push(scratch.row());
            let target = step.target(row);
            if target.is_some() {
                step.encoders.learn(step.rows, row, numbers, &mut scratch);
            }
            chunk.learned.push(scratch.row());
            chunk.targets.push(target);
            chunk.weights.push(step.weight(row));
        });
        chunk
    }
}

/// Encodes rows that are to be predicted.
pub(super) struct Look<'a> {
    pub encoders: &'a Encoders,
    pub all: &'a Rows,
    pub rows: Range<usize>,
}

impl Work for Look<'_> {
    type Output = Chunk;

    #[inline(always)]
    fn run(self) -> Chunk {
        let Self { encoders, all, rows } = self;
        let mut predicted = Encoded::of_width(encoders.width());
        let targets = vec![None; rows.len()];
        let mut scratch: Scratch = encoders.scratch();
        each_row(all, rows, encoders.width(), |row, numbers| {
            encoders.encode(all, row, numbers, &mut scratch);
            predicted.push(scratch.row());
        });
        Chunk { predicted, learned: Encoded::default(), targets, weights: Vec::new() }
    }
}

#[inline(always)]
fn each_row(all: &Rows, rows: Range<usize>, width: usize, mut each: impl FnMut(usize, &[f64])) {
    let mut tile = Tile::new(rows.len(), width);
    let mut start = rows.start;
    while start < rows.end {
        let count = tile.fill(all.numbers(), start, rows.end);
        (0..count).for_each(|offset| each(start + offset, tile.row(offset)));
        start += TILE_ROWS;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Chunk {
        /// Room for rows.
        pub fn with_width(width: usize) -> Self {
            Self::of_width(width)
        }

        /// Adds a row of that target.
        pub fn push(&mut self, row: Row<'_>, target: f64) {
            self.predicted.push(row);
            self.learned.push(row);
            self.targets.push(Some(target));
            self.weights.push(1.0);
        }
    }
}
