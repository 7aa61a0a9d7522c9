//! A number as a histogram of a fixed count of bins, each of which has the sums of its rows (after Ben-Haim & Tom-Tov, "A streaming parallel
//! decision tree algorithm", 2010). As long as there are no more values than bins, each value is a bin; then the two neighbours become one that lose
//! least by it: where rows are dense, bins are narrow.

use super::{SUMS, Sums, add};

/// Bins in the order of their places.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bins {
    most: usize,
    /// By bin, the mean of its numbers.
    pub places: Vec<f64>,
    pub sums: Vec<Sums>,
    /// By bin, by how much the squares of the distances from places grow when it becomes one with the next.
    losses: Vec<f64>,
}

impl Bins {
    pub fn new(most: u32) -> Self {
        Self { most: most as usize, places: Vec::new(), sums: Vec::new(), losses: Vec::new() }
    }

    /// How many bytes those of one number take at most.
    pub fn bytes(most: u32) -> usize {
        size_of::<Self>() + (most as usize + 1) * size_of::<f64>() * (2 + SUMS)
    }

    /// Counts a row with that number, whose target lies so far from the origin.
    #[inline(always)]
    pub fn count(&mut self, number: f64, weight: f64, off: f64) {
        let at = self.places.partition_point(|place| *place < number);
        if self.places.get(at) == Some(&number) {
            add(&mut self.sums[at], weight, off);
            self.measure(at);
            return;
        }
        let mut sums = [0.0; SUMS];
        add(&mut sums, weight, off);
        self.insert(at, number, sums);
        if self.places.len() > self.most {
            self.unite_two();
        }
    }

    fn insert(&mut self, at: usize, place: f64, sums: Sums) {
        if self.places.capacity() == 0 {
            self.places.reserve_exact(self.most + 1);
            self.sums.reserve_exact(self.most + 1);
            self.losses.reserve_exact(self.most + 1);
        }
        self.places.insert(at, place);
        self.sums.insert(at, sums);
        self.losses.insert(at, f64::INFINITY);
        self.measure(at);
    }

    /// Measures anew what is lost when a bin becomes one with a neighbour.
    #[inline(always)]
    fn measure(&mut self, at: usize) {
        for bin in at.saturating_sub(1)..=at {
            self.losses[bin] = if bin + 1 < self.places.len() {
                let [own, next] = [self.sums[bin][0], self.sums[bin + 1][0]];
                let apart = self.places[bin + 1] - self.places[bin];
                own * next / (own + next) * (apart * apart)
            } else {
                f64::INFINITY
            };
        }
    }

    /// Makes one of those two that lose least by it, the first of equals.
    fn unite_two(&mut self) {
        let less = |best: usize, bin: usize| if self.losses[bin] < self.losses[best] { bin } else { best };
        let at = (0..self.losses.len()).fold(0, less);
        let (next, next_place) = (self.sums.remove(at + 1), self.places.remove(at + 1));
        self.losses.remove(at + 1);
        let sums = &mut self.sums[at];
        (0..SUMS).for_each(|sum| sums[sum] += next[sum]);
        self.places[at] += (next_place - self.places[at]) * (next[0] / sums[0]);
        self.measure(at);
    }

    /// Those that were saved, if they are in order.
    pub fn load(most: u32, places: &[f64], sums: &[f64]) -> Option<Self> {
        let mut bins = Self::new(most);
        if places.len() > bins.most || !places.is_sorted_by(|a, b| a < b) {
            return None;
        }
        for (bin, (place, sums)) in places.iter().zip(sums.as_chunks().0).enumerate() {
            bins.insert(bin, *place, *sums);
        }
        Some(bins)
    }
}
