//! Which models there are, and which of them are served.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Failure;
use crate::refusal::Refusal;
use crate::repository::{ModelState, check_parameter};
use crate::rest::{Serving, body};

/// Which models are asked for.
#[derive(Debug, Default, Deserialize)]
struct Asked {
    /// Only those that are served.
    ready: Option<bool>,
}

pub async fn index(
    State(serving): State<Arc<Serving>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Failure> {
    let (bytes, _share) = body::read(&headers, body, &serving).await?;
    let asked = if bytes.is_empty() { Asked::default() } else { body::json::<Asked>(&bytes)? };
    let states = serving.repository.states().await?;
    let asked = states.iter().filter(|state| !asked.ready.unwrap_or(false) || state.version.is_some());
    Ok(Json(asked.map(described).collect()))
}

fn described(state: &ModelState) -> Value {
    let ModelState { model, version, reason } = state;
    let version = version.map(|version| version.to_string()).unwrap_or_default();
    json!({ "name": model, "version": version, "state": state.word(), "reason": reason })
}

pub async fn load(
    State(serving): State<Arc<Serving>>,
    Path(model): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Failure> {
    check_parameters(&serving, &headers, body).await?;
    serving.repository.load(&model).await?;
    Ok(Json(json!({ "name": model, "load": true })))
}

pub async fn unload(
    State(serving): State<Arc<Serving>>,
    Path(model): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Failure> {
    check_parameters(&serving, &headers, body).await?;
    serving.repository.unload(&model).await?;
    Ok(Json(json!({ "name": model, "unload": true })))
}

/// What a model is comes from the registry, and from nowhere else.
async fn check_parameters(serving: &Serving, headers: &HeaderMap, body: Body) -> Result<(), Refusal> {
    let (bytes, _share) = body::read(headers, body, serving).await?;
    if bytes.is_empty() {
        return Ok(());
    }
    let body: Value = body::json(&bytes)?;
    let mut names = body["parameters"].as_object().into_iter().flat_map(|parameters| parameters.keys());
    names.try_for_each(|name| check_parameter(name))
}
