//! A store in an object store: a key is an object.

use std::future::Future;
use std::sync::Arc;

use futures::TryStreamExt;
use millstream_core::{Result, ResultExt};
use object_store::path::Path;
use object_store::{Attribute, Attributes, GetOptions, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};

use crate::objects::object_error;
use crate::waiting::{new_mark, wait};
use crate::{Store, key};

/// Keeps each key in an object.
///
/// Objects are created with a condition, of which the service sees that only one of several succeeds. An answer may get lost
/// on its way, so that a repeated creation fails although the first one was ours. Therefore every object bears a mark that
/// says which call has created it, which is read back whenever a creation fails.
#[derive(Clone, Debug)]
pub struct RemoteStore {
    objects: Arc<dyn ObjectStore>,
    /// What all objects' names begin with, without a `/` at its end.
    prefix: String,
    /// For messages: what the user calls the place.
    location: String,
}

/// The name of an object's mark in its metadata. Azure takes no hyphen in it.
const MARK: Attribute = Attribute::Metadata(std::borrow::Cow::Borrowed("millstreamput"));

/// How often an object is created, where each time the outcome is unknown and the object is not there. Behind each of these,
/// the client has repeated what it can be sure of.
const ATTEMPTS: usize = 3;

impl RemoteStore {
    /// The store in an object store, below a prefix; `location` is what messages call it.
    pub fn new(objects: Arc<dyn ObjectStore>, prefix: &str, location: impl Into<String>) -> Self {
        Self { objects, prefix: prefix.trim_matches('/').to_owned(), location: location.into() }
    }

    fn path(&self, key: &str) -> Result<Path> {
        key::check(key)?;
        self.name(key).doing(|| format!("the key `{key}`"))
    }

    /// The name of the object, or of the folder if the key is one.
    fn name(&self, key: &str) -> Result<Path, object_store::path::Error> {
        Path::parse([&self.prefix, key].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/"))
    }

    /// The key of an object. None if it is none of ours.
    fn key(&self, path: &Path) -> Option<String> {
        let key = path.as_ref().strip_prefix(&self.prefix)?;
        let key = if self.prefix.is_empty() { key } else { key.strip_prefix('/')? };
        key::check(key).is_ok().then(|| key.to_owned())
    }

    /// Waits for what is done with the objects.
    fn wait<T, W>(&self, doing: &str, key: &str, work: impl FnOnce(Arc<dyn ObjectStore>) -> W) -> Result<T>
    where
        T: Send + 'static,
        W: Future<Output = object_store::Result<T>> + Send + 'static,
    {
        let done = wait(work(self.objects.clone()))?.map_err(|error| object_error(&error));
        done.doing(|| {
            if key.is_empty() {
                format!("{doing} `{}`", self.location)
            } else {
                format!("{doing} `{}/{key}`", self.location)
            }
        })
    }
}

impl Store for RemoteStore {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let path = self.path(key)?;
        self.wait("reading", key, |objects| async move {
            match objects.get(&path).await {
                Ok(found) => Ok(Some(found.bytes().await?.to_vec())),
                Err(object_store::Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        })
    }

    fn put_new(&self, key: &str, bytes: &[u8]) -> Result<bool> {
        let path = self.path(key)?;
        let mark = new_mark()?;
        let payload = PutPayload::from(bytes.to_vec());
        self.wait("writing", key, |objects| async move { create(&*objects, &path, payload, &mark).await })
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>> {
        let start = prefix.rfind('/').map_or("", |end| &prefix[..end]);
        let folder = if start.is_empty() { self.name(start).doing(|| "the prefix")? } else { self.path(start)? };
        let paths: Vec<Path> = self.wait("listing", start, |objects| async move {
            objects.list(Some(&folder)).map_ok(|object| object.location).try_collect().await
        })?;
        let mut keys: Vec<String> = paths.iter().filter_map(|path| self.key(path)).collect();
        keys.retain(|key| key.starts_with(prefix));
        keys.sort_unstable();
        Ok(keys)
    }

    fn delete(&self, key: &str) -> Result<()> {
        let path = self.path(key)?;
        self.wait("deleting", key, |objects| async move {
            match objects.delete(&path).await {
                Err(object_store::Error::NotFound { .. }) => Ok(()),
                deleted => deleted,
            }
        })
    }
}

/// Creates an object. False if somebody else has.
async fn create(objects: &dyn ObjectStore, path: &Path, payload: PutPayload, mark: &str) -> object_store::Result<bool> {
    let mut attempts = 1..ATTEMPTS;
    loop {
        let attributes = Attributes::from_iter([(MARK, mark.to_owned())]);
        let options = PutOptions { mode: PutMode::Create, attributes, ..PutOptions::default() };
        let Err(error) = objects.put_opts(path, payload.clone(), options).await else { return Ok(true) };
        match mark_of(objects, path).await? {
            Some(found) => return Ok(found == mark),
            // A repeated creation that comes before the first one makes that fail, so there is never a second object.
            None if attempts.next().is_some() => {}
            None => return Err(error),
        }
    }
}

/// The mark of an object, empty if it has none. None if there is no such object.
async fn mark_of(objects: &dyn ObjectStore, path: &Path) -> object_store::Result<Option<String>> {
    let options = GetOptions { head: true, ..GetOptions::default() };
    match objects.get_opts(path, options).await {
        Ok(found) => Ok(Some(found.attributes.get(&MARK).map(|mark| mark.to_string()).unwrap_or_default())),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
