//! The last rows and their targets, in a ring.

use millstream_core::{Error, Result};

use super::Row;
use super::columns::Columns;
use crate::encode::Feature;
use crate::tensors::Tensors;

#[derive(Clone, Debug)]
pub(super) struct Window {
    size: usize,
    /// How many rows there are, and where the next one goes.
    filled: usize,
    next: usize,
    rows: Columns,
    targets: Vec<f64>,
}

impl Window {
    pub fn new(features: &[Feature], size: usize) -> Self {
        Self { size, filled: 0, next: 0, rows: Columns::new(features, size), targets: vec![0.0; size] }
    }

    /// Takes a row in, in the place of the oldest if there is no other, and returns the place.
    #[inline(always)]
    pub fn push(&mut self, row: Row<'_>, target: f64) -> usize {
        let at = self.next;
        self.rows.put(at, row);
        self.targets[at] = target;
        self.next = if at + 1 == self.size { 0 } else { at + 1 };
        self.filled = self.size.min(self.filled + 1);
        at
    }

    /// How many rows there are.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.filled
    }

    pub fn rows(&self) -> &Columns {
        &self.rows
    }

    /// Where the row is that has so many older ones.
    #[inline(always)]
    pub fn place(&self, older: usize) -> usize {
        (self.next + self.size - self.filled + older) % self.size
    }

    /// How many rows are older than the one at that place.
    #[inline(always)]
    pub fn older(&self, place: usize) -> usize {
        (place + self.size - (self.next + self.size - self.filled) % self.size) % self.size
    }

    /// The target of the row at that place.
    #[inline(always)]
    pub fn target(&self, place: usize) -> f64 {
        self.targets[place]
    }

    /// The places of the rows, the oldest first.
    pub fn places(&self) -> Vec<usize> {
        (0..self.filled).map(|older| self.place(older)).collect()
    }

    /// The rows, the oldest first, so that it does not matter where in the ring they are.
    pub fn save(&self, tensors: &mut Tensors) {
        let places = self.places();
        self.rows.save("estimator.", &places, tensors);
        let targets: Vec<_> = places.iter().map(|place| self.targets[*place]).collect();
        tensors.put_f64("estimator.targets", &[self.filled], &targets);
    }

    pub fn load(&mut self, tensors: &Tensors) -> Result<()> {
        let filled = tensors.rows("estimator.targets")?;
        if filled > self.size {
            return Err(Error::new(format!("the model has a window of {filled} rows, and {} are the most", self.size)));
        }
        let places: Vec<_> = (0..filled).collect();
        self.targets[..filled].copy_from_slice(&tensors.f64s("estimator.targets", &[filled])?);
        self.rows.load("estimator.", &places, tensors)?;
        (self.filled, self.next) = (filled, filled % self.size);
        Ok(())
    }
}
