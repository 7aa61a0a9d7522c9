//! The layout of a network: its layers, and where their parameters stand in one long list.

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
    /// How many floats all parameters are together, with padding.
    pub size: usize,
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
    /// `activation(x * weights + bias)`; the weights are a row an input.
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
    /// Where it begins in the list.
    pub offset: usize,
    pub rows: usize,
    /// How many numbers a row has; they stand `padded(columns)` apart.
    pub columns: usize,
    start: Start,
}

/// What parameters are before anything was learned.
#[derive(Clone, Copy, Debug)]
enum Start {
    Same(f32),
    /// Drawn from between minus this and this.
    Within(f32),
}

impl Parameter {
    /// Whether it is a vector by nature, and not by chance a matrix of one row.
    pub fn is_vector(&self) -> bool {
        matches!(self.start, Start::Same(_))
    }

    /// Where it stands in the list.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.offset..self.offset + self.rows * padded(self.columns)
    }

    /// Without padding.
    pub fn values<'a>(&self, list: &'a [f32]) -> impl Iterator<Item = &'a f32> {
        let columns = self.columns;
        list[self.range()].chunks_exact(padded(columns)).flat_map(move |row| &row[..columns])
    }

    /// Without padding.
    pub fn values_mut<'a>(&self, list: &'a mut [f32]) -> impl Iterator<Item = &'a mut f32> {
        let columns = self.columns;
        list[self.range()].chunks_exact_mut(padded(columns)).flat_map(move |row| &mut row[..columns])
    }
}

impl Plan {
    /// Of a network over so many numbers; the last layer has so many outputs.
    pub fn new(settings: &NetworkSettings, inputs: usize, outputs: usize) -> Self {
        let mut plan = Self { inputs, outputs, layers: Vec::new(), parameters: Vec::new(), size: 0 };
        for layer in &settings.layers {
            match layer {
                LayerSettings::Dense(dense) => plan.add_dense(dense.dense as usize, dense.activation),
                LayerSettings::Dropout(dropout) => {
                    let stream = plan.layers.len() as u64;
                    plan.add(plan.width(), LayerKind::Dropout { share: dropout.dropout as f32, stream });
                }
                LayerSettings::Normalise(_) => {
                    let scale = plan.parameter("scale", 1, plan.width(), Start::Same(1.0));
                    let shift = plan.parameter("shift", 1, plan.width(), Start::Same(0.0));
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
        let weights = self.parameter("weights", inputs, units, Start::Within(bound(activation, inputs, units)));
        let bias = self.parameter("bias", 1, units, Start::Same(0.0));
        self.add(units, LayerKind::Dense { weights, bias, activation });
    }

    fn parameter(&mut self, name: &str, rows: usize, columns: usize, start: Start) -> usize {
        let offset = self.size;
        let name = format!("{}.{name}", self.layers.len());
        self.parameters.push(Parameter { name, offset, rows, columns, start });
        self.size += rows * padded(columns);
        offset
    }

    /// The parameters before anything was learned.
    pub fn start(&self, seed: u64) -> Vec<f32> {
        let mut list = vec![0.0; self.size];
        for (index, parameter) in self.parameters.iter().enumerate() {
            let mut uniform = Uniform::new(seed, PARAMETERS + index as u64, 0);
            let value = || match parameter.start {
                Start::Same(value) => value,
                Start::Within(bound) => (2.0 * uniform.next() - 1.0) * bound,
            };
            parameter
                .values_mut(&mut list)
                .zip(std::iter::repeat_with(value))
                .for_each(|(place, value)| *place = value);
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
