//! The sizes of what an estimator learns from.

use crate::encode::Feature;
use crate::label::Class;
use crate::vector::padded;

/// The sizes of what an estimator learns from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// How many numbers a row has.
    pub numbers: usize,
    /// How many there are with padding.
    pub width: usize,
    /// How many slots there are.
    pub slots: usize,
    /// How many classes there are, 0 for none.
    pub classes: usize,
}

impl Shape {
    /// Of rows of these features, and a label of these classes.
    pub fn new(features: &[Feature], classes: &[Class]) -> Self {
        let numbers = features.iter().filter(|feature| feature.encoder.is_number()).count();
        let slots = features.iter().map(|feature| feature.encoder.slots() as usize).sum();
        Self { numbers, width: padded(numbers), slots, classes: classes.len() }
    }
}

/// By category of these features, the slot behind its last one.
pub(super) fn ends_of_categories(features: &[Feature]) -> Vec<u32> {
    let slots = features.iter().map(|feature| feature.encoder.slots()).filter(|slots| *slots > 0);
    let up_to = |end: &mut u32, slots: u32| {
        *end += slots;
        Some(*end)
    };
    slots.scan(0, up_to).collect()
}
