//! NDJSON and JSON: their settings; documents to batches and back.
//!
//! [`scanner`] reads tokens, [`object`] knows which column a key is, and [`values`] takes what is read. A document that is rejected
//! leaves nothing behind in them, and costs no other document anything.

mod buffers;
mod decoder;
mod documents;
mod infer;
mod messages;
mod nested;
mod object;
mod pretty;
mod raw;
mod scanner;
mod schema;
mod values;
mod write;

use std::sync::Arc;

use millstream_core::{Columns, Problem, Result};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::TextEncoding;
use crate::kind::{FormatKind, Settings, Side};
use crate::message_lines::{Form, LineReader};
use crate::messages::{MessageFormat, MessageWriting};
use crate::read::{Decoder, Reading, StreamFormat};
use crate::reader::BatchReader;
use crate::text::{MomentSettings, Moments, TextSettings};
use crate::window::Window;
use crate::write::Writing;
#[cfg(test)]
pub(crate) use decoder::JsonDecoder;
use decoder::MAX_BATCH_ROWS;
use documents::JsonReader;
use messages::{JsonMessages, NdjsonLines, WrittenMessages};
pub(crate) use scanner::{Scalar, Scanner, is_json};
use write::{Arrays, Indented, Lines};

pub(crate) const NDJSON: FormatKind = FormatKind {
    name: "ndjson",
    about: "One JSON object on each line.",
    endings: &["ndjson", "jsonl"],
    example: r#"{ type = "ndjson", timezone = "Europe/Berlin" }"#,
    is_text: true,
    can_grow: true,
    read: Some(Side::of::<ReadNdjson>()),
    read_messages: None,
    write_files: Some(Side::of::<WriteNdjson>()),
    write_streams: Some(Side::of::<WriteNdjson>()),
    write_messages: None,
};

pub(crate) const JSON: FormatKind = FormatKind {
    name: "json",
    about: "JSON objects on as many lines as they take.",
    endings: &["json"],
    example: r#"{ type = "json", date_format = "%d.%m.%Y" }"#,
    is_text: true,
    can_grow: false,
    read: Some(Side::of::<ReadJson>()),
    read_messages: Some(Side::of::<ReadJsonMessages>()),
    write_files: Some(Side::of::<WriteJson>()),
    write_streams: Some(Side::of::<PrintJson>()),
    write_messages: Some(Side::of::<WriteJsonMessages>()),
};

/// Blank lines are skipped, and keys that are no column are ignored. A text may stand for a number (`"101"`, `" 7 "`, `"1e3"`), and
/// a number or boolean for a text; a column of type `json` keeps a value of any kind as its text. Dates and timestamps are texts in
/// ISO 8601 if nothing else is said, binary is hexadecimal.
#[derive(Debug, Deserialize, JsonSchema)]
struct ReadNdjson {
    #[serde(flatten)]
    text: TextSettings,
}

/// An array of objects, or objects one behind the other. Values are read as in NDJSON.
#[derive(Debug, Deserialize, JsonSchema)]
struct ReadJson {
    #[serde(flatten)]
    text: TextSettings,
}

/// A message is an object, whose values are read as in NDJSON. One without a value is a row of nulls.
#[derive(Debug, Deserialize, JsonSchema)]
struct ReadJsonMessages {
    #[serde(flatten)]
    moments: MomentSettings,
}

/// Null columns are left out, and a float that is not finite becomes null. Decimals are numbers, timestamps are written in UTC, binary
/// in hexadecimal; years behind 9999 and before 0 have a sign.
#[derive(Debug, Deserialize, JsonSchema)]
struct WriteNdjson {}

/// A file is an array with an object on each line, written as in NDJSON.
#[derive(Debug, Deserialize, JsonSchema)]
struct WriteJson {}

/// A message is an object, written as in NDJSON.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
struct WriteJsonMessages {
    /// What a registry is told that the objects are called: the title of their schema, by default `row`.
    name: Option<String>,
}

/// A stream is objects one behind the other, indented, for people to read.
#[derive(Debug, Deserialize, JsonSchema)]
struct PrintJson {}

impl Settings for ReadNdjson {
    type Made = Reading;

    fn make(self, _: &str) -> Result<Reading, Problem> {
        let (encoding, moments) = (self.text.encoding, self.text.moments()?);
        Ok(Reading::Stream(Arc::new(NdjsonFormat { encoding, lines: Arc::new(NdjsonLines { moments }) })))
    }
}

impl Settings for ReadJson {
    type Made = Reading;

    fn make(self, _: &str) -> Result<Reading, Problem> {
        let (encoding, moments) = (self.text.encoding, self.text.moments()?);
        Ok(Reading::Stream(Arc::new(JsonFormat { encoding, moments })))
    }
}

impl Settings for ReadJsonMessages {
    type Made = Arc<dyn MessageFormat>;

    fn make(self, _: &str) -> Result<Self::Made, Problem> {
        Ok(Arc::new(JsonMessages { moments: self.moments.moments()? }))
    }
}

impl Settings for WriteNdjson {
    type Made = Arc<dyn Writing>;

    fn make(self, _: &str) -> Result<Self::Made, Problem> {
        Ok(Arc::new(Lines))
    }
}

impl Settings for WriteJson {
    type Made = Arc<dyn Writing>;

    fn make(self, _: &str) -> Result<Self::Made, Problem> {
        Ok(Arc::new(Arrays))
    }
}

impl Settings for WriteJsonMessages {
    type Made = Arc<dyn MessageWriting>;

    fn make(self, _: &str) -> Result<Self::Made, Problem> {
        Ok(Arc::new(WrittenMessages { name: self.name.unwrap_or_else(|| "row".to_owned()) }))
    }
}

impl Settings for PrintJson {
    type Made = Arc<dyn Writing>;

    fn make(self, _: &str) -> Result<Self::Made, Problem> {
        Ok(Arc::new(Indented))
    }
}

/// NDJSON to read.
#[derive(Debug)]
struct NdjsonFormat {
    encoding: TextEncoding,
    lines: Arc<NdjsonLines>,
}

impl StreamFormat for NdjsonFormat {
    fn encoding(&self) -> TextEncoding {
        self.encoding
    }

    fn open(&self, window: Window, decoder: &Decoder) -> Result<Box<dyn BatchReader>> {
        let (columns, batch_rows) = (decoder.wanted_columns(), decoder.batch_rows.min(MAX_BATCH_ROWS));
        Ok(Box::new(LineReader::new(window, Form { format: self.lines.clone(), columns, batch_rows, trims: true })))
    }

    fn infer(&self, window: Window, rows: usize) -> Result<Columns> {
        infer::of_lines(window, rows, &self.lines.moments)
    }
}

/// JSON to read.
#[derive(Debug)]
struct JsonFormat {
    encoding: TextEncoding,
    moments: Moments,
}

impl StreamFormat for JsonFormat {
    fn encoding(&self) -> TextEncoding {
        self.encoding
    }

    fn open(&self, window: Window, decoder: &Decoder) -> Result<Box<dyn BatchReader>> {
        Ok(Box::new(JsonReader::new(window, &decoder.wanted_columns(), &self.moments, decoder.batch_rows)))
    }

    fn infer(&self, window: Window, rows: usize) -> Result<Columns> {
        infer::of_documents(window, rows, &self.moments)
    }

    fn last_of_row(&self) -> u8 {
        b'}'
    }
}
