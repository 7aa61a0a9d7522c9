//! What `[flow]` says.

use millstream_core::{ByteSize, Duration, Problem, Share};
use schemars::{JsonSchema, Schema};
use serde::Deserialize;

use super::names::NAME_PATTERN;

/// The flow as a whole.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FlowSettings {
    /// The flow's name: small letters, digits and `_`. Default: the file's name without `.toml`.
    #[serde(default)]
    #[schemars(transform = name_schema)]
    pub name: String,
    /// The name of the pattern that the flow applies, for people.
    pub pattern: Option<String>,
    /// What the flow is for, in a sentence.
    pub description: Option<String>,
    /// What happens to rows that a node rejects and nobody reads, where the node itself doesn't say: the flow fails
    /// (`"fail"`, the default), they are counted and dropped (`"drop"`), or they are written to a folder as JSON lines, beside
    /// those of runs before (`{ dead_letter = "PATH" }`). It has to be said where an input tells senders that it has taken
    /// their rows.
    pub on_error: Option<OnError>,
    /// The fraction of rejected rows above which a node fails the flow, where the node itself doesn't say.
    pub max_failed: Option<Share>,
    /// Where epochs end.
    #[serde(default)]
    pub epoch: EpochSettings,
    /// Where models are kept: a folder, relative to the current one, or `s3://BUCKET/PREFIX`.
    #[serde(default = "default_registry")]
    pub registry: String,
    /// A file, relative to this one, of tables `[connection.NAME]` that several flows share. Paths in it are relative to the flow that
    /// uses them.
    pub connections: Option<String>,
    /// The version of the language that the file is written in. There is only 1.
    #[serde(default = "default_language")]
    pub language: u32,
    /// How much may wait between two nodes.
    #[serde(default)]
    pub edge: EdgeSettings,
}

/// Where epochs end.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EpochSettings {
    /// So many rows of an input make an epoch, rejected ones among them. By default 65536, or a quarter of the rows after which
    /// a node publishes a model, if that is less. Where inputs that end advance together in event time, so many rows of the
    /// first that has them. Checkpoints of a flow whose inputs end lie where epochs end: with fewer rows they come
    /// sooner where nodes are slow.
    #[schemars(range(min = 1))]
    pub rows: Option<usize>,
    /// Live inputs end an epoch after this time even with fewer rows; without any, up to eight times as late.
    #[serde(default = "default_interval")]
    #[schemars(extend("default" = "1s"))]
    pub interval: Duration,
}

/// How often checkpoints are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interval {
    /// Whenever so much time has gone by.
    Time(std::time::Duration),
    /// At every so many barriers. Inputs wait where writing takes longer than that.
    Epochs(u64),
    /// Only when the flow ends or is stopped.
    Never,
}

/// How the state of the flow is kept, if it is run with `--state`.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckpointSettings {
    /// How long after one checkpoint the next one is taken, at the next barrier of an epoch. By default `"10s"`.
    pub interval: Option<Duration>,
    /// Instead: a checkpoint at every so many barriers. Inputs wait where writing one takes longer than that.
    #[schemars(range(min = 1))]
    pub epochs: Option<u64>,
    /// How many checkpoints are kept.
    #[serde(default = "default_keep")]
    #[schemars(range(min = 1))]
    pub keep: usize,
    /// Live flows that make models: how long it is kept what time has decided, and what nodes were told that ask others. `"all"`: for
    /// good, so that `millstream replay` can go through it from the first row. `"kept"`: back to the oldest checkpoint that is
    /// kept, so that it does not grow; then `replay` needs `--from`.
    #[serde(default)]
    pub replay_log: ReplayLogRetention,
}

/// How much of the machine the flow may take, if a daemon runs it: the settings `[limits]` of the daemon say it for flows that don't.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitSettings {
    /// Memory: the rows that wait on edges, and the states of its nodes as the last checkpoint has them. What else nodes and the clients of
    /// services need for their work is not counted. A flow that takes more reads nothing until it takes less; if that does not help,
    /// it is started again from its checkpoint, and then fails. By default without limit.
    pub memory: Option<ByteSize>,
    /// Disk: its folder of the state, with what outputs keep there until it is sent, and the folders of its refused rows. A flow that takes
    /// more reads nothing until it takes less. By default without limit.
    pub disk: Option<ByteSize>,
}

/// How long it is kept what time has decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReplayLogRetention {
    /// For good.
    #[default]
    All,
    /// Back to the oldest checkpoint that is kept.
    Kept,
}

/// How much may wait between two nodes before the first one has to wait. A batch over the limit passes alone. Where the second node is the slower one,
/// no more rows wait than it takes in a second.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EdgeSettings {
    /// Rows.
    #[serde(default = "default_rows")]
    #[schemars(range(min = 1))]
    pub rows: usize,
    /// Bytes.
    #[serde(default = "default_bytes")]
    #[schemars(extend("default" = "16MiB"))]
    pub bytes: ByteSize,
}

/// What happens to rows that a node rejects and whose port `failed` nobody reads.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// The flow fails at the first one.
    #[default]
    Fail,
    /// They are counted and dropped.
    Drop,
    /// They are written to a folder as JSON lines.
    DeadLetter(#[schemars(description = "A folder, relative to the current one.")] String),
}

impl Default for FlowSettings {
    fn default() -> Self {
        Self {
            name: String::new(),
            pattern: None,
            description: None,
            on_error: None,
            max_failed: None,
            epoch: EpochSettings::default(),
            registry: default_registry(),
            connections: None,
            language: default_language(),
            edge: EdgeSettings::default(),
        }
    }
}

impl Default for EpochSettings {
    fn default() -> Self {
        Self { rows: None, interval: default_interval() }
    }
}

impl EpochSettings {
    /// How many rows of an input make an epoch in a flow in which nodes have something to do at the first barrier behind so
    /// many rows each.
    pub fn rows_for(&self, wanted: impl Iterator<Item = u64>) -> usize {
        let most = self.rows.unwrap_or_else(default_rows);
        let epoch = |rows: u64| match self.rows {
            Some(_) => rows,
            // Filters, joins and refusals leave fewer rows to a node than come in. An epoch is a whole part of what is wanted, so
            // that a node that gets all rows has its barrier right behind them.
            None => rows.div_ceil(rows.div_ceil(most as u64).max(PARTS)),
        };
        wanted.map(epoch).fold(most, |least, rows| least.min(rows.max(1) as usize))
    }
}

/// Into how many epochs rows are parted at least, behind which a node has something to do.
const PARTS: u64 = 4;

impl Default for CheckpointSettings {
    fn default() -> Self {
        Self { interval: None, epochs: None, keep: default_keep(), replay_log: ReplayLogRetention::All }
    }
}

impl CheckpointSettings {
    /// How often checkpoints are taken. A problem if it is said twice.
    pub fn how_often(&self) -> Result<Interval, Problem> {
        match (self.interval, self.epochs) {
            (Some(_), Some(_)) => {
                let problem = Problem::new("checkpoints are taken by time or by epochs, not both").at(["epochs"]);
                Err(problem.help("leave out `interval` or `epochs`"))
            }
            (Some(time), None) => Ok(Interval::Time(time.0)),
            (None, Some(epochs)) => Ok(Interval::Epochs(epochs)),
            (None, None) => Ok(Interval::Time(std::time::Duration::from_secs(10))),
        }
    }
}

impl Default for EdgeSettings {
    fn default() -> Self {
        Self { rows: default_rows(), bytes: default_bytes() }
    }
}

/// Says what names look like, and not the default that serde has for a missing one, which is not that of the flow.
fn name_schema(schema: &mut Schema) {
    schema.remove("default");
    schema.insert("pattern".to_owned(), NAME_PATTERN.into());
}

fn default_rows() -> usize {
    65536
}

fn default_interval() -> Duration {
    Duration(std::time::Duration::from_secs(1))
}

fn default_keep() -> usize {
    3
}

fn default_bytes() -> ByteSize {
    ByteSize(16 << 20)
}

fn default_registry() -> String {
    "models".to_owned()
}

fn default_language() -> u32 {
    1
}
