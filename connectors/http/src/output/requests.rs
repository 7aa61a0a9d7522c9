//! Rows as requests. Which rows a request has, and its bytes, follow from the batch and the row that it begins with, so that a repeated
//! request is the same one.

use std::ops::Range;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use bytes::Bytes;
use millstream_core::{Error, PlanContext, Problem, Result, batch_bytes};
use millstream_formats::{
    Compression, Format, MessageWriter, Payloads, WriteFormat, WriteMessageFormat, WriteMessages, WriteOptions,
};

/// What the settings say of what requests have in them.
pub enum Written<'a> {
    /// Rows.
    Batch(WriteFormat, Option<Compression>),
    /// One row.
    Message(&'a Format<WriteMessages>),
}

/// How rows become requests.
pub struct Layout {
    pub body: Body,
    /// The column that is not sent.
    pub left_out: Option<String>,
    /// How many rows a request has at most.
    pub rows: usize,
    /// How many bytes it has at most before it is compressed, unless it is one row.
    pub bytes: usize,
}

/// What a request has in it.
pub enum Body {
    /// Rows.
    Batch(WriteFormat, Option<Compression>),
    /// One row.
    Message(WriteMessageFormat),
}

/// The body of a request, and which rows of the batch it has.
#[derive(Debug, PartialEq, Eq)]
pub struct Packed {
    pub body: Bytes,
    pub rows: Range<usize>,
}

/// Writes rows as messages, and keeps what it has planned for their columns until others come.
#[derive(Default)]
pub struct Messages {
    open: Option<(SchemaRef, Box<dyn MessageWriter>)>,
    payloads: Payloads,
}

/// The rows of a batch, as what requests are made of.
pub struct Requests<'a> {
    layout: &'a Layout,
    sent: RecordBatch,
    content: Content<'a>,
}

/// What requests of a batch have in them.
enum Content<'a> {
    /// Rows, which are written when it is known how many a request has.
    Batch(&'a WriteFormat, Option<Compression>),
    /// One row each, all of which are written, or refused.
    Messages { values: Vec<Option<&'a [u8]>>, refused: &'a [(usize, String)] },
}

impl Layout {
    /// The rows of a batch that can't be written, and why.
    ///
    /// # Errors
    /// If there can't be such columns.
    pub fn refused<'a>(&self, batch: &RecordBatch, messages: &'a mut Messages) -> Result<&'a [(usize, String)]> {
        match &self.body {
            Body::Message(format) if format.may_refuse() => {
                Ok(messages.write(format, &self.project(batch)?)?.refused())
            }
            _ => Ok(&[]),
        }
    }

    /// The rows of a batch, to be made requests of.
    ///
    /// # Errors
    /// If there can't be such columns.
    pub fn requests<'a>(&'a self, batch: &RecordBatch, messages: &'a mut Messages) -> Result<Requests<'a>> {
        let sent = self.project(batch)?;
        let content = match &self.body {
            Body::Batch(format, compression) => Content::Batch(format, *compression),
            Body::Message(format) => {
                let payloads = messages.write(format, &sent)?;
                Content::Messages { values: payloads.iter().collect(), refused: payloads.refused() }
            }
        };
        Ok(Requests { layout: self, sent, content })
    }

    fn project(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        Ok(batch.project(&sent(&batch.schema(), self.left_out.as_deref()))?)
    }
}

impl Messages {
    fn write(&mut self, format: &WriteMessageFormat, rows: &RecordBatch) -> Result<&Payloads> {
        let writer = match self.open.take() {
            Some((schema, writer)) if schema == rows.schema() => writer,
            _ => format.open(&rows.schema())?,
        };
        let (_, writer) = self.open.insert((rows.schema(), writer));
        self.payloads.clear();
        writer.encode(rows, &mut self.payloads)?;
        Ok(&self.payloads)
    }
}

impl Requests<'_> {
    /// The request that begins with a row and has none from `end` on.
    ///
    /// # Errors
    /// If the rows can't be written.
    pub fn pack(&self, from: usize, end: usize) -> Result<Packed> {
        match &self.content {
            Content::Batch(format, compression) => self.pack_rows(format, *compression, from, end),
            Content::Messages { values, refused } => {
                if let Some((_, why)) = refused.iter().find(|(row, _)| *row == from) {
                    return Err(Error::new(why.clone()));
                }
                let body = Bytes::copy_from_slice(values[from].unwrap_or_default());
                Ok(Packed { body, rows: from..from + 1 })
            }
        }
    }

    fn pack_rows(
        &self,
        format: &WriteFormat,
        compression: Option<Compression>,
        from: usize,
        end: usize,
    ) -> Result<Packed> {
        let mut rows = self.likely_rows(from, end);
        loop {
            let (body, written) = write_body(format, compression, &self.sent.slice(from, rows))?;
            if rows == 1 || written <= self.layout.bytes {
                return Ok(Packed { body: body.into(), rows: from..from + rows });
            }
            rows /= 2;
        }
    }

    /// How many rows a request may have. What is far too much need not be written to see that.
    fn likely_rows(&self, from: usize, end: usize) -> usize {
        let rows = self.layout.rows.min(end - from);
        if rows <= 1 {
            return rows;
        }
        let bytes = batch_bytes(&self.sent.slice(from, rows)).max(1) as u128;
        let fitting = rows as u128 * self.layout.bytes as u128 / bytes;
        usize::try_from(fitting).unwrap_or(rows).clamp(1, rows)
    }
}

/// The columns that are sent, as places.
fn sent(schema: &Schema, left_out: Option<&str>) -> Vec<usize> {
    let is_sent = |index: &usize| left_out != Some(schema.field(*index).name());
    (0..schema.fields().len()).filter(is_sent).collect()
}

impl Written<'_> {
    /// For rows of these columns, all but one of which are sent.
    ///
    /// # Errors
    /// If there can't be such columns.
    pub fn body(self, schema: &Schema, left_out: Option<&str>, context: &PlanContext) -> Result<Body, Problem> {
        let sent = schema.project(&sent(schema, left_out)).map_err(|error| Problem::new(error.to_string()))?;
        if sent.fields().is_empty() {
            return Err(Problem::new("there is no column to send"));
        }
        match self {
            Self::Batch(format, compression) => {
                format.check_columns(&sent).map_err(|problem| problem.under("format"))?;
                Ok(Body::Batch(format, compression))
            }
            Self::Message(format) => format.write(&sent, context).map(Body::Message).map_err(of_message),
        }
    }
}

/// The bytes of rows, and how many they were before they were compressed.
fn write_body(format: &WriteFormat, compression: Option<Compression>, rows: &RecordBatch) -> Result<(Vec<u8>, usize)> {
    let plain = write(format, None, rows)?;
    let length = plain.len();
    match compression {
        None => Ok((plain, length)),
        Some(_) => Ok((write(format, compression, rows)?, length)),
    }
}

fn write(format: &WriteFormat, compression: Option<Compression>, rows: &RecordBatch) -> Result<Vec<u8>> {
    let options = WriteOptions { format: format.clone(), compression, begins: true };
    let mut writer = options.open(Vec::new(), &rows.schema())?;
    writer.write(rows)?;
    writer.finish()
}

/// The problem of a format that the setting `message` has.
fn of_message(mut problem: Problem) -> Problem {
    if let Some(first) = problem.at.first_mut() {
        *first = "message".into();
    }
    problem
}

/// What a body of a format is, as its header says.
pub fn content_type(format: &str) -> &'static str {
    match format {
        "json" => "application/json",
        "ndjson" => "application/x-ndjson",
        "csv" => "text/csv",
        "arrow" => "application/vnd.apache.arrow.file",
        "parquet" => "application/vnd.apache.parquet",
        "avro" => "application/avro",
        _ => "application/octet-stream",
    }
}
