//! Models that learn online: encoders and estimators that learn row by row, their metrics, the registry that keeps
//! their versions, and the nodes over them.
//!
//! A [`Model`] knows nothing of flows: it reads record batches, predicts each row and then learns it. A
//! [`ScoredModel`] keeps score while it does so.

pub mod device;
mod encode;
mod estimator;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod fixtures;
mod label;
mod metrics;
mod model;
pub mod nodes;
mod refused;
pub mod registry;
mod simd;
mod tensors;
mod vector;

pub use encode::{Encoder, Feature, Missing};
pub use estimator::{Certainty, EstimatorSettings, NetworkSettings, SgdSettings};
pub use label::{Class, Label, Task};
pub use metrics::{BaselineScores, ClassScores, NumberScores, Scores};
pub use model::{Decision, Features, Input, Model, Predictions, ScoredModel, Signature, prediction_fields, sha256};
pub use nodes::register;
