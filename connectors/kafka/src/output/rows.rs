//! How a row becomes a message: which columns are the key, the value, and what stands beside them.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, Int32Array, Int64Array, ListArray, RecordBatch, StringArray, StructArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type, Schema, SchemaRef, TimestampMicrosecondType};
use millstream_core::{PlanContext, Problem, Result};
use millstream_formats::{Format, MessageWriter, Payloads, WriteMessageFormat, WriteMessages, WrittenSchema};
use rdkafka::message::{Header, OwnedHeaders};
use serde::{Deserialize, Serialize};

use crate::part::MessagePart;

/// Which columns are what.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// The topic of all rows.
    pub fixed_topic: Option<String>,
    /// Or the column that says it.
    pub topic_column: Option<String>,
    pub key: Vec<String>,
    pub value: Option<Vec<String>>,
    pub headers: Option<String>,
    pub timestamp: Option<String>,
    pub partition: Option<String>,
    pub tombstones: Option<String>,
    /// Whether the key is no part of the value if nothing is said.
    pub leaves_out_key: bool,
}

impl Layout {
    /// The columns that are in the value, by their numbers.
    pub fn value_columns(&self, schema: &Schema) -> Vec<usize> {
        if let Some(names) = &self.value {
            return names.iter().filter_map(|name| schema.index_of(name).ok()).collect();
        }
        let beside =
            [&self.topic_column, &self.headers, &self.timestamp, &self.partition, &self.tombstones].map(Option::as_ref);
        let is_key = |name: &String| self.leaves_out_key && self.key.contains(name);
        let is_beside = |name: &String| beside.iter().flatten().any(|beside| *beside == name) || is_key(name);
        let fields = schema.fields().iter().enumerate();
        fields.filter(|(_, field)| !is_beside(field.name())).map(|(index, _)| index).collect()
    }

    /// The columns that are in the key, by their numbers.
    fn key_columns(&self, schema: &Schema) -> Vec<usize> {
        self.key.iter().filter_map(|name| schema.index_of(name).ok()).collect()
    }
}

/// Whether a type is that of headers.
pub fn are_headers(kind: &DataType) -> bool {
    let DataType::List(item) = kind else { return false };
    let DataType::Struct(fields) = item.data_type() else { return false };
    match fields.iter().as_slice() {
        [name, value] => {
            *name.data_type() == DataType::Utf8 && matches!(value.data_type(), DataType::Utf8 | DataType::Binary)
        }
        _ => false,
    }
}

/// How values are written, and keys, if they are messages of a format.
#[derive(Clone, Debug)]
pub struct RowFormat {
    value: WriteMessageFormat,
    key: Option<WriteMessageFormat>,
}

/// What messages begin with: the numbers of their schemas in a registry, or nothing. It is decided when rows are written, and holds for
/// those until they are sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prefixes {
    pub value: Vec<u8>,
    pub key: Vec<u8>,
}

/// The schemas of values and of keys, if they are of a format that has such.
pub struct WrittenSchemas {
    pub value: Option<WrittenSchema>,
    pub key: Option<WrittenSchema>,
}

impl RowFormat {
    /// For rows of these columns to begin with.
    pub fn new(
        value: &Format<WriteMessages>,
        key: Option<&Format<WriteMessages>>,
        layout: &Layout,
        schema: &Schema,
        context: &PlanContext,
    ) -> Result<Self, Problem> {
        let columns = |of: Vec<usize>| schema.project(&of).map_err(|error| Problem::new(error.to_string()));
        let value = value.write(&columns(layout.value_columns(schema))?, context)?;
        let key = match key {
            Some(key) => Some(
                key.write(&columns(layout.key_columns(schema))?, context)
                    .map_err(|problem| MessagePart::Key.place(problem))?,
            ),
            None => None,
        };
        Ok(Self { value, key })
    }

    /// Whether there may be rows that can't be written, so that each has to be tried.
    pub fn may_refuse(&self) -> bool {
        self.value.may_refuse() || self.key.as_ref().is_some_and(WriteMessageFormat::may_refuse)
    }

    /// What a registry is told of rows of these columns.
    pub fn schemas(&self, layout: &Layout, schema: &Schema) -> Result<WrittenSchemas, Problem> {
        let columns = |of: Vec<usize>| schema.project(&of).map_err(|error| Problem::new(error.to_string()));
        let value = columns(layout.value_columns(schema))?;
        let value = self.value.registered(&value).map_err(|problem| problem.under("format"))?;
        let key = match &self.key {
            Some(format) => {
                let columns = columns(layout.key_columns(schema))?;
                format.registered(&columns).map_err(|problem| problem.under("key_format"))?
            }
            None => None,
        };
        Ok(WrittenSchemas { value, key })
    }
}

/// Writes the key or the value of messages.
struct PartEncoder {
    columns: Vec<usize>,
    writer: Box<dyn MessageWriter>,
    payloads: Payloads,
}

impl PartEncoder {
    fn new(format: &WriteMessageFormat, columns: Vec<usize>, prefix: &[u8], schema: &Schema) -> Result<Self> {
        let writer = format.open(&Arc::new(schema.project(&columns)?))?;
        Ok(Self { columns, writer, payloads: Payloads::beginning_with(prefix.to_vec()) })
    }

    fn encode(&mut self, rows: &RecordBatch) -> Result<()> {
        self.payloads.clear();
        self.writer.encode(&rows.project(&self.columns)?, &mut self.payloads)
    }
}

/// Makes messages of rows of certain columns.
pub struct RowEncoder {
    layout: Layout,
    schema: SchemaRef,
    prefixes: Prefixes,
    value: PartEncoder,
    key: Option<PartEncoder>,
    pub may_refuse: bool,
}

impl RowEncoder {
    pub fn new(layout: &Layout, format: &RowFormat, schema: SchemaRef, prefixes: &Prefixes) -> Result<Self> {
        let value = PartEncoder::new(&format.value, layout.value_columns(&schema), &prefixes.value, &schema)?;
        let key =
            format.key.as_ref().map(|key| PartEncoder::new(key, layout.key_columns(&schema), &prefixes.key, &schema));
        let (layout, prefixes, key) = (layout.clone(), prefixes.clone(), key.transpose()?);
        Ok(Self { layout, schema, prefixes, value, key, may_refuse: format.may_refuse() })
    }

    /// Whether it is for rows of these columns, whose messages begin so.
    pub fn is_for(&self, schema: &SchemaRef, prefixes: &Prefixes) -> bool {
        self.schema == *schema && self.prefixes == *prefixes
    }

    /// The rows as messages.
    pub fn encode(&mut self, rows: &RecordBatch) -> Result<Encoded<'_>> {
        self.value.encode(rows)?;
        self.key.as_mut().map(|key| key.encode(rows)).transpose()?;
        let beside = Beside::new(&self.layout, rows)?;
        Ok(Encoded {
            values: self.value.payloads.iter().collect(),
            keys: self.key.as_ref().map(|key| key.payloads.iter().collect()),
            refused: [Some(&self.value), self.key.as_ref()]
                .into_iter()
                .flatten()
                .map(|part| part.payloads.refused())
                .collect(),
            beside,
            topic: self.layout.fixed_topic.as_deref(),
        })
    }
}

/// What stands beside the values of rows.
pub struct Beside {
    pub topics: Option<StringArray>,
    /// The columns of the key.
    key_columns: Vec<ArrayRef>,
    /// The key as bytes, where it is one column.
    keys: Option<BinaryArray>,
    pub headers: Option<Headers>,
    /// In milliseconds since 1970.
    pub times: Option<Int64Array>,
    pub partitions: Option<Int32Array>,
    tombstones: Option<StringArray>,
}

impl Beside {
    pub fn new(layout: &Layout, rows: &RecordBatch) -> Result<Self> {
        let column = |name: &Option<String>| name.as_ref().and_then(|name| rows.column_by_name(name));
        let text = |name: &Option<String>| column(name).map(|column| column.as_string::<i32>().clone());
        let key_columns: Vec<_> = layout.key.iter().filter_map(|name| rows.column_by_name(name).cloned()).collect();
        Ok(Self {
            topics: text(&layout.topic_column),
            keys: match key_columns.as_slice() {
                [column] if is_key(column.data_type()) => Some(keys(column)?),
                _ => None,
            },
            key_columns,
            headers: column(&layout.headers).map(Headers::new),
            times: column(&layout.timestamp)
                .map(|times| times.as_primitive::<TimestampMicrosecondType>().unary(|micros| micros.div_euclid(1000))),
            partitions: column(&layout.partition).map(partitions).transpose()?,
            tombstones: text(&layout.tombstones),
        })
    }

    /// Whether any column of the key has a value.
    pub fn has_key(&self, row: usize) -> bool {
        self.key_columns.iter().any(|column| column.is_valid(row))
    }

    fn key(&self, row: usize) -> Option<&[u8]> {
        self.keys.as_ref().filter(|keys| keys.is_valid(row)).map(|keys| keys.value(row))
    }

    pub fn time(&self, row: usize) -> Option<i64> {
        self.times.as_ref().filter(|times| times.is_valid(row)).map(|times| times.value(row))
    }

    pub fn partition(&self, row: usize) -> Option<i32> {
        self.partitions.as_ref().filter(|partitions| partitions.is_valid(row)).map(|partitions| partitions.value(row))
    }

    pub fn topic(&self, row: usize) -> Option<&str> {
        self.topics.as_ref().filter(|topics| topics.is_valid(row)).map(|topics| topics.value(row))
    }

    /// Whether the row deletes its key.
    pub fn deletes(&self, row: usize) -> bool {
        self.tombstones.as_ref().is_some_and(|operations| operations.is_valid(row) && operations.value(row) == "delete")
    }
}

/// Whether a column can be the key as it is.
pub fn is_key(kind: &DataType) -> bool {
    matches!(kind, DataType::Utf8 | DataType::Binary) || kind.is_integer()
}

/// Keys as bytes.
fn keys(column: &ArrayRef) -> Result<BinaryArray> {
    let texts = match column.data_type() {
        DataType::Utf8 | DataType::Binary => column.clone(),
        _ => cast(column, &DataType::Utf8)?,
    };
    Ok(cast(&texts, &DataType::Binary)?.as_binary::<i32>().clone())
}

/// Numbers of partitions. One that there can't be is -2, which no topic has; so it is found when rows are checked.
fn partitions(column: &ArrayRef) -> Result<Int32Array> {
    let numbers = cast(column, &DataType::Int32)?;
    let numbers = numbers.as_primitive::<Int32Type>();
    let number = |row: usize| match (column.is_null(row), numbers.is_null(row)) {
        (true, _) => None,
        (false, true) => Some(-2),
        (false, false) => Some(numbers.value(row)),
    };
    Ok((0..column.len()).map(number).collect())
}

/// The headers of rows.
pub struct Headers(ListArray);

impl Headers {
    fn new(column: &ArrayRef) -> Self {
        Self(column.as_list::<i32>().clone())
    }

    /// The headers of a row: names, which may be missing, and values.
    pub fn of(&self, row: usize) -> Vec<(Option<String>, Option<Vec<u8>>)> {
        if self.0.is_null(row) {
            return Vec::new();
        }
        let items = self.0.value(row);
        let items: &StructArray = items.as_struct();
        let (names, values) = (items.column(0).as_string::<i32>(), items.column(1));
        let value = |item: usize| match values.as_binary_opt::<i32>() {
            _ if values.is_null(item) => None,
            Some(bytes) => Some(bytes.value(item).to_vec()),
            None => Some(values.as_string::<i32>().value(item).as_bytes().to_vec()),
        };
        let name = |item: usize| names.is_valid(item).then(|| names.value(item).to_owned());
        (0..items.len()).map(|item| (name(item), value(item))).collect()
    }
}

/// Rows as messages.
pub struct Encoded<'a> {
    values: Vec<Option<&'a [u8]>>,
    /// The keys, where they are messages of a format.
    keys: Option<Vec<Option<&'a [u8]>>>,
    /// The rows that can't be written.
    refused: Vec<&'a [(usize, String)]>,
    beside: Beside,
    topic: Option<&'a str>,
}

/// A row as a message.
pub struct Message<'a> {
    pub topic: &'a str,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub partition: Option<i32>,
    pub time: Option<i64>,
    pub headers: Option<OwnedHeaders>,
}

impl Encoded<'_> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// The rows that can't be written, and why.
    pub fn refused(&self) -> impl Iterator<Item = &(usize, String)> {
        self.refused.iter().copied().flatten()
    }

    fn key(&self, row: usize) -> Option<&[u8]> {
        match &self.keys {
            Some(keys) => keys[row].filter(|_| self.beside.has_key(row)),
            None => self.beside.key(row),
        }
    }

    /// One of them. None if no topic is known for it, which is found before.
    pub fn message(&self, row: usize) -> Option<Message<'_>> {
        let beside = &self.beside;
        let headers = beside.headers.as_ref().map(|headers| {
            let headers = headers.of(row);
            let add = |all: OwnedHeaders, (name, value): &(Option<String>, Option<Vec<u8>>)| {
                all.insert(Header { key: name.as_deref().unwrap_or_default(), value: value.as_ref() })
            };
            headers.iter().fold(OwnedHeaders::new_with_capacity(headers.len()), add)
        });
        Some(Message {
            topic: self.topic.or_else(|| beside.topic(row))?,
            key: self.key(row),
            value: self.values[row].filter(|_| !beside.deletes(row)),
            partition: beside.partition(row),
            time: beside.time(row),
            headers,
        })
    }

    /// How many bytes of the message of a row are its own.
    pub fn bytes(&self, row: usize) -> usize {
        let value = self.values[row].filter(|_| !self.beside.deletes(row)).map_or(0, <[u8]>::len);
        value + self.key(row).map_or(0, <[u8]>::len) + self.beside.header_bytes(row)
    }
}

/// How many bytes a header has besides its name and value at most.
const HEADER: usize = 10;

impl Beside {
    fn header_bytes(&self, row: usize) -> usize {
        let Some(headers) = &self.headers else { return 0 };
        let bytes = |(name, value): (Option<String>, Option<Vec<u8>>)| {
            HEADER + name.map_or(0, |name| name.len()) + value.map_or(0, |value| value.len())
        };
        headers.of(row).into_iter().map(bytes).sum()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use millstream_testkit::table;
    use serde_json::json;

    use super::*;

    fn messages(layout: &Layout, rows: &RecordBatch) -> Vec<String> {
        let format: Format<WriteMessages> = serde_json::from_value(json!("json")).unwrap();
        let context = millstream_testkit::context();
        let format = RowFormat::new(&format, None, layout, &rows.schema(), &context).unwrap();
        let mut encoder = RowEncoder::new(layout, &format, rows.schema(), &Prefixes::default()).unwrap();
        let encoded = encoder.encode(rows).unwrap();
        let text =
            |bytes: Option<&[u8]>| bytes.map_or("-".to_owned(), |bytes| String::from_utf8(bytes.to_vec()).unwrap());
        let message = |row| {
            let message = encoded.message(row).unwrap();
            let (key, value) = (text(message.key), text(message.value));
            format!("{} {key} {value} {:?} {:?}", message.topic, message.partition, message.time)
        };
        (0..encoded.len()).map(message).collect()
    }

    #[test]
    fn columns_become_what_they_are_for() {
        let rows = table(
            "where:utf8 k:int64? n:int64 at:timestamp? p:int64? op:utf8?\n\
             a 7 1 2026-01-31T12:00:00.0015 3 insert\n\
             b null 2 null null delete\n\
             a 9 3 1969-12-31T23:59:59.9999 99999999999 null",
        );
        let layout = Layout {
            topic_column: Some("where".into()),
            key: vec!["k".into()],
            timestamp: Some("at".into()),
            partition: Some("p".into()),
            tombstones: Some("op".into()),
            ..Layout::default()
        };
        assert_eq!(
            messages(&layout, &rows),
            [
                r#"a 7 {"k":7,"n":1} Some(3) Some(1769860800001)"#,
                "b - - None None",
                r#"a 9 {"k":9,"n":3} Some(-2) Some(-1)"#,
            ]
        );
        let fixed = Layout { fixed_topic: Some("t".into()), value: Some(vec!["n".into()]), ..Layout::default() };
        assert_eq!(messages(&fixed, &rows)[0], r#"t - {"n":1} None None"#);
    }
}
