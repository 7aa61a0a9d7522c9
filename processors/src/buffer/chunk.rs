//! A stretch of the rows that wait: written once, and read when it has its turn.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::array::cast::AsArray;
use arrow::compute::concat_batches;
use arrow::datatypes::{Int64Type, SchemaRef};
use millstream_core::{Error, Parts, Result, State, batch_bytes};

use super::spill::{Span, Spill};

/// How many columns stand behind those that have arrived: the number of the row among all that came, and since when it has waited.
pub const OWN: usize = 2;

/// What pieces of the state are read with.
pub struct Pieces {
    /// The columns that have arrived, and the own ones.
    pub schema: SchemaRef,
    /// The state from which the node was restored.
    pub restored: State,
}

/// What is kept of a chunk in the index: its number, how many rows it has and how many of them have left, how many bytes wait, and the
/// own columns of the first row that waits.
pub type Entry = (u64, usize, usize, usize, i64, i64);

/// A stretch of rows.
pub struct Chunk {
    /// The number in the name of its piece.
    number: u64,
    /// How many rows the piece has.
    rows: usize,
    /// How many of them have left.
    taken: usize,
    /// How many bytes wait.
    pub bytes: usize,
    /// How many bytes are in memory: those of rows that have left, too, as long as the others of their batch are there.
    held: usize,
    /// The number of the first row that waits.
    pub first: i64,
    /// Since when that has waited.
    pub since: i64,
    place: Place,
    /// Whether no more rows are added.
    pub is_sealed: bool,
    /// Whether a snapshot has it.
    is_kept: bool,
}

enum Place {
    Memory(VecDeque<RecordBatch>),
    /// The file, and how many of the rows had left before the others were written there.
    Spilled(Arc<Span>, usize),
    /// The state from which the node was restored.
    Restored,
}

/// Up to which row rows leave.
#[derive(Clone, Copy)]
pub struct Until {
    /// Those with a smaller number.
    pub number: i64,
    /// Those that have waited since this time, or longer.
    pub since: i64,
}

impl Chunk {
    /// One to which rows are added, of which the first is that of `rows`.
    pub fn new(number: u64, rows: &RecordBatch) -> Self {
        let place = Place::Memory(VecDeque::new());
        let [first, since] = own(rows).map(|values| values[0]);
        Self { number, rows: 0, taken: 0, bytes: 0, held: 0, first, since, place, is_sealed: false, is_kept: false }
    }

    /// One of a state.
    pub fn restored((number, rows, taken, bytes, first, since): Entry) -> Result<Self> {
        if taken >= rows {
            return Err(Error::new(format!("`{}` of the state has no rows that wait", name(number))));
        }
        let (held, place) = (0, Place::Restored);
        Ok(Self { number, rows, taken, bytes, held, first, since, place, is_sealed: true, is_kept: true })
    }

    /// The name of its piece.
    pub fn name(&self) -> String {
        name(self.number)
    }

    /// How many rows wait.
    pub fn waiting(&self) -> usize {
        self.rows - self.taken
    }

    /// How many bytes are in memory.
    pub fn in_memory(&self) -> usize {
        self.held
    }

    /// How many of the bytes that wait are not in memory.
    pub fn on_disk(&self) -> usize {
        if matches!(self.place, Place::Memory(_)) { 0 } else { self.bytes }
    }

    /// Whether it may be put on disk.
    pub fn may_be_spilled(&self) -> bool {
        self.is_sealed && matches!(self.place, Place::Memory(_))
    }

    /// Rows are added, which are put in later.
    pub fn grow(&mut self, rows: &RecordBatch) -> Result<()> {
        self.rows += rows.num_rows();
        self.bytes += batch_bytes(&arrived(rows)?);
        self.held += batch_bytes(rows);
        Ok(())
    }

    /// Puts rows in that were added.
    pub fn put(&mut self, rows: RecordBatch) {
        if let Place::Memory(batches) = &mut self.place {
            batches.push_back(rows);
        }
    }

    /// Adds no more rows. Those that are there become one batch.
    pub fn seal(&mut self, schema: &SchemaRef) -> Result<()> {
        self.is_sealed = true;
        let Place::Memory(batches) = &mut self.place else { return Ok(()) };
        if batches.len() > 1 {
            let rows = concat_batches(schema, &*batches)?;
            self.held = batch_bytes(&rows);
            *batches = [rows].into();
        }
        Ok(())
    }

    /// Puts it on disk.
    pub fn spill(&mut self, spill: &mut Spill, schema: &SchemaRef) -> Result<()> {
        let Place::Memory(batches) = &self.place else { return Ok(()) };
        let mut parts = Parts::default();
        parts.put_rows(ROWS, schema.clone(), batches.iter().cloned().collect());
        let span = spill.write(parts.into_state()?.bytes(ROWS)?)?;
        if !self.is_kept {
            self.forget_taken();
        }
        (self.place, self.held) = (Place::Spilled(span, self.taken), 0);
        Ok(())
    }

    /// Has only the rows that wait from now on.
    fn forget_taken(&mut self) {
        (self.rows, self.taken) = (self.rows - self.taken, 0);
    }

    /// Reads it, if it is not in memory.
    pub fn load(&mut self, pieces: &Pieces) -> Result<()> {
        let (batches, left) = match &self.place {
            Place::Memory(_) => return Ok(()),
            Place::Spilled(span, left) => {
                (State::new([(ROWS.to_owned(), span.read()?)]).rows(ROWS, &pieces.schema)?, *left)
            }
            Place::Restored => (pieces.restored.arrived_rows(&self.name(), &pieces.schema, OWN)?, 0),
        };
        let rows = left + batches.iter().map(RecordBatch::num_rows).sum::<usize>();
        if rows != self.rows {
            return Err(Error::new(format!("`{}` of the state has {rows} rows instead of {}", self.name(), self.rows)));
        }
        self.held = batches.iter().map(batch_bytes).sum();
        self.place = Place::Memory(behind(batches, self.taken - left));
        Ok(())
    }

    /// Takes rows out, of one batch: those before `until`, of which `count` says how many. It has been read. With their bytes.
    pub fn take(
        &mut self,
        until: Until,
        count: impl FnOnce(&RecordBatch) -> usize,
    ) -> Result<Option<(RecordBatch, usize)>> {
        let Place::Memory(batches) = &mut self.place else { return Ok(None) };
        let Some(batch) = batches.pop_front() else { return Ok(None) };
        let [numbers, since] = own(&batch);
        let most = numbers.partition_point(|number| *number < until.number);
        let most = most.min(since.partition_point(|since| *since <= until.since));
        let rows = arrived(&batch.slice(0, most))?;
        let taken = if most == 0 { 0 } else { count(&rows).min(most) };
        if taken < batch.num_rows() {
            batches.push_front(batch.slice(taken, batch.num_rows() - taken));
        } else {
            self.held = batches.iter().map(batch_bytes).sum();
        }
        self.taken += taken;
        if let Some(next) = batches.front() {
            [self.first, self.since] = own(next).map(|values| values[0]);
        }
        let rows = rows.slice(0, taken);
        let bytes = if self.waiting() == 0 { self.bytes } else { batch_bytes(&rows).min(self.bytes) };
        self.bytes -= bytes;
        Ok((taken > 0).then_some((rows, bytes)))
    }

    /// Puts the rows of the chunk before in front, if that is no larger. Returns whether it has.
    ///
    /// Where little comes between two checkpoints, chunks are small. Put together like that, as in a binary counter, there are few, and a
    /// row is written only a few times.
    pub fn absorb(&mut self, before: &mut Self, small: usize, pieces: &Pieces) -> Result<bool> {
        let is_wanted = !self.is_kept && before.bytes < small && before.bytes <= self.bytes;
        let Place::Memory(last) = &self.place else { return Ok(false) };
        if !is_wanted {
            return Ok(false);
        }
        before.load(pieces)?;
        let Place::Memory(first) = &before.place else { return Ok(false) };
        let rows = concat_batches(&pieces.schema, first.iter().chain(last))?;
        self.held = batch_bytes(&rows);
        self.place = Place::Memory([rows].into());
        (self.rows, self.taken) = (before.waiting() + self.waiting(), 0);
        self.bytes += before.bytes;
        (self.first, self.since) = (before.first, before.since);
        Ok(true)
    }

    /// Hands it over to a checkpoint, if none before has it. Nothing is added any more.
    pub fn keep(&mut self, parts: &mut Parts, schema: &SchemaRef) -> Entry {
        match &self.place {
            _ if self.is_kept => parts.keep(self.name()),
            Place::Memory(batches) => {
                parts.put_rows(self.name(), schema.clone(), batches.iter().cloned().collect());
                self.forget_taken();
            }
            Place::Spilled(span, _) => {
                let span = span.clone();
                parts.put_bytes_later(self.name(), move || span.read());
            }
            Place::Restored => parts.keep(self.name()),
        }
        (self.is_kept, self.is_sealed) = (true, true);
        (self.number, self.rows, self.taken, self.bytes, self.first, self.since)
    }
}

/// The name of rows that are written to disk.
const ROWS: &str = "rows";

fn name(number: u64) -> String {
    format!("rows.{number}")
}

/// The own columns: the numbers of the rows, and since when they have waited.
fn own(rows: &RecordBatch) -> [&[i64]; OWN] {
    let first = rows.num_columns() - OWN;
    [first, first + 1].map(|column| rows.column(column).as_primitive::<Int64Type>().values().as_ref())
}

/// The columns that have arrived.
pub fn arrived(rows: &RecordBatch) -> Result<RecordBatch> {
    Ok(rows.project(&(0..rows.num_columns() - OWN).collect::<Vec<_>>())?)
}

/// The rows behind the first ones.
fn behind(batches: Vec<RecordBatch>, mut skipped: usize) -> VecDeque<RecordBatch> {
    let mut rest = VecDeque::new();
    for batch in batches {
        let here = skipped.min(batch.num_rows());
        skipped -= here;
        if here < batch.num_rows() {
            rest.push_back(batch.slice(here, batch.num_rows() - here));
        }
    }
    rest
}
