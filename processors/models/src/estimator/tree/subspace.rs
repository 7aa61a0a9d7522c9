//! Subspaces: the features that a leaf looks at, where those are not all. Trees of a forest differ by them.

use super::Layout;
use crate::estimator::random::Random;

/// From what the subspaces of a tree are drawn: each leaf has one of its own, by its number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::estimator) struct Subspaces {
    /// How many features each has.
    pub size: usize,
    pub seed: u64,
    /// The stream of random numbers, which is this tree's alone.
    pub stream: u64,
}

/// Some of the features, in their order.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Subspace {
    pub numbers: Vec<u32>,
    pub categories: Vec<u32>,
}

impl Subspaces {
    /// That of the leaf which is the node of that number. Each set of features is as probable as any other.
    pub(super) fn of(self, layout: &Layout, node: usize) -> Subspace {
        let numbers = layout.shape.numbers as u32;
        let mut features: Vec<u32> = (0..numbers + layout.categories.len() as u32).collect();
        let mut random = Random::new(self.seed, self.stream, node as u64 * self.size as u64);
        for index in 0..self.size {
            let other = index + random.below(features.len() - index);
            features.swap(index, other);
        }
        features.truncate(self.size);
        features.sort_unstable();
        let categories = features.split_off(features.partition_point(|feature| *feature < numbers));
        Subspace { numbers: features, categories: categories.iter().map(|category| category - numbers).collect() }
    }
}

impl Subspace {
    /// How many bytes one of so many features takes.
    pub fn bytes(features: usize) -> usize {
        size_of::<u32>() * features
    }

    /// Which of its categories that one of all is.
    #[inline(always)]
    pub fn index_of_category(&self, category: usize) -> Option<usize> {
        self.categories.binary_search(&(category as u32)).ok()
    }
}
