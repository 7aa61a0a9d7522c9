//! The layout of a network: its layers, and where their parameters stand in one long list.

use std::ops::Range;

use super::cells::Cell;
use super::convolution::Taps;
use super::layer_settings::{Activation, LayerSettings};
use super::random::Uniform;
use super::settings::NetworkSettings;
use crate::vector::padded;

/// The layers of a network, from the numbers that come in to the outputs.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// How many numbers come in.
    pub inputs: usize,
    /// How many go out.
    pub outputs: usize,
    /// How many rows stand together in a window, of which the last one is predicted: 1 if each row stands for itself.
    pub window: usize,
    pub layers: Vec<Layer>,
    pub parameters: Vec<Parameter>,
}

/// One layer. Rows of numbers are as long as [`padded`] says wherever they come in or go out.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    pub inputs: usize,
    pub outputs: usize,
    /// How many rows of each window it goes over: all of them, or, behind [`LayerKind::Last`], one.
    pub steps: usize,
    pub kind: LayerKind,
}

#[derive(Clone, Debug)]
pub(super) enum LayerKind {
    /// `activation(x * weights + bias)`; the weights are a row an input. Both are given by their place among the
    /// parameters, as those below are.
    Dense { weights: usize, bias: usize, activation: Activation },
    /// Some numbers are 0 while learning, drawn from this stream; the others are `1 / (1 - share)` times as large.
    Dropout { share: f32, stream: u64 },
    /// `(x - mean) / deviation * scale + shift`, for the mean and the deviation of the row.
    Normalise { scale: usize, shift: usize },
    /// A state that is carried from row to row.
    Recurrent { cell: Cell, weights: usize, recurrent: usize, bias: usize, recurrent_bias: Option<usize> },
    /// `activation(x * weights + bias)`, for `x` the rows that the taps say side by side; the weights are a row an input of each.
    Convolution { taps: Taps, weights: usize, bias: usize, activation: Activation },
    /// The last row of each window.
    Last,
}

/// A matrix of parameters, of which one row is a vector.
#[derive(Clone, Debug)]
pub(super) struct Parameter {
    pub name: String,
    pub rows: usize,
    pub columns: usize,
    /// Where it begins in a list of all parameters, one row behind the other.
    pub offset: usize,
    /// Where it begins if rows are as long as [`padded`] says.
    pub padded_offset: usize,
    initializer: Initializer,
}

/// What parameters are before anything was learned.
#[derive(Clone, Copy, Debug)]
enum Initializer {
    Same(f32),
    /// 1 in this part of them, and 0 elsewhere.
    OneFrom(usize, usize),
    /// Drawn from between minus this and this.
    Within(f32),
}

impl Parameter {
    /// Whether it is a vector by nature, and not by chance a matrix of one row.
    pub fn is_vector(&self) -> bool {
        matches!(self.initializer, Initializer::Same(_) | Initializer::OneFrom(..))
    }

    /// How many numbers it has.
    pub fn size(&self) -> usize {
        self.rows * self.columns
    }

    /// Puts its values, one row behind the other, into a list with padding.
    pub fn put(&self, values: &[f32], into: &mut [f32]) {
        let rows = into[self.padded_range()].chunks_exact_mut(padded(self.columns));
        rows.zip(values.chunks_exact(self.columns))
            .for_each(|(row, values)| row[..self.columns].copy_from_slice(values));
    }

    /// Where it stands in a list of all parameters.
    pub fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.size()
    }

    /// Its rows in a list with padding, without theirs.
    pub fn rows_of<'a>(&self, list: &'a [f32]) -> impl Iterator<Item = &'a [f32]> {
        let columns = self.columns;
        list[self.padded_range()].chunks_exact(padded(columns)).map(move |row| &row[..columns])
    }

    /// Where it stands in a list with padding.
    pub fn padded_range(&self) -> Range<usize> {
        self.padded_offset..self.padded_offset + self.rows * padded(self.columns)
    }
}

impl Plan {
    /// Of a network over so many numbers; the last layer has so many outputs.
    pub fn new(settings: &NetworkSettings, inputs: usize, outputs: usize) -> Self {
        let window = settings.sequence.as_ref().map_or(1, |sequence| sequence.rows as usize);
        let mut plan = Self { inputs, outputs, window, layers: Vec::new(), parameters: Vec::new() };
        let last_over_rows = settings.layers.iter().rposition(LayerSettings::goes_over_rows);
        for (index, layer) in settings.layers.iter().enumerate() {
            match layer {
                LayerSettings::Dense(dense) => plan.add_dense(dense.dense as usize, dense.activation),
                LayerSettings::Dropout(dropout) => {
                    let stream = plan.layers.len() as u64;
                    plan.add(plan.width(), LayerKind::Dropout { share: dropout.dropout as f32, stream });
                }
                LayerSettings::Normalise(_) => {
                    let scale = plan.parameter("scale", 1, plan.width(), Initializer::Same(1.0));
                    let shift = plan.parameter("shift", 1, plan.width(), Initializer::Same(0.0));
                    plan.add(plan.width(), LayerKind::Normalise { scale, shift });
                }
                LayerSettings::Gru(layer) => plan.add_recurrent(Cell::Gru, layer.gru as usize),
                LayerSettings::Lstm(layer) => plan.add_recurrent(Cell::Lstm, layer.lstm as usize),
                LayerSettings::Conv1d(layer) => {
                    plan.add_convolution(layer.conv1d as usize, layer.taps(), layer.activation)
                }
            }
            if Some(index) == last_over_rows {
                plan.add(plan.width(), LayerKind::Last);
            }
        }
        plan.add_dense(outputs, Activation::Linear);
        plan
    }

    /// How many numbers the layers so far give.
    fn width(&self) -> usize {
        self.layers.last().map_or(self.inputs, |layer| layer.outputs)
    }

    fn add(&mut self, outputs: usize, kind: LayerKind) {
        let is_behind_last = self.layers.iter().any(|layer| matches!(layer.kind, LayerKind::Last));
        let steps = if is_behind_last { 1 } else { self.window };
        self.layers.push(Layer { inputs: self.width(), outputs, steps, kind });
    }

    /// The weights of the states are drawn as PyTorch draws them. An LSTM forgets nothing at first (Jozefowicz, Zaremba and Sutskever 2015,
    /// "An Empirical Exploration of Recurrent Network Architectures").
    fn add_recurrent(&mut self, cell: Cell, units: usize) {
        let (inputs, sums) = (self.width(), cell.sums() * units);
        let of_inputs = Initializer::Within(bound(Activation::Tanh, inputs, units));
        let weights = self.parameter("weights", inputs, sums, of_inputs);
        let of_states = Initializer::Within(1.0 / (units as f32).sqrt());
        let recurrent = self.parameter("recurrent", units, sums, of_states);
        let (bias, recurrent_bias) = match cell {
            Cell::Gru => {
                let bias = self.parameter("bias", 1, sums, Initializer::Same(0.0));
                (bias, Some(self.parameter("recurrent_bias", 1, sums, Initializer::Same(0.0))))
            }
            Cell::Lstm => (self.parameter("bias", 1, sums, Initializer::OneFrom(units, 2 * units)), None),
        };
        self.add(units, LayerKind::Recurrent { cell, weights, recurrent, bias, recurrent_bias });
    }

    fn add_convolution(&mut self, units: usize, taps: Taps, activation: Activation) {
        let inputs = taps.kernel * self.width();
        let weights = self.parameter("weights", inputs, units, Initializer::Within(bound(activation, inputs, units)));
        let bias = self.parameter("bias", 1, units, Initializer::Same(0.0));
        self.add(units, LayerKind::Convolution { taps, weights, bias, activation });
    }

    fn add_dense(&mut self, units: usize, activation: Activation) {
        let inputs = self.width();
        let weights = self.parameter("weights", inputs, units, Initializer::Within(bound(activation, inputs, units)));
        let bias = self.parameter("bias", 1, units, Initializer::Same(0.0));
        self.add(units, LayerKind::Dense { weights, bias, activation });
    }

    fn parameter(&mut self, name: &str, rows: usize, columns: usize, initializer: Initializer) -> usize {
        let (offset, padded_offset) = (self.size(), self.padded_size());
        let name = format!("{}.{name}", self.layers.len());
        self.parameters.push(Parameter { name, rows, columns, offset, padded_offset, initializer });
        self.parameters.len() - 1
    }

    /// How many numbers are computed of one row that is learned, with all rows of its window, and noted for the way back.
    pub fn numbers_of_a_row(&self) -> usize {
        let of_layer = |layer: &Layer| {
            let noted = match layer.kind {
                LayerKind::Recurrent { cell, .. } => (cell.sums() + 1) * layer.outputs,
                LayerKind::Convolution { taps, .. } => taps.kernel * layer.inputs,
                _ => 0,
            };
            layer.steps * (layer.outputs + noted)
        };
        self.window * self.inputs + self.layers.iter().map(of_layer).sum::<usize>()
    }

    /// How many numbers all parameters have.
    pub fn size(&self) -> usize {
        self.parameters.last().map_or(0, |last| last.range().end)
    }

    /// How many there are with padding.
    pub fn padded_size(&self) -> usize {
        self.parameters.last().map_or(0, |last| last.padded_range().end)
    }

    /// A list of all parameters, with the rows of each as long as [`padded`] says.
    pub fn pad(&self, list: &[f32]) -> Vec<f32> {
        let mut into = vec![0.0; self.padded_size()];
        self.parameters.iter().for_each(|parameter| parameter.put(&list[parameter.range()], &mut into));
        into
    }

    /// The parameters before anything was learned.
    pub fn initial_values(&self, seed: u64) -> Vec<f32> {
        let mut list = Vec::with_capacity(self.size());
        for (index, parameter) in self.parameters.iter().enumerate() {
            let mut uniform = Uniform::new(seed, PARAMETERS + index as u64, 0);
            list.extend((0..parameter.size()).map(|place| match parameter.initializer {
                Initializer::Same(value) => value,
                Initializer::OneFrom(start, end) => f32::from(u8::from((start..end).contains(&place))),
                Initializer::Within(bound) => (2.0 * uniform.next() - 1.0) * bound,
            }));
        }
        list
    }
}

/// The streams from here on are those of the first parameters; those before are of dropout, by the layer.
pub(super) const PARAMETERS: u64 = 1 << 32;

/// How large the first weights may be: so that numbers of variance 1 stay so, by He and others (2015) where half of them
/// are cut off, by Glorot and Bengio (2010) elsewhere.
fn bound(activation: Activation, inputs: usize, outputs: usize) -> f32 {
    let variance = match activation {
        Activation::Relu | Activation::LeakyRelu | Activation::Elu => 2.0 / inputs as f32,
        Activation::Tanh | Activation::Sigmoid | Activation::Linear => 2.0 / (inputs + outputs) as f32,
    };
    (3.0 * variance).sqrt()
}
