//! The layers of a network on the CPU: forwards from inputs to outputs, and backwards from the gradient of the outputs to
//! that of every parameter.
//!
//! A row's outputs depend on that row alone, and on the parameters: not on the rows beside it, nor on how many there are.

use std::ops::Range;

use super::activations::{Activate, ActivationGradient};
use super::multiply::{Left, Multiply, transpose};
use super::plan::{Layer, LayerKind, Plan};
use super::random::Uniform;
use super::recurrent::Memory;
use crate::simd;
use crate::vector::padded;

/// What was computed on the way forwards, which the way back needs. Its memory is used again.
#[derive(Clone, Debug, Default)]
pub(super) struct Trace {
    /// Of every layer, row by row.
    outputs: Vec<Vec<f32>>,
    /// Of every layer: by what dropout multiplied, or by what rows were normalised.
    notes: Vec<Vec<f32>>,
    gradient: Vec<f32>,
    next_gradient: Vec<f32>,
    transposed: Vec<f32>,
    memory: Memory,
}

/// Rows of inputs, with padding; and where they stand together in windows, the first of each window that is not absent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inputs<'a> {
    pub values: &'a [f32],
    pub starts: &'a [u32],
}

/// Which numbers dropout sets to 0: those of the rows from this one on, counted from the first that the network ever
/// learned.
#[derive(Clone, Copy, Debug)]
pub(super) struct DropoutDraw {
    pub seed: u64,
    pub first_row: u64,
}

impl DropoutDraw {
    /// The same where so many rows of a window stand for one that is learned.
    fn over(self, steps: usize) -> Self {
        Self { first_row: self.first_row.wrapping_mul(steps as u64), ..self }
    }

    /// By what a layer of dropout multiplies the numbers of so many rows, each of so many columns, `stride` apart.
    pub fn factors(self, share: f32, stream: u64, rows: usize, columns: usize, stride: usize, into: &mut Vec<f32>) {
        let mut uniform = Uniform::new(self.seed, stream, u128::from(self.first_row) * columns as u128);
        let raised = 1.0 / (1.0 - share);
        for _ in 0..rows {
            into.extend((0..columns).map(|_| if uniform.next() < share { 0.0 } else { raised }));
            into.extend((columns..stride).map(|_| 0.0));
        }
    }
}

impl Trace {
    /// The outputs of the last layer.
    pub fn outputs(&self) -> &[f32] {
        self.outputs.last().map_or(&[], Vec::as_slice)
    }

    /// The gradient of the inputs, after the way back to them.
    pub fn input_gradient(&self) -> &[f32] {
        &self.gradient
    }

    /// Computes the outputs of all layers for rows of inputs; with dropout if `dropout` says which.
    pub fn forwards(&mut self, plan: &Plan, parameters: &[f32], inputs: Inputs<'_>, dropout: Option<DropoutDraw>) {
        self.outputs.resize_with(plan.layers.len(), Vec::new);
        self.notes.resize_with(plan.layers.len(), Vec::new);
        for (index, layer) in plan.layers.iter().enumerate() {
            let (before, from_here) = self.outputs.split_at_mut(index);
            let pass = ForwardPass {
                parameters: Parameters { plan, list: parameters },
                inputs: before.last().map_or(inputs.values, Vec::as_slice),
                starts: inputs.starts,
                dropout: dropout.map(|dropout| dropout.over(layer.steps)),
                memory: &mut self.memory,
            };
            layer.forwards(pass, &mut from_here[0], &mut self.notes[index]);
        }
    }

    /// Adds the gradient of every parameter to `gradients`. `of_outputs` writes the gradient of the last layer's outputs
    /// by them. Goes back to the inputs only if their gradient is wanted.
    pub fn backwards(
        &mut self,
        plan: &Plan,
        parameters: &[f32],
        inputs: Inputs<'_>,
        of_outputs: impl FnOnce(&[f32], &mut [f32]),
        to_inputs: bool,
        gradients: &mut [f32],
    ) {
        self.gradient.clear();
        self.gradient.resize(self.outputs().len(), 0.0);
        of_outputs(self.outputs.last().map_or(&[], Vec::as_slice), &mut self.gradient);
        for (index, layer) in plan.layers.iter().enumerate().rev() {
            let (before, from_here) = self.outputs.split_at(index);
            let way = BackwardPass {
                parameters: Parameters { plan, list: parameters },
                inputs: before.last().map_or(inputs.values, Vec::as_slice),
                starts: inputs.starts,
                outputs: &from_here[0],
                notes: &self.notes[index],
                to_inputs: to_inputs || index > 0,
                transposed: &mut self.transposed,
                memory: &mut self.memory,
            };
            layer.backwards(way, &mut self.gradient, &mut self.next_gradient, gradients);
            std::mem::swap(&mut self.gradient, &mut self.next_gradient);
        }
    }
}

/// The parameters of a network, with padding.
#[derive(Clone, Copy)]
pub(super) struct Parameters<'a> {
    plan: &'a Plan,
    list: &'a [f32],
}

impl<'a> Parameters<'a> {
    pub fn get(self, index: usize) -> &'a [f32] {
        &self.list[self.range(index)]
    }

    pub fn range(self, index: usize) -> Range<usize> {
        self.plan.parameters[index].padded_range()
    }
}

/// What the way forwards through a layer is computed from.
pub(super) struct ForwardPass<'a> {
    pub parameters: Parameters<'a>,
    pub inputs: &'a [f32],
    pub starts: &'a [u32],
    pub dropout: Option<DropoutDraw>,
    pub memory: &'a mut Memory,
}

/// What the way back through a layer is computed from.
pub(super) struct BackwardPass<'a> {
    pub parameters: Parameters<'a>,
    pub inputs: &'a [f32],
    pub starts: &'a [u32],
    pub outputs: &'a [f32],
    pub notes: &'a [f32],
    pub to_inputs: bool,
    pub transposed: &'a mut Vec<f32>,
    pub memory: &'a mut Memory,
}

impl Layer {
    fn forwards(&self, pass: ForwardPass<'_>, outputs: &mut Vec<f32>, notes: &mut Vec<f32>) {
        let ForwardPass { parameters, inputs, dropout, .. } = pass;
        let (from, to) = (padded(self.inputs), padded(self.outputs));
        outputs.clear();
        match self.kind {
            LayerKind::Dense { weights, bias, activation } => {
                let (weights, bias) = (parameters.get(weights), parameters.get(bias));
                (0..inputs.len() / from).for_each(|_| outputs.extend_from_slice(bias));
                let left = Left::Rows { values: inputs, stride: from };
                simd::run(Multiply { left, right: weights, into: outputs, stride: to });
                simd::run(Activate { activation, values: outputs });
            }
            LayerKind::Dropout { share, stream } => {
                outputs.extend_from_slice(inputs);
                notes.clear();
                let Some(dropout) = dropout else { return };
                dropout.factors(share, stream, inputs.len() / to, self.outputs, to, notes);
                outputs.iter_mut().zip(notes.iter()).for_each(|(output, factor)| *output *= factor);
            }
            LayerKind::Normalise { scale, shift } => {
                outputs.resize(inputs.len(), 0.0);
                notes.clear();
                let (scale, shift) = (parameters.get(scale), parameters.get(shift));
                for (inputs, outputs) in inputs.chunks_exact(from).zip(outputs.chunks_exact_mut(to)) {
                    let size = Size::of(&inputs[..self.inputs]);
                    notes.extend([size.mean, size.inverse_deviation]);
                    for column in 0..self.outputs {
                        outputs[column] = size.normalised(inputs[column]) * scale[column] + shift[column];
                    }
                }
            }
            LayerKind::Recurrent { .. } | LayerKind::Convolution { .. } | LayerKind::Last => {
                self.forwards_over_rows(pass, outputs, notes);
            }
        }
    }

    /// From the gradient of the outputs to that of the parameters, which is added to `gradients`, and that of the inputs.
    fn backwards(&self, back: BackwardPass<'_>, gradient: &mut [f32], next: &mut Vec<f32>, gradients: &mut [f32]) {
        let (from, to) = (padded(self.inputs), padded(self.outputs));
        next.clear();
        match self.kind {
            LayerKind::Dense { weights, bias, activation } => {
                simd::run(ActivationGradient { activation, outputs: back.outputs, gradient });
                let of_weights = &mut gradients[back.parameters.range(weights)];
                let left = Left::Columns { values: back.inputs, stride: from };
                simd::run(Multiply { left, right: gradient, into: of_weights, stride: to });
                add_rows(gradient, &mut gradients[back.parameters.range(bias)]);
                if back.to_inputs {
                    transpose(back.parameters.get(weights), to, self.outputs, back.transposed, from);
                    next.resize(back.inputs.len(), 0.0);
                    let left = Left::Rows { values: gradient, stride: to };
                    simd::run(Multiply { left, right: back.transposed, into: next, stride: from });
                }
            }
            LayerKind::Dropout { .. } => {
                next.extend(gradient.iter().zip(back.notes).map(|(gradient, factor)| gradient * factor));
            }
            LayerKind::Normalise { scale, shift } => {
                next.resize(back.inputs.len(), 0.0);
                let factors = back.parameters.get(scale);
                let (scale, shift) = (back.parameters.range(scale).start, back.parameters.range(shift).start);
                for (row, sizes) in back.notes.chunks_exact(2).enumerate() {
                    let size = Size { mean: sizes[0], inverse_deviation: sizes[1] };
                    let inputs = &back.inputs[row * from..][..self.inputs];
                    let gradient = &gradient[row * to..][..self.outputs];
                    let next = &mut next[row * from..][..self.inputs];
                    for column in 0..self.outputs {
                        gradients[scale + column] += gradient[column] * size.normalised(inputs[column]);
                        gradients[shift + column] += gradient[column];
                        next[column] = gradient[column] * factors[column];
                    }
                    size.backwards(inputs, next);
                }
            }
            LayerKind::Recurrent { .. } | LayerKind::Convolution { .. } | LayerKind::Last => {
                self.backwards_over_rows(back, gradient, next, gradients);
            }
        }
    }
}

/// Adds up rows.
pub(super) fn add_rows(rows: &[f32], into: &mut [f32]) {
    for row in rows.chunks_exact(into.len()) {
        into.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
    }
}

/// What is added to the variance of a row, so that it can be divided by.
pub(super) const SMALLEST_VARIANCE: f32 = 1e-5;

/// The mean of a row, and one by its standard deviation.
struct Size {
    mean: f32,
    inverse_deviation: f32,
}

impl Size {
    fn of(row: &[f32]) -> Self {
        let mean = mean(row.iter().copied());
        let variance = mean_of(row, |value| (value - mean) * (value - mean));
        Self { mean, inverse_deviation: 1.0 / (variance + SMALLEST_VARIANCE).sqrt() }
    }

    fn normalised(&self, value: f32) -> f32 {
        (value - self.mean) * self.inverse_deviation
    }

    /// Turns the gradient of the normalised numbers into that of the numbers: what moves all of them alike, or spreads
    /// them, changes nothing.
    fn backwards(&self, inputs: &[f32], gradient: &mut [f32]) {
        let alike = mean(gradient.iter().copied());
        let spread = mean(gradient.iter().zip(inputs).map(|(gradient, input)| gradient * self.normalised(*input)));
        for (gradient, input) in gradient.iter_mut().zip(inputs) {
            *gradient = (*gradient - alike - self.normalised(*input) * spread) * self.inverse_deviation;
        }
    }
}

fn mean_of(row: &[f32], of: impl Fn(f32) -> f32) -> f32 {
    mean(row.iter().map(|value| of(*value)))
}

fn mean(values: impl ExactSizeIterator<Item = f32>) -> f32 {
    let count = values.len() as f32;
    values.sum::<f32>() / count
}
