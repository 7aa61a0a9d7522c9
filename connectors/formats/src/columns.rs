//! Columns that a format can't hold.

use std::collections::BTreeSet;

use arrow::datatypes::Schema;
use millstream_core::{Problem, type_name};

use crate::text::has_text;

/// Refuses lists and structs, for a format that has none.
pub(crate) fn refuse_nested(schema: &Schema, format: &str) -> Result<(), Problem> {
    let nested = schema.fields().iter().find(|field| !has_text(field.data_type()));
    let Some(field) = nested else { return Ok(()) };
    let (name, kind) = (field.name(), type_name(field.data_type()));
    Err(Problem::new(format!("column `{name}` has the type {kind}, which {format} can't hold")))
}

/// The first name of a list that is there twice.
pub(crate) fn repeated(names: &[String]) -> Option<&String> {
    let mut seen = BTreeSet::new();
    names.iter().find(|name| !seen.insert(*name))
}
