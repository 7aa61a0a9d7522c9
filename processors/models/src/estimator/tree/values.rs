//! Which values of a category a leaf has seen, and what it has counted of the rows of each.

/// The slots that were seen, in their order, and so many numbers of each: its `columns`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Values {
    pub slots: Vec<u32>,
    pub counts: Vec<f64>,
}

impl Values {
    /// How many bytes a value takes.
    fn bytes_of_one(columns: usize) -> usize {
        size_of::<u32>() + size_of::<f64>() * columns
    }

    pub fn bytes(&self, columns: usize) -> usize {
        self.slots.len() * Self::bytes_of_one(columns)
    }

    /// What is counted of a value, and how many bytes more that takes; nothing if it is new and there is no room for it.
    #[inline]
    pub fn of(&mut self, slot: u32, columns: usize, room: usize) -> Option<(&mut [f64], usize)> {
        let (at, more) = match self.slots.binary_search(&slot) {
            Ok(at) => (at, 0),
            Err(_) if room < Self::bytes_of_one(columns) => return None,
            Err(at) => {
                self.slots.insert(at, slot);
                self.counts.splice(at * columns..at * columns, std::iter::repeat_n(0.0, columns));
                (at, Self::bytes_of_one(columns))
            }
        };
        Some((&mut self.counts[at * columns..(at + 1) * columns], more))
    }

    /// How probable the value is for a class whose rows count `total`: each value that was seen is taken to have come once more (Laplace).
    #[inline]
    pub fn share(&self, slot: u32, class: usize, classes: usize, total: f64) -> f64 {
        let count = self.slots.binary_search(&slot).map_or(0.0, |at| self.counts[at * classes + class]);
        (count + 1.0) / (total + self.slots.len().max(1) as f64)
    }

    /// By value, what is counted of it.
    pub fn by_value(&self, columns: usize) -> impl Iterator<Item = &[f64]> + Clone {
        self.counts.chunks_exact(columns)
    }
}
