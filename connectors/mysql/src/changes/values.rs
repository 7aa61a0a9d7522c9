//! A row of a table, as the binary log or a query has it.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use millstream_core::Encoding;
use millstream_database::{Cell, ChangedRow};
use mysql_async::Value;
use mysql_async::consts::ColumnType;

use crate::value::{cell, row_as_json};

/// The values of the declared columns, each with its type, or why one can't be read.
#[derive(Clone, Debug)]
pub struct Values(pub Vec<(Result<Value, String>, ColumnType)>);

fn read<'a>(value: &'a Result<Value, String>, kind: ColumnType, field: &Field) -> Result<Cell<'a>, String> {
    match value {
        Ok(value) => cell(value, kind, field),
        Err(error) => Err(format!("column `{}`: {error}", field.name())),
    }
}

impl ChangedRow for Values {
    fn cells(&self, schema: &SchemaRef) -> Result<Vec<Cell<'_>>, String> {
        self.0.iter().zip(schema.fields()).map(|((value, kind), field)| read(value, *kind, field)).collect()
    }

    fn as_json(&self, schema: &Schema) -> (String, Encoding) {
        let known = |(of, (value, _)): (&Arc<Field>, &(Result<Value, String>, ColumnType))| {
            (of.name().clone(), value.as_ref().map_or(Value::NULL, Value::clone))
        };
        let values: Vec<_> = schema.fields().iter().zip(&self.0).map(known).collect();
        row_as_json(values.iter().map(|(name, value)| (name.as_str(), value)))
    }

    fn has_same(&self, other: &Self, place: usize) -> bool {
        let value = |row: &Self| row.0.get(place).and_then(|(value, _)| value.as_ref().ok().cloned());
        value(self) == value(other)
    }
}
