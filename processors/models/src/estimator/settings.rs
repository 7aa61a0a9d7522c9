//! Which estimator learns, and its settings.

use std::borrow::Cow;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use super::{EstimatorKind, Gives, Kind, Labels, Settings, Takes, estimators};
use crate::label::Class;

/// An estimator of the list and its settings, as flows and models' files have them: a table with `type` and what that type
/// has.
#[derive(Clone, Debug)]
pub struct EstimatorSettings {
    name: &'static str,
    exports: bool,
    /// Everything that can be set, also what was not said.
    table: Map<String, Value>,
    settings: Arc<dyn Settings>,
}

impl EstimatorSettings {
    pub(crate) fn new<T: Kind>(settings: T) -> Self {
        let mut table = Map::from_iter([("type".to_owned(), T::NAME.into())]);
        let own = serde_json::to_value(&settings).expect("settings are tables, which have only texts as keys");
        table.extend(own.as_object().cloned().unwrap_or_default());
        let exports = T::EXPORTS && settings.follows_from_one_row();
        Self { name: T::NAME, exports, table, settings: Arc::new(settings) }
    }

    /// What `type = "…"` says.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What it computes with.
    pub fn takes(&self) -> Takes {
        self.settings.takes()
    }

    /// The labels that it learns.
    pub fn labels(&self) -> Labels {
        self.settings.labels()
    }

    /// Whether rows may count more or less than others.
    pub fn takes_weights(&self) -> bool {
        self.settings.takes_weights()
    }

    /// What its predictions are, for a label of these classes, or of none.
    pub fn gives(&self, classes: &[Class]) -> Gives {
        self.settings.gives(classes)
    }

    /// Whether what it learns can be written as ONNX.
    pub fn can_be_exported(&self) -> bool {
        self.exports
    }

    pub(crate) fn settings(&self) -> &dyn Settings {
        &*self.settings
    }
}

impl PartialEq for EstimatorSettings {
    fn eq(&self, other: &Self) -> bool {
        self.table == other.table
    }
}

impl Serialize for EstimatorSettings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.table.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for EstimatorSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut table = Map::deserialize(deserializer)?;
        let name = table.remove("type").ok_or_else(|| D::Error::missing_field("type"))?;
        let name = name.as_str().ok_or_else(|| D::Error::custom(format!("`type` is {name}, and should be a text")))?;
        EstimatorKind::find(name).and_then(|kind| kind.parse(table.into())).map_err(D::Error::custom)
    }
}

/// The schema of an estimator among the settings of another one: any table, since all that one can have would have no end.
pub(super) fn an_estimator(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "additionalProperties": true })
}

impl JsonSchema for EstimatorSettings {
    fn schema_name() -> Cow<'static, str> {
        "EstimatorSettings".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let kinds: Vec<_> = estimators().iter().map(|kind| kind.schema(generator)).collect();
        json_schema!({
            "description": "What learns, by its `type`. `logistic_regression`, `softmax_regression` and `linear_regression` take one step of\n\
                gradient descent for every row, as River's estimators of the same names do with `SGD`. `sgd_classifier` and\n\
                `sgd_regressor` are scikit-learn's. `ftrl` is for many rare categories. `rbf_sampler` has another estimator learn from random Fourier features, `nystroem` from how near rows are to landmarks, and\n\
                `polynomial_features` from products of features, so that a line bends. A `hoeffding_tree` grows with the rows, a `hoeffding_adaptive_tree` also gives up what has changed, and an\n\
                `adaptive_random_forest` and `leveraging_bagging` have several; `hoeffding_tree_regressor`, `hoeffding_adaptive_tree_regressor` and\n\
                `adaptive_random_forest_regressor` are for numbers. `k_neighbors_classifier` and `k_neighbors_regressor` compare with the\n\
                last rows; `svc` and `svr` are support vector machines that are fitted to them, also with quantum kernels. A `network` learns in batches. `voting`, `stacking` and `bagging` put together what several estimators\n\
                predict. `holt_winters` forecasts series by their level, trend and season. `k_means`, `dbstream` and `quantum_k_means` find clusters, and\n\
                `z_score`, `mahalanobis` and `half_space_trees` find anomalies; they take no label. `lin_ucb` and `lin_thompson` learn which\n\
                action is worth most.",
            "oneOf": kinds,
        })
    }
}
