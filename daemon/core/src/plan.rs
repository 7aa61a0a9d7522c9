//! What nodes see and say while a flow is planned.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use arrow::datatypes::SchemaRef;

use crate::{FilesRead, Language, Locked, Problem, State};

/// Where a node stands: the same for every node of a flow but for its name.
#[derive(Clone, Debug)]
pub struct PlanContext {
    /// The flow's name.
    pub flow: String,
    /// The node's name.
    pub node: String,
    /// What the node was called before, if the flow says so.
    pub renamed_from: Option<String>,
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
    /// Whether inputs give the rows of a test instead of their own: what declares its columns need not be there.
    pub scripted: bool,
    /// What the node has kept, if it is planned to be resumed: the small parts of its state. Nothing if it has other
    /// settings than it had then. A node whose columns depend on what is outside the flow, such as an alias that may have
    /// been moved, finds here what it was.
    pub kept: State,
    /// What sources elsewhere have said of columns that the node's settings leave out.
    pub locked: Locked,
    /// By what files are read that belong to the flow, such as certificates and schemas of messages: so it is noticed when one changes.
    pub files: FilesRead,
    /// What plans expressions and conditions over rows, if a crate of this program knows their language.
    pub expressions: Option<Language>,
}

impl PlanContext {
    /// The name by which a node chooses rows that no other node of its type chooses alike: its former one for as long as the
    /// flow names that, so that a node that is renamed goes on choosing the same.
    pub fn choosing_name(&self) -> &str {
        self.renamed_from.as_deref().unwrap_or(&self.node)
    }

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
    /// The column with the event time, if the rows have one and every input behind them has watermarks.
    pub event_time: Option<String>,
    /// Whether rows come until the flow is stopped, since an input behind them does not end by itself.
    pub is_live: bool,
}

impl Stream {
    /// The index of the column with the event time, for nodes that can't do without.
    pub fn require_event_time(&self) -> Result<usize, Problem> {
        let index = self.event_time.as_ref().and_then(|name| self.schema.index_of(name).ok());
        index.ok_or_else(|| {
            Problem::new(format!("the rows of `{}` have no event time", self.node))
                .help("say `event_time = { column = \"…\" }` at every input behind it, and keep that column on the way")
                .at([self.port.as_str()])
        })
    }
}

/// An output port and the columns that leave by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortPlan {
    /// The port's name.
    pub name: String,
    /// Its columns. The engine brings them to canonical types, so a node may produce views or dictionaries.
    pub schema: SchemaRef,
    /// The column with the event time.
    pub event_time: PortTime,
    /// What leaves by it.
    pub role: PortRole,
    /// Whether rows leave by it only when all inputs have ended.
    pub only_at_the_end: bool,
}

/// What leaves by a port, or arrives there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PortRole {
    /// Rows that a flow is about: there is a warning if nothing reads them.
    #[default]
    Rows,
    /// Rows that few flows want, such as late ones: one warning names all such ports that nothing reads.
    Side,
    /// Versions of a model. They are no rows of the flow: the nodes that follow the model read them, and use them behind the
    /// barrier before which they came.
    Versions,
}

/// Which column of a port has the event time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PortTime {
    /// The one of the node's first input port, if it is still there.
    #[default]
    Inherited,
    /// The column that has the name of the one of the node's first input port, but other values.
    Recomputed,
    /// This one.
    Column(String),
    /// None.
    None,
}

impl PortPlan {
    /// The main port.
    pub fn main(schema: SchemaRef) -> Self {
        Self::new(crate::MAIN, schema)
    }

    /// A named port.
    pub fn new(name: impl Into<String>, schema: SchemaRef) -> Self {
        let (event_time, role) = (PortTime::default(), PortRole::default());
        Self { name: name.into(), schema, event_time, role, only_at_the_end: false }
    }

    /// A port for rows that few flows want, such as late ones: one warning names all of them that nothing reads.
    pub fn side(name: impl Into<String>, schema: SchemaRef) -> Self {
        Self { role: PortRole::Side, ..Self::new(name, schema) }
    }

    /// The port for the versions of the model that a node trains.
    pub fn versions(schema: SchemaRef) -> Self {
        Self { role: PortRole::Versions, ..Self::new(crate::MODEL, schema) }
    }

    /// The same, if rows leave by it only when all inputs have ended.
    pub fn only_at_the_end(self, only_at_the_end: bool) -> Self {
        Self { only_at_the_end, ..self }
    }

    /// The same with another event time than that of the node's input.
    pub fn with_event_time(self, event_time: PortTime) -> Self {
        Self { event_time, ..self }
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
