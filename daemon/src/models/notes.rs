//! `millstream models describe | tag | notes`: what people and programs say of models and versions.

use clap::Args;
use millstream_core::{Error, ResultExt as _};
use millstream_models::registry::{ModelReference, NotesChange, Selector};
use serde_json::{Value as Json, json};

use super::{Models, ModelsArguments, said};
use crate::exit::CommandError;

/// What is meant, and whose it is.
#[derive(Debug, Args)]
struct Target {
    /// A model, `fraud`, or one of its versions: `fraud/3`, `fraud@champion`, `fraud@latest`.
    model: String,
}

/// What `describe` takes.
#[derive(Debug, Args)]
pub struct Describe {
    #[command(flatten)]
    target: Target,
    /// What it is for.
    description: String,
    /// Whose models.
    #[command(flatten)]
    models: ModelsArguments,
}

/// What `tag` takes.
#[derive(Debug, Args)]
pub struct Tag {
    #[command(flatten)]
    target: Target,
    /// Tags, each a name and a value.
    #[arg(value_name = "NAME=VALUE", value_parser = pair, required_unless_present = "remove")]
    tags: Vec<(String, String)>,
    /// Take a tag away.
    #[arg(long, value_name = "NAME")]
    remove: Vec<String>,
    /// Whose models.
    #[command(flatten)]
    models: ModelsArguments,
}

/// What `notes` takes.
#[derive(Debug, Args)]
pub struct Show {
    #[command(flatten)]
    target: Target,
    /// Whose models.
    #[command(flatten)]
    models: ModelsArguments,
}

/// `millstream models describe`
pub fn describe(asked: &Describe) -> Result<(), CommandError> {
    let change = NotesChange { description: Some(asked.description.clone()), ..NotesChange::default() };
    carry_out(&change, &asked.target, &asked.models, "is described")
}

/// `millstream models tag`
pub fn tag(asked: &Tag) -> Result<(), CommandError> {
    let set = asked.tags.iter().map(|(name, value)| (name.clone(), Some(value.clone())));
    let removed = asked.remove.iter().map(|name| (name.clone(), None));
    let change = NotesChange { description: None, tags: removed.chain(set).collect() };
    carry_out(&change, &asked.target, &asked.models, "is tagged")
}

/// `millstream models notes`
pub fn show(asked: &Show) -> Result<(), CommandError> {
    let models = asked.models.find()?;
    let (model, version) = asked.target.find(&models)?;
    super::show(&models.notes(&model, version)?, asked.models.remote.json())?;
    Ok(())
}

/// Reads a tag.
fn pair(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    pair.ok_or_else(|| format!("`{text}` is not written as `NAME=VALUE`"))
}

impl Target {
    /// The model, and the number of the version, if one is meant.
    fn find(&self, models: &Models) -> Result<(String, Option<u64>), CommandError> {
        let reference = ModelReference::parse(&self.model)?;
        let version = match reference.selector {
            Selector::Any => None,
            _ => Some(models.find(&reference)?),
        };
        Ok((reference.model, version))
    }
}

fn carry_out(change: &NotesChange, target: &Target, asked: &ModelsArguments, done: &str) -> Result<(), CommandError> {
    let models = asked.find()?;
    let (model, version) = target.find(&models)?;
    match &models {
        Models::Registry(registry, _) => _ = registry.change_notes(&model, version, change)?,
        Models::Daemon(daemon) => daemon.change_notes(&model, version, change)?,
    }
    said(asked, &format!("{} {done}", target.model), json!({ "model": model, "version": version }));
    Ok(())
}

impl Models {
    /// The notes of a model, or of a version of it.
    fn notes(&self, model: &str, version: Option<u64>) -> Result<Json, CommandError> {
        let of_daemon = |found: Option<&Json>| {
            let found =
                found.ok_or_else(|| Error::new(format!("the daemon has no model `{model}` of this version")))?;
            Ok(json!({ "description": found["description"], "tags": found["tags"] }))
        };
        match (self, version) {
            (Self::Registry(registry, _), _) => {
                registry.latest(model)?;
                Ok(serde_json::to_value(registry.notes(model, version)?).doing(|| "writing the notes as JSON")?)
            }
            (Self::Daemon(daemon), None) => of_daemon(daemon.models()?.iter().find(|known| known["name"] == model)),
            (Self::Daemon(daemon), Some(version)) => {
                of_daemon(daemon.versions(model)?.iter().find(|known| known["version"] == version))
            }
        }
    }
}
