//! Documents to batches.

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use millstream_core::{Columns, Result};

use super::object::{Column, Object};
use super::scanner::Scanner;
use crate::refusal::{Read, Refusal};
use crate::rows::NO_TEXT;
use crate::text::Moments;
use crate::window::{MAX_BATCH_BYTES, MAX_ROW_BYTES};
use crate::{BadRow, Rows};

/// How many rows a batch has at most.
pub(super) const MAX_BATCH_ROWS: usize = 1 << 16;

/// Decodes JSON documents to batches.
///
/// Unknown keys are ignored. A number or boolean in a utf8 column stands for its text, a text in a column of numbers
/// for the number. Timestamps, dates and times are texts, binary is hexadecimal.
pub struct JsonDecoder {
    object: Object,
    schema: SchemaRef,
    batch_rows: usize,
    /// How many documents have been taken since a batch was handed out, good and bad ones, and how many bytes they had.
    taken: usize,
    bytes: usize,
    /// Where the stretches of good rows begin: in the batch, and their positions.
    stretches: Vec<(usize, u64)>,
    /// The position behind the last good row.
    next: u64,
    unescaped: String,
    /// The message that rejects a row which is an array, where an object is expected.
    no_array: &'static str,
}

impl JsonDecoder {
    /// Makes a decoder of `columns` that hands out at most `batch_rows` rows at once, and never more than 65,536.
    pub fn new(columns: &Columns, moments: &Moments, batch_rows: usize) -> Self {
        let schema = columns.schema();
        let columns = columns.0.iter().map(|(name, column)| Column::new(name, column, moments)).collect();
        Self {
            object: Object::new(columns),
            schema,
            batch_rows: batch_rows.clamp(1, MAX_BATCH_ROWS),
            taken: 0,
            bytes: 0,
            stretches: Vec::new(),
            next: 0,
            unescaped: String::new(),
            no_array: "expected an object; `format = \"json\"` reads arrays of objects",
        }
    }

    /// A decoder like this one for messages, each of which is one row, so that no advice to read arrays is given.
    pub(super) fn of_messages(self) -> Self {
        Self { no_array: "expected an object instead of an array", ..self }
    }

    /// The columns of the batches.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Decodes documents, the first of which has position `first`; each is good or bad for itself.
    pub fn decode(&mut self, documents: &[&[u8]], first: u64, out: &mut Rows) -> Result<()> {
        for (position, document) in (first..).zip(documents) {
            out.failed.extend(self.push(document, position));
            if self.is_full() {
                self.flush(out)?;
            }
        }
        self.flush(out)
    }

    /// Whether the next document belongs to the next batch.
    pub(crate) fn is_full(&self) -> bool {
        self.taken == self.batch_rows || self.bytes > MAX_BATCH_BYTES
    }

    /// Takes a document, which becomes a row or is rejected.
    pub(crate) fn push(&mut self, document: &[u8], position: u64) -> Option<BadRow> {
        self.taken += 1;
        self.bytes += document.len();
        let row = self.object.rows();
        let read = match std::str::from_utf8(document) {
            Ok(text) => self.read(text).map_err(|refusal| refusal.describe("no valid JSON")),
            Err(_) => Err(NO_TEXT.to_owned()),
        };
        if let Err(error) = read {
            self.object.truncate(row);
            return Some(BadRow::new(position, error, document));
        }
        if self.stretches.is_empty() || self.next != position {
            self.stretches.push((row, position));
        }
        self.next = position + 1;
        None
    }

    fn read(&mut self, text: &str) -> Read<()> {
        if text.len() > MAX_ROW_BYTES {
            return Err(Refusal::malformed(format!("longer than {MAX_ROW_BYTES} bytes")));
        }
        let mut json = Scanner::new(text, &mut self.unescaped);
        match json.peek() {
            b'{' => {}
            b'[' => return Err(Refusal::malformed(self.no_array)),
            _ => return Err(json.unexpected("an object")),
        }
        self.object.read(&mut json)?;
        json.end()
    }

    /// Hands out the rows of the documents that were taken.
    pub(crate) fn flush(&mut self, out: &mut Rows) -> Result<()> {
        (self.taken, self.bytes) = (0, 0);
        if self.stretches.is_empty() {
            return Ok(());
        }
        let options = RecordBatchOptions::new().with_row_count(Some(self.object.rows()));
        let rows = RecordBatch::try_new_with_options(self.schema.clone(), self.object.finish()?, &options)?;
        let mut end = rows.num_rows();
        let stretches = self.stretches.drain(..).rev().map(|(start, position)| {
            let stretch = rows.slice(start, end - start);
            end = start;
            (position, stretch)
        });
        let before = out.batches.len();
        out.batches.extend(stretches);
        out.batches[before..].reverse();
        Ok(())
    }
}
