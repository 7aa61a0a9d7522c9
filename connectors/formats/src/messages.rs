//! Messages, each of which is one row.

use std::fmt;

use arrow::datatypes::SchemaRef;
use millstream_core::{Columns, PlanContext, Problem, Result};

use crate::Rows;

/// The error that rejects a message without a value, such as a tombstone.
pub(crate) const NO_VALUE: &str = "the message has no value";

/// A format of messages, as its settings say.
pub(crate) trait MessageFormat: fmt::Debug + Send + Sync {
    /// Checks that there can be such columns.
    fn check_columns(&self, _columns: &Columns) -> Result<(), Problem> {
        Ok(())
    }

    /// Reads messages that are rows of these columns.
    fn open(&self, columns: &Columns, context: &PlanContext) -> Box<dyn MessageReader>;
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
}
