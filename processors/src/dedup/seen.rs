//! The rows that have passed `dedup`: their keys and times.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::hash::BuildHasher;
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{Int64Array, LargeBinaryArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use millstream_core::{Chunks, EventTime, Parts, Result, State};

use crate::keys::Keys;

/// The rows that have passed and are remembered. Each has a slot.
pub struct Seen {
    rows: Vec<Row>,
    free: Vec<u32>,
    /// Of each key, the slot of the row with the latest time.
    latest: HashTable<u32>,
    /// The slots of those before it, of keys with several, by their times. There are few, unless rows are much out of order.
    earlier: HashMap<Box<[u8]>, BTreeMap<EventTime, u32>, RandomState>,
    earlier_rows: usize,
    /// The times of all rows in the order in which they can be forgotten.
    forget: BinaryHeap<Reverse<(EventTime, u32)>>,
    chunks: Chunks,
    /// Seeded at random, so that nobody can choose keys that collide; no result depends on hashes.
    hasher: RandomState,
}

struct Row {
    key: Box<[u8]>,
    time: EventTime,
}

/// What the state calls the rows.
const KEYS: &str = "keys";

impl Default for Seen {
    fn default() -> Self {
        Self {
            rows: Vec::new(),
            free: Vec::new(),
            latest: HashTable::new(),
            earlier: HashMap::default(),
            earlier_rows: 0,
            forget: BinaryHeap::new(),
            chunks: Chunks::new(KEYS),
            hasher: RandomState::default(),
        }
    }
}

impl Seen {
    /// The hash of a key.
    pub fn hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash_one(key)
    }

    /// How many keys are remembered.
    pub fn keys(&self) -> usize {
        self.latest.len()
    }

    /// How many rows are remembered whose key a later one has, too.
    pub fn earlier_rows(&self) -> usize {
        self.earlier_rows
    }

    /// The slot of the latest row with a key.
    pub fn latest(&self, hash: u64, key: &[u8]) -> Option<u32> {
        self.latest.find(hash, |slot| *self.rows[*slot as usize].key == *key).copied()
    }

    /// Whether a row with the key of `latest` has passed less than a span from a time.
    pub fn is_near(&self, latest: u32, time: EventTime, span: i64) -> bool {
        let near = time.saturating_sub(span - 1)..=time.saturating_add(span - 1);
        let Row { key, time } = &self.rows[latest as usize];
        near.contains(time) || self.earlier.get(key).is_some_and(|times| times.range(near).next().is_some())
    }

    /// A row has passed. It is forgotten some time, or never.
    pub fn add(&mut self, hash: u64, key: &[u8], time: EventTime, is_forgotten: bool) {
        let slot = self.remember(hash, key, time, is_forgotten);
        self.chunks.changed(slot);
    }

    fn remember(&mut self, hash: u64, key: &[u8], time: EventTime, is_forgotten: bool) -> u32 {
        let slot = self.take_slot(Row { key: key.into(), time });
        if is_forgotten {
            self.forget.push(Reverse((time, slot)));
        }
        let rows = &self.rows;
        match self.latest.find_mut(hash, |other| *rows[*other as usize].key == *key) {
            None => {
                let hasher = &self.hasher;
                self.latest.insert_unique(hash, slot, |slot| hasher.hash_one(&*rows[*slot as usize].key));
            }
            Some(latest) => {
                let before = rows[*latest as usize].time;
                let earlier = if time > before { std::mem::replace(latest, slot) } else { slot };
                self.earlier.entry(key.into()).or_default().insert(time.min(before), earlier);
                self.earlier_rows += 1;
            }
        }
        slot
    }

    fn take_slot(&mut self, row: Row) -> u32 {
        if let Some(slot) = self.free.pop() {
            self.rows[slot as usize] = row;
            return slot;
        }
        self.rows.push(row);
        self.rows.len() as u32 - 1
    }

    /// Forgets the rows that lie a span or more before a time.
    pub fn forget(&mut self, at: EventTime, span: i64) {
        while self.forget.peek().is_some_and(|Reverse((time, _))| time.saturating_add(span) <= at) {
            let Some(Reverse((time, slot))) = self.forget.pop() else { break };
            self.chunks.gone(slot);
            self.free.push(slot);
            let key = std::mem::take(&mut self.rows[slot as usize].key);
            self.forget_one(&key, time, slot);
        }
    }

    fn forget_one(&mut self, key: &[u8], time: EventTime, slot: u32) {
        // The latest one goes last.
        let Some(times) = self.earlier.get_mut(key) else {
            if let Ok(latest) = self.latest.find_entry(self.hasher.hash_one(key), |other| *other == slot) {
                latest.remove();
            }
            return;
        };
        times.remove(&time);
        self.earlier_rows -= 1;
        if times.is_empty() {
            self.earlier.remove(key);
        }
    }

    /// Keeps the rows.
    pub fn save(&mut self, keys: &Keys, parts: &mut Parts) -> Result<()> {
        let (rows, schema) = (&self.rows, kept_schema(keys));
        let bytes = |slot: u32| rows[slot as usize].key.len() + size_of::<EventTime>();
        self.chunks.put(parts, &schema, bytes, |slots| {
            let rows = slots.iter().map(|slot| &rows[*slot as usize]);
            let binary = LargeBinaryArray::from_iter_values(rows.clone().map(|row| &row.key));
            let times = Int64Array::from_iter_values(rows.map(|row| row.time));
            let (schema, keys) = (schema.clone(), keys.clone());
            move || {
                let mut columns = keys.values(binary.iter().flatten())?;
                columns.push(Arc::new(times));
                Ok(RecordBatch::try_new(schema, columns)?)
            }
        })
    }

    /// Takes in the rows that were kept.
    pub fn load(&mut self, keys: &Keys, state: &State, is_forgotten: bool) -> Result<()> {
        let schema = kept_schema(keys);
        // In format 3 they were in one piece.
        if state.has(KEYS) {
            let rows = state.rows(KEYS, &schema)?;
            rows.iter().try_for_each(|rows| self.take_in(keys, rows, is_forgotten))?;
            (0..self.rows.len() as u32).for_each(|slot| self.chunks.changed(slot));
            return Ok(());
        }
        let mut chunks = Chunks::new(KEYS);
        chunks.load(state, &schema, None, &[], |rows| self.take_in(keys, &rows, is_forgotten))?;
        self.chunks = chunks;
        Ok(())
    }

    fn take_in(&mut self, keys: &Keys, rows: &RecordBatch, is_forgotten: bool) -> Result<()> {
        let Some((times, columns)) = rows.columns().split_last() else { return Ok(()) };
        let keys = keys.of_values(columns)?;
        for (key, time) in keys.iter().zip(times.as_primitive::<Int64Type>().values()) {
            self.remember(self.hash(key.data()), key.data(), *time, is_forgotten);
        }
        Ok(())
    }
}

/// What is kept of a row that has passed: the values of its key, and its time.
fn kept_schema(keys: &Keys) -> SchemaRef {
    let time = Field::new("seen", DataType::Int64, false);
    Arc::new(Schema::new(keys.fields().iter().cloned().chain([time]).collect::<Vec<_>>()))
}
