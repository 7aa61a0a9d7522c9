//! What is read of messages: the values, and the keys if they are messages of a format.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use millstream_core::{Parts, Result, State};
use millstream_formats::{BadRow, Framed, MessageReader, RegisteredSchema, Rows, SchemaId};

use super::schemas::{Registry, Schemas};
use crate::native::{Message, Messages};
use crate::part::MessagePart;

/// Reads one part of messages.
pub struct Side {
    part: MessagePart,
    reader: Box<dyn MessageReader>,
    /// The schemas that messages name, if they do.
    schemas: Option<Schemas>,
}

impl MessagePart {
    fn bytes(self, message: Message<'_>) -> Option<&[u8]> {
        match self {
            Self::Value => message.value(),
            Self::Key => message.key(),
        }
    }

    /// The header that may name the schema.
    fn header(self) -> &'static [u8] {
        match self {
            Self::Value => b"__value_schema_id",
            Self::Key => b"__key_schema_id",
        }
    }

    /// The piece of state that holds the schemas that messages have named.
    fn state(self) -> &'static str {
        match self {
            Self::Value => "schemas",
            Self::Key => "key_schemas",
        }
    }

    /// The part with its schema, or why it names none.
    fn framed(self, message: Message<'_>) -> Result<Option<Framed<'_>>, &'static str> {
        let Some(bytes) = self.bytes(message) else { return Ok(None) };
        let header = message.headers().into_iter().find(|(name, _)| *name == self.header());
        Framed::of(bytes, header.and_then(|(_, value)| value)).map(Some)
    }
}

impl Side {
    pub fn new(part: MessagePart, reader: Box<dyn MessageReader>, registry: Option<Arc<dyn Registry>>) -> Self {
        Self { part, reader, schemas: registry.map(Schemas::new) }
    }

    /// The columns that come.
    pub fn schema(&self) -> &SchemaRef {
        self.reader.schema()
    }

    /// Whether messages may have to wait for their schemas.
    pub fn has_schemas(&self) -> bool {
        self.schemas.is_some()
    }

    /// The first schema that messages name and that has to be fetched before they can be read.
    pub fn missing(&self, messages: &Messages) -> Option<SchemaId> {
        self.schemas.as_ref()?;
        let mut last = None;
        let schemas = messages.iter().filter_map(|message| self.part.framed(message).ok()?).map(|framed| framed.schema);
        let mut changed = schemas.filter(|schema| last.replace(*schema) != Some(*schema));
        changed.find(|schema| self.reader.needs_schema(*schema))
    }

    /// Asks for a schema, as long as it takes.
    pub fn fetch(&self, id: SchemaId) -> Option<impl Future<Output = Result<Option<RegisteredSchema>>> + Send + use<>> {
        self.schemas.as_ref().map(|schemas| schemas.fetch(id))
    }

    /// Takes a schema that was asked for.
    pub fn add(&mut self, id: SchemaId, schema: Option<RegisteredSchema>) -> Result<()> {
        match &mut self.schemas {
            Some(schemas) => schemas.add(id, schema, &mut *self.reader),
            None => Ok(()),
        }
    }

    /// Reads the part of messages, and hands those to `fail` that can't be read. Those that name no schema are taken away; the positions of
    /// rows are the numbers of their messages among those that are left.
    pub fn read(&mut self, messages: &mut Vec<Message<'_>>, fail: &mut dyn FnMut(Message<'_>, BadRow)) -> Result<Rows> {
        let mut rows = Rows::default();
        if self.schemas.is_some() {
            let mut parts = Vec::with_capacity(messages.len());
            messages.retain(|message| match self.part.framed(*message) {
                Ok(part) => {
                    parts.push(part);
                    true
                }
                Err(why) => {
                    fail(*message, BadRow::new(0, why, self.part.bytes(*message).unwrap_or_default()));
                    false
                }
            });
            self.reader.decode_framed(&parts, &mut rows)?;
        } else {
            let parts: Vec<_> = messages.iter().map(|message| self.part.bytes(*message)).collect();
            self.reader.decode(&parts, &mut rows)?;
        }
        for bad in std::mem::take(&mut rows.failed) {
            fail(messages[bad.position as usize], bad);
        }
        Ok(rows)
    }

    /// Reads the part of messages as [`Self::read`] does, and gives one row for each that is left.
    pub fn read_whole(
        &mut self,
        messages: &mut Vec<Message<'_>>,
        fail: &mut dyn FnMut(Message<'_>, BadRow),
    ) -> Result<RecordBatch> {
        let rows = self.read(messages, fail)?;
        let mut number = 0;
        let mut good = vec![false; messages.len()];
        rows.batches
            .iter()
            .for_each(|(start, rows)| good[*start as usize..*start as usize + rows.num_rows()].fill(true));
        messages.retain(|_| {
            number += 1;
            good[number - 1]
        });
        Ok(concat_batches(self.schema(), rows.batches.iter().map(|(_, rows)| rows))?)
    }

    /// Adds what is kept in the state.
    pub fn keep(&self, parts: &mut Parts) -> Result<()> {
        match &self.schemas {
            Some(schemas) => parts.put(self.part.state(), &schemas.keep()),
            None => Ok(()),
        }
    }

    /// Takes what was kept.
    pub fn restore(&mut self, state: &State) -> Result<()> {
        match &mut self.schemas {
            Some(schemas) if state.has(self.part.state()) => {
                schemas.restore(state.get(self.part.state())?, &mut *self.reader)
            }
            _ => Ok(()),
        }
    }
}
