//! Encoded rows in a graph: what estimators compute with.

use super::{Graph, Value};
use crate::layers::Layer;

/// Encoded rows, as tensors.
#[derive(Debug)]
pub(crate) struct Encoded {
    /// The numbers, a column each; none if there are no numbers.
    pub numbers: Option<Value>,
    /// By category, in the order of the features.
    pub categories: Vec<Slots>,
}

/// The slots of a category.
#[derive(Debug)]
pub(crate) struct Slots {
    /// A column with the slot of each row, counted from the category's first.
    pub slot: Value,
    /// The number of its first slot among those of all categories.
    pub first: usize,
    /// How many of its slots a row can have.
    pub used: usize,
}

impl Slots {
    /// What a table over the slots of all categories has for this one's: a row of so many numbers for each row.
    pub fn look_up(&self, graph: &mut Graph, table: &[f64], columns: usize) -> Value {
        let own = &table[self.first * columns..(self.first + self.used) * columns];
        let own = graph.doubles(&[self.used, columns], own);
        let found = graph.add("Gather", &[&own, &self.slot]);
        graph.squeeze(&found, 1)
    }
}

/// Weighted sums.
#[derive(Debug)]
pub(crate) struct WeightedSums {
    /// By sum, a weight for each number.
    pub weights: Vec<Vec<f64>>,
    /// By slot, a weight for each sum.
    pub slots: Vec<f64>,
    /// By sum, what is added.
    pub intercepts: Vec<f64>,
}

impl WeightedSums {
    /// The same as a dense layer: its kernel has a row for each number, and behind these one for each slot.
    pub fn layer(&self) -> Layer {
        let outputs = self.intercepts.len();
        let mut kernel = self.by_number();
        kernel.extend_from_slice(&self.slots);
        Layer::dense(kernel.len() / outputs, outputs, kernel, self.intercepts.clone())
    }

    /// Sums over as many numbers and slots, by a dense layer.
    pub fn like(&self, layer: &Layer) -> Self {
        let (kernel, intercepts) = (layer.weights[0].f64s(), layer.weights[1].f64s());
        let outputs = intercepts.len();
        let (numbers, slots) = kernel.split_at(kernel.len() - self.slots.len());
        let of_sum = |sum: usize| numbers.iter().skip(sum).step_by(outputs).copied().collect();
        Self { weights: (0..outputs).map(of_sum).collect(), slots: slots.to_vec(), intercepts }
    }

    /// The weights of numbers, with those of one number together.
    fn by_number(&self) -> Vec<f64> {
        let length = self.weights.first().map_or(0, Vec::len);
        (0..length).flat_map(|number| self.weights.iter().map(move |of| of[number])).collect()
    }

    /// The sums: a column each.
    pub fn of(&self, row: &Encoded, graph: &mut Graph) -> Value {
        let count = self.intercepts.len();
        let mut sum = graph.doubles(&[1, count], &self.intercepts);
        for category in &row.categories {
            let weights = category.look_up(graph, &self.slots, count);
            sum = graph.add("Add", &[&weights, &sum]);
        }
        if let Some(numbers) = &row.numbers {
            let by_number = self.by_number();
            let weights = graph.doubles(&[by_number.len() / count, count], &by_number);
            let product = graph.add("MatMul", &[numbers, &weights]);
            sum = graph.add("Add", &[&product, &sum]);
        }
        sum
    }
}
