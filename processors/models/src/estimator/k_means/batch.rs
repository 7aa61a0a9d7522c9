//! The rows of a batch that is not full yet: what they add up to, centre by centre.

use millstream_core::Result;

use crate::encode::Row;
use crate::estimator::Shape;
use crate::tensors::Tensors;

/// Rows that are to move the centres together.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    /// How many rows are moved by at once, and how many there are.
    pub size: u64,
    pub rows: u64,
    /// By centre, which share of what its rows counted before is left.
    pub left: Vec<f64>,
    /// By centre, how much its rows count.
    pub weights: Vec<f64>,
    /// Their sums, one centre behind the other: of numbers with padding.
    pub numbers: Vec<f64>,
    pub slots: Vec<f64>,
}

impl Batch {
    pub fn new(size: u32, centres: usize, shape: Shape) -> Self {
        // What is moved by each row needs no sums.
        let kept = if size == 1 { 0 } else { centres };
        let zeros = |each: usize| vec![0.0; kept * each];
        let (left, numbers, slots) = (vec![1.0; kept], zeros(shape.width), zeros(shape.slots));
        Self { size: size.into(), rows: 0, left, weights: zeros(1), numbers, slots }
    }

    /// Adds a row that counts so much to those of a centre, which then count less by `decay`. Whether the batch is full.
    pub fn add(&mut self, centre: usize, shape: Shape, row: Row<'_>, weight: f64, decay: f64) -> bool {
        let numbers = &mut self.numbers[centre * shape.width..(centre + 1) * shape.width];
        let slots = &mut self.slots[centre * shape.slots..(centre + 1) * shape.slots];
        numbers.iter_mut().zip(row.numbers).for_each(|(sum, number)| *sum = *sum * decay + weight * number);
        slots.iter_mut().for_each(|sum| *sum *= decay);
        row.slots.iter().for_each(|slot| slots[*slot as usize] += weight);
        self.weights[centre] = self.weights[centre] * decay + weight;
        self.left[centre] *= decay;
        self.rows += 1;
        self.rows == self.size
    }

    /// Begins another one.
    pub fn clear(&mut self) {
        self.rows = 0;
        self.left.fill(1.0);
        [&mut self.weights, &mut self.numbers, &mut self.slots].into_iter().for_each(|sums| sums.fill(0.0));
    }

    pub fn save(&self, shape: Shape, tensors: &mut Tensors) {
        if self.size == 1 {
            return;
        }
        let (count, of_width) = (self.weights.len(), shape.width.max(1));
        let numbers = self.numbers.chunks_exact(of_width).flat_map(|sums| sums[..shape.numbers].iter().copied());
        tensors.put_u64("estimator.batch_rows", &[self.rows]);
        tensors.put_f64("estimator.batch_left", &[count], &self.left);
        tensors.put_f64("estimator.batch_weights", &[count], &self.weights);
        tensors.put_f64("estimator.batch_numbers", &[count, shape.numbers], &numbers.collect::<Vec<_>>());
        tensors.put_f64("estimator.batch_slots", &[count, shape.slots], &self.slots);
    }

    pub fn load(&mut self, shape: Shape, tensors: &Tensors) -> Result<()> {
        if self.size == 1 {
            return Ok(());
        }
        let count = self.weights.len();
        // One that is full is none: it would never be applied.
        self.rows = tensors.u64s("estimator.batch_rows")?.first().map_or(0, |rows| (*rows).min(self.size - 1));
        self.left = tensors.f64s("estimator.batch_left", &[count])?;
        self.weights = tensors.f64s("estimator.batch_weights", &[count])?;
        let numbers = tensors.f64s("estimator.batch_numbers", &[count, shape.numbers])?;
        if shape.numbers > 0 {
            let padded = self.numbers.chunks_exact_mut(shape.width).zip(numbers.chunks_exact(shape.numbers));
            padded.for_each(|(padded, sums)| padded[..shape.numbers].copy_from_slice(sums));
        }
        self.slots = tensors.f64s("estimator.batch_slots", &[count, shape.slots])?;
        Ok(())
    }
}
