//! Rows of one priority that wait, in the order in which they came.

use std::collections::VecDeque;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use millstream_core::{Parts, Result};

use super::chunk::{Chunk, Entry, Pieces, Until};
use super::spill::Spill;

/// A line of rows.
pub struct Line {
    schema: SchemaRef,
    chunks: VecDeque<Chunk>,
    /// Rows of the last chunk that are not in it yet: batches that come may be small.
    gathered: Vec<RecordBatch>,
}

/// So many batches are gathered at most, so that those of a single row don't take many times the memory of what is in them.
const GATHERED: usize = 64;

impl Line {
    /// An empty one for rows of these columns.
    pub fn new(schema: SchemaRef) -> Self {
        Self { schema, chunks: VecDeque::new(), gathered: Vec::new() }
    }

    /// One of a state.
    pub fn restored(schema: SchemaRef, entries: Vec<Entry>) -> Result<Self> {
        let chunks = entries.into_iter().map(Chunk::restored).collect::<Result<_>>()?;
        Ok(Self { chunks, ..Self::new(schema) })
    }

    /// Its chunks.
    pub fn chunks(&self) -> impl Iterator<Item = &Chunk> {
        self.chunks.iter()
    }

    /// The number of the first row, which is also the one that has waited longest, and since when it has.
    pub fn first(&self) -> Option<(i64, i64)> {
        self.chunks.front().map(|chunk| (chunk.first, chunk.since))
    }

    /// Adds rows. A chunk that is new gets the number `next`.
    pub fn push(&mut self, rows: &RecordBatch, chunk_bytes: usize, next: &mut u64) -> Result<()> {
        if self.chunks.back().is_none_or(|chunk| chunk.is_sealed) {
            self.chunks.push_back(Chunk::new(*next, rows));
            *next += 1;
        }
        let Some(chunk) = self.chunks.back_mut() else { return Ok(()) };
        chunk.grow(rows)?;
        let is_full = chunk.bytes >= chunk_bytes;
        self.gathered.push(owned(rows)?);
        match () {
            () if is_full => self.seal(),
            () if self.gathered.len() == GATHERED => self.settle(),
            () => Ok(()),
        }
    }

    /// Puts all rows into their chunks.
    fn settle(&mut self) -> Result<()> {
        let gathered = std::mem::take(&mut self.gathered);
        if let Some(chunk) = self.chunks.back_mut().filter(|_| !gathered.is_empty()) {
            chunk.put(concat_batches(&self.schema, &gathered)?);
        }
        Ok(())
    }

    /// Adds no more rows to the last chunk.
    pub fn seal(&mut self) -> Result<()> {
        self.settle()?;
        self.chunks.back_mut().map_or(Ok(()), |chunk| chunk.seal(&self.schema))
    }

    /// How many bytes of the last chunk are in memory, if rows are still added to it.
    pub fn open_bytes(&self) -> usize {
        self.chunks.back().filter(|chunk| !chunk.is_sealed).map_or(0, Chunk::in_memory)
    }

    /// Puts the last chunk on disk that is in memory and can be. Returns whether there was one.
    pub fn spill_last(&mut self, spill: &mut Spill, schema: &SchemaRef) -> Result<bool> {
        let last = self.chunks.iter_mut().rev().find(|chunk| chunk.may_be_spilled());
        last.map_or(Ok(false), |chunk| chunk.spill(spill, schema).map(|()| true))
    }

    /// Reads the first chunk.
    pub fn load_first(&mut self, pieces: &Pieces) -> Result<()> {
        self.chunks.front_mut().map_or(Ok(()), |chunk| chunk.load(pieces))
    }

    /// Takes rows out, with their bytes, as [`Chunk::take`] does.
    pub fn take(
        &mut self,
        until: Until,
        count: impl FnOnce(&RecordBatch) -> usize,
        pieces: &Pieces,
    ) -> Result<Option<(RecordBatch, usize)>> {
        if self.chunks.len() == 1 {
            self.settle()?;
        }
        let Some(chunk) = self.chunks.front_mut() else { return Ok(None) };
        chunk.load(pieces)?;
        let taken = chunk.take(until, count)?;
        if chunk.waiting() == 0 {
            self.chunks.pop_front();
        }
        Ok(taken)
    }

    /// Hands over what a checkpoint needs, and returns what the index says of it.
    pub fn keep(&mut self, parts: &mut Parts, chunk_bytes: usize, pieces: &Pieces) -> Result<Vec<Entry>> {
        self.seal()?;
        while let Some(mut last) = self.chunks.pop_back() {
            let before = self.chunks.back_mut();
            let absorbed = before.map_or(Ok(false), |before| last.absorb(before, chunk_bytes / 2, pieces));
            self.chunks.push_back(last);
            if !absorbed? {
                break;
            }
            self.chunks.remove(self.chunks.len() - 2);
        }
        Ok(self.chunks.iter_mut().map(|chunk| chunk.keep(parts, &pieces.schema)).collect())
    }
}

/// The same rows in memory of their own: those that come may be a few of a large batch, all of which would stay as long as they do.
fn owned(rows: &RecordBatch) -> Result<RecordBatch> {
    // Of one batch alone, nothing is copied.
    Ok(concat_batches(rows.schema_ref(), [rows, &rows.slice(0, 0)])?)
}
