//! Messages as the log keeps them, and as rows.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::timezone::Tz;
use arrow::array::{
    ArrayRef, Int32Builder, RecordBatch, RecordBatchOptions, StringBuilder, TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use millstream_connectors::push::{Contents, FormatTag, ReadRecords, Refused, rows_of};
use millstream_core::{Result, ResultExt as _};
use millstream_formats::{BadRow, Rows};
use serde::{Deserialize, Serialize};

use crate::message::{Parsed, parse};

/// A message, as it is kept.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Kept<'a> {
    pub bytes: &'a [u8],
    /// Whether it is the beginning of one that was too long.
    pub is_cut: bool,
    /// Who has sent it.
    pub peer: &'a str,
    /// When it was received, in microseconds since 1970.
    pub received_at: i64,
}

/// Messages as bytes.
pub fn pack(messages: &[Kept<'_>]) -> Result<Vec<u8>> {
    postcard::to_allocvec(messages).doing(|| "keeping messages")
}

fn unpack(bytes: &[u8]) -> Result<Vec<Kept<'_>>> {
    postcard::from_bytes(bytes).doing(|| "reading messages that were kept")
}

/// The columns, which are the same for all messages.
pub fn columns() -> Schema {
    let time = || DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let field = |name: &str, data_type: DataType, nullable| Field::new(name, data_type, nullable);
    Schema::new(vec![
        field("facility", DataType::Int32, false),
        field("severity", DataType::Int32, false),
        field("at", time(), true),
        field("host", DataType::Utf8, true),
        field("app", DataType::Utf8, true),
        field("process", DataType::Utf8, true),
        field("message_id", DataType::Utf8, true),
        field("data", DataType::Utf8, true),
        field("message", DataType::Utf8, false),
        field("peer", DataType::Utf8, false),
        field("received_at", time(), false),
    ])
}

/// Messages in the log. Those that are no text, or were too long, are refused behind it.
pub struct KeptMessages {
    schema: SchemaRef,
    batch_rows: usize,
    zone: Tz,
    longest: usize,
}

impl KeptMessages {
    /// With these columns, if not all are wanted.
    pub fn new(wanted: Option<&BTreeSet<String>>, batch_rows: usize, zone: Tz, longest: usize) -> Self {
        let all = columns();
        let is_wanted = |field: &&Arc<Field>| wanted.is_none_or(|wanted| wanted.contains(field.name()));
        let fields: Vec<_> = all.fields().iter().filter(is_wanted).cloned().collect();
        Self { schema: Schema::new(fields).into(), batch_rows, zone, longest }
    }
}

impl Contents for KeptMessages {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn batch_rows(&self) -> usize {
        self.batch_rows
    }

    fn count(&self, format: FormatTag, bytes: Vec<u8>) -> Result<usize, Refused> {
        let wrong = |error: millstream_core::Error| Refused::Unreadable { row: None, why: error.to_string() };
        format.require_own().and_then(|()| unpack(&bytes)).map(|messages| messages.len()).map_err(wrong)
    }

    fn reader(&self) -> Box<dyn ReadRecords> {
        let (schema, zone, longest) = (self.schema.clone(), self.zone, self.longest);
        Box::new(KeptReader { schema, zone, longest, read: None })
    }
}

struct KeptReader {
    schema: SchemaRef,
    zone: Tz,
    longest: usize,
    read: Option<Rows>,
}

impl KeptReader {
    /// The text of a message, or why it is refused.
    fn text<'a>(&self, message: &Kept<'a>) -> Result<&'a str, String> {
        if message.is_cut {
            return Err(format!("longer than {} bytes (`max_message`), or cut off", self.longest));
        }
        std::str::from_utf8(message.bytes).map_err(|_| "the message is no valid UTF-8".to_owned())
    }

    /// Rows that follow each other.
    fn batch(&self, rows: &[(Parsed<'_>, Kept<'_>)]) -> Result<RecordBatch> {
        let column = |field: &Arc<Field>| column(field.name(), rows);
        let columns = self.schema.fields().iter().map(column).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)
    }
}

fn column(name: &str, rows: &[(Parsed<'_>, Kept<'_>)]) -> ArrayRef {
    fn numbers(values: impl Iterator<Item = i32>) -> ArrayRef {
        let mut column = Int32Builder::new();
        values.for_each(|value| column.append_value(value));
        Arc::new(column.finish())
    }
    fn times(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
        let mut column = TimestampMicrosecondBuilder::new();
        values.for_each(|value| column.append_option(value));
        Arc::new(column.finish().with_timezone("UTC"))
    }
    fn texts<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
        let mut column = StringBuilder::new();
        values.for_each(|value| column.append_option(value));
        Arc::new(column.finish())
    }
    let all = rows.iter();
    match name {
        "facility" => numbers(all.map(|(parsed, _)| parsed.facility)),
        "severity" => numbers(all.map(|(parsed, _)| parsed.severity)),
        "at" => times(all.map(|(parsed, _)| parsed.at)),
        "host" => texts(all.map(|(parsed, _)| parsed.host)),
        "app" => texts(all.map(|(parsed, _)| parsed.app)),
        "process" => texts(all.map(|(parsed, _)| parsed.process)),
        "message_id" => texts(all.map(|(parsed, _)| parsed.message_id)),
        "data" => texts(all.map(|(parsed, _)| parsed.data.as_deref())),
        "message" => texts(all.map(|(parsed, _)| Some(parsed.message))),
        "peer" => texts(all.map(|(_, kept)| Some(kept.peer))),
        _ => times(all.map(|(_, kept)| Some(kept.received_at))),
    }
}

impl ReadRecords for KeptReader {
    fn begin(&mut self, format: FormatTag, bytes: &[u8], _: usize) -> Result<()> {
        format.require_own()?;
        let messages = unpack(bytes)?;
        let read = rows_of(
            &messages,
            |position, message| match self.text(message) {
                Ok(text) => Ok((parse(text, message.received_at, self.zone), *message)),
                Err(why) => Err(BadRow::new(position, why, message.bytes)),
            },
            |rows| self.batch(rows),
        );
        self.read = Some(read?);
        Ok(())
    }

    fn next(&mut self, out: &mut Rows) -> Result<bool> {
        let Some(rows) = self.read.take() else { return Ok(false) };
        *out = rows;
        Ok(true)
    }
}
