//! Runs that MLflow's client logs, as `autolog` does in a notebook, and the models that it logs in them: a thin sink. What is logged lies among the uploaded files,
//! a file for each request, below `runs/ID`; a run is what these say together. Experiments are names, and nothing else.

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::Method;
use millstream_core::Error;
use millstream_models::registry::ModelRegistry;
use serde_json::{Map, Value, json};

use super::super::{Access, Route, Serving};
use super::asked::Asked;
use super::registry::{look, route, unavailable, with_registry};
use crate::refusal::Refusal;
use crate::request_log::now;

/// Of how many requests a run can be.
const MOST_ENTRIES: usize = 10_000;

/// The experiment that runs belong to if none is named.
const DEFAULT: (&str, &str) = ("0", "Default");

/// How many bytes the name of an experiment may have: it is part of paths, in hexadecimal.
const LONGEST_NAME: usize = 50;

/// Does something with what has this id.
type OfId = fn(&ModelRegistry, &str, &Asked) -> Result<Value, Refusal>;

pub fn routes() -> Vec<Route> {
    const MODEL: &str = "/api/2.0/mlflow/logged-models/{id}";
    let log = |path, summary, action| route(Method::POST, path, Access::Learn, summary, action);
    let get = |path, summary, action| look(Method::GET, path, summary, action);
    vec![
        get("/api/2.0/mlflow/experiments/get-by-name", "An experiment, which is a name.", experiment_by_name),
        get("/api/2.0/mlflow/experiments/get", "An experiment, which is a name.", experiment_by_id),
        log("/api/2.0/mlflow/experiments/create", "An experiment, which is a name.", create_experiment),
        log("/api/2.0/mlflow/runs/create", "Begins a run.", create_run),
        get("/api/2.0/mlflow/runs/get", "What a run has logged.", run),
        log("/api/2.0/mlflow/runs/update", "Says how a run has ended.", log_to_run),
        log("/api/2.0/mlflow/runs/log-metric", "Logs a metric of a run.", log_metric),
        log("/api/2.0/mlflow/runs/log-parameter", "Logs a parameter of a run.", log_parameter),
        log("/api/2.0/mlflow/runs/set-tag", "Tags a run.", log_tag),
        log("/api/2.0/mlflow/runs/log-batch", "Logs metrics, parameters and tags of a run.", log_to_run),
        log("/api/2.0/mlflow/runs/log-inputs", "Logs what a run has read.", log_to_run),
        log("/api/2.0/mlflow/runs/outputs", "Logs which models a run has made.", log_to_run),
        log("/api/2.0/mlflow/logged-models", "Begins a model of a run.", create_model),
        of_id(Method::GET, MODEL, Access::Look, "A model of a run.", |registry, id, _| model(registry, id)),
        of_id(Method::PATCH, MODEL, Access::Learn, "Says that a model of a run is there.", log_to_model),
        of_id(
            Method::PATCH,
            "/api/2.0/mlflow/logged-models/{id}/tags",
            Access::Learn,
            "Tags a model of a run.",
            log_to_model,
        ),
        of_id(
            Method::POST,
            "/api/2.0/mlflow/logged-models/{id}/params",
            Access::Learn,
            "Logs parameters of a model.",
            log_to_model,
        ),
    ]
}

fn of_id(method: Method, path: &'static str, access: Access, summary: &'static str, action: OfId) -> Route {
    let answer = async move |State(serving): State<Arc<Serving>>, Path(id): Path<String>, asked: Asked| {
        with_registry(serving, move |registry| action(registry, &id, &asked)).await.map(Json)
    };
    Route::new(method, path, access, summary, answer)
}

/// Where the files of a model are that a run has logged: what `models:/ID` stands for. With the run.
pub fn files_of(registry: &ModelRegistry, id: &str) -> Result<(String, String), Refusal> {
    let info = &model(registry, id)?["model"]["info"];
    let text = |name: &str| info[name].as_str().unwrap_or_default().to_owned();
    Ok((text("artifact_uri"), text("source_run_id")))
}

fn experiment_by_name(_: &ModelRegistry, asked: &Asked) -> Result<Value, Refusal> {
    experiment(asked.text("experiment_name")?)
}

fn experiment_by_id(_: &ModelRegistry, asked: &Asked) -> Result<Value, Refusal> {
    let id = asked.text("experiment_id")?;
    let name = if id == DEFAULT.0 { Some(DEFAULT.1.to_owned()) } else { of_hexadecimal(id) };
    experiment(&name.ok_or_else(|| Refusal::not_found(format!("there is no experiment `{id}`")))?)
}

fn create_experiment(_: &ModelRegistry, asked: &Asked) -> Result<Value, Refusal> {
    experiment(asked.text("name")?)
}

fn experiment(name: &str) -> Result<Value, Refusal> {
    if name.is_empty() || name.len() > LONGEST_NAME {
        return Err(Refusal::wrong(format!("the name of an experiment has 1 to {LONGEST_NAME} bytes")));
    }
    let id = if name == DEFAULT.1 { DEFAULT.0.to_owned() } else { in_hexadecimal(name) };
    let experiment = json!({ "experiment_id": id, "name": name, "artifact_location": format!("mlflow-artifacts:/{id}"), "lifecycle_stage": "active" });
    Ok(json!({ "experiment_id": id, "experiment": experiment }))
}

fn in_hexadecimal(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn of_hexadecimal(text: &str) -> Option<String> {
    let pairs = text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    String::from_utf8(pairs.collect::<Option<_>>()?).ok()
}

/// Begins a run, or a model of one, whose id begins like this.
fn begin(registry: &ModelRegistry, prefix: &str, asked: &Asked) -> Result<String, Refusal> {
    let experiment = asked.text_if_any("experiment_id")?.unwrap_or(DEFAULT.0);
    if experiment != DEFAULT.0 && of_hexadecimal(experiment).is_none() {
        return Err(Refusal::not_found(format!("there is no experiment `{experiment}`")));
    }
    let random = || RandomState::new().hash_one(prefix);
    let id = format!("{prefix}{:016x}{:016x}", random(), random());
    let mut entry = asked.all();
    entry.insert("experiment_id".to_owned(), json!(experiment));
    entry.insert("began".to_owned(), json!(now() / 1000));
    write(registry, &id, entry)?;
    Ok(id)
}

/// Keeps what is said of a run, or of a model of one.
fn write(registry: &ModelRegistry, id: &str, entry: Map<String, Value>) -> Result<(), Refusal> {
    let number = registry.uploads(&folder(id)?).map_err(unavailable)?.len();
    if number >= MOST_ENTRIES {
        return Err(Refusal::wrong(format!("`{id}` has logged {MOST_ENTRIES} times, which is the most")));
    }
    // In their order, and none in the place of another that is written at the same time.
    let name = format!("{:020}-{:016x}.json", now(), RandomState::new().hash_one(id));
    let bytes = Value::Object(entry).to_string();
    registry.upload(&format!("{}/{name}", folder(id)?), bytes.as_bytes()).map_err(unavailable)
}

fn folder(id: &str) -> Result<String, Refusal> {
    let is_one = id.len() <= 64 && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if is_one && !id.is_empty() { Ok(format!("runs/{id}")) } else { Err(none(id)) }
}

fn none(id: &str) -> Refusal {
    Refusal::not_found(format!("there is no run or model `{id}`"))
}

/// All that was said of a run, in its order.
fn read(registry: &ModelRegistry, id: &str) -> Result<Vec<Value>, Refusal> {
    let folder = folder(id)?;
    let names = registry.uploads(&folder).map_err(unavailable)?;
    let entry = |name: &String| {
        let bytes = registry.uploaded(&format!("{folder}/{name}")).map_err(unavailable)?.unwrap_or_default();
        let damaged =
            |error: serde_json::Error| unavailable(Error::new(format!("`{folder}/{name}` is damaged: {error}")));
        serde_json::from_slice(&bytes).map_err(damaged)
    };
    let entries: Vec<Value> = names.iter().map(entry).collect::<Result<_, _>>()?;
    if entries.is_empty() { Err(none(id)) } else { Ok(entries) }
}

fn create_run(registry: &ModelRegistry, asked: &Asked) -> Result<Value, Refusal> {
    told(registry, &begin(registry, "", asked)?)
}

fn run(registry: &ModelRegistry, asked: &Asked) -> Result<Value, Refusal> {
    told(registry, id_of(asked)?)
}

fn id_of(asked: &Asked) -> Result<&str, Refusal> {
    match asked.text_if_any("run_id")? {
        Some(id) => Ok(id),
        None => asked.text("run_uuid"),
    }
}

fn log_to_run(registry: &ModelRegistry, asked: &Asked) -> Result<Value, Refusal> {
    log(registry, id_of(asked)?, asked.all())
}

/// Logs what is one of several that a batch would have.
fn log_one(registry: &ModelRegistry, asked: &Asked, list: &str) -> Result<Value, Refusal> {
    asked.text("key")?;
    log(registry, id_of(asked)?, Map::from_iter([(list.to_owned(), json!([asked.all()]))]))
}

fn log_metric(registry: &ModelRegistry, asked: &Asked) -> Result<Value, Refusal> {
    log_one(registry, asked, "metrics")
}

fn log_parameter(registry: &ModelRegistry, asked: &Asked) -> Result<Value, Refusal> {
    log_one(registry, asked, "params")
}

fn log_tag(registry: &ModelRegistry, asked: &Asked) -> Result<Value, Refusal> {
    log_one(registry, asked, "tags")
}

/// Logs to a run that has begun. How it is now is part of the answer, for what has ended.
fn log(registry: &ModelRegistry, id: &str, entry: Map<String, Value>) -> Result<Value, Refusal> {
    if registry.uploads(&folder(id)?).map_err(unavailable)?.is_empty() {
        return Err(none(id));
    }
    let has_ended = entry.contains_key("status");
    write(registry, id, entry)?;
    Ok(if has_ended { json!({ "run_info": told(registry, id)?["run"]["info"] }) } else { json!({}) })
}

/// A run, by all that was said of it.
fn told(registry: &ModelRegistry, id: &str) -> Result<Value, Refusal> {
    let entries = read(registry, id)?;
    let last = |name: &str| entries.iter().rev().map(|entry| &entry[name]).find(|value| !value.is_null());
    let experiment = last("experiment_id").and_then(Value::as_str).unwrap_or(DEFAULT.0);
    let info = json!({
        "run_id": id,
        "run_uuid": id,
        "run_name": last("run_name"),
        "experiment_id": experiment,
        "user_id": last("user_id"),
        "status": last("status").cloned().unwrap_or_else(|| json!("RUNNING")),
        "start_time": last("start_time").or_else(|| last("began")),
        "end_time": last("end_time"),
        "artifact_uri": format!("mlflow-artifacts:/{experiment}/{id}/artifacts"),
        "lifecycle_stage": "active",
    });
    let data = json!({ "metrics": by_key(&entries, "metrics"), "params": by_key(&entries, "params"), "tags": by_key(&entries, "tags") });
    let all =
        |name: &str| entries.iter().filter_map(|entry| entry[name].as_array()).flatten().cloned().collect::<Vec<_>>();
    let (inputs, outputs) = (json!({ "dataset_inputs": all("datasets") }), json!({ "model_outputs": all("models") }));
    Ok(json!({ "run": { "info": info, "data": data, "inputs": inputs, "outputs": outputs } }))
}

/// What was said last under each key of the lists of this name.
fn by_key(entries: &[Value], name: &str) -> Vec<Value> {
    let mut found = BTreeMap::new();
    for said in entries.iter().filter_map(|entry| entry[name].as_array()).flatten() {
        if let Some(key) = said["key"].as_str() {
            found.insert(key.to_owned(), said.clone());
        }
    }
    found.into_values().collect()
}

fn create_model(registry: &ModelRegistry, asked: &Asked) -> Result<Value, Refusal> {
    model(registry, &begin(registry, "m-", asked)?)
}

fn log_to_model(registry: &ModelRegistry, id: &str, asked: &Asked) -> Result<Value, Refusal> {
    model(registry, id)?;
    write(registry, id, asked.all())?;
    model(registry, id)
}

/// A model of a run, by all that was said of it.
fn model(registry: &ModelRegistry, id: &str) -> Result<Value, Refusal> {
    if !id.starts_with("m-") {
        return Err(none(id));
    }
    let entries = read(registry, id)?;
    let last = |name: &str| entries.iter().rev().map(|entry| &entry[name]).find(|value| !value.is_null());
    let experiment = last("experiment_id").and_then(Value::as_str).unwrap_or(DEFAULT.0);
    let info = json!({
        "model_id": id,
        "experiment_id": experiment,
        "name": last("name"),
        "creation_timestamp_ms": last("began"),
        "last_updated_timestamp_ms": last("began"),
        "artifact_uri": format!("mlflow-artifacts:/{experiment}/models/{id}/artifacts"),
        "status": last("status").cloned().unwrap_or_else(|| json!("LOGGED_MODEL_PENDING")),
        "model_type": last("model_type"),
        "source_run_id": last("source_run_id"),
        "tags": by_key(&entries, "tags"),
    });
    Ok(json!({ "model": { "info": info, "data": { "params": by_key(&entries, "params") } } }))
}
