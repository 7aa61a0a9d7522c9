//! The keys of what may come again: what was answered to each, so that none is written twice.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Serialize, Serializer};

/// How much memory a key takes besides its text, about: it is in two maps.
const OVERHEAD: usize = 200;

/// What a sender calls something that it may have to send again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key(Arc<str>);

impl Key {
    /// How many bytes a key may have.
    pub const MAX: usize = 255;

    /// A key. None if it has no bytes, or too many, or characters that control something.
    pub fn new(key: &str) -> Option<Self> {
        let is_key = (1..=Self::MAX).contains(&key.len()) && !key.contains(char::is_control);
        is_key.then(|| Self(key.into()))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What was answered to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    /// The position of its first row.
    pub first: u64,
    /// How many rows it had.
    pub rows: u32,
    /// What its bytes are known by.
    pub fingerprint: u64,
}

/// What is known of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Nothing, until now: its request is the one to write.
    New,
    /// Its request is being written.
    Writing,
    /// Its request is durable.
    Answered(Answered),
}

/// For how long keys are remembered.
#[derive(Clone, Copy, Debug, Default)]
pub struct Remember {
    /// For so long, if there is memory for them.
    pub time: Duration,
    /// How much memory they may take; the oldest ones are forgotten earlier if it is not enough.
    pub bytes: usize,
}

/// When something was answered, in seconds since 1970.
pub type Seconds = u64;

/// What time it is.
#[expect(
    clippy::disallowed_methods,
    reason = "keys are remembered from run to run, which only the clock of the machine can tell"
)]
pub fn now() -> Seconds {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The keys of the last requests.
#[derive(Debug)]
pub struct Keys {
    remember: Remember,
    /// How much memory those that are answered take.
    bytes: usize,
    by_key: HashMap<Key, Known>,
    /// Those that are answered, by the positions of their first rows, which is the order in which they were.
    by_first: BTreeMap<u64, Entry>,
}

/// An answered request.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    key: Key,
    rows: u32,
    fingerprint: u64,
    at: Seconds,
}

impl Keys {
    /// Has none so far.
    pub fn new(remember: Remember) -> Self {
        Self { remember, bytes: 0, by_key: HashMap::new(), by_first: BTreeMap::new() }
    }

    /// A request with this key has come. If it is new, it must be answered or forgotten.
    pub fn come(&mut self, key: &Key, now: Seconds) -> Known {
        self.forget_old(now);
        match self.by_key.get(key) {
            Some(known) => *known,
            None => {
                self.by_key.insert(key.clone(), Known::Writing);
                Known::New
            }
        }
    }

    /// The request with this key could not be written.
    pub fn forget(&mut self, key: &Key) {
        if self.by_key.get(key) == Some(&Known::Writing) {
            self.by_key.remove(key);
        }
    }

    /// The request with this key is durable. May be said more than once.
    pub fn answered(&mut self, key: &Key, answered: Answered, at: Seconds) {
        if let Some(Known::Answered(before)) = self.by_key.insert(key.clone(), Known::Answered(answered))
            && self.by_first.remove(&before.first).is_some()
        {
            self.bytes -= cost(key);
        }
        let Answered { first, rows, fingerprint } = answered;
        self.by_first.insert(first, Entry { key: key.clone(), rows, fingerprint, at });
        self.bytes += cost(key);
        self.forget_old(at);
    }

    /// Forgets those whose time has come, and the oldest ones if all are too many.
    fn forget_old(&mut self, now: Seconds) {
        while let Some(oldest) = self.by_first.first_entry() {
            let age = now.saturating_sub(oldest.get().at);
            if age <= self.remember.time.as_secs() && self.bytes <= self.remember.bytes {
                return;
            }
            let Entry { key, .. } = oldest.remove();
            self.bytes -= cost(&key);
            self.by_key.remove(&key);
        }
    }

    /// Those of the requests that begin before `position`.
    pub fn before(&self, position: u64) -> Kept {
        Kept(self.by_first.range(..position).map(|(first, entry)| (*first, entry.clone())).collect())
    }

    /// Takes in what was kept.
    pub fn restore(&mut self, kept: Vec<Remembered>) {
        for (key, first, rows, fingerprint, at) in kept {
            if let Some(key) = Key::new(&key) {
                self.answered(&key, Answered { first, rows, fingerprint }, at);
            }
        }
    }
}

/// How much memory a key takes, about.
fn cost(key: &Key) -> usize {
    key.as_str().len() + OVERHEAD
}

/// The keys, for all who need them.
#[derive(Clone)]
pub struct SharedKeys(Arc<Mutex<Keys>>);

impl SharedKeys {
    /// Has none so far.
    pub fn new(remember: Remember) -> Self {
        Self(Arc::new(Mutex::new(Keys::new(remember))))
    }

    /// The keys, for a moment.
    pub fn lock(&self) -> MutexGuard<'_, Keys> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A key in a state, the first row and the number of rows of its request, what its bytes are known by, and when it was answered.
pub type Remembered = (String, u64, u32, u64, Seconds);

/// Keys on their way to a snapshot.
pub struct Kept(Vec<(u64, Entry)>);

impl Serialize for Kept {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let kept = |(first, entry): &(u64, Entry)| {
            let Entry { key, rows, fingerprint, at } = entry;
            (key.as_str().to_owned(), *first, *rows, *fingerprint, *at)
        };
        serializer.collect_seq(self.0.iter().map(kept))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        Key::new(text).unwrap()
    }

    fn keys(seconds: u64, count: usize) -> Keys {
        Keys::new(Remember { time: Duration::from_secs(seconds), bytes: count * cost(&key("a")) })
    }

    fn answered(first: u64) -> Answered {
        Answered { first, rows: 10, fingerprint: 7 }
    }

    #[test]
    fn those_for_which_there_is_memory_are_remembered_and_those_that_failed_are_not() {
        let mut keys = keys(60, 2);
        let names = ["a", "b", "c"].map(key);
        assert_eq!((keys.come(&names[0], 0), keys.come(&names[0], 0)), (Known::New, Known::Writing));
        keys.forget(&names[0]);
        for (first, name) in names.iter().enumerate() {
            assert_eq!(keys.come(name, 0), Known::New);
            let answered = answered(first as u64 * 10);
            keys.answered(name, answered, 0);
            keys.answered(name, answered, 0);
            keys.forget(name);
            assert_eq!(keys.come(name, 0), Known::Answered(answered));
        }
        let kept: Vec<_> = keys.before(20).0.into_iter().map(|(first, entry)| (first, entry.key)).collect();
        assert_eq!(kept, [(10, names[1].clone())]);
        assert_eq!(keys.come(&names[0], 0), Known::New);
    }

    #[test]
    fn they_are_forgotten_when_their_time_has_come() {
        let mut keys = keys(60, 100);
        let [early, late] = ["early", "late"].map(key);
        keys.answered(&early, answered(0), 1000);
        keys.answered(&late, answered(10), 1050);
        assert_eq!(keys.come(&early, 1060), Known::Answered(answered(0)));
        assert_eq!(keys.come(&early, 1061), Known::New);
        assert_eq!(keys.come(&late, 1110), Known::Answered(answered(10)));
        // Their age counts on after a restart.
        let bytes = postcard::to_allocvec(&keys.before(u64::MAX)).unwrap();
        let mut restored = self::keys(60, 100);
        restored.restore(postcard::from_bytes(&bytes).unwrap());
        assert_eq!(restored.come(&late, 1110), Known::Answered(answered(10)));
        assert_eq!(restored.come(&late, 1111), Known::New);
        assert_eq!(restored.bytes, 0);
    }
}
