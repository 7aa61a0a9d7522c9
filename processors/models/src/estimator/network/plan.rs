//! The layout of a network: its layers, and where their parameters stand in one long list.

use std::ops::Range;

use super::random::Uniform;
use super::settings::{Activation, LayerSettings, NetworkSettings};
use crate::vector::padded;

/// The layers of a network, from the numbers that come in to the outputs.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// How many numbers come in.
    pub inputs: usize,
    /// How many go out.
    pub outputs: usize,
    pub layers: Vec<Layer>,
    pub parameters: Vec<Parameter>,
}

/// One layer. Rows of numbers are as long as [`padded`] says wherever they come in or go out.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    pub inputs: usize,
    pub outputs: usize,
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
    /// Drawn from between minus this and this.
    Within(f32),
}

impl Parameter {
    /// Whether it is a vector by nature, and not by chance a matrix of one row.
    pub fn is_vector(&self) -> bool {
        matches!(self.initializer, Initializer::Same(_))
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
        let mut plan = Self { inputs, outputs, layers: Vec::new(), parameters: Vec::new() };
        for layer in &settings.layers {
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
        self.layers.push(Layer { inputs: self.width(), outputs, kind });
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
            list.extend((0..parameter.size()).map(|_| match parameter.initializer {
                Initializer::Same(value) => value,
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
