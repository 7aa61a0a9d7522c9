//! What computes the layers of a network: a place for its parameters, and the arithmetic over them.

use std::borrow::Cow;
use std::fmt::Debug;

use millstream_core::Result;

use super::layers::{DropoutDraw, Inputs, Trace};
use super::loss::Objective;
use super::optimizer::Step;

/// Computes a network somewhere.
pub(super) trait Engine: Debug + Send + Sync {
    /// How many rows are predicted at once, at most.
    fn block_rows(&self) -> usize;

    /// Computes the outputs of rows of inputs.
    fn outputs(&self, inputs: Inputs<'_>, forward: &mut ForwardPass) -> Result<()>;

    /// Computes the gradient of the mean loss of some rows, and keeps it.
    fn find_gradient(&mut self, batch: TrainingBatch<'_>) -> Result<()>;

    /// The part of it that is by the inputs, if it was asked for.
    fn input_gradient(&self) -> &[f32];

    /// The sum of the squares of the part that is by the parameters.
    fn squares(&self) -> Result<f64>;

    /// Has the parameters follow it.
    fn follow(&mut self, step: Step) -> Result<()>;

    /// The parameters, and what the optimizer remembers of them.
    fn lists(&self) -> Result<Cow<'_, Lists>>;

    /// Another of the same, for a clone of the network.
    fn another(&self) -> Box<dyn Engine>;

    /// Whether that shares the parameters, so that it costs next to nothing.
    fn is_shared(&self) -> bool {
        false
    }
}

/// All parameters one behind the other, with padding, and what the optimizer remembers of each: the mean of its gradients,
/// or its last step; and the mean of their squares.
#[derive(Clone, Debug)]
pub(super) struct Lists {
    pub parameters: Vec<f32>,
    pub first: Vec<f32>,
    pub second: Vec<f32>,
}

impl Lists {
    /// These parameters, of which the optimizer knows nothing.
    pub fn new(parameters: Vec<f32>) -> Self {
        let zeros = vec![0.0; parameters.len()];
        Self { parameters, first: zeros.clone(), second: zeros }
    }

    /// Each under the name that stands before those of the parameters in a file.
    pub fn named(&self) -> [(&'static str, &Vec<f32>); 3] {
        [("estimator", &self.parameters), ("optimizer.first", &self.first), ("optimizer.second", &self.second)]
    }

    /// The same, to be changed.
    pub fn named_mut(&mut self) -> [(&'static str, &mut Vec<f32>); 3] {
        [
            ("estimator", &mut self.parameters),
            ("optimizer.first", &mut self.first),
            ("optimizer.second", &mut self.second),
        ]
    }
}

/// The outputs of some rows, and memory for what is computed on the way to them.
#[derive(Clone, Debug, Default)]
pub(super) struct ForwardPass {
    /// One row behind the other.
    pub outputs: Vec<f32>,
    pub trace: Trace,
}

/// What a gradient is of.
#[derive(Clone, Copy)]
pub(super) struct TrainingBatch<'a> {
    /// Rows of inputs, as long as [`crate::vector::padded`] says.
    pub inputs: Inputs<'a>,
    pub targets: &'a [f32],
    /// How much each row counts; empty if all count the same.
    pub counts: &'a [f32],
    pub objective: Objective,
    pub dropout: DropoutDraw,
    /// Whether the gradient by the inputs is wanted.
    pub by_inputs: bool,
}
