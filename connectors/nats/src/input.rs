//! The input `nats`: its settings, and what they come to.

use indexmap::IndexMap;
use millstream_core::{Columns, InputPlan, InputSettings, Kind, PlanContext, Probe, Problem, Problems, Result, Step};
use millstream_formats::{Format, MetadataColumns, ReadMessages};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::client::{CONNECTION, ConnectionSettings, Servers};
use crate::reader::{Metadata, NatsInput};
use crate::subject::wrong_filter;

/// Reads a stream of NATS JetStream.
///
/// ```toml
/// [input.orders]
/// type = "nats"
/// servers = "nats.example.com"
/// stream = "ORDERS"
/// subjects = ["orders.new.>"]
/// format = "json"
/// schema = { id = "utf8", amount = "float64?" }
/// metadata = { subject = "subject", sent_at = "timestamp" }
/// event_time = { column = "sent_at", lateness = "5s" }
/// ```
///
/// Each message is a row, and its sequence number in the stream its position. How far the stream has been read is part of the flow's state and of
/// nothing else: with `--state`, rows count exactly once through any crash, of the flow or of servers. Nothing is acknowledged, and the stream keeps
/// its messages as it is configured: it has to keep them until they are read (retention `limits`, and not `workqueue`). A message that can't be
/// read leaves by the port `failed`. One without a payload is a row of nulls where the format and the columns allow that, and fails otherwise.
///
/// The input is live, and waits for servers that are away as long as it takes; only at the beginning it gives up after 30 seconds. With
/// `bounded = true` it reads what is there and ends.
///
/// It does not start where rows would be missing without a word: if messages at its position have been deleted since (see `on_lost`; with
/// `subjects` that can't be told, since those that are left out are missing, too), or if the stream was deleted and made again under its name.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct NatsInputSettings {
    #[serde(flatten)]
    connection: ConnectionSettings,
    /// The stream.
    stream: String,
    /// Only messages of these subjects, by names or by patterns such as `"orders.*.new"` and `"orders.>"`, of which `*` is one part and `>` all that
    /// follow. No message may be of two of them. By default all of the stream. Several need a server of version 2.10 or newer.
    #[serde(default)]
    subjects: Vec<String>,
    /// How messages stand for rows: `"json"`, `"csv"` or `"raw"`, or a table with settings of the format, as `"avro"` and `"protobuf"` need it.
    format: Format<ReadMessages>,
    /// The columns and their types: `{ id = "utf8", amount = "float64?" }`. For `raw` messages it is one column, `{ value = "binary?" }` if
    /// nothing is said. Of `avro` and `protobuf`, all fields are columns if nothing is said.
    schema: Option<Columns>,
    /// Columns that are not in the payload of the message, behind the others: `{ kind = "subject", sent_at = "timestamp" }`. There are `subject`, a
    /// `utf8`; `sequence`, an `int64`; `timestamp`, when the server took it, a `timestamp`; and `headers`, a `list<{ name = utf8, value = binary? }>`.
    #[serde(default)]
    #[schemars(with = "std::collections::BTreeMap<String, Metadata>")]
    metadata: IndexMap<String, Metadata>,
    /// Where to begin a stream that the flow has not read before.
    #[serde(default)]
    start: Start,
    /// Whether to end behind what is there when the flow begins.
    #[serde(default)]
    bounded: bool,
    /// What to do when messages are deleted before they are read: the flow fails, which is the default, or it goes on with the earliest one that
    /// is left, and says which ones are lost.
    #[serde(default)]
    on_lost: OnLost,
}

/// Where to begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// With the first message that is there.
    #[default]
    Earliest,
    /// Behind the last one.
    Latest,
}

/// What to do when messages are deleted before they are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnLost {
    /// Fail.
    #[default]
    Fail,
    /// Go on with the earliest message.
    Earliest,
}

impl Kind for NatsInputSettings {
    const NAME: &'static str = "nats";
    const ALSO_CALLED: &'static [&'static str] = &["jetstream", "nats_jetstream"];
    const CONNECTION: Option<&'static str> = CONNECTION;
    const EXAMPLE: &'static str = r#"
servers = "127.0.0.1:4222"
stream = "ORDERS"
format = "json"
schema = { id = "utf8", amount = "float64?" }
metadata = { sent_at = "timestamp" }
"#;
}

/// What an input does, as its settings say.
pub struct Job {
    pub servers: Servers,
    pub stream: String,
    pub subjects: Vec<String>,
    pub start: Start,
    pub bounded: bool,
    pub on_lost: OnLost,
}

impl NatsInputSettings {
    fn job(&self, context: &PlanContext) -> Result<Job, Problem> {
        for (index, subject) in self.subjects.iter().enumerate() {
            if let Some(why) = wrong_filter(subject) {
                let problem = Problem::new(format!("`{subject}` is no subject: {why}"));
                return Err(problem.at([Step::from("subjects"), Step::from(index)]));
            }
        }
        Ok(Job {
            servers: self.connection.servers(context)?,
            stream: self.stream.clone(),
            subjects: self.subjects.clone(),
            start: self.start,
            bounded: self.bounded,
            on_lost: self.on_lost,
        })
    }

    fn columns(&self, context: &PlanContext) -> Result<Columns, Problem> {
        if let Some(columns) = &self.schema {
            return Ok(columns.clone());
        }
        self.format.columns(context)?.ok_or_else(|| {
            let problem = Problem::new("`schema` is missing: the columns of the messages and their types");
            problem.help("such as `schema = { id = \"utf8\", amount = \"float64?\" }`").at(["format"])
        })
    }
}

impl InputSettings for NatsInputSettings {
    fn plan(&self, context: &PlanContext) -> Result<InputPlan, Problems> {
        let job = self.job(context)?;
        let columns = self.columns(context)?;
        let values = self.format.reader(&columns, context)?;
        let metadata = MetadataColumns::plan(&self.metadata, &columns, values.schema(), context)?;
        let schema = metadata.schema().clone();
        let input = NatsInput::new(context.node.as_str().into(), job, values, metadata);
        Ok(InputPlan { finite: self.bounded, ..InputPlan::new(schema, move || Ok(input)) })
    }

    fn probe(&self, context: &PlanContext) -> Option<Probe> {
        let job = self.job(context).ok()?;
        Some(Box::pin(job.servers.look(job.stream)))
    }
}
