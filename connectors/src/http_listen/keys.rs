//! The keys of requests that may come again: what was answered to each, so that none is written twice.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Serialize, Serializer};

/// What was answered to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    /// The position of its first row.
    pub first: u64,
    /// How many rows it had.
    pub rows: u32,
    /// What its body is known by.
    pub body: u64,
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

/// The keys of the last requests.
#[derive(Debug)]
pub struct Keys {
    /// How many are remembered.
    limit: usize,
    by_key: HashMap<Arc<str>, Known>,
    /// Those that are answered, by the positions of their first rows.
    by_first: BTreeMap<u64, (Arc<str>, u32, u64)>,
}

impl Keys {
    /// Remembers so many, and none so far.
    pub fn new(limit: usize) -> Self {
        Self { limit, by_key: HashMap::new(), by_first: BTreeMap::new() }
    }

    /// A request with this key has come. If it is new, it must be answered or forgotten.
    pub fn come(&mut self, key: &Arc<str>) -> Known {
        match self.by_key.get(key) {
            Some(known) => *known,
            None => {
                self.by_key.insert(key.clone(), Known::Writing);
                Known::New
            }
        }
    }

    /// The request with this key could not be written.
    pub fn forget(&mut self, key: &str) {
        if self.by_key.get(key) == Some(&Known::Writing) {
            self.by_key.remove(key);
        }
    }

    /// The request with this key is durable. May be said more than once.
    pub fn answered(&mut self, key: &Arc<str>, answered: Answered) {
        let before = self.by_key.insert(key.clone(), Known::Answered(answered));
        if let Some(Known::Answered(before)) = before {
            self.by_first.remove(&before.first);
        }
        self.by_first.insert(answered.first, (key.clone(), answered.rows, answered.body));
        while self.by_first.len() > self.limit {
            let Some((_, (oldest, ..))) = self.by_first.pop_first() else { return };
            self.by_key.remove(&oldest);
        }
    }

    /// Those of the requests that begin before `position`.
    pub fn before(&self, position: u64) -> Kept {
        let kept = self.by_first.range(..position);
        Kept(kept.map(|(first, (key, rows, body))| (key.clone(), *first, *rows, *body)).collect())
    }

    /// Takes in what was kept.
    pub fn restore(&mut self, kept: Vec<(String, u64, u32, u64)>) {
        for (key, first, rows, body) in kept {
            self.answered(&key.into(), Answered { first, rows, body });
        }
    }
}

/// Keys on their way to a snapshot.
pub struct Kept(Vec<(Arc<str>, u64, u32, u64)>);

impl Serialize for Kept {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|(key, first, rows, body)| (&**key, first, rows, body)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_last_are_remembered_and_those_that_failed_are_not() {
        let mut keys = Keys::new(2);
        let names: Vec<Arc<str>> = ["a", "b", "c"].map(Arc::from).to_vec();
        assert_eq!((keys.come(&names[0]), keys.come(&names[0])), (Known::New, Known::Writing));
        keys.forget("a");
        for (first, name) in names.iter().enumerate() {
            assert_eq!(keys.come(name), Known::New);
            let answered = Answered { first: first as u64 * 10, rows: 10, body: 7 };
            keys.answered(name, answered);
            keys.answered(name, answered);
            keys.forget(name);
            assert_eq!(keys.come(name), Known::Answered(answered));
        }
        assert_eq!(keys.before(20).0, [(names[1].clone(), 10, 10, 7)]);
        assert_eq!(keys.come(&names[0]), Known::New);
    }
}
