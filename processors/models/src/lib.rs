//! Models that learn online: encoders and estimators that learn row by row, their metrics, and the registry that keeps
//! their versions.
//!
//! A [`Model`] knows nothing of flows: it reads record batches, predicts each row and then learns it. A
//! [`ScoredModel`] keeps score while it does so.

pub mod device;
pub mod encode;
mod estimator;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod fixtures;
mod label;
mod metrics;
mod model;
mod refused;
pub mod registry;
mod simd;
mod tensors;
mod vector;

pub use encode::{Encoder, Feature, Missing};
pub use estimator::{Certainty, EstimatorSettings, NetworkSettings, SgdSettings};
pub use label::{Class, Label, Task};
pub use metrics::{BaselineScores, ClassScores, NumberScores, Recent, Scores};
pub use model::{Decision, Features, Input, Model, Predictions, ScoredModel, Signature, prediction_fields, sha256};
pub use refused::Refused;
