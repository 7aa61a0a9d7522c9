//! Messages as the log keeps them, and as rows.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, SchemaRef, TimeUnit};
use millstream_connectors::push::{Contents, FormatTag, ReadRecords, Refused};
use millstream_core::{Result, ResultExt as _};
use millstream_formats::{MessageReader, MessageReaders, MetadataColumns, Rows};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A message, as it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept<'a> {
    pub topic: &'a str,
    pub payload: &'a [u8],
    /// When it was received, in microseconds since 1970.
    pub received_at: i64,
    pub is_retained: bool,
    pub is_repeated: bool,
}

/// Messages as bytes.
pub fn pack(messages: &[Kept<'_>]) -> Result<Vec<u8>> {
    postcard::to_allocvec(messages).doing(|| "keeping messages")
}

fn unpack(bytes: &[u8]) -> Result<Vec<Kept<'_>>> {
    postcard::from_bytes(bytes).doing(|| "reading messages that were kept")
}

/// Something of a message that is not in its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Metadata {
    /// The topic, a `utf8`.
    Topic,
    /// When it was received, a `timestamp`.
    ReceivedAt,
    /// Whether it is the one that the broker keeps of its topic for those who subscribe, a `boolean`.
    Retained,
    /// Whether the broker has sent it before and does not know that it was received, a `boolean`: it may be there twice.
    Repeated,
}

impl millstream_formats::Metadata for Metadata {
    type Message<'a> = Kept<'a>;

    fn field(self, name: &str) -> Field {
        let data_type = match self {
            Self::Topic => DataType::Utf8,
            Self::ReceivedAt => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Retained | Self::Repeated => DataType::Boolean,
        };
        Field::new(name, data_type, false)
    }

    fn column(self, messages: &[Kept<'_>]) -> ArrayRef {
        let all = messages.iter();
        match self {
            Self::Topic => Arc::new(StringArray::from_iter_values(all.map(|message| message.topic))),
            Self::ReceivedAt => {
                let times = TimestampMicrosecondArray::from_iter_values(all.map(|message| message.received_at));
                Arc::new(times.with_timezone("UTC"))
            }
            Self::Retained => Arc::new(all.map(|message| Some(message.is_retained)).collect::<BooleanArray>()),
            Self::Repeated => Arc::new(all.map(|message| Some(message.is_repeated)).collect::<BooleanArray>()),
        }
    }
}

/// Messages in the log. Those that can't be read are refused behind it, since their senders don't hear of it.
pub struct KeptMessages {
    pub readers: MessageReaders,
    pub metadata: Arc<MetadataColumns<Metadata>>,
    pub batch_rows: usize,
}

impl Contents for KeptMessages {
    fn schema(&self) -> SchemaRef {
        self.metadata.schema().clone()
    }

    fn batch_rows(&self) -> usize {
        self.batch_rows
    }

    fn count(&self, format: FormatTag, bytes: Vec<u8>) -> Result<usize, Refused> {
        let wrong = |error: millstream_core::Error| Refused::Unreadable { row: None, why: error.to_string() };
        format.require_own().and_then(|()| unpack(&bytes)).map(|messages| messages.len()).map_err(wrong)
    }

    fn reader(&self) -> Box<dyn ReadRecords> {
        let metadata = self.metadata.clone();
        Box::new(KeptReader { reader: self.readers.open(), metadata, read: None })
    }
}

struct KeptReader {
    reader: Box<dyn MessageReader>,
    metadata: Arc<MetadataColumns<Metadata>>,
    read: Option<Rows>,
}

impl ReadRecords for KeptReader {
    fn begin(&mut self, format: FormatTag, bytes: &[u8], _: usize) -> Result<()> {
        format.require_own()?;
        let messages = unpack(bytes)?;
        // What has no bytes is how a broker is told to forget what it keeps of a topic.
        let values = messages.iter().map(|message| message.payload);
        let values: Vec<_> = values.map(|payload| (!payload.is_empty()).then_some(payload)).collect();
        let mut rows = Rows::default();
        self.reader.decode(&values, &mut rows)?;
        self.metadata.add_to(&mut rows, &messages)?;
        self.read = Some(rows);
        Ok(())
    }

    fn next(&mut self, out: &mut Rows) -> Result<bool> {
        let Some(rows) = self.read.take() else { return Ok(false) };
        *out = rows;
        Ok(true)
    }
}
