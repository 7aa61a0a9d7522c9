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

use std::cmp::Ordering;
use std::collections::BTreeMap;

use arrow::array::cast::AsArray;
use arrow::array::{PrimitiveArray, RecordBatch};
use arrow::compute::{concat_batches, interleave_record_batch};
use arrow::datatypes::{Int64Type, SchemaRef};

use self::chunk::{Chunk, Indexed};
use super::{Parts, State};
use crate::{Error, Result};

/// About how many bytes a chunk has: what is in memory as bytes at a time while a state is written.
const CHUNK_BYTES: u64 = 1 << 20;

/// How many rows are given out at once.
const BATCH_ROWS: usize = 8192;

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

/// A row that was read: where it lies among what was read, and its place, if it may stay there.
type Read = ((usize, usize), Option<u64>);

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

    /// The rows that were put, with these columns, sorted by those of `order`, which are integers and never null. The entries have
    /// the slots from 0 on, in this order. There are none so far.
    ///
    /// With `own`, rows are taken as they had arrived, as [`State::arrived_rows`] does.
    ///
    /// # Errors
    /// If a part is missing or damaged, or if the rows have other columns.
    pub fn load(
        &mut self,
        state: &State,
        schema: &SchemaRef,
        own: Option<usize>,
        order: &[usize],
    ) -> Result<Vec<RecordBatch>> {
        let (mut batches, mut rows) = (Vec::new(), Vec::new());
        for (number, count, row_bytes, dead) in state.get::<Vec<Indexed>>(&self.index())? {
            let name = self.part(number);
            let read = match own {
                None => state.rows(&name, schema)?,
                Some(own) => state.arrived_rows(&name, schema, own)?,
            };
            let batch = concat_batches(schema, &read)?;
            let chunk =
                Chunk::of(batch.num_rows(), row_bytes, dead).filter(|chunk| chunk.slots.len() == count as usize);
            let chunk =
                chunk.ok_or_else(|| Error::new(format!("`{name}` of the state has other rows than it should")))?;
            // What has other columns now is written again.
            let stays = state.stream(&name)?.schema() == *schema;
            let live = (0..count as usize).filter(|row| chunk.lives(*row)).enumerate();
            rows.extend(live.map(|(at, row)| ((batches.len(), at), stays.then(|| place(number, row)))));
            batches.push(chunk.living(batch)?);
            self.next = self.next.max(number.saturating_add(1));
            if stays && self.chunks.insert(number, chunk).is_some() {
                return Err(Error::new(format!("the state has `{name}` twice")));
            }
        }
        if order.is_empty() {
            self.take_places(&rows);
            return Ok(batches);
        }
        sort(&mut rows, &batches, order);
        self.take_places(&rows);
        let sources: Vec<&RecordBatch> = batches.iter().collect();
        let rows: Vec<(usize, usize)> = rows.into_iter().map(|(row, _)| row).collect();
        rows.chunks(BATCH_ROWS).map(|rows| Ok(interleave_record_batch(&sources, rows)?)).collect()
    }

    /// Gives rows that were read their slots.
    fn take_places(&mut self, rows: &[Read]) {
        for (slot, (_, place)) in (0..).zip(rows) {
            match place.and_then(|place| Some((place, self.chunks.get_mut(&chunk_of(place))?))) {
                Some((place, chunk)) => {
                    chunk.slots[row_of(place)] = slot;
                    self.places.push(place);
                }
                None => self.changed(slot),
            }
        }
    }

    fn part(&self, number: u32) -> String {
        format!("{}.{number}", self.name)
    }

    fn index(&self) -> String {
        format!("{}.index", self.name)
    }
}

/// Sorts rows that were read by these columns.
fn sort(rows: &mut [Read], batches: &[RecordBatch], order: &[usize]) {
    let integers = |column: &usize| -> Vec<&PrimitiveArray<Int64Type>> {
        batches.iter().map(|batch| batch.column(*column).as_primitive()).collect()
    };
    let columns: Vec<_> = order.iter().map(integers).collect();
    rows.sort_by(|((batch, row), _), ((other, there), _)| {
        let of_columns = columns.iter().map(|column| column[*batch].value(*row).cmp(&column[*other].value(*there)));
        of_columns.fold(Ordering::Equal, Ordering::then)
    });
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
