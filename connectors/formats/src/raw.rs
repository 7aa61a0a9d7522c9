//! Messages that are their bytes.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BinaryBuilder, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use millstream_core::{ColumnType, Columns, PlanContext, Problem, Result, type_name};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::kind::{FormatKind, Settings, Side};
use crate::messages::{
    MakeReader, MessageFormat, MessageReader, MessageWriter, MessageWriting, NO_VALUE, Payloads, always,
};
use crate::rows::NO_TEXT;
use crate::window::MAX_BATCH_BYTES;
use crate::{BadRow, Rows};

pub(crate) const FORMAT: FormatKind = FormatKind {
    name: "raw",
    about: "The bytes as they are, in one column of the type `binary` or `utf8`.",
    endings: &[],
    example: r#""raw""#,
    is_text: false,
    can_grow: false,
    read: None,
    read_messages: Some(Side::of::<ReadRaw>()),
    write_files: None,
    write_streams: None,
    write_messages: Some(Side::of::<WriteRaw>()),
};

/// A message without a value is null.
#[derive(Debug, Deserialize, JsonSchema)]
struct ReadRaw {}

impl Settings for ReadRaw {
    type Made = Arc<dyn MessageFormat>;

    fn make(self, _: &str) -> Result<Self::Made, Problem> {
        Ok(Arc::new(RawMessages))
    }
}

/// A null is a message without a value.
#[derive(Debug, Deserialize, JsonSchema)]
struct WriteRaw {}

impl Settings for WriteRaw {
    type Made = Arc<dyn MessageWriting>;

    fn make(self, _: &str) -> Result<Self::Made, Problem> {
        Ok(Arc::new(RawMessages))
    }
}

/// Bytes to read from messages, and to write to them.
#[derive(Debug)]
struct RawMessages;

impl MessageFormat for RawMessages {
    fn check_columns(&self, columns: &Columns) -> Result<(), Problem> {
        let problem = match columns.0.as_slice() {
            [(_, column)] if column.is_json => "`json`".to_owned(),
            [(_, column)] if matches!(column.data_type, DataType::Binary | DataType::Utf8) => return Ok(()),
            [(_, column)] => format!("`{}`", type_name(&column.data_type)),
            columns => format!("{} columns", columns.len()),
        };
        let help = "declare one column of the type `binary` or `utf8`, such as `{ value = \"utf8\" }`";
        Err(Problem::new(format!("raw messages can't be {problem}")).help(help))
    }

    fn columns(&self, _: &PlanContext) -> Result<Option<Columns>, Problem> {
        let value = ColumnType::new(DataType::Binary, true);
        Ok(Some(Columns(vec![("value".to_owned(), value)])))
    }

    fn readers(self: Arc<Self>, columns: &Columns, context: &PlanContext) -> Result<MakeReader, Problem> {
        Ok(always(self, columns, context, Self::open))
    }
}

impl RawMessages {
    /// Reads messages that are rows of these columns.
    fn open(&self, columns: &Columns, context: &PlanContext) -> Box<dyn MessageReader> {
        Box::new(RawReader { schema: columns.schema(), batch_rows: context.batch_rows })
    }
}

/// Copies messages into a column.
struct RawReader {
    schema: SchemaRef,
    batch_rows: usize,
}

impl RawReader {
    /// Why a message is no value of the column.
    fn refusal(&self, message: Option<&[u8]>) -> Option<&'static str> {
        let field = self.schema.field(0);
        match message {
            None if field.is_nullable() => None,
            None => Some(NO_VALUE),
            Some(bytes) if *field.data_type() == DataType::Utf8 => std::str::from_utf8(bytes).err().map(|_| NO_TEXT),
            Some(_) => None,
        }
    }

    fn batch(&self, messages: &[Option<&[u8]>]) -> Result<RecordBatch> {
        let bytes = messages.iter().flatten().map(|message| message.len()).sum();
        let mut values = BinaryBuilder::with_capacity(messages.len(), bytes);
        values.extend(messages.iter().copied());
        let values = values.finish();
        let column: ArrayRef = match self.schema.field(0).data_type() {
            DataType::Utf8 => Arc::new(StringArray::try_from_binary(values)?),
            _ => Arc::new(values),
        };
        Ok(RecordBatch::try_new(self.schema.clone(), vec![column])?)
    }
}

impl MessageReader for RawReader {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn decode(&mut self, messages: &[Option<&[u8]>], out: &mut Rows) -> Result<()> {
        let mut start = 0;
        while start < messages.len() {
            if let Some(why) = self.refusal(messages[start]) {
                out.failed.push(BadRow::new(start as u64, why, messages[start].unwrap_or_default()));
                start += 1;
                continue;
            }
            let (mut end, mut bytes) = (start, 0);
            let is_room = |end: usize, bytes| end - start < self.batch_rows && bytes <= MAX_BATCH_BYTES;
            while end < messages.len() && is_room(end, bytes) && self.refusal(messages[end]).is_none() {
                bytes += messages[end].map_or(0, <[u8]>::len);
                end += 1;
            }
            out.batches.push((start as u64, self.batch(&messages[start..end])?));
            start = end;
        }
        Ok(())
    }
}

impl MessageWriting for RawMessages {
    fn check_columns(&self, schema: &Schema) -> Result<(), Problem> {
        let problem = match schema.fields().iter().as_slice() {
            [field] if matches!(field.data_type(), DataType::Binary | DataType::Utf8) => return Ok(()),
            [field] => format!("column `{}` is `{}`", field.name(), type_name(field.data_type())),
            fields => format!("there are {} columns", fields.len()),
        };
        let help = "leave one column of the type `binary` or `utf8` for the value, such as by an `sql` node before";
        Err(Problem::new(format!("raw messages are bytes or texts, and {problem}")).help(help))
    }

    fn open(&self, _: &SchemaRef) -> Result<Box<dyn MessageWriter>> {
        Ok(Box::new(Self))
    }
}

impl MessageWriter for RawMessages {
    fn encode(&mut self, rows: &RecordBatch, out: &mut Payloads) -> Result<()> {
        let column = rows.column(0);
        match column.as_string_opt::<i32>() {
            Some(texts) => texts.iter().for_each(|text| out.push(text.map(str::as_bytes))),
            None => column.as_binary::<i32>().iter().for_each(|bytes| out.push(bytes)),
        }
        Ok(())
    }
}
