//! Models that learn online. They know no flow: a program that serves models, or looks into them, needs nothing else of
//! Millstream.
//!
//! A [`Model`] reads record batches, predicts each row, and then learns it. It is made of a [`Signature`], which says what
//! learns (one of the [`estimators`]), from which [`Features`], and what it predicts. A [`ScoredModel`] keeps score while it
//! learns; a [`registry`] keeps versions of models, and gives them names. The parts of a model are [encoders](encode), which
//! turn the columns of a batch into numbers, and an estimator. A [`profile`] says what the learned rows looked like. What
//! was learned is a safetensors file. Networks can be computed on another [`device`] than the CPU. [`Model::to_onnx`] writes
//! a model for the programs of others, and [`Model::to_hdf5`] its weights.
//!
//! ```
//! use arrow::array::{ArrayRef, BooleanArray, Float64Array, RecordBatch};
//! use millstream_models::registry::{ModelCard, ModelRegistry};
//! use millstream_models::{Features, Missing, Model, Signature};
//! use serde_json::json;
//! use std::sync::Arc;
//!
//! let amounts: ArrayRef = Arc::new(Float64Array::from(vec![10.0, 900.0, 12.0, 850.0, 11.0, 880.0]));
//! let frauds: ArrayRef = Arc::new(BooleanArray::from(vec![false, true, false, true, false, true]));
//! let payments = RecordBatch::try_from_iter([("amount", amounts), ("fraud", frauds)])?;
//!
//! let estimator = serde_json::from_value(json!({ "type": "logistic_regression", "learning_rate": 0.5 }))?;
//! let features = Features::Listed(vec!["amount".to_owned()]);
//! let signature = Signature::plan(&payments.schema(), &estimator, &features, "fraud", None, Missing::Fail);
//! let mut model = Model::new(signature.map_err(|mut problems| problems.remove(0).to_string())?);
//!
//! // Each row is predicted before it is learned: of the first one nothing is known.
//! assert_eq!(model.step_batch(&payments)?.row(0), [0.5]);
//!
//! // The first version of a model is its champion.
//! let folder = tempfile::tempdir()?;
//! let registry = ModelRegistry::open(millstream_store::open("models", folder.path())?, "models");
//! let card = ModelCard::new("fraud", model.signature(), 6);
//! registry.publish("fraud", &model.save()?, card, "the first six payments")?;
//!
//! let served = Model::load(&registry.resolve("fraud@champion")?.bytes)?;
//! let probabilities = served.predict_batch(&payments)?;
//! assert!(probabilities.row(0)[0] < 0.3 && probabilities.row(1)[0] > 0.7);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod calibration;
mod decision;
pub mod device;
pub mod drift;
pub mod encode;
mod estimator;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod fixtures;
mod interval;
mod label;
mod layers;
mod metrics;
mod model;
mod onnx;
pub mod profile;
mod refused;
pub mod registry;
mod simd;
mod sklearn;
mod tensors;
mod threads;
mod vector;

pub use calibration::{CalibrationMethod, CalibrationSettings};
pub use decision::Decision;
pub use encode::{Encoder, Encoding, Feature, Missing, TargetEncoding, TextEncoding};
pub use estimator::{
    Certainty, EstimatorKind, EstimatorSettings, Gives, Labels, PredictedColumn, Quantiles, Takes, estimators,
};
pub use interval::IntervalSettings;
pub use label::{Class, Label, LabelColumns, Task};
pub use layers::Layout;
pub use metrics::{
    BaselineScores, ClassScores, CoverageScores, MeanScores, NumberScores, QuantileScores, Recent, Reliability,
    RewardScores, Scores,
};
pub use model::{Features, Import, Input, Model, Predictions, ScoredModel, Signature, prediction_fields, sha256};
pub use refused::Refused;
pub use threads::limit_threads;
