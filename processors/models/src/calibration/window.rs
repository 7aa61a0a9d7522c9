//! The last rows: what was predicted for them, and their classes.

use std::collections::VecDeque;

use millstream_core::Result;

use super::damaged;
use crate::tensors::Tensors;

/// The last rows, the oldest first.
#[derive(Clone, Debug)]
pub(super) struct Window {
    most: usize,
    /// How many numbers a row has.
    pub curves: usize,
    numbers: VecDeque<f64>,
    classes: VecDeque<u32>,
}

impl Window {
    pub fn new(most: usize, curves: usize) -> Self {
        Self { most, curves, numbers: VecDeque::new(), classes: VecDeque::new() }
    }

    pub fn add(&mut self, numbers: &[f64], class: u32) {
        if self.classes.len() == self.most {
            self.classes.pop_front();
            self.numbers.drain(..self.curves);
        }
        self.numbers.extend(numbers);
        self.classes.push_back(class);
    }

    /// By row, the number at that place, and whether the row is of that class.
    pub fn of_class(&self, place: usize, class: u32) -> Vec<(f64, bool)> {
        let numbers = self.numbers.iter().skip(place).step_by(self.curves);
        numbers.zip(&self.classes).map(|(number, own)| (*number, *own == class)).collect()
    }

    pub fn save(&self, tensors: &mut Tensors) {
        let (numbers, classes): (Vec<_>, Vec<_>) = (self.numbers.clone().into(), self.classes.clone().into());
        tensors.put_f64("calibration.numbers", &[classes.len(), self.curves], &numbers);
        tensors.put_u32("calibration.classes", &[classes.len()], &classes);
    }

    /// Reads the window of one that has learned so many rows of so many classes.
    pub fn load(&mut self, tensors: &Tensors, rows: u64, classes: usize) -> Result<()> {
        let length = rows.min(self.most as u64) as usize;
        self.numbers = tensors.f64s("calibration.numbers", &[length, self.curves])?.into();
        self.classes = tensors.u32s("calibration.classes", &[length])?.into();
        let known = self.classes.iter().all(|class| (*class as usize) < classes);
        if known && self.numbers.iter().all(|number| number.is_finite()) { Ok(()) } else { Err(damaged()) }
    }
}
