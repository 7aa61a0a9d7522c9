//! The last rows of each key: what a network over sequences remembers.
//!
//! There are only so many keys; a new one takes the place of the one that was seen least recently. A key is known by 128 bits of hashes of its
//! text, so that its length costs nothing.

use std::collections::BTreeMap;

use arrow::array::Array as _;
use millstream_core::{Error, Result};
use twox_hash::XxHash3_64;

use super::rows::{NONE, Rows, StepRow};
use super::settings::SequenceSettings;
use crate::encode::Rows as Unencoded;
use crate::tensors::Tensors;

/// Whose row it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key([u64; 2]);

impl Key {
    pub fn of(text: &str) -> Self {
        Self([0, 1].map(|seed| XxHash3_64::oneshot_with_seed(seed, text.as_bytes())))
    }
}

/// The last rows of keys.
#[derive(Clone, Debug)]
pub(super) struct Sequences {
    /// Which of the categories is the key; all rows have the same without one.
    key: Option<usize>,
    most_keys: usize,
    /// How many rows of a key are remembered, and how many numbers and slots a row has.
    most_rows: usize,
    width: usize,
    categories: usize,
    places: foldhash::HashMap<Key, usize>,
    /// By the time of its last row, counted in rows, the place of a key.
    by_use: BTreeMap<u64, usize>,
    rows_seen: u64,
    sequences: Vec<Sequence>,
    numbers: Vec<f32>,
    slots: Vec<u32>,
}

/// The rows of a key, in a ring.
#[derive(Clone, Copy, Debug)]
struct Sequence {
    key: Key,
    used: u64,
    count: usize,
    /// Where the next row goes.
    next: usize,
}

impl Sequences {
    /// Of none yet, of rows of so many numbers and categories.
    pub fn new(settings: &SequenceSettings, key: Option<usize>, width: usize, categories: usize) -> Self {
        Self {
            key,
            most_keys: settings.keys as usize,
            most_rows: settings.rows as usize - 1,
            width,
            categories,
            places: foldhash::HashMap::default(),
            by_use: BTreeMap::new(),
            rows_seen: 0,
            sequences: Vec::new(),
            numbers: Vec::new(),
            slots: Vec::new(),
        }
    }

    /// Whose a row is; nobody's if it has no key.
    pub fn key_of(&self, rows: &Unencoded, row: usize) -> Option<Key> {
        match self.key {
            Some(category) => {
                let texts = &rows.texts()[category];
                texts.is_valid(row).then(|| Key::of(texts.value(row)))
            }
            None => Some(Key::of("")),
        }
    }

    /// The rows of a key, the oldest first.
    pub fn rows_of(&self, key: Option<Key>) -> impl ExactSizeIterator<Item = StepRow<'_>> {
        let place = key.and_then(|key| self.places.get(&key).copied());
        let count = place.map_or(0, |place| self.sequences[place].count);
        (0..count).map(move |older| self.row(place.unwrap_or_default(), older))
    }

    /// The row of a sequence that has so many older ones.
    fn row(&self, place: usize, older: usize) -> StepRow<'_> {
        let Sequence { count, next, .. } = self.sequences[place];
        let at = place * self.most_rows + (next + self.most_rows - count + older) % self.most_rows;
        StepRow {
            numbers: &self.numbers[at * self.width..][..self.width],
            slots: &self.slots[at * self.categories..][..self.categories],
        }
    }

    /// Remembers a row as the last one of its key.
    pub fn remember(&mut self, key: Option<Key>, row: Option<StepRow<'_>>) {
        let (Some(key), Some(row)) = (key, row) else { return };
        let place = self.place_of(key);
        let sequence = &mut self.sequences[place];
        let at = place * self.most_rows + sequence.next;
        sequence.next = if sequence.next + 1 == self.most_rows { 0 } else { sequence.next + 1 };
        sequence.count = self.most_rows.min(sequence.count + 1);
        self.numbers[at * self.width..][..self.width].copy_from_slice(row.numbers);
        self.slots[at * self.categories..][..self.categories].copy_from_slice(row.slots);
        self.by_use.remove(&sequence.used);
        (sequence.used, self.rows_seen) = (self.rows_seen, self.rows_seen + 1);
        self.by_use.insert(sequence.used, place);
    }

    /// Where the rows of a key are: those of a new one where there is room, or in the place of the key that was seen least recently.
    fn place_of(&mut self, key: Key) -> usize {
        if let Some(place) = self.places.get(&key) {
            return *place;
        }
        let fresh = Sequence { key, used: u64::MAX, count: 0, next: 0 };
        let oldest = if self.sequences.len() < self.most_keys { None } else { self.by_use.pop_first() };
        let place = match oldest {
            Some((_, place)) => {
                self.places.remove(&self.sequences[place].key);
                self.sequences[place] = fresh;
                place
            }
            None => {
                self.sequences.push(fresh);
                let rows = self.sequences.len() * self.most_rows;
                self.numbers.resize(rows * self.width, 0.0);
                self.slots.resize(rows * self.categories, NONE);
                self.sequences.len() - 1
            }
        };
        self.places.insert(key, place);
        place
    }

    /// Key by key, the one first that was seen least recently, so that it doesn't matter where they are.
    pub fn save(&self, tensors: &mut Tensors) {
        let places: Vec<usize> = self.by_use.values().copied().collect();
        let keys: Vec<u64> = places.iter().flat_map(|place| self.sequences[*place].key.0).collect();
        let counts: Vec<u32> = places.iter().map(|place| self.sequences[*place].count as u32).collect();
        let mut rows = Rows::new(self.width, vec![0; self.categories]);
        let all =
            places.iter().flat_map(|place| (0..self.sequences[*place].count).map(|older| self.row(*place, older)));
        all.for_each(|row| rows.push_step(row));
        tensors.put_u64("sequences.keys", &keys);
        tensors.put_u32("sequences.counts", &[counts.len()], &counts);
        rows.save_steps("sequences", tensors);
    }

    /// Reads sequences, whose slots are below the `ends` of their categories.
    pub fn load(&mut self, tensors: &Tensors, ends: &[u32]) -> Result<()> {
        let damaged = || Error::new("the sequences in the model are damaged");
        let keys = tensors.u64s("sequences.keys")?;
        let (keys, rest) = keys.as_chunks::<2>();
        let counts = tensors.u32s("sequences.counts", &[keys.len()])?;
        let total: u64 = counts.iter().map(|count| u64::from(*count)).sum();
        let mut rows = Rows::new(self.width, ends.to_vec());
        rows.load_steps("sequences", tensors)?;
        let fits = |count: &u32| (1..=self.most_rows).contains(&(*count as usize));
        let is_sound = rest.is_empty() && keys.len() <= self.most_keys && counts.iter().all(fits);
        if !is_sound || total != rows.steps() as u64 || !rows.slots_fit() {
            return Err(damaged());
        }
        let mut at = 0;
        for (key, count) in keys.iter().zip(counts) {
            if self.places.contains_key(&Key(*key)) {
                return Err(damaged());
            }
            for step in at..at + count as usize {
                self.remember(Some(Key(*key)), Some(rows.step(step)));
            }
            at += count as usize;
        }
        Ok(())
    }
}
