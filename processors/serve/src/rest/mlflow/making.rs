//! Models and versions that MLflow's client makes: a version is made of an uploaded file, as `millstream models import` makes one.

use axum::http::Method;
use millstream_core::Error;
use millstream_models::registry::{ModelCard, ModelRegistry, NotesChange};
use millstream_models::{Import, Model, sha256};
use serde_json::{Value, json};

use super::super::Route;
use super::asked::Asked;
use super::registry::{change, check, unavailable};
use super::{runs, views};
use crate::refusal::{Reason, Refusal};

const MODELS: &str = "/api/2.0/mlflow/registered-models/create";
const VERSIONS: &str = "/api/2.0/mlflow/model-versions/create";

pub fn routes() -> Vec<Route> {
    vec![
        change(Method::POST, MODELS, "Says that there will be a model.", create_model),
        change(Method::POST, VERSIONS, "Makes a version of an uploaded file.", create_version),
    ]
}

fn create_model(registry: &ModelRegistry, asked: &Asked) -> Result<Value, Refusal> {
    let name = asked.text("name")?;
    if !registry.announce(name, &notes(asked)?).map_err(wrong)? {
        return Err(Refusal { reason: Reason::Exists, message: format!("there is a model `{name}` already") });
    }
    Ok(json!({ "registered_model": views::model(registry, name).map_err(unavailable)? }))
}

fn create_version(registry: &ModelRegistry, asked: &Asked) -> Result<Value, Refusal> {
    let (name, source, notes) = (asked.text("name")?, asked.text("source")?, notes(asked)?);
    check(registry, name)?;
    // A model that a run has logged is known by its id.
    let (source, run) = match source.strip_prefix("models:/") {
        Some(id) => runs::files_of(registry, id)?,
        None => (source.to_owned(), String::new()),
    };
    let file = file_of(registry, &source)?;
    let bytes = registry.uploaded(&file).map_err(unavailable)?;
    let bytes = bytes.ok_or_else(|| Refusal::not_found(format!("`{file}` is gone")))?;
    let model = Model::import(&bytes, &said(&notes)?);
    let model = model.map_err(|error| Refusal::wrong(format!("`{file}` can't be imported: {error}")))?;
    let saved = model.save().map_err(|error| Refusal::internal(&error))?;
    let run = asked.text_if_any("run_id")?.filter(|said| !said.is_empty()).map_or(run, str::to_owned);
    let card = ModelCard { run, ..ModelCard::new(name, model.signature(), 0) };
    let number = registry.publish(name, &saved, card, &sha256(&saved)).map_err(unavailable)?;
    if notes != NotesChange::default() {
        registry.change_notes(name, Some(number), &notes).map_err(wrong)?;
    }
    Ok(json!({ "model_version": views::version(registry, name, number).map_err(unavailable)? }))
}

/// The file that a version is made of: the only one below a source that is of a known format.
fn file_of(registry: &ModelRegistry, source: &str) -> Result<String, Refusal> {
    let path = source.strip_prefix("mlflow-artifacts:").map(|path| match path.strip_prefix("//") {
        // Behind the name of the server.
        Some(rest) => rest.split_once('/').map_or("", |(_, path)| path),
        None => path,
    });
    let path = path.ok_or_else(|| {
        Refusal::wrong(format!(
            "`source` is `{source}`; what is taken is `mlflow-artifacts:/PATH`, where files were uploaded to"
        ))
    })?;
    let files = registry.uploads(path).map_err(wrong)?;
    let is_model = |file: &&String| [".onnx", ".skops"].iter().any(|ending| file.ends_with(ending));
    let found: Vec<_> = files.iter().filter(is_model).collect();
    match found[..] {
        [file] => Ok(format!("{path}/{file}")),
        [] if files.is_empty() => Err(Refusal::not_found(format!("nothing was uploaded to `{path}`"))),
        [] if files.iter().any(|file| file.ends_with(".pkl") || file.ends_with(".joblib")) => {
            let message =
                "what was uploaded is a pickle, which runs what is in it when it is read, and is not read here";
            Err(Refusal::wrong(format!(
                "{message}; save the model in the flavor `onnx`, or by `serialization_format=\"skops\"`"
            )))
        }
        [] => Err(Refusal::wrong(format!("there is neither a file `.onnx` nor one `.skops` below `{path}`"))),
        _ => Err(Refusal::wrong(format!(
            "there are {} files `.onnx` and `.skops` below `{path}`; it should be one",
            found.len()
        ))),
    }
}

/// What is to be noted: a description, and tags, which come as a list.
fn notes(asked: &Asked) -> Result<NotesChange, Refusal> {
    let tags = asked.find("tags").map_or(Ok(Vec::new()), |tags| {
        tags.as_array().cloned().ok_or_else(|| Refusal::wrong("`tags` is not a list"))
    })?;
    let pair = |tag: &Value| {
        let text = |name: &str| tag[name].as_str().map(str::to_owned);
        let pair = text("key").zip(text("value"));
        pair.map(|(key, value)| (key, Some(value)))
            .ok_or_else(|| Refusal::wrong("`tags` has something without texts `key` and `value`"))
    };
    let description = asked.text_if_any("description")?.map(str::to_owned);
    Ok(NotesChange { description, tags: tags.iter().map(pair).collect::<Result<_, _>>()? })
}

/// What tags say of a file that doesn't say it itself: `millstream.features`, `.classes`, `.label`, `.output` and `.scores`.
fn said(notes: &NotesChange) -> Result<Import, Refusal> {
    let tag = |name: &str| notes.tags.get(&format!("millstream.{name}")).cloned().flatten();
    let list = |name: &str| tag(name).map(|texts| texts.split(',').map(|text| text.trim().to_owned()).collect());
    let scores = match tag("scores").as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(Refusal::wrong("the tag `millstream.scores` is neither `true` nor `false`")),
    };
    Ok(Import {
        features: list("features"),
        label: tag("label"),
        classes: list("classes"),
        output: tag("output"),
        scores,
        ..Import::default()
    })
}

fn wrong(error: Error) -> Refusal {
    Refusal::wrong(error.to_string())
}
