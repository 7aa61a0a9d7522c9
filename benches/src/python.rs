//! Runs the systems that Millstream is compared with: River, Vowpal Wabbit, scikit-learn and DuckDB, in Python.

use std::path::Path;
use std::process::{Command, Stdio};

use millstream_core::{Result, ResultExt};
use serde_json::Value;

use crate::place;

/// River's test-then-train run over a table: its figures, `rows` and `seconds`.
pub fn river(table: &Path) -> Result<Value> {
    place::json_of(replay("river_answers.py").arg(table).arg("label"))
}

/// The same, measured only once and then remembered: for figures that do not depend on the time.
pub fn river_once(table: &Path) -> Result<Value> {
    let remembered = table.with_extension("river.json");
    if let Ok(text) = std::fs::read_to_string(&remembered) {
        return serde_json::from_str(&text).doing(|| format!("reading `{}`", remembered.display()));
    }
    let figures = river(table)?;
    std::fs::write(&remembered, figures.to_string())?;
    Ok(figures)
}

/// River's Hoeffding tree over the first rows of a table, test then train: its `accuracy`, `rows` and `seconds`.
pub fn river_tree(table: &Path, rows: usize) -> Result<Value> {
    place::json_of(replay("river_tree.py").arg(table).arg(rows.to_string()))
}

/// Vowpal Wabbit's pass over its own binary cache: `rows` and `seconds`.
pub fn vowpal_wabbit(text: &Path) -> Result<Value> {
    place::json_of(replay("vw_cached.py").arg(text))
}

/// scikit-learn's `MLPClassifier`, test then train by batches: its figures, `rows` and `seconds`.
pub fn scikit_learn_network(table: &Path, batch_rows: usize) -> Result<Value> {
    place::json_of(replay("sklearn_network.py").arg(table).arg("label").arg(batch_rows.to_string()))
}

/// DuckDB's pass over a text file, on one thread: `rows` that a query over it gives, and CPU `seconds`.
pub fn duckdb(file: &Path, query: &str) -> Result<Value> {
    place::json_of(replay("duckdb_text.py").arg(file).arg(query))
}

/// MLServer with a logistic regression over a table, until it is ended. It keeps its files in a folder.
pub fn mlserver(table: &Path, folder: &Path, port: &str) -> Command {
    let mut command = replay("mlserver_model.py");
    command.arg(table).arg(folder).arg(port);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn replay(name: &str) -> Command {
    let mut command = Command::new(place::root().join("target/benches/venv/bin/python"));
    command.arg(place::root().join("benches/python").join(name));
    // One thread, as on our side.
    command.env("OMP_NUM_THREADS", "1").env("OPENBLAS_NUM_THREADS", "1");
    command
}
