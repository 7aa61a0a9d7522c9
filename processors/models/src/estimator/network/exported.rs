//! Networks in a graph of ONNX, in 32 bits as they are computed here.

use millstream_core::{Error, Result};

use super::activations::LEAK;
use super::layer_settings::Activation;
use super::layers::SMALLEST_VARIANCE;
use super::plan::{LayerKind, Parameter};
use super::settings::NetworkLoss;
use super::{Network, shape};
use crate::encode::LARGEST_OF_32_BITS;
use crate::onnx::{Attribute, ElementType, Encoded, Graph, Value};

impl Network {
    pub(super) fn add_to(&self, graph: &mut Graph, row: &Encoded) -> Result<Value> {
        let lists = self.engine.lists()?;
        let parameter = |graph: &mut Graph, parameter: &Parameter| {
            let values: Vec<f32> = parameter.rows_of(&lists.parameters).flatten().copied().collect();
            graph.floats(&shape(parameter), &values)
        };
        let mut values = self.inputs_in(graph, row);
        for layer in &self.plan.layers {
            let mut get = |index: usize| parameter(graph, &self.plan.parameters[index]);
            match layer.kind {
                LayerKind::Dense { weights, bias, activation } => {
                    let (weights, bias) = (get(weights), get(bias));
                    let sums = graph.add("Gemm", &[&values, &weights, &bias]);
                    values = activated(graph, sums, activation);
                }
                LayerKind::Dropout { .. } => {}
                LayerKind::Recurrent { .. } | LayerKind::Convolution { .. } | LayerKind::Last => {
                    return Err(Error::new("layers over the rows of a sequence are not written as ONNX"));
                }
                LayerKind::Normalise { scale, shift } => {
                    let (scale, shift) = (get(scale), get(shift));
                    let epsilon = [("epsilon", Attribute::Float(SMALLEST_VARIANCE))];
                    values = graph.add_with("LayerNormalization", &[&values, &scale, &shift], epsilon);
                }
            }
        }
        let outputs = graph.cast(&values, ElementType::Double);
        Ok(match (self.objective.loss, self.objective.outputs) {
            (NetworkLoss::LogLoss, 1) => graph.add("Sigmoid", &[&outputs]),
            (NetworkLoss::LogLoss, _) => graph.add_with("Softmax", &[&outputs], [("axis", Attribute::Int(1))]),
            (NetworkLoss::Quantiles, count) => {
                let quantiles = graph.sorted(&outputs, count);
                let number = graph.column(&quantiles, self.objective.quantiles.central());
                graph.side_by_side(&[&number, &quantiles])
            }
            _ => outputs,
        })
    }

    /// The numbers of rows, and the vectors of their categories behind them.
    fn inputs_in(&self, graph: &mut Graph, row: &Encoded) -> Value {
        let mut inputs = Vec::new();
        if let Some(numbers) = &row.numbers {
            let (least, most) = (graph.doubles(&[], &[-LARGEST_OF_32_BITS]), graph.doubles(&[], &[LARGEST_OF_32_BITS]));
            let clipped = graph.add("Clip", &[numbers, &least, &most]);
            inputs.push(graph.cast(&clipped, ElementType::Float));
        }
        let size = self.embeddings.size;
        for category in &row.categories {
            let used = &self.embeddings.values[category.first * size..(category.first + category.used) * size];
            let vectors = graph.floats(&[category.used, size], used);
            let vectors = graph.add("Gather", &[&vectors, &category.slot]);
            inputs.push(graph.squeeze(&vectors, 1));
        }
        graph.side_by_side(&inputs.iter().collect::<Vec<_>>())
    }
}

fn activated(graph: &mut Graph, sums: Value, activation: Activation) -> Value {
    match activation {
        Activation::Linear => sums,
        Activation::Relu => graph.add("Relu", &[&sums]),
        Activation::LeakyRelu => graph.add_with("LeakyRelu", &[&sums], [("alpha", Attribute::Float(LEAK))]),
        Activation::Elu => graph.add("Elu", &[&sums]),
        Activation::Tanh => graph.add("Tanh", &[&sums]),
        Activation::Sigmoid => graph.add("Sigmoid", &[&sums]),
    }
}
