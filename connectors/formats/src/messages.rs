//! Messages, each of which is one row.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use millstream_core::{Columns, PlanContext, Problem, Result};
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
