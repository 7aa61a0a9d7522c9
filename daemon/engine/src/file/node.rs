//! A node of a flow file: the engine's own settings, and the node's.

use millstream_core::{
    Duration, InputSettings, NodeKind, OutputSettings, Parsed, Problem, ProcessorSettings, Role, Share, parse_settings,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value as Json};

use super::connections::CONNECTION;
use super::reference::{FROM, references};
use super::value::{Entry, Value};
use super::{OnError, Reference};

/// One node, its settings checked and built.
pub struct Node {
    /// The name in the flow.
    pub name: String,
    /// What `type` says; [`millstream_core::NodeTypes::find`] has the rest.
    pub kind: &'static str,
    /// The settings.
    pub body: Body,
    /// The node's own settings as they are written, for comparison with those of a run before.
    pub table: Json,
}

/// The settings of a node, by role: the engine's own (`common`) and the node's.
pub enum Body {
    /// `[input.NAME]`
    Input {
        /// The engine's settings.
        common: InputCommon,
        /// The node's.
        settings: Box<dyn InputSettings>,
    },
    /// `[processor.NAME]`
    Processor {
        /// The engine's settings.
        common: ProcessorCommon,
        /// The node's.
        settings: Box<dyn ProcessorSettings>,
    },
    /// `[output.NAME]`
    Output {
        /// The engine's settings.
        common: OutputCommon,
        /// The node's.
        settings: Box<dyn OutputSettings>,
    },
}

/// What every input takes.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct InputCommon {
    /// How many rows a batch has at most. No result depends on it.
    #[serde(default = "default_batch_rows")]
    #[schemars(range(min = 1, max = 1_048_576))]
    pub batch_rows: usize,
    /// What happens to rejected rows if nobody reads the port `failed`. Default: what the flow says.
    pub on_error: Option<OnError>,
    /// The fraction of rejected rows above which the flow fails. Default: what the flow says.
    pub max_failed: Option<Share>,
    /// The event time of the rows, which windows and joins of streams need.
    pub event_time: Option<EventTimeSettings>,
    /// What the node was called before: with `--state`, it keeps the state that was kept under that name.
    pub renamed_from: Option<String>,
}

/// The time at which a row's event happened, and how far rows may be out of order: `{ column = "at" }` if a column has it,
/// `{ expression = "to_timestamp(ts)" }` if it is to be computed.
///
/// The watermark of an input is the latest time so far, less `lateness`; of several partitions the one furthest behind
/// counts. It moves after every `watermark_rows` rows of a partition and at the barriers of epochs, so that it does not
/// depend on how rows are cut into batches. A row whose time is null, or can't be computed, is rejected.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EventTimeSettings {
    /// A column of type `timestamp`. With `expression`, the name of the column that the times get.
    pub column: Option<String>,
    /// Computes the time from the columns of the row: an expression of the language of `sql`. The times stand in a
    /// column of their own behind the others, called `event_time` unless `column` says otherwise.
    pub expression: Option<String>,
    /// By how much a row may be earlier than one before it without being late, such as `"5s"`.
    #[serde(default)]
    pub lateness: Duration,
    /// Live inputs: a partition that has had no rows for so long holds nobody back. Without it, all are waited for.
    pub idle: Option<Duration>,
    /// After how many rows of a partition the watermark moves.
    #[serde(default = "default_watermark_rows")]
    #[schemars(range(min = 1))]
    pub watermark_rows: usize,
}

fn default_watermark_rows() -> usize {
    1024
}

/// What every processor takes.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct ProcessorCommon {
    /// Where the rows come from; at least one.
    #[serde(skip)]
    pub from: Vec<Reference>,
    /// The side input, if this type of node has one; its key is [`millstream_core::NodeKind::side_input`].
    #[serde(skip)]
    pub side: Option<Reference>,
    /// How it asks others, if this type of node does.
    #[serde(skip)]
    pub requests: Option<RequestSettings>,
    /// What happens to rejected rows if nobody reads the port `failed`. Default: what the flow says.
    pub on_error: Option<OnError>,
    /// The fraction of rejected rows above which the flow fails. Default: what the flow says.
    pub max_failed: Option<Share>,
    /// What the node was called before: with `--state`, it keeps the state that was kept under that name.
    pub renamed_from: Option<String>,
}

/// What processors take besides that ask others about rows.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
pub struct RequestSettings {
    /// How many batches are asked about at a time. They leave in the order in which they came.
    #[serde(default = "default_in_flight")]
    #[schemars(range(min = 1, max = 1024))]
    pub in_flight: usize,
    /// How long an answer may take. What takes longer is asked again after a pause, as is what fails in a way that may be over in a
    /// while, for as long as it takes.
    #[serde(default = "default_timeout")]
    #[schemars(extend("default" = "30s"))]
    pub timeout: Duration,
}

impl RequestSettings {
    fn read(table: &Json) -> Result<Self, Problem> {
        let settings: Self = parse_settings(table.clone())?;
        if settings.timeout.0.is_zero() {
            return Err(Problem::new("nobody answers in no time")
                .help("say how long it may take, such as `\"30s\"`")
                .at(["timeout"]));
        }
        Ok(settings)
    }
}

fn default_in_flight() -> usize {
    16
}

fn default_timeout() -> Duration {
    Duration(std::time::Duration::from_secs(30))
}

/// What every output takes.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct OutputCommon {
    /// Where the rows come from; at least one.
    #[serde(skip)]
    pub from: Vec<Reference>,
    /// What happens to rows that the target can't take if nobody reads the port `failed`. Default: what the flow says. Outputs that
    /// take every row need none.
    pub on_error: Option<OnError>,
    /// The fraction of such rows above which the flow fails. Default: what the flow says.
    pub max_failed: Option<Share>,
    /// What the node was called before: with `--state`, it keeps the state that was kept under that name.
    pub renamed_from: Option<String>,
}

impl Node {
    /// Input, processor or output.
    pub fn role(&self) -> Role {
        match &self.body {
            Body::Input { .. } => Role::Input,
            Body::Processor { .. } => Role::Processor,
            Body::Output { .. } => Role::Output,
        }
    }

    /// Whether the node itself says what becomes of the rows that it rejects.
    pub fn says_on_error(&self) -> bool {
        match &self.body {
            Body::Input { common, .. } => common.on_error.is_some(),
            Body::Processor { common, .. } => common.on_error.is_some(),
            Body::Output { common, .. } => common.on_error.is_some(),
        }
    }

    /// What it was called before.
    pub fn renamed_from(&self) -> Option<&str> {
        match &self.body {
            Body::Input { common, .. } => common.renamed_from.as_deref(),
            Body::Processor { common, .. } => common.renamed_from.as_deref(),
            Body::Output { common, .. } => common.renamed_from.as_deref(),
        }
    }

    /// Where the main rows come from; empty for inputs.
    pub fn from(&self) -> &[Reference] {
        match &self.body {
            Body::Input { .. } => &[],
            Body::Processor { common, .. } => &common.from,
            Body::Output { common, .. } => &common.from,
        }
    }

    /// The side input, if there is one.
    pub fn side(&self) -> Option<&Reference> {
        match &self.body {
            Body::Processor { common, .. } => common.side.as_ref(),
            Body::Input { .. } | Body::Output { .. } => None,
        }
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("name", &self.name).field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// Builds the settings of a node whose table has been checked.
pub fn build(kind: &NodeKind, entry: &Entry) -> Result<Node, Problem> {
    let (common, own) = split(kind, &entry.value);
    let body = match kind.parse(own.clone())? {
        Parsed::Input(settings) => Body::Input { common: parse_settings(common)?, settings },
        Parsed::Processor(settings) => {
            let requests = kind.asks.then(|| RequestSettings::read(&common)).transpose()?;
            let mut common: ProcessorCommon = parse_settings(common)?;
            common.requests = requests;
            common.from = references(&entry.value, FROM);
            common.side = kind.side_input.and_then(|side| references(&entry.value, side).pop());
            Body::Processor { common, settings }
        }
        Parsed::Output(settings) => {
            let mut common: OutputCommon = parse_settings(common)?;
            common.from = references(&entry.value, FROM);
            Body::Output { common, settings }
        }
    };
    Ok(Node { name: entry.key.clone(), kind: kind.name, body, table: own })
}

/// The key by which a node says what it was called before.
pub const RENAMED_FROM: &str = "renamed_from";

/// The keys of [`RequestSettings`].
const QUESTIONS: &[&str] = &["in_flight", "timeout"];

/// The engine's part of a node's table, and the node's.
fn split(kind: &NodeKind, table: &Value) -> (Json, Json) {
    let engine: &[&str] = match kind.role {
        Role::Input => &["type", "batch_rows", "on_error", "max_failed", "event_time", RENAMED_FROM],
        Role::Processor => &["type", FROM, "on_error", "max_failed", RENAMED_FROM],
        Role::Output => &["type", FROM, "on_error", "max_failed", RENAMED_FROM],
    };
    let is_engine = |key: &str| {
        let of_some = (kind.asks && QUESTIONS.contains(&key)) || (kind.connection.is_some() && key == CONNECTION);
        engine.contains(&key) || kind.side_input == Some(key) || of_some
    };
    let (common, own): (Map<_, _>, Map<_, _>) = table.to_json_table().into_iter().partition(|(key, _)| is_engine(key));
    (common.into(), own.into())
}

fn default_batch_rows() -> usize {
    8192
}
