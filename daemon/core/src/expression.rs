//! Expressions over the columns of rows: what the crate that knows their language plans for those that do not.

use std::collections::BTreeSet;
use std::fmt;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};

use crate::{Problems, Result};

/// What the crate that knows the language plans for others.
#[derive(Clone, Copy, Debug)]
pub struct Language {
    /// Plans expressions.
    pub expression: PlanExpression,
    /// Plans conditions.
    pub condition: PlanCondition,
}

/// Plans an expression over rows of a schema, whose result is called by a name. It has to give the same for a row in every
/// run. Problems have their place within the text.
pub type PlanExpression = fn(name: &str, text: &str, schema: &SchemaRef) -> Result<Box<dyn Expression>, Problems>;

/// Plans a condition over rows of a schema. It has to hold for the same rows in every run. Problems have their place within the text.
pub type PlanCondition = fn(text: &str, schema: &SchemaRef) -> Result<Box<dyn Condition>, Problems>;

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

/// A condition that was planned: each row meets it or not, whichever others are in its batch. One for which it is null does not.
pub trait Condition: fmt::Debug + Send + Sync {
    /// The columns that it may look at.
    fn columns(&self) -> &BTreeSet<String>;

    /// Which rows of the schema meet it.
    fn matching(&self, rows: &RecordBatch) -> Matches;

    /// Whether there may be a row that meets it, or for which it fails, among rows of which no more is known than bounds of their columns.
    fn may_match(&self, bounds: &dyn Fn(&str) -> Bounds) -> bool;
}

/// Which rows meet a condition.
#[derive(Debug)]
pub struct Matches {
    /// True for those that do; there are no nulls.
    pub met: BooleanArray,
    /// The rows for which it failed, in their order, and why. They don't meet it.
    pub failed: Vec<(usize, String)>,
}

/// What is known of the values of a column without looking at them.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// An array of one value, in the canonical type of the column, than which none is smaller that is neither null nor NaN. None if it is not known.
    pub least: Option<ArrayRef>,
    /// The same of a value than which none is larger.
    pub greatest: Option<ArrayRef>,
    /// Whether there may be NaN.
    pub has_nan: bool,
    /// Whether there may be nulls.
    pub has_nulls: bool,
    /// Whether there may be anything else.
    pub has_values: bool,
}

impl Bounds {
    /// If nothing is known.
    pub fn unknown() -> Self {
        Self { least: None, greatest: None, has_nan: true, has_nulls: true, has_values: true }
    }
}
