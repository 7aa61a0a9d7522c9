//! What a branch asks of a row, and what becomes of a leaf that is split.

use crate::encode::Row;

/// What a branch asks of a row.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Test {
    /// Whether a number is at most so large: its first child.
    Number { feature: u32, at: f64 },
    /// Which of these values a category has; those slots lie between two others.
    Category { first: u32, end: u32, slots: Vec<u32> },
}

impl Test {
    /// The child that a row goes to, if the test knows it.
    #[inline(always)]
    pub fn child(&self, row: Row<'_>) -> Option<u32> {
        match self {
            Self::Number { feature, at } => Some(u32::from(row.numbers[*feature as usize] > *at)),
            Self::Category { first, end, slots } => {
                let slot = row.slots.iter().find(|slot| (*first..*end).contains(*slot))?;
                slots.binary_search(slot).ok().map(|child| child as u32)
            }
        }
    }

    /// How many there are.
    pub fn children(&self) -> usize {
        match self {
            Self::Number { .. } => 2,
            Self::Category { slots, .. } => slots.len(),
        }
    }

    /// How many bytes it takes beside the node.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Number { .. } => 0,
            Self::Category { slots, .. } => size_of_val(slots.as_slice()),
        }
    }
}

/// A way to split a leaf.
#[derive(Clone, Debug)]
pub(in crate::estimator) struct Split<K> {
    pub(super) test: Test,
    /// By child, what is known of it from the start.
    pub(super) children: Vec<K>,
}

/// The best of several ways, each with its merit, and the merit of the second best; the first of equals. Not to split at all has a merit of 0.
pub(super) fn best<T>(ways: impl Iterator<Item = (f64, T)>) -> Option<(f64, f64, T)> {
    let (mut best, mut second): (Option<(f64, T)>, f64) = (None, 0.0);
    for (merit, way) in ways {
        let most = best.as_ref().map_or(0.0, |(most, _)| *most);
        if merit > most {
            (best, second) = (Some((merit, way)), most);
        } else {
            second = second.max(merit);
        }
    }
    best.map(|(merit, way)| (merit, second, way))
}
