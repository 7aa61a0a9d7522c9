//! The columns of a data file, and its first rows.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use millstream_core::{ResultExt, type_name};
use millstream_engine::plan::Plan;
use serde_json::{Map, Value};

use crate::exit::CommandError;
use crate::small_flow;
use crate::workplace::Workplace;

/// How many rows are looked at.
const ROWS: usize = 1000;

/// What was found in a file.
pub struct Sample {
    /// The columns, in their order.
    pub columns: Vec<Column>,
    /// The first rows; what is null in them is left out.
    rows: Vec<Map<String, Value>>,
}

/// A column of a file.
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type as flow files write it.
    pub type_name: String,
}

impl Sample {
    /// Reads the first rows of a file, by a flow that has only that to do.
    pub fn take(workplace: &Workplace, data: &Path) -> Result<Self, CommandError> {
        let data = std::path::absolute(data).doing(|| "looking for the current folder")?;
        let folder = tempfile::tempdir().doing(|| "creating a temporary folder")?;
        let kept = folder.path().join("sample.ndjson");
        let plan = small_flow::plan(workplace, "sample", &reading(&data, &kept))?;
        let columns = columns(&plan);
        small_flow::run(plan)?;
        let text = std::fs::read_to_string(&kept).doing(|| "reading the sample")?;
        let rows = text.lines().map(serde_json::from_str).collect::<Result<_, _>>().doing(|| "reading the sample")?;
        Ok(Self { columns, rows })
    }

    /// The first row.
    pub fn first(&self) -> Option<&Map<String, Value>> {
        self.rows.first()
    }

    /// The different values that a column has here, as JSON, sorted.
    pub fn values(&self, column: &str) -> BTreeSet<String> {
        self.rows.iter().filter_map(|row| row.get(column)).map(Value::to_string).collect()
    }

    /// Whether a column is null in a row.
    pub fn has_null(&self, column: &str) -> bool {
        self.rows.iter().any(|row| !row.contains_key(column))
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }
}

/// A flow that writes the first rows of a file to another.
fn reading(data: &Path, kept: &Path) -> toml::Table {
    let path = |path: &Path| toml::Value::from(path.to_string_lossy().into_owned());
    let mut flow = toml::toml! {
        [input.rows]
        type = "file"
        on_error = "drop"
        [processor.first]
        type = "limit"
        from = "rows"
        [output.kept]
        type = "file"
        from = "first"
    };
    let mut set = |role: &str, node: &str, key: &str, value: toml::Value| {
        flow[role][node].as_table_mut().map(|node| node.insert(key.to_owned(), value));
    };
    set("input", "rows", "path", path(data));
    set("processor", "first", "rows", (ROWS as i64).into());
    set("output", "kept", "path", path(kept));
    flow
}

fn columns(plan: &Plan) -> Vec<Column> {
    let port = plan.node("rows").and_then(|node| node.ports.first());
    let fields = port.into_iter().flat_map(|port| port.canonical.schema().fields());
    let column = |field: &arrow::datatypes::FieldRef| Column {
        name: field.name().clone(),
        type_name: type_name(field.data_type()).into_owned(),
    };
    fields.map(column).collect()
}

/// A path as the flow file in a folder names it: relative to the folder, if it lies below.
pub fn relative(path: &Path, folder: &Path) -> PathBuf {
    let whole = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let path = whole(path);
    path.strip_prefix(whole(&Path::new(".").join(folder))).map_or_else(|_| path.clone(), Path::to_owned)
}
