//! Embeddings: a vector of numbers for every slot of every category, learned with the network.
//!
//! A batch moves only the vectors that its rows use, and leaves the others and what the optimizer knows of them as they
//! are. So a batch costs the same however many slots there are, as with PyTorch's `SparseAdam`.

use millstream_core::Result;

use super::optimizer::{Moments, Step, squares};
use super::plan::PARAMETERS;
use super::random::Uniform;
use super::rows::{NONE, Rows};
use crate::tensors::Tensors;

/// How large the first numbers of a vector may be.
const BOUND: f32 = 0.05;

/// The vectors of all slots.
#[derive(Clone, Debug)]
pub(super) struct Embeddings {
    /// How many numbers a vector has.
    pub(super) size: usize,
    pub(super) values: Vec<f32>,
    first: Vec<f32>,
    second: Vec<f32>,
    pub(super) used: UsedEmbeddings,
}

/// The slots that a batch uses. Its memory is used again.
#[derive(Clone, Debug, Default)]
pub(super) struct UsedEmbeddings {
    /// Where the gradient of a slot begins, for every row that uses it.
    places: Vec<(u32, usize)>,
    pub slots: Vec<u32>,
    /// Of every slot, the sum over its rows.
    pub gradient: Vec<f32>,
}

impl Embeddings {
    pub fn new(slots: usize, size: usize, seed: u64) -> Self {
        let mut uniform = Uniform::new(seed, PARAMETERS - 1, 0);
        let values = (0..slots * size).map(|_| (2.0 * uniform.next() - 1.0) * BOUND).collect();
        let zeros = vec![0.0; slots * size];
        Self { size, values, first: zeros.clone(), second: zeros, used: UsedEmbeddings::default() }
    }

    /// Writes the numbers of all rows and the vectors of their categories behind them, `stride` apart.
    pub fn inputs(&self, rows: &Rows, stride: usize, into: &mut Vec<f32>) {
        into.clear();
        into.resize(rows.steps() * stride, 0.0);
        for (row, into) in into.chunks_exact_mut(stride).enumerate() {
            let numbers = rows.numbers(row);
            into[..numbers.len()].copy_from_slice(numbers);
            let vectors = into[numbers.len()..].chunks_exact_mut(self.size);
            for (vector, slot) in vectors.zip(rows.slots(row)).filter(|(_, slot)| **slot != NONE) {
                vector.copy_from_slice(&self.values[*slot as usize * self.size..][..self.size]);
            }
        }
    }

    /// Whether there are no categories.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Takes in the gradient of inputs that were written for these rows.
    pub fn take_in(&mut self, rows: &Rows, gradient: &[f32], stride: usize) {
        let UsedEmbeddings { places, slots, gradient: sums } = &mut self.used;
        places.clear();
        for row in 0..rows.steps() {
            let start = row * stride + rows.numbers(row).len();
            let used = rows.slots(row).iter().enumerate().filter(|(_, slot)| **slot != NONE);
            places.extend(used.map(|(index, slot)| (*slot, start + index * self.size)));
        }
        // By slot, and among those of a slot in the order of the rows.
        places.sort_unstable();
        slots.clear();
        sums.clear();
        for places in places.chunk_by(|one, next| one.0 == next.0) {
            slots.push(places[0].0);
            let start = sums.len();
            sums.resize(start + self.size, 0.0);
            for (_, place) in places {
                let gradient = &gradient[*place..][..self.size];
                sums[start..].iter_mut().zip(gradient).for_each(|(sum, value)| *sum += value);
            }
        }
    }

    /// The sum of the squares of the gradient that was taken in.
    pub fn squares(&self) -> f64 {
        squares(&self.used.gradient)
    }

    /// Follows the gradient that was taken in.
    pub fn follow(&mut self, step: Step) {
        for (slot, gradient) in self.used.slots.iter().zip(self.used.gradient.chunks_exact(self.size)) {
            let start = *slot as usize * self.size;
            let range = start..start + self.size;
            let moments = Moments { first: &mut self.first[range.clone()], second: &mut self.second[range.clone()] };
            step.run(gradient, &mut self.values[range], moments);
        }
    }

    pub fn save(&self, tensors: &mut Tensors) {
        if self.values.is_empty() {
            return;
        }
        let shape = [self.values.len() / self.size, self.size];
        tensors.put_f32("estimator.embeddings", &shape, &self.values);
        tensors.put_f32("optimizer.first.embeddings", &shape, &self.first);
        tensors.put_f32("optimizer.second.embeddings", &shape, &self.second);
    }

    pub fn load(&mut self, tensors: &Tensors) -> Result<()> {
        if self.values.is_empty() {
            return Ok(());
        }
        let shape = [self.values.len() / self.size, self.size];
        self.values = tensors.f32s("estimator.embeddings", &shape)?;
        self.first = tensors.f32s("optimizer.first.embeddings", &shape)?;
        self.second = tensors.f32s("optimizer.second.embeddings", &shape)?;
        Ok(())
    }
}
