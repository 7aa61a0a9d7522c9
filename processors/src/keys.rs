//! The values of some columns of a row as bytes: equal bytes are equal values, and their order is that of the values.
//! There is one zero, and one NaN, which is larger than any other number.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::SortOptions;
use arrow::datatypes::{Field, Schema};
use arrow::row::{RowConverter, Rows, SortField};
use millstream_core::{Problem, Problems, Result, canonical_floats, require_column};

/// Reads keys, planned once.
#[derive(Clone, Debug)]
pub struct Keys {
    columns: Vec<usize>,
    fields: Vec<Field>,
    converter: Arc<RowConverter>,
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
        let columns: Vec<usize> = columns.into_iter().map(|(column, _)| column).collect();
        let fields = columns.iter().map(|column| schema.field(*column).clone().with_nullable(true)).collect();
        Ok(Self { columns, fields, converter: Arc::new(converter) })
    }

    /// The keys of rows.
    pub fn of(&self, rows: &RecordBatch) -> Result<Rows> {
        let columns: Vec<ArrayRef> = self.columns.iter().map(|column| rows.column(*column).clone()).collect();
        self.of_values(&columns)
    }

    /// The keys of rows of which these are the key columns.
    pub fn of_values(&self, columns: &[ArrayRef]) -> Result<Rows> {
        let columns: Vec<ArrayRef> = columns.iter().map(canonical_floats).collect();
        Ok(self.converter.convert_columns(&columns)?)
    }

    /// The key columns of rows that have these keys, each of which was read here.
    pub fn values<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        let parser = self.converter.parser();
        Ok(self.converter.convert_rows(keys.map(|key| parser.parse(key)))?)
    }

    /// What the key columns are called, and their types.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use arrow::array::Float64Array;

    use super::*;

    #[test]
    fn there_is_one_zero_and_one_nan_behind_all_numbers() {
        let values = vec![-0.0, 0.0, -f64::NAN, f64::NAN, f64::INFINITY];
        let values: ArrayRef = Arc::new(Float64Array::from(values));
        let rows = RecordBatch::try_from_iter([("x", values)]).unwrap();
        let keys = Keys::plan("keys", &["x".to_owned()], &rows.schema()).unwrap().of(&rows).unwrap();
        assert_eq!(keys.row(0), keys.row(1));
        assert_eq!(keys.row(2), keys.row(3));
        assert!(keys.row(2) > keys.row(4));
    }
}
