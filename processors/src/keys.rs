//! The values of some columns of a row as bytes: equal bytes are equal values, and their order is that of the values.

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::SortOptions;
use arrow::datatypes::Schema;
use arrow::row::{RowConverter, Rows, SortField};
use millstream_core::{Problem, Problems, Result, require_column};

/// Reads keys, planned once.
#[derive(Debug)]
pub struct Keys {
    columns: Vec<usize>,
    converter: RowConverter,
}

impl Keys {
    /// Of these columns. Problems are at their places in the setting `key`.
    pub fn plan(setting: &str, names: &[String], schema: &Schema) -> Result<Self, Problems> {
        let mut problems = Problems::new();
        if names.is_empty() {
            problems.push(Problem::new("there are no columns").at([setting]));
        }
        let mut columns = Vec::new();
        for (place, name) in names.iter().enumerate() {
            match require_column(name, schema) {
                Ok(_) => columns.extend(schema.index_of(name).map(|column| (column, SortOptions::default()))),
                Err(problem) => problems.push(problem.under(place).under(setting)),
            }
        }
        if problems.is_empty() { Self::ordered(columns, schema) } else { Err(problems) }
    }

    /// Of columns in an order each.
    pub fn ordered(columns: Vec<(usize, SortOptions)>, schema: &Schema) -> Result<Self, Problems> {
        let field = |(column, options): &(usize, SortOptions)| {
            SortField::new_with_options(schema.field(*column).data_type().clone(), *options)
        };
        let converter = RowConverter::new(columns.iter().map(field).collect());
        let converter = converter.map_err(|error| Problem::new(error.to_string()))?;
        Ok(Self { columns: columns.into_iter().map(|(column, _)| column).collect(), converter })
    }

    /// The keys of rows.
    pub fn of(&self, rows: &RecordBatch) -> Result<Rows> {
        let columns: Vec<ArrayRef> = self.columns.iter().map(|column| rows.column(*column).clone()).collect();
        Ok(self.converter.convert_columns(&columns)?)
    }
}
