//! The model registry: models, their numbered versions, and the aliases that point at them.
//!
//! It is a folder in a store, which several processes may use at once:
//!
//! ```text
//! fraud/versions/00000003/card.json           about the version; whoever creates it owns the number
//! fraud/versions/00000003/model.safetensors   the model
//! fraud/versions/00000003/version.json        written last: from now on the version is there
//! fraud/aliases/00000007.json                 the whole alias table; the highest number counts
//! fraud/notes/00000002.json                   what is said of the model: the highest number counts
//! fraud/versions/00000003/notes/00000001.json the same of the version
//! fraud/publications/9f86d081…/00000003       which numbers a publication, by its id, has tried to own
//! fraud/last/00000003                         numbers up to this one are taken
//! uploads+/…                                  files that clients have uploaded
//! ```
//!
//! Publications and last numbers say nothing that the rest doesn't, but so that nobody need list or read all versions to publish one.

mod aliases;
mod card;
mod notes;
mod reference;
mod tables;
mod uploads;
mod versions;

use std::collections::BTreeSet;

use millstream_core::{Error, Result, known_names};
use millstream_store::Store;

pub use aliases::Aliases;
pub use card::ModelCard;
pub use notes::{Notes, NotesChange};
pub use reference::{ModelReference, Selector, check_model_name};

/// The alias that a model's first version gets, and that a bare name means.
pub const CHAMPION: &str = "champion";

/// Numbers of versions and alias tables have eight digits; whatever has more is none of ours.
const MOST_NUMBERS: u64 = 100_000_000;

/// Where models are kept.
pub struct ModelRegistry {
    store: Box<dyn Store>,
    /// For messages: what the user calls the place.
    location: String,
}

/// A version of a model, read.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// Its number.
    pub version: u64,
    /// The model file.
    pub bytes: Vec<u8>,
    /// What is known about it.
    pub card: ModelCard,
}

impl ModelRegistry {
    /// The registry in a store; `location` is what messages call it.
    pub fn open(store: Box<dyn Store>, location: impl Into<String>) -> Self {
        Self { store, location: location.into() }
    }

    /// The names of all models that have a version, sorted.
    pub fn models(&self) -> Result<Vec<String>> {
        let model = |key: &String| key.ends_with(versions::DECISION).then(|| key.split('/').next().map(str::to_owned));
        let names: BTreeSet<_> = self.store.list("")?.iter().filter_map(model).flatten().collect();
        Ok(names.into_iter().collect())
    }

    /// What a reference such as `fraud@champion`, `fraud@latest`, `fraud/3` or `fraud` (its champion) stands for now.
    pub fn resolve(&self, reference: &str) -> Result<Resolved> {
        let reference = ModelReference::parse(reference)?;
        let version = self.find(&reference)?;
        self.read(&reference.model, version)
    }

    /// The number of the version that a reference stands for now.
    pub fn find(&self, reference: &ModelReference) -> Result<u64> {
        let model = &reference.model;
        match &reference.selector {
            Selector::Any => match self.aliases(model)?.get(CHAMPION) {
                Some(champion) => Ok(*champion),
                None => {
                    let latest = self.latest(model)?;
                    Err(Error::new(format!(
                        "model `{model}` has no champion; say which version is meant: `{model}@latest` or `{model}/{latest}`"
                    )))
                }
            },
            Selector::Latest => self.latest(model),
            Selector::Version(version) => self.check_version(model, *version).map(|()| *version),
            Selector::Alias(alias) => {
                let aliases = self.aliases(model)?;
                if let Some(version) = aliases.get(alias) {
                    return Ok(*version);
                }
                self.latest(model)?;
                let known = aliases.keys().map(String::as_str).chain(["latest"]);
                Err(Error::new(format!("model `{model}` has no alias `{alias}`; {}", known_names(alias, known))))
            }
        }
    }

    /// The number of the newest version of a model. What it costs does not depend on how many there are.
    ///
    /// # Errors
    /// If there is no such model, or the registry can't be read.
    pub fn latest(&self, model: &str) -> Result<u64> {
        check_model_name(model)?;
        match self.newest_number(model)? {
            Some(newest) => Ok(newest),
            None => Err(self.no_model(model)?),
        }
    }

    /// Whether there is a model of this name: one that has a version.
    ///
    /// # Errors
    /// If the name is no name of a model, or the registry can't be read.
    pub fn has_model(&self, model: &str) -> Result<bool> {
        check_model_name(model)?;
        Ok(self.newest_number(model)?.is_some())
    }

    /// Refuses a version that there is not.
    fn check_version(&self, model: &str, version: u64) -> Result<()> {
        check_model_name(model)?;
        if self.has(model, version)? {
            return Ok(());
        }
        self.latest(model)?;
        let there = numbers(&self.versions(model)?);
        Err(Error::new(format!("model `{model}` has no version {version}; it has {there}")))
    }

    fn no_model(&self, model: &str) -> Result<Error> {
        let known = self.models()?;
        let help = known_names(model, known.iter().map(String::as_str));
        Ok(Error::new(format!("there is no model `{model}` in `{}`; {help}", self.location)))
    }
}

impl std::fmt::Debug for ModelRegistry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ModelRegistry").field("location", &self.location).finish_non_exhaustive()
    }
}

/// Version numbers for a message: `1, 2 and 3`, or the range of many.
fn numbers(versions: &[u64]) -> String {
    match versions {
        [] => "none".to_owned(),
        [only] => format!("only {only}"),
        [first, .., last] if versions.len() > 10 => format!("{} between {first} and {last}", versions.len()),
        [firsts @ .., last] => {
            let firsts: Vec<_> = firsts.iter().map(u64::to_string).collect();
            format!("{} and {last}", firsts.join(", "))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
