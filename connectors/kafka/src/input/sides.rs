//! What is read of messages: the values, and the keys if they are messages of a format.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::concat_batches;
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
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

    fn schema(&self) -> &SchemaRef {
        self.reader.schema()
    }

    /// The first schema that messages name and that has to be fetched before they can be read.
    fn missing(&self, messages: &Messages) -> Option<SchemaId> {
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

    /// Takes the messages away of which the part names no schema where it has to, and hands them to `fail`.
    fn require_schemas(&self, messages: &mut Vec<Message<'_>>, fail: &mut dyn FnMut(Message<'_>, BadRow)) {
        if self.schemas.is_none() {
            return;
        }
        messages.retain(|message| match self.part.framed(*message) {
            Ok(_) => true,
            Err(why) => {
                fail(*message, BadRow::new(0, why, self.part.bytes(*message).unwrap_or_default()));
                false
            }
        });
    }

    /// Reads the part of messages, which name their schemas if they have to, and hands those to `fail` that can't be read. The positions of
    /// rows are the numbers of their messages.
    fn read(&mut self, messages: &[Message<'_>], fail: &mut dyn FnMut(Message<'_>, BadRow)) -> Result<Rows> {
        let mut rows = Rows::default();
        if self.schemas.is_some() {
            let parts: Vec<_> = messages.iter().map(|message| self.part.framed(*message).ok().flatten()).collect();
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

    /// Reads the part of messages as [`Self::read`] does, takes those away that can't be read, and gives one row for each that is left.
    fn read_whole(
        &mut self,
        messages: &mut Vec<Message<'_>>,
        fail: &mut dyn FnMut(Message<'_>, BadRow),
    ) -> Result<RecordBatch> {
        let rows = self.read(messages, fail)?;
        let mut good = vec![false; messages.len()];
        for (start, rows) in &rows.batches {
            good[*start as usize..][..rows.num_rows()].fill(true);
        }
        let mut good = good.into_iter();
        messages.retain(|_| good.next().unwrap_or_default());
        Ok(concat_batches(self.schema(), rows.batches.iter().map(|(_, rows)| rows))?)
    }

    /// Adds what is kept in the state.
    fn keep(&self, parts: &mut Parts) -> Result<()> {
        match &self.schemas {
            Some(schemas) => parts.put(self.part.state(), &schemas.keep()),
            None => Ok(()),
        }
    }

    /// Takes what was kept.
    fn restore(&mut self, state: &State) -> Result<()> {
        match &mut self.schemas {
            Some(schemas) if state.has(self.part.state()) => {
                schemas.restore(state.get(self.part.state())?, &mut *self.reader)
            }
            _ => Ok(()),
        }
    }
}

/// Reads values, and keys if they are messages of a format.
pub struct Sides {
    values: Side,
    keys: Option<Side>,
    /// The columns of both.
    schema: SchemaRef,
}

impl Sides {
    /// `key_name` says what a column of the keys is called in rows.
    pub fn new(values: Side, keys: Option<Side>, key_name: impl Fn(&str) -> String) -> Self {
        let of_keys = keys.iter().flat_map(|keys| keys.schema().fields());
        let of_keys = of_keys.map(|field| field.as_ref().clone().with_name(key_name(field.name())).into());
        let fields: Vec<FieldRef> = values.schema().fields().iter().cloned().chain(of_keys).collect();
        Self { schema: Schema::new(fields).into(), values, keys }
    }

    /// The columns that come: those of the keys are behind those of the values.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Whether messages may have to wait for their schemas.
    pub fn has_schemas(&self) -> bool {
        self.values.schemas.is_some()
    }

    /// The first schema that messages name and that has to be fetched before they can be read, and what it is of.
    pub fn missing(&mut self, messages: &Messages) -> Option<(&mut Side, SchemaId)> {
        let mut sides = [Some(&mut self.values), self.keys.as_mut()].into_iter().flatten();
        sides.find_map(|side| side.missing(messages).map(|id| (side, id)))
    }

    /// Reads messages, and hands those to `fail` that can't be read. The positions of rows are the numbers of their messages among those that
    /// are left: those that name no schema, or whose keys can't be read, are taken away.
    pub fn read(&mut self, messages: &mut Vec<Message<'_>>, fail: &mut dyn FnMut(Message<'_>, BadRow)) -> Result<Rows> {
        self.values.require_schemas(messages, fail);
        let Some(keys) = &mut self.keys else { return self.values.read(messages, fail) };
        let mut of_key = |message: Message<'_>, bad: BadRow| {
            fail(message, BadRow { error: format!("key: {}", bad.error), ..bad });
        };
        keys.require_schemas(messages, &mut of_key);
        let keys = keys.read_whole(messages, &mut of_key)?;
        let mut rows = self.values.read(messages, fail)?;
        for (start, values) in &mut rows.batches {
            let keys = keys.slice(*start as usize, values.num_rows());
            let columns = values.columns().iter().chain(keys.columns()).cloned().collect();
            let options = RecordBatchOptions::new().with_row_count(Some(values.num_rows()));
            *values = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?;
        }
        Ok(rows)
    }

    /// Adds what is kept in the state.
    pub fn keep(&self, parts: &mut Parts) -> Result<()> {
        [Some(&self.values), self.keys.as_ref()].into_iter().flatten().try_for_each(|side| side.keep(parts))
    }

    /// Takes what was kept.
    pub fn restore(&mut self, state: &State) -> Result<()> {
        [Some(&mut self.values), self.keys.as_mut()].into_iter().flatten().try_for_each(|side| side.restore(state))
    }
}
