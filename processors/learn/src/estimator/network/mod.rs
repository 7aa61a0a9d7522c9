//! Networks of layers, which learn batches of a fixed number of rows.
//!
//! Every row is predicted as it comes; then it waits until its batch is complete. Batches are cut by count alone, so that
//! they are the same however rows arrive, and an incomplete one is part of the model's state.

mod embedding;
mod layers;
mod loss;
mod multiply;
mod optimizer;
mod plan;
mod random;
mod rows;
mod settings;

use millstream_core::{Error, Result};

pub use settings::NetworkSettings;

use super::{Row, Shape};
use crate::tensors::Tensors;
use crate::vector::padded;
use embedding::Embeddings;
use layers::{Drawing, Trace};
use loss::Objective;
use optimizer::{Moments, Step, squares};
use plan::{Parameter, Plan};
use rows::Rows;

/// How many rows are predicted at once, at most.
const BLOCK_ROWS: usize = 256;

/// A network, and the rows that it will learn next.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    settings: NetworkSettings,
    plan: Plan,
    objective: Objective,
    classes: usize,
    parameters: Vec<f32>,
    /// What the optimizer remembers of each parameter.
    first: Vec<f32>,
    second: Vec<f32>,
    embeddings: Embeddings,
    /// How many batches were learned.
    batches: u64,
    pending: Rows,
    memory: Memory,
}

/// Memory that is used again and again.
#[derive(Clone, Debug, Default)]
struct Memory {
    inputs: Vec<f32>,
    trace: Trace,
    gradients: Vec<f32>,
}

/// Rows that wait to be predicted together.
#[derive(Clone, Debug)]
pub(crate) struct Questions {
    rows: Rows,
    memory: Memory,
}

impl Questions {
    /// Adds a row.
    #[inline(always)]
    pub fn push(&mut self, row: Row<'_>) {
        self.rows.push(row);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are so many that they should be answered before there are more.
    #[inline(always)]
    pub fn is_full(&self) -> bool {
        self.rows.len() >= BLOCK_ROWS
    }
}

impl Network {
    /// One that has learned nothing. `categories` are how many slots each category has.
    pub fn new(settings: &NetworkSettings, categories: impl Iterator<Item = u32>, shape: Shape) -> Self {
        let ends: Vec<u32> = categories
            .scan(0, |end, slots| {
                *end += slots;
                Some(*end)
            })
            .collect();
        let size = settings.embedding as usize;
        let outputs = if shape.classes > 2 { shape.classes } else { 1 };
        let plan = Plan::new(settings, shape.numbers + ends.len() * size, outputs);
        Self {
            settings: settings.clone(),
            objective: Objective { loss: settings.loss(shape.classes > 0), outputs },
            classes: shape.classes,
            parameters: plan.start(settings.seed),
            first: vec![0.0; plan.size],
            second: vec![0.0; plan.size],
            embeddings: Embeddings::new(shape.slots, size, settings.seed),
            batches: 0,
            pending: Rows::new(shape.numbers, ends),
            memory: Memory::default(),
            plan,
        }
    }

    /// How many numbers a prediction has.
    pub fn outputs(&self) -> usize {
        self.plan.outputs
    }

    /// No questions yet.
    pub fn questions(&self) -> Questions {
        Questions { rows: self.pending.like(), memory: Memory::default() }
    }

    /// Predicts the rows that wait, writes their predictions one behind the other, and forgets the rows.
    pub fn answer(&self, questions: &mut Questions, into: &mut [f64]) {
        let Questions { rows, memory: Memory { inputs, trace, .. } } = questions;
        self.embeddings.inputs(rows, padded(self.plan.inputs), inputs);
        trace.forwards(&self.plan, &self.parameters, inputs, None);
        let outputs = trace.outputs().chunks_exact(padded(self.plan.outputs));
        for (outputs, into) in outputs.zip(into.chunks_exact_mut(self.plan.outputs)) {
            self.objective.predict(&outputs[..self.plan.outputs], into);
        }
        rows.clear();
    }

    /// Adds a row that is to be learned. `target` is the number, or the index of the class.
    #[inline(always)]
    pub fn teach(&mut self, row: Row<'_>, target: f64) {
        self.pending.push_labelled(row, target);
    }

    /// Whether there are as many rows as are learned at once.
    #[inline(always)]
    pub fn is_taught_enough(&self) -> bool {
        self.pending.len() >= self.settings.batch_rows as usize
    }

    /// Learns the rows that were added.
    pub fn learn(&mut self) {
        let to_inputs = !self.embeddings.is_empty();
        self.find_gradients(to_inputs);
        if to_inputs {
            let stride = padded(self.plan.inputs);
            self.embeddings.take_in(&self.pending, self.memory.trace.input_gradient(), stride);
        }
        self.batches += 1;
        let step = Step::new(&self.settings, self.batches)
            .shortened(self.settings.clip_norm, || squares(&self.memory.gradients) + self.embeddings.squares());
        let moments = Moments { first: &mut self.first, second: &mut self.second };
        step.run(&self.memory.gradients, &mut self.parameters, moments);
        self.embeddings.learn(step);
        self.pending.clear();
    }

    /// The gradient of the mean loss of the rows that were added.
    fn find_gradients(&mut self, to_inputs: bool) {
        let Memory { inputs, trace, gradients } = &mut self.memory;
        let rows = &self.pending;
        self.embeddings.inputs(rows, padded(self.plan.inputs), inputs);
        let first_row = self.batches.wrapping_mul(u64::from(self.settings.batch_rows));
        let drawing = Drawing { seed: self.settings.seed, first_row };
        trace.forwards(&self.plan, &self.parameters, inputs, Some(drawing));
        gradients.clear();
        gradients.resize(self.plan.size, 0.0);
        let (objective, width) = (self.objective, self.plan.outputs);
        let of_outputs = |outputs: &[f32], gradient: &mut [f32]| {
            let share = 1.0 / rows.len() as f32;
            let each = outputs.chunks_exact(padded(width)).zip(gradient.chunks_exact_mut(padded(width)));
            for (row, (outputs, gradient)) in each.enumerate() {
                objective.gradient(&outputs[..width], rows.target(row), share, &mut gradient[..width]);
            }
        };
        trace.backwards(&self.plan, &self.parameters, inputs, of_outputs, to_inputs, gradients);
    }

    /// Writes what was learned, and what waits to be.
    pub fn save(&self, tensors: &mut Tensors) {
        let lists = [&self.parameters, &self.first, &self.second];
        for (prefix, list) in LISTS.into_iter().zip(lists) {
            for parameter in &self.plan.parameters {
                let values: Vec<f32> = parameter.values(list).copied().collect();
                tensors.put_f32(&format!("{prefix}.{}", parameter.name), &shape(parameter), &values);
            }
        }
        self.embeddings.save(tensors);
        tensors.put_u64("optimizer.batches", &[self.batches]);
        self.pending.save(tensors);
    }

    /// Reads what was learned into a new network.
    pub fn load(&mut self, tensors: &Tensors) -> Result<()> {
        let lists = [&mut self.parameters, &mut self.first, &mut self.second];
        for (prefix, list) in LISTS.into_iter().zip(lists) {
            for parameter in &self.plan.parameters {
                let values = tensors.f32s(&format!("{prefix}.{}", parameter.name), &shape(parameter))?;
                parameter.values_mut(list).zip(values).for_each(|(place, value)| *place = value);
            }
        }
        self.embeddings.load(tensors)?;
        let batches = tensors.u64s("optimizer.batches")?;
        self.batches = *batches.first().ok_or_else(|| Error::new("the tensor `optimizer.batches` is empty"))?;
        self.pending.load(tensors, self.settings.batch_rows as usize, self.classes)
    }
}

/// Under which names the parameters stand in a file, and what the optimizer remembers of them.
const LISTS: [&str; 3] = ["estimator", "optimizer.first", "optimizer.second"];

/// As it stands in a file: a matrix, or a vector.
fn shape(parameter: &Parameter) -> Vec<usize> {
    match parameter.is_vector() {
        true => vec![parameter.columns],
        false => vec![parameter.rows, parameter.columns],
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
