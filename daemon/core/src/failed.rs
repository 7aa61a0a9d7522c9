//! Rows that a node refused, as they leave by the port `failed`.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use serde::{Deserialize, Serialize};

use crate::json::write_json;
use crate::{Result, ResultExt};

/// How the text of a failed row stands for its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Encoding {
    /// A JSON object.
    Json,
    /// The text as it was read.
    Text,
    /// Bytes that are no valid UTF-8.
    Base64,
}

impl Encoding {
    fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Text => "text",
            Self::Base64 => "base64",
        }
    }
}

/// One row that a node refused, and why. There is no clock in it, so that a repeated run gives the same rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedRow {
    /// Why: lowercase, names the column and the value.
    pub error: String,
    /// The input that the row came from.
    #[serde(with = "shared_text")]
    pub source: Arc<str>,
    /// The part of the source.
    #[serde(with = "shared_text")]
    pub partition: Arc<str>,
    /// The row's position, if an input refused it. Behind inputs it isn't known: rows have been filtered and joined, and
    /// the position of their batch would depend on how rows are cut into batches.
    pub position: Option<u64>,
    /// The line in which the row begins, counted from 1, if an input of text refused it.
    pub line: Option<u64>,
    /// The row itself.
    pub row: String,
    /// How `row` stands for the row.
    pub encoding: Encoding,
}

/// Texts that many rows share, written as any others.
mod shared_text {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(text)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<str>, D::Error> {
        String::deserialize(deserializer).map(Arc::from)
    }
}

/// The columns of the port `failed`.
pub fn failed_schema() -> SchemaRef {
    let text = |name| Field::new(name, DataType::Utf8, false);
    Arc::new(Schema::new(vec![
        text("node"),
        text("error"),
        text("source"),
        text("partition"),
        Field::new("position", DataType::UInt64, true),
        Field::new("line", DataType::UInt64, true),
        text("row"),
        text("encoding"),
    ]))
}

/// The rows that `node` refused, as a batch of [`failed_schema`].
pub fn failed_batch(node: &str, rows: &[FailedRow]) -> Result<RecordBatch> {
    fn text<'a>(rows: &'a [FailedRow], of: impl Fn(&'a FailedRow) -> &'a str) -> ArrayRef {
        Arc::new(StringArray::from_iter_values(rows.iter().map(of)))
    }
    let columns: Vec<ArrayRef> = vec![
        text(rows, |_| node),
        text(rows, |row| &row.error),
        text(rows, |row| &row.source),
        text(rows, |row| &row.partition),
        Arc::new(UInt64Array::from_iter(rows.iter().map(|row| row.position))),
        Arc::new(UInt64Array::from_iter(rows.iter().map(|row| row.line))),
        text(rows, |row| &row.row),
        text(rows, |row| row.encoding.name()),
    ];
    Ok(RecordBatch::try_new(failed_schema(), columns)?)
}

/// Row number `row` of a batch as a JSON object; null columns are left out.
pub fn json_row(rows: &RecordBatch, row: usize) -> Result<String> {
    let mut text = Vec::new();
    write_json(&rows.slice(row, 1), &mut text)?;
    let mut text = String::from_utf8(text).doing(|| "writing a failed row as JSON")?;
    text.truncate(text.trim_end().len());
    Ok(text)
}
