//! `millstream models`: the versions of models and the names that point at them.

use std::path::Path;

use clap::{Args, Subcommand};
use millstream_core::{Result, ResultExt};
use millstream_models::registry::{Aliases, ModelCard, ModelRegistry};

use crate::exit::{Exit, Outcome};
use crate::summary::new_table;
use crate::terminal::{note, say};

/// What `models` does.
#[derive(Debug, Subcommand)]
pub enum ModelsCommand {
    /// List models, their versions and aliases.
    List(RegistryArguments),
    /// Show the card of a version, as JSON.
    Show {
        /// `fraud` (its champion), `fraud@champion`, `fraud@latest` or `fraud/3`.
        model: String,
        /// The registry.
        #[command(flatten)]
        registry: RegistryArguments,
    },
    /// Point an alias at a version: `millstream models alias fraud champion 3`.
    Alias {
        /// The model.
        model: String,
        /// The alias.
        alias: String,
        /// The version: a number.
        #[arg(value_parser = version)]
        version: u64,
        /// The registry.
        #[command(flatten)]
        registry: RegistryArguments,
    },
    /// Remove an alias.
    Unalias {
        /// The model.
        model: String,
        /// The alias.
        alias: String,
        /// The registry.
        #[command(flatten)]
        registry: RegistryArguments,
    },
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
    #[arg(long, default_value = "models", value_name = "PATH")]
    pub registry: String,
}

impl RegistryArguments {
    /// Opens the registry.
    pub fn open(&self) -> Result<ModelRegistry> {
        let store = millstream_store::open(&self.registry, Path::new("."))?;
        Ok(ModelRegistry::open(store, self.registry.clone()))
    }
}

/// `millstream models`
pub fn models(command: ModelsCommand) -> Outcome {
    match command {
        ModelsCommand::List(registry) => list(&registry)?,
        ModelsCommand::Show { model, registry } => {
            let card = registry.open()?.resolve(&model)?.card;
            say!("{}", serde_json::to_string_pretty(&card).doing(|| "writing the card as JSON")?);
        }
        ModelsCommand::Alias { model, alias, version, registry } => {
            registry.open()?.set_alias(&model, &alias, version)?;
            say!("{model}@{alias} is now {model}/{version}");
        }
        ModelsCommand::Unalias { model, alias, registry } => {
            registry.open()?.delete_alias(&model, &alias)?;
            say!("{model}@{alias} is gone");
        }
    }
    Ok(Exit::Done)
}

/// What can't be read is said behind the table, and hides nothing else.
fn list(arguments: &RegistryArguments) -> Result<()> {
    let registry = arguments.open()?;
    let models = registry.models()?;
    if models.is_empty() {
        say!("there are no models in `{}`", arguments.registry);
        return Ok(());
    }
    let mut table = new_table(["version", "aliases", "estimator", "rows learned", "created", "sha256"]);
    let mut unreadable = Vec::new();
    for model in models {
        let aliases = registry.aliases(&model).unwrap_or_else(|error| {
            unreadable.push(error);
            Aliases::new()
        });
        for version in registry.versions(&model)? {
            let named = aliases.iter().filter(|(_, points_at)| **points_at == version).map(|(name, _)| name.as_str());
            let of_version = [format!("{model}/{version}"), named.collect::<Vec<_>>().join(", ")];
            let of_card = registry.card(&model, version).map(|card| columns(&card)).unwrap_or_else(|error| {
                unreadable.push(error);
                ["damaged", "", "", ""].map(str::to_owned)
            });
            table.add_row(of_version.into_iter().chain(of_card));
        }
    }
    say!("{table}");
    unreadable.iter().for_each(|error| note!("{error}"));
    Ok(())
}

fn columns(card: &ModelCard) -> [String; 4] {
    [
        card.estimator.name().to_owned(),
        indicatif::HumanCount(card.rows).to_string(),
        card.created.clone(),
        card.sha256.chars().take(12).collect(),
    ]
}
