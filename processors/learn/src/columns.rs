//! The columns that predictions add to rows.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Field, Schema, SchemaRef};
use millstream_core::{Problem, Problems, Result};
use millstream_models::{Class, Signature, prediction_fields};

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

/// The key of the schema's metadata under which stands which classes a column of predictions can have: this, and its name.
const CLASSES: &str = "millstream.classes.";

/// The columns of `schema` and behind them the predictions of a model, of which it is said what classes they are.
pub(super) fn with_predictions(
    schema: &Schema,
    signature: &Signature,
    prefix: &str,
    nullable: bool,
) -> Result<SchemaRef, Problems> {
    let fields = prediction_fields(signature, prefix, nullable);
    let classes = signature.classes();
    let classes = serde_json::to_string(classes).ok().filter(|_| !classes.is_empty());
    let key = format!("{CLASSES}{}", fields.first().map_or("", |field| field.name()));
    let with = Arc::unwrap_or_clone(with_columns(schema, fields)?);
    let metadata = with.metadata.into_iter().chain(classes.map(|classes| (key, classes))).collect();
    Ok(Arc::new(Schema::new_with_metadata(with.fields, metadata)))
}

/// The classes that a column of predictions can have, in their order, if the node that made it has said so.
pub(super) fn classes_of(prediction: &str, schema: &Schema) -> Option<Vec<Class>> {
    serde_json::from_str(schema.metadata().get(&format!("{CLASSES}{prediction}"))?).ok()
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
