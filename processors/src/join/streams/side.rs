//! What one side of a join of streams keeps: the rows that others may still meet.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::ArrayRef;
use foldhash::fast::RandomState;
use millstream_core::EventTime;

use crate::rows::BATCH_ROWS;

/// What one side keeps.
pub struct Side {
    /// The columns of the key.
    pub keys: Vec<usize>,
    pub time: usize,
    /// The columns that come out.
    pub taken: Vec<usize>,
    pub batches: BTreeMap<u64, Held>,
    /// In the order of their times, and of places where these are the same.
    pub by_key: HashMap<Box<[u8]>, VecDeque<Entry>, RandomState>,
    /// All of `by_key` in that order, in which they are forgotten; and some that have left before.
    pub expiry: BinaryHeap<Reverse<Expiry>>,
    pub rows: usize,
    pub next: u64,
}

/// The columns of a batch that come out, and how many of its rows are still kept.
pub struct Held {
    pub columns: Arc<[ArrayRef]>,
    pub rows: usize,
}

/// The columns of a batch, and a place in them.
pub type Row = (Arc<[ArrayRef]>, usize);

/// Where a row is: the number of its batch, and its place there.
pub type Place = (u64, usize);

/// The time of a row, the row, and its key.
pub type Expiry = (EventTime, Place, Box<[u8]>);

#[derive(Clone, Copy)]
pub struct Entry {
    pub time: EventTime,
    pub place: Place,
    pub matched: bool,
}

impl Entry {
    /// What entries are ordered by.
    fn order(&self) -> (EventTime, Place) {
        (self.time, self.place)
    }
}

impl Side {
    /// Keeps nothing so far.
    pub fn new(keys: Vec<usize>, time: usize, taken: Vec<usize>) -> Self {
        Self {
            keys,
            time,
            taken,
            batches: BTreeMap::new(),
            by_key: HashMap::default(),
            expiry: BinaryHeap::new(),
            rows: 0,
            next: 0,
        }
    }

    /// Keeps the columns of a batch that come out, for its rows that are going to be kept.
    pub fn hold(&mut self, columns: Arc<[ArrayRef]>) -> u64 {
        self.next += 1;
        self.batches.insert(self.next, Held { columns, rows: 0 });
        self.next
    }

    /// Keeps a row.
    pub fn keep(&mut self, key: &[u8], entry: Entry) {
        self.rows += 1;
        if let Some(held) = self.batches.get_mut(&entry.place.0) {
            held.rows += 1;
        }
        self.expiry.push(Reverse((entry.time, entry.place, key.into())));
        match self.by_key.get_mut(key) {
            Some(entries) => {
                // Mostly the last place.
                let place = entries.partition_point(|other| other.order() < entry.order());
                entries.insert(place, entry);
            }
            None => _ = self.by_key.insert(key.into(), [entry].into()),
        }
    }

    /// The rows of a key whose times are near, by their places among those of the key.
    pub fn near(&self, key: &[u8], time: EventTime, within: i64) -> Range<usize> {
        let Some(entries) = self.by_key.get(key) else { return 0..0 };
        let start = entries.partition_point(|entry| entry.time < time.saturating_sub(within));
        let end = entries.partition_point(|entry| entry.time <= time.saturating_add(within));
        start..end
    }

    /// Takes out rows of a key, in the order in which they came.
    pub fn take(&mut self, key: &[u8], range: Range<usize>) -> Vec<Row> {
        let Some(entries) = self.by_key.get_mut(key) else { return Vec::new() };
        let mut taken: Vec<Entry> = entries.drain(range).collect();
        if entries.is_empty() {
            self.by_key.remove(key);
        }
        taken.sort_unstable_by_key(|entry| entry.place);
        let rows = taken.iter().filter_map(|entry| self.row(entry.place)).collect();
        taken.iter().for_each(|entry| self.let_go(entry.place));
        self.tidy();
        rows
    }

    /// Lets the order of expiry not grow with rows that have left before.
    fn tidy(&mut self) {
        if self.expiry.len() <= 2 * self.rows + BATCH_ROWS {
            return;
        }
        let by_key = &self.by_key;
        self.expiry.retain(|Reverse((time, place, key))| {
            let entries = by_key.get(key);
            entries.is_some_and(|entries| entries.binary_search_by_key(&(*time, *place), Entry::order).is_ok())
        });
    }

    /// A row is kept no more.
    fn let_go(&mut self, place: Place) {
        self.rows -= 1;
        if let Some(held) = self.batches.get_mut(&place.0) {
            held.rows -= 1;
        }
        self.release(place.0);
    }

    /// The columns of a row, and its place in them.
    pub fn row(&self, place: Place) -> Option<Row> {
        self.batches.get(&place.0).map(|held| (held.columns.clone(), place.1))
    }

    pub fn release(&mut self, batch: u64) {
        if let Some(held) = self.batches.get_mut(&batch)
            && held.rows == 0
        {
            self.batches.remove(&batch);
        }
    }

    /// Forgets the rows that nothing can meet any more, since the watermark is more than `within` behind them. Those of them
    /// that have met none go to `unmatched`.
    pub fn forget(&mut self, watermark: EventTime, within: i64, mut unmatched: impl FnMut(Row)) {
        let is_over = |Reverse((time, ..)): &Reverse<Expiry>| time.saturating_add(within) < watermark;
        while self.expiry.peek().is_some_and(is_over) {
            let Some(Reverse((time, place, key))) = self.expiry.pop() else { break };
            let Some(entries) = self.by_key.get_mut(&key) else { continue };
            // It is the first one, unless it has left before.
            let Some(entry) = entries.pop_front_if(|first| first.order() == (time, place)) else { continue };
            if entries.is_empty() {
                self.by_key.remove(&key);
            }
            if !entry.matched
                && let Some(row) = self.row(place)
            {
                unmatched(row);
            }
            self.let_go(place);
        }
    }
}
