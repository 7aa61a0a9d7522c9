//! Avro: its schemas, messages and files; records to batches and back.
//!
//! [`schema`] parses schemas, [`plan`] decides how the records of one are read into columns, and [`read`] reads them. What a column does
//! not say in other types becomes JSON ([`json`]).

mod defaults;
mod file;
mod json;
mod messages;
mod plan;
mod read;
mod schema;
mod write;

use std::sync::Arc;

use millstream_core::Problem;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::kind::{FormatKind, Settings, Side};
use crate::read::Reading;
use crate::write::Writing;
use file::{AvroFile, AvroWriting};
use messages::{ReadAvroMessages, WriteAvroMessages};
#[cfg(test)]
pub(crate) use schema::AvroSchema;
#[cfg(test)]
pub(crate) use write::{put_bytes, put_long};

pub(crate) const FORMAT: FormatKind = FormatKind {
    name: "avro",
    about: "Apache Avro: messages in its binary encoding, and object container files.",
    endings: &["avro"],
    example: r#""avro""#,
    is_text: false,
    can_grow: false,
    read: Some(Side::of::<ReadAvro>()),
    read_messages: Some(Side::of::<ReadAvroMessages>()),
    write_files: Some(Side::of::<WriteAvro>()),
    write_streams: None,
    write_messages: Some(Side::of::<WriteAvroMessages>()),
};

/// Files have their schema, compressed by `deflate`, `snappy`, `zstandard`, `bzip2` or not at all. Arrays are lists; maps are lists of `{ key =
/// utf8, value = … }`; enums and UUIDs are texts; decimals, dates, times and timestamps are what they say. What may be of several types, or
/// contains itself, is the text of its value as JSON. A file that is corrupt stops the flow.
#[derive(Debug, Deserialize, JsonSchema)]
struct ReadAvro {}

/// A field that may be null is a union of `null` and its type. `uint64` is a decimal of 20 digits. A block has 8192 rows.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
struct WriteAvro {
    /// How blocks are compressed. Every reader knows `deflate`.
    codec: Codec,
}

/// How blocks of files are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Codec {
    /// Not at all.
    Null,
    /// By the algorithm of gzip.
    #[default]
    Deflate,
    /// Quickly, and to more bytes.
    Snappy,
    /// By zstd: more quickly than by `deflate`, to fewer bytes.
    Zstandard,
    /// By bzip2: slowly.
    Bzip2,
}

impl Settings for ReadAvro {
    type Made = Reading;

    fn make(self, _: &str) -> Result<Reading, Problem> {
        Ok(Reading::File(Arc::new(AvroFile)))
    }
}

impl Settings for WriteAvro {
    type Made = Arc<dyn Writing>;

    fn make(self, _: &str) -> Result<Self::Made, Problem> {
        Ok(Arc::new(AvroWriting { codec: self.codec }))
    }
}
