//! Rows of a state in *chunks*: a checkpoint writes those that have changed since the one before, and only names the others.
//!
//! Every entry of a node has a *slot*, which is a number that the node gives it, and lies as a row in one chunk. A chunk is
//! written once. The rows of entries that change or go are dead from then on; which ones that are, an index of the chunks says (as
//! the deletion vectors of Iceberg and Delta Lake do). A chunk of which less than half lives is dissolved: what lives of it is
//! written again, along with what has changed. That is never more than what has changed or died since the checkpoint before, so
//! a checkpoint costs as much as has changed, however much there is; and about as much is dead as alive at most, since a
//! dissolved chunk frees more than is written again.
//!
//! ```text
//! NAME.index    for each chunk: its number, how many rows it has, how many bytes each has, about, and which are dead
//! NAME.17       the rows of chunk 17
//! ```

mod chunk;

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use arrow::array::cast::AsArray;
use arrow::compute::{concat_batches, interleave_record_batch};
use arrow::datatypes::{Int64Type, SchemaRef};

use self::chunk::{Chunk, Indexed};
use super::{Parts, State};
use crate::{Error, Result};

/// About how many bytes a chunk has: what is in memory as bytes at a time while a state is written.
const CHUNK_BYTES: u64 = 1 << 20;

/// How many rows are given out at once.
const BATCH_ROWS: usize = 8192;

/// How many bytes of rows are held while the others are looked at for their order. Those beyond are read once more.
const HELD_BYTES: usize = 64 << 20;

/// Stands for the place of an entry that has none: there is no such entry.
const NOWHERE: u64 = u64::MAX;
/// The entry is new or has changed, and is listed for the next checkpoint.
const CHANGED: u64 = u64::MAX - 1;
/// The same, but it has gone since.
const GONE: u64 = u64::MAX - 2;

/// Which rows of a state are written where.
#[derive(Debug)]
pub struct Chunks {
    name: &'static str,
    /// Where the row of each entry lies: the number of its chunk in the upper half, and its row there.
    places: Vec<u64>,
    /// What has changed since the last checkpoint.
    changed: Vec<u32>,
    /// About how many bytes of rows have died since.
    died: u64,
    chunks: BTreeMap<u32, Chunk>,
    /// The number of the next chunk.
    next: u32,
}

/// A row that is read: of which source, and which row of it.
#[derive(Clone, Copy)]
struct Row {
    source: u32,
    row: u32,
}

/// A chunk that is read.
struct Source {
    number: u32,
    count: u32,
    /// Whether its rows may stay where they are.
    stays: bool,
    /// How many rows of it have not been given out.
    left: usize,
    /// The columns by which rows are sorted.
    keys: Vec<Vec<i64>>,
    batch: Option<RecordBatch>,
}

impl Chunks {
    /// No rows so far. Parts of the state are called `name`, a dot, and more.
    pub fn new(name: &'static str) -> Self {
        Self { name, places: Vec::new(), changed: Vec::new(), died: 0, chunks: BTreeMap::new(), next: 0 }
    }

    /// The entry in a slot is new, or is another one than it was.
    #[inline]
    pub fn changed(&mut self, slot: u32) {
        if self.places.get(slot as usize) != Some(&CHANGED) {
            self.note(slot);
        }
    }

    /// The entries in all of these slots are.
    #[inline]
    pub fn all_changed(&mut self, slots: &[u32]) {
        let mut rest = slots;
        // Most of them are listed already.
        while let Some(at) = rest.iter().position(|slot| self.places.get(*slot as usize) != Some(&CHANGED)) {
            self.note(rest[at]);
            rest = &rest[at + 1..];
        }
    }

    #[cold]
    fn note(&mut self, slot: u32) {
        let at = slot as usize;
        if at >= self.places.len() {
            self.places.resize(at + 1, NOWHERE);
        }
        match std::mem::replace(&mut self.places[at], CHANGED) {
            GONE => return,
            NOWHERE => {}
            place => self.kill(place),
        }
        self.changed.push(slot);
    }

    /// There is no entry in a slot any more.
    #[inline]
    pub fn gone(&mut self, slot: u32) {
        let Some(place) = self.places.get_mut(slot as usize) else { return };
        match *place {
            NOWHERE | GONE => {}
            CHANGED => *place = GONE,
            written => {
                *place = NOWHERE;
                self.kill(written);
            }
        }
    }

    fn kill(&mut self, place: u64) {
        if let Some(chunk) = self.chunks.get_mut(&chunk_of(place)) {
            self.died += chunk.kill(row_of(place));
        }
    }

    /// Hands over what has changed, as rows with these columns; what has not is kept as it is.
    ///
    /// `bytes` says how large the row of a slot is, about. `copy` copies the entries of some slots; what it gives makes one batch of
    /// their rows in that order, later.
    ///
    /// # Errors
    /// If there have been more chunks than can be numbered.
    pub fn put<Make>(
        &mut self,
        parts: &mut Parts,
        schema: &SchemaRef,
        bytes: impl Fn(u32) -> usize,
        mut copy: impl FnMut(&[u32]) -> Make,
    ) -> Result<()>
    where
        Make: FnOnce() -> Result<RecordBatch> + Send + 'static,
    {
        let mut slots = self.take_changed();
        let mut sizes: Vec<usize> = slots.iter().map(|slot| bytes(*slot)).collect();
        slots.extend(self.dissolve(sizes.iter().sum::<usize>() as u64));
        sizes.extend(slots[sizes.len()..].iter().map(|slot| bytes(*slot)));
        self.chunks.keys().for_each(|number| parts.keep(self.part(*number)));
        let mut start = 0;
        while start < slots.len() {
            let (count, bytes) = cut(&sizes[start..]);
            let slots = &slots[start..start + count];
            let make = copy(slots);
            parts.put_rows_later(self.part(self.next), schema.clone(), move || Ok(vec![make()?]));
            self.add(slots.to_vec(), bytes)?;
            start += count;
        }
        let index = self.chunks.iter();
        let index = index.map(|(number, chunk)| chunk.indexed(*number));
        parts.put_later(self.index(), index.collect::<Vec<Indexed>>());
        Ok(())
    }

    /// The slots whose entries have changed, in the order in which they first did.
    fn take_changed(&mut self) -> Vec<u32> {
        let places = &mut self.places;
        let mut slots = std::mem::take(&mut self.changed);
        slots.retain(|slot| {
            let place = &mut places[*slot as usize];
            let is_there = *place == CHANGED;
            if !is_there {
                *place = NOWHERE;
            }
            is_there
        });
        slots
    }

    /// Dissolves chunks of which little lives, while so many bytes have changed: the slots of what is to be written again.
    ///
    /// Where little has changed, chunks are small from the beginning. Those are put together with others about as large, as
    /// in a binary counter, so that there are few, and a row is written again only a few times.
    fn dissolve(&mut self, changed: u64) -> Vec<u32> {
        let most = changed.max(std::mem::take(&mut self.died));
        self.chunks.retain(|_, chunk| chunk.live > 0);
        let sizes = self.chunks.iter().map(|(number, chunk)| (chunk.live_bytes(), *number));
        let mut small: Vec<(u64, u32)> = sizes.filter(|(live, _)| *live < CHUNK_BYTES / 2).collect();
        small.sort_unstable();
        let (mut slots, mut copied) = (Vec::new(), 0);
        for (live, number) in small {
            let all = changed + copied;
            let makes_no_chunk = all < CHUNK_BYTES && live <= all;
            if !makes_no_chunk && copied + live > most {
                break;
            }
            copied += live;
            slots.extend(self.chunks.remove(&number).iter().flat_map(Chunk::live_slots));
        }
        slots
    }

    fn add(&mut self, slots: Vec<u32>, bytes: u64) -> Result<()> {
        let number = self.next;
        let next = number.checked_add(1).filter(|next| *next < u32::MAX);
        self.next = next.ok_or_else(|| Error::new(format!("`{}` of the state has had too many chunks", self.name)))?;
        for (row, slot) in slots.iter().enumerate() {
            self.places[*slot as usize] = place(number, row);
        }
        self.chunks.insert(number, Chunk::new(slots, bytes));
        Ok(())
    }

    /// Gives out the rows that were put, with these columns, sorted by those of `order`, which are integers and never null. The
    /// entries have the slots from 0 on, in this order. There are none so far.
    ///
    /// With `own`, rows are taken as they had arrived, as [`State::arrived_rows`] does. A chunk is in memory from its first row to its
    /// last. As rows lie about in the order in which they came, those are mostly few at a time.
    ///
    /// # Errors
    /// If a part is missing or damaged, if the rows have other columns, or if `give` fails.
    pub fn load(
        &mut self,
        state: &State,
        schema: &SchemaRef,
        own: Option<usize>,
        order: &[usize],
        mut give: impl FnMut(RecordBatch) -> Result<()>,
    ) -> Result<()> {
        let (mut sources, mut rows, mut room) = (Vec::new(), Vec::new(), HELD_BYTES);
        for (number, count, row_bytes, dead) in state.get::<Vec<Indexed>>(&self.index())? {
            let name = self.part(number);
            // What has other columns now is written again.
            let (batch, stays) = read(state, &name, schema, own)?;
            let chunk =
                Chunk::of(batch.num_rows(), row_bytes, dead).filter(|chunk| chunk.slots.len() == count as usize);
            let chunk = chunk.ok_or_else(|| wrong_rows(&name))?;
            let source = sources.len() as u32;
            rows.extend((0..count).filter(|row| chunk.lives(*row as usize)).map(|row| Row { source, row }));
            sources.push(Source { number, count, stays, left: chunk.live, keys: keys(&batch, order), batch: None });
            let living = if order.is_empty() { Some(chunk.living(&batch)?) } else { None };
            self.next = self.next.max(number.saturating_add(1));
            if stays && self.chunks.insert(number, chunk).is_some() {
                return Err(Error::new(format!("the state has `{name}` twice")));
            }
            if let Some(living) = living {
                self.take_places(&std::mem::take(&mut rows), &sources);
                give(living)?;
            } else if let Some(left) = room.checked_sub(batch.get_array_memory_size()) {
                room = left;
                sources[source as usize].batch = Some(batch);
            }
        }
        rows.sort_by(|one, other| of_row(one, &sources).cmp(of_row(other, &sources)));
        self.take_places(&rows, &sources);
        sources.iter_mut().for_each(|source| source.keys = Vec::new());
        for rows in rows.chunks(BATCH_ROWS) {
            give(self.gather(rows, &mut sources, |name| read(state, name, schema, own))?)?;
        }
        Ok(())
    }

    /// Gives rows that were read the next slots.
    fn take_places(&mut self, rows: &[Row], sources: &[Source]) {
        for Row { source, row } in rows {
            let slot = self.places.len() as u32;
            let Source { number, stays, .. } = sources[*source as usize];
            match self.chunks.get_mut(&number).filter(|_| stays) {
                Some(chunk) => {
                    chunk.slots[*row as usize] = slot;
                    self.places.push(place(number, *row as usize));
                }
                None => self.changed(slot),
            }
        }
    }

    /// Some rows. Chunks of which they are the last ones are let go.
    fn gather(
        &self,
        rows: &[Row],
        sources: &mut [Source],
        read: impl Fn(&str) -> Result<(RecordBatch, bool)>,
    ) -> Result<RecordBatch> {
        let mut needed: Vec<u32> = rows.iter().map(|row| row.source).collect();
        needed.sort_unstable();
        needed.dedup();
        for source in &needed {
            let source = &mut sources[*source as usize];
            if source.batch.is_none() {
                let name = self.part(source.number);
                let (batch, _) = read(&name)?;
                let is_same = batch.num_rows() == source.count as usize;
                source.batch = Some(Some(batch).filter(|_| is_same).ok_or_else(|| wrong_rows(&name))?);
            }
        }
        let places = rows.iter().map(|row| (needed.partition_point(|source| *source < row.source), row.row as usize));
        let batches: Vec<&RecordBatch> =
            needed.iter().filter_map(|source| sources[*source as usize].batch.as_ref()).collect();
        let gathered = interleave_record_batch(&batches, &places.collect::<Vec<_>>())?;
        for row in rows {
            let source = &mut sources[row.source as usize];
            source.left -= 1;
            if source.left == 0 {
                source.batch = None;
            }
        }
        Ok(gathered)
    }

    fn part(&self, number: u32) -> String {
        format!("{}.{number}", self.name)
    }

    fn index(&self) -> String {
        format!("{}.index", self.name)
    }
}

/// The rows of a chunk as they were written, and whether they had just these columns.
fn read(state: &State, name: &str, schema: &SchemaRef, own: Option<usize>) -> Result<(RecordBatch, bool)> {
    let (batches, stays) = state.kept_rows(name, schema, own)?;
    Ok((concat_batches(schema, &batches)?, stays))
}

fn wrong_rows(name: &str) -> Error {
    Error::new(format!("`{name}` of the state has other rows than it should"))
}

/// Copies the columns by which rows are sorted.
fn keys(batch: &RecordBatch, order: &[usize]) -> Vec<Vec<i64>> {
    order.iter().map(|column| batch.column(*column).as_primitive::<Int64Type>().values().to_vec()).collect()
}

/// What a row is sorted by.
fn of_row<'a>(row: &'a Row, sources: &'a [Source]) -> impl Iterator<Item = i64> + 'a {
    sources[row.source as usize].keys.iter().map(|keys| keys[row.row as usize])
}

/// How many rows of these sizes make the next chunk, and how many bytes that has, about.
fn cut(sizes: &[usize]) -> (usize, u64) {
    let (mut count, mut all) = (0, 0);
    while count < sizes.len() && all < CHUNK_BYTES {
        all += sizes[count] as u64;
        count += 1;
    }
    (count, all)
}

fn place(chunk: u32, row: usize) -> u64 {
    u64::from(chunk) << 32 | row as u64
}

fn chunk_of(place: u64) -> u32 {
    (place >> 32) as u32
}

fn row_of(place: u64) -> usize {
    place as u32 as usize
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
