//! Versions of models: published once, and never changed.

use millstream_core::{Error, Result, ResultExt};
use millstream_store::crash;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::card::now;
use super::{MOST_NUMBERS, ModelCard, ModelRegistry, Resolved, check_model_name};
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

impl ModelRegistry {
    /// The numbers of a model's versions, ascending.
    pub fn versions(&self, model: &str) -> Result<Vec<u64>> {
        check_model_name(model)?;
        let folder = versions_folder(model);
        let keys = self.store.list(&folder)?;
        let number = |key: &String| key.strip_prefix(&folder)?.strip_suffix(DECISION)?.parse().ok();
        Ok(keys.iter().filter_map(number).collect())
    }

    /// Whether a model has a version of this number.
    ///
    /// # Errors
    /// If the registry can't be read.
    pub fn has(&self, model: &str, version: u64) -> Result<bool> {
        Ok(version < MOST_NUMBERS && self.store.get(&key(model, version, "version.json"))?.is_some())
    }

    /// Publishes a version of a model and returns its number. The first version becomes the champion.
    ///
    /// `publish_id` says what was made, and the card's `run` what made it. Publishing both again, after a crash at any moment
    /// or by another process, completes what is missing, and returns the number that it has already. What it costs does
    /// not depend on how many versions there are, and no file of another version need be whole.
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

    /// Publishes versions in their order, unless the newest that there are are these, and returns the number of the last.
    ///
    /// So a flow that is run again on the same rows publishes nothing, while one that is run again after another has
    /// published gives its versions new numbers: `@latest` is what was published last.
    pub fn publish_all(&self, model: &str, versions: Vec<(ModelCard, &[u8])>) -> Result<Option<u64>> {
        let publish_ids: Vec<_> = versions.iter().map(|(card, _)| card.publish_id.as_str()).collect();
        let newest = self.newest(model, &publish_ids)?;
        let mut last = newest.last().copied();
        if last.is_some() {
            // Whoever published them may not have come to that.
            self.crown_the_first(model)?;
        }
        for (card, bytes) in versions.into_iter().skip(newest.len()) {
            let publish_id = card.publish_id.clone();
            last = Some(self.publish(model, bytes, card, &publish_id)?);
        }
        Ok(last)
    }

    /// The numbers of the newest versions, as far back as they are the first of these publications.
    fn newest(&self, model: &str, publish_ids: &[&str]) -> Result<Vec<u64>> {
        let last = self.last_numbers(model)?.into_iter().max().unwrap_or(0);
        let first = last.saturating_sub(publish_ids.len() as u64) + 1;
        let published = |number| {
            let decision = self.read_json::<VersionFile>(&key(model, number, "version.json"));
            decision.ok().flatten().map(|decision| decision.publish_id)
        };
        let there: Vec<_> = (first..=last).map(published).collect();
        let are_first = |there: &[Option<String>]| {
            there.iter().zip(publish_ids).all(|(there, made)| there.as_deref() == Some(*made))
        };
        let start = (0..there.len()).find(|start| are_first(&there[*start..])).unwrap_or(there.len());
        Ok((first + start as u64..=last).collect())
    }

    /// The number of this publication: the one that it has, or the next free one.
    fn own_a_number(&self, card: &ModelCard) -> Result<u64> {
        // In this order: numbers up to the last are taken, and whoever has taken one had claimed it before.
        let before = self.last_numbers(&card.model)?;
        for number in self.numbers(&claims_folder(card))? {
            if self.is_owned_by(card, number)? {
                return Ok(number);
            }
        }
        let mut number = before.iter().max().map_or(1, |last| last + 1);
        while !self.own(card, number)? {
            number += 1;
        }
        self.store.put_new(&last_key(&card.model, number), b"")?;
        // What stays costs little, and is removed by the next publication.
        before.iter().for_each(|before| _ = self.store.delete(&last_key(&card.model, *before)));
        Ok(number)
    }

    /// Owns a number, unless it is another's.
    fn own(&self, card: &ModelCard, number: u64) -> Result<bool> {
        self.store.put_new(&format!("{}{number:08}", claims_folder(card)), b"")?;
        let card = ModelCard { version: number, ..card.clone() };
        let won = self.store.put_new(&key(&card.model, number, "card.json"), &to_json(&card)?)?;
        Ok(won || self.is_owned_by(&card, number)?)
    }

    /// Whether a number is this publication's. One whose card is damaged is nobody's.
    fn is_owned_by(&self, card: &ModelCard, number: u64) -> Result<bool> {
        let Some(bytes) = self.store.get(&key(&card.model, number, "card.json"))? else { return Ok(false) };
        let owner = serde_json::from_slice::<ModelCard>(&bytes);
        Ok(owner.is_ok_and(|owner| (owner.publish_id, owner.run) == (card.publish_id.clone(), card.run.clone())))
    }

    /// The highest number of a version that is there. Numbers are looked at from the last that is known to be taken: those behind it, of
    /// which there may be some, and then those before, which may not be whole yet.
    pub(super) fn newest_number(&self, model: &str) -> Result<Option<u64>> {
        let last = self.last_numbers(model)?.into_iter().max().unwrap_or(0);
        let mut newest = None;
        for number in last + 1.. {
            if self.store.get(&key(model, number, "card.json"))?.is_none() {
                break;
            }
            newest = if self.has(model, number)? { Some(number) } else { newest };
        }
        if newest.is_some() {
            return Ok(newest);
        }
        for number in (1..=last).rev() {
            if self.has(model, number)? {
                return Ok(Some(number));
            }
        }
        Ok(None)
    }

    /// Up to which number all are taken: the highest of these, and perhaps some behind it. Usually it is one.
    fn last_numbers(&self, model: &str) -> Result<Vec<u64>> {
        let last = self.numbers(&last_folder(model))?;
        if !last.is_empty() {
            return Ok(last);
        }
        Ok(self.numbers(&versions_folder(model))?.last().copied().into_iter().collect())
    }

    /// The numbers that keys of a folder begin with, ascending.
    fn numbers(&self, folder: &str) -> Result<Vec<u64>> {
        let keys = self.store.list(folder)?;
        let number = |key: &String| key.strip_prefix(folder)?.split('/').next()?.parse().ok();
        let mut numbers: Vec<u64> = keys.iter().filter_map(number).filter(|number| *number < MOST_NUMBERS).collect();
        numbers.dedup();
        Ok(numbers)
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

pub(super) fn versions_folder(model: &str) -> String {
    format!("{model}/versions/")
}

/// Where it is kept which numbers a publication has tried to own: the last that it tried is its own, or none yet.
fn claims_folder(card: &ModelCard) -> String {
    let id = sha256(format!("{}\n{}", card.publish_id, card.run).as_bytes());
    format!("{}/publications/{}/", card.model, &id[..32])
}

fn last_folder(model: &str) -> String {
    format!("{model}/last/")
}

fn last_key(model: &str, number: u64) -> String {
    format!("{}{number:08}", last_folder(model))
}

fn key(model: &str, version: u64, file: &str) -> String {
    format!("{}{version:08}/{file}", versions_folder(model))
}

pub(super) fn to_json(value: &impl Serialize) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(value).doing(|| "writing JSON")?;
    bytes.push(b'\n');
    Ok(bytes)
}
