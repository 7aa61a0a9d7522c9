//! The words of Millstream: what travels through a flow, what a node is, and how it is described.
//!
//! Every node and the engine depend on this crate; it depends on Arrow and on nothing heavy.
//!
//! * [`Message`], [`Batch`], [`Origin`], [`Epoch`]: what travels on an edge.
//! * [`Input`], [`Processor`], [`Output`]: what a node does while a flow runs. The engine owns the loops.
//!   A processor that asks others about rows is an [`AsyncProcessor`], and one that keeps rows while there is no room behind it a [`Buffer`].
//! * [`InputSettings`], [`ProcessorSettings`], [`OutputSettings`]: a node as its TOML table says it. They *plan*
//!   (schemas from schemas, without side effects), and a plan *builds* the node. A [`Probe`] looks whether what it needs is there, and
//!   a [`SchemaSource`] knows the columns that a node does not say.
//! * [`FilesRead`]: what a flow was planned from, so that it is noticed when one of these files changes.
//! * [`Intake`]: how an input of a flow that runs is given rows by hand.
//! * [`Kind`] and [`NodeTypes`]: the list of node types, with their documentation and examples.
//! * [`Expression`]: what the crate that knows the language of expressions plans for those that do not.
//! * [`Snapshot`] and [`State`]: what a node remembers beyond a crash. [`Committer`]: what makes its effects visible.
//! * [`Error`]: what goes wrong while a flow runs. [`Problem`]: what is wrong with a flow file, and where.

mod address;
mod async_processor;
mod buffer;
mod bytes;
mod canonical;
mod collector;
mod commit;
mod error;
mod event_time;
mod expression;
mod failed;
mod files_read;
mod floats;
mod held;
mod home;
mod input;
mod intake;
mod join;
mod json;
mod lock;
mod message;
mod moment;
mod output;
mod plan;
mod probe;
mod problem;
mod processor;
mod registry;
mod report;
mod secret;
mod state;
mod survive;
mod types;
mod units;

pub use address::host_and_port;
pub use async_processor::{AsyncProcessor, asking};
pub use buffer::{Buffer, Buffering};
pub use bytes::{MAX_BATCH_BYTES, batch_bytes, widest_row};
pub use canonical::{Canonical, Canonicalized};
pub use collector::{Collector, PartitionChange};
pub use commit::{CommitContext, Committer, PendingCommit};
pub use error::{Error, ErrorClass, Result, ResultExt};
pub use event_time::{refuse_timeless, timeless, why_timeless};
pub use expression::{Bounds, Condition, Evaluated, Expression, Language, Matches, PlanCondition, PlanExpression};
pub use failed::{Encoding, FailedRow, failed_batch, failed_schema, json_row};
pub use files_read::{FilesRead, read_text};
pub use floats::{canonical_float, canonical_floats, has_floats};
pub use held::Held;
pub use home::{Home, Run};
pub use input::{HttpEndpoint, Input, InputPlan, InputSettings, Progress, Reads};
pub use intake::{GivenRow, Intake, NotTaken};
pub use join::{join, spawn_beside};
pub use json::write_json;
pub use lock::{AskSchema, Locked, SchemaSource, SourceSchema};
pub use message::{Batch, Epoch, EventTime, Message, Origin, Watermark};
pub use moment::{DAY_MICROS, write_date, write_time, write_timestamp};
pub use output::{Answers, Delivery, Exclusive, Output, OutputPlan, OutputSettings, PriorOutput, Writes};
pub use plan::{PlanContext, PortPlan, PortRole, PortTime, Stream, Uses};
pub use probe::{PROBE_PATIENCE, Probe, blocking_probe};
pub use problem::{
    LeftOut, Problem, Problems, Step, TextPlace, known_names, nearest, port_name_problem, require_column,
    unknown_column,
};
pub use processor::{Order, Processor, ProcessorPlan, ProcessorSettings};
pub use registry::{
    ConnectionKind, DeadLetterOutput, KeptNode, Kind, NodeKind, NodeTypes, Parsed, Role, parse_settings,
};
pub use report::{Baselines, ConfusionMatrix, Disturbance, Evaluation, Figures, Metrics, ModelReport, Report, TROUBLE};
pub use secret::Secret;
pub use state::{Barrier, Chunks, Part, Parts, Positions, Snapshot, State, Then};
pub use survive::{survive, will_survive};
pub use types::{ColumnType, Columns, timestamp, type_name, with_article};
pub use units::{ByteSize, Duration, Rate, Share};

/// The name of a node's main port, the one that `from = "NAME"` means.
pub const MAIN: &str = "main";
/// The name of the ports by which versions of a model leave the node that trains it, and arrive at those that follow it.
pub const MODEL: &str = "model";
/// The name of the port by which rows leave that a node refused.
pub const FAILED: &str = "failed";
