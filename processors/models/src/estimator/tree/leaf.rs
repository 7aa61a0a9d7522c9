//! A leaf: what it has seen, and what it predicts.

use super::numbers::Numbers;
use super::subspace::Subspace;
use super::values::Values;
use super::{Layout, LeafPrediction};
use crate::encode::Row;
use crate::vector::{exp, largest, ln, padded};

#[derive(Clone, Debug)]
pub(super) struct Leaf {
    /// How much the rows of each class count, with those that its parent has split off for it.
    pub masses: Vec<f64>,
    /// What all rows counted when it was last looked at.
    pub tried: f64,
    /// How much the rows count for which the most frequent class was right, and those for which naive Bayes was.
    pub right: [f64; 2],
    /// What it has counted. None if it had to forget that.
    pub statistics: Option<Box<Statistics>>,
}

/// What a leaf has counted.
#[derive(Clone, Debug)]
pub(super) struct Statistics {
    /// The features that it counts, if those are not all.
    pub subspace: Option<Subspace>,
    /// How much the rows of each class count that it has seen itself.
    pub counts: Vec<f64>,
    pub numbers: Numbers,
    /// By category that it counts.
    pub categories: Vec<Values>,
}

impl Statistics {
    /// Those of the leaf that is the node of that number.
    pub fn new(layout: &Layout, node: usize) -> Self {
        let classes = layout.shape.classes;
        let subspace = layout.subspaces.map(|subspaces| subspaces.of(layout, node));
        let (numbers, categories) = match &subspace {
            Some(subspace) => (subspace.numbers.len(), subspace.categories.len()),
            None => (layout.shape.numbers, layout.categories.len()),
        };
        let categories = vec![Values::default(); categories];
        Self { subspace, counts: vec![0.0; classes], numbers: Numbers::new(classes, padded(numbers)), categories }
    }

    /// How many bytes those of a new leaf take at most.
    pub fn most_bytes(layout: &Layout) -> usize {
        let (numbers, categories) = (layout.shape.numbers, layout.categories.len());
        let (of_subspace, most) = layout.subspaces.map_or((0, usize::MAX), |of| (Subspace::bytes(of.size), of.size));
        of_subspace + Self::bytes_of(layout.shape.classes, numbers.min(most), categories.min(most))
    }

    fn bytes_of(classes: usize, numbers: usize, categories: usize) -> usize {
        let lists = size_of::<Self>() + categories * size_of::<Values>();
        lists + size_of::<f64>() * classes + Numbers::bytes_of(classes, padded(numbers))
    }

    pub fn bytes(&self, layout: &Layout) -> usize {
        let classes = layout.shape.classes;
        let of_values = self.categories.iter().map(|values| values.bytes(classes)).sum::<usize>();
        let features = |subspace: &Subspace| subspace.numbers.len() + subspace.categories.len();
        let of_subspace = self.subspace.as_ref().map_or(0, |subspace| Subspace::bytes(features(subspace)));
        of_subspace + of_values + Self::bytes_of(classes, self.count_of_numbers(layout), self.categories.len())
    }

    /// How many numbers it counts.
    pub fn count_of_numbers(&self, layout: &Layout) -> usize {
        self.subspace.as_ref().map_or(layout.shape.numbers, |subspace| subspace.numbers.len())
    }

    /// Which of all numbers one is that it counts.
    pub fn number(&self, index: usize) -> usize {
        self.subspace.as_ref().map_or(index, |subspace| subspace.numbers[index] as usize)
    }

    /// Which of all categories one is that it counts.
    pub fn category(&self, index: usize) -> usize {
        self.subspace.as_ref().map_or(index, |subspace| subspace.categories[index] as usize)
    }

    /// The numbers of a row that it counts, with padding. `room` is where they are put together, if need be.
    #[inline(always)]
    fn numbers_of<'a>(&self, row: Row<'a>, room: &'a mut Vec<f64>) -> &'a [f64] {
        let Some(subspace) = &self.subspace else { return row.numbers };
        room.extend(subspace.numbers.iter().map(|number| row.numbers[*number as usize]));
        room.resize(padded(room.len()), 0.0);
        room
    }

    /// The slots of a row, each with its category among those that it counts; slots ascend, and a category may have none.
    #[inline(always)]
    fn slots<'a>(&'a self, layout: &'a Layout, row: Row<'a>) -> impl Iterator<Item = (usize, u32)> + 'a {
        slots(self.subspace.as_ref(), layout, row)
    }

    /// Returns how many bytes more there are.
    #[inline(always)]
    fn update(&mut self, layout: &Layout, row: Row<'_>, class: usize, weight: f64, room: usize) -> usize {
        self.counts[class] += weight;
        let (count, mut together) = (self.counts[class], Vec::new());
        let numbers = self.numbers_of(row, &mut together);
        self.numbers.update(class, numbers, weight, count);
        let mut more = 0;
        for (category, slot) in slots(self.subspace.as_ref(), layout, row) {
            more += self.categories[category].add(slot, class, layout.shape.classes, weight, room - more);
        }
        more
    }

    /// By class, how much speaks for it: the logarithm of its mass times the density of its rows.
    #[inline(always)]
    fn score(&self, layout: &Layout, row: Row<'_>, masses: &[f64], scores: &mut [f64]) {
        let (classes, mut together) = (layout.shape.classes, Vec::new());
        let numbers = self.numbers_of(row, &mut together);
        for (class, score) in scores.iter_mut().enumerate() {
            *score = f64::NEG_INFINITY;
            let count = self.counts[class];
            if count > 0.0 {
                *score = ln(masses[class]) + self.numbers.log_density(class, numbers);
                for (category, slot) in self.slots(layout, row) {
                    *score += ln(self.categories[category].share(slot, class, classes, count));
                }
            }
        }
    }

    /// By class, how probable it is by naive Bayes. False if no class is.
    #[inline(always)]
    fn bayes(&self, layout: &Layout, row: Row<'_>, masses: &[f64], into: &mut [f64]) -> bool {
        /// Less than that speaks for a class only if its numbers have never been like these.
        const NOTHING: f64 = -1e100;
        self.score(layout, row, masses, into);
        let most = into.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if most < NOTHING {
            return false;
        }
        into.iter_mut().for_each(|score| *score = exp(*score - most));
        let sum: f64 = into.iter().sum();
        into.iter_mut().for_each(|share| *share /= sum);
        true
    }
}

#[inline(always)]
fn slots<'a>(
    subspace: Option<&'a Subspace>,
    layout: &'a Layout,
    row: Row<'a>,
) -> impl Iterator<Item = (usize, u32)> + 'a {
    let category = |slot: u32| layout.categories.partition_point(|(_, end)| *end <= slot);
    row.slots.iter().filter_map(move |slot| {
        let category = category(*slot);
        let own = subspace.map_or(Some(category), |subspace| subspace.index_of_category(category))?;
        Some((own, *slot))
    })
}

impl Leaf {
    pub fn new(masses: Vec<f64>) -> Self {
        let tried = masses.iter().sum();
        Self { masses, tried, right: [0.0; 2], statistics: None }
    }

    pub fn weight(&self) -> f64 {
        self.masses.iter().sum()
    }

    /// What naive Bayes would predict by, if that is what is to be predicted by.
    #[inline(always)]
    fn bayesian(&self, prediction: LeafPrediction) -> Option<&Statistics> {
        let wanted = match prediction {
            LeafPrediction::Majority => false,
            LeafPrediction::NaiveBayes => true,
            LeafPrediction::Adaptive => self.right[1] >= self.right[0],
        };
        self.statistics.as_deref().filter(|_| wanted)
    }

    /// By class, how probable it is.
    #[inline(always)]
    pub fn predict(&self, prediction: LeafPrediction, layout: &Layout, row: Row<'_>, into: &mut [f64]) {
        let is_told =
            self.bayesian(prediction).is_some_and(|statistics| statistics.bayes(layout, row, &self.masses, into));
        if is_told {
            return;
        }
        let weight = self.weight();
        let even = 1.0 / into.len() as f64;
        let share = |mass: f64| if weight > 0.0 { mass / weight } else { even };
        into.iter_mut().zip(&self.masses).for_each(|(into, mass)| *into = share(*mass));
    }

    /// Learns a row of which that class was predicted. Returns how many bytes more it takes, of as many as there is room for.
    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "what a row is, and where it is learned")]
    pub fn learn(
        &mut self,
        prediction: LeafPrediction,
        layout: &Layout,
        row: Row<'_>,
        class: usize,
        weight: f64,
        predicted: usize,
        room: usize,
    ) -> usize {
        if prediction == LeafPrediction::Adaptive {
            let by_bayes = if self.bayesian(prediction).is_some() { predicted } else { self.by_bayes(layout, row) };
            self.right[0] += if largest(&self.masses) == class { weight } else { 0.0 };
            self.right[1] += if by_bayes == class { weight } else { 0.0 };
        }
        self.masses[class] += weight;
        let update = |statistics: &mut Box<Statistics>| statistics.update(layout, row, class, weight, room);
        self.statistics.as_mut().map_or(0, update)
    }

    /// The class that naive Bayes would predict.
    #[inline(always)]
    fn by_bayes(&self, layout: &Layout, row: Row<'_>) -> usize {
        let mut shares = vec![0.0; self.masses.len()];
        self.predict(LeafPrediction::NaiveBayes, layout, row, &mut shares);
        largest(&shares)
    }
}
