//! The key of a join.

use arrow::datatypes::{DataType, Field, Schema};
use indexmap::IndexMap;
use millstream_core::{Problem, Problems, Step, require_column, type_name};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::lookup::common_type;

/// Key columns.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum On {
    Same(Vec<String>),
    Pairs(IndexMap<String, String>),
}

/// The key columns of both sides, and the types in which they are compared.
#[derive(Debug, Default)]
pub struct Keys {
    pub left: Vec<usize>,
    pub right: Vec<usize>,
    pub types: Vec<DataType>,
}

impl On {
    /// The names of the key columns of both sides.
    pub fn names(&self) -> impl Iterator<Item = (&str, &str)> {
        let (same, pairs) = match self {
            Self::Same(names) => (Some(names), None),
            Self::Pairs(names) => (None, Some(names)),
        };
        let same = same.into_iter().flatten().map(|name| (name.as_str(), name.as_str()));
        same.chain(pairs.into_iter().flatten().map(|(left, right)| (left.as_str(), right.as_str())))
    }

    /// Finds the key columns in both schemas.
    pub fn plan(&self, from: &Schema, with: &Schema) -> Result<Keys, Problems> {
        let mut keys = Keys::default();
        let mut problems = Problems::new();
        for (place, (left, right)) in self.names().enumerate() {
            let (left_step, right_step) = match self {
                Self::Same(_) => (Step::Index(place), Step::Index(place)),
                Self::Pairs(_) => (Step::Name(left.to_owned()), Step::from(left)),
            };
            let found_left = require_column(left, from).map_err(|problem| problem.under(left_step));
            let found_right = require_column(right, with).map_err(|problem| {
                let message = format!("{} in `with`", problem.message);
                Problem { message, ..problem }.under(right_step.clone())
            });
            match (found_left, found_right) {
                (Ok(left), Ok(right)) => match key_type(left, right) {
                    Ok(data_type) => keys.types.push(data_type),
                    Err(problem) => problems.push(problem.under(right_step)),
                },
                (left, right) => problems.extend(left.err().into_iter().chain(right.err())),
            }
            keys.left.extend(from.index_of(left).ok());
            keys.right.extend(with.index_of(right).ok());
        }
        if self.names().next().is_none() {
            problems.push(Problem::new("a join needs a key").help("write `on = [\"column\"]`"));
        }
        if problems.is_empty() {
            Ok(keys)
        } else {
            Err(problems.into_iter().map(|problem| problem.under("on")).collect())
        }
    }
}

fn key_type(left: &Field, right: &Field) -> Result<DataType, Problem> {
    common_type(left.data_type(), right.data_type()).ok_or_else(|| {
        let (left_type, right_type) = (type_name(left.data_type()), type_name(right.data_type()));
        let message = format!("`{}` is {left_type}, and `{}` of `with` is {right_type}", left.name(), right.name());
        Problem::new(message).help("bring them to one type by CAST in an `sql` node; lists and structures are no keys")
    })
}
