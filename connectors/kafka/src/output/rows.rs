//! How a row becomes a message: which columns are the key, the value, and what stands beside them.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, Int32Array, Int64Array, ListArray, RecordBatch, StringArray, StructArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type, Schema, SchemaRef, TimestampMicrosecondType};
use millstream_core::{PlanContext, Problem, Result};
use millstream_formats::{Format, MessageWriter, Payloads, WriteMessageFormat, WriteMessages, WrittenSchema};
use serde::{Deserialize, Serialize};

use crate::native::Outgoing;
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

    /// All columns that have a part in messages, by their numbers.
    pub fn columns(&self, schema: &Schema) -> Vec<usize> {
        let mut columns = self.value_columns(schema);
        let beside =
            [&self.topic_column, &self.headers, &self.timestamp, &self.partition, &self.tombstones].map(Option::as_ref);
        let named = beside.into_iter().flatten().chain(&self.key);
        columns.extend(named.filter_map(|name| schema.index_of(name).ok()));
        columns.sort_unstable();
        columns.dedup();
        columns
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
    prefix: Vec<u8>,
}

impl PartEncoder {
    fn new(format: &WriteMessageFormat, columns: Vec<usize>, prefix: &[u8], schema: &Schema) -> Result<Self> {
        let writer = format.open(&Arc::new(schema.project(&columns)?))?;
        Ok(Self { columns, writer, prefix: prefix.to_vec() })
    }

    fn encode(&mut self, rows: &RecordBatch) -> Result<Payloads> {
        let mut payloads = Payloads::beginning_with(self.prefix.clone());
        self.writer.encode(&rows.project(&self.columns)?, &mut payloads)?;
        Ok(payloads)
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
    pub fn encode(&mut self, rows: &RecordBatch) -> Result<Encoded> {
        Ok(Encoded {
            values: self.value.encode(rows)?,
            keys: self.key.as_mut().map(|key| key.encode(rows)).transpose()?,
            beside: Beside::new(&self.layout, rows)?,
            topic: self.layout.fixed_topic.clone(),
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
    pub fn of(&self, row: usize) -> impl Iterator<Item = (Option<&str>, Option<&[u8]>)> {
        let items: &StructArray = self.0.values().as_struct();
        let (names, values) = (items.column(0).as_string::<i32>(), items.column(1));
        let value = move |item: usize| match values.as_binary_opt::<i32>() {
            _ if values.is_null(item) => None,
            Some(bytes) => Some(bytes.value(item)),
            None => Some(values.as_string::<i32>().value(item).as_bytes()),
        };
        let ends = &self.0.value_offsets()[row..row + 2];
        let there = if self.0.is_null(row) { 0..0 } else { ends[0] as usize..ends[1] as usize };
        there.map(move |item| (names.is_valid(item).then(|| names.value(item)), value(item)))
    }
}

/// Rows as messages.
pub struct Encoded {
    values: Payloads,
    /// The keys, where they are messages of a format.
    keys: Option<Payloads>,
    beside: Beside,
    topic: Option<String>,
}

impl Encoded {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// The rows that can't be written, and why.
    pub fn refused(&self) -> impl Iterator<Item = &(usize, String)> {
        self.values.refused().iter().chain(self.keys.iter().flat_map(Payloads::refused))
    }

    fn key(&self, row: usize) -> Option<&[u8]> {
        match &self.keys {
            Some(keys) => keys.get(row).filter(|_| self.beside.has_key(row)),
            None => self.beside.key(row),
        }
    }

    fn value(&self, row: usize) -> Option<&[u8]> {
        self.values.get(row).filter(|_| !self.beside.deletes(row))
    }

    /// The topic that a message goes to. None if none is known, which is found before.
    pub fn topic(&self, row: usize) -> Option<&str> {
        self.topic.as_deref().or_else(|| self.beside.topic(row))
    }

    /// The topic of all of them, if they are nothing but key and value.
    pub fn plain_topic(&self) -> Option<&str> {
        let is_plain = self.beside.headers.is_none() && self.beside.times.is_none();
        self.topic.as_deref().filter(|_| is_plain)
    }

    /// One of them.
    pub fn message(&self, row: usize) -> Outgoing<'_> {
        let beside = &self.beside;
        let headers = beside.headers.iter().flat_map(|headers| headers.of(row));
        Outgoing {
            key: self.key(row),
            value: self.value(row),
            partition: beside.partition(row),
            time: beside.time(row),
            headers: headers.map(|(name, value)| (name.unwrap_or_default(), value)).collect(),
        }
    }

    /// How many bytes of the message of a row are its own.
    pub fn bytes(&self, row: usize) -> usize {
        self.value(row).map_or(0, <[u8]>::len) + self.key(row).map_or(0, <[u8]>::len) + self.beside.header_bytes(row)
    }
}

/// How many bytes a header has besides its name and value at most.
const HEADER: usize = 10;

impl Beside {
    fn header_bytes(&self, row: usize) -> usize {
        let bytes = |(name, value): (Option<&str>, Option<&[u8]>)| {
            HEADER + name.map_or(0, str::len) + value.map_or(0, <[u8]>::len)
        };
        self.headers.iter().flat_map(|headers| headers.of(row)).map(bytes).sum()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use arrow::buffer::OffsetBuffer;
    use arrow::datatypes::{Field, Fields};
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
            let (topic, message) = (encoded.topic(row).unwrap(), encoded.message(row));
            let (key, value) = (text(message.key), text(message.value));
            format!("{topic} {key} {value} {:?} {:?}", message.partition, message.time)
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

    #[test]
    fn columns_without_a_part_in_messages_are_known() {
        let rows = table("a:int64 k:utf8 n:int64 where:utf8\n1 x 2 t");
        let columns = |layout: Layout| layout.columns(&rows.schema());
        let (key, topic_column) = (vec!["k".to_owned()], Some("where".to_owned()));
        let some = Layout { value: Some(vec!["n".into()]), key: key.clone(), ..Layout::default() };
        assert_eq!(columns(some), [1, 2]);
        let raw = Layout { leaves_out_key: true, topic_column, key, ..Layout::default() };
        assert_eq!(columns(raw), [0, 1, 2, 3]);
    }

    #[test]
    fn headers_are_those_of_their_row() {
        let item =
            Fields::from(vec![Field::new("name", DataType::Utf8, true), Field::new("value", DataType::Utf8, true)]);
        let names: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), Some("b"), None]));
        let values: ArrayRef = Arc::new(StringArray::from(vec![Some("1"), None, Some("3")]));
        let items = StructArray::new(item.clone(), vec![names, values], None);
        let field = Arc::new(Field::new("item", DataType::Struct(item), true));
        let lists = ListArray::new(
            field,
            OffsetBuffer::from_lengths([2, 0, 1]),
            Arc::new(items),
            Some(vec![true, false, true].into()),
        );
        let of = |column: ArrayRef, row: usize| {
            let headers = Headers::new(&column);
            let texts = headers.of(row).map(|(name, value)| (name.map(str::to_owned), value.map(<[u8]>::to_vec)));
            texts.collect::<Vec<_>>()
        };
        let (a, b) = ((Some("a".to_owned()), Some(b"1".to_vec())), (Some("b".to_owned()), None));
        let column: ArrayRef = Arc::new(lists);
        assert_eq!(of(column.clone(), 0), [a, b]);
        assert_eq!(of(column.clone(), 1), []);
        assert_eq!(of(column.slice(2, 1), 0), [(None, Some(b"3".to_vec()))]);
    }
}
