//! The last rows, feature by feature, so that a row is compared with several of them at once: each distance is added up in the order of the
//! features, whatever the width of vectors.

use millstream_core::{Error, Result};

use super::nearest::{Nearest, Neighbour};
use super::{Feature, Row, Shape, ends_of_categories};
use crate::tensors::Tensors;

/// So many rows are compared at once.
const AT_ONCE: usize = 32;

/// What stands for a category without a value.
const NOTHING: u32 = u32::MAX;

/// The last rows in a ring.
#[derive(Clone, Debug)]
pub(super) struct Window {
    size: usize,
    /// How many numbers a row has.
    numbers: usize,
    /// By category, the end of its slots.
    ends: Vec<u32>,
    /// How many rows there are, and where the next one goes.
    filled: usize,
    next: usize,
    /// The rows of a column, with padding.
    stride: usize,
    /// Of the numbers, one column behind the other.
    columns: Vec<f64>,
    /// Of the categories.
    slots: Vec<u32>,
    targets: Vec<f64>,
    /// The slots of one row, by category.
    room: Vec<u32>,
}

impl Window {
    pub fn new(features: &[Feature], shape: Shape, size: usize) -> Self {
        let ends = ends_of_categories(features);
        let stride = size.next_multiple_of(AT_ONCE);
        Self {
            size,
            numbers: shape.numbers,
            filled: 0,
            next: 0,
            stride,
            columns: vec![0.0; stride * shape.numbers],
            slots: vec![NOTHING; stride * ends.len()],
            targets: vec![0.0; size],
            room: vec![NOTHING; ends.len()],
            ends,
        }
    }

    /// The slot of each category of a row.
    #[inline(always)]
    fn by_category<'a>(ends: &'a [u32], row: Row<'a>) -> impl Iterator<Item = u32> + 'a {
        let mut rest = row.slots;
        ends.iter().map(move |end| match rest.split_first() {
            Some((slot, others)) if slot < end => {
                rest = others;
                *slot
            }
            _ => NOTHING,
        })
    }

    #[inline(always)]
    pub fn push(&mut self, row: Row<'_>, target: f64) {
        let at = self.next;
        for (column, number) in self.columns.chunks_exact_mut(self.stride).zip(row.numbers) {
            column[at] = *number;
        }
        self.room.iter_mut().zip(Self::by_category(&self.ends, row)).for_each(|(own, slot)| *own = slot);
        for (column, slot) in self.slots.chunks_exact_mut(self.stride).zip(&self.room) {
            column[at] = *slot;
        }
        self.targets[at] = target;
        self.next = if at + 1 == self.size { 0 } else { at + 1 };
        self.filled = self.size.min(self.filled + 1);
    }

    /// Where the row is that has so many older ones.
    #[inline(always)]
    fn place(&self, older: usize) -> usize {
        let place = self.next + self.size - self.filled + older;
        place % self.size
    }

    /// How many rows are older than the one at that place.
    #[inline(always)]
    fn older(&self, place: usize) -> usize {
        (place + self.size - (self.next + self.size - self.filled) % self.size) % self.size
    }

    pub fn target(&self, neighbour: &Neighbour) -> f64 {
        self.targets[self.place(neighbour.older)]
    }

    /// Finds the nearest rows.
    #[inline(always)]
    pub fn search(&self, row: Row<'_>, nearest: &mut Nearest) {
        let mut start = 0;
        while start < self.filled {
            let squares = self.squares(row, start);
            // Most rows are too far away, which is seen of several at once.
            for (part, squares) in squares.chunks_exact(8).enumerate() {
                let farthest = nearest.farthest();
                if !squares.iter().fold(false, |any, square| any | (*square <= farthest)) {
                    continue;
                }
                for (offset, square) in squares.iter().enumerate() {
                    let place = start + part * 8 + offset;
                    if *square <= nearest.farthest() && place < self.filled {
                        nearest.offer(Neighbour { square: *square, older: self.older(place) });
                    }
                }
            }
            start += AT_ONCE;
        }
    }

    /// The squares of the distances of a row from those from a place on. Categories that differ lie as far apart as their slots: the square is 2,
    /// or 1 where one has no value.
    #[inline(always)]
    fn squares(&self, row: Row<'_>, start: usize) -> [f64; AT_ONCE] {
        let mut squares = [0.0; AT_ONCE];
        for (column, number) in self.columns.chunks_exact(self.stride).zip(row.numbers) {
            let Some(column) = column[start..].first_chunk::<AT_ONCE>() else { continue };
            for lane in 0..AT_ONCE {
                let off = column[lane] - number;
                squares[lane] += off * off;
            }
        }
        for (column, slot) in self.slots.chunks_exact(self.stride).zip(Self::by_category(&self.ends, row)) {
            let Some(column) = column[start..].first_chunk::<AT_ONCE>() else { continue };
            for lane in 0..AT_ONCE {
                let lacks = column[lane] == NOTHING || slot == NOTHING;
                let apart = if lacks { 1.0 } else { 2.0 };
                squares[lane] += if column[lane] == slot { 0.0 } else { apart };
            }
        }
        squares
    }

    /// The rows, the oldest first, so that it does not matter where in the ring they are.
    pub fn save(&self, tensors: &mut Tensors) {
        let rows = || (0..self.filled).map(|older| self.place(older));
        let columns = self.columns.chunks_exact(self.stride);
        let numbers: Vec<_> = columns.flat_map(|column| rows().map(|place| column[place])).collect();
        tensors.put_f64("estimator.numbers", &[self.numbers, self.filled], &numbers);
        let columns = self.slots.chunks_exact(self.stride);
        let slots: Vec<_> = columns.flat_map(|column| rows().map(|place| column[place])).collect();
        tensors.put_u32("estimator.slots", &[self.ends.len(), self.filled], &slots);
        let targets: Vec<_> = rows().map(|place| self.targets[place]).collect();
        tensors.put_f64("estimator.targets", &[self.filled], &targets);
    }

    pub fn load(&mut self, tensors: &Tensors) -> Result<()> {
        let filled = tensors.rows("estimator.targets")?;
        if filled > self.size {
            return Err(Error::new(format!("the model has a window of {filled} rows, and {} are the most", self.size)));
        }
        let numbers = tensors.f64s("estimator.numbers", &[self.numbers, filled])?;
        let slots = tensors.u32s("estimator.slots", &[self.ends.len(), filled])?;
        self.targets[..filled].copy_from_slice(&tensors.f64s("estimator.targets", &[filled])?);
        for (index, column) in self.columns.chunks_exact_mut(self.stride).enumerate() {
            column[..filled].copy_from_slice(&numbers[index * filled..(index + 1) * filled]);
        }
        for (index, column) in self.slots.chunks_exact_mut(self.stride).enumerate() {
            column[..filled].copy_from_slice(&slots[index * filled..(index + 1) * filled]);
        }
        (self.filled, self.next) = (filled, filled % self.size);
        Ok(())
    }
}
