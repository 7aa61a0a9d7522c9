//! What was found, for a while.
//!
//! Rows are in two generations. What is found goes into the young one, and so does what is asked for again of the old one. When the young one is half of
//! what may be remembered, it becomes the old one, and the old one is forgotten: so what is asked for often stays, at no cost for a row.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::compute::interleave_record_batch;
use millstream_core::Result;
use tokio::time::Instant;

/// A row of the table, if there is one: of a batch, this row. Or why it can't be used.
#[derive(Clone, Debug)]
pub enum Found {
    Row(Arc<RecordBatch>, usize),
    None,
    Bad(Arc<str>),
}

/// Something that was found, and when.
#[derive(Clone, Debug)]
struct Entry {
    found: Found,
    at: Instant,
}

type Generation = HashMap<Box<[u8]>, Entry, foldhash::fast::FixedState>;

/// Remembers what was found.
pub struct Cache {
    time: Duration,
    most: usize,
    young: Generation,
    old: Generation,
}

impl Cache {
    /// One for so many rows, each of which is remembered for so long.
    pub fn new(time: Duration, rows: usize) -> Self {
        Self { time, most: (rows / 2).max(1), young: Generation::default(), old: Generation::default() }
    }

    /// What is known of a key.
    pub fn get(&mut self, key: &[u8], now: Instant) -> Option<Found> {
        let is_fresh = |entry: &Entry| now.duration_since(entry.at) < self.time;
        if let Some(entry) = self.young.get(key) {
            return is_fresh(entry).then(|| entry.found.clone());
        }
        let (key, entry) = self.old.remove_entry(key)?;
        if !is_fresh(&entry) {
            return None;
        }
        let found = entry.found.clone();
        self.young.insert(key, entry);
        Some(found)
    }

    /// Remembers what was found.
    pub fn put(&mut self, key: Box<[u8]>, found: Found, at: Instant) {
        if !self.time.is_zero() {
            self.young.insert(key, Entry { found, at });
        }
    }

    /// Forgets the old rows if there are enough young ones. These are put together, so that no batch stays of which few rows are left.
    pub fn tidy(&mut self) -> Result<()> {
        if self.young.len() < self.most {
            return Ok(());
        }
        self.old = std::mem::take(&mut self.young);
        let rows = self.old.values_mut().filter_map(|entry| match &mut entry.found {
            Found::Row(batch, row) => Some((batch, row)),
            Found::None | Found::Bad(_) => None,
        });
        let mut rows: Vec<_> = rows.collect();
        let batches: Vec<Arc<RecordBatch>> = rows.iter().map(|(batch, _)| Arc::clone(batch)).collect();
        let places: Vec<(usize, usize)> = rows.iter().enumerate().map(|(index, (_, row))| (index, **row)).collect();
        if places.is_empty() {
            return Ok(());
        }
        let together =
            Arc::new(interleave_record_batch(&batches.iter().map(Arc::as_ref).collect::<Vec<_>>(), &places)?);
        for (index, (batch, row)) in rows.iter_mut().enumerate() {
            **batch = together.clone();
            **row = index;
        }
        Ok(())
    }

    /// How many rows are remembered.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use millstream_testkit::{rows_as_text, table};

    use super::*;

    fn row(number: i64) -> Found {
        Found::Row(Arc::new(table(&format!("n:int64\n{number}\n-1"))), 0)
    }

    fn text(found: Option<Found>) -> Option<String> {
        match found? {
            Found::Row(batch, row) => Some(rows_as_text([&batch.slice(row, 1)])),
            Found::None => Some("none".to_owned()),
            Found::Bad(why) => Some(why.to_string()),
        }
    }

    #[test]
    fn what_is_asked_for_stays_and_what_is_old_goes() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let mut cache = Cache::new(10 * second, 4);
        cache.put(Box::from(*b"a"), row(1), now);
        cache.put(Box::from(*b"b"), Found::None, now);
        cache.tidy().unwrap();
        assert_eq!(text(cache.get(b"a", now)), Some("n:int64\n1\n".to_owned()));
        cache.put(Box::from(*b"c"), row(3), now + 5 * second);
        cache.tidy().unwrap();
        assert_eq!(text(cache.get(b"b", now)), None, "nobody has asked for it");
        assert_eq!(text(cache.get(b"a", now + 9 * second)), Some("n:int64\n1\n".to_owned()));
        assert_eq!(text(cache.get(b"a", now + 10 * second)), None, "it is too old");
        assert_eq!(text(cache.get(b"c", now + 10 * second)), Some("n:int64\n3\n".to_owned()));
        assert!(cache.len() <= 4);
    }

    #[test]
    fn without_time_nothing_is_remembered() {
        let now = Instant::now();
        let mut cache = Cache::new(Duration::ZERO, 4);
        cache.put(Box::from(*b"a"), row(1), now);
        assert!(cache.get(b"a", now).is_none() && cache.len() == 0);
    }
}
