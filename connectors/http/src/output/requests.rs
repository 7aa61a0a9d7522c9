//! Rows as requests. Which rows a request has, and its bytes, follow from the batch and the row that it begins with, so that a repeated
//! request is the same one.

use std::ops::Range;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use bytes::Bytes;
use millstream_core::{Error, PlanContext, Problem, Result, batch_bytes};
use millstream_formats::{Compression, Format, Payloads, WriteFormat, WriteMessageFormat, WriteMessages, WriteOptions};

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

impl Layout {
    /// The rows of a batch that can't be written, and why.
    ///
    /// # Errors
    /// If there can't be such columns.
    pub fn refused(&self, batch: &RecordBatch) -> Result<Vec<(usize, String)>> {
        match &self.body {
            Body::Message(format) if format.may_refuse() => {
                let payloads = messages(format, &batch.project(&self.sent(&batch.schema()))?)?;
                Ok(payloads.refused().to_vec())
            }
            _ => Ok(Vec::new()),
        }
    }

    fn sent(&self, schema: &Schema) -> Vec<usize> {
        sent(schema, self.left_out.as_deref())
    }

    /// The request that begins with a row of a batch and has none from `end` on.
    ///
    /// # Errors
    /// If the rows can't be written.
    pub fn pack(&self, batch: &RecordBatch, from: usize, end: usize) -> Result<Packed> {
        let sent = batch.project(&self.sent(&batch.schema()))?;
        let mut rows = self.rows.min(end - from);
        if rows > 1 {
            // What is far too much need not be written to see that.
            let bytes = batch_bytes(&sent.slice(from, rows)).max(1) as u128;
            let fitting = rows as u128 * self.bytes as u128 / bytes;
            rows = usize::try_from(fitting).unwrap_or(rows).clamp(1, rows);
        }
        loop {
            let (body, written) = self.body.write(&sent.slice(from, rows))?;
            if rows == 1 || written <= self.bytes {
                return Ok(Packed { body: body.into(), rows: from..from + rows });
            }
            rows /= 2;
        }
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

impl Body {
    /// The bytes of rows, and how many they were before they were compressed.
    fn write(&self, rows: &RecordBatch) -> Result<(Vec<u8>, usize)> {
        match self {
            Self::Batch(format, compression) => {
                let plain = write(format, None, rows)?;
                let length = plain.len();
                match compression {
                    None => Ok((plain, length)),
                    Some(_) => Ok((write(format, *compression, rows)?, length)),
                }
            }
            Self::Message(format) => {
                let payloads = messages(format, rows)?;
                if let [(_, why), ..] = payloads.refused() {
                    return Err(Error::new(why.clone()));
                }
                let body = payloads.iter().next().flatten().unwrap_or_default().to_vec();
                let length = body.len();
                Ok((body, length))
            }
        }
    }
}

fn messages(format: &WriteMessageFormat, rows: &RecordBatch) -> Result<Payloads> {
    let mut payloads = Payloads::default();
    format.open(&rows.schema())?.encode(rows, &mut payloads)?;
    Ok(payloads)
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
