//! Messages, each of which is one row, to read and to write.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use millstream_core::{Columns, Error, PlanContext, Problem, Result};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{Framed, RegisteredSchema, Rows, SchemaId};

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
    /// Checks that there can be such columns.
    fn check_columns(&self, _schema: &Schema) -> Result<(), Problem> {
        Ok(())
    }

    /// Writes rows of these columns.
    fn open(&self, schema: &SchemaRef) -> Result<Box<dyn MessageWriter>>;
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
}

/// Writes rows as messages, each of which is one.
pub trait MessageWriter: Send {
    /// Appends the messages of rows, in their order, and as many as there are rows.
    ///
    /// # Errors
    /// Never for what is in a row that [`MessageReader::decode`] could give.
    fn encode(&mut self, rows: &RecordBatch, out: &mut Payloads) -> Result<()>;
}

/// What is in messages, in one piece of memory, which is reused.
#[derive(Debug, Default)]
pub struct Payloads {
    bytes: Vec<u8>,
    /// Where each message is; nowhere if it has no value.
    places: Vec<Option<Range<usize>>>,
}

impl Payloads {
    /// Forgets all.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.places.clear();
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

    /// Appends a message.
    pub fn push(&mut self, message: Option<&[u8]>) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(message.unwrap_or_default());
        self.places.push(message.map(|_| start..self.bytes.len()));
    }

    /// Appends what `write` writes: messages, each with a line break behind it that is none of it. `is_break` says of one byte after
    /// the other whether it is such a line break.
    pub(crate) fn push_lines(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>) -> Result<()>,
        mut is_break: impl FnMut(u8) -> bool,
    ) -> Result<()> {
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
