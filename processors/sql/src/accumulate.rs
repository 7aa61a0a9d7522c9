//! What sums up rows, for the nodes that do: keys, groups, and aggregates.

pub mod accumulator;
pub mod aggregate;
mod distinct;
mod ends;
mod extreme;
pub mod groups;
mod moments;
mod quantile;
mod total;

use arrow::datatypes::SchemaRef;
use indexmap::IndexMap;
use millstream_core::{Problem, Problems, Step, require_column};

use crate::plan::on_deep_stack;

/// How many rows are given out at once.
pub const BATCH_ROWS: usize = 8192;

/// The columns that the setting `keys` names.
pub fn key_columns(keys: &[String], schema: &SchemaRef, problems: &mut Problems) -> Vec<usize> {
    let mut columns = Vec::new();
    for (place, key) in keys.iter().enumerate() {
        match require_column(key, schema) {
            Ok(_) if keys[..place].contains(key) => {
                problems.push(Problem::new(format!("`{key}` is a key already")).at([Step::from("keys"), place.into()]));
            }
            Ok(_) => columns.extend(schema.index_of(key)),
            Err(problem) => problems.push(problem.under(place).under("keys")),
        }
    }
    columns
}

/// What the setting `select` asks for, each planned from its name and its text. Problems have their place within `select`.
pub fn selected<T: Send>(
    select: &IndexMap<String, String>,
    is_taken: impl Fn(&str) -> bool + Send,
    plan: impl Fn(&str, &str) -> Result<T, Problems> + Send,
) -> Result<Vec<T>, Problems> {
    let planned = on_deep_stack(|| select_each(select, is_taken, plan));
    planned.unwrap_or_else(|error| Err(Problem::new(error.to_string()).into()))
}

fn select_each<T>(
    select: &IndexMap<String, String>,
    is_taken: impl Fn(&str) -> bool,
    plan: impl Fn(&str, &str) -> Result<T, Problems>,
) -> Result<Vec<T>, Problems> {
    let (mut selected, mut problems) = (Vec::new(), Problems::new());
    if select.is_empty() {
        problems.push(Problem::new("nothing is selected").help("such as `{ n = \"count(*)\" }`").at(["select"]));
    }
    for (name, text) in select {
        if is_taken(name) {
            let problem = Problem::new(format!("there is a column `{name}` already")).help("choose another name");
            problems.push(problem.under(Step::Name(name.clone())).under("select"));
        }
        match plan(name, text) {
            Ok(planned) => selected.push(planned),
            Err(found) => {
                problems.extend(found.into_iter().map(|problem| problem.under(name.as_str()).under("select")));
            }
        }
    }
    if problems.is_empty() { Ok(selected) } else { Err(problems) }
}
