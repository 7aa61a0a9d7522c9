//! What is kept of flows through restarts of the process: what is wanted of each, and all of its texts.
//!
//! A flow `fraud` has the keys `fraud/revisions/00000007.json`, which never change, and `fraud/wanted/00000012.json`, of which the one
//! with the highest number counts. Nothing is overwritten, so that a crash at any place leaves what was wanted before or afterwards.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use millstream_core::{Error, Result, ResultExt as _};
use millstream_store::{LocalStore, Store};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::launch::FlowSource;
use crate::time::Timestamp;

/// Who says what a flow is like. It has one owner, so that neither undoes what the other has said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Owner {
    /// A file of the folder of flows.
    File {
        /// The file.
        path: PathBuf,
    },
    /// Whoever may change flows over the API.
    Api,
}

/// What somebody wants of a flow, through restarts of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Desired {
    /// That it runs.
    Running,
    /// That it does not.
    Stopped,
}

/// A text of a flow, and how it came to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Revision {
    /// Which, counted from 1 for each flow.
    pub number: u64,
    /// Since when it is there.
    pub at: Timestamp,
    /// Who has written it.
    pub author: String,
    /// What for.
    pub message: Option<String>,
    /// The file that paths of inputs are relative to.
    pub path: PathBuf,
    /// The text.
    pub text: String,
}

/// What is wanted of a flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Who says what the flow is like.
    pub owner: Owner,
    /// Whether it is to run.
    pub desired: Desired,
    /// From which text.
    pub revision: u64,
    /// The text that it goes back to if it fails before its first checkpoint with the new one.
    pub fallback: Option<u64>,
    /// The nodes that start from scratch with the new one, once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resets: Vec<String>,
}

impl Revision {
    /// The same, as a flow is launched from it.
    pub fn source(&self) -> FlowSource {
        FlowSource { path: self.path.clone(), text: self.text.as_str().into() }
    }
}

/// How many texts of a flow are kept.
const REVISIONS: usize = 200;

/// Keeps what is wanted of flows, and their texts. Its methods wait for a disk.
pub struct FlowStore {
    store: LocalStore,
}

impl FlowStore {
    /// Keeps them in a folder, which is made when there is something to keep.
    pub fn new(folder: PathBuf) -> Self {
        Self { store: LocalStore::private(folder) }
    }

    /// Those of a host that keeps what it knows in this folder.
    pub fn of_host(folder: &Path) -> Self {
        Self::new(folder.join("flows"))
    }

    /// All flows of which something is wanted.
    pub fn flows(&self) -> Result<Vec<(String, Wanted)>> {
        let keys = self.store.list("")?;
        let names: BTreeSet<&str> = keys.iter().filter_map(|key| key.split_once("/wanted/")).map(|key| key.0).collect();
        let wanted = names.into_iter().map(|flow| Ok(self.wanted(flow)?.map(|wanted| (flow.to_owned(), wanted))));
        wanted.filter_map(Result::transpose).collect()
    }

    /// What is wanted of a flow.
    pub fn wanted(&self, flow: &str) -> Result<Option<Wanted>> {
        let last = self.store.list(&format!("{flow}/wanted/"))?.pop();
        last.map_or(Ok(None), |key| self.read(&key))
    }

    /// From now on, this is wanted of a flow.
    pub fn want(&self, flow: &str, wanted: &Wanted) -> Result<()> {
        let folder = format!("{flow}/wanted/");
        let former = self.store.list(&folder)?;
        self.append(&folder, &former, |_| wanted.clone())?;
        former.iter().try_for_each(|key| self.store.delete(key))
    }

    /// Nothing is wanted of a flow any more. Its texts stay.
    pub fn forget(&self, flow: &str) -> Result<()> {
        self.store.list(&format!("{flow}/wanted/"))?.iter().try_for_each(|key| self.store.delete(key))
    }

    /// Keeps a text of a flow. The one before is given back if nothing differs.
    pub fn add_revision(
        &self,
        flow: &str,
        source: &FlowSource,
        author: &str,
        message: Option<&str>,
        again: bool,
    ) -> Result<Revision> {
        let folder = format!("{flow}/revisions/");
        let former = self.store.list(&folder)?;
        let last: Option<Revision> = former.last().map_or(Ok(None), |key| self.read(key))?;
        if let Some(last) = last.filter(|last| !again && last.source() == *source) {
            return Ok(last);
        }
        let revision = self.append(&folder, &former, |number| Revision {
            number,
            at: Timestamp::now(),
            author: author.to_owned(),
            message: message.map(str::to_owned),
            path: source.path.clone(),
            text: source.text.to_string(),
        })?;
        self.remove_old(flow, &former)?;
        Ok(revision)
    }

    /// A text of a flow.
    pub fn revision(&self, flow: &str, number: u64) -> Result<Option<Revision>> {
        self.read(&format!("{flow}/revisions/{number:08}.json"))
    }

    /// The texts of a flow, the newest first.
    pub fn revisions(&self, flow: &str) -> Result<Vec<Revision>> {
        let keys = self.store.list(&format!("{flow}/revisions/"))?;
        keys.iter().rev().filter_map(|key| self.read(key).transpose()).collect()
    }

    /// Removes the oldest texts of a flow, but not those that somebody wants.
    fn remove_old(&self, flow: &str, keys: &[String]) -> Result<()> {
        let wanted = self.wanted(flow)?;
        let is_wanted = |key: &str| {
            let number = number_of(key);
            wanted.as_ref().is_some_and(|wanted| number == Some(wanted.revision) || number == wanted.fallback)
        };
        let surplus = keys.len().saturating_sub(REVISIONS - 1);
        keys.iter().take(surplus).filter(|key| !is_wanted(key)).try_for_each(|key| self.store.delete(key))
    }

    /// Creates the next key of a folder, of which these are there.
    fn append<T: Serialize>(&self, folder: &str, former: &[String], value: impl Fn(u64) -> T) -> Result<T> {
        let mut number = former.last().and_then(|key| number_of(key)).unwrap_or_default() + 1;
        loop {
            let value = value(number);
            let bytes = serde_json::to_vec(&value).map_err(|error| Error::caused_by("keeping a flow", error))?;
            if self.store.put_new(&format!("{folder}{number:08}.json"), &bytes)? {
                return Ok(value);
            }
            number += 1;
        }
    }

    fn read<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        let Some(bytes) = self.store.get(key)? else { return Ok(None) };
        let value = serde_json::from_slice(&bytes);
        value.map(Some).doing(|| format!("`{key}` of the kept flows is damaged"))
    }
}

/// The number in a key.
fn number_of(key: &str) -> Option<u64> {
    key.rsplit('/').next()?.strip_suffix(".json")?.parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn source(text: &str) -> FlowSource {
        FlowSource { path: "fraud.toml".into(), text: text.into() }
    }

    #[test]
    fn what_is_wanted_and_all_texts_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let open = || FlowStore::new(folder.path().join("flows"));
        assert_eq!(open().flows().unwrap(), []);
        let first = open().add_revision("fraud", &source("a"), "ada", Some("begin"), false).unwrap();
        assert_eq!(open().add_revision("fraud", &source("a"), "bob", None, false).unwrap(), first, "nothing differs");
        let second = open().add_revision("fraud", &source("b"), "bob", None, false).unwrap();
        assert_eq!((first.number, second.number), (1, 2));
        let mut wanted = Wanted {
            owner: Owner::Api,
            desired: Desired::Running,
            revision: 2,
            fallback: Some(1),
            resets: vec!["b".into()],
        };
        open().want("fraud", &wanted).unwrap();
        wanted.desired = Desired::Stopped;
        open().want("fraud", &wanted).unwrap();
        assert_eq!(open().flows().unwrap(), [("fraud".to_owned(), wanted)]);
        assert_eq!(open().revision("fraud", 1).unwrap().unwrap().text, "a");
        open().forget("fraud").unwrap();
        assert_eq!(open().flows().unwrap(), []);
        assert_eq!(open().revisions("fraud").unwrap(), [second, first]);
    }

    #[test]
    fn old_texts_are_removed_but_not_those_that_somebody_wants() {
        let folder = tempfile::tempdir().unwrap();
        let store = FlowStore::new(folder.path().to_owned());
        store.add_revision("fraud", &source("first"), "ada", None, false).unwrap();
        let wanted =
            Wanted { owner: Owner::Api, desired: Desired::Running, revision: 1, fallback: None, resets: Vec::new() };
        store.want("fraud", &wanted).unwrap();
        for number in 0..REVISIONS + 3 {
            store.add_revision("fraud", &source(&number.to_string()), "ada", None, false).unwrap();
        }
        let numbers: Vec<u64> = store.revisions("fraud").unwrap().iter().map(|revision| revision.number).collect();
        assert_eq!((numbers[0], numbers.len()), (REVISIONS as u64 + 4, REVISIONS + 1));
        assert_eq!(numbers.last(), Some(&1));
    }

    #[test]
    fn what_is_damaged_is_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("fraud/wanted")).unwrap();
        std::fs::write(folder.path().join("fraud/wanted/00000001.json"), "{").unwrap();
        let error = FlowStore::new(folder.path().to_owned()).flows().unwrap_err().to_string();
        assert!(error.contains("`fraud/wanted/00000001.json` of the kept flows is damaged"), "{error}");
    }
}
