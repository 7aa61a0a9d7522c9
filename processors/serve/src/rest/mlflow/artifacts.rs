//! Files as MLflow's client knows them: those of versions, below `NAME/VERSION`, and those that it has uploaded, below any other path.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, header};
use axum::response::{IntoResponse as _, Response};
use millstream_models::registry::{ModelRegistry, Resolved};
use serde_json::{Value, json};

use super::super::{Access, Route, Serving, body};
use super::asked::Asked;
use super::registry::{known_number, look, unavailable, with_registry};
use super::{Failure, views};
use crate::refusal::{Reason, Refusal};

/// Where they are.
const ROOT: &str = "/api/2.0/mlflow-artifacts/artifacts";
const FILE: &str = "/api/2.0/mlflow-artifacts/artifacts/{*path}";

pub fn routes() -> Vec<Route> {
    vec![
        look(Method::GET, ROOT, "The files of a version, whose `path` is `NAME/VERSION`, or uploaded ones.", files),
        Route::get(FILE, Access::Look, "A file of a version, or an uploaded one.", file),
        Route::new(Method::PUT, FILE, Access::Manage, "Uploads a file, of which a version can be made.", upload),
    ]
}

/// The version that a path begins with, and what is behind it.
fn of_version<'a>(registry: &ModelRegistry, path: &'a str) -> Result<Option<(Resolved, Vec<&'a str>)>, Refusal> {
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    let (Some(name), Some(version)) = (parts.next(), parts.next()) else { return Ok(None) };
    match known_number(registry, name, version) {
        Ok(number) => {
            let version = registry.resolve(&format!("{name}/{number}")).map_err(unavailable)?;
            Ok(Some((version, parts.collect())))
        }
        Err(refusal) if refusal.reason == Reason::NotFound => Ok(None),
        Err(refusal) => Err(refusal),
    }
}

/// What is directly below a path. What is said to be below a file is nothing.
fn files(registry: &ModelRegistry, asked: &Asked) -> Result<Value, Refusal> {
    let path = asked.text_if_any("path")?.unwrap_or_default();
    if let Some((version, below)) = of_version(registry, path)? {
        let file = |(name, bytes): (&str, Vec<u8>)| json!({ "path": name, "is_dir": false, "file_size": bytes.len() });
        let files: Vec<_> = views::files(&version).map(file).filter(|_| below.is_empty()).collect();
        return Ok(json!({ "files": files }));
    }
    let uploads = registry.uploads(path).map_err(|error| Refusal::not_found(error.to_string()))?;
    // By name, whether there is something below it.
    let mut found = BTreeMap::new();
    for upload in &uploads {
        let (name, is_folder) = upload.split_once('/').map_or((upload.as_str(), false), |(name, _)| (name, true));
        *found.entry(name).or_insert(false) |= is_folder;
    }
    if found.is_empty() && registry.uploaded(path).map_err(unavailable)?.is_none() {
        return Err(Refusal::not_found(format!("`{path}` is neither `NAME/VERSION` nor the path of uploaded files")));
    }
    let file = |(name, is_folder): (&str, bool)| json!({ "path": name, "is_dir": is_folder });
    Ok(json!({ "files": found.into_iter().map(file).collect::<Vec<_>>() }))
}

async fn file(State(serving): State<Arc<Serving>>, Path(path): Path<String>) -> Result<Response, Failure> {
    let bytes = with_registry(serving, move |registry| {
        let found = match of_version(registry, &path)? {
            Some((version, below)) => views::files(&version).find(|(name, _)| below == [*name]).map(|(_, bytes)| bytes),
            // What is no path has no file.
            None => registry.uploaded(&path).map_err(|error| Refusal::not_found(error.to_string()))?,
        };
        found.ok_or_else(|| Refusal::not_found(format!("there is no file `{path}`")))
    });
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], bytes.await?).into_response())
}

async fn upload(
    State(serving): State<Arc<Serving>>,
    Path(path): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Failure> {
    let (bytes, _share) = body::read(&headers, body, &serving).await?;
    let uploaded = with_registry(serving, move |registry| {
        if of_version(registry, &path)?.is_some() {
            let message = format!("`{path}` is below a version, whose files stay what they are; upload it elsewhere");
            return Err(Refusal { reason: Reason::Conflict, message });
        }
        registry.upload(&path, &bytes).map_err(|error| Refusal::wrong(error.to_string()))
    });
    uploaded.await?;
    Ok(Json(json!({})))
}
