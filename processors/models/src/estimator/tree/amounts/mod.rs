//! Leaves that predict numbers: by their mean, or by a linear model, whichever has been closer lately. A leaf is split where that takes most of the
//! variance away (Ikonomovska, Gama & Džeroski, "Learning model trees from evolving data streams", 2011).

mod bins;
mod line;
mod moments;
mod saved;
mod split;

use super::exported::of_leaf;
use super::subspace::View;
use super::test::Split;
use super::values::Values;
use super::{Counted, Known, Leaf, Learned, Plan};
use crate::encode::Row;
use crate::estimator::Shape;
use crate::onnx::{Encoded, Graph, Value};
use crate::tensors::Tensors;
use bins::Bins;
use line::{FARTHEST, Line};
use moments::Moments;

/// What leaves of numbers predict by, and what they count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::estimator) struct AmountRules {
    /// So many bins of each number are counted: a leaf is split between two of them.
    pub bins: u32,
    pub leaves: LeafModel,
    /// By which share of its error a row moves the linear model of its leaf.
    pub rate: f64,
    /// How much the errors before count less with every row, where the mean is compared with the model.
    pub decay: f64,
}

/// What leaves predict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::estimator) enum LeafModel {
    Mean,
    Linear,
    /// Whichever was closer lately.
    Adaptive,
}

/// What is known of a leaf of numbers.
#[derive(Clone, Debug)]
pub(in crate::estimator) struct Amounts {
    /// Those of its rows, with those that its parent has split off for it.
    moments: Moments,
    /// By how much the mean and the linear model were wrong lately: squares, of which older ones count less.
    errors: [f64; 2],
    /// It goes on from that of the parent.
    line: Line,
}

/// What a leaf of numbers has counted.
#[derive(Clone, Debug)]
pub(in crate::estimator) struct CountedAmounts {
    view: View,
    /// The first number that it has seen. Sums are those of the distances from it, which are about as small as their deviation.
    origin: Option<f64>,
    /// By number of the view.
    numbers: Vec<Bins>,
    /// By category of the view, the sums of each value.
    categories: Vec<Values>,
}

/// The sums of some rows: what they count, the distances of their targets from the origin, and the squares of these.
type Sums = [f64; 3];

const SUMS: usize = 3;

#[inline(always)]
fn add(sums: &mut [f64], weight: f64, off: f64) {
    sums[0] += weight;
    sums[1] += weight * off;
    sums[2] += weight * off * off;
}

impl CountedAmounts {
    fn bytes_of(bins: u32, numbers: usize, categories: usize) -> usize {
        size_of::<Self>() + numbers * Bins::bytes(bins) + categories * size_of::<Values>()
    }
}

impl Counted<Amounts> for CountedAmounts {
    fn new(plan: &Plan<Amounts>, node: usize) -> Self {
        let view = View::new(&plan.layout, node);
        let numbers = (0..view.count_of_numbers(&plan.layout)).map(|_| Bins::new(plan.rules.bins)).collect();
        let categories = vec![Values::default(); view.count_of_categories(&plan.layout)];
        Self { view, origin: None, numbers, categories }
    }

    fn most_bytes(plan: &Plan<Amounts>) -> usize {
        let (of_view, numbers, categories) = View::most(&plan.layout);
        of_view + Self::bytes_of(plan.rules.bins, numbers, categories)
    }

    fn bytes(&self, plan: &Plan<Amounts>) -> usize {
        let of_values = self.categories.iter().map(|values| values.bytes(SUMS)).sum::<usize>();
        self.view.bytes() + of_values + Self::bytes_of(plan.rules.bins, self.numbers.len(), self.categories.len())
    }

    #[inline(always)]
    fn count(&mut self, plan: &Plan<Amounts>, learned: &Learned<'_, Amounts>, room: usize) -> usize {
        let Learned { row, target, weight, .. } = *learned;
        let off = target - *self.origin.get_or_insert(target);
        let mut together = Vec::new();
        let numbers = self.view.numbers_of(row, &mut together);
        for (bins, number) in self.numbers.iter_mut().zip(numbers) {
            bins.count(*number, weight, off);
        }
        let mut more = 0;
        for (category, slot) in self.view.slots(&plan.layout, row) {
            if let Some((sums, bytes)) = self.categories[category].of(slot, SUMS, room - more) {
                add(sums, weight, off);
                more += bytes;
            }
        }
        more
    }
}

impl Amounts {
    fn predicts_by_line(&self, leaves: LeafModel) -> bool {
        match leaves {
            LeafModel::Mean => false,
            LeafModel::Linear => true,
            LeafModel::Adaptive => self.errors[1] < self.errors[0],
        }
    }

    fn prediction(&self, leaves: LeafModel, numbers: &[f64]) -> f64 {
        if self.predicts_by_line(leaves) { self.line.at(numbers) } else { self.moments.mean }
    }
}

impl Known for Amounts {
    type Rules = AmountRules;
    type Target = f64;
    type Counted = CountedAmounts;

    fn first(shape: Shape) -> Self {
        Self { moments: Moments::default(), errors: [0.0; 2], line: Line::new(shape.width) }
    }

    fn bytes(shape: Shape) -> usize {
        Line::bytes(shape.width)
    }

    #[inline(always)]
    fn outputs(_: Shape) -> usize {
        1
    }

    #[inline(always)]
    fn target(number: f64) -> f64 {
        number
    }

    #[inline(always)]
    fn weight(&self) -> f64 {
        self.moments.weight
    }

    fn wrong(&self) -> f64 {
        self.moments.squares
    }

    #[inline(always)]
    fn predict(&self, plan: &Plan<Self>, _: Option<&CountedAmounts>, row: Row<'_>, into: &mut [f64]) {
        into[0] = self.prediction(plan.rules.leaves, row.numbers);
    }

    #[inline(always)]
    fn learn(&mut self, plan: &Plan<Self>, _: Option<&CountedAmounts>, learned: &Learned<'_, Self>) {
        let Learned { row, target, weight, .. } = *learned;
        let AmountRules { leaves, rate, decay, .. } = plan.rules;
        if leaves == LeafModel::Adaptive {
            let off = [self.moments.mean - target, self.line.at(row.numbers) - target];
            self.errors = [0, 1].map(|of| decay * self.errors[of] + off[of] * off[of]);
        }
        if leaves != LeafModel::Mean {
            self.line.learn(row.numbers, target, weight, rate);
        }
        self.moments.add(target, weight);
    }

    fn split(&self, plan: &Plan<Self>, counted: &CountedAmounts) -> Option<Split<Self>> {
        split::find(self, counted, plan)
    }

    /// A mean is a line whose weights are all 0.
    fn to_onnx(
        plan: &Plan<Self>,
        leaves: &[&Leaf<Self>],
        graph: &mut Graph,
        row: &Encoded,
        leaf: &Value,
    ) -> millstream_core::Result<Value> {
        let (count, zeros) = (plan.layout.shape.numbers, vec![0.0; plan.layout.shape.numbers]);
        let (mut intercepts, mut means, mut weights) = (Vec::new(), Vec::new(), Vec::new());
        for known in leaves.iter().map(|leaf| &leaf.known) {
            let by_line = known.predicts_by_line(plan.rules.leaves);
            let of_line = known.line.means_and_weights(count);
            let (own_means, own_weights) = if by_line { of_line } else { (&zeros[..], &zeros[..]) };
            intercepts.push(if by_line { known.line.intercept } else { known.moments.mean });
            means.extend_from_slice(own_means);
            weights.extend_from_slice(own_weights);
        }
        let mut sum = of_leaf(graph, leaf, &[leaves.len(), 1], &intercepts);
        let Some(numbers) = row.numbers.as_ref().filter(|_| weights.iter().any(|weight| *weight != 0.0)) else {
            return Ok(sum);
        };
        let means = of_leaf(graph, leaf, &[leaves.len(), count], &means);
        let weights = of_leaf(graph, leaf, &[leaves.len(), count], &weights);
        let off = graph.add("Sub", &[numbers, &means]);
        let weighted = graph.add("Mul", &[&off, &weights]);
        let weighted = graph.sum(&weighted, 1, true);
        sum = graph.add("Add", &[&weighted, &sum]);
        let (least, most) = (graph.doubles(&[], &[-FARTHEST]), graph.doubles(&[], &[FARTHEST]));
        Ok(graph.add("Clip", &[&sum, &least, &most]))
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
