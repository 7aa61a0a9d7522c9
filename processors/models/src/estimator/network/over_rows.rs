//! The layers over the rows of windows on the CPU: recurrent ones, convolutions, and the one that takes the last row.

use super::activations::{Activate, ActivationGradient};
use super::convolution::Windows;
use super::layers::{BackwardPass, ForwardPass, Parameters, add_rows};
use super::multiply::{Left, Multiply, transpose};
use super::plan::{Layer, LayerKind};
use super::recurrent::{Passed, Recurrent};
use crate::simd;
use crate::vector::padded;

impl Layer {
    /// The recurrent layer that it is, if it is one.
    fn recurrent<'a>(&self, parameters: Parameters<'a>, starts: &'a [u32]) -> Option<Recurrent<'a>> {
        let LayerKind::Recurrent { cell, weights, recurrent, bias, recurrent_bias } = self.kind else { return None };
        Some(Recurrent {
            cell,
            steps: self.steps,
            inputs: self.inputs,
            units: self.outputs,
            weights: parameters.get(weights),
            recurrent: parameters.get(recurrent),
            bias: parameters.get(bias),
            recurrent_bias: recurrent_bias.map_or(&[], |bias| parameters.get(bias)),
            starts,
        })
    }

    fn windows<'a>(&self, starts: &'a [u32]) -> Windows<'a> {
        Windows { steps: self.steps, numbers: self.inputs, stride: padded(self.inputs), starts }
    }

    /// The way forwards through such a layer.
    pub fn forwards_over_rows(&self, pass: ForwardPass<'_>, outputs: &mut Vec<f32>, notes: &mut Vec<f32>) {
        let ForwardPass { parameters, inputs, starts, memory, .. } = pass;
        let (from, to) = (padded(self.inputs), padded(self.outputs));
        if let Some(layer) = self.recurrent(parameters, starts) {
            layer.forwards(inputs, outputs, notes, memory);
        } else if let LayerKind::Convolution { taps, weights, bias, activation } = self.kind {
            taps.unfold(self.windows(starts), inputs, notes);
            outputs.clear();
            (0..inputs.len() / from).for_each(|_| outputs.extend_from_slice(parameters.get(bias)));
            let left = Left::Rows { values: notes, stride: taps.kernel * self.inputs };
            simd::run(Multiply { left, right: parameters.get(weights), into: outputs, stride: to });
            simd::run(Activate { activation, values: outputs });
        } else {
            outputs.clear();
            inputs
                .chunks_exact(self.steps * from)
                .for_each(|window| outputs.extend_from_slice(&window[window.len() - from..]));
        }
    }

    /// The way back through such a layer: adds to the gradients of the parameters, and writes that of the inputs.
    pub fn backwards_over_rows(
        &self,
        back: BackwardPass<'_>,
        gradient: &mut [f32],
        next: &mut Vec<f32>,
        gradients: &mut [f32],
    ) {
        match self.kind {
            LayerKind::Recurrent { .. } => self.backwards_in_time(back, gradient, next, gradients),
            LayerKind::Convolution { .. } => self.backwards_through_taps(back, gradient, next, gradients),
            _ => {
                let stride = padded(self.inputs);
                next.resize(back.inputs.len(), 0.0);
                for (window, gradient) in next.chunks_exact_mut(self.steps * stride).zip(gradient.chunks_exact(stride))
                {
                    let last = window.len() - stride;
                    window[last..].copy_from_slice(gradient);
                }
            }
        }
    }

    fn backwards_in_time(&self, back: BackwardPass<'_>, gradient: &[f32], next: &mut Vec<f32>, gradients: &mut [f32]) {
        let LayerKind::Recurrent { weights, recurrent, bias, recurrent_bias, .. } = self.kind else { return };
        let Some(layer) = self.recurrent(back.parameters, back.starts) else { return };
        let passed = Passed { inputs: back.inputs, outputs: back.outputs, notes: back.notes };
        let (memory, parameters) = (back.memory, back.parameters);
        layer.backwards(passed, gradient, memory);
        add_rows(&memory.of_sums, &mut gradients[parameters.range(bias)]);
        if let Some(bias) = recurrent_bias {
            add_rows(&memory.of_state_sums, &mut gradients[parameters.range(bias)]);
        }
        layer.add_weights(passed, memory, &mut gradients[parameters.range(weights)]);
        layer.add_recurrent(passed, memory, &mut gradients[parameters.range(recurrent)]);
        if back.to_inputs {
            next.resize(back.inputs.len(), 0.0);
            layer.add_inputs(memory, next);
        }
    }

    fn backwards_through_taps(
        &self,
        back: BackwardPass<'_>,
        gradient: &mut [f32],
        next: &mut Vec<f32>,
        gradients: &mut [f32],
    ) {
        let LayerKind::Convolution { taps, weights, bias, activation } = self.kind else { return };
        let (width, to) = (taps.kernel * self.inputs, padded(self.outputs));
        simd::run(ActivationGradient { activation, outputs: back.outputs, gradient });
        add_rows(gradient, &mut gradients[back.parameters.range(bias)]);
        let left = Left::Columns { values: back.notes, stride: width };
        let into = &mut gradients[back.parameters.range(weights)];
        simd::run(Multiply { left, right: gradient, into, stride: to });
        if back.to_inputs {
            let stride = padded(width);
            transpose(back.parameters.get(weights), to, self.outputs, back.transposed, stride);
            let unfolded = &mut back.memory.of_sums;
            unfolded.clear();
            unfolded.resize(gradient.len() / to * stride, 0.0);
            let left = Left::Rows { values: gradient, stride: to };
            simd::run(Multiply { left, right: back.transposed, into: unfolded, stride });
            next.resize(back.inputs.len(), 0.0);
            taps.fold(self.windows(back.starts), unfolded, stride, next);
        }
    }
}
