//! Landmarks: rows that others are compared with by a kernel.

use millstream_core::{Error, Result};

use super::eigen::inverse_root;
use crate::encode::Scratch;
use crate::estimator::Shape;
use crate::estimator::mapped::{AT_ONCE, Map};
use crate::tensors::Tensors;
use crate::vector::exp;

/// Eigenvalues of the kernel of all landmarks that are less count as so much, as in scikit-learn.
const LEAST: f64 = 1e-12;

/// The landmarks, as far as there are any, and what makes components of the kernels.
#[derive(Clone, Debug)]
pub(super) struct Landmarks {
    gamma: f64,
    count: usize,
    /// With padding.
    stride: usize,
    shape: Shape,
    /// So many rows pass before the first landmark.
    after: u64,
    /// How many rows there were, until all landmarks are there.
    rows: u64,
    made: usize,
    /// By number and then by slot, that of each landmark: of slots 1 or 0.
    lines: Vec<f64>,
    /// By landmark, how many slots it has.
    ones: Vec<f64>,
    /// The kernel of all landmarks to the power of -1/2, row by row, with padding; empty until all are there.
    root: Vec<f64>,
}

impl Landmarks {
    pub fn new(gamma: f64, count: usize, after: u64, shape: Shape) -> Self {
        let stride = count.next_multiple_of(AT_ONCE);
        let lines = vec![0.0; stride * (shape.numbers + shape.slots)];
        Self { gamma, count, stride, shape, after, rows: 0, made: 0, lines, ones: vec![0.0; stride], root: Vec::new() }
    }

    /// By landmark, the square of its distance from a row. Each is added up in the order of the numbers, whatever the width of vectors.
    #[inline(always)]
    fn squares(&self, row: &Scratch, into: &mut [f64]) {
        for (start, sums) in into.as_chunks_mut::<AT_ONCE>().0.iter_mut().enumerate() {
            let start = start * AT_ONCE;
            let line = |line: usize| self.lines[line * self.stride + start..].first_chunk::<AT_ONCE>();
            sums.copy_from_slice(&self.ones[start..start + AT_ONCE]);
            for slots in row.slots.iter().filter_map(|slot| line(self.shape.numbers + *slot as usize)) {
                for lane in 0..AT_ONCE {
                    sums[lane] += 1.0 - 2.0 * slots[lane];
                }
            }
            for (number, own) in row.numbers[..self.shape.numbers].iter().zip((0..).map_while(line)) {
                for lane in 0..AT_ONCE {
                    sums[lane] += (number - own[lane]) * (number - own[lane]);
                }
            }
        }
    }

    /// Takes a row as the next landmark.
    fn put(&mut self, numbers: &[f64], slots: &[u32]) {
        let Self { stride, made, shape, .. } = *self;
        numbers.iter().enumerate().for_each(|(line, number)| self.lines[line * stride + made] = *number);
        slots.iter().for_each(|slot| self.lines[(shape.numbers + *slot as usize) * stride + made] = 1.0);
        self.ones[made] = slots.len() as f64;
        self.made += 1;
        if self.made == self.count {
            self.complete();
        }
    }

    /// A landmark as a row.
    fn landmark(&self, landmark: usize) -> Scratch {
        let line = |line: usize| self.lines[line * self.stride + landmark];
        let slots = (0..self.shape.slots).filter(|slot| line(self.shape.numbers + slot) == 1.0);
        Scratch { slots: slots.map(|slot| slot as u32).collect(), numbers: (0..self.shape.numbers).map(line).collect() }
    }

    #[inline(never)]
    fn complete(&mut self) {
        let mut kernel = Vec::with_capacity(self.count * self.count);
        let mut squares = vec![0.0; self.stride];
        for landmark in 0..self.count {
            self.squares(&self.landmark(landmark), &mut squares);
            kernel.extend(squares[..self.count].iter().map(|square| exp(-self.gamma * square)));
        }
        self.root = vec![0.0; self.count * self.stride];
        let root = inverse_root(kernel, self.count, LEAST);
        for (padded, row) in self.root.chunks_exact_mut(self.stride).zip(root.chunks_exact(self.count)) {
            padded[..self.count].copy_from_slice(row);
        }
    }
}

impl Map for Landmarks {
    fn count(&self) -> usize {
        self.count
    }

    #[inline(always)]
    fn stride(&self) -> usize {
        self.stride
    }

    /// All are 0 until all landmarks are there.
    #[inline(always)]
    fn components(&self, row: &Scratch, into: &mut [f64]) {
        into.fill(0.0);
        if self.root.is_empty() {
            return;
        }
        let mut squares = vec![0.0; self.stride];
        self.squares(row, &mut squares);
        for (square, root) in squares.iter().zip(self.root.chunks_exact(self.stride)) {
            let kernel = exp(-self.gamma * square);
            into.iter_mut().zip(root).for_each(|(sum, own)| *sum += kernel * own);
        }
    }

    fn learn(&mut self, row: &Scratch) {
        if self.made == self.count {
            return;
        }
        self.rows += 1;
        let mut squares = vec![0.0; self.stride];
        self.squares(row, &mut squares);
        if self.rows > self.after && squares[..self.made].iter().all(|square| *square > 0.0) {
            self.put(&row.numbers[..self.shape.numbers], &row.slots);
        }
    }

    fn save(&self, tensors: &mut Tensors) {
        let landmarks: Vec<_> = (0..self.made).map(|landmark| self.landmark(landmark)).collect();
        let numbers: Vec<_> = landmarks.iter().flat_map(|row| row.numbers.clone()).collect();
        tensors.put_u64("estimator.landmarks.rows", &[self.rows]);
        tensors.put_f64("estimator.landmarks.numbers", &[self.made, self.shape.numbers], &numbers);
        let lengths: Vec<_> = landmarks.iter().map(|row| row.slots.len() as u32).collect();
        tensors.put_u32("estimator.landmarks.lengths", &[self.made], &lengths);
        let slots: Vec<_> = landmarks.iter().flat_map(|row| row.slots.clone()).collect();
        tensors.put_u32("estimator.landmarks.slots", &[slots.len()], &slots);
    }

    fn load(&mut self, tensors: &Tensors) -> Result<()> {
        let damaged = || Error::new("the landmarks of the model are damaged");
        self.rows = *tensors.u64s("estimator.landmarks.rows")?.first().ok_or_else(damaged)?;
        let made = tensors.rows("estimator.landmarks.lengths")?;
        let numbers = tensors.f64s("estimator.landmarks.numbers", &[made, self.shape.numbers])?;
        let lengths = tensors.u32s("estimator.landmarks.lengths", &[made])?;
        let slots = tensors.u32s("estimator.landmarks.slots", &[tensors.rows("estimator.landmarks.slots")?])?;
        if made > self.count || slots.iter().any(|slot| *slot as usize >= self.shape.slots) {
            return Err(damaged());
        }
        let mut rest = slots.as_slice();
        for (landmark, length) in lengths.iter().enumerate() {
            let (own, others) = rest.split_at_checked(*length as usize).ok_or_else(damaged)?;
            rest = others;
            self.put(&numbers[landmark * self.shape.numbers..(landmark + 1) * self.shape.numbers], own);
        }
        if rest.is_empty() { Ok(()) } else { Err(damaged()) }
    }
}
