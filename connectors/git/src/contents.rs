//! Files as the log keeps them, and as rows.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, Int64Builder, RecordBatch, RecordBatchOptions, StringBuilder, TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use millstream_connectors::push::{Contents, FormatTag, ReadRecords, Refused, rows_of};
use millstream_core::{Result, ResultExt as _};
use millstream_formats::{BadRow, Rows};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A file that has changed, as it is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Kept {
    pub path: Vec<u8>,
    pub change: String,
    /// What is in it, unless it was deleted or is too large.
    pub content: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub commit: String,
    /// In microseconds since 1970.
    pub committed_at: i64,
    /// Why it can't be a row.
    pub refusal: Option<String>,
}

/// Files as bytes.
pub fn pack(files: &[Kept]) -> Result<Vec<u8>> {
    postcard::to_allocvec(files).doing(|| "keeping files")
}

fn unpack(bytes: &[u8]) -> Result<Vec<Kept>> {
    postcard::from_bytes(bytes).doing(|| "reading files that were kept")
}

/// What the column `content` is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ContentType {
    /// Text. A file that is no UTF-8 is refused.
    #[default]
    Utf8,
    /// Bytes.
    Binary,
}

fn columns(content: ContentType) -> Schema {
    let content = match content {
        ContentType::Utf8 => DataType::Utf8,
        ContentType::Binary => DataType::Binary,
    };
    Schema::new(vec![
        Field::new("path", DataType::Utf8, false),
        Field::new("change", DataType::Utf8, false),
        Field::new("content", content, true),
        Field::new("size", DataType::Int64, true),
        Field::new("commit", DataType::Utf8, false),
        Field::new("committed_at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
    ])
}

/// Files in the log.
pub struct KeptFiles {
    schema: SchemaRef,
    batch_rows: usize,
    content: ContentType,
}

impl KeptFiles {
    /// With these columns, if not all are wanted.
    pub fn new(content: ContentType, wanted: Option<&BTreeSet<String>>, batch_rows: usize) -> Self {
        let all = columns(content);
        let is_wanted = |field: &&Arc<Field>| wanted.is_none_or(|wanted| wanted.contains(field.name()));
        let fields: Vec<_> = all.fields().iter().filter(is_wanted).cloned().collect();
        Self { schema: Schema::new(fields).into(), batch_rows, content }
    }
}

impl Contents for KeptFiles {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn batch_rows(&self) -> usize {
        self.batch_rows
    }

    fn count(&self, format: FormatTag, bytes: Vec<u8>) -> Result<usize, Refused> {
        let wrong = |error: millstream_core::Error| Refused::Unreadable { row: None, why: error.to_string() };
        format.require_own().and_then(|()| unpack(&bytes)).map(|files| files.len()).map_err(wrong)
    }

    fn reader(&self) -> Box<dyn ReadRecords> {
        Box::new(KeptReader { schema: self.schema.clone(), content: self.content, read: None })
    }
}

struct KeptReader {
    schema: SchemaRef,
    content: ContentType,
    read: Option<Rows>,
}

impl KeptReader {
    /// Why a file can't be a row.
    fn refusal(&self, file: &Kept) -> Option<String> {
        let is_text = |bytes: &Vec<u8>| std::str::from_utf8(bytes).is_ok();
        if file.refusal.is_some() {
            return file.refusal.clone();
        }
        if !is_text(&file.path) {
            return Some("its path is no valid UTF-8".to_owned());
        }
        let is_wrong = self.content == ContentType::Utf8 && !file.content.as_ref().is_none_or(is_text);
        is_wrong.then(|| "it is no valid UTF-8; `content = \"binary\"` takes any file".to_owned())
    }

    /// Rows that follow each other.
    fn batch(&self, files: &[&Kept]) -> Result<RecordBatch> {
        let columns = self.schema.fields().iter().map(|field| column(field, files)).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(files.len()));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)
    }
}

fn column(field: &Field, files: &[&Kept]) -> ArrayRef {
    fn texts<'a>(values: impl Iterator<Item = Option<&'a [u8]>>) -> ArrayRef {
        let mut column = StringBuilder::new();
        values.for_each(|value| column.append_option(value.and_then(|bytes| std::str::from_utf8(bytes).ok())));
        Arc::new(column.finish())
    }
    let all = files.iter();
    match (field.name().as_str(), field.data_type()) {
        ("path", _) => texts(all.map(|file| Some(file.path.as_slice()))),
        ("change", _) => texts(all.map(|file| Some(file.change.as_bytes()))),
        ("commit", _) => texts(all.map(|file| Some(file.commit.as_bytes()))),
        ("content", DataType::Utf8) => texts(all.map(|file| file.content.as_deref())),
        ("content", _) => {
            let mut column = BinaryBuilder::new();
            all.for_each(|file| column.append_option(file.content.as_ref()));
            Arc::new(column.finish())
        }
        ("size", _) => {
            let mut column = Int64Builder::new();
            all.for_each(|file| column.append_option(file.size.and_then(|size| i64::try_from(size).ok())));
            Arc::new(column.finish())
        }
        _ => {
            let mut column = TimestampMicrosecondBuilder::new();
            all.for_each(|file| column.append_value(file.committed_at));
            Arc::new(column.finish().with_timezone("UTC"))
        }
    }
}

impl ReadRecords for KeptReader {
    fn begin(&mut self, format: FormatTag, bytes: &[u8], _: usize) -> Result<()> {
        format.require_own()?;
        let files = unpack(bytes)?;
        let read = rows_of(
            &files,
            |position, file| match self.refusal(file) {
                None => Ok(file),
                Some(why) => {
                    let path = String::from_utf8_lossy(&file.path);
                    Err(BadRow::new(position, why, format!("{path} at {}", file.commit).as_bytes()))
                }
            },
            |files| self.batch(files),
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
