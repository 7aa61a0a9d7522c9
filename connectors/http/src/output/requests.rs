//! Rows as requests. Which rows a request has, and its bytes, follow from the batch and the row that it begins with, so that a repeated
//! request is the same one.

use std::ops::Range;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use bytes::Bytes;
use millstream_core::{Problem, Result, batch_bytes};
use millstream_formats::{Compression, Payloads, WriteFormat, WriteMessageFormat, WriteOptions};

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
    /// Checks that there can be such columns.
    pub fn check_columns(&self, schema: &Schema) -> Result<(), Problem> {
        match &self.body {
            Body::Batch(format, _) => {
                let sent = sent(schema, self.left_out.as_deref())?;
                format.check_columns(&sent).map_err(|problem| problem.under("format"))
            }
            // That was checked when it was made.
            Body::Message(_) => Ok(()),
        }
    }

    /// The request that begins with a row of a batch and has none from `end` on.
    ///
    /// # Errors
    /// If the rows can't be written.
    pub fn pack(&self, batch: &RecordBatch, from: usize, end: usize) -> Result<Packed> {
        let sent = batch.project(&places(&batch.schema(), self.left_out.as_deref()))?;
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
                let schema: SchemaRef = rows.schema();
                let mut payloads = Payloads::default();
                format.open(&schema)?.encode(rows, &mut payloads)?;
                let body = payloads.iter().next().flatten().unwrap_or_default().to_vec();
                let length = body.len();
                Ok((body, length))
            }
        }
    }
}

fn write(format: &WriteFormat, compression: Option<Compression>, rows: &RecordBatch) -> Result<Vec<u8>> {
    let options = WriteOptions { format: format.clone(), compression, begins: true };
    let mut writer = options.open(Vec::new(), &rows.schema())?;
    writer.write(rows)?;
    writer.finish()
}

/// The columns that are sent, as places.
fn places(schema: &Schema, left_out: Option<&str>) -> Vec<usize> {
    (0..schema.fields().len()).filter(|index| left_out != Some(schema.field(*index).name())).collect()
}

/// The columns that are sent.
///
/// # Errors
/// If there is none.
pub fn sent(schema: &Schema, left_out: Option<&str>) -> Result<Schema, Problem> {
    let sent = schema.project(&places(schema, left_out)).map_err(|error| Problem::new(error.to_string()))?;
    if sent.fields().is_empty() { Err(Problem::new("there is no column to send")) } else { Ok(sent) }
}

/// The problem of a format that the setting `message` has.
pub fn of_message(mut problem: Problem) -> Problem {
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
