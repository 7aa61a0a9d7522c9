//! Messages to batches.

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use millstream_core::{Columns, Result};

use super::column::Record;
use crate::messages::{MessageReader, NO_VALUE};
use crate::refusal::{Read, Refusal};
use crate::window::{MAX_BATCH_BYTES, MAX_ROW_BYTES};
use crate::{BadRow, Framed, RegisteredSchema, Rows, SchemaId};

/// How many rows a batch has at most.
const MAX_BATCH_ROWS: usize = 1 << 16;

/// Reads the record that a message is.
pub(crate) trait ReadRecord: Send {
    /// What a message is called that is not what it should be: "no valid Avro".
    const NO_VALID: &'static str;

    /// Reads the fields of a record, which may leave something behind if it is refused.
    fn read(&mut self, message: &[u8], record: &mut Record, budget: &mut Budget) -> Read<()>;

    /// The same of a message that names its schema.
    fn read_framed(&mut self, framed: &Framed, record: &mut Record, budget: &mut Budget) -> Read<()> {
        self.read(framed.value, record, budget)
    }

    /// Whether messages of a schema can't be read before it is added.
    fn needs_schema(&self, _schema: SchemaId) -> bool {
        false
    }

    /// Adds a schema. Returns what there is to note.
    fn add_schema(&mut self, _id: SchemaId, _schema: Option<&RegisteredSchema>) -> Result<Option<String>> {
        Ok(None)
    }
}

/// How many bytes a record may still become in memory.
#[derive(Debug)]
pub(crate) struct Budget {
    left: usize,
}

impl Budget {
    /// That of one record.
    pub(crate) fn of_record() -> Self {
        Self { left: MAX_BATCH_BYTES }
    }

    /// Takes some of it.
    #[inline]
    pub(crate) fn take(&mut self, bytes: usize) -> Read<()> {
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(Refusal::malformed(format!("it would take more than {MAX_BATCH_BYTES} bytes in memory"))),
        }
    }

    pub(crate) fn taken(&self) -> usize {
        MAX_BATCH_BYTES - self.left
    }
}

/// Puts records together to batches.
pub(crate) struct Batches {
    record: Record,
    schema: SchemaRef,
    batch_rows: usize,
    /// How many records have been taken since a batch was handed out, good and bad ones, and how many bytes they came to.
    taken: usize,
    bytes: usize,
    /// Where the stretches of good rows begin: in the batch, and their positions.
    stretches: Vec<(usize, u64)>,
    /// The position behind the last good row.
    next: u64,
}

impl Batches {
    pub(crate) fn new(columns: &Columns, batch_rows: usize) -> Self {
        Self {
            record: Record::of(columns),
            schema: columns.schema(),
            batch_rows: batch_rows.clamp(1, MAX_BATCH_ROWS),
            taken: 0,
            bytes: 0,
            stretches: Vec::new(),
            next: 0,
        }
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Whether the next record belongs to the next batch.
    pub(crate) fn is_full(&self) -> bool {
        self.taken == self.batch_rows || self.bytes > MAX_BATCH_BYTES
    }

    /// Takes the record that `read` reads, which may leave something behind if it refuses it. `bytes` is how many it has, or more.
    pub(crate) fn push(
        &mut self,
        position: u64,
        bytes: usize,
        read: impl FnOnce(&mut Record, &mut Budget) -> Read<()>,
    ) -> Read<()> {
        self.taken += 1;
        let row = self.record.rows();
        let mut budget = Budget::of_record();
        let read = read(&mut self.record, &mut budget).and_then(|()| self.record.end());
        self.bytes += budget.taken() + bytes;
        if let Err(refusal) = read {
            self.record.truncate(row);
            return Err(refusal);
        }
        if self.stretches.is_empty() || self.next != position {
            self.stretches.push((row, position));
        }
        self.next = position + 1;
        Ok(())
    }

    /// Hands out the rows of the records that were taken.
    pub(crate) fn flush(&mut self, out: &mut Rows) -> Result<()> {
        (self.taken, self.bytes) = (0, 0);
        if self.stretches.is_empty() {
            return Ok(());
        }
        let options = RecordBatchOptions::new().with_row_count(Some(self.record.rows()));
        let rows = RecordBatch::try_new_with_options(self.schema.clone(), self.record.finish()?, &options)?;
        let mut end = rows.num_rows();
        let before = out.batches.len();
        for (start, position) in self.stretches.drain(..).rev() {
            out.batches.push((position, rows.slice(start, end - start)));
            end = start;
        }
        out.batches[before..].reverse();
        Ok(())
    }
}

/// Reads messages that are records.
pub(crate) struct Records<R> {
    reader: R,
    batches: Batches,
}

impl<R: ReadRecord> Records<R> {
    pub(crate) fn new(reader: R, columns: &Columns, batch_rows: usize) -> Self {
        Self { reader, batches: Batches::new(columns, batch_rows) }
    }

    /// Takes a message, which becomes a row or is refused.
    fn push(
        &mut self,
        message: Option<&[u8]>,
        position: u64,
        read: impl FnOnce(&mut R, &mut Record, &mut Budget) -> Read<()>,
    ) -> Option<BadRow> {
        let bytes = message.map_or(0, <[u8]>::len);
        let read = self.batches.push(position, bytes, |record, budget| match message {
            Some(message) if message.len() > MAX_ROW_BYTES => {
                Err(Refusal::malformed(format!("longer than {MAX_ROW_BYTES} bytes")))
            }
            Some(_) => read(&mut self.reader, record, budget),
            None => Ok(()),
        });
        let refusal = read.err()?;
        let error = match (message, *refusal) {
            (None, refusal) => format!("{NO_VALUE}: {refusal}"),
            (_, refusal) => refusal.describe(R::NO_VALID),
        };
        Some(BadRow::new(position, error, message.unwrap_or_default()))
    }
}

impl<R: ReadRecord> MessageReader for Records<R> {
    fn schema(&self) -> &SchemaRef {
        self.batches.schema()
    }

    fn decode(&mut self, messages: &[Option<&[u8]>], out: &mut Rows) -> Result<()> {
        for (position, message) in (0..).zip(messages) {
            let value = message.unwrap_or_default();
            out.failed
                .extend(self.push(*message, position, |reader, record, budget| reader.read(value, record, budget)));
            if self.batches.is_full() {
                self.batches.flush(out)?;
            }
        }
        self.batches.flush(out)
    }

    fn needs_schema(&self, schema: SchemaId) -> bool {
        self.reader.needs_schema(schema)
    }

    fn add_schema(&mut self, id: SchemaId, schema: Option<&RegisteredSchema>) -> Result<Option<String>> {
        self.reader.add_schema(id, schema)
    }

    fn decode_framed(&mut self, messages: &[Option<Framed>], out: &mut Rows) -> Result<()> {
        for (position, message) in (0..).zip(messages) {
            let value = message.map(|framed| framed.value);
            out.failed.extend(self.push(value, position, |reader, record, budget| match message {
                Some(framed) => reader.read_framed(framed, record, budget),
                None => Ok(()),
            }));
            if self.batches.is_full() {
                self.batches.flush(out)?;
            }
        }
        self.batches.flush(out)
    }
}
