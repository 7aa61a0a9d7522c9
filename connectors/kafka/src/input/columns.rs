//! Columns that are not in the values of messages.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, Int32Array, Int64Array, ListBuilder, RecordBatch, RecordBatchOptions, StringArray,
    StringBuilder, StructBuilder, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use millstream_core::Result;
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

fn header_fields() -> Fields {
    let fields = [Field::new("name", DataType::Utf8, false), Field::new("value", DataType::Binary, true)];
    fields.into_iter().collect()
}

impl Metadata {
    fn field(self, name: &str) -> Field {
        let (data_type, nullable) = match self {
            Self::Key => (DataType::Utf8, true),
            Self::KeyBytes => (DataType::Binary, true),
            Self::Headers => (DataType::List(Arc::new(header_field())), false),
            Self::Timestamp => (DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
            Self::Topic => (DataType::Utf8, false),
            Self::Partition => (DataType::Int32, false),
            Self::Offset => (DataType::Int64, false),
        };
        Field::new(name, data_type, nullable)
    }

    /// The values of messages, whose keys are UTF-8 where that is asked for.
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
            Self::Headers => headers(messages),
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

fn header_field() -> Field {
    Field::new("item", DataType::Struct(header_fields()), false)
}

fn headers(messages: &[Message<'_>]) -> ArrayRef {
    let header =
        StructBuilder::new(header_fields(), vec![Box::new(StringBuilder::new()), Box::new(BinaryBuilder::new())]);
    let mut lists = ListBuilder::new(header).with_field(header_field());
    for message in messages {
        for (name, value) in message.headers() {
            let header = lists.values();
            if let Some(names) = header.field_builder::<StringBuilder>(0) {
                names.append_value(String::from_utf8_lossy(name));
            }
            if let Some(values) = header.field_builder::<BinaryBuilder>(1) {
                values.append_option(value);
            }
            header.append(true);
        }
        lists.append(true);
    }
    Arc::new(lists.finish())
}

/// Columns behind those of the values: those of the keys, if these are messages of a format, and others that are in neither.
pub struct MetadataColumns {
    columns: Vec<Metadata>,
    /// With those of the values.
    schema: SchemaRef,
}

impl MetadataColumns {
    /// `keys` are the columns of the keys as they are called in rows.
    pub fn new(columns: Vec<(String, Metadata)>, values: &SchemaRef, keys: &[FieldRef]) -> Self {
        let own = columns.iter().map(|(name, metadata)| metadata.field(name).into());
        let fields: Vec<_> = values.fields().iter().chain(keys).cloned().chain(own).collect();
        Self {
            columns: columns.into_iter().map(|(_, metadata)| metadata).collect(),
            schema: Schema::new(fields).into(),
        }
    }

    /// All columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Why a message is refused, whatever its value.
    pub fn refusal(&self, message: Message<'_>) -> Option<&'static str> {
        let is_text = || message.key().is_none_or(|key| std::str::from_utf8(key).is_ok());
        (self.columns.contains(&Metadata::Key) && !is_text()).then_some(KEY_IS_NO_TEXT)
    }

    /// Adds the columns to the values of messages. `keys` are as many rows.
    pub fn add_to(
        &self,
        values: RecordBatch,
        keys: Option<&RecordBatch>,
        messages: &[Message<'_>],
    ) -> Result<RecordBatch> {
        if self.columns.is_empty() && keys.is_none() {
            return Ok(values);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(values.num_rows()));
        let own = self.columns.iter().map(|column| column.column(messages));
        let of_keys = keys.into_iter().flat_map(|keys| keys.columns().iter().cloned());
        let columns = values.columns().iter().cloned().chain(of_keys).chain(own).collect();
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)
    }
}
