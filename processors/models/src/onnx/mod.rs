//! Models as ONNX files, which onnxruntime and whatever builds upon it predict by as the model does.
//!
//! A file has an input for each feature, of its name and type, so that it takes the rows that the model takes. The graph computes in 64 bits where
//! the model does. Encoders and estimators add what they are to it, each in its own file.

mod encoded;
mod export;
mod graph;
mod proto;

pub(crate) use encoded::{Encoded, Slots, WeightedSums};
pub(crate) use export::export;
pub(crate) use graph::{Attribute, Graph, Value};
pub(crate) use proto::ElementType;
