//! Networks on the CPU.

use std::borrow::Cow;
use std::sync::Arc;

use millstream_core::Result;

use super::engine::{Engine, ForwardPass, Lists, TrainingBatch};
use super::layers::{Inputs, Trace};
use super::optimizer::{Moments, Step, squares};
use super::plan::Plan;
use crate::vector::padded;

/// A network, computed by loops over lists of floats, on one thread.
#[derive(Debug)]
pub(super) struct Cpu {
    plan: Arc<Plan>,
    pub(super) lists: Lists,
    pub(super) gradient: Vec<f32>,
    pub(super) trace: Trace,
}

impl Cpu {
    pub fn new(plan: Arc<Plan>, lists: Lists) -> Self {
        Self { plan, lists, gradient: Vec::new(), trace: Trace::default() }
    }
}

impl Engine for Cpu {
    fn block_rows(&self) -> usize {
        // So few that what is computed of them stays in the cache.
        (256 / self.plan.window).max(8)
    }

    fn outputs(&self, inputs: Inputs<'_>, forward: &mut ForwardPass) -> Result<()> {
        forward.trace.forwards(&self.plan, &self.lists.parameters, inputs, None);
        forward.outputs.clear();
        let width = self.plan.outputs;
        forward.outputs.extend(forward.trace.outputs().chunks_exact(padded(width)).flat_map(|row| &row[..width]));
        Ok(())
    }

    fn find_gradient(&mut self, batch: TrainingBatch<'_>) -> Result<()> {
        let TrainingBatch { inputs, targets, counts, objective, dropout, by_inputs } = batch;
        let (plan, parameters) = (&self.plan, &self.lists.parameters);
        self.trace.forwards(plan, parameters, inputs, Some(dropout));
        self.gradient.clear();
        self.gradient.resize(plan.padded_size(), 0.0);
        let width = plan.outputs;
        let of_outputs = |outputs: &[f32], gradient: &mut [f32]| {
            let share = 1.0 / targets.len() as f32;
            let each = outputs.chunks_exact(padded(width)).zip(gradient.chunks_exact_mut(padded(width)));
            for (row, ((outputs, gradient), target)) in each.zip(targets).enumerate() {
                let share = counts.get(row).map_or(share, |count| share * count);
                objective.gradient(&outputs[..width], *target, share, &mut gradient[..width]);
            }
        };
        self.trace.backwards(plan, parameters, inputs, of_outputs, by_inputs, &mut self.gradient);
        Ok(())
    }

    fn input_gradient(&self) -> &[f32] {
        self.trace.input_gradient()
    }

    fn squares(&self) -> Result<f64> {
        Ok(squares(&self.gradient))
    }

    fn follow(&mut self, step: Step) -> Result<()> {
        let Lists { parameters, first, second } = &mut self.lists;
        step.run(&self.gradient, parameters, Moments { first, second });
        Ok(())
    }

    fn lists(&self) -> Result<Cow<'_, Lists>> {
        Ok(Cow::Borrowed(&self.lists))
    }

    fn another(&self) -> Box<dyn Engine> {
        Box::new(Self::new(self.plan.clone(), self.lists.clone()))
    }
}
