//! The nodes over models: `train` learns from the rows that pass, `predict` predicts them, `evaluate` compares predictions
//! with labels, `drift` says when what they see has changed, `decide` chooses actions and `evaluate_policy` says what a policy would have been worth. What a model is, and how it learns, is in `millstream_models`, which knows no flow.

mod columns;
mod condition;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod conformance;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod damage;
mod decide;
mod drift;
mod evaluate;
mod evaluate_policy;
mod pieces;
mod predict;
mod train;
mod version;

use millstream_core::NodeTypes;

pub use decide::DecideSettings;
pub use drift::DriftSettings;
pub use evaluate::EvaluateSettings;
pub use evaluate_policy::EvaluatePolicySettings;
pub use predict::PredictSettings;
pub use train::{TrainSettings, staged_versions};

/// Adds the nodes to the list of those that there are.
pub fn register(registry: &mut NodeTypes) {
    registry
        .processor::<TrainSettings>()
        .processor::<PredictSettings>()
        .processor::<EvaluateSettings>()
        .processor::<DriftSettings>()
        .processor::<DecideSettings>()
        .processor::<EvaluatePolicySettings>();
}
