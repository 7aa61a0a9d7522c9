//! Messages, each of which is one row, to read and to write.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use millstream_core::{Columns, Error, PlanContext, Problem, Result};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::refusal::Read;
use crate::{Framed, RegisteredSchema, Rows, SchemaId, WrittenSchema};

/// The error that rejects a message without a value, such as a tombstone.
pub(crate) const NO_VALUE: &str = "the message has no value";

/// A format of messages, as its settings say.
pub(crate) trait MessageFormat: fmt::Debug + Send + Sync {
    /// Checks that there can be such columns.
    fn check_columns(&self, _columns: &Columns) -> Result<(), Problem> {
        Ok(())
    }

    /// The columns of the messages, where the settings of the format say them.
    fn columns(&self, _context: &PlanContext) -> Result<Option<Columns>, Problem> {
        Ok(None)
    }

    /// Whether a registry has to say what messages are, since the settings don't: their columns, unless the flow `has_columns` that it declares,
    /// or how they are read.
    fn lacks_schema(&self, _has_columns: bool) -> bool {
        false
    }

    /// The same with a schema that a registry has, in place of one that the settings would name.
    fn with_schema(&self, _schema: &RegisteredSchema) -> Result<Arc<dyn MessageFormat>, String> {
        Err("its messages have no schemas in a registry".to_owned())
    }

    /// What makes readers of messages that are rows of these columns. Problems are placed in the table of the node.
    fn readers(self: Arc<Self>, columns: &Columns, context: &PlanContext) -> Result<MakeReader, Problem>;

    /// Reads messages that name their schemas.
    fn framed_reader(
        self: Arc<Self>,
        columns: &Columns,
        _changes: SchemaChanges,
        context: &PlanContext,
    ) -> Result<Box<dyn MessageReader>, Problem> {
        self.readers(columns, context).map(|make| make())
    }
}

/// Makes readers that read the same.
pub(crate) type MakeReader = Arc<dyn Fn() -> Box<dyn MessageReader> + Send + Sync>;

/// What makes readers of a format that can always be opened.
pub(crate) fn always<F: Send + Sync + 'static>(
    format: Arc<F>,
    columns: &Columns,
    context: &PlanContext,
    open: fn(&F, &Columns, &PlanContext) -> Box<dyn MessageReader>,
) -> MakeReader {
    let (columns, context) = (columns.clone(), context.clone());
    Arc::new(move || open(&format, &columns, &context))
}

/// Reads messages, each of which is one row.
pub trait MessageReader: Send {
    /// The columns of the batches, in canonical types.
    fn schema(&self) -> &SchemaRef;

    /// Adds the rows of messages to `out`, some of which may have no value. The position of a row is the number of its message
    /// among them. Reads each message for itself, so that nothing depends on which come together.
    ///
    /// # Errors
    /// Never for what is in the messages: such rows are refused.
    fn decode(&mut self, messages: &[Option<&[u8]>], out: &mut Rows) -> Result<()>;

    /// Whether messages of a schema can't be read before it is added.
    fn needs_schema(&self, _schema: SchemaId) -> bool {
        false
    }

    /// Adds a schema, or says that there is no such. Returns what there is to note: fields that are no columns, columns that are no fields.
    ///
    /// # Errors
    /// If its fields are others than the columns, and that is not wanted.
    fn add_schema(&mut self, _id: SchemaId, _schema: Option<&RegisteredSchema>) -> Result<Option<String>> {
        Ok(None)
    }

    /// Reads messages that name their schemas, which have been added, as [`Self::decode`] reads others.
    ///
    /// # Errors
    /// Never for what is in the messages: such rows are refused.
    fn decode_framed(&mut self, messages: &[Option<Framed>], out: &mut Rows) -> Result<()> {
        let values: Vec<_> = messages.iter().map(|message| message.map(|framed| framed.value)).collect();
        self.decode(&values, out)
    }
}

/// What becomes of messages whose schema has other fields than the flow has columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SchemaChanges {
    /// The flow fails.
    Fail,
    /// The fields have to be the columns, and their values become the columns' types where they fit.
    Coerce,
    /// As `coerce`; and fields that are no columns are left out, and columns that are no fields have their default, or null.
    #[default]
    Evolve,
}

/// A format in which rows are written as messages, as its settings say.
pub(crate) trait MessageWriting: fmt::Debug + Send + Sync {
    /// The same with the files that its settings name, if they name any.
    fn load(&self, _context: &PlanContext) -> Result<Option<Arc<dyn MessageWriting>>, Problem> {
        Ok(None)
    }

    /// Checks that there can be such columns.
    fn check_columns(&self, _schema: &Schema) -> Result<(), Problem> {
        Ok(())
    }

    /// Writes rows of these columns.
    fn open(&self, schema: &SchemaRef) -> Result<Box<dyn MessageWriter>>;

    /// The schema of rows of these columns, if the format has schemas.
    fn registered(&self, _schema: &Schema) -> Result<Option<WrittenSchema>, Problem> {
        Ok(None)
    }

    /// Whether there may be rows that can't be written.
    fn may_refuse(&self) -> bool {
        false
    }
}

/// A format of messages to write, as its settings say.
#[derive(Clone, Debug)]
pub struct WriteMessageFormat(Arc<dyn MessageWriting>);

impl WriteMessageFormat {
    pub(crate) fn new(format: Arc<dyn MessageWriting>) -> Self {
        Self(format)
    }

    /// Writes rows of these columns.
    ///
    /// # Errors
    /// If there can't be such columns.
    pub fn open(&self, schema: &SchemaRef) -> Result<Box<dyn MessageWriter>> {
        self.0.check_columns(schema).map_err(|problem| Error::new(problem.message))?;
        self.0.open(schema)
    }

    /// What a registry is told of rows of these columns. None if the format has no schemas.
    ///
    /// # Errors
    /// If the settings of the format don't go with a registry. Problems are placed in the table of the format.
    pub fn registered(&self, schema: &Schema) -> Result<Option<WrittenSchema>, Problem> {
        self.0.registered(schema)
    }

    /// Whether there may be rows that can't be written, so that each has to be tried.
    pub fn may_refuse(&self) -> bool {
        self.0.may_refuse()
    }
}

/// Writes rows as messages, each of which is one.
pub trait MessageWriter: Send {
    /// Appends the messages of rows, in their order, and as many as there are rows. A row that can't be written becomes one of
    /// [`Payloads::refused`].
    ///
    /// # Errors
    /// Never for what is in a row.
    fn encode(&mut self, rows: &RecordBatch, out: &mut Payloads) -> Result<()>;
}

/// What is in messages, in one piece of memory.
#[derive(Debug, Default)]
pub struct Payloads {
    /// What every message begins with.
    prefix: Vec<u8>,
    bytes: Vec<u8>,
    /// Where each message is; nowhere if it has no value.
    places: Vec<Option<Range<usize>>>,
    refused: Vec<(usize, String)>,
}

impl Payloads {
    /// For messages that all begin with the same bytes, which what writes them does not know of.
    pub fn beginning_with(prefix: Vec<u8>) -> Self {
        Self { prefix, ..Self::default() }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.places.clear();
        self.refused.clear();
    }

    /// The rows that can't be written, by the number of their message, which has no value; and why.
    pub fn refused(&self) -> &[(usize, String)] {
        &self.refused
    }

    /// How many messages there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The messages in their order; `None` is one without a value.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Option<&[u8]>> {
        self.places.iter().map(|place| place.clone().map(|place| &self.bytes[place]))
    }

    /// One of them.
    pub fn get(&self, message: usize) -> Option<&[u8]> {
        self.places[message].clone().map(|place| &self.bytes[place])
    }

    /// Appends a message.
    pub fn push(&mut self, message: Option<&[u8]>) {
        match message {
            Some(message) => self.push_with(|bytes| bytes.extend_from_slice(message)),
            None => self.places.push(None),
        }
    }

    /// Appends the message that `write` appends.
    pub(crate) fn push_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&self.prefix);
        write(&mut self.bytes);
        self.places.push(Some(start..self.bytes.len()));
    }

    /// Appends the message that `write` appends, unless it says why there is none.
    pub(crate) fn try_push_with(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Read<()>) {
        let (start, message) = (self.bytes.len(), self.places.len());
        let mut written = Ok(());
        self.push_with(|bytes| written = write(bytes));
        if let Err(refusal) = written {
            self.bytes.truncate(start);
            self.places[message] = None;
            self.refused.push((message, refusal.to_string()));
        }
    }

    /// Appends what `write` writes: messages, each with a line break behind it that is none of it. `is_break` says of one byte after
    /// the other whether it is such a line break.
    pub(crate) fn push_lines(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>) -> Result<()>,
        mut is_break: impl FnMut(u8) -> bool,
    ) -> Result<()> {
        if !self.prefix.is_empty() {
            let mut lines = Self::default();
            lines.push_lines(write, is_break)?;
            lines.iter().for_each(|line| self.push(line));
            return Ok(());
        }
        let mut start = self.bytes.len();
        write(&mut self.bytes)?;
        for (end, byte) in self.bytes.iter().enumerate().skip(start) {
            if is_break(*byte) {
                self.places.push(Some(start..end));
                start = end + 1;
            }
        }
        Ok(())
    }
}
