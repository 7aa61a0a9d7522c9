//! What stands in the added columns of rows without a match.

use arrow::array::{ArrayRef, new_null_array};
use arrow::datatypes::Schema;
use indexmap::IndexMap;
use millstream_core::{Problem, known_names};

use crate::literal::{self, Literal};

/// By column that is taken, one value: the one that is said, or null.
pub fn values(said: &IndexMap<String, Literal>, with: &Schema, taken: &[usize]) -> Result<Vec<ArrayRef>, Problem> {
    let fields = || taken.iter().map(|column| with.field(*column));
    if let Some(name) = said.keys().find(|name| fields().all(|field| field.name() != *name)) {
        let help = known_names(name, fields().map(|field| field.name().as_str()));
        return Err(Problem::new(format!("no column `{name}` is added")).help(help).under(name.as_str()));
    }
    let value = |field: &arrow::datatypes::Field| match said.get(field.name()) {
        Some(value) => literal::values([value], field).map_err(|problem| problem.under(field.name().as_str())),
        None => Ok(new_null_array(field.data_type(), 1)),
    };
    fields().map(value).collect()
}
