//! MLflow's registry of models: what its client asks for to list and find models and versions, to name, tag and describe them, and to get their files.
//! What makes them is in `making`, and their files in `artifacts`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::Method;
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
pub(super) type Action = fn(&ModelRegistry, &Asked) -> Result<Value, Refusal>;

/// A path of MLflow's.
macro_rules! path {
    ($path:literal) => {
        concat!("/api/2.0/mlflow/", $path)
    };
}

pub fn routes() -> Vec<Route> {
    vec![
        look(Method::GET, path!("registered-models/get"), "A model.", model),
        look(Method::GET, path!("registered-models/search"), "The models.", search_models),
        look(Method::GET, path!("registered-models/get-latest-versions"), "The newest version of a model.", newest),
        look(Method::POST, path!("registered-models/get-latest-versions"), "The newest version of a model.", newest),
        look(Method::GET, path!("registered-models/alias"), "The version that an alias points at.", version_of_alias),
        change(Method::POST, path!("registered-models/alias"), "Points an alias at a version.", set_alias),
        change(Method::DELETE, path!("registered-models/alias"), "Takes an alias away.", delete_alias),
        change(Method::PATCH, path!("registered-models/update"), "Describes a model.", describe_model),
        change(Method::POST, path!("registered-models/set-tag"), "Tags a model.", tag_model),
        change(Method::DELETE, path!("registered-models/delete-tag"), "Takes a tag of a model away.", untag_model),
        look(Method::GET, path!("model-versions/get"), "A version.", version),
        look(
            Method::GET,
            path!("model-versions/search"),
            "The versions of a model, the newest first.",
            search_versions,
        ),
        look(Method::GET, path!("model-versions/get-download-uri"), "Where the files of a version are.", download_uri),
        change(Method::PATCH, path!("model-versions/update"), "Describes a version.", describe_version),
        change(Method::POST, path!("model-versions/set-tag"), "Tags a version.", tag_version),
        change(Method::DELETE, path!("model-versions/delete-tag"), "Takes a tag of a version away.", untag_version),
    ]
}

pub(super) fn look(method: Method, path: &'static str, summary: &'static str, action: Action) -> Route {
    route(method, path, Access::Look, summary, action)
}

pub(super) fn change(method: Method, path: &'static str, summary: &'static str, action: Action) -> Route {
    route(method, path, Access::Manage, summary, action)
}

pub(super) fn route(
    method: Method,
    path: &'static str,
    access: Access,
    summary: &'static str,
    action: Action,
) -> Route {
    let answer = async move |State(serving): State<Arc<Serving>>, asked: Asked| carry_out(serving, asked, action).await;
    Route::new(method, path, access, summary, answer)
}

/// Does something with the registry, where that holds up nobody.
pub(super) async fn with_registry<T: Send + 'static>(
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
    if !registry.has_model(name).map_err(unavailable)? {
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
    Ok(filter.takes(name, version, &tags))
}

/// The name of a model that there is.
fn known_model<'a>(registry: &ModelRegistry, asked: &'a Asked) -> Result<&'a str, Refusal> {
    let name = asked.text("name")?;
    check(registry, name)?;
    Ok(name)
}

pub(super) fn check(registry: &ModelRegistry, name: &str) -> Result<(), Refusal> {
    let is_known = check_model_name(name).is_ok()
        && (registry.has_model(name).map_err(unavailable)? || registry.is_announced(name).map_err(unavailable)?);
    if is_known { Ok(()) } else { Err(Refusal::not_found(format!("there is no model `{name}`"))) }
}

/// A version that there is.
fn known_version<'a>(registry: &ModelRegistry, asked: &'a Asked) -> Result<(&'a str, u64), Refusal> {
    let (name, number) = (asked.text("name")?, asked.number("version")?);
    Ok((name, known_number(registry, name, &number.to_string())?))
}

pub(super) fn known_number(registry: &ModelRegistry, name: &str, number: &str) -> Result<u64, Refusal> {
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

pub(super) fn unavailable(error: Error) -> Refusal {
    Refusal { reason: Reason::Unavailable, message: error.to_string() }
}
