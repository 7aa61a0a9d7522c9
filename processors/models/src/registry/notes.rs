//! Notes: what people and programs say of models and versions. A card says what is so; notes may change.

use std::collections::BTreeMap;

use millstream_core::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::versions::versions_folder;
use super::{ModelRegistry, check_model_name};

/// How long a description may be, in bytes.
const LONGEST_DESCRIPTION: usize = 16 << 10;

/// How many tags there may be, and how long a name and a value of one, in bytes.
const MOST_TAGS: usize = 200;
const LONGEST_TAG: usize = 250;
const LONGEST_VALUE: usize = 5000;

/// What is said of a model, or of one of its versions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Notes {
    /// What it is for, in sentences.
    #[serde(default)]
    pub description: String,
    /// Names and values, such as `owner` and `payments`.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

/// What is to be said of a model or a version. What is left out stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NotesChange {
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Names and values of your own; `null` takes a tag away.
    pub tags: BTreeMap<String, Option<String>>,
}

impl NotesChange {
    fn apply(&self, notes: &mut Notes) {
        if let Some(description) = &self.description {
            notes.description.clone_from(description);
        }
        for (name, value) in &self.tags {
            match value {
                Some(value) => _ = notes.tags.insert(name.clone(), value.clone()),
                None => _ = notes.tags.remove(name),
            }
        }
    }
}

impl Notes {
    /// # Errors
    /// If there is too much of them.
    fn check(&self) -> Result<()> {
        if self.description.len() > LONGEST_DESCRIPTION {
            return Err(Error::new(format!("a description can be {LONGEST_DESCRIPTION} bytes long")));
        }
        if self.tags.len() > MOST_TAGS {
            return Err(Error::new(format!("there can be {MOST_TAGS} tags")));
        }
        let is_wrong = |(name, value): &(&String, &String)| {
            name.is_empty() || name.len() > LONGEST_TAG || value.len() > LONGEST_VALUE
        };
        match self.tags.iter().find(is_wrong) {
            None => Ok(()),
            Some((name, _)) => {
                let name: String = name.chars().take(50).collect();
                Err(Error::new(format!(
                    "tag `{name}`: a name has 1 to {LONGEST_TAG} bytes, and a value {LONGEST_VALUE} at most"
                )))
            }
        }
    }
}

impl ModelRegistry {
    /// The notes of a model, or of a version of it.
    ///
    /// # Errors
    /// If the name is no name of a model, or the registry can't be read.
    pub fn notes(&self, model: &str, version: Option<u64>) -> Result<Notes> {
        check_model_name(model)?;
        Ok(self.table(&folder(model, version))?.1)
    }

    /// Says that there will be a model of this name, and what it is for, before it has a version. False if there is one, or that was said.
    ///
    /// # Errors
    /// If the name is no name of a model, if there are too many notes, or the registry can't be written.
    pub fn announce(&self, model: &str, change: &NotesChange) -> Result<bool> {
        let mut notes = Notes::default();
        change.apply(&mut notes);
        notes.check()?;
        Ok(!self.has_model(model)? && !self.is_announced(model)? && self.put_table(&folder(model, None), 1, &notes)?)
    }

    /// Whether something was said of a model, which may have no version yet.
    ///
    /// # Errors
    /// If the name is no name of a model, or the registry can't be read.
    pub fn is_announced(&self, model: &str) -> Result<bool> {
        check_model_name(model)?;
        Ok(self.table_number(&folder(model, None))? > 0)
    }

    /// Changes the notes of a model, or of a version of it, whoever else does so at the same time, and returns what they are now.
    ///
    /// # Errors
    /// If there is no such model or version, if there is too much of them, or the registry can't be written.
    pub fn change_notes(&self, model: &str, version: Option<u64>, change: &NotesChange) -> Result<Notes> {
        match version {
            Some(version) => self.check_version(model, version)?,
            None if self.is_announced(model)? => {}
            None => _ = self.latest(model)?,
        }
        self.change_table(&folder(model, version), |notes: &mut Notes| {
            change.apply(notes);
            notes.check()
        })
    }
}

fn folder(model: &str, version: Option<u64>) -> String {
    match version {
        None => format!("{model}/notes/"),
        Some(version) => format!("{}{version:08}/notes/", versions_folder(model)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::tests::{publish, registry};
    use super::*;

    #[test]
    fn a_model_can_be_announced_once_before_it_has_a_version() {
        let folder = tempfile::tempdir().unwrap();
        let registry = registry(folder.path());
        let change = NotesChange { description: Some("Cards.".to_owned()), ..NotesChange::default() };
        assert!(!registry.is_announced("fraud").unwrap() && registry.announce("fraud", &change).unwrap());
        assert!(registry.is_announced("fraud").unwrap() && !registry.announce("fraud", &change).unwrap());
        assert!(!registry.has_model("fraud").unwrap() && registry.models().unwrap().is_empty());
        let tags = [("owner".to_owned(), Some("payments".to_owned()))].into();
        registry.change_notes("fraud", None, &NotesChange { tags, ..NotesChange::default() }).unwrap();
        assert_eq!(publish(&registry, "a"), 1);
        let notes = registry.notes("fraud", None).unwrap();
        assert_eq!((notes.description.as_str(), notes.tags["owner"].as_str()), ("Cards.", "payments"));
        publish(&registry, "b");
        assert!(!registry.announce("fraud", &change).unwrap());
        assert!(registry.announce("No Name", &change).is_err());
    }
}
