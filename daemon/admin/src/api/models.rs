//! Models: their versions, how they have learned, and the names that flows use them by.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use millstream_core::{Error, ResultExt as _};
use millstream_models::registry::{Aliases, ModelCard, ModelRegistry, Notes, NotesChange, check_model_name};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::task::spawn_blocking;

use super::parameters::{JsonBody, Limit, Number, Path, Query};
use super::route::{Body, Route};
use super::views::Page;
use crate::Admin;
use crate::problem::Problem;

/// Of which metric a learning curve is: the first of these that there is.
const METRICS: [&str; 7] = ["auc", "accuracy", "r2", "rmse", "mae", "log_loss", "mean_reward"];

pub fn routes() -> Vec<Route> {
    vec![
        Route::get("/models", "listModels", "The models of the registry.", list)
            .gives::<Page<ModelView>>(StatusCode::OK, "The models."),
        Route::get("/models/{model}", "getModel", "A model.", model).gives::<ModelView>(StatusCode::OK, "The model."),
        Route::get("/models/{model}/versions", "listVersions", "The versions of a model, the newest first.", versions)
            .query::<VersionsQuery>()
            .gives::<Page<VersionView>>(StatusCode::OK, "The versions."),
        Route::get("/models/{model}/versions/{version}", "getVersion", "The card of a version.", version)
            .gives::<Value>(StatusCode::OK, "What is known of it, also which rows it has learned from."),
        Route::get(
            "/models/{model}/series",
            "getLearningCurve",
            "How a model has learned, version by version.",
            series,
        )
        .query::<VersionsQuery>()
        .gives::<Series>(StatusCode::OK, "The learning curve, beside what needs no learning."),
        Route::patch("/models/{model}", "noteModel", "Describes and tags a model.", note_model)
            .takes(Body::json::<NotesChange>())
            .gives::<ModelView>(StatusCode::OK, "The model."),
        Route::patch(
            "/models/{model}/versions/{version}",
            "noteVersion",
            "Describes and tags a version.",
            note_version,
        )
        .takes(Body::json::<NotesChange>())
        .gives::<VersionView>(StatusCode::OK, "The version."),
        Route::put("/models/{model}/aliases/{alias}", "setAlias", "Points a name at a version.", set_alias)
            .takes(Body::json::<AliasRequest>())
            .gives::<ModelView>(StatusCode::OK, "The model."),
        Route::delete("/models/{model}/aliases/{alias}", "deleteAlias", "Takes a name away.", delete_alias).gives_body(
            StatusCode::NO_CONTENT,
            "It is gone.",
            None,
        ),
    ]
}

/// A model.
#[derive(Debug, Serialize, JsonSchema)]
struct ModelView {
    /// Its name.
    name: String,
    /// How many versions there are.
    versions: usize,
    /// The newest.
    latest: Option<u64>,
    /// The names that point at versions.
    aliases: BTreeMap<String, u64>,
    /// What learns.
    estimator: Option<String>,
    /// When the newest version was published.
    updated: Option<String>,
    /// What people and programs say of it.
    #[serde(flatten)]
    notes: Notes,
}

/// A version of a model.
#[derive(Debug, Serialize, JsonSchema)]
struct VersionView {
    /// Its number.
    version: u64,
    /// When it was published.
    at: String,
    /// The flow that has trained it.
    flow: String,
    /// The node of the flow.
    node: String,
    /// How many rows it has learned.
    rows: u64,
    /// Its figures: each row predicted before it was learned.
    metrics: Value,
    /// What predictions without a model reach on the same rows.
    baselines: Value,
    /// The names that point at it.
    aliases: Vec<String>,
    /// The SHA-256 of the model.
    sha256: String,
    /// What people and programs say of it.
    #[serde(flatten)]
    notes: Notes,
}

/// How a model has learned.
#[derive(Debug, Serialize, JsonSchema)]
struct Series {
    /// By what it is judged.
    metric: Option<&'static str>,
    /// A point for each version, the oldest first.
    points: Vec<Point>,
}

/// A version on a learning curve.
#[derive(Debug, Serialize, JsonSchema)]
struct Point {
    /// The version.
    version: u64,
    /// How many rows it has learned.
    row: u64,
    /// The figure; none where it can't be computed.
    value: Option<f64>,
    /// What predictions without a model reach, by their names.
    baseline: BTreeMap<String, Option<f64>>,
}

/// Which versions are told.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct VersionsQuery {
    /// Only those before this one.
    cursor: Option<u64>,
    /// How many at most. By default 100.
    limit: Option<Limit>,
}

/// A version that a name is to point at.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AliasRequest {
    /// Its number.
    version: Number,
}

/// Does something with the registry, where that holds up nobody.
async fn with_registry<T, F>(admin: Arc<Admin>, work: F) -> Result<T, Problem>
where
    T: Send + 'static,
    F: FnOnce(&ModelRegistry) -> Result<T, Problem> + Send + 'static,
{
    spawn_blocking(move || work(&admin.registry()?)).await.doing(|| "reading the registry of models")?
}

async fn list(State(admin): State<Arc<Admin>>) -> Result<Json<Page<ModelView>>, Problem> {
    with_registry(admin, |registry| {
        let items = registry.models()?.iter().map(|model| seen(registry, model)).collect::<Result<_, Error>>()?;
        Ok(Json(Page { items, next: None }))
    })
    .await
}

async fn model(State(admin): State<Arc<Admin>>, Path(model): Path<String>) -> Result<Json<ModelView>, Problem> {
    with_registry(admin, move |registry| {
        known(registry, &model)?;
        Ok(Json(seen(registry, &model)?))
    })
    .await
}

fn seen(registry: &ModelRegistry, model: &str) -> Result<ModelView, Error> {
    let versions = registry.versions(model)?;
    // One damaged card hides nothing but itself.
    let newest = versions.last().and_then(|latest| registry.card(model, *latest).ok());
    Ok(ModelView {
        name: model.to_owned(),
        versions: versions.len(),
        latest: versions.last().copied(),
        aliases: registry.aliases(model)?,
        estimator: newest.as_ref().map(|card| card.estimator.name().to_owned()),
        updated: newest.map(|card| card.created),
        notes: registry.notes(model, None)?,
    })
}

/// The numbers of the versions of a model that there is.
fn known(registry: &ModelRegistry, model: &str) -> Result<Vec<u64>, Problem> {
    check_model_name(model).map_err(|error| Problem::not_found(error.to_string()))?;
    let versions = registry.versions(model)?;
    if versions.is_empty() {
        return Err(Problem::not_found(format!("there is no model `{model}`")));
    }
    Ok(versions)
}

/// The cards of a model that are asked for, the newest first, and what to ask for to get those before.
fn cards(
    registry: &ModelRegistry,
    model: &str,
    query: &VersionsQuery,
) -> Result<(Vec<ModelCard>, Option<String>), Problem> {
    let known = known(registry, model)?;
    let is_asked = |version: &&u64| query.cursor.is_none_or(|cursor| **version < cursor);
    let mut asked = known.iter().rev().filter(is_asked).copied();
    let limit = query.limit.map_or(100, |limit| limit.0 as usize);
    let told: Vec<u64> = asked.by_ref().take(limit).collect();
    let next = asked.next().and_then(|_| Some(told.last()?.to_string()));
    Ok((told.iter().filter_map(|version| registry.card(model, *version).ok()).collect(), next))
}

async fn versions(
    State(admin): State<Arc<Admin>>,
    Path(model): Path<String>,
    Query(query): Query<VersionsQuery>,
) -> Result<Json<Page<VersionView>>, Problem> {
    with_registry(admin, move |registry| {
        let (cards, next) = cards(registry, &model, &query)?;
        let aliases = registry.aliases(&model)?;
        let items = cards.into_iter().map(|card| {
            let notes = registry.notes(&model, Some(card.version))?;
            Ok(version_view(card, &aliases, notes))
        });
        Ok(Json(Page { items: items.collect::<Result<_, Error>>()?, next }))
    })
    .await
}

fn version_view(card: ModelCard, aliases: &Aliases, notes: Notes) -> VersionView {
    let named = aliases.iter().filter(|(_, points_at)| **points_at == card.version).map(|(name, _)| name.clone());
    VersionView {
        version: card.version,
        aliases: named.collect(),
        at: card.created,
        flow: card.flow,
        node: card.node,
        rows: card.rows,
        metrics: card.metrics,
        baselines: card.baselines,
        sha256: card.sha256,
        notes,
    }
}

async fn version(
    State(admin): State<Arc<Admin>>,
    Path((model, version)): Path<(String, u64)>,
) -> Result<Json<Value>, Problem> {
    with_registry(admin, move |registry| {
        if !known(registry, &model)?.contains(&version) {
            return Err(Problem::not_found(format!("there is no version {version} of a model `{model}`")));
        }
        let card = registry.card(&model, version)?;
        Ok(Json(serde_json::to_value(card).doing(|| "writing a card as JSON")?))
    })
    .await
}

async fn series(
    State(admin): State<Arc<Admin>>,
    Path(model): Path<String>,
    Query(query): Query<VersionsQuery>,
) -> Result<Json<Series>, Problem> {
    with_registry(admin, move |registry| {
        let (mut cards, _) = cards(registry, &model, &query)?;
        cards.reverse();
        let newest = cards.last().map(|card| card.metrics.clone()).unwrap_or_default();
        let metric = METRICS.into_iter().find(|metric| newest[*metric].is_number());
        let points = metric.map(|metric| cards.iter().map(|card| point(card, metric)).collect());
        Ok(Json(Series { metric, points: points.unwrap_or_default() }))
    })
    .await
}

fn point(card: &ModelCard, metric: &str) -> Point {
    let baselines = card.baselines.as_object().into_iter().flatten();
    Point {
        version: card.version,
        row: card.rows,
        value: card.metrics[metric].as_f64(),
        baseline: baselines.map(|(name, metrics)| (name.clone(), metrics[metric].as_f64())).collect(),
    }
}

async fn note_model(
    State(admin): State<Arc<Admin>>,
    Path(model): Path<String>,
    JsonBody(asked): JsonBody<NotesChange>,
) -> Result<Json<ModelView>, Problem> {
    with_registry(admin, move |registry| {
        known(registry, &model)?;
        change_notes(registry, &model, None, &asked)?;
        Ok(Json(seen(registry, &model)?))
    })
    .await
}

async fn note_version(
    State(admin): State<Arc<Admin>>,
    Path((model, version)): Path<(String, u64)>,
    JsonBody(asked): JsonBody<NotesChange>,
) -> Result<Json<VersionView>, Problem> {
    with_registry(admin, move |registry| {
        if !known(registry, &model)?.contains(&version) {
            return Err(Problem::not_found(format!("there is no version {version} of a model `{model}`")));
        }
        let notes = change_notes(registry, &model, Some(version), &asked)?;
        Ok(Json(version_view(registry.card(&model, version)?, &registry.aliases(&model)?, notes)))
    })
    .await
}

fn change_notes(
    registry: &ModelRegistry,
    model: &str,
    version: Option<u64>,
    asked: &NotesChange,
) -> Result<Notes, Problem> {
    let changed = registry.change_notes(model, version, asked);
    changed.map_err(|error| Problem::bad_request(error.to_string()))
}

async fn set_alias(
    State(admin): State<Arc<Admin>>,
    Path((model, alias)): Path<(String, String)>,
    JsonBody(asked): JsonBody<AliasRequest>,
) -> Result<Json<ModelView>, Problem> {
    with_registry(admin, move |registry| {
        if !known(registry, &model)?.contains(&asked.version.0) {
            return Err(Problem::not_found(format!("there is no version {} of a model `{model}`", asked.version.0)));
        }
        registry.set_alias(&model, &alias, asked.version.0).map_err(|error| Problem::bad_request(error.to_string()))?;
        Ok(Json(seen(registry, &model)?))
    })
    .await
}

async fn delete_alias(
    State(admin): State<Arc<Admin>>,
    Path((model, alias)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    with_registry(admin, move |registry| {
        known(registry, &model)?;
        if !registry.aliases(&model)?.contains_key(&alias) {
            return Err(Problem::not_found(format!("there is no alias `{alias}` of a model `{model}`")));
        }
        registry.delete_alias(&model, &alias)?;
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}
