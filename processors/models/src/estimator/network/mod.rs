//! Networks of layers, which learn batches of a fixed number of rows.
//!
//! Every row is predicted as it comes; then it waits until its batch is complete. Batches are cut by count alone, so that
//! they are the same however rows arrive, and an incomplete one is part of the model's state.

mod activations;
#[cfg(feature = "candle")]
mod candle;
mod cells;
mod convolution;
mod cpu;
mod embedding;
mod engine;
mod exported;
mod in_batches;
mod in_sequences;
mod layer_settings;
mod layers;
mod loss;
mod multiply;
mod optimizer;
mod optimizer_settings;
mod over_rows;
mod over_sequences;
mod plan;
mod random;
mod recurrent;
mod rows;
mod sequences;
mod settings;
mod with_layers;

use std::sync::Arc;

use millstream_core::{Error, Result};

pub(super) use settings::NetworkSettings;

use super::checks::weight_of;
use super::{Estimator, Predict, Quantiles, Row, Shape};
use crate::device::OpenDevice;
use crate::encode::Feature;
use crate::label::Class;
use crate::layers::Layer;
use crate::onnx::{Encoded, Graph, Value};
use crate::simd;
use crate::tensors::Tensors;
use crate::vector::padded;
use cpu::Cpu;
use embedding::Embeddings;
use engine::{Engine, ForwardPass, Lists, TrainingBatch};
use in_batches::InBatches;
use layers::{DropoutDraw, Inputs};
use loss::Objective;
use optimizer::Step;
use plan::{Parameter, Plan};
use rows::Rows;

/// A network, and the rows that it will learn next.
#[derive(Debug)]
struct Network {
    settings: NetworkSettings,
    plan: Arc<Plan>,
    objective: Objective,
    classes: usize,
    /// How much rows of each class count; empty if all count the same.
    counts: Vec<f32>,
    engine: Box<dyn Engine>,
    embeddings: Embeddings,
    /// How many batches were learned.
    batches: u64,
    pending: Rows,
    /// Memory for the inputs of a batch.
    inputs: Vec<f32>,
}

impl Clone for Network {
    fn clone(&self) -> Self {
        Self {
            settings: self.settings.clone(),
            plan: self.plan.clone(),
            objective: self.objective,
            classes: self.classes,
            counts: self.counts.clone(),
            engine: self.engine.another(),
            embeddings: self.embeddings.clone(),
            batches: self.batches,
            pending: self.pending.clone(),
            inputs: Vec::new(),
        }
    }
}

/// Rows that wait to be predicted together.
#[derive(Clone, Debug)]
struct PendingRows {
    rows: Rows,
    most: usize,
    inputs: Vec<f32>,
    forward: ForwardPass,
}

impl PendingRows {
    /// Adds a row.
    #[inline(always)]
    pub fn push(&mut self, row: Row<'_>) {
        self.rows.push(row);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are so many that they should be predicted before there are more.
    #[inline(always)]
    pub fn is_full(&self) -> bool {
        self.rows.len() >= self.most
    }
}

impl Network {
    /// One that has learned nothing, on the CPU. `categories` are how many slots each category has.
    pub fn new(settings: &NetworkSettings, categories: impl Iterator<Item = u32>, shape: Shape) -> Self {
        let up_to = |end: &mut u32, slots| {
            *end += slots;
            Some(*end)
        };
        let ends: Vec<u32> = categories.scan(0, up_to).collect();
        let size = settings.embedding as usize;
        let quantiles = Quantiles::of(&settings.quantiles);
        let of_label = if shape.classes > 2 { shape.classes } else { 1 };
        let outputs = of_label.max(quantiles.shares().len());
        let plan = Arc::new(Plan::new(settings, shape.numbers + ends.len() * size, outputs));
        let window = plan.window;
        Self {
            settings: settings.clone(),
            objective: Objective { loss: settings.loss(shape.classes > 0), outputs, quantiles },
            classes: shape.classes,
            counts: Vec::new(),
            engine: Box::new(Cpu::new(plan.clone(), Lists::new(plan.pad(&plan.initial_values(settings.seed))))),
            plan,
            embeddings: Embeddings::new(shape.slots, size, settings.seed),
            batches: 0,
            pending: Rows::new(shape.numbers, ends).in_windows(window),
            inputs: Vec::new(),
        }
    }

    /// The same, where rows of classes count as the settings say.
    pub fn weighing(self, classes: &[Class]) -> Self {
        let weights = &self.settings.class_weight;
        let counts = classes.iter().filter(|_| !weights.is_empty()).map(|class| weight_of(class, weights) as f32);
        Self { counts: counts.collect(), ..self }
    }

    /// Memory for rows that wait to be predicted, with none in it.
    pub fn pending_rows(&self) -> PendingRows {
        let (rows, most) = (self.pending.like(), self.engine.block_rows());
        PendingRows { rows, most, inputs: Vec::new(), forward: ForwardPass::default() }
    }

    /// Predicts the rows that wait, writes their predictions one behind the other, and forgets the rows.
    pub fn predict_pending(&self, pending: &mut PendingRows, into: &mut [f64]) -> Result<()> {
        let PendingRows { rows, inputs, forward, .. } = pending;
        if rows.len() == 0 {
            return Ok(());
        }
        self.embeddings.inputs(rows, padded(self.plan.inputs), inputs);
        self.engine.outputs(Inputs { values: inputs, starts: rows.starts() }, forward)?;
        let of_rows = into.chunks_exact_mut(self.objective.predicted());
        for (outputs, into) in forward.outputs.chunks_exact(self.plan.outputs).zip(of_rows) {
            self.objective.predict(outputs, into);
        }
        rows.clear();
        Ok(())
    }

    /// Adds a row that is to be learned, and counts so much. `target` is the number, or the index of the class.
    #[inline(always)]
    pub fn teach(&mut self, row: Row<'_>, target: f64, weight: f64) {
        self.pending.push_labelled(row, target, weight);
    }

    /// Whether there are as many rows as are learned at once.
    #[inline(always)]
    pub fn is_taught_enough(&self) -> bool {
        self.pending.len() >= self.settings.batch_rows as usize
    }

    /// Learns the rows that were added.
    pub fn learn(&mut self) -> Result<()> {
        self.find_gradient()?;
        self.batches += 1;
        let step = Step::new(&self.settings, self.batches)
            .shortened(self.settings.clip_norm, || Ok(self.engine.squares()? + self.embeddings.squares()))?;
        self.engine.follow(step)?;
        self.embeddings.follow(step);
        self.pending.clear();
        Ok(())
    }

    /// How much each of the rows counts that were added; none if all count the same.
    fn pending_counts(&self) -> Vec<f32> {
        let weights = self.pending.weights();
        if self.counts.is_empty() {
            return weights.to_vec();
        }
        let of_class = |target: &f32| self.counts.get(*target as usize).copied().unwrap_or(1.0);
        let count = |(row, target): (usize, &f32)| of_class(target) * weights.get(row).copied().unwrap_or(1.0);
        self.pending.targets().iter().enumerate().map(count).collect()
    }

    /// Computes the gradient of the mean loss of the rows that were added.
    fn find_gradient(&mut self) -> Result<()> {
        let stride = padded(self.plan.inputs);
        self.embeddings.inputs(&self.pending, stride, &mut self.inputs);
        let counts = self.pending_counts();
        let first_row = self.batches.wrapping_mul(u64::from(self.settings.batch_rows));
        self.engine.find_gradient(TrainingBatch {
            inputs: Inputs { values: &self.inputs, starts: self.pending.starts() },
            targets: self.pending.targets(),
            counts: &counts,
            objective: self.objective,
            dropout: DropoutDraw { seed: self.settings.seed, first_row },
            by_inputs: !self.embeddings.is_empty(),
        })?;
        if !self.embeddings.is_empty() {
            self.embeddings.take_in(&self.pending, self.engine.input_gradient(), stride);
        }
        Ok(())
    }
}

impl Estimator for Network {
    fn outputs(&self) -> usize {
        self.objective.predicted()
    }

    fn step(&mut self, step: super::Step<'_>) -> Result<u64> {
        simd::run(InBatches { work: step, network: self })
    }

    fn predict(&self, predict: Predict<'_>) -> Result<()> {
        simd::run(InBatches { work: predict, network: self })
    }

    /// Also what waits to be learned.
    fn save(&self, tensors: &mut Tensors) -> Result<()> {
        for (prefix, list) in self.engine.lists()?.named() {
            for parameter in &self.plan.parameters {
                let name = format!("{prefix}.{}", parameter.name);
                tensors.put_rows(&name, &shape(parameter), parameter.rows_of(list));
            }
        }
        self.embeddings.save(tensors);
        tensors.put_u64("optimizer.batches", &[self.batches]);
        self.pending.save(tensors);
        Ok(())
    }

    fn load(&mut self, tensors: &Tensors) -> Result<()> {
        let mut lists = Lists::new(vec![0.0; self.plan.padded_size()]);
        for (prefix, list) in lists.named_mut() {
            for parameter in &self.plan.parameters {
                let values = tensors.f32s(&format!("{prefix}.{}", parameter.name), &shape(parameter))?;
                parameter.put(&values, list);
            }
        }
        self.engine = Box::new(Cpu::new(self.plan.clone(), lists));
        self.embeddings.load(tensors)?;
        let batches = tensors.u64s("optimizer.batches")?;
        // So many that none will ever be reached are a damage.
        let batches = batches.first().filter(|batches| **batches < 1 << 53);
        self.batches = *batches.ok_or_else(|| Error::new("the tensor `optimizer.batches` of the model is damaged"))?;
        self.pending.load(tensors, self.settings.batch_rows as usize, self.classes)
    }

    fn to_onnx(&self, graph: &mut Graph, row: &Encoded) -> Result<Value> {
        self.add_to(graph, row)
    }

    fn layers(&self, features: &[Feature]) -> Result<Vec<Layer>> {
        self.layers_of(features)
    }

    fn take_layers(&mut self, layers: &[Layer]) -> Result<()> {
        self.take(layers);
        Ok(())
    }

    fn another(&self) -> Box<dyn Estimator> {
        Box::new(self.clone())
    }

    /// It is if the parameters are on a device, where they are shared.
    fn is_shared(&self) -> bool {
        self.engine.is_shared()
    }

    fn compute_on(&mut self, device: &OpenDevice) -> Result<()> {
        let (plan, lists) = (self.plan.clone(), self.engine.lists()?.into_owned());
        self.engine = match device {
            OpenDevice::Cpu => Box::new(Cpu::new(plan, lists)),
            #[cfg(feature = "candle")]
            OpenDevice::Candle(device) => Box::new(candle::Candle::new(plan, &lists, device.clone())?),
        };
        Ok(())
    }
}

/// As it stands in a file: a matrix, or a vector.
fn shape(parameter: &Parameter) -> Vec<usize> {
    if parameter.is_vector() { vec![parameter.columns] } else { vec![parameter.rows, parameter.columns] }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::disallowed_methods)]
mod tests;
