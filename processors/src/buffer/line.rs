//! Rows of one priority that wait, in the order in which they came.

use std::collections::VecDeque;

use arrow::array::RecordBatch;
use arrow::compute::BatchCoalescer;
use arrow::datatypes::SchemaRef;
use millstream_core::{Parts, Result, batch_bytes};

use super::chunk::{Chunk, Entry, Pieces, Until, arrived};
use super::spill::Spill;

/// A line of rows.
pub struct Line {
    chunks: VecDeque<Chunk>,
    /// Rows of the last chunk that are not in it yet: batches that come may be small.
    gathered: BatchCoalescer,
}

impl Line {
    /// An empty one, which keeps rows in batches of so many.
    pub fn new(schema: SchemaRef, batch_rows: usize) -> Self {
        Self { chunks: VecDeque::new(), gathered: BatchCoalescer::new(schema, batch_rows) }
    }

    /// One of a state.
    pub fn restored(schema: SchemaRef, batch_rows: usize, entries: Vec<Entry>) -> Result<Self> {
        let chunks = entries.into_iter().map(Chunk::restored).collect::<Result<_>>()?;
        Ok(Self { chunks, ..Self::new(schema, batch_rows) })
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
    pub fn push(&mut self, rows: RecordBatch, chunk_bytes: usize, next: &mut u64) -> Result<()> {
        if self.chunks.back().is_none_or(|chunk| chunk.is_sealed) {
            self.chunks.push_back(Chunk::new(*next, &rows));
            *next += 1;
        }
        let Some(chunk) = self.chunks.back_mut() else { return Ok(()) };
        chunk.grow(rows.num_rows(), batch_bytes(&arrived(&rows)?));
        let is_full = chunk.bytes >= chunk_bytes;
        self.gathered.push_batch(rows)?;
        self.move_gathered();
        if is_full { self.seal() } else { Ok(()) }
    }

    fn move_gathered(&mut self) {
        while let Some(rows) = self.gathered.next_completed_batch() {
            if let Some(chunk) = self.chunks.back_mut() {
                chunk.put(rows);
            }
        }
    }

    /// Puts all rows into their chunks.
    fn settle(&mut self) -> Result<()> {
        self.gathered.finish_buffered_batch()?;
        self.move_gathered();
        Ok(())
    }

    /// Adds no more rows to the last chunk.
    pub fn seal(&mut self) -> Result<()> {
        self.settle()?;
        self.chunks.back_mut().into_iter().for_each(|chunk| chunk.is_sealed = true);
        Ok(())
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
        self.settle()?;
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
