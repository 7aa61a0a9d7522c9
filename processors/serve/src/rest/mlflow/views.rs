//! Models and versions as MLflow's client reads them.

use millstream_core::Result;
use millstream_models::Model;
use millstream_models::registry::{Aliases, ModelCard, ModelRegistry, Notes, Resolved};
use serde_json::{Value, json};

/// Where the client is to look for the files of a version: at this server.
pub fn source(model: &str, version: u64) -> String {
    format!("mlflow-artifacts:/{model}/{version}")
}

/// A model.
///
/// # Errors
/// If the registry can't be read.
pub fn model(registry: &ModelRegistry, name: &str) -> Result<Value> {
    let notes = registry.notes(name, None)?;
    if !registry.has_model(name)? {
        let (description, tags) = (&notes.description, tags(&notes));
        return Ok(
            json!({ "name": name, "description": description, "latest_versions": [], "tags": tags, "aliases": [] }),
        );
    }
    let (latest, aliases) = (registry.latest(name)?, registry.aliases(name)?);
    let newest = version_of(registry, name, latest, &aliases)?;
    let named: Vec<_> =
        aliases.iter().map(|(alias, version)| json!({ "alias": alias, "version": version.to_string() })).collect();
    Ok(json!({
        "name": name,
        // When the first version was published is not asked of the store, since that one may be gone.
        "creation_timestamp": newest["creation_timestamp"],
        "last_updated_timestamp": newest["last_updated_timestamp"],
        "description": notes.description,
        "latest_versions": [newest],
        "tags": tags(&notes),
        "aliases": named,
    }))
}

/// A version of a model.
///
/// # Errors
/// If the registry can't be read.
pub fn version(registry: &ModelRegistry, name: &str, number: u64) -> Result<Value> {
    version_of(registry, name, number, &registry.aliases(name)?)
}

/// The same, where the aliases are known.
///
/// # Errors
/// If the registry can't be read.
pub fn version_of(registry: &ModelRegistry, name: &str, number: u64, aliases: &Aliases) -> Result<Value> {
    let (card, notes) = (registry.card(name, number)?, registry.notes(name, Some(number))?);
    let named = aliases.iter().filter(|(_, version)| **version == number).map(|(alias, _)| alias);
    let published = millis(&card);
    Ok(json!({
        "name": name,
        "version": number.to_string(),
        "creation_timestamp": published,
        "last_updated_timestamp": published,
        "current_stage": "None",
        "description": notes.description,
        "source": source(name, number),
        "run_id": card.run,
        "status": "READY",
        "tags": tags(&notes),
        "aliases": named.collect::<Vec<_>>(),
    }))
}

/// The files of a version. With the first two, MLflow loads it in Python; a model that can't be written as ONNX has only the others.
pub fn files(version: &Resolved) -> impl Iterator<Item = (&'static str, Vec<u8>)> {
    let onnx = Model::load(&version.bytes).and_then(|model| model.to_onnx(version.card.properties()));
    let loaded = onnx.into_iter().flat_map(|onnx| [("MLmodel", ML_MODEL.into()), ("model.onnx", onnx)]);
    let card = serde_json::to_vec_pretty(&version.card).unwrap_or_default();
    loaded.chain([("card.json", card), ("model.safetensors", version.bytes.clone())])
}

/// What says how MLflow loads a version.
const ML_MODEL: &str = "\
flavors:
  onnx:
    data: model.onnx
    providers: [CPUExecutionProvider]
  python_function:
    data: model.onnx
    loader_module: mlflow.onnx
";

fn tags(notes: &Notes) -> Value {
    notes.tags.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect()
}

/// When a version was published, in milliseconds since 1970.
fn millis(card: &ModelCard) -> i64 {
    chrono::DateTime::parse_from_rfc3339(&card.created).map_or(0, |time| time.timestamp_millis())
}
