//! Models as ONNX files: ours, which onnxruntime and whatever builds upon it predict by, and those of others, which onnxruntime computes here.
//!
//! A file of ours has an input for each feature, of its name and type, so that it takes the rows that the model takes. The graph computes in 64 bits
//! where the model does. Encoders and estimators add what they are to it, each in its own file.

mod encoded;
mod export;
mod graph;
mod proto;
mod read;
mod runtime;
mod wire;

pub(crate) use encoded::{Encoded, Slots, WeightedSums};
pub(crate) use export::export;
pub(crate) use graph::{Attribute, Graph, Value};
pub(crate) use proto::ElementType;
pub(crate) use read::{Foreign, Tensor as ForeignTensor};
pub(crate) use runtime::Sessions;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
