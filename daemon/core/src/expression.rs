//! Expressions over the columns of rows: what the crate that knows their language plans for those that do not.

use std::collections::BTreeSet;
use std::fmt;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};

use crate::{Problems, Result};

/// Plans an expression over rows of a schema, whose result is called by a name. It has to give the same for a row in every
/// run. Problems have their place within the text.
pub type PlanExpression = fn(name: &str, text: &str, schema: &SchemaRef) -> Result<Box<dyn Expression>, Problems>;

/// An expression that was planned: one value for each row, whichever others are in its batch.
pub trait Expression: fmt::Debug + Send + Sync {
    /// The type of the values, a canonical one.
    fn data_type(&self) -> &DataType;

    /// The columns that it may look at.
    fn columns(&self) -> &BTreeSet<String>;

    /// Computes the values for rows of the schema.
    fn evaluate(&self, rows: &RecordBatch) -> Result<Evaluated>;
}

/// The values of an expression.
#[derive(Debug)]
pub struct Evaluated {
    /// One for each row; null where it failed.
    pub values: ArrayRef,
    /// The rows for which it failed, in their order, and why.
    pub failed: Vec<(usize, String)>,
}
