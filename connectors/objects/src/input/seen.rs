//! Which objects were read, so that each is read once.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_core::{Parts, Result, ResultExt as _, State};
use serde::{Deserialize, Serialize};

use super::listing::{Found, Version};

/// What is known of an object that was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// What it was.
    pub version: Version,
    /// How many rows its partition has.
    pub rows: u64,
}

/// The objects that were read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// By their names. Shared with snapshots that are being written.
    objects: Arc<BTreeMap<String, Read>>,
    /// What was changed before this time is taken for read, in microseconds since 1970.
    horizon: Option<i64>,
}

/// What a listing says of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// It was read.
    Known,
    /// It is new.
    New,
    /// It was read, with so many rows, and is another one now.
    Changed(u64),
}

const OBJECTS: &str = "seen";
const HORIZON: &str = "horizon";

impl Seen {
    /// An object was read to its end, or to where nothing more of it is read.
    pub fn insert(&mut self, found: Found, rows: u64) {
        Arc::make_mut(&mut self.objects).insert(found.name, Read { version: found.version, rows });
    }

    /// What is known of the object of a name.
    pub fn find(&self, name: &str) -> Option<&Read> {
        self.objects.get(name)
    }

    /// Knows of an object again what it knew before.
    pub fn put_back(&mut self, name: &str, before: Option<Read>) {
        if self.objects.get(name) == before.as_ref() {
            return;
        }
        let objects = Arc::make_mut(&mut self.objects);
        match before {
            Some(before) => objects.insert(name.to_owned(), before),
            None => objects.remove(name),
        };
    }

    /// Whether an object is the one that was read.
    pub fn look_up(&self, found: &Found) -> News {
        match self.objects.get(&found.name) {
            Some(read) if read.version.is(&found.version) => News::Known,
            Some(read) => News::Changed(read.rows),
            None if self.horizon.is_some_and(|horizon| found.version.modified < horizon) => News::Known,
            None => News::New,
        }
    }

    /// All that a listing had was read, of which the newest is of this time: what is older by more than so much is forgotten.
    pub fn forget(&mut self, newest: i64, lookback: i64) {
        let horizon = self.horizon.unwrap_or(i64::MIN).max(newest.saturating_sub(lookback));
        if self.objects.values().any(|read| read.version.modified < horizon) {
            Arc::make_mut(&mut self.objects).retain(|_, read| read.version.modified >= horizon);
        }
        self.horizon = Some(horizon);
    }

    /// Writes it down.
    pub fn put(&self, parts: &mut Parts) -> Result<()> {
        let objects = self.objects.clone();
        parts.put_bytes_later(OBJECTS, move || postcard::to_allocvec(&*objects).doing(|| "checkpointing objects"));
        parts.put(HORIZON, &self.horizon)
    }

    /// What was written down.
    pub fn get(state: &State) -> Result<Self> {
        Ok(Self { objects: Arc::new(state.get(OBJECTS)?), horizon: state.get(HORIZON)? })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn found(name: &str, etag: &str, modified: i64) -> Found {
        Found { name: name.to_owned(), version: Version { etag: Some(etag.to_owned()), size: 1, modified } }
    }

    #[test]
    fn each_object_is_new_once() {
        let mut seen = Seen::default();
        assert_eq!(seen.look_up(&found("a", "1", 10)), News::New);
        seen.insert(found("a", "1", 10), 7);
        assert_eq!(seen.look_up(&found("a", "1", 10)), News::Known);
        assert_eq!(seen.look_up(&found("a", "2", 11)), News::Changed(7));
        let mut parts = Parts::default();
        seen.put(&mut parts).unwrap();
        assert_eq!(Seen::get(&parts.into_state().unwrap()).unwrap(), seen);
    }

    #[test]
    fn what_is_old_is_forgotten_and_taken_for_read() {
        let mut seen = Seen::default();
        seen.insert(found("old", "1", 10), 7);
        seen.insert(found("new", "1", 100), 7);
        seen.forget(100, 20);
        assert_eq!(seen.objects.len(), 1);
        assert_eq!(seen.look_up(&found("old", "1", 10)), News::Known);
        assert_eq!(seen.look_up(&found("late", "1", 79)), News::Known);
        assert_eq!(seen.look_up(&found("late", "1", 80)), News::New);
        seen.forget(50, 20);
        assert_eq!(seen.look_up(&found("late", "1", 79)), News::Known, "the horizon does not go back");
    }
}
