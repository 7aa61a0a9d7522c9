//! The columns that predictions add to rows.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Field, Schema, SchemaRef};
use millstream_core::{Problem, Problems, Result};

/// The columns of `schema` and behind them `added`, whose names must be new.
pub(super) fn with_columns(schema: &Schema, added: Vec<Field>) -> Result<SchemaRef, Problems> {
    let taken = added.iter().filter(|field| schema.field_with_name(field.name()).is_ok());
    let problems: Problems = taken.map(|field| already_there(field.name())).collect();
    if !problems.is_empty() {
        return Err(problems);
    }
    let fields = schema.fields().iter().cloned().chain(added.into_iter().map(Arc::new)).collect::<Vec<_>>();
    Ok(Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone())))
}

fn already_there(name: &str) -> Problem {
    Problem::new(format!("there is already a column `{name}`"))
        .help("`as = \"new_\"` puts something else in front of the names of the new columns")
}

/// The rows with more columns.
pub(super) fn append(rows: &RecordBatch, columns: Vec<ArrayRef>, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = rows.columns().iter().cloned().chain(columns).collect();
    Ok(RecordBatch::try_new(schema.clone(), columns)?)
}
