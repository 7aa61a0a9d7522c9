//! Columns that are not in the values of messages.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryBuilder, Int32Array, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, TimeUnit};
use millstream_formats::{MetadataColumns, headers_column, headers_type};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::native::Message;

/// Something of a message that is not in its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Metadata {
    /// The key, a `utf8?`. A message whose key is no UTF-8 fails.
    Key,
    /// The key, a `binary?`.
    KeyBytes,
    /// The headers, a `list<{ name = utf8, value = binary? }>`.
    Headers,
    /// When it was sent, or appended to the log if the topic says so: a `timestamp?`.
    Timestamp,
    /// The topic, a `utf8`.
    Topic,
    /// The number of the partition, an `int32`.
    Partition,
    /// The position in the partition, an `int64`.
    Offset,
}

/// What there is to refuse a message by, but for its value.
const KEY_IS_NO_TEXT: &str = "the key is no valid UTF-8; `key_bytes` in `metadata` takes any key";

impl millstream_formats::Metadata for Metadata {
    type Message<'a> = Message<'a>;

    fn field(self, name: &str) -> Field {
        let (data_type, nullable) = match self {
            Self::Key => (DataType::Utf8, true),
            Self::KeyBytes => (DataType::Binary, true),
            Self::Headers => (headers_type(), false),
            Self::Timestamp => (DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
            Self::Topic => (DataType::Utf8, false),
            Self::Partition => (DataType::Int32, false),
            Self::Offset => (DataType::Int64, false),
        };
        Field::new(name, data_type, nullable)
    }

    /// Keys are UTF-8 where that is asked for.
    fn column(self, messages: &[Message<'_>]) -> ArrayRef {
        let all = messages.iter();
        match self {
            Self::Key => {
                let keys = all.map(|message| message.key().and_then(|key| std::str::from_utf8(key).ok()));
                Arc::new(keys.collect::<StringArray>())
            }
            Self::KeyBytes => {
                let mut keys = BinaryBuilder::new();
                keys.extend(all.map(|message| message.key()));
                Arc::new(keys.finish())
            }
            Self::Headers => headers_column(all.map(|message| {
                let headers = message.headers().into_iter();
                headers.map(|(name, value)| (String::from_utf8_lossy(name), value))
            })),
            Self::Timestamp => {
                let times = all.map(|message| message.timestamp().and_then(|time| time.checked_mul(1000)));
                Arc::new(times.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
            }
            Self::Topic => Arc::new(StringArray::from_iter_values(all.map(|message| message.topic()))),
            Self::Partition => Arc::new(Int32Array::from_iter_values(all.map(|message| message.partition()))),
            Self::Offset => Arc::new(Int64Array::from_iter_values(all.map(|message| message.offset()))),
        }
    }
}

/// Why a message is refused, whatever its value.
pub fn refusal(columns: &MetadataColumns<Metadata>, message: Message<'_>) -> Option<&'static str> {
    let is_text = || message.key().is_none_or(|key| std::str::from_utf8(key).is_ok());
    (columns.has(Metadata::Key) && !is_text()).then_some(KEY_IS_NO_TEXT)
}
