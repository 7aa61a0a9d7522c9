//! Subspaces: the features that a leaf looks at, where those are not all. Trees of a forest differ by them.

use super::Layout;
use crate::encode::Row;
use crate::estimator::random::Random;
use crate::vector::padded;

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
struct Subspace {
    numbers: Vec<u32>,
    categories: Vec<u32>,
}

impl Subspaces {
    /// That of the leaf which is the node of that number. Each set of features is as probable as any other.
    fn of(self, layout: &Layout, node: usize) -> Subspace {
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

/// What a leaf looks at: a subspace, or all features.
#[derive(Clone, Debug)]
pub(super) struct View(Option<Subspace>);

impl View {
    /// That of the leaf which is the node of that number.
    pub fn new(layout: &Layout, node: usize) -> Self {
        Self(layout.subspaces.map(|subspaces| subspaces.of(layout, node)))
    }

    /// How many bytes such take that are not of all features, and how many numbers and categories there are in one at most.
    pub fn most(layout: &Layout) -> (usize, usize, usize) {
        let (numbers, categories) = (layout.shape.numbers, layout.categories.len());
        let (bytes, most) = layout.subspaces.map_or((0, usize::MAX), |of| (size_of::<u32>() * of.size, of.size));
        (bytes, numbers.min(most), categories.min(most))
    }

    pub fn bytes(&self) -> usize {
        let features = |subspace: &Subspace| subspace.numbers.len() + subspace.categories.len();
        self.0.as_ref().map_or(0, |subspace| size_of::<u32>() * features(subspace))
    }

    /// How many numbers it has.
    pub fn count_of_numbers(&self, layout: &Layout) -> usize {
        self.0.as_ref().map_or(layout.shape.numbers, |subspace| subspace.numbers.len())
    }

    /// How many categories it has.
    pub fn count_of_categories(&self, layout: &Layout) -> usize {
        self.0.as_ref().map_or(layout.categories.len(), |subspace| subspace.categories.len())
    }

    /// Which of all numbers one of its own is.
    pub fn number(&self, index: usize) -> usize {
        self.0.as_ref().map_or(index, |subspace| subspace.numbers[index] as usize)
    }

    /// Which of all categories one of its own is.
    pub fn category(&self, index: usize) -> usize {
        self.0.as_ref().map_or(index, |subspace| subspace.categories[index] as usize)
    }

    /// The numbers of a row that it has, with padding. `room` is where they are put together, if need be.
    #[inline(always)]
    pub fn numbers_of<'a>(&self, row: Row<'a>, room: &'a mut Vec<f64>) -> &'a [f64] {
        let Some(subspace) = &self.0 else { return row.numbers };
        room.extend(subspace.numbers.iter().map(|number| row.numbers[*number as usize]));
        room.resize(padded(room.len()), 0.0);
        room
    }

    /// The slots of a row, each with its category among those that it has; slots ascend, and a category may have none.
    #[inline(always)]
    pub fn slots<'a>(&'a self, layout: &'a Layout, row: Row<'a>) -> impl Iterator<Item = (usize, u32)> + 'a {
        let category = |slot: u32| layout.categories.partition_point(|(_, end)| *end <= slot);
        row.slots.iter().filter_map(move |slot| {
            let category = category(*slot);
            let own = |subspace: &Subspace| subspace.categories.binary_search(&(category as u32)).ok();
            let own = self.0.as_ref().map_or(Some(category), own)?;
            Some((own, *slot))
        })
    }
}
