//! The list of all estimators.

use std::iter::once;

use millstream_core::{Problem, known_names, parse_settings};
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::{
    EstimatorSettings, Kind, adaptive_random_forest, adaptive_random_forest_regressor, dbstream, ensemble, foreign,
    ftrl, half_space_trees, hoeffding_adaptive_tree, hoeffding_adaptive_tree_regressor, hoeffding_tree,
    hoeffding_tree_regressor, holt_winters, k_means, k_neighbors, leveraging_bagging, lin_thompson, lin_ucb,
    linear_regression, logistic_regression, mahalanobis, network, nystroem, polynomial_features, quantum_k_means,
    rbf_sampler, sgd, softmax_regression, svm, z_score,
};

static ESTIMATORS: &[EstimatorKind] = &[
    EstimatorKind::of::<logistic_regression::LogisticRegression>(),
    EstimatorKind::of::<softmax_regression::SoftmaxRegression>(),
    EstimatorKind::of::<linear_regression::LinearRegression>(),
    EstimatorKind::of::<sgd::SgdClassifier>(),
    EstimatorKind::of::<sgd::SgdRegressor>(),
    EstimatorKind::of::<ftrl::Ftrl>(),
    EstimatorKind::of::<rbf_sampler::RbfSampler>(),
    EstimatorKind::of::<nystroem::Nystroem>(),
    EstimatorKind::of::<polynomial_features::PolynomialFeatures>(),
    EstimatorKind::of::<hoeffding_tree::HoeffdingTree>(),
    EstimatorKind::of::<hoeffding_tree_regressor::HoeffdingTreeRegressor>(),
    EstimatorKind::of::<hoeffding_adaptive_tree::HoeffdingAdaptiveTree>(),
    EstimatorKind::of::<hoeffding_adaptive_tree_regressor::HoeffdingAdaptiveTreeRegressor>(),
    EstimatorKind::of::<adaptive_random_forest::AdaptiveRandomForest>(),
    EstimatorKind::of::<adaptive_random_forest_regressor::AdaptiveRandomForestRegressor>(),
    EstimatorKind::of::<leveraging_bagging::LeveragingBagging>(),
    EstimatorKind::of::<k_neighbors::KNeighborsClassifier>(),
    EstimatorKind::of::<k_neighbors::KNeighborsRegressor>(),
    EstimatorKind::of::<svm::Svc>(),
    EstimatorKind::of::<svm::Svr>(),
    EstimatorKind::of::<network::NetworkSettings>(),
    EstimatorKind::of::<ensemble::Voting>(),
    EstimatorKind::of::<ensemble::Stacking>(),
    EstimatorKind::of::<ensemble::Bagging>(),
    EstimatorKind::of::<holt_winters::HoltWinters>(),
    EstimatorKind::of::<k_means::KMeans>(),
    EstimatorKind::of::<dbstream::Dbstream>(),
    EstimatorKind::of::<quantum_k_means::QuantumKMeans>(),
    EstimatorKind::of::<z_score::ZScore>(),
    EstimatorKind::of::<mahalanobis::Mahalanobis>(),
    EstimatorKind::of::<half_space_trees::HalfSpaceTrees>(),
    EstimatorKind::of::<lin_ucb::LinUcb>(),
    EstimatorKind::of::<lin_thompson::LinThompson>(),
];

/// What is not trained here: models of others are imported.
static FOREIGN: &[EstimatorKind] = &[EstimatorKind::of::<foreign::Onnx>()];

/// All estimators that learn, in the order in which they are shown.
pub fn estimators() -> &'static [EstimatorKind] {
    ESTIMATORS
}

/// Settings of one type. Where a part of them is another's, serde lets pass what neither knows.
fn parse<T: Kind>(table: Value) -> Result<EstimatorSettings, Problem> {
    let names: Vec<_> = table.as_object().into_iter().flat_map(Map::keys).cloned().collect();
    let settings = parse_settings::<T>(table)?;
    let schema = SchemaGenerator::default().into_root_schema_for::<T>();
    let known = schema.get("properties").and_then(Value::as_object);
    match names.iter().find(|name| known.is_none_or(|known| !known.contains_key(*name))) {
        Some(name) => Err(Problem::new(format!("unknown field `{name}`")).at([name.as_str()])),
        None => Ok(EstimatorSettings::new(settings)),
    }
}

/// A type of estimator.
#[derive(Debug)]
pub struct EstimatorKind {
    /// What `type = "…"` says.
    pub name: &'static str,
    /// The body of its table without `type`, as TOML.
    pub example: &'static str,
    /// Whether models of it can be written as ONNX.
    pub exports: bool,
    schema: fn(&mut SchemaGenerator) -> Schema,
    parse: fn(Value) -> Result<EstimatorSettings, Problem>,
}

impl EstimatorKind {
    const fn of<T: Kind>() -> Self {
        Self { name: T::NAME, example: T::EXAMPLE, exports: T::EXPORTS, schema: T::json_schema, parse: parse::<T> }
    }

    pub(super) fn find(name: &str) -> Result<&'static Self, Problem> {
        ESTIMATORS.iter().chain(FOREIGN).find(|kind| kind.name == name).ok_or_else(|| {
            let known = ESTIMATORS.iter().map(|kind| kind.name);
            Problem::new(format!("there is no estimator `{name}`")).help(known_names(name, known))
        })
    }

    /// Builds the settings from a table without `type`.
    pub(super) fn parse(&self, table: Value) -> Result<EstimatorSettings, Problem> {
        (self.parse)(table)
    }

    /// The JSON schema of a table with `type`.
    pub(super) fn schema(&self, generator: &mut SchemaGenerator) -> Schema {
        let mut schema = (self.schema)(generator);
        let table = schema.ensure_object();
        let own = table.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
        let required = table.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
        let tag = ("type".to_owned(), json!({ "type": "string", "const": self.name }));
        table.insert("properties".to_owned(), once(tag).chain(own).collect::<Map<_, _>>().into());
        table.insert("required".to_owned(), once("type".into()).chain(required).collect::<Vec<_>>().into());
        schema
    }
}
