//! What nodes see and say while a flow is planned.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use arrow::datatypes::SchemaRef;

/// Where a node stands: the same for every node of a flow but for its name.
#[derive(Clone, Debug)]
pub struct PlanContext {
    /// The flow's name.
    pub flow: String,
    /// The node's name.
    pub node: String,
    /// The folder of the flow file: paths of inputs are relative to it.
    pub flow_folder: PathBuf,
    /// The folder that paths of outputs and of the registry are relative to.
    pub work_folder: PathBuf,
    /// Where models are kept: `[flow] registry`, a path or URL as written.
    pub registry: String,
    /// Inputs: how many rows a batch has at most.
    pub batch_rows: usize,
    /// Inputs: the columns that the flow uses, where it does not use all. Others need not be read.
    pub columns: Option<BTreeSet<String>>,
}

impl PlanContext {
    /// A path of an input, as written in the flow file.
    pub fn input_path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.flow_folder.join(path)
    }

    /// A path of an output, as written in the flow file.
    pub fn output_path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.work_folder.join(path)
    }
}

/// What arrives at one input port of a node.
#[derive(Clone, Debug)]
pub struct Stream {
    /// The port: `from`, a side input such as `with`, or `model`.
    pub port: String,
    /// The node that the rows come from; of a union, the first.
    pub node: String,
    /// Its columns, in canonical types.
    pub schema: SchemaRef,
}

/// An output port and the columns that leave by it.
#[derive(Clone, Debug)]
pub struct PortPlan {
    /// The port's name.
    pub name: String,
    /// Its columns. The engine brings them to canonical types, so a node may produce views or dictionaries.
    pub schema: SchemaRef,
}

impl PortPlan {
    /// The main port.
    pub fn main(schema: SchemaRef) -> Self {
        Self::new(crate::MAIN, schema)
    }

    /// A named port.
    pub fn new(name: impl Into<String>, schema: SchemaRef) -> Self {
        Self { name: name.into(), schema }
    }
}

/// Which columns of an input port a node needs, so that inputs need not read the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uses {
    /// The columns that the node itself looks at; `None` for all.
    pub columns: Option<BTreeSet<String>>,
    /// Whether the other columns are passed on under their names if they are there.
    pub passes_on: bool,
}

impl Uses {
    /// Every column.
    pub fn all() -> Self {
        Self { columns: None, passes_on: false }
    }

    /// Only these columns; others are dropped.
    pub fn only<S: Into<String>>(columns: impl IntoIterator<Item = S>) -> Self {
        Self { columns: Some(columns.into_iter().map(Into::into).collect()), passes_on: false }
    }

    /// Looks at these columns, and passes all on.
    pub fn passing_on<S: Into<String>>(columns: impl IntoIterator<Item = S>) -> Self {
        Self { passes_on: true, ..Self::only(columns) }
    }
}
