//! Layers that carry a state from row to row of a window: forwards, and back in time.
//!
//! The first rows of a window may be absent: the state is 0 before its first row. What is computed of a window depends on that window alone, and
//! gradients are added up in the order of the windows and their rows.

use super::cells::{Cell, RowBackwards, RowForwards};
use super::multiply::{Left, Multiply, transpose};
use crate::simd::{self, Work};
use crate::vector::padded;

/// A layer of so many units over windows of so many rows.
#[derive(Clone, Copy)]
pub(super) struct Recurrent<'a> {
    pub cell: Cell,
    pub steps: usize,
    pub inputs: usize,
    pub units: usize,
    /// By input, all sums of all units.
    pub weights: &'a [f32],
    /// The same by unit of the state before.
    pub recurrent: &'a [f32],
    pub bias: &'a [f32],
    /// What is added to the sums over the state; empty of an LSTM, where it would do what the bias does.
    pub recurrent_bias: &'a [f32],
    /// By window, its first row that is not absent.
    pub starts: &'a [u32],
}

/// What a layer was given, gave and noted on the way forwards.
#[derive(Clone, Copy)]
pub(super) struct Passed<'a> {
    pub inputs: &'a [f32],
    pub outputs: &'a [f32],
    pub notes: &'a [f32],
}

/// Memory that is used again, of one way forwards or back.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    /// Of the rows at one place of all windows: the sums over the states before, or the gradient of the states.
    states: Vec<f32>,
    /// The gradient of the memories of an LSTM.
    memories: Vec<f32>,
    /// Of all rows, the gradients of the sums over the rows.
    pub of_sums: Vec<f32>,
    /// And of those over the states before.
    pub of_state_sums: Vec<f32>,
    transposed: Vec<f32>,
    /// The state before the first row.
    zeros: Vec<f32>,
}

impl Recurrent<'_> {
    /// How long a row of sums is, and one of states.
    fn strides(&self) -> (usize, usize) {
        (padded(self.cell.sums() * self.units), padded(self.units))
    }

    /// How many rows all windows have.
    fn rows(&self) -> usize {
        self.starts.len() * self.steps
    }

    /// The windows that have a row at that place.
    fn windows_at(&self, step: usize) -> impl Iterator<Item = usize> + '_ {
        self.starts.iter().enumerate().filter(move |(_, start)| **start as usize <= step).map(|(window, _)| window)
    }

    /// Writes the states of all rows, and notes what the way back needs: the gates of all rows, and behind them one number a unit.
    pub fn forwards(&self, inputs: &[f32], outputs: &mut Vec<f32>, notes: &mut Vec<f32>, memory: &mut Memory) {
        let (of_sums, of_state) = self.strides();
        notes.clear();
        (0..self.rows()).for_each(|_| notes.extend_from_slice(self.bias));
        let left = Left::Rows { values: inputs, stride: padded(self.inputs) };
        simd::run(Multiply { left, right: self.weights, into: notes, stride: of_sums });
        notes.resize(self.rows() * (of_sums + of_state), 0.0);
        zeroed(outputs, self.rows() * of_state);
        zeroed(&mut memory.zeros, of_state);
        for step in 0..self.steps {
            zeroed(&mut memory.states, self.starts.len() * of_sums);
            let sums = memory.states.chunks_exact_mut(of_sums).filter(|_| !self.recurrent_bias.is_empty());
            sums.for_each(|sums| sums.copy_from_slice(self.recurrent_bias));
            if step > 0 {
                let left = Left::Rows { values: &outputs[(step - 1) * of_state..], stride: self.steps * of_state };
                simd::run(Multiply { left, right: self.recurrent, into: &mut memory.states, stride: of_sums });
            }
            simd::run(StepForwards { layer: self, step, outputs, notes, memory });
        }
    }

    /// From the gradient of all states to those of the sums, which stay in the memory.
    pub fn backwards(&self, passed: Passed<'_>, gradient: &[f32], memory: &mut Memory) {
        let (of_sums, of_state) = self.strides();
        zeroed(&mut memory.states, self.starts.len() * of_state);
        zeroed(&mut memory.memories, self.starts.len() * of_state);
        zeroed(&mut memory.of_sums, self.rows() * of_sums);
        zeroed(&mut memory.of_state_sums, self.rows() * of_sums);
        zeroed(&mut memory.zeros, of_state);
        transpose(self.recurrent, of_sums, self.cell.sums() * self.units, &mut memory.transposed, of_state);
        for step in (0..self.steps).rev() {
            simd::run(StepBackwards { layer: self, step, passed, gradient, memory });
            let left = Left::Rows { values: &memory.of_state_sums[step * of_sums..], stride: self.steps * of_sums };
            simd::run(Multiply { left, right: &memory.transposed, into: &mut memory.states, stride: of_state });
        }
    }

    /// Adds up the gradient of the weights.
    pub fn add_weights(&self, passed: Passed<'_>, memory: &Memory, into: &mut [f32]) {
        let left = Left::Columns { values: passed.inputs, stride: padded(self.inputs) };
        simd::run(Multiply { left, right: &memory.of_sums, into, stride: self.strides().0 });
    }

    /// Adds up the gradient of the weights of the states.
    pub fn add_recurrent(&self, passed: Passed<'_>, memory: &mut Memory, into: &mut [f32]) {
        let (of_sums, of_state) = self.strides();
        // The state before a row stands one row before it, but that before the first of a window is 0.
        memory.of_state_sums.chunks_exact_mut(self.steps * of_sums).for_each(|window| window[..of_sums].fill(0.0));
        let right = memory.of_state_sums.get(of_sums..).unwrap_or_default();
        let left = Left::Columns { values: passed.outputs, stride: of_state };
        simd::run(Multiply { left, right, into, stride: of_sums });
    }

    /// Adds the gradient of the inputs.
    pub fn add_inputs(&self, memory: &mut Memory, into: &mut [f32]) {
        let ((of_sums, _), stride) = (self.strides(), padded(self.inputs));
        transpose(self.weights, of_sums, self.cell.sums() * self.units, &mut memory.transposed, stride);
        let left = Left::Rows { values: &memory.of_sums, stride: of_sums };
        simd::run(Multiply { left, right: &memory.transposed, into, stride });
    }
}

fn zeroed(list: &mut Vec<f32>, size: usize) {
    list.clear();
    list.resize(size, 0.0);
}

/// The states of the rows at one place of all windows.
struct StepForwards<'a> {
    layer: &'a Recurrent<'a>,
    step: usize,
    outputs: &'a mut [f32],
    notes: &'a mut [f32],
    memory: &'a Memory,
}

impl Work for StepForwards<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { layer, step, outputs, notes, memory } = self;
        let ((of_sums, of_state), units) = (layer.strides(), layer.units);
        let (gates, noted) = notes.split_at_mut(layer.rows() * of_sums);
        for window in layer.windows_at(step) {
            let row = window * layer.steps + step;
            let (states, from_here) = outputs.split_at_mut(row * of_state);
            let (memories, noted) = noted.split_at_mut(row * of_state);
            let before = |list: &[f32]| list.len().checked_sub(of_state).filter(|_| step > 0);
            layer.cell.forwards(RowForwards {
                gates: &mut gates[row * of_sums..][..layer.cell.sums() * units],
                of_state: &memory.states[window * of_sums..][..layer.cell.sums() * units],
                before: &before(states).map_or(&memory.zeros[..], |at| &states[at..])[..units],
                memory_before: &before(memories).map_or(&memory.zeros[..], |at| &memories[at..])[..units],
                noted: &mut noted[..units],
                state: &mut from_here[..units],
            });
        }
    }
}

/// The way back from the rows at one place of all windows.
struct StepBackwards<'a> {
    layer: &'a Recurrent<'a>,
    step: usize,
    passed: Passed<'a>,
    gradient: &'a [f32],
    memory: &'a mut Memory,
}

impl<'a> Work for StepBackwards<'a> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { layer, step, passed, gradient, memory } = self;
        let ((of_sums, of_state), units) = (layer.strides(), layer.units);
        let (gates, noted) = passed.notes.split_at(layer.rows() * of_sums);
        let sums = layer.cell.sums() * units;
        let Memory { states, memories, of_sums: all_sums, of_state_sums, zeros, .. } = memory;
        for window in layer.windows_at(step) {
            let row = window * layer.steps + step;
            let at = row * of_state;
            let before = |list: &'a [f32]| (step > 0).then(|| &list[at - of_state..][..units]);
            let state = &mut states[window * of_state..][..units];
            state.iter_mut().zip(&gradient[at..][..units]).for_each(|(sum, value)| *sum += value);
            layer.cell.backwards(RowBackwards {
                gates: &gates[row * of_sums..][..sums],
                noted: &noted[at..][..units],
                before: before(passed.outputs).unwrap_or(&zeros[..units]),
                memory_before: before(noted).unwrap_or(&zeros[..units]),
                of_state: state,
                of_memory: &mut memories[window * of_state..][..units],
                of_sums: &mut all_sums[row * of_sums..][..sums],
                of_state_sums: &mut of_state_sums[row * of_sums..][..sums],
            });
        }
    }
}
