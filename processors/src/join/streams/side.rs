//! What one side of a join of streams keeps: the rows that others may still meet.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::ArrayRef;
use foldhash::fast::RandomState;
use millstream_core::{Chunks, EventTime};

use crate::rows::BATCH_ROWS;

/// What one side keeps.
pub struct Side {
    /// The columns of the key.
    pub keys: Vec<usize>,
    pub time: usize,
    /// The columns that come out.
    pub taken: Vec<usize>,
    /// By the number of their first row.
    pub batches: BTreeMap<u64, Held>,
    /// In the order of their times, and of their places where these are the same.
    pub by_key: HashMap<Arc<[u8]>, VecDeque<Entry>, RandomState>,
    /// All of `by_key` in that order, in which they are forgotten; and some that have left before.
    pub expiry: BinaryHeap<Reverse<Expiry>>,
    /// What goes into the state, by slots.
    pub kept: Vec<Kept>,
    free: Vec<u32>,
    pub chunks: Chunks,
    pub rows: usize,
    /// The number of the row that comes next.
    pub next: u64,
}

/// The columns of a batch that come out, and how many of its rows are still kept.
pub struct Held {
    pub columns: Arc<[ArrayRef]>,
    /// The numbers of its rows, where they do not follow each other.
    pub numbers: Option<Vec<u64>>,
    pub rows: usize,
}

impl Held {
    /// The number of a row of a batch whose first one has the number `first`.
    pub fn number(&self, first: u64, row: u32) -> u64 {
        self.numbers.as_ref().map_or(first + u64::from(row), |numbers| numbers[row as usize])
    }
}

/// The columns of a batch, and a place in them.
pub type Row = (Arc<[ArrayRef]>, usize);

/// Where a row is: the number of the first row of its batch, and its place there. Rows are numbered in the order in which they came.
pub type Place = (u64, u32);

/// The time of a row, the row, its slot.
pub type Expiry = (EventTime, Place, u32);

/// A row among those of its key.
#[derive(Clone, Copy)]
pub struct Entry {
    pub time: EventTime,
    pub place: Place,
    pub slot: u32,
    pub matched: bool,
}

/// A row as it goes into the state.
pub struct Kept {
    pub key: Arc<[u8]>,
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
    /// Keeps nothing so far. `name` is what the state calls the side.
    pub fn new(name: &'static str, keys: Vec<usize>, time: usize, taken: Vec<usize>) -> Self {
        Self {
            keys,
            time,
            taken,
            batches: BTreeMap::new(),
            by_key: HashMap::default(),
            expiry: BinaryHeap::new(),
            kept: Vec::new(),
            free: Vec::new(),
            chunks: Chunks::new(name),
            rows: 0,
            next: 0,
        }
    }

    /// Keeps the columns of a batch that come out, for those of its rows that are going to be kept. The number of its first row.
    pub fn hold(&mut self, columns: Arc<[ArrayRef]>, rows: usize) -> u64 {
        let first = self.next;
        self.next += rows.max(1) as u64;
        self.batches.insert(first, Held { columns, numbers: None, rows: 0 });
        first
    }

    /// Keeps the columns of rows that have numbers already: that of the first one. None if they do not ascend, from batch to batch, too.
    pub fn hold_numbered(&mut self, columns: Arc<[ArrayRef]>, numbers: Vec<u64>) -> Option<u64> {
        let (first, last) = (*numbers.first()?, *numbers.last()?);
        let ascends = first >= self.next && numbers.is_sorted_by(|one, other| one < other) && last < u64::MAX;
        if !ascends {
            return None;
        }
        self.next = last + 1;
        self.batches.insert(first, Held { columns, numbers: Some(numbers), rows: 0 });
        Some(first)
    }

    /// Keeps a row, in the slot that is returned.
    pub fn keep(&mut self, key: &[u8], time: EventTime, place: Place, matched: bool) -> u32 {
        self.rows += 1;
        if let Some(held) = self.batches.get_mut(&place.0) {
            held.rows += 1;
        }
        let known = self.by_key.get(key).and_then(VecDeque::front);
        let shared = known.map_or_else(|| key.into(), |first| self.kept[first.slot as usize].key.clone());
        let slot = self.take_slot(Kept { key: Arc::clone(&shared), time, place, matched });
        self.expiry.push(Reverse((time, place, slot)));
        let entry = Entry { time, place, slot, matched };
        match self.by_key.get_mut(key) {
            Some(entries) => {
                // Mostly the last place.
                let at = entries.partition_point(|other| other.order() < entry.order());
                entries.insert(at, entry);
            }
            None => _ = self.by_key.insert(shared, [entry].into()),
        }
        slot
    }

    fn take_slot(&mut self, row: Kept) -> u32 {
        if let Some(slot) = self.free.pop() {
            self.kept[slot as usize] = row;
            return slot;
        }
        self.kept.push(row);
        self.kept.len() as u32 - 1
    }

    /// The rows of a key whose times are near, by their places among those of the key.
    pub fn near(&self, key: &[u8], time: EventTime, within: i64) -> Range<usize> {
        let Some(entries) = self.by_key.get(key) else { return 0..0 };
        let start = entries.partition_point(|entry| entry.time < time.saturating_sub(within));
        let end = entries.partition_point(|entry| entry.time <= time.saturating_add(within));
        start..end
    }

    /// Such rows, in the order in which they came.
    pub fn rows_near(&self, key: &[u8], near: Range<usize>) -> Vec<Row> {
        let Some(entries) = self.by_key.get(key) else { return Vec::new() };
        let mut places: Vec<Place> = entries.range(near).map(|entry| entry.place).collect();
        places.sort_unstable();
        places.into_iter().filter_map(|place| self.row(place)).collect()
    }

    /// The earliest of such rows.
    pub fn first_near(&self, key: &[u8], near: Range<usize>) -> Option<Row> {
        self.by_key.get(key)?.range(near).next().and_then(|entry| self.row(entry.place))
    }

    /// Notes that rows of a key have met another one.
    pub fn note_matched(&mut self, key: &[u8], range: Range<usize>) {
        let Some(entries) = self.by_key.get_mut(key) else { return };
        for entry in entries.range_mut(range).filter(|entry| !entry.matched) {
            entry.matched = true;
            self.kept[entry.slot as usize].matched = true;
            self.chunks.changed(entry.slot);
        }
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
        taken.iter().for_each(|entry| self.let_go(entry));
        self.tidy();
        rows
    }

    /// Lets the order of expiry not grow with rows that have left before.
    fn tidy(&mut self) {
        if self.expiry.len() <= 2 * self.rows + BATCH_ROWS {
            return;
        }
        let (by_key, kept) = (&self.by_key, &self.kept);
        self.expiry.retain(|Reverse((time, place, slot))| {
            let entries = by_key.get(&kept[*slot as usize].key);
            entries.is_some_and(|entries| entries.binary_search_by_key(&(*time, *place), Entry::order).is_ok())
        });
    }

    /// A row is kept no more.
    fn let_go(&mut self, entry: &Entry) {
        self.rows -= 1;
        self.chunks.gone(entry.slot);
        self.free.push(entry.slot);
        if let Some(held) = self.batches.get_mut(&entry.place.0) {
            held.rows -= 1;
        }
        self.release(entry.place.0);
    }

    /// The columns of a row, and its place in them.
    pub fn row(&self, (batch, row): Place) -> Option<Row> {
        self.batches.get(&batch).map(|held| (held.columns.clone(), row as usize))
    }

    /// Lets a batch go, by its first number, if none of its rows is kept.
    pub fn release(&mut self, batch: u64) {
        if let Some(held) = self.batches.get_mut(&batch)
            && held.rows == 0
        {
            self.batches.remove(&batch);
        }
    }

    /// Forgets the rows that nothing can meet any more, since the watermark is more than `within` behind them. Those of them
    /// that have met none go to `unmatched`, with their keys and times.
    pub fn forget(&mut self, watermark: EventTime, within: i64, mut unmatched: impl FnMut(&[u8], EventTime, Row)) {
        let is_over = |Reverse((time, ..)): &Reverse<Expiry>| time.saturating_add(within) < watermark;
        while self.expiry.peek().is_some_and(is_over) {
            let Some(Reverse((time, place, slot))) = self.expiry.pop() else { break };
            // Another row may have the slot by now.
            let kept = &self.kept[slot as usize];
            if kept.place != place {
                continue;
            }
            let key = kept.key.clone();
            let Some(entries) = self.by_key.get_mut(&key) else { continue };
            // It is the first one, unless it has left before.
            let Some(entry) = entries.pop_front_if(|first| first.order() == (time, place)) else { continue };
            if entries.is_empty() {
                self.by_key.remove(&key);
            }
            if !entry.matched
                && let Some(row) = self.row(place)
            {
                unmatched(&key, time, row);
            }
            self.let_go(&entry);
        }
    }
}
