//! The input `kafka`: its settings, and what they come to.

mod columns;
pub mod partition;
pub mod poller;
mod reader;
mod schemas;
mod scout;
mod sides;
mod turns;

use std::sync::Arc;
use std::time::Duration as Span;

use chrono::DateTime;
use indexmap::IndexMap;
use millstream_core::{
    Columns, Duration, InputPlan, InputSettings, Kind, PROBE_PATIENCE, PlanContext, Probe, Problem, Problems, Result,
    blocking_probe,
};
use millstream_formats::{Format, MetadataColumns, ReadMessages, SchemaChanges};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::client::{CONNECTION, ClientOptions, ConnectionSettings, Consumer, Role};
use crate::part::MessagePart;
use crate::registry::RegistrySettings;
use crate::topics::{Place, Topics, positions};
use columns::Metadata;
use reader::KafkaInput;
pub use schemas::Registry;
use sides::{Side, Sides};

/// Reads topics of Kafka.
///
/// ```toml
/// [connection.shop]
/// type = "kafka"
/// brokers = "${KAFKA_BROKERS}"
///
/// [input.payments]
/// type = "kafka"
/// connection = "shop"
/// topics = ["payments"]
/// format = "json"
/// schema = { id = "utf8", amount = "float64?" }
/// metadata = { card = "key", sent_at = "timestamp" }
/// event_time = { column = "sent_at", lateness = "5s" }
/// ```
///
/// Each message is a row. How far every partition has been read is part of the flow's state and of nothing else: with `--state`, rows
/// count exactly once through any crash, of the flow or of brokers. Messages of transactions that were aborted don't come, and
/// those of one that is open wait for it. A message that can't be read leaves by the port `failed`. One without a value (which deletes its key
/// from a compacted topic) is a row of nulls where the format and the columns allow that, and fails otherwise.
///
/// The input is live, and waits for brokers that are away as long as it takes; only at the beginning it gives up after 30 seconds.
/// Partitions and topics that are new are read from their first message. Partitions are called `TOPIC/NUMBER`, and event time comes as far as
/// the one furthest behind. With `bounded = true` it reads what is there and ends, in an order that is the same in every run: a few
/// thousand messages of each partition in turn.
///
/// It does not start where rows would be missing without a word: if messages at its position have been deleted since (see `on_lost`); if a
/// topic was deleted and made again under its name; or if brokers have lost the end of the log that it had read.
///
/// It is no member of a group, and rebalances nothing; `group` has the positions committed to one for tools that watch lag.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct KafkaInputSettings {
    #[serde(flatten)]
    connection: ConnectionSettings,
    /// The topics, by names or by patterns such as `"payments.*"`, of which `*` is any letters and `?` one.
    topics: Vec<String>,
    /// How messages stand for rows: `"json"`, `"csv"` or `"raw"`, or a table with settings of the format, as `"avro"` and `"protobuf"` need it.
    format: Format<ReadMessages>,
    /// The columns and their types: `{ id = "utf8", amount = "float64?" }`. For `raw` messages it is one column, `{ value = "binary?" }` if
    /// nothing is said. Of `avro` and `protobuf`, all fields are columns if nothing is said.
    schema: Option<Columns>,
    /// How keys stand for columns, if they are more than a text or bytes: `"json"`, or a table with settings of the format, as in `format`. A
    /// message whose key can't be read fails; one without a key has nulls. `registry` has the schemas of keys, too: their numbers are in
    /// the key, or in the header `__key_schema_id`.
    key_format: Option<Format<ReadMessages>>,
    /// The columns of keys and their types, as `schema` says those of values.
    key_schema: Option<Columns>,
    /// What the names of the columns of keys begin with, behind those of values.
    #[serde(default = "key_prefix")]
    key_prefix: String,
    /// A registry of schemas that speaks as Confluent's does: `{ url = "http://127.0.0.1:8081" }`, with the settings of a connection `http`.
    /// Messages name their schemas then: by a 0 and a number before the value, or in the header `__value_schema_id`. What `avro` needs is
    /// fetched when it is first named, and kept in the flow's state. The columns are those of `schema`, or of the schema in `format`.
    registry: Option<RegistrySettings>,
    /// What becomes of messages whose schema in the registry has other fields than there are columns.
    #[serde(default)]
    schema_changes: SchemaChanges,
    /// Columns that are not in the value of the message, behind the others: `{ card = "key", sent_at = "timestamp" }`. There are `key`, a
    /// `utf8?` (a message whose key is no UTF-8 fails); `key_bytes`, a `binary?`; `headers`, a `list<{ name = utf8, value = binary? }>`;
    /// `timestamp`, when the message was sent, or appended if the topic says so, a `timestamp?`; `topic`, a `utf8`; `partition`, an `int32`; and
    /// `offset`, an `int64`.
    #[serde(default)]
    #[schemars(with = "std::collections::BTreeMap<String, Metadata>")]
    metadata: IndexMap<String, Metadata>,
    /// Where to begin a partition that the flow has not read before: `"earliest"`, `"latest"`, or a time, `"2026-01-31T12:00:00Z"`, for the
    /// first message that was sent then or later. What comes to be there while the flow runs, or between runs with a state, is read from its
    /// first message.
    #[serde(default = "start")]
    start: String,
    /// Whether to end behind what is there when the flow begins.
    #[serde(default)]
    bounded: bool,
    /// What to do when messages are deleted before they are read: the flow fails, which is the default, or it goes on with the earliest one that
    /// is left, and says which ones are lost.
    #[serde(default)]
    on_lost: OnLost,
    /// How often to look for new partitions and topics, by default `"30s"`.
    #[serde(default = "discovery_interval")]
    discovery_interval: Duration,
    /// A group to which positions are committed at checkpoints, so that tools show its lag. They are read from the flow's state all
    /// the same.
    group: Option<String>,
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

fn start() -> String {
    "earliest".to_owned()
}

fn key_prefix() -> String {
    "key_".to_owned()
}

fn discovery_interval() -> Duration {
    Duration(Span::from_secs(30))
}

impl Kind for KafkaInputSettings {
    const NAME: &'static str = "kafka";
    const ALSO_CALLED: &'static [&'static str] = &["redpanda", "kafka_consumer", "kafka_source"];
    const CONNECTION: Option<&'static str> = CONNECTION;
    const EXAMPLE: &'static str = r#"
brokers = "127.0.0.1:9092"
topics = ["payments"]
format = "json"
schema = { id = "utf8", amount = "float64?" }
metadata = { card = "key", sent_at = "timestamp" }
"#;
}

/// What the settings of librdkafka have to be for what the input promises; and those that make it fast, of which
/// `fetch.queue.backoff.ms` is the one that matters: by default a fetcher whose queue is full sleeps for a second.
pub const CLIENT: &[(&str, &str)] = &[
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("auto.offset.reset", "error"),
    ("isolation.level", "read_committed"),
    ("allow.auto.create.topics", "false"),
    ("check.crcs", "true"),
    ("fetch.queue.backoff.ms", "1"),
    ("fetch.wait.max.ms", "100"),
    ("queued.max.messages.kbytes", "16384"),
    ("queued.min.messages", "1000"),
];

/// What an input does, as its settings say.
pub struct Job {
    pub brokers: String,
    pub topics: Topics,
    pub start: Place,
    pub bounded: bool,
    pub on_lost: OnLost,
    pub discovery_interval: Span,
    pub commits: bool,
}

impl KafkaInputSettings {
    fn place(&self) -> Result<Place, Problem> {
        match self.start.as_str() {
            "earliest" => Ok(Place::Earliest),
            "latest" => Ok(Place::Latest),
            time => match DateTime::parse_from_rfc3339(time) {
                Ok(time) if time.timestamp_millis() >= 0 => Ok(Place::Time(time.timestamp_millis())),
                _ => {
                    let problem = Problem::new(format!("`{time}` is no place to start at")).at(["start"]);
                    Err(problem.help("it is `earliest`, `latest`, or a time such as `2026-01-31T12:00:00Z`"))
                }
            },
        }
    }

    /// The columns of the values.
    fn columns(&self, context: &PlanContext) -> Result<Columns, Problem> {
        if let Some(columns) = &self.schema {
            return Ok(columns.clone());
        }
        self.format.columns(context)?.ok_or_else(|| {
            let problem = Problem::new("`schema` is missing: the columns of the messages and their types");
            problem.help("such as `schema = { id = \"utf8\", amount = \"float64?\" }`")
        })
    }

    /// How its client is configured.
    fn config(&self, context: &PlanContext) -> Result<ClientOptions, Problem> {
        let group = self.group.clone().unwrap_or_else(|| format!("{}.{}", context.flow, context.node));
        let mut own = CLIENT.to_vec();
        own.push(("group.id", &group));
        if self.bounded {
            own.push(("enable.partition.eof", "true"));
        }
        self.connection.configure(Role::Consumer, &own, context)
    }

    fn job(&self) -> Result<Job, Problem> {
        Ok(Job {
            brokers: self.connection.brokers().to_owned(),
            topics: Topics::new(&self.topics)?,
            start: self.place()?,
            bounded: self.bounded,
            on_lost: self.on_lost,
            discovery_interval: self.discovery_interval.0.max(Span::from_millis(10)),
            commits: self.group.is_some(),
        })
    }

    fn input(&self, context: &PlanContext) -> Result<KafkaInput, Problem> {
        let config = self.config(context)?;
        let columns = self.columns(context)?;
        let key_columns = self.key_columns(context)?;
        let all = self.all_columns(&columns, key_columns.as_ref())?;
        let job = self.job()?;
        let registry = match &self.registry {
            None => None,
            Some(registry) => Some(registry.registry(context).map_err(|problem| problem.under("registry"))?),
        };
        let registry = registry.map(|registry| registry as Arc<dyn Registry>);
        let side = |part: MessagePart, format: &Format<ReadMessages>, columns: &Columns, context: &PlanContext| {
            let reader = match &registry {
                None => format.reader(columns, context),
                Some(_) => format.framed_reader(columns, self.schema_changes, context),
            };
            let reader = reader.map_err(|problem| part.place(problem))?;
            Ok::<_, Problem>(Side::new(part, reader, registry.clone()))
        };
        let values = side(MessagePart::Value, &self.format, &columns, context)?;
        let keys = match (&self.key_format, &key_columns) {
            (Some(format), Some(columns)) => Some(side(MessagePart::Key, format, columns, &self.key_context(context))?),
            _ => None,
        };
        let sides = Sides::new(values, keys, |column| self.key_name(column));
        let metadata = MetadataColumns::plan(&self.metadata, &all, sides.schema(), context)?;
        Ok(KafkaInput::new(context.node.as_str().into(), config, job, sides, metadata))
    }

    /// The columns of the values, and behind them those of the keys as they are called in rows.
    fn all_columns(&self, values: &Columns, keys: Option<&Columns>) -> Result<Columns, Problem> {
        let mut all = values.clone();
        for (column, of) in keys.iter().flat_map(|keys| &keys.0) {
            let name = self.key_name(column);
            if values.0.iter().any(|(column, _)| *column == name) {
                let problem = Problem::new(format!("there is a column `{name}` in the values already"));
                return Err(problem.at(["key_prefix"]).help("say another `key_prefix`"));
            }
            all.0.push((name, of.clone()));
        }
        Ok(all)
    }

    /// What a column of the keys is called in rows.
    fn key_name(&self, column: &str) -> String {
        format!("{}{column}", self.key_prefix)
    }

    /// The columns of the keys, if they are messages of a format.
    fn key_columns(&self, context: &PlanContext) -> Result<Option<Columns>, Problem> {
        let Some(format) = &self.key_format else {
            if self.key_schema.is_none() {
                return Ok(None);
            }
            let problem = Problem::new("nothing says how keys are read").at(["key_schema"]);
            return Err(problem.help("such as `key_format = \"json\"`; keys that are texts are a column of `metadata`"));
        };
        if let Some(columns) = &self.key_schema {
            return Ok(Some(columns.clone()));
        }
        let columns = format.columns(context).map_err(|problem| MessagePart::Key.place(problem))?;
        columns.map(Some).ok_or_else(|| {
            let problem = Problem::new("`key_schema` is missing: the columns of the keys and their types");
            problem.help("such as `key_schema = { card = \"utf8\" }`")
        })
    }

    /// The context in which keys are planned: the columns that the flow uses, by their names in the keys.
    fn key_context(&self, context: &PlanContext) -> PlanContext {
        let name = |name: &String| name.strip_prefix(self.key_prefix.as_str()).map(str::to_owned);
        let columns = context.columns.as_ref().map(|wanted| wanted.iter().filter_map(name).collect());
        PlanContext { columns, ..context.clone() }
    }
}

impl InputSettings for KafkaInputSettings {
    fn plan(&self, context: &PlanContext) -> Result<InputPlan, Problems> {
        let input = self.input(context)?;
        let plan = InputPlan::new(input.schema(), move || Ok(input));
        Ok(InputPlan { finite: self.bounded, interleaved: true, ..plan })
    }

    fn probe(&self, context: &PlanContext) -> Option<Probe> {
        let (config, job) = (self.config(context).ok()?, self.job().ok()?);
        Some(blocking_probe(move || look(&config, &job)))
    }
}

/// Whether brokers answer, the topics are there, and their positions may be asked for.
fn look(config: &ClientOptions, job: &Job) -> Result<String> {
    let (consumer, found) =
        Consumer::connect_within(PROBE_PATIENCE, config, &job.brokers, |consumer| job.topics.look_up(consumer))?;
    found.require_all(&consumer)?;
    positions(&consumer, &found.partitions, job.start)?;
    let count = |count: usize, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
    let (topics, partitions) = (found.topics().len(), found.partitions.len());
    Ok(format!("{} with {} at `{}`", count(topics, "topic"), count(partitions, "partition"), job.brokers))
}
