//! Leaves of classes in a graph of ONNX.

use super::{Classes, CountedClasses, LeafPrediction, NOTHING};
use crate::estimator::tree::exported::of_leaf;
use crate::estimator::tree::{Leaf, Plan};
use crate::onnx::{Attribute, Encoded, Graph, Slots, Value};
use crate::vector::ln;

/// Adds what leaves predict: the shares of their classes, and where naive Bayes predicts and something speaks for a class, its shares.
pub(super) fn to_onnx(
    plan: &Plan<Classes>,
    leaves: &[&Leaf<Classes>],
    graph: &mut Graph,
    row: &Encoded,
    leaf: &Value,
) -> Value {
    let shares: Vec<f64> = leaves.iter().flat_map(|leaf| leaf.known.shares()).collect();
    let shares = of_leaf(graph, leaf, &[leaves.len(), plan.layout.shape.classes], &shares);
    let bayes = Bayes::new(plan, leaves);
    if bayes.counted.iter().all(Option::is_none) {
        return shares;
    }
    let scores = bayes.scores(graph, row, leaf);
    let most = graph.add_with("ReduceMax", &[&scores], [("axes", Attribute::Ints(vec![1]))]);
    let powers = graph.add("Sub", &[&scores, &most]);
    let powers = graph.add("Exp", &[&powers]);
    let total = graph.sum(&powers, 1, true);
    let by_bayes = graph.add("Div", &[&powers, &total]);
    let nothing = graph.doubles(&[], &[NOTHING]);
    let is_something = graph.add("GreaterOrEqual", &[&most, &nothing]);
    let predicts = graph.booleans(bayes.counted.iter().map(Option::is_some));
    let predicts = graph.add("Gather", &[&predicts, leaf]);
    let predicts = graph.add("And", &[&predicts, &is_something]);
    graph.add("Where", &[&predicts, &by_bayes, &shares])
}

/// What naive Bayes predicts by.
struct Bayes<'a> {
    plan: &'a Plan<Classes>,
    leaves: &'a [&'a Leaf<Classes>],
    /// By leaf, what it has counted, if naive Bayes predicts there.
    counted: Vec<Option<&'a CountedClasses>>,
}

impl<'a> Bayes<'a> {
    fn new(plan: &'a Plan<Classes>, leaves: &'a [&'a Leaf<Classes>]) -> Self {
        let prediction: LeafPrediction = plan.rules.leaves;
        let counted = leaves.iter().map(|leaf| leaf.known.bayesian(prediction, leaf.counted.as_deref()));
        Self { plan, leaves, counted: counted.collect() }
    }

    /// The leaves with each of their classes, and what they have counted if it has rows.
    fn classes(&self) -> impl Iterator<Item = (&'a Classes, usize, Option<&'a CountedClasses>)> {
        let classes = self.plan.layout.shape.classes;
        self.leaves.iter().zip(&self.counted).flat_map(move |(leaf, counted)| {
            (0..classes).map(move |class| {
                let has_rows = |counted: &&CountedClasses| counted.counts[class] > 0.0;
                (&leaf.known, class, counted.filter(has_rows))
            })
        })
    }

    /// By class, how much speaks for it.
    fn scores(&self, graph: &mut Graph, row: &Encoded, leaf: &Value) -> Value {
        let base: Vec<f64> = self.classes().map(|(known, class, counted)| base(known, class, counted)).collect();
        let mut scores = of_leaf(graph, leaf, &[self.leaves.len(), self.plan.layout.shape.classes], &base);
        if let Some(numbers) = &row.numbers {
            let off = self.off_the_means(graph, numbers, leaf);
            scores = graph.add("Sub", &[&scores, &off]);
        }
        for (category, slots) in row.categories.iter().enumerate() {
            let shares = self.shares_of_values(graph, category, slots, leaf);
            scores = graph.add("Add", &[&scores, &shares]);
        }
        scores
    }

    /// By class, the sum of the squares of the distances from its means, each in deviations.
    fn off_the_means(&self, graph: &mut Graph, numbers: &Value, leaf: &Value) -> Value {
        let shape = self.plan.layout.shape;
        // Numbers that a leaf doesn't look at count nothing.
        let (mut means, mut scales) = (Vec::new(), Vec::new());
        for (_, class, counted) in self.classes() {
            let start = means.len();
            means.resize(start + shape.numbers, 0.0);
            scales.resize(start + shape.numbers, 0.0);
            let Some(counted) = counted else { continue };
            let (own_means, own_scales, _) = counted.numbers.means_scales_and_norm(class);
            for index in 0..counted.view.count_of_numbers(&self.plan.layout) {
                let number = start + counted.view.number(index);
                (means[number], scales[number]) = (own_means[index], own_scales[index]);
            }
        }
        let shape = [self.leaves.len(), shape.classes, shape.numbers];
        let (means, scales) = (of_leaf(graph, leaf, &shape, &means), of_leaf(graph, leaf, &shape, &scales));
        let numbers = graph.unsqueeze(numbers, 1);
        let off = graph.add("Sub", &[&numbers, &means]);
        let off = graph.add("Mul", &[&off, &off]);
        let off = graph.add("Mul", &[&off, &scales]);
        graph.sum(&off, 2, false)
    }

    /// By class, the logarithm of how probable the value of a category is.
    fn shares_of_values(&self, graph: &mut Graph, category: usize, slots: &Slots, leaf: &Value) -> Value {
        let classes = self.plan.layout.shape.classes;
        let mut table = vec![0.0; self.leaves.len() * slots.used * classes];
        for (counted, table) in self.counted.iter().zip(table.chunks_exact_mut(slots.used * classes)) {
            let Some(counted) = counted else { continue };
            let looked_at = (0..counted.categories.len()).find(|own| counted.view.category(*own) == category);
            let Some(values) = looked_at.map(|own| &counted.categories[own]) else { continue };
            for (slot, table) in table.chunks_exact_mut(classes).enumerate() {
                let slot = (slots.first + slot) as u32;
                for (class, share) in table.iter_mut().enumerate().filter(|(class, _)| counted.counts[*class] > 0.0) {
                    *share = ln(values.share(slot, class, classes, counted.counts[class]));
                }
            }
        }
        let table = graph.doubles(&[self.leaves.len() * slots.used, classes], &table);
        let used = graph.ints(&[slots.used as i64]);
        let first = graph.add("Mul", &[leaf, &used]);
        let slot = graph.squeeze(&slots.slot, 1);
        let place = graph.add("Add", &[&first, &slot]);
        graph.add("Gather", &[&table, &place])
    }
}

/// What speaks for a class whatever the row is.
fn base(known: &Classes, class: usize, counted: Option<&CountedClasses>) -> f64 {
    let of = |counted: &CountedClasses| ln(known.masses[class]) - counted.numbers.means_scales_and_norm(class).2;
    counted.map_or(f64::NEG_INFINITY, of)
}
