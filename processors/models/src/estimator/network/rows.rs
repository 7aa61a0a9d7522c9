//! Encoded rows that are computed with together.

use millstream_core::{Error, Result};

use super::super::Row;
use crate::encode::LARGEST_OF_32_BITS;
use crate::tensors::Tensors;

/// The slot of a category that a row lacks.
pub(super) const NONE: u32 = u32::MAX;

/// Rows, each of so many numbers and of one slot a category; those that are learned have a target, too.
#[derive(Clone, Debug)]
pub(super) struct Rows {
    width: usize,
    /// For each category, the first slot that is another's.
    ends: Vec<u32>,
    count: usize,
    numbers: Vec<f32>,
    slots: Vec<u32>,
    targets: Vec<f32>,
    /// How much each counts that is to be learned; empty while all count 1.
    weights: Vec<f32>,
}

impl Rows {
    /// None yet. `ends` are, for each category, the first slot that is another's.
    pub fn new(width: usize, ends: Vec<u32>) -> Self {
        Self { width, ends, count: 0, numbers: Vec::new(), slots: Vec::new(), targets: Vec::new(), weights: Vec::new() }
    }

    /// None of the same kind.
    pub fn like(&self) -> Self {
        Self::new(self.width, self.ends.clone())
    }

    pub fn len(&self) -> usize {
        self.count
    }

    pub fn clear(&mut self) {
        self.count = 0;
        self.numbers.clear();
        self.slots.clear();
        self.targets.clear();
        self.weights.clear();
    }

    /// Adds a row.
    #[inline(always)]
    pub fn push(&mut self, row: Row<'_>) {
        self.count += 1;
        // Only a standardised number can be larger, by many deviations.
        let in_32_bits = |number: &f64| number.clamp(-LARGEST_OF_32_BITS, LARGEST_OF_32_BITS) as f32;
        self.numbers.extend(row.numbers[..self.width].iter().map(in_32_bits));
        // The slots of a row are in the order of the categories, and those that it lacks are left out.
        let mut slots = row.slots.iter().copied().peekable();
        let of_category = self.ends.iter().map(|end| slots.next_if(|slot| slot < end).unwrap_or(NONE));
        self.slots.extend(of_category);
    }

    /// Adds a row that is to be learned, and counts so much.
    #[inline(always)]
    pub fn push_labelled(&mut self, row: Row<'_>, target: f64, weight: f64) {
        if weight != 1.0 || !self.weights.is_empty() {
            self.weights.resize(self.targets.len(), 1.0);
            self.weights.push(weight as f32);
        }
        self.push(row);
        self.targets.push(target as f32);
    }

    pub fn numbers(&self, row: usize) -> &[f32] {
        &self.numbers[row * self.width..][..self.width]
    }

    pub fn slots(&self, row: usize) -> &[u32] {
        &self.slots[row * self.ends.len()..][..self.ends.len()]
    }

    /// Of all rows.
    pub fn targets(&self) -> &[f32] {
        &self.targets
    }

    /// Of all rows; none if all count 1.
    pub fn weights(&self) -> &[f32] {
        &self.weights
    }

    pub fn save(&self, tensors: &mut Tensors) {
        tensors.put_f32("pending.numbers", &[self.count, self.width], &self.numbers);
        tensors.put_u32("pending.slots", &[self.count, self.ends.len()], &self.slots);
        tensors.put_f32("pending.targets", &[self.count], &self.targets);
        tensors.put_f32("pending.weights", &[self.weights.len()], &self.weights);
    }

    /// Reads rows, of which there must be fewer than `most`, with targets below `classes` if there are any.
    pub fn load(&mut self, tensors: &Tensors, most: usize, classes: usize) -> Result<()> {
        self.count = tensors.rows("pending.numbers")?;
        self.numbers = tensors.f32s("pending.numbers", &[self.count, self.width])?;
        self.slots = tensors.u32s("pending.slots", &[self.count, self.ends.len()])?;
        self.targets = tensors.f32s("pending.targets", &[self.count])?;
        self.weights = match tensors.rows("pending.weights") {
            Ok(0) => Vec::new(),
            Ok(_) => tensors.f32s("pending.weights", &[self.count])?,
            // It was written before rows could count more or less.
            Err(_) => Vec::new(),
        };
        let fits = |(index, slot): (usize, &u32)| *slot == NONE || *slot < self.ends[index % self.ends.len()];
        let is_class = |target: &f32| classes == 0 || (0.0..classes as f32).contains(target);
        if self.count < most && self.slots.iter().enumerate().all(fits) && self.targets.iter().all(is_class) {
            Ok(())
        } else {
            Err(Error::new("the rows in the model that wait to be learned are damaged"))
        }
    }
}
