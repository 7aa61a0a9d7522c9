//! A network over sequences: it computes a row with the rows of its key before it, which are part of what it has learned.

use millstream_core::{Error, Result};

use super::super::{Estimator, Predict, Step};
use super::Network;
use super::in_batches::InBatches;
use super::in_sequences::InSequences;
use super::sequences::Sequences;
use crate::encode::Feature;
use crate::layers::Layer;
use crate::onnx::{Encoded, Graph, Value};
use crate::simd;
use crate::tensors::Tensors;

/// A network, and the last rows of each key.
#[derive(Clone, Debug)]
pub(super) struct OverSequences {
    pub network: Network,
    pub sequences: Sequences,
}

/// What is said where a model has to follow from one row.
const NEEDS_ROWS: &str = "its layers go over the last rows of a sequence";

impl Estimator for OverSequences {
    fn outputs(&self) -> usize {
        self.network.outputs()
    }

    fn step(&mut self, step: Step<'_>) -> Result<u64> {
        let work = InBatches { work: step, network: &mut self.network };
        simd::run(InSequences(work, &mut self.sequences))
    }

    fn predict(&self, predict: Predict<'_>) -> Result<()> {
        simd::run(InSequences(InBatches { work: predict, network: &self.network }, &self.sequences))
    }

    fn save(&self, tensors: &mut Tensors) -> Result<()> {
        self.sequences.save(tensors);
        self.network.save(tensors)
    }

    fn load(&mut self, tensors: &Tensors) -> Result<()> {
        self.sequences.load(tensors, self.network.pending.ends())?;
        self.network.load(tensors)
    }

    fn to_onnx(&self, _graph: &mut Graph, _row: &Encoded) -> Result<Value> {
        Err(Error::new(format!("{NEEDS_ROWS}, and a graph of ONNX is given one row at a time")))
    }

    fn layers(&self, _features: &[Feature]) -> Result<Vec<Layer>> {
        Err(Error::new(format!("{NEEDS_ROWS}, and files of weights are of layers over one row")))
    }

    fn another(&self) -> Box<dyn Estimator> {
        Box::new(self.clone())
    }
}
