//! Encoded rows that are computed with together.

use millstream_core::{Error, Result};

use super::super::Row;
use crate::encode::LARGEST_OF_32_BITS;
use crate::tensors::Tensors;

/// The slot of a category that a row lacks.
pub(super) const NONE: u32 = u32::MAX;

/// One row as it is computed with.
#[derive(Clone, Copy, Debug)]
pub(super) struct StepRow<'a> {
    pub numbers: &'a [f32],
    pub slots: &'a [u32],
}

/// Rows, each of so many numbers and of one slot a category, or windows of so many rows, of which the last one is predicted; those
/// that are learned have a target, too.
#[derive(Clone, Debug)]
pub(super) struct Rows {
    width: usize,
    /// For each category, the first slot that is another's.
    ends: Vec<u32>,
    /// How many rows a window has: 1 if each row stands for itself.
    window: usize,
    /// How many there are, of rows or of windows.
    count: usize,
    numbers: Vec<f32>,
    slots: Vec<u32>,
    /// Of windows of several rows, the first one that is not absent.
    starts: Vec<u32>,
    targets: Vec<f32>,
    /// How much each counts that is to be learned; empty while all count 1.
    weights: Vec<f32>,
}

impl Rows {
    /// None yet. `ends` are, for each category, the first slot that is another's.
    pub fn new(width: usize, ends: Vec<u32>) -> Self {
        let (numbers, slots, starts) = (Vec::new(), Vec::new(), Vec::new());
        Self { width, ends, window: 1, count: 0, numbers, slots, starts, targets: Vec::new(), weights: Vec::new() }
    }

    /// The same in windows of so many rows.
    pub fn in_windows(self, window: usize) -> Self {
        Self { window, ..self }
    }

    /// None of the same kind.
    pub fn like(&self) -> Self {
        Self::new(self.width, self.ends.clone()).in_windows(self.window)
    }

    pub fn len(&self) -> usize {
        self.count
    }

    /// How many rows all windows have.
    pub fn steps(&self) -> usize {
        self.count * self.window
    }

    pub fn clear(&mut self) {
        self.count = 0;
        self.numbers.clear();
        self.slots.clear();
        self.starts.clear();
        self.targets.clear();
        self.weights.clear();
    }

    /// Adds a row.
    #[inline(always)]
    pub fn push(&mut self, row: Row<'_>) {
        self.count += 1;
        self.extend(row);
    }

    #[inline(always)]
    fn extend(&mut self, row: Row<'_>) {
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
        self.label(target, weight);
        self.push(row);
    }

    #[inline(always)]
    fn label(&mut self, target: f64, weight: f64) {
        if weight != 1.0 || !self.weights.is_empty() {
            self.weights.resize(self.targets.len(), 1.0);
            self.weights.push(weight as f32);
        }
        self.targets.push(target as f32);
    }

    /// Adds a row behind those before it, of which there must be fewer than a window has.
    pub fn push_window<'a>(&mut self, before: impl ExactSizeIterator<Item = StepRow<'a>>, row: Row<'_>) {
        let absent = self.window - 1 - before.len();
        self.count += 1;
        self.starts.push(absent as u32);
        self.numbers.resize(self.numbers.len() + absent * self.width, 0.0);
        self.slots.resize(self.slots.len() + absent * self.ends.len(), NONE);
        before.for_each(|step| self.extend_step(step));
        self.extend(row);
    }

    /// The same of a row that is to be learned, and counts so much.
    pub fn push_labelled_window<'a>(
        &mut self,
        before: impl ExactSizeIterator<Item = StepRow<'a>>,
        row: Row<'_>,
        target: f64,
        weight: f64,
    ) {
        self.label(target, weight);
        self.push_window(before, row);
    }

    /// Adds a row of another list.
    pub fn push_step(&mut self, step: StepRow<'_>) {
        self.count += 1;
        self.extend_step(step);
    }

    fn extend_step(&mut self, step: StepRow<'_>) {
        self.numbers.extend_from_slice(step.numbers);
        self.slots.extend_from_slice(step.slots);
    }

    /// One of the rows of all windows.
    pub fn step(&self, step: usize) -> StepRow<'_> {
        StepRow { numbers: self.numbers(step), slots: self.slots(step) }
    }

    /// The last row, if there is one.
    pub fn last(&self) -> Option<StepRow<'_>> {
        Some(self.step(self.steps().checked_sub(1)?))
    }

    pub fn numbers(&self, step: usize) -> &[f32] {
        &self.numbers[step * self.width..][..self.width]
    }

    pub fn slots(&self, step: usize) -> &[u32] {
        &self.slots[step * self.ends.len()..][..self.ends.len()]
    }

    /// Of windows of several rows, the first one that is not absent; none of rows that stand for themselves.
    pub fn starts(&self) -> &[u32] {
        &self.starts
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
        self.save_steps("pending", tensors);
        if self.window > 1 {
            tensors.put_u32("pending.starts", &[self.count], &self.starts);
        }
        tensors.put_f32("pending.targets", &[self.count], &self.targets);
        tensors.put_f32("pending.weights", &[self.weights.len()], &self.weights);
    }

    /// Writes the rows alone.
    pub fn save_steps(&self, name: &str, tensors: &mut Tensors) {
        tensors.put_f32(&format!("{name}.numbers"), &[self.steps(), self.width], &self.numbers);
        tensors.put_u32(&format!("{name}.slots"), &[self.steps(), self.ends.len()], &self.slots);
    }

    /// Reads rows, of which there must be fewer than `most`, with targets below `classes` if there are any.
    pub fn load(&mut self, tensors: &Tensors, most: usize, classes: usize) -> Result<()> {
        self.load_steps("pending", tensors)?;
        if self.window > 1 {
            self.starts = tensors.u32s("pending.starts", &[self.count])?;
        }
        self.targets = tensors.f32s("pending.targets", &[self.count])?;
        self.weights = match tensors.rows("pending.weights") {
            Ok(0) => Vec::new(),
            Ok(_) => tensors.f32s("pending.weights", &[self.count])?,
            // It was written before rows could count more or less.
            Err(_) => Vec::new(),
        };
        let is_class = |target: &f32| classes == 0 || (0.0..classes as f32).contains(target);
        let begins = |start: &u32| (*start as usize) < self.window;
        let are_sound = self.targets.iter().all(is_class) && self.starts.iter().all(begins);
        if self.count < most && self.slots_fit() && are_sound {
            Ok(())
        } else {
            Err(Error::new("the rows in the model that wait to be learned are damaged"))
        }
    }

    /// Reads the rows alone.
    pub fn load_steps(&mut self, name: &str, tensors: &Tensors) -> Result<()> {
        let numbers = format!("{name}.numbers");
        self.count = tensors.rows(&numbers)? / self.window;
        self.numbers = tensors.f32s(&numbers, &[self.steps(), self.width])?;
        self.slots = tensors.u32s(&format!("{name}.slots"), &[self.steps(), self.ends.len()])?;
        Ok(())
    }

    /// Whether all slots are their categories'.
    pub fn slots_fit(&self) -> bool {
        let fits = |(index, slot): (usize, &u32)| *slot == NONE || *slot < self.ends[index % self.ends.len()];
        self.slots.iter().enumerate().all(fits)
    }

    /// For each category, the first slot that is another's.
    pub fn ends(&self) -> &[u32] {
        &self.ends
    }
}
