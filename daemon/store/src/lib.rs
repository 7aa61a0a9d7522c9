//! Durable bytes by name: what checkpoints and models are kept in.
//!
//! The one operation that everything rests on is [`Store::put_new`]: of several processes that create the same key,
//! exactly one wins, and what it wrote is either there whole and for good or not at all. Nothing is ever overwritten.
//!
//! Beside it there is the [`Log`], for inputs that can't be asked for the same rows again.

pub mod crash;
mod files;
mod key;
mod local;
mod log;

#[cfg(any(test, feature = "simulation"))]
pub mod simulation;

use std::path::Path;

use millstream_core::{Error, Result};

pub use files::{Entry, Files, LocalFiles, NewFile};
pub use local::LocalStore;
pub use log::{Log, LogOptions, LogReader, Record};

/// Keeps bytes under keys: relative paths with `/` between their parts, such as `fraud/versions/00000003/card.json`.
///
/// No part of a key may be empty or begin with a dot.
pub trait Store: Send + Sync {
    /// The bytes of a key, or `None` if there is no such key.
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>>;

    /// Creates a key. `false` if it is there already, which is then left as it is.
    ///
    /// Atomic among threads and processes, and durable when it returns: not even a crash of the machine undoes it.
    fn put_new(&self, key: &str, bytes: &[u8]) -> Result<bool>;

    /// The keys that begin with `prefix` (any text, empty for all), sorted.
    fn list(&self, prefix: &str) -> Result<Vec<String>>;

    /// Removes a key, for good when it returns. A key that is not there is no error.
    fn delete(&self, key: &str) -> Result<()>;
}

/// Opens the store at `location`: a path, relative to `work_folder`. Nothing is created before the first `put_new`.
pub fn open(location: &str, work_folder: &Path) -> Result<Box<dyn Store>> {
    let location = location.strip_prefix("file://").unwrap_or(location);
    if let Some((scheme, _)) = location.split_once("://") {
        return Err(Error::new(format!(
            "`{location}` can't be opened: `{scheme}` is not supported so far, only local folders such as `models`"
        )));
    }
    if location.is_empty() {
        return Err(Error::new("the location of the store is empty; it should be a folder such as `models`"));
    }
    Ok(Box::new(LocalStore::new(work_folder.join(location))))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_relative_to_the_work_folder() {
        let folder = tempfile::tempdir().unwrap();
        open("models", folder.path()).unwrap().put_new("a", b"1").unwrap();
        assert_eq!(std::fs::read(folder.path().join("models/a")).unwrap(), b"1");
    }

    #[test]
    fn a_url_is_refused_by_its_scheme() {
        let error = open("s3://bucket/models", Path::new(".")).err().unwrap().to_string();
        assert!(error.contains("`s3` is not supported so far, only local folders"), "{error}");
    }
}
