//! Versions of models: published once, and never changed.

use millstream_core::{Error, Result, ResultExt};
use millstream_store::crash;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::card::now;
use super::{MOST_NUMBERS, ModelCard, Registry, Resolved, check_model_name};
use crate::model::sha256;

/// How the key ends that makes a version one.
pub(super) const DECISION: &str = "/version.json";

/// `version.json`.
#[derive(Debug, Serialize, Deserialize)]
struct VersionFile {
    version: u64,
    publish_id: String,
    rows: u64,
    sha256: String,
}

impl Registry {
    /// The numbers of a model's versions, ascending.
    pub fn versions(&self, model: &str) -> Result<Vec<u64>> {
        check_model_name(model)?;
        let folder = versions_folder(model);
        let keys = self.store.list(&folder)?;
        let number = |key: &String| key.strip_prefix(&folder)?.strip_suffix(DECISION)?.parse().ok();
        Ok(keys.iter().filter_map(number).collect())
    }

    /// Publishes a version of a model and returns its number. The first version becomes the champion.
    ///
    /// `publish_id` says what made it. Publishing the same id again, after a crash at any moment or by another process,
    /// completes what is missing, and returns the number that it has already.
    pub fn publish(&self, model: &str, bytes: &[u8], card: ModelCard, publish_id: &str) -> Result<u64> {
        check_model_name(model)?;
        let sha256 = sha256(bytes);
        let model_name = model.to_owned();
        let card = ModelCard { model: model_name, publish_id: publish_id.to_owned(), sha256, created: now(), ..card };
        let version = self.own_a_number(&card).doing(|| format!("publishing model `{model}`"))?;
        crash::point("version-numbered");
        self.complete(model, version, bytes, &card).doing(|| format!("publishing model `{model}`"))?;
        self.crown_the_first(model)?;
        Ok(version)
    }

    /// The number of this publication: the one that it has, or the next free one.
    fn own_a_number(&self, card: &ModelCard) -> Result<u64> {
        let taken = self.numbers(&card.model)?;
        for &number in taken.iter().rev() {
            if self.owner(&card.model, number)? == Some(card.publish_id.clone()) {
                return Ok(number);
            }
        }
        let mut number = taken.last().map_or(1, |last| last + 1);
        loop {
            let card = ModelCard { version: number, ..card.clone() };
            let won = self.store.put_new(&key(&card.model, number, "card.json"), &to_json(&card)?)?;
            if won || self.owner(&card.model, number)? == Some(card.publish_id) {
                return Ok(number);
            }
            number += 1;
        }
    }

    /// Numbers of which at least a part is there, ascending.
    fn numbers(&self, model: &str) -> Result<Vec<u64>> {
        let folder = versions_folder(model);
        let keys = self.store.list(&folder)?;
        let number = |key: &String| key.strip_prefix(&folder)?.split('/').next()?.parse().ok();
        let mut numbers: Vec<u64> = keys.iter().filter_map(number).filter(|number| *number < MOST_NUMBERS).collect();
        numbers.dedup();
        Ok(numbers)
    }

    fn owner(&self, model: &str, number: u64) -> Result<Option<String>> {
        let card: Option<ModelCard> = self.read_json(&key(model, number, "card.json"))?;
        Ok(card.map(|card| card.publish_id))
    }

    fn complete(&self, model: &str, version: u64, bytes: &[u8], card: &ModelCard) -> Result<()> {
        let ModelCard { publish_id, rows, sha256, .. } = card.clone();
        self.store.put_new(&key(model, version, "model.safetensors"), bytes)?;
        crash::point("version-written");
        let decision = VersionFile { version, publish_id, rows, sha256 };
        self.store.put_new(&key(model, version, "version.json"), &to_json(&decision)?)?;
        crash::point("version-decided");
        Ok(())
    }

    /// Reads a version, and checks that its file is whole.
    pub(super) fn read(&self, model: &str, version: u64) -> Result<Resolved> {
        let decision: VersionFile = self.require_json(&key(model, version, "version.json"))?;
        let card = self.require_json(&key(model, version, "card.json"))?;
        let name = key(model, version, "model.safetensors");
        let bytes = self.store.get(&name)?.ok_or_else(|| Error::new(format!("`{name}` is missing")))?;
        if sha256(&bytes) != decision.sha256 {
            return Err(Error::new(format!("`{name}` is damaged: its checksum is not that of `version.json`")));
        }
        Ok(Resolved { version, bytes, card })
    }

    /// The card of a version.
    pub fn card(&self, model: &str, version: u64) -> Result<ModelCard> {
        self.require_json(&key(model, version, "card.json"))
    }

    pub(super) fn read_json<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        let Some(bytes) = self.store.get(key)? else { return Ok(None) };
        let value = serde_json::from_slice(&bytes).doing(|| format!("reading `{key}` in `{}`", self.location))?;
        Ok(Some(value))
    }

    fn require_json<T: DeserializeOwned>(&self, key: &str) -> Result<T> {
        self.read_json(key)?.ok_or_else(|| Error::new(format!("`{key}` is missing in `{}`", self.location)))
    }
}

fn versions_folder(model: &str) -> String {
    format!("{model}/versions/")
}

fn key(model: &str, version: u64, file: &str) -> String {
    format!("{}{version:08}/{file}", versions_folder(model))
}

pub(super) fn to_json(value: &impl Serialize) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(value).doing(|| "writing JSON")?;
    bytes.push(b'\n');
    Ok(bytes)
}
