//! `millstream models`: the versions of models and the names that point at them, in a registry or with a daemon.

mod files;
mod notes;

use std::path::Path;

use clap::{Args, Subcommand};
use millstream_core::{Error, Result, ResultExt as _};
use millstream_models::registry::{Aliases, CHAMPION, ModelCard, ModelReference, ModelRegistry, Notes, Selector};
use serde_json::{Value as Json, json};

use crate::exit::{CommandError, Exit, Outcome};
use crate::remote::shown::{self, Column};
use crate::remote::{RemoteArguments, RemoteModels};
use crate::terminal::{note, print_json, say};

/// What `models` does.
#[derive(Debug, Subcommand)]
pub enum ModelsCommand {
    /// List models, their versions and aliases.
    List(ModelsArguments),
    /// List the versions of a model, the newest first.
    Versions {
        /// The model.
        model: String,
        /// Whose models.
        #[command(flatten)]
        models: ModelsArguments,
    },
    /// Show the card of a version, as JSON.
    Show(OneVersion),
    /// Show which rows a version has learned from, as JSON: how far each input had been read.
    Lineage(OneVersion),
    /// Write a version as a file of the programs of others: `millstream models export fraud@champion --output fraud.onnx`, by which onnxruntime predicts, or its
    /// weights as HDF5 for Keras, by `--format hdf5`.
    Export(files::ExportArguments),
    /// Bring a model of others into the registry: `millstream models import fraud.onnx --name fraud`, which onnxruntime computes, `fraud.skops`, which
    /// scikit-learn has fitted, or weights of Keras (HDF5) or PyTorch (safetensors), with the layers that `--estimator FILE` says.
    Import(files::ImportArguments),
    /// Point an alias at a version: `millstream models alias fraud champion 3`.
    Alias {
        /// The model.
        model: String,
        /// The alias.
        alias: String,
        /// The version: a number.
        #[arg(value_parser = version)]
        version: u64,
        /// Whose models.
        #[command(flatten)]
        models: ModelsArguments,
    },
    /// Let a version be the champion, which flows use that say no other: `millstream models promote fraud 3`.
    Promote {
        /// The model.
        model: String,
        /// The version: a number.
        #[arg(value_parser = version)]
        version: u64,
        /// Whose models.
        #[command(flatten)]
        models: ModelsArguments,
    },
    /// Say what a model or one of its versions is for: `millstream models describe fraud/3 'Without the shop in Bern.'`
    Describe(notes::Describe),
    /// Tag a model or one of its versions: `millstream models tag fraud/3 owner=payments reviewed=yes`
    Tag(notes::Tag),
    /// Show the description and the tags of a model or of one of its versions, as JSON.
    Notes(notes::Show),
    /// Remove an alias.
    Unalias {
        /// The model.
        model: String,
        /// The alias.
        alias: String,
        /// Whose models.
        #[command(flatten)]
        models: ModelsArguments,
    },
}

/// A version of a model.
#[derive(Debug, Args)]
pub struct OneVersion {
    /// `fraud` (its champion), `fraud@champion`, `fraud@latest` or `fraud/3`.
    model: String,
    /// Whose models.
    #[command(flatten)]
    models: ModelsArguments,
}

/// Whose models are meant.
#[derive(Debug, Args)]
pub struct ModelsArguments {
    /// The folder of a registry, or `s3://BUCKET/PREFIX`. Without it, the models are those of the daemon if it is said which one, else those in the
    /// folder `models`, or where there is none, of the daemon whose Unix socket is found.
    #[arg(long, value_name = "PATH")]
    registry: Option<String>,
    /// The daemon.
    #[command(flatten)]
    remote: RemoteArguments,
}

/// Reads the number of a version.
fn version(text: &str) -> std::result::Result<u64, String> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| format!("versions are numbers such as 3; `{text}` is none"))
}

/// Where models are kept.
#[derive(Clone, Debug, Args)]
pub struct RegistryArguments {
    /// The folder of the registry, or `s3://BUCKET/PREFIX`.
    #[arg(long, default_value = FOLDER, value_name = "PATH")]
    pub registry: String,
}

/// The folder of the registry, unless another one is said.
const FOLDER: &str = "models";

impl RegistryArguments {
    /// Opens the registry.
    pub fn open(&self) -> Result<ModelRegistry> {
        let store = millstream_store::open(&self.registry, Path::new("."))?;
        Ok(ModelRegistry::open(store, self.registry.clone()))
    }
}

/// Where the models are that are meant.
enum Models {
    /// In a registry, and what it is called.
    Registry(ModelRegistry, String),
    /// With a daemon.
    Daemon(RemoteModels),
}

/// Versions as they are listed: as a daemon tells them, with their model and estimator.
struct Listed {
    versions: Vec<Json>,
    /// Cards that can't be read. They are said behind the table, and hide nothing else.
    unreadable: Vec<Error>,
}

const COLUMNS: &[Column] = &[
    ("version", "/name"),
    ("aliases", "/aliases"),
    ("estimator", "/estimator"),
    ("rows learned", "/rows"),
    ("created", "/at"),
    ("sha256", "/sha256"),
];

/// `millstream models`
pub fn models(command: ModelsCommand) -> Outcome {
    match command {
        ModelsCommand::List(asked) => list(&asked, None)?,
        ModelsCommand::Versions { model, models } => list(&models, Some(&model))?,
        ModelsCommand::Show(OneVersion { model, models }) => show(&models.find()?.card(&model)?, models.remote.json())?,
        ModelsCommand::Lineage(OneVersion { model, models }) => {
            let lineage = models.find()?.card(&model)?["lineage"].take();
            if lineage.is_null() {
                return Err(Error::new(format!("it is not known which rows `{model}` has learned from")).into());
            }
            show(&lineage, models.remote.json())?;
        }
        ModelsCommand::Export(asked) => files::export(&asked)?,
        ModelsCommand::Import(asked) => files::import(asked)?,
        ModelsCommand::Alias { model, alias, version, models } => set_alias(&models, &model, &alias, version)?,
        ModelsCommand::Promote { model, version, models } => set_alias(&models, &model, CHAMPION, version)?,
        ModelsCommand::Describe(describe) => notes::describe(&describe)?,
        ModelsCommand::Tag(tag) => notes::tag(&tag)?,
        ModelsCommand::Notes(show) => notes::show(&show)?,
        ModelsCommand::Unalias { model, alias, models } => {
            models.find()?.delete_alias(&model, &alias)?;
            said(
                &models,
                &format!("{model}@{alias} is gone"),
                json!({ "model": model, "alias": alias, "version": null }),
            );
        }
    }
    Ok(Exit::Done)
}

impl ModelsArguments {
    /// Where the models are.
    fn find(&self) -> Result<Models, CommandError> {
        let is_daemon = self.remote.is_said() || !Path::new(FOLDER).exists() && self.remote.is_found();
        if self.registry.is_none() && is_daemon {
            return Ok(Models::Daemon(RemoteModels::new(&self.remote)?));
        }
        let registry = self.registry.clone().unwrap_or_else(|| FOLDER.to_owned());
        let location = registry.clone();
        Ok(Models::Registry(RegistryArguments { registry }.open()?, location))
    }
}

impl Models {
    fn list(&self, only: Option<&str>) -> Result<Listed, CommandError> {
        let (mut versions, mut unreadable) = (Vec::new(), Vec::new());
        match self {
            Self::Registry(registry, _) => {
                let all = registry.models()?;
                for model in all.iter().filter(|model| only.is_none_or(|only| only == *model)) {
                    list_model(registry, model, &mut versions, &mut unreadable)?;
                }
                if let (Some(model), true) = (only, versions.is_empty()) {
                    registry.resolve(&format!("{model}@latest"))?;
                }
            }
            Self::Daemon(daemon) => {
                for model in daemon.models()?.iter().filter(|model| only.is_none_or(|only| model["name"] == only)) {
                    let name = model["name"].as_str().unwrap_or_default();
                    versions.extend(
                        daemon.versions(name)?.into_iter().map(|version| named(name, &model["estimator"], version)),
                    );
                }
                if let (Some(model), true) = (only, versions.is_empty()) {
                    daemon.versions(model)?;
                }
            }
        }
        Ok(Listed { versions, unreadable })
    }

    /// The card of the version that a reference stands for.
    fn card(&self, reference: &str) -> Result<Json, CommandError> {
        match self {
            Self::Registry(registry, _) => {
                let card = registry.resolve(reference)?.card;
                Ok(serde_json::to_value(card).doing(|| "writing the card as JSON")?)
            }
            Self::Daemon(daemon) => {
                let reference = ModelReference::parse(reference)?;
                daemon.card(&reference.model, self.find(&reference)?)
            }
        }
    }

    /// The number of the version that a reference stands for.
    fn find(&self, reference: &ModelReference) -> Result<u64, CommandError> {
        match (self, &reference.selector) {
            (Self::Registry(registry, _), _) => Ok(registry.find(reference)?),
            (Self::Daemon(_), Selector::Version(version)) => Ok(*version),
            (Self::Daemon(daemon), other) => daemon.find(&reference.model, other),
        }
    }

    fn set_alias(&self, model: &str, alias: &str, version: u64) -> Result<(), CommandError> {
        match self {
            Self::Registry(registry, _) => Ok(registry.set_alias(model, alias, version)?),
            Self::Daemon(daemon) => daemon.set_alias(model, alias, version),
        }
    }

    fn delete_alias(&self, model: &str, alias: &str) -> Result<(), CommandError> {
        match self {
            Self::Registry(registry, _) => Ok(registry.delete_alias(model, alias)?),
            Self::Daemon(daemon) => daemon.delete_alias(model, alias),
        }
    }
}

/// The versions of a model in a registry, the newest first.
fn list_model(
    registry: &ModelRegistry,
    model: &str,
    versions: &mut Vec<Json>,
    unreadable: &mut Vec<Error>,
) -> Result<()> {
    let aliases = registry.aliases(model).unwrap_or_else(|error| {
        unreadable.push(error);
        Aliases::new()
    });
    for version in registry.versions(model)?.into_iter().rev() {
        let points_here = aliases.iter().filter(|(_, points_at)| **points_at == version).map(|(name, _)| name);
        let aliases: Vec<&String> = points_here.collect();
        versions.push(match registry.card(model, version) {
            Ok(card) => {
                let notes = registry.notes(model, Some(version))?;
                named(model, &json!(card.estimator.name()), of_card(&card, &aliases, &notes))
            }
            Err(error) => {
                unreadable.push(error);
                named(model, &json!("damaged"), json!({ "version": version, "aliases": aliases }))
            }
        });
    }
    Ok(())
}

/// What a daemon would tell of a version, from its card.
fn of_card(card: &ModelCard, aliases: &[&String], notes: &Notes) -> Json {
    json!({
        "version": card.version,
        "at": card.created,
        "flow": card.flow,
        "node": card.node,
        "rows": card.rows,
        "metrics": card.metrics,
        "baselines": card.baselines,
        "aliases": aliases,
        "sha256": card.sha256,
        "description": notes.description,
        "tags": notes.tags,
    })
}

/// A version with its model and what learns.
fn named(model: &str, estimator: &Json, mut version: Json) -> Json {
    version["model"] = json!(model);
    version["estimator"] = estimator.clone();
    version
}

fn list(asked: &ModelsArguments, only: Option<&str>) -> Result<(), CommandError> {
    let models = asked.find()?;
    let Listed { versions, unreadable } = models.list(only)?;
    if asked.remote.json() {
        versions.into_iter().for_each(print_json);
    } else if versions.is_empty() {
        match &models {
            Models::Registry(_, location) => say!("there are no models in `{location}`"),
            Models::Daemon(_) => say!("the daemon has no models"),
        }
    } else {
        let rows: Vec<Json> = versions.into_iter().map(for_people).collect();
        shown::list(&json!({ "items": rows }), COLUMNS, false);
    }
    unreadable.iter().for_each(|error| note!("{error}"));
    Ok(())
}

/// A version in the words of the table.
fn for_people(mut version: Json) -> Json {
    version["name"] = json!(format!("{}/{}", version["model"].as_str().unwrap_or_default(), version["version"]));
    let aliases = version["aliases"].as_array().into_iter().flatten().filter_map(Json::as_str);
    version["aliases"] = json!(aliases.collect::<Vec<_>>().join(", "));
    version["rows"] = json!(version["rows"].as_u64().map(|rows| indicatif::HumanCount(rows).to_string()));
    version["sha256"] = json!(version["sha256"].as_str().map(|hash| hash.chars().take(12).collect::<String>()));
    version
}

fn show(json: &Json, as_line: bool) -> Result<()> {
    if as_line {
        print_json(json.clone());
    } else {
        say!("{}", serde_json::to_string_pretty(json).doing(|| "writing JSON")?);
    }
    Ok(())
}

fn set_alias(asked: &ModelsArguments, model: &str, alias: &str, version: u64) -> Result<(), CommandError> {
    asked.find()?.set_alias(model, alias, version)?;
    let what = json!({ "model": model, "alias": alias, "version": version });
    said(asked, &format!("{model}@{alias} is now {model}/{version}"), what);
    Ok(())
}

fn said(asked: &ModelsArguments, text: &str, json: Json) {
    if asked.remote.json() { print_json(json) } else { say!("{text}") }
}
