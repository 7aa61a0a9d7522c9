//! Messages that are JSON objects.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use millstream_core::{Columns, PlanContext, Problem, Result, write_json};

use super::decoder::JsonDecoder;
use super::schema::schema_of;
use crate::message_lines::LineFormat;
use crate::messages::{
    MakeReader, MessageFormat, MessageReader, MessageWriter, MessageWriting, NO_VALUE, Payloads, always,
};
use crate::read::wanted;
use crate::text::Moments;
use crate::{BadRow, Rows, SchemaKind, WrittenSchema};

/// JSON objects to read from messages.
#[derive(Debug)]
pub(super) struct JsonMessages {
    pub moments: Moments,
}

impl MessageFormat for JsonMessages {
    fn readers(self: Arc<Self>, columns: &Columns, context: &PlanContext) -> Result<MakeReader, Problem> {
        Ok(always(self, columns, context, Self::open))
    }
}

impl JsonMessages {
    /// Reads messages that are rows of these columns.
    fn open(&self, columns: &Columns, context: &PlanContext) -> Box<dyn MessageReader> {
        let columns = wanted(columns, context.columns.as_ref());
        Box::new(JsonDecoder::new(&columns, &self.moments, context.batch_rows).of_messages())
    }
}

impl MessageReader for JsonDecoder {
    fn schema(&self) -> &SchemaRef {
        JsonDecoder::schema(self)
    }

    fn decode(&mut self, messages: &[Option<&[u8]>], out: &mut Rows) -> Result<()> {
        for (position, message) in (0..).zip(messages) {
            out.failed.extend(match message {
                Some(document) => self.push(document, position),
                None => self.push(b"{}", position).map(without_value),
            });
            if self.is_full() {
                self.flush(out)?;
            }
        }
        self.flush(out)
    }
}

/// The refusal of a message without a value, where a column may not be null.
fn without_value(refused: BadRow) -> BadRow {
    BadRow { error: format!("{NO_VALUE}: {}", refused.error), row: String::new(), ..refused }
}

/// JSON objects that are lines of a text.
#[derive(Debug)]
pub(super) struct NdjsonLines {
    pub moments: Moments,
}

impl LineFormat for NdjsonLines {
    fn check_columns(&self, _: &Columns) -> Result<(), Problem> {
        Ok(())
    }

    fn columns(&self) -> Option<Columns> {
        None
    }

    fn open(&self, columns: &Columns, batch_rows: usize) -> Box<dyn MessageReader> {
        Box::new(JsonDecoder::new(columns, &self.moments, batch_rows))
    }
}

/// JSON objects to write as messages.
#[derive(Debug)]
pub(super) struct WrittenMessages {
    /// What they are called in a registry.
    pub name: String,
}

impl MessageWriting for WrittenMessages {
    fn open(&self, _: &SchemaRef) -> Result<Box<dyn MessageWriter>> {
        Ok(Box::new(ObjectWriter))
    }

    fn registered(&self, schema: &Schema) -> Result<Option<WrittenSchema>, Problem> {
        let text = schema_of(&self.name, schema).to_string();
        Ok(Some(WrittenSchema::new(SchemaKind::Json, &self.name, text)))
    }
}

/// Writes rows as objects.
struct ObjectWriter;

impl MessageWriter for ObjectWriter {
    fn encode(&mut self, rows: &RecordBatch, out: &mut Payloads) -> Result<()> {
        // A line break in a text is written as `\n`.
        out.push_lines(|bytes| write_json(rows, bytes), |byte| byte == b'\n')
    }
}
