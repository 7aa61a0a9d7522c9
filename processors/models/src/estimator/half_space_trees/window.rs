//! A window of rows, and what it says of how large its numbers and how frequent its values are.

use millstream_core::{Error, Result};

use super::{Feature, Row, Shape, ends_of_categories};
use crate::tensors::Tensors;

/// What stands for a category without a value.
const NOTHING: u32 = u32::MAX;

/// Rows that are gathered until there are enough.
#[derive(Clone, Debug)]
pub(super) struct Window {
    size: usize,
    shape: Shape,
    /// By category, the end of its slots.
    ends: Vec<u32>,
    filled: usize,
    /// The numbers of the rows, one row behind the other.
    numbers: Vec<f64>,
    /// By row and category, its slot.
    slots: Vec<u32>,
}

/// The numbers of a row, and its slots, among which may be what stands for none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts<'a> {
    numbers: &'a [f64],
    slots: &'a [u32],
}

impl Window {
    pub fn new(features: &[Feature], shape: Shape, size: usize) -> Self {
        let ends = ends_of_categories(features);
        let slots = vec![NOTHING; size * ends.len()];
        Self { size, shape, ends, filled: 0, numbers: vec![0.0; size * shape.numbers], slots }
    }

    pub fn size(&self) -> usize {
        self.size
    }

    /// One for each number, and one for each category.
    pub fn dimensions(&self) -> usize {
        self.shape.numbers + self.ends.len()
    }

    pub fn is_full(&self) -> bool {
        self.filled == self.size
    }

    /// Begins to gather anew.
    pub fn empty(&mut self) {
        self.filled = 0;
    }

    #[inline(always)]
    pub fn push(&mut self, row: Row<'_>) {
        let (numbers, categories) = (self.shape.numbers, self.ends.len());
        self.numbers[self.filled * numbers..][..numbers].copy_from_slice(&row.numbers[..numbers]);
        let own = &mut self.slots[self.filled * categories..][..categories];
        own.fill(NOTHING);
        row.slots.iter().for_each(|slot| own[category(&self.ends, *slot)] = *slot);
        self.filled += 1;
    }

    pub fn row(&self, row: usize) -> Parts<'_> {
        let (numbers, categories) = (self.shape.numbers, self.ends.len());
        Parts {
            numbers: &self.numbers[row * numbers..][..numbers],
            slots: &self.slots[row * categories..][..categories],
        }
    }

    #[inline(always)]
    pub fn parts_of<'a>(&self, row: Row<'a>) -> Parts<'a> {
        Parts { numbers: &row.numbers[..self.shape.numbers], slots: row.slots }
    }

    pub fn save(&self, tensors: &mut Tensors) {
        tensors.put_u64("estimator.filled", &[self.filled as u64]);
        tensors.put_f64("estimator.numbers", &[self.size, self.shape.numbers], &self.numbers);
        tensors.put_u32("estimator.slots", &[self.size, self.ends.len()], &self.slots);
    }

    pub fn load(&mut self, tensors: &Tensors) -> Result<()> {
        let damaged = || Error::new("the window of the model is damaged");
        let filled = tensors.u64s("estimator.filled")?.first().copied();
        self.filled = filled.filter(|filled| *filled < self.size as u64).ok_or_else(damaged)? as usize;
        self.numbers = tensors.f64s("estimator.numbers", &[self.size, self.shape.numbers])?;
        self.slots = tensors.u32s("estimator.slots", &[self.size, self.ends.len()])?;
        let exists = |slot: &u32| *slot == NOTHING || (*slot as usize) < self.shape.slots;
        if self.slots.iter().all(exists) { Ok(()) } else { Err(damaged()) }
    }
}

#[inline(always)]
fn category(ends: &[u32], slot: u32) -> usize {
    ends.partition_point(|end| *end <= slot)
}

/// How rows become points: what is usual lies from 0 to 1.
#[derive(Clone, Debug)]
pub(super) struct Scales {
    ends: Vec<u32>,
    /// By number, where 0 is, and by what the distance from there is multiplied.
    zeros: Vec<f64>,
    factors: Vec<f64>,
    /// By slot, how frequent it is beside the most frequent one of its category.
    frequencies: Vec<f64>,
}

impl Scales {
    /// Those of no rows.
    pub fn new(window: &Window) -> Self {
        let Shape { numbers, slots, .. } = window.shape;
        let ends = window.ends.clone();
        Self { ends, zeros: vec![0.0; numbers], factors: vec![1.0; numbers], frequencies: vec![0.0; slots] }
    }

    /// Those of a full window: 0 is its quantile, and 1 the opposite one.
    pub fn of(window: &Window, quantile: f64) -> Self {
        let mut scales = Self::new(window);
        for number in 0..window.shape.numbers {
            let of_row = |row: usize| window.row(row).numbers[number];
            let mut sorted: Vec<_> = (0..window.size).map(of_row).collect();
            sorted.sort_unstable_by(f64::total_cmp);
            let first = (quantile * (window.size - 1) as f64) as usize;
            let (low, high) = (sorted[first], sorted[window.size - 1 - first]);
            scales.zeros[number] = low;
            // What is always the same has no size of its own.
            scales.factors[number] = if high > low { 1.0 / (high - low) } else { 1.0 };
        }
        for slot in window.slots.iter().filter(|slot| **slot != NOTHING) {
            scales.frequencies[*slot as usize] += 1.0;
        }
        let mut first = 0;
        for end in &scales.ends {
            let own = &mut scales.frequencies[first..*end as usize];
            let most = own.iter().copied().fold(1.0, f64::max);
            own.iter_mut().for_each(|frequency| *frequency /= most);
            first = *end as usize;
        }
        scales
    }

    /// Places a row in the space.
    #[inline(always)]
    pub fn place(&self, row: Parts<'_>, point: &mut [f64]) {
        let (of_numbers, of_categories) = point.split_at_mut(self.zeros.len());
        let scales = self.zeros.iter().zip(&self.factors);
        for ((place, number), (zero, factor)) in of_numbers.iter_mut().zip(row.numbers).zip(scales) {
            *place = (number - zero) * factor;
        }
        of_categories.fill(0.0);
        for slot in row.slots.iter().filter(|slot| **slot != NOTHING) {
            of_categories[category(&self.ends, *slot)] = self.frequencies[*slot as usize];
        }
    }

    pub fn save(&self, tensors: &mut Tensors) {
        for (name, values) in [("zeros", &self.zeros), ("factors", &self.factors), ("frequencies", &self.frequencies)] {
            tensors.put_f64(&format!("estimator.{name}"), &[values.len()], values);
        }
    }

    pub fn load(&mut self, tensors: &Tensors) -> Result<()> {
        for (name, values) in
            [("zeros", &mut self.zeros), ("factors", &mut self.factors), ("frequencies", &mut self.frequencies)]
        {
            *values = tensors.f64s(&format!("estimator.{name}"), &[values.len()])?;
        }
        Ok(())
    }
}
