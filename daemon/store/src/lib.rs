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
#[cfg(feature = "mongodb")]
mod mongodb;
#[cfg(feature = "object-store")]
mod objects;
#[cfg(feature = "object-store")]
mod remote;
pub mod simulation;
#[cfg(any(feature = "object-store", feature = "mongodb"))]
mod waiting;

use std::path::Path;

use millstream_core::{Error, Result};

pub use files::{Access, Entry, Files, LocalFiles, NewFile, create_durable_folder};
pub use local::LocalStore;
pub use log::{Log, LogFollower, LogMark, LogMarks, LogOptions, LogReader, Mark, NotAppended, Record, verify_log};
#[cfg(feature = "mongodb")]
pub use mongodb::MongoStore;
#[cfg(feature = "object-store")]
pub use objects::{Objects, ObjectsAddress, ObjectsOptions, Retries, Scheme, object_error};
#[cfg(feature = "object-store")]
pub use remote::RemoteStore;

/// Keeps bytes under keys: relative paths with `/` between their parts, such as `fraud/versions/00000003/card.json`.
///
/// No part of a key may be empty or begin with a dot.
/// ```
/// let folder = tempfile::tempdir()?;
/// let store = millstream_store::open("models", folder.path())?;
///
/// // Of all who create a key, one wins.
/// assert!(store.put_new("fraud/owner", b"this process")?);
/// assert!(!store.put_new("fraud/owner", b"another one")?);
/// assert_eq!(store.get("fraud/owner")?.as_deref(), Some(&b"this process"[..]));
/// assert_eq!(store.list("fraud/")?, ["fraud/owner"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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

/// Opens the store at `location`: a path, relative to `work_folder`, or a URL such as `s3://bucket/models`,
/// `gs://bucket/models`, `az://container/models` or `mongodb://host/database`. Nothing is created
/// before the first `put_new`.
pub fn open(location: &str, work_folder: &Path) -> Result<Box<dyn Store>> {
    match local_folder(location) {
        Some(folder) if folder.as_os_str().is_empty() => {
            Err(Error::new("the location of the store is empty; it should be a folder such as `models`"))
        }
        Some(folder) => Ok(Box::new(LocalStore::new(work_folder.join(folder)))),
        None => open_remote(location),
    }
}

/// The folder that a location is. None if it is the URL of something else.
pub fn local_folder(location: &str) -> Option<&Path> {
    let path = location.strip_prefix("file://").unwrap_or(location);
    (!path.contains("://")).then(|| Path::new(path))
}

fn open_remote(location: &str) -> Result<Box<dyn Store>> {
    let scheme = location.split("://").next().unwrap_or_default();
    match scheme {
        #[cfg(feature = "object-store")]
        "s3" | "gs" | "az" => {
            let objects = Objects::open(location, &ObjectsOptions::default())?;
            Ok(Box::new(RemoteStore::new(objects.store, &objects.prefix, objects.location)))
        }
        #[cfg(not(feature = "object-store"))]
        "s3" | "gs" | "az" => {
            Err(Error::new("this program was built without object stores (the feature `object-store`)"))
        }
        #[cfg(feature = "mongodb")]
        "mongodb" => Ok(Box::new(MongoStore::open(location)?)),
        #[cfg(not(feature = "mongodb"))]
        "mongodb" => Err(Error::new("this program was built without MongoDB (the feature `mongodb`)")),
        _ => Err(Error::new(format!(
            "`{scheme}://` is not supported; a location is a folder such as `models`, or `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX`, \
             `az://CONTAINER/PREFIX` or `mongodb://HOST/DATABASE`"
        ))),
    }
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
    fn a_url_of_a_file_is_a_path() {
        assert_eq!(local_folder("file:///var/models"), Some(Path::new("/var/models")));
        assert_eq!(local_folder("s3://bucket/models"), None);
    }

    #[test]
    fn other_schemes_are_refused_by_name() {
        let error = open("ftp://host/models", Path::new(".")).err().unwrap().to_string();
        assert!(error.contains("`ftp://` is not supported; a location is a folder such as `models`, or"), "{error}");
    }
}
