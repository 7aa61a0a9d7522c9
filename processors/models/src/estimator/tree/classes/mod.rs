//! Leaves that predict classes: by their most frequent one, or by naive Bayes, whichever has been right more often (Gama, Rocha & Medas, "Accurate
//! decision trees for mining high-speed data streams", KDD 2003).

mod exported;
mod normals;
mod saved;
mod split;

use super::subspace::View;
use super::test::Split;
use super::values::Values;
use super::{Counted, Known, Layout, Leaf, Learned, Plan};
use crate::encode::Row;
use crate::estimator::{Certainty, Shape, likeliest};
use crate::onnx::{Encoded, Graph, Value};
use crate::tensors::Tensors;
use crate::vector::{exp, largest, ln, padded};
use normals::Normals;

/// What leaves of classes predict by, and when they are not split.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::estimator) struct ClassRules {
    /// A leaf whose most frequent class has a larger share is not split.
    pub most_share: f64,
    /// So many points of each number are tried.
    pub points: u32,
    pub leaves: LeafPrediction,
}

/// What leaves predict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::estimator) enum LeafPrediction {
    Majority,
    NaiveBayes,
    /// Whichever was right more often.
    Adaptive,
}

/// What is known of a leaf of classes.
#[derive(Clone, Debug)]
pub(in crate::estimator) struct Classes {
    /// How much the rows of each class count, with those that its parent has split off for it.
    masses: Vec<f64>,
    /// How much the rows count for which the most frequent class was right, and those for which naive Bayes was.
    right: [f64; 2],
}

/// What a leaf of classes has counted.
#[derive(Clone, Debug)]
pub(in crate::estimator) struct CountedClasses {
    view: View,
    /// How much the rows of each class count that it has seen itself.
    counts: Vec<f64>,
    numbers: Normals,
    /// By category of the view, how much the rows of each value and class count.
    categories: Vec<Values>,
}

/// Less than that speaks for a class only if its numbers have never been like these.
const NOTHING: f64 = -1e100;

impl CountedClasses {
    fn bytes_of(classes: usize, numbers: usize, categories: usize) -> usize {
        let lists = size_of::<Self>() + categories * size_of::<Values>();
        lists + size_of::<f64>() * classes + Normals::bytes_of(classes, padded(numbers))
    }

    /// By class, how much speaks for it: the logarithm of its mass times the density of its rows.
    #[inline(always)]
    fn score(&self, layout: &Layout, row: Row<'_>, masses: &[f64], scores: &mut [f64]) {
        let (classes, mut together) = (layout.shape.classes, Vec::new());
        let numbers = self.view.numbers_of(row, &mut together);
        for (class, score) in scores.iter_mut().enumerate() {
            *score = f64::NEG_INFINITY;
            let count = self.counts[class];
            if count > 0.0 {
                *score = ln(masses[class]) + self.numbers.log_density(class, numbers);
                for (category, slot) in self.view.slots(layout, row) {
                    *score += ln(self.categories[category].share(slot, class, classes, count));
                }
            }
        }
    }

    /// By class, how probable it is by naive Bayes. False if no class is.
    #[inline(always)]
    fn bayes(&self, layout: &Layout, row: Row<'_>, masses: &[f64], into: &mut [f64]) -> bool {
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

impl Counted<Classes> for CountedClasses {
    fn new(plan: &Plan<Classes>, node: usize) -> Self {
        let (layout, classes) = (&plan.layout, plan.layout.shape.classes);
        let view = View::new(layout, node);
        let numbers = Normals::new(classes, padded(view.count_of_numbers(layout)));
        let categories = vec![Values::default(); view.count_of_categories(layout)];
        Self { view, counts: vec![0.0; classes], numbers, categories }
    }

    fn most_bytes(plan: &Plan<Classes>) -> usize {
        let (of_view, numbers, categories) = View::most(&plan.layout);
        of_view + Self::bytes_of(plan.layout.shape.classes, numbers, categories)
    }

    fn bytes(&self, plan: &Plan<Classes>) -> usize {
        let classes = plan.layout.shape.classes;
        let of_values = self.categories.iter().map(|values| values.bytes(classes)).sum::<usize>();
        let numbers = self.view.count_of_numbers(&plan.layout);
        self.view.bytes() + of_values + Self::bytes_of(classes, numbers, self.categories.len())
    }

    #[inline(always)]
    fn count(&mut self, plan: &Plan<Classes>, learned: &Learned<'_, Classes>, room: usize) -> usize {
        let Learned { row, target: class, weight, .. } = *learned;
        self.counts[class] += weight;
        let (count, mut together) = (self.counts[class], Vec::new());
        let numbers = self.view.numbers_of(row, &mut together);
        self.numbers.update(class, numbers, weight, count);
        let mut more = 0;
        for (category, slot) in self.view.slots(&plan.layout, row) {
            let values = &mut self.categories[category];
            if let Some((counts, bytes)) = values.of(slot, plan.layout.shape.classes, room - more) {
                counts[class] += weight;
                more += bytes;
            }
        }
        more
    }
}

impl Classes {
    fn new(masses: Vec<f64>) -> Self {
        Self { masses, right: [0.0; 2] }
    }

    fn largest(&self) -> f64 {
        self.masses.iter().copied().fold(0.0, f64::max)
    }

    /// What naive Bayes would predict by, if that is what is to be predicted by.
    #[inline(always)]
    fn bayesian<'a>(
        &self,
        prediction: LeafPrediction,
        counted: Option<&'a CountedClasses>,
    ) -> Option<&'a CountedClasses> {
        let wanted = match prediction {
            LeafPrediction::Majority => false,
            LeafPrediction::NaiveBayes => true,
            LeafPrediction::Adaptive => self.right[1] >= self.right[0],
        };
        counted.filter(|_| wanted)
    }

    #[inline(always)]
    fn predict_by(
        &self,
        prediction: LeafPrediction,
        layout: &Layout,
        counted: Option<&CountedClasses>,
        row: Row<'_>,
        into: &mut [f64],
    ) {
        let by = self.bayesian(prediction, counted);
        if by.is_some_and(|counted| counted.bayes(layout, row, &self.masses, into)) {
            return;
        }
        into.iter_mut().zip(self.shares()).for_each(|(into, share)| *into = share);
    }

    /// By class, how frequent it is.
    #[inline(always)]
    fn shares(&self) -> impl Iterator<Item = f64> {
        let (weight, even) = (self.weight(), 1.0 / self.masses.len() as f64);
        self.masses.iter().map(move |mass| if weight > 0.0 { mass / weight } else { even })
    }

    /// The class that naive Bayes would predict.
    #[inline(always)]
    fn by_bayes(&self, layout: &Layout, counted: Option<&CountedClasses>, row: Row<'_>) -> usize {
        let mut shares = vec![0.0; self.masses.len()];
        self.predict_by(LeafPrediction::NaiveBayes, layout, counted, row, &mut shares);
        largest(&shares)
    }
}

impl Known for Classes {
    type Rules = ClassRules;
    type Target = usize;
    type Counted = CountedClasses;

    fn first(shape: Shape) -> Self {
        Self::new(vec![0.0; shape.classes])
    }

    fn bytes(shape: Shape) -> usize {
        size_of::<f64>() * shape.classes
    }

    #[inline(always)]
    fn outputs(shape: Shape) -> usize {
        shape.classes
    }

    #[inline(always)]
    fn target(number: f64) -> usize {
        number as usize
    }

    #[inline(always)]
    fn weight(&self) -> f64 {
        self.masses.iter().sum()
    }

    fn wrong(&self) -> f64 {
        self.weight() - self.largest()
    }

    #[inline(always)]
    fn predict(&self, plan: &Plan<Self>, counted: Option<&CountedClasses>, row: Row<'_>, into: &mut [f64]) {
        self.predict_by(plan.rules.leaves, &plan.layout, counted, row, into);
    }

    #[inline(always)]
    fn learn(&mut self, plan: &Plan<Self>, counted: Option<&CountedClasses>, learned: &Learned<'_, Self>) {
        let Learned { row, target: class, weight, predicted } = *learned;
        if plan.rules.leaves == LeafPrediction::Adaptive {
            let is_told = self.bayesian(plan.rules.leaves, counted).is_some();
            let predicted = || likeliest(predicted, Certainty::Probability);
            let by_bayes = if is_told { predicted() } else { self.by_bayes(&plan.layout, counted, row) };
            self.right[0] += if largest(&self.masses) == class { weight } else { 0.0 };
            self.right[1] += if by_bayes == class { weight } else { 0.0 };
        }
        self.masses[class] += weight;
    }

    fn split(&self, plan: &Plan<Self>, counted: &CountedClasses) -> Option<Split<Self>> {
        split::find(self, counted, plan)
    }

    fn to_onnx(
        plan: &Plan<Self>,
        leaves: &[&Leaf<Self>],
        graph: &mut Graph,
        row: &Encoded,
        leaf: &Value,
    ) -> millstream_core::Result<Value> {
        Ok(exported::to_onnx(plan, leaves, graph, row, leaf))
    }

    fn save(leaves: &[&Leaf<Self>], plan: &Plan<Self>, name: &str, tensors: &mut Tensors) {
        saved::save(leaves, &plan.layout, name, tensors);
    }

    fn load(
        plan: &Plan<Self>,
        name: &str,
        tensors: &Tensors,
        nodes: &[usize],
    ) -> millstream_core::Result<Vec<Leaf<Self>>> {
        saved::load(plan, name, tensors, nodes)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
