//! The model card: what is known about a version, for people.

use std::time::SystemTime;

use chrono::{DateTime, SecondsFormat, Utc};
use millstream_core::{Baselines, Metrics};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::encode::Feature;
use crate::estimator::EstimatorSettings;
use crate::label::Label;
use crate::model::Signature;
use crate::profile::FeatureProfile;

/// What is known about a version of a model: `card.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelCard {
    /// The model's name.
    pub model: String,
    /// The version's number.
    pub version: u64,
    /// What was published: the same for every run that makes the same model from the same rows.
    pub publish_id: String,
    /// The run that made it: the same for a publication that is repeated.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub run: String,
    /// The flow that trained it.
    pub flow: String,
    /// The node of the flow.
    pub node: String,
    /// When it was published, in RFC 3339.
    pub created: String,
    /// What learned.
    pub estimator: EstimatorSettings,
    /// What it learned from.
    pub features: Vec<Feature>,
    /// What it predicts, where it learned from a label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<Label>,
    /// Above which probability or score it predicts the positive of two classes, if not simply the likelier one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// How many rows it learned.
    pub rows: u64,
    /// The SHA-256 of `model.safetensors`.
    pub sha256: String,
    /// The figures of the rows that it learned, each predicted before; null where one can't be computed.
    pub metrics: Value,
    /// The figures of the rows that it was not to learn, if there were such.
    pub held_out: Value,
    /// What predictions without a model reach on the rows that it learned.
    pub baselines: Value,
    /// What the values of each feature were, in a sample of the rows that it learned. So what it is asked later can be compared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub profile: Vec<FeatureProfile>,
    /// How far the flow had read its inputs when the version was made: `{ "checkpoint": N, "inputs": { INPUT: { PARTITION:
    /// NEXT_POSITION } } }`, where `N` is the checkpoint by which the version became visible. So the rows that it learned
    /// can be told from those that came later. If the model has started from scratch, `since` says where the inputs were then; if an
    /// input has, `earlier` says what the model had learned of it before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lineage: Option<Value>,
}

impl ModelCard {
    /// The card of a model of this signature; publishing adds number, id, checksum and time.
    pub fn new(model: &str, signature: &Signature, rows: u64) -> Self {
        Self {
            model: model.to_owned(),
            version: 0,
            publish_id: String::new(),
            run: String::new(),
            flow: String::new(),
            node: String::new(),
            created: String::new(),
            estimator: signature.estimator.clone(),
            features: signature.features.clone(),
            label: signature.label.clone(),
            threshold: signature.threshold,
            rows,
            sha256: String::new(),
            metrics: Value::Null,
            held_out: Value::Null,
            baselines: Value::Null,
            profile: Vec::new(),
            lineage: None,
        }
    }

    /// What files of others have room for: texts by name, each after `millstream.`.
    pub fn properties(&self) -> Vec<(String, String)> {
        let label = self.label.as_ref().map(|label| ("label", value(label).to_string()));
        let properties = [
            ("model", self.model.clone()),
            ("version", self.version.to_string()),
            ("created", self.created.clone()),
            ("estimator", value(&self.estimator).to_string()),
            ("features", value(&self.features).to_string()),
            ("rows", self.rows.to_string()),
            ("sha256", self.sha256.clone()),
        ];
        properties.into_iter().chain(label).map(|(name, text)| (format!("millstream.{name}"), text)).collect()
    }

    /// Says where it was trained.
    pub fn trained_by(mut self, flow: &str, node: &str) -> Self {
        self.flow = flow.to_owned();
        self.node = node.to_owned();
        self
    }

    /// Says what the rows looked like that it learned.
    pub fn profiled(mut self, profile: Vec<FeatureProfile>) -> Self {
        self.profile = profile;
        self
    }

    /// Says how it does.
    pub fn scored(mut self, metrics: &Metrics, held_out: Option<&Metrics>, baselines: &Baselines) -> Self {
        self.metrics = value(metrics);
        self.held_out = held_out.map_or(Value::Null, value);
        self.baselines = value(baselines);
        self
    }
}

fn value(of: &impl Serialize) -> Value {
    // Only texts are keys here, which is all that could fail.
    serde_json::to_value(of).unwrap_or_default()
}

/// The time in RFC 3339.
#[expect(clippy::disallowed_methods, reason = "it is for people, and decides nothing")]
pub(super) fn now() -> String {
    DateTime::<Utc>::from(SystemTime::now()).to_rfc3339_opts(SecondsFormat::Secs, true)
}
