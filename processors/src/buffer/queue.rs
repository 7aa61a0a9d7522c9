//! The rows that wait: a line for each priority, in memory as far as they fit, and the others on disk.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array, RecordBatch};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use millstream_core::{Home, Parts, Result, State, batch_bytes};
use serde::{Deserialize, Serialize};

use super::chunk::{Chunk, Entry, Pieces, Until};
use super::line::Line;
use super::spill::Spill;

/// The highest priority. There is a line for each, so that there are not very many.
pub const HIGHEST: u8 = 63;

/// A chunk has so many bytes at most, about: what is read or written at once, and what a checkpoint has an entry for.
const CHUNK_BYTES: usize = 4 << 20;

/// Rows that wait.
pub struct Queue {
    /// By priority.
    lines: BTreeMap<u8, Line>,
    rows: usize,
    bytes: usize,
    /// The number of the next row that comes.
    next: i64,
    /// The number of the next chunk.
    next_chunk: u64,
    /// How many bytes may be in memory.
    memory: usize,
    pieces: Pieces,
    spill: Spill,
}

/// What is kept of it, besides the rows.
#[derive(Serialize, Deserialize)]
struct Index {
    next: i64,
    next_chunk: u64,
    lines: Vec<(u8, Vec<Entry>)>,
}

/// The part of a state with the index.
const INDEX: &str = "rows";

impl Queue {
    /// An empty one for rows of these columns. `memory` says how many bytes may be in memory, about.
    pub fn new(schema: &Schema, memory: usize) -> Self {
        let own = ["number", "since"].map(|name| Arc::new(Field::new(name, DataType::Int64, false)));
        let fields: Vec<_> = schema.fields().iter().cloned().chain(own).collect();
        let schema = Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()));
        Self {
            lines: BTreeMap::new(),
            rows: 0,
            bytes: 0,
            next: 0,
            next_chunk: 0,
            memory,
            pieces: Pieces { schema, restored: State::default() },
            spill: Spill::default(),
        }
    }

    /// Says where rows may be put that do not fit into memory.
    pub fn open(&mut self, home: &Home) {
        self.spill = Spill::new(home);
    }

    /// How many rows wait.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// How many bytes wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many of them are not in memory.
    pub fn bytes_on_disk(&self) -> usize {
        self.lines.values().flat_map(Line::chunks).map(Chunk::on_disk).sum()
    }

    /// The number of the next row that comes.
    pub fn next(&self) -> i64 {
        self.next
    }

    /// The number of the row that has waited longest, and since when it has.
    pub fn oldest(&self) -> Option<(i64, i64)> {
        self.lines.values().filter_map(Line::first).min()
    }

    /// Adds rows, with the priority of each if they have any, and since when they wait.
    pub fn push(&mut self, rows: &RecordBatch, priorities: Option<&[u8]>, since: ArrayRef) -> Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        self.rows += rows.num_rows();
        self.bytes += batch_bytes(rows);
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values((self.next..).take(rows.num_rows())));
        self.next += rows.num_rows() as i64;
        let columns = rows.columns().iter().cloned().chain([numbers, since]).collect();
        let rows = RecordBatch::try_new(self.pieces.schema.clone(), columns)?;
        match priorities {
            None => self.push_line(0, rows)?,
            Some(priorities) => {
                for (priority, rows) in by_priority(rows, priorities)? {
                    self.push_line(priority, rows)?;
                }
            }
        }
        Ok(())
    }

    /// Adds rows of a priority, as many at a time as a chunk has.
    fn push_line(&mut self, priority: u8, rows: RecordBatch) -> Result<()> {
        let chunk_bytes = self.chunk_bytes();
        let count = rows.num_rows();
        let step = count.saturating_mul(chunk_bytes) / batch_bytes(&rows).max(1);
        let step = step.clamp(1, count);
        for start in (0..count).step_by(step) {
            let rows = rows.slice(start, step.min(count - start));
            let line = self.lines.entry(priority).or_insert_with(|| Line::new(self.pieces.schema.clone()));
            line.push(&rows, chunk_bytes, &mut self.next_chunk)?;
            self.make_room()?;
        }
        Ok(())
    }

    /// How many bytes a chunk has, about. One of each line that is being read and one that is being added to are in memory together, so that
    /// lines don't push each other out.
    fn chunk_bytes(&self) -> usize {
        (self.memory / (2 * self.lines.len()).max(8)).clamp(1, CHUNK_BYTES)
    }

    fn in_memory(&self) -> usize {
        self.lines.values().flat_map(Line::chunks).map(Chunk::in_memory).sum()
    }

    /// Puts rows on disk while too many are in memory: those that leave last first.
    fn make_room(&mut self) -> Result<()> {
        let mut in_memory = self.in_memory();
        while in_memory > self.memory && (self.spill_last()? || self.seal_largest()?) {
            in_memory = self.in_memory();
        }
        Ok(())
    }

    fn spill_last(&mut self) -> Result<bool> {
        for line in self.lines.values_mut() {
            if line.spill_last(&mut self.spill, &self.pieces.schema)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Where no chunk is complete, the one with most rows is.
    fn seal_largest(&mut self) -> Result<bool> {
        let largest = self.lines.values_mut().max_by_key(|line| line.open_bytes());
        let largest = largest.filter(|line| line.open_bytes() > 0);
        largest.map_or(Ok(false), |line| line.seal().map(|()| true))
    }

    /// Takes the next rows out, `most` at the most. If the row that has waited longest is one of them, none behind the one with the number
    /// `border`, unless older ones are left: until then, event time stands still.
    pub fn take_next(&mut self, most: usize, border: i64) -> Result<Option<RecordBatch>> {
        let Some(priority) = self.lines.keys().next_back().copied() else { return Ok(None) };
        let others = self.oldest_but(priority);
        let number = if others >= border { border } else { i64::MAX };
        self.take(priority, Until { number, since: i64::MAX }, |_| most)
    }

    /// Takes those out that have waited longest: those before `until`, of which `count` says how many.
    pub fn take_oldest(
        &mut self,
        until: Until,
        count: impl FnOnce(&RecordBatch) -> usize,
    ) -> Result<Option<RecordBatch>> {
        let lines = self.lines.iter().filter_map(|(priority, line)| Some((line.first()?, *priority)));
        let Some((_, priority)) = lines.min() else { return Ok(None) };
        let number = self.oldest_but(priority).min(until.number);
        self.take(priority, Until { number, ..until }, count)
    }

    /// The number of the row that has waited longest, but for those of one priority.
    fn oldest_but(&self, priority: u8) -> i64 {
        let others = self.lines.iter().filter(|(other, _)| **other != priority);
        others.filter_map(|(_, line)| line.first()).map(|(number, _)| number).min().unwrap_or(i64::MAX)
    }

    fn take(
        &mut self,
        priority: u8,
        until: Until,
        count: impl FnOnce(&RecordBatch) -> usize,
    ) -> Result<Option<RecordBatch>> {
        let Some(line) = self.lines.get_mut(&priority) else { return Ok(None) };
        let Some((rows, bytes)) = line.take(until, count, &self.pieces)? else { return Ok(None) };
        if line.first().is_none() {
            self.lines.remove(&priority);
        }
        self.rows -= rows.num_rows();
        self.bytes = self.bytes.saturating_sub(bytes);
        Ok(Some(rows))
    }

    /// Hands over what a checkpoint needs: rows that it has already are not written again.
    pub fn keep(&mut self, parts: &mut Parts) -> Result<()> {
        let chunk_bytes = self.chunk_bytes();
        let (lines, pieces) = (self.lines.iter_mut(), &self.pieces);
        let lines = lines.map(|(priority, line)| Ok((*priority, line.keep(parts, chunk_bytes, pieces)?)));
        let lines = lines.collect::<Result<Vec<_>>>()?;
        parts.put(INDEX, &Index { next: self.next, next_chunk: self.next_chunk, lines })
    }

    /// Goes on from a state. Rows stay there until they have their turn.
    pub fn restore(&mut self, state: &State) -> Result<()> {
        let Index { next, next_chunk, lines } = state.get(INDEX)?;
        (self.next, self.next_chunk) = (next, next_chunk);
        self.pieces.restored = state.clone();
        for (priority, entries) in lines {
            let line = Line::restored(self.pieces.schema.clone(), entries)?;
            for chunk in line.chunks() {
                if !state.has(&chunk.name()) {
                    // Says so.
                    state.bytes(&chunk.name())?;
                }
            }
            if line.first().is_some() {
                self.lines.insert(priority, line);
            }
        }
        for chunk in self.lines.values().flat_map(Line::chunks) {
            self.rows = self.rows.saturating_add(chunk.waiting());
            self.bytes = self.bytes.saturating_add(chunk.bytes);
        }
        // If they can't be brought to the columns that arrive now, it is noticed before this process takes the flow over.
        self.lines.values_mut().next_back().map_or(Ok(()), |line| line.load_first(&self.pieces))
    }
}

/// Rows by their priorities.
fn by_priority(rows: RecordBatch, priorities: &[u8]) -> Result<Vec<(u8, RecordBatch)>> {
    let mut present: Vec<u8> = priorities.to_vec();
    present.sort_unstable();
    present.dedup();
    if let [one] = present.as_slice() {
        return Ok(vec![(*one, rows)]);
    }
    let of = |priority: u8| {
        let mask: BooleanArray = priorities.iter().map(|other| Some(*other == priority)).collect();
        Ok((priority, filter_record_batch(&rows, &mask)?))
    };
    present.into_iter().map(of).collect()
}

/// The priorities of rows, by a column of integers: from 0 to [`HIGHEST`]. Null is 0.
pub fn priorities(column: &ArrayRef) -> Result<Vec<u8>> {
    let numbers = cast(column, &DataType::Int64)?;
    let numbers = numbers.as_primitive::<Int64Type>();
    let priority = |(row, number): (usize, Option<i64>)| match number {
        Some(number) => number.clamp(0, HIGHEST.into()) as u8,
        // A number that is too large for the type.
        None if column.is_valid(row) => HIGHEST,
        None => 0,
    };
    Ok(numbers.iter().enumerate().map(priority).collect())
}

/// How many rows stand before the one with which `bytes` are reached, with it; all if they aren't.
pub fn rows_reaching(rows: &RecordBatch, bytes: usize) -> usize {
    partition(rows, |before| batch_bytes(&rows.slice(0, before)) < bytes)
}

/// How many rows have no more than so many bytes.
pub fn rows_within(rows: &RecordBatch, bytes: usize) -> usize {
    partition(rows, |before| batch_bytes(&rows.slice(0, before + 1)) <= bytes)
}

/// How many of the first rows are such, by how many stand before them.
fn partition(rows: &RecordBatch, is_such: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, rows.num_rows());
    while low < high {
        let middle = low.midpoint(high);
        if is_such(middle) { low = middle + 1 } else { high = middle }
    }
    low
}
