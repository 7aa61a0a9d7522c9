//! NDJSON: one JSON object a line.
//!
//! Arrow's decoder is fed whole stretches of lines, a batch at once. It stops at the first thing that it does not
//! like, so a batch that fails is decoded again in halves, down to the lines that are to blame.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, ListArray, RecordBatch, RecordBatchOptions, StructArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Float64Type, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::ReaderBuilder;
use arrow::json::reader::Decoder;
use millstream_core::{ColumnType, Columns, Result, ResultExt};

use crate::depth::{MAX_DEPTH, is_too_deep};
use crate::read::{BatchReader, Mark};
use crate::rows::NO_TEXT;
use crate::text::{Moments, TextColumn};
use crate::window::{MAX_BATCH_BYTES, MAX_ROW_BYTES, Window};
use crate::{BadRow, Rows};

/// How many rows are decoded at once at most: Arrow allocates for as many as it may get before it sees any.
const MAX_BATCH_ROWS: usize = 1 << 16;

/// Decodes JSON documents to batches.
///
/// Unknown keys are ignored. A number or boolean in a utf8 column stands for its text, a text in a column of numbers
/// for the number. Timestamps, dates and times are texts, binary is hexadecimal.
pub struct JsonDecoder {
    columns: Vec<Column>,
    schema: SchemaRef,
    /// What Arrow decodes to: texts where this crate's own rules for values apply.
    wire: SchemaRef,
    batch_rows: usize,
}

struct Column {
    field: FieldRef,
    kind: Kind,
}

/// How a decoded array becomes the column's.
enum Kind {
    /// As it is.
    Ready,
    /// Integers, decoded as floating-point numbers.
    Whole,
    Text(TextColumn),
    List(Box<Column>),
    Struct(Vec<Column>),
}

/// What Arrow decodes integers to. To integers it would decode 1.5, too, and make it 1.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Integers {
    /// Any integer.
    Texts,
    /// Faster, but only for those that are one of the integers that floating-point numbers can be.
    Floats,
}

impl JsonDecoder {
    /// Decodes `columns`, at most `batch_rows` documents at once, and never more than 65,536.
    pub fn new(columns: &Columns, moments: &Moments, batch_rows: usize) -> Result<Self> {
        Self::with(columns, moments, batch_rows, Integers::Texts)
    }

    fn with(columns: &Columns, moments: &Moments, batch_rows: usize, integers: Integers) -> Result<Self> {
        let schema = columns.schema();
        let fields = schema.fields().iter().zip(&columns.0);
        let columns: Vec<_> = fields.map(|(field, (_, kind))| Column::new(field, kind, moments, integers)).collect();
        let wire = |column: &Column| Field::new(column.field.name(), column.wire_type(), true);
        let wire = Arc::new(Schema::new(columns.iter().map(wire).collect::<Fields>()));
        // Fails here, and not at the first row, if there is a type that Arrow can't decode.
        decoder(&wire, 1)?;
        Ok(Self { columns, schema, wire, batch_rows: batch_rows.clamp(1, MAX_BATCH_ROWS) })
    }

    /// The columns of the batches.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Decodes documents, the first of which has position `first`; each is good or bad for itself.
    pub fn decode(&self, documents: &[&[u8]], first: u64, out: &mut Rows) -> Result<()> {
        let mut rows = Rows::default();
        for (number, documents) in documents.chunks(self.batch_rows).enumerate() {
            let first = first + (number * self.batch_rows) as u64;
            self.decode_halves(documents, first, &mut rows)?;
        }
        rows.join_neighbours()?;
        out.batches.append(&mut rows.batches);
        out.failed.append(&mut rows.failed);
        Ok(())
    }

    fn decode_halves(&self, documents: &[&[u8]], first: u64, out: &mut Rows) -> Result<()> {
        match self.decode_all(documents) {
            Ok(rows) => out.batches.push((first, rows)),
            Err(error) if documents.len() == 1 => {
                out.failed.push(BadRow::new(first, of_text(documents[0], error), documents[0]));
            }
            Err(_) => {
                let (left, right) = documents.split_at(documents.len() / 2);
                self.decode_halves(left, first, out)?;
                self.decode_halves(right, first + left.len() as u64, out)?;
            }
        }
        Ok(())
    }

    /// All documents, or the first error.
    fn decode_all(&self, documents: &[&[u8]]) -> Result<RecordBatch, String> {
        // One row more than there are, so that a document that follows another on its line is noticed.
        let mut decoder = decoder(&self.wire, documents.len() + 1).map_err(|error| error.to_string())?;
        for (number, document) in documents.iter().enumerate() {
            if is_too_deep(document) {
                return Err(format!("no valid JSON: nested deeper than {MAX_DEPTH} levels"));
            }
            let read = decoder.decode(document).map_err(complaint)?;
            if read < document.len() || decoder.len() != number + 1 {
                return Err("no valid JSON: expected one object on the line".to_owned());
            }
            if decoder.has_partial_record() {
                return Err("no valid JSON: the object is not closed".to_owned());
            }
        }
        let rows = decoder.flush().map_err(complaint)?;
        self.restore(rows.ok_or_else(|| "no valid JSON: expected an object".to_owned())?)
    }

    /// The rows that Arrow decoded with the columns' own types.
    fn restore(&self, rows: RecordBatch) -> Result<RecordBatch, String> {
        let arrays = self.columns.iter().zip(rows.columns());
        let arrays = arrays.map(|(column, array)| column.restore(array, true)).collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options).map_err(complaint)
    }
}

fn decoder(wire: &SchemaRef, batch_rows: usize) -> Result<Decoder> {
    let builder = ReaderBuilder::new(wire.clone()).with_batch_size(batch_rows).with_coerce_primitive(true);
    builder.build_decoder().doing(|| "preparing to read JSON")
}

/// What is wrong with a document: that it is no text is the cause of all else.
fn of_text(document: &[u8], error: String) -> String {
    if std::str::from_utf8(document).is_ok() { error } else { NO_TEXT.to_owned() }
}

fn complaint(error: ArrowError) -> String {
    let text = match error {
        ArrowError::JsonError(text) => text,
        other => other.to_string(),
    };
    let lower = text.chars().take(1).flat_map(char::to_lowercase).chain(text.chars().skip(1));
    match text.strip_prefix("whilst decoding field ") {
        Some(text) => format!("column {}", text.replacen('\'', "`", 2)),
        None => format!("no valid JSON: {}", lower.collect::<String>()),
    }
}

impl Column {
    fn new(field: &FieldRef, column: &ColumnType, moments: &Moments, integers: Integers) -> Self {
        let inner = |field: &FieldRef| {
            let column = ColumnType { data_type: field.data_type().clone(), nullable: field.is_nullable(), unit: None };
            Self::new(field, &column, moments, integers)
        };
        let kind = match field.data_type() {
            DataType::List(item) => Kind::List(Box::new(inner(item))),
            DataType::Struct(fields) => Kind::Struct(fields.iter().map(inner).collect()),
            DataType::Boolean | DataType::Utf8 | DataType::Float32 | DataType::Float64 => Kind::Ready,
            integer if integer.is_integer() && integers == Integers::Floats => Kind::Whole,
            // Arrow would cut off the fraction of a number in a column of integers and half a byte of binary, take a
            // timestamp without an offset for UTC, and a number for a date.
            other => Kind::Text(TextColumn::new(other.clone(), column.unit, moments)),
        };
        Self { field: field.clone(), kind }
    }

    fn wire_type(&self) -> DataType {
        match &self.kind {
            Kind::Ready => self.field.data_type().clone(),
            Kind::Whole => DataType::Float64,
            Kind::Text(_) => DataType::Utf8,
            Kind::List(item) => DataType::List(Arc::new(item.wire_field())),
            Kind::Struct(fields) => DataType::Struct(fields.iter().map(Self::wire_field).collect()),
        }
    }

    fn wire_field(&self) -> Field {
        Field::new(self.field.name(), self.wire_type(), self.field.is_nullable())
    }

    /// The values in the column's own type. Inside of others, Arrow has checked for nulls.
    fn restore(&self, array: &ArrayRef, outermost: bool) -> Result<ArrayRef, String> {
        let name = self.field.name();
        if outermost && !self.field.is_nullable() && array.null_count() > 0 {
            return Err(format!("column `{name}` is missing or null"));
        }
        match &self.kind {
            Kind::Ready => Ok(array.clone()),
            Kind::Whole => whole(array, self.field.data_type()),
            Kind::Text(text) => {
                let mut refused = None;
                let cells = array.as_string::<i32>();
                let restored = text.decode(cells.iter(), cells.len(), &mut |_, cell| {
                    refused.get_or_insert_with(|| format!("column `{name}`: {}", text.complaint(cell)));
                });
                refused.map_or(Ok(restored), Err)
            }
            Kind::List(item) => {
                let DataType::List(field) = self.field.data_type() else { return Ok(array.clone()) };
                let list = array.as_list::<i32>();
                let values = item.restore(list.values(), false)?;
                let list = ListArray::try_new(field.clone(), list.offsets().clone(), values, list.nulls().cloned());
                Ok(Arc::new(list.map_err(complaint)?))
            }
            Kind::Struct(columns) => {
                let DataType::Struct(fields) = self.field.data_type() else { return Ok(array.clone()) };
                let rows = array.as_struct();
                let columns = columns.iter().zip(rows.columns());
                let columns = columns.map(|(column, array)| column.restore(array, false)).collect::<Result<_, _>>()?;
                let nulls = rows.nulls().cloned();
                let rows = StructArray::try_new_with_length(fields.clone(), columns, nulls, rows.len());
                Ok(Arc::new(rows.map_err(complaint)?))
            }
        }
    }
}

/// The integers that floating-point numbers are, if all of them are some.
fn whole(array: &ArrayRef, integer: &DataType) -> Result<ArrayRef, String> {
    /// Below this, every integer is a floating-point number of its own.
    const EXACT: f64 = (1_i64 << 53) as f64;
    let numbers = array.as_primitive::<Float64Type>();
    let mut all = true;
    // Where there is null the value is 0. No early exit, so that several numbers are converted at once.
    let convert = |number: &f64| {
        let integer = *number as i64;
        all &= integer as f64 == *number && number.abs() < EXACT;
        integer
    };
    let integers: Vec<i64> = numbers.values().iter().map(convert).collect();
    if !all {
        return Err("a number may be no integer".to_owned());
    }
    let integers: ArrayRef = Arc::new(Int64Array::new(integers.into(), numbers.nulls().cloned()));
    cast_with_options(&integers, integer, &CastOptions { safe: false, ..CastOptions::default() }).map_err(complaint)
}

/// Reads NDJSON. Blank lines are skipped and count no position.
pub(crate) struct NdjsonReader {
    window: Window,
    /// Takes stretches of lines, as long as they are good.
    stretches: Decoder,
    /// Makes batches of what `stretches` has decoded; if `None`, `lines` does.
    fast: Option<JsonDecoder>,
    /// Takes the lines of a stretch that is not good, or has integers that the fast decoder can't tell apart.
    lines: JsonDecoder,
    position: u64,
}

impl NdjsonReader {
    pub(crate) fn new(window: Window, columns: &Columns, moments: &Moments, batch_rows: usize) -> Result<Self> {
        let fast = JsonDecoder::with(columns, moments, batch_rows, Integers::Floats)?;
        let lines = JsonDecoder::new(columns, moments, batch_rows)?;
        let stretches = decoder(&fast.wire, fast.batch_rows)?;
        Ok(Self { window, stretches, fast: Some(fast), lines, position: 0 })
    }

    fn stretch_decoder(&self) -> &JsonDecoder {
        self.fast.as_ref().unwrap_or(&self.lines)
    }

    /// Feeds the decoder lines until a batch is full. Returns how many bytes the batch has, or `None` if they can't
    /// be decoded as they are.
    fn feed(&mut self) -> Result<Option<usize>> {
        let (mut fed, mut dry) = (0, false);
        loop {
            let (text, start) = (self.window.lines(), fed);
            let mut breaks = memchr::memchr_iter(b'\n', &text[start..]);
            while fed < text.len() && !is_full(&self.stretches, fed, self.lines.batch_rows) {
                let end = breaks.next().map_or(text.len(), |length| start + length + 1);
                if !takes_line(&mut self.stretches, &text[fed..end]) {
                    return Ok(None);
                }
                fed = end;
            }
            let is_due = self.window.ended() || dry || (self.window.eager() && !self.stretches.is_empty());
            if is_due || self.window.is_too_long(fed) || is_full(&self.stretches, fed, self.lines.batch_rows) {
                return Ok(Some(fed));
            }
            self.window.fill()?;
            dry = self.window.dry();
        }
    }

    /// What was fed, as a batch; an error if any row of it is bad.
    fn flush(&mut self) -> Result<RecordBatch, String> {
        let rows = self.stretches.flush().map_err(complaint)?;
        let decoder = self.stretch_decoder();
        decoder.restore(rows.unwrap_or_else(|| RecordBatch::new_empty(decoder.wire.clone())))
    }

    /// Decodes a batch's worth of lines one by one, up to one that is too long.
    fn decode_lines(&mut self, out: &mut Rows) -> Result<()> {
        let text = self.window.lines();
        let (mut lines, mut starts) = (Vec::new(), Vec::new());
        let mut end = 0;
        while lines.len() < self.lines.batch_rows && end < text.len() {
            let length = memchr::memchr(b'\n', &text[end..]).map_or(text.len() - end, |length| length + 1);
            if length > MAX_ROW_BYTES {
                break;
            }
            let line = text[end..end + length].trim_ascii();
            end += length;
            if !line.is_empty() {
                lines.push(line);
                starts.push(end - length);
            }
        }
        let failed = out.failed.len();
        self.lines.decode(&lines, self.position, out)?;
        if out.failed.len() == failed {
            // The stretch was good, but not for the fast decoder. It won't be for what follows either.
            self.fast = None;
        }
        let first = self.position;
        self.window.number_lines(&mut out.failed[failed..], |position| starts[(position - first) as usize])?;
        self.position += starts.len() as u64;
        self.window.consume(end);
        self.stretches = decoder(&self.stretch_decoder().wire, self.lines.batch_rows)?;
        Ok(())
    }
}

impl BatchReader for NdjsonReader {
    fn schema(&self) -> &SchemaRef {
        self.lines.schema()
    }

    fn next(&mut self, out: &mut Rows) -> Result<bool> {
        if let Some(has_ended) = self.window.pass_long_line(self.position, out)? {
            self.position += u64::from(has_ended);
            return Ok(has_ended);
        }
        let Some(fed) = self.feed()? else {
            self.decode_lines(out)?;
            return Ok(true);
        };
        if self.stretches.is_empty() {
            self.window.consume(fed);
            return if self.window.is_too_long(0) { self.next(out) } else { Ok(false) };
        }
        match self.flush() {
            Ok(rows) => {
                let start = self.position;
                self.position += rows.num_rows() as u64;
                self.window.consume(fed);
                out.batches.push((start, rows));
            }
            Err(_) => self.decode_lines(out)?,
        }
        Ok(true)
    }

    fn mark(&self) -> Mark {
        Mark { position: self.position, offset: self.window.offset() }
    }

    fn go_to(&mut self, mark: Mark) -> Result<()> {
        self.position = mark.position;
        self.window.go_to(mark.offset)
    }

    fn end(&mut self) {
        self.window.end();
    }
}

/// Whether a batch of `fed` bytes has to end.
fn is_full(decoder: &Decoder, fed: usize, batch_rows: usize) -> bool {
    decoder.len() == batch_rows || fed > MAX_BATCH_BYTES
}

/// Feeds a decoder one line. Returns false unless the line is blank or one whole object, and so would be the same
/// wherever the batch is cut.
fn takes_line(decoder: &mut Decoder, line: &[u8]) -> bool {
    let rows = decoder.len();
    if line.len() > MAX_ROW_BYTES || is_too_deep(line) {
        return false;
    }
    let Ok(read) = decoder.decode(line) else { return false };
    let is_whole = read == line.len() && !decoder.has_partial_record();
    is_whole && decoder.len() <= rows + 1
}
