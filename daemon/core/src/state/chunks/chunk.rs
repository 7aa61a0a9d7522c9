//! One chunk: which of its rows live, and what entries they are of.

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;

use crate::Result;

/// What is known of a chunk.
#[derive(Debug)]
pub struct Chunk {
    /// The slot of each row, also of those that are dead.
    pub slots: Vec<u32>,
    /// A bit for each row; empty as long as all live.
    dead: Vec<u8>,
    /// How many rows live.
    pub live: usize,
    /// How many bytes a row has, about.
    row_bytes: u32,
}

/// A chunk in the index: its number, how many rows it has, how many bytes each of them has, about, and which are dead.
pub type Indexed = (u32, u32, u32, Vec<u8>);

impl Chunk {
    /// One of rows that all live, with so many bytes, about.
    pub fn new(slots: Vec<u32>, bytes: u64) -> Self {
        let row_bytes = bytes / slots.len().max(1) as u64;
        Self { live: slots.len(), slots, dead: Vec::new(), row_bytes: row_bytes.try_into().unwrap_or(u32::MAX) }
    }

    /// One of so many rows that was read, if what is said of the dead fits.
    pub fn of(count: usize, row_bytes: u32, dead: Vec<u8>) -> Option<Self> {
        let is_whole = dead.is_empty() || dead.len() == count.div_ceil(8);
        let chunk = Self { slots: vec![0; count], dead, live: 0, row_bytes };
        let live = (0..count).filter(|row| chunk.lives(*row)).count();
        is_whole.then_some(Self { live, ..chunk })
    }

    /// What the index says of it.
    pub fn indexed(&self, number: u32) -> Indexed {
        (number, self.slots.len() as u32, self.row_bytes, self.dead.clone())
    }

    /// Whether a row lives.
    pub fn lives(&self, row: usize) -> bool {
        self.dead.get(row / 8).is_none_or(|bits| bits >> (row % 8) & 1 == 0)
    }

    /// Of the rows, those that live.
    pub fn living(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        if self.live == self.slots.len() {
            return Ok(rows.clone());
        }
        let live: BooleanArray = (0..self.slots.len()).map(|row| Some(self.lives(row))).collect();
        Ok(filter_record_batch(rows, &live)?)
    }

    /// A row has died. How many bytes it had, about.
    pub fn kill(&mut self, row: usize) -> u64 {
        if self.dead.is_empty() {
            self.dead = vec![0; self.slots.len().div_ceil(8)];
        }
        self.dead[row / 8] |= 1 << (row % 8);
        self.live -= 1;
        self.row_bytes.into()
    }

    /// The slots of the rows that live.
    pub fn live_slots(&self) -> impl Iterator<Item = u32> {
        self.slots.iter().enumerate().filter(|(row, _)| self.lives(*row)).map(|(_, slot)| *slot)
    }

    /// How many bytes live, about.
    pub fn live_bytes(&self) -> u64 {
        u64::from(self.row_bytes) * self.live as u64
    }
}
