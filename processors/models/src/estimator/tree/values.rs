//! Which values of a category a leaf has seen, and how often with each class.

/// The slots that were seen, in their order, and the weights of their rows by class.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Values {
    pub slots: Vec<u32>,
    pub counts: Vec<f64>,
}

impl Values {
    /// How many bytes a value takes.
    pub fn bytes_of_one(classes: usize) -> usize {
        size_of::<u32>() + size_of::<f64>() * classes
    }

    pub fn bytes(&self, classes: usize) -> usize {
        self.slots.len() * Self::bytes_of_one(classes)
    }

    /// Counts a row, if there is room for its value. Returns how many bytes more that takes.
    #[inline]
    pub fn add(&mut self, slot: u32, class: usize, classes: usize, weight: f64, room: usize) -> usize {
        let (at, more) = match self.slots.binary_search(&slot) {
            Ok(at) => (at, 0),
            Err(_) if room < Self::bytes_of_one(classes) => return 0,
            Err(at) => {
                self.slots.insert(at, slot);
                self.counts.splice(at * classes..at * classes, std::iter::repeat_n(0.0, classes));
                (at, Self::bytes_of_one(classes))
            }
        };
        self.counts[at * classes + class] += weight;
        more
    }

    /// How probable the value is for a class whose rows count `total`: each value that was seen is taken to have come once more (Laplace).
    #[inline]
    pub fn share(&self, slot: u32, class: usize, classes: usize, total: f64) -> f64 {
        let count = self.slots.binary_search(&slot).map_or(0.0, |at| self.counts[at * classes + class]);
        (count + 1.0) / (total + self.slots.len().max(1) as f64)
    }

    /// By value, the weights of its rows by class.
    pub fn by_value(&self, classes: usize) -> impl Iterator<Item = &[f64]> + Clone {
        self.counts.chunks_exact(classes)
    }
}
