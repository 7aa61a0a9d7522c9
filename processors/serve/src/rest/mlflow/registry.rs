//! MLflow's registry of models: what its client asks for to list and find models and versions, to name, tag and describe them, and to get their files.
//! What it would take to make them belongs to flows.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{Method, header};
use axum::response::{IntoResponse as _, Response};
use millstream_core::Error;
use millstream_models::registry::{ModelRegistry, NotesChange, check_model_name};
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use super::super::{Access, Route, Serving};
use super::asked::{Asked, Page};
use super::filter::Filter;
use super::{Failure, views};
use crate::refusal::{Reason, Refusal};

/// What a request is answered by.
type Answer = Result<Json<Value>, Failure>;

/// Looks into the registry, or changes it.
type Action = fn(&ModelRegistry, &Asked) -> Result<Value, Refusal>;

pub fn routes() -> Vec<Route> {
    use Access::{Manage, Predict};
    let route = |method: Method, path: &'static str, access, summary, action: Action| {
        let answer =
            async move |State(serving): State<Arc<Serving>>, asked: Asked| carry_out(serving, asked, action).await;
        Route::new(method, path, access, summary, answer)
    };
    let (get, post, patch, delete) = (Method::GET, Method::POST, Method::PATCH, Method::DELETE);
    vec![
        route(get.clone(), "/api/2.0/mlflow/registered-models/get", Predict, "A model.", model),
        route(get.clone(), "/api/2.0/mlflow/registered-models/search", Predict, "The models.", search_models),
        route(
            post.clone(),
            "/api/2.0/mlflow/registered-models/get-latest-versions",
            Predict,
            "The newest version of a model.",
            newest,
        ),
        route(
            get.clone(),
            "/api/2.0/mlflow/registered-models/get-latest-versions",
            Predict,
            "The newest version of a model.",
            newest,
        ),
        route(
            get.clone(),
            "/api/2.0/mlflow/registered-models/alias",
            Predict,
            "The version that an alias points at.",
            version_of_alias,
        ),
        route(
            post.clone(),
            "/api/2.0/mlflow/registered-models/alias",
            Manage,
            "Points an alias at a version.",
            set_alias,
        ),
        route(delete.clone(), "/api/2.0/mlflow/registered-models/alias", Manage, "Takes an alias away.", delete_alias),
        route(patch.clone(), "/api/2.0/mlflow/registered-models/update", Manage, "Describes a model.", describe_model),
        route(post.clone(), "/api/2.0/mlflow/registered-models/set-tag", Manage, "Tags a model.", tag_model),
        route(
            delete.clone(),
            "/api/2.0/mlflow/registered-models/delete-tag",
            Manage,
            "Takes a tag of a model away.",
            untag_model,
        ),
        route(get.clone(), "/api/2.0/mlflow/model-versions/get", Predict, "A version.", version),
        route(
            get.clone(),
            "/api/2.0/mlflow/model-versions/search",
            Predict,
            "The versions of a model, the newest first.",
            search_versions,
        ),
        route(
            get.clone(),
            "/api/2.0/mlflow/model-versions/get-download-uri",
            Predict,
            "Where the files of a version are.",
            download_uri,
        ),
        route(patch, "/api/2.0/mlflow/model-versions/update", Manage, "Describes a version.", describe_version),
        route(post, "/api/2.0/mlflow/model-versions/set-tag", Manage, "Tags a version.", tag_version),
        route(
            delete,
            "/api/2.0/mlflow/model-versions/delete-tag",
            Manage,
            "Takes a tag of a version away.",
            untag_version,
        ),
        route(
            get,
            "/api/2.0/mlflow-artifacts/artifacts",
            Predict,
            "The files of a version: `path` is `NAME/VERSION`.",
            files,
        ),
        Route::get(
            "/api/2.0/mlflow-artifacts/artifacts/{model}/{version}/{file}",
            Predict,
            "A file of a version.",
            file,
        ),
    ]
}

/// Does something with the registry, where that holds up nobody.
async fn with_registry<T: Send + 'static>(
    serving: Arc<Serving>,
    work: impl FnOnce(&ModelRegistry) -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Failure> {
    let done = spawn_blocking(move || work(serving.repository.registry())).await;
    let done = done.unwrap_or_else(|_| Err(Refusal::internal(&Error::new("a defect of ours: the registry panicked"))));
    Ok(done?)
}

async fn carry_out(serving: Arc<Serving>, asked: Asked, action: Action) -> Answer {
    with_registry(serving, move |registry| action(registry, &asked)).await.map(Json)
}

fn model(registry: &ModelRegistry, asked: &Asked) -> Result<Value, Refusal> {
    let name = known_model(registry, asked)?;
    Ok(json!({ "registered_model": views::model(registry, name).map_err(unavailable)? }))
}

fn search_models(registry: &ModelRegistry, asked: &Asked) -> Result<Value, Refusal> {
    let filter = Filter::parse(asked.text_if_any("filter")?.unwrap_or_default())?;
    let mut found = Vec::new();
    for name in registry.models().map_err(unavailable)? {
        if is_found(registry, &filter, &name, None)? {
            found.push(name);
        }
    }
    if is_ordered(asked, "name", "DESC")? {
        found.reverse();
    }
    let page = Page::of(asked)?;
    let (names, next) = page.part(&found);
    let models = names.iter().map(|name| views::model(registry, name)).collect::<Result<Vec<_>, _>>();
    Ok(json!({ "registered_models": models.map_err(unavailable)?, "next_page_token": next }))
}

fn newest(registry: &ModelRegistry, asked: &Asked) -> Result<Value, Refusal> {
    let name = known_model(registry, asked)?;
    // None of ours has a stage, which MLflow itself advises against.
    let stages = asked.texts("stages")?;
    if !stages.is_empty() && !stages.iter().any(|stage| stage.eq_ignore_ascii_case("none")) {
        return Ok(json!({ "model_versions": [] }));
    }
    let latest = registry.latest(name).map_err(unavailable)?;
    Ok(json!({ "model_versions": [views::version(registry, name, latest).map_err(unavailable)?] }))
}

fn version_of_alias(registry: &ModelRegistry, asked: &Asked) -> Result<Value, Refusal> {
    let (name, alias) = (known_model(registry, asked)?, asked.text("alias")?);
    let number = match registry.aliases(name).map_err(unavailable)?.get(alias) {
        Some(number) => *number,
        None if alias == "latest" => registry.latest(name).map_err(unavailable)?,
        None => return Err(Refusal::not_found(format!("model `{name}` has no alias `{alias}`"))),
    };
    Ok(json!({ "model_version": views::version(registry, name, number).map_err(unavailable)? }))
}

fn set_alias(registry: &ModelRegistry, asked: &Asked) -> Result<Value, Refusal> {
    let (name, number) = known_version(registry, asked)?;
    registry.set_alias(name, asked.text("alias")?, number).map_err(|error| Refusal::wrong(error.to_string()))?;
    Ok(json!({}))
}

fn delete_alias(registry: &ModelRegistry, asked: &Asked) -> Result<Value, Refusal> {
    let (name, alias) = (known_model(registry, asked)?, asked.text("alias")?);
    // As MLflow has it, one that there is not can be taken away.
    if registry.aliases(name).map_err(unavailable)?.contains_key(alias) {
        registry.delete_alias(name, alias).map_err(unavailable)?;
    }
    Ok(json!({}))
}

fn describe_model(registry: &ModelRegistry, asked: &Asked) -> Result<Value, Refusal> {
    let name = known_model(registry, asked)?;
    note(registry, name, None, &description(asked)?)?;
    model(registry, asked)
}

fn tag_model(registry: &ModelRegistry, asked: &Asked) -> Result<Value, Refusal> {
    let name = known_model(registry, asked)?;
    note(registry, name, None, &tag(asked, Some(asked.text("value")?))?)
}

fn untag_model(registry: &ModelRegistry, asked: &Asked) -> Result<Value, Refusal> {
    let name = known_model(registry, asked)?;
    note(registry, name, None, &tag(asked, None)?)
}

fn version(registry: &ModelRegistry, asked: &Asked) -> Result<Value, Refusal> {
    let (name, number) = known_version(registry, asked)?;
    Ok(json!({ "model_version": views::version(registry, name, number).map_err(unavailable)? }))
}

fn search_versions(registry: &ModelRegistry, asked: &Asked) -> Result<Value, Refusal> {
    let filter = Filter::parse(asked.text_if_any("filter")?.unwrap_or_default())?;
    let names = match filter.name() {
        Some(name) => vec![name.to_owned()],
        None => registry.models().map_err(unavailable)?,
    };
    let mut found = Vec::new();
    for name in &names {
        check_model_name(name).map_err(|error| Refusal::wrong(error.to_string()))?;
        for number in registry.versions(name).map_err(unavailable)?.into_iter().rev() {
            if is_found(registry, &filter, name, Some(number))? {
                found.push((name, number));
            }
        }
    }
    if is_ordered(asked, "version_number", "ASC")? {
        found.reverse();
    }
    let page = Page::of(asked)?;
    let (part, next) = page.part(&found);
    let versions =
        part.iter().map(|(name, number)| views::version(registry, name, *number)).collect::<Result<Vec<_>, _>>();
    Ok(json!({ "model_versions": versions.map_err(unavailable)?, "next_page_token": next }))
}

fn download_uri(registry: &ModelRegistry, asked: &Asked) -> Result<Value, Refusal> {
    let (name, number) = known_version(registry, asked)?;
    Ok(json!({ "artifact_uri": views::source(name, number) }))
}

fn describe_version(registry: &ModelRegistry, asked: &Asked) -> Result<Value, Refusal> {
    let (name, number) = known_version(registry, asked)?;
    note(registry, name, Some(number), &description(asked)?)?;
    version(registry, asked)
}

fn tag_version(registry: &ModelRegistry, asked: &Asked) -> Result<Value, Refusal> {
    let (name, number) = known_version(registry, asked)?;
    note(registry, name, Some(number), &tag(asked, Some(asked.text("value")?))?)
}

fn untag_version(registry: &ModelRegistry, asked: &Asked) -> Result<Value, Refusal> {
    let (name, number) = known_version(registry, asked)?;
    note(registry, name, Some(number), &tag(asked, None)?)
}

/// Whether a model, or a version of it, is among what is searched for.
fn is_found(registry: &ModelRegistry, filter: &Filter, name: &str, version: Option<u64>) -> Result<bool, Refusal> {
    let tags =
        if filter.asks_for_tags() { registry.notes(name, version).map_err(unavailable)?.tags } else { BTreeMap::new() };
    Ok(filter.takes(name, &tags))
}

/// The files of a version.
fn files(registry: &ModelRegistry, asked: &Asked) -> Result<Value, Refusal> {
    let path = asked.text_if_any("path")?.unwrap_or_default().trim_matches('/');
    let (name, version) = path.split_once('/').ok_or_else(|| Refusal::not_found("`path` is not `NAME/VERSION`"))?;
    let number = known_number(registry, name, version)?;
    let files = FILES.iter().map(|file| {
        let bytes = contents(registry, name, number, file)?;
        Ok(json!({ "path": file, "is_dir": false, "file_size": bytes.len() }))
    });
    Ok(json!({ "files": files.collect::<Result<Vec<_>, Refusal>>()? }))
}

/// The files that a version has.
const FILES: [&str; 2] = ["card.json", "model.safetensors"];

async fn file(
    State(serving): State<Arc<Serving>>,
    Path((name, version, file)): Path<(String, String, String)>,
) -> Result<Response, Failure> {
    let bytes = with_registry(serving, move |registry| {
        let number = known_number(registry, &name, &version)?;
        contents(registry, &name, number, &file)
    });
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], bytes.await?).into_response())
}

fn contents(registry: &ModelRegistry, name: &str, number: u64, file: &str) -> Result<Vec<u8>, Refusal> {
    let version = || registry.resolve(&format!("{name}/{number}")).map_err(unavailable);
    match file {
        "card.json" => serde_json::to_vec_pretty(&version()?.card).map_err(|error| Refusal::wrong(error.to_string())),
        "model.safetensors" => Ok(version()?.bytes),
        _ => Err(Refusal::not_found(format!("a version has no file `{file}`; it has `{}`", FILES.join("`, `")))),
    }
}

/// The name of a model that there is.
fn known_model<'a>(registry: &ModelRegistry, asked: &'a Asked) -> Result<&'a str, Refusal> {
    let name = asked.text("name")?;
    check(registry, name)?;
    Ok(name)
}

fn check(registry: &ModelRegistry, name: &str) -> Result<(), Refusal> {
    let is_known = check_model_name(name).is_ok() && registry.has_model(name).map_err(unavailable)?;
    if is_known { Ok(()) } else { Err(Refusal::not_found(format!("there is no model `{name}`"))) }
}

/// A version that there is.
fn known_version<'a>(registry: &ModelRegistry, asked: &'a Asked) -> Result<(&'a str, u64), Refusal> {
    let (name, number) = (asked.text("name")?, asked.number("version")?);
    Ok((name, known_number(registry, name, &number.to_string())?))
}

fn known_number(registry: &ModelRegistry, name: &str, number: &str) -> Result<u64, Refusal> {
    check(registry, name)?;
    let known = match number.parse() {
        Ok(number) if registry.has(name, number).map_err(unavailable)? => Some(number),
        _ => None,
    };
    known.ok_or_else(|| Refusal::not_found(format!("model `{name}` has no version {number}")))
}

fn note(registry: &ModelRegistry, name: &str, version: Option<u64>, change: &NotesChange) -> Result<Value, Refusal> {
    registry.change_notes(name, version, change).map_err(|error| Refusal::wrong(error.to_string()))?;
    Ok(json!({}))
}

fn description(asked: &Asked) -> Result<NotesChange, Refusal> {
    let description = asked.text_if_any("description")?.unwrap_or_default().to_owned();
    Ok(NotesChange { description: Some(description), ..NotesChange::default() })
}

fn tag(asked: &Asked, value: Option<&str>) -> Result<NotesChange, Refusal> {
    let tags = [(asked.text("key")?.to_owned(), value.map(str::to_owned))].into();
    Ok(NotesChange { tags, ..NotesChange::default() })
}

/// Whether a search is ordered by something in this direction.
fn is_ordered(asked: &Asked, by: &str, direction: &str) -> Result<bool, Refusal> {
    let said = asked.texts("order_by")?;
    let mut words = said.first().map_or("", |first| *first).split_whitespace();
    Ok(words.next() == Some(by) && words.next().unwrap_or("ASC").eq_ignore_ascii_case(direction))
}

fn unavailable(error: Error) -> Refusal {
    Refusal { reason: Reason::Unavailable, message: error.to_string() }
}
