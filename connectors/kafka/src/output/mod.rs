//! The output `kafka`: its settings, and what they come to.
//!
//! * `rows`: how a row becomes a message.
//! * `limits`: what a topic takes, which brokers are asked for, and which rows are refused therefore.
//! * `writer`: the output, which spools rows until a checkpoint has decided that they count.
//! * `committer`: sends what was decided, in transactions, while `pieces` encodes what comes next; `progress` is how it knows what is in the topic.
//! * `direct`: sends rows as they come, at least once.
//! * `producer`: what both send with.

mod committer;
mod direct;
mod limits;
mod pieces;
mod producer;
mod progress;
mod rows;
mod writer;

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use millstream_core::{
    Delivery, KeptNode, Kind, OutputPlan, OutputSettings, PlanContext, Probe, Problem, Problems, Stream,
    blocking_probe, known_names, require_column,
};
use millstream_formats::{Format, WriteMessages};
use millstream_messages::{Destination, check_column};
use millstream_spool::{PartLimits, Spooled, TransactionSettings};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::client::{CONNECTION, ClientOptions, ConnectionSettings, Role};
use crate::registry::{RegistryWriter, SubjectNaming, WriteRegistrySettings};
use crate::topics::check_name;
use rows::{Layout, RowFormat, WrittenSchemas};
use writer::KafkaOutput;

/// Sends rows to topics of Kafka.
///
/// ```toml
/// [output.predictions]
/// type = "kafka"
/// from = "predicted"
/// brokers = "${KAFKA_BROKERS}"
/// topic = "predictions"
/// key = "card"
/// format = "json"
/// on_error = { dead_letter = "out/refused" }
/// ```
///
/// Each row is a message. With `--state`, each is in the topic exactly once for those who read with `isolation.level = "read_committed"`, through
/// any crash, of the flow or of brokers: rows are kept beside the state until a checkpoint has decided that they count, and sent in
/// transactions then, each with a mark in a topic of its own (`progress_topic`) of how far it has come. A flow that goes on asks
/// that mark what is still to be sent. A process that was thought dead can't send any more: Kafka refuses it, and the mark tells it why.
///
/// What one checkpoint has decided is sent in transactions of at most `transaction_rows` rows and `transaction_bytes` bytes, which become
/// visible one after the other. While brokers are away, commits wait, and so do checkpoints once sixteen of them are
/// waiting. Without `--state`, a flow that ends sends its rows at its end; one that does not sends them as they come, at least once.
///
/// Rows that the topic can't take are refused before: messages that are larger than it allows (`max.message.bytes`), rows without a key where
/// the topic is compacted, partitions that there are not, times that Kafka has no place for, or, where a column names the topic, those that don't
/// exist. `on_error` says what becomes of them.
///
/// Brokers have to be of version 3.6.1 or newer for exactly once, and of 2.1 at least otherwise.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct KafkaOutputSettings {
    #[serde(flatten)]
    connection: ConnectionSettings,
    /// The topic, or the column that says it for each row: `{ column = "region" }`.
    topic: Destination,
    /// How rows become messages: `"json"`, `"csv"` or `"raw"`, or a table with settings of the format.
    format: Format<WriteMessages>,
    /// The column whose value is the message's key: a `utf8`, `binary` or integer, which is written in digits. Messages of one key go to one
    /// partition, chosen as Kafka's own client for Java does. Null is a message without a key. With `key_format` it may be several columns,
    /// `["shop", "card"]`, and a message has no key where all of them are null.
    key: Option<KeySetting>,
    /// How the columns of `key` become the message's key, if that is more than one value: `"json"`, or a table with settings of the format, as
    /// in `format`.
    key_format: Option<Format<WriteMessages>>,
    /// A registry of schemas that speaks as Confluent's does: `{ url = "http://127.0.0.1:8081" }`, with the settings of a connection `http`. Messages
    /// of the formats `avro`, `protobuf` and `json`, and keys of these, begin with a 0 and the number that their schema has there. When the flow
    /// begins, the schema is registered under a subject (`subject`: `"topic"`, which is `TOPIC-value` and `TOPIC-key`, `"record"` or `"topic_record"`), or
    /// only looked up (`register = false`); it does not begin if the registry refuses it. What a checkpoint has decided is sent without asking again.
    registry: Option<WriteRegistrySettings>,
    /// The columns that are in the value. By default all but those that `topic`, `headers`, `timestamp`, `partition` and `tombstones` name, and
    /// for `raw` that of `key`, too.
    value: Option<Vec<String>>,
    /// The column with the headers, a `list<{ name = utf8, value = binary? }>`, or with texts for values.
    headers: Option<String>,
    /// The column with the message's time, a `timestamp`. By default, and where it is null, it is the time at which it is sent.
    timestamp: Option<String>,
    /// The column with the number of the partition, an integer. Where it is null, the key says which one, or chance.
    partition: Option<String>,
    /// A `utf8` column that is `delete` in rows that delete their key: these become messages without a value.
    tombstones: Option<String>,
    /// How often a row is delivered: `"exactly_once"`, the default, or `"at_least_once"`, which is sooner, as rows are sent as they come, and those since the
    /// last checkpoint once more after a crash.
    #[serde(default)]
    delivery: Delivery,
    /// Whether topics that are missing are created, with what brokers are configured to give new ones.
    #[serde(default)]
    create_topics: bool,
    /// The topic in which it is written down how far each output has come, one for all flows. It has to be compacted, or what it says would be
    /// deleted in time; one partition is enough.
    #[serde(default = "progress_topic")]
    progress_topic: String,
    /// By what brokers know the output, so that of two processes only the later one can send. By default the names of flow and node,
    /// `FLOW.NODE`.
    transactional_id: Option<String>,
    #[serde(flatten)]
    transactions: TransactionSettings<TRANSACTION_ROWS>,
}

/// How many rows a transaction has if nothing is said. To end one and begin another takes some hundredths of a second, whatever they have.
const TRANSACTION_ROWS: u64 = 1_000_000;

/// The column of the key, or the columns.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum KeySetting {
    /// The column.
    One(String),
    /// The columns of a key that `key_format` writes.
    Several(Vec<String>),
}

impl KeySetting {
    fn columns(&self) -> &[String] {
        match self {
            Self::One(column) => std::slice::from_ref(column),
            Self::Several(columns) => columns,
        }
    }
}

fn progress_topic() -> String {
    "_millstream.progress".to_owned()
}

impl Kind for KafkaOutputSettings {
    const NAME: &'static str = "kafka";
    const ALSO_CALLED: &'static [&'static str] = &["redpanda", "kafka_producer", "kafka_sink"];
    const EXAMPLE: &'static str = r#"
brokers = "127.0.0.1:9092"
topic = "predictions"
key = "card"
format = "json"
"#;
    const CONNECTION: Option<&'static str> = CONNECTION;
    const FREE_SETTINGS: &'static [&'static str] =
        &["brokers", "tls", "sasl", "client", "registry", "create_topics", "transaction_rows", "transaction_bytes"];

    fn verify(kept: &KeptNode<'_>) -> millstream_core::Result<Option<String>> {
        kept.pending.iter().try_for_each(|staged| Spooled::verify(staged, kept.home))?;
        Ok(None)
    }
}

/// What an output does, as its settings say.
pub struct Job {
    pub brokers: String,
    /// For transactions.
    pub producer: ClientOptions,
    /// For what is sent as it comes.
    pub direct: ClientOptions,
    /// For what asks brokers.
    pub beside: ClientOptions,
    pub layout: Layout,
    /// What is told the schemas of messages.
    pub registry: Option<RegistryWriter>,
    pub delivery: Delivery,
    pub create_topics: bool,
    pub progress_topic: String,
    pub transactional_id: String,
    pub parts: PartLimits,
    /// Whether the flow does not end by itself.
    pub is_live: bool,
}

/// What the settings of librdkafka have to be for what the output promises, and those that make it fast.
const COMMON: &[(&str, &str)] = &[
    ("acks", "all"),
    ("enable.idempotence", "true"),
    ("compression.type", "lz4"),
    // As Kafka's own clients choose, so that keys are where others look for them.
    ("partitioner", "murmur2_random"),
    // An idempotent producer of librdkafka has one batch of a partition under way, and looks all the time whether it has arrived while another is due; so
    // batches end by their bytes only.
    ("batch.num.messages", "1000000"),
    (QUEUE_KBYTES, "65536"),
    ("queue.buffering.max.messages", "500000"),
    // Messages that are too large are refused by what their topic allows.
    ("message.max.bytes", "1000000000"),
    ("delivery.report.only.error", "true"),
];

/// A transaction of a process that is gone is aborted after a minute. A message has to be given up before. None waits for long until others fill its batch,
/// since a transaction ends with sending what waits.
const TRANSACTIONS: &[(&str, &str)] =
    &[("transaction.timeout.ms", "60000"), ("message.timeout.ms", "25000"), ("linger.ms", "100")];

/// The setting that says how many kilobytes of messages may wait to be sent.
const QUEUE_KBYTES: &str = "queue.buffering.max.kbytes";

/// Brokers are waited for as long as it takes.
const DIRECT: &[(&str, &str)] = &[("message.timeout.ms", "0"), ("linger.ms", "1")];

impl KafkaOutputSettings {
    fn job(&self, context: &PlanContext, schema: &Schema, is_live: bool) -> Result<Job, Problem> {
        let transactional_id =
            self.transactional_id.clone().unwrap_or_else(|| format!("{}.{}", context.flow, context.node));
        let id = [("transactional.id", transactional_id.as_str())];
        let own = [COMMON, TRANSACTIONS, &id[..]].concat();
        let producer = self.connection.configure(Role::Producer, &own, context)?;
        let direct = self.connection.configure(Role::Producer, &[COMMON, DIRECT].concat(), context)?;
        let beside = self.connection.configure(Role::Beside, &[], context)?;
        check_name(&self.progress_topic).map_err(|problem| problem.at(["progress_topic"]))?;
        Ok(Job {
            brokers: self.connection.brokers().to_owned(),
            producer,
            direct,
            beside,
            layout: self.layout(schema)?,
            registry: self.registry_writer(context)?,
            delivery: self.delivery,
            create_topics: self.create_topics,
            progress_topic: self.progress_topic.clone(),
            transactional_id,
            parts: self.transactions.limits(),
            is_live,
        })
    }

    fn registry_writer(&self, context: &PlanContext) -> Result<Option<RegistryWriter>, Problem> {
        let Some(registry) = &self.registry else { return Ok(None) };
        let is_column = matches!(self.topic, Destination::Column(_));
        if is_column && registry.subject != SubjectNaming::Record {
            let problem = Problem::new("where a column says the topic, there is no subject of one topic");
            return Err(problem.help("say `subject = \"record\"`").at(["registry"]));
        }
        registry.writer(context).map(Some).map_err(|problem| problem.under("registry"))
    }

    /// Checks that there is something that a registry can be told.
    fn check_registry(&self, write: &RowFormat, layout: &Layout, schema: &Schema) -> Result<(), Problem> {
        if self.registry.is_none() {
            return Ok(());
        }
        let WrittenSchemas { value, key } = write.schemas(layout, schema)?;
        if value.is_none() && key.is_none() {
            let problem = Problem::new(format!("messages of the format `{}` have no schema", self.format.kind().name));
            return Err(problem.help("`avro`, `protobuf` and `json` have").at(["registry"]));
        }
        Ok(())
    }

    /// Checks the columns of the key.
    fn check_key(&self, schema: &Schema) -> Result<(), Problem> {
        let Some(key) = &self.key else {
            let Some(_) = &self.key_format else { return Ok(()) };
            let problem = Problem::new("it says how the key is written, and there is none").at(["key_format"]);
            return Err(problem.help("name its columns in `key`"));
        };
        match (key.columns(), &self.key_format) {
            ([], _) => Err(Problem::new("it names no column").at(["key"])),
            (columns, Some(_)) => {
                let missing = columns.iter().find_map(|column| require_column(column, schema).err());
                missing.map_or(Ok(()), |problem| Err(problem.at(["key"])))
            }
            ([column], None) => {
                let checked = check_column(schema, column, "utf8, binary or an integer", rows::is_key);
                checked.map(drop).map_err(|problem| problem.at(["key"]))
            }
            (_, None) => {
                let problem = Problem::new("a key of several columns needs a format").at(["key"]);
                Err(problem.help("such as `key_format = \"json\"`"))
            }
        }
    }

    /// Which columns are what.
    fn layout(&self, schema: &Schema) -> Result<Layout, Problem> {
        let (mut fixed_topic, mut topic_column) = (None, None);
        match &self.topic {
            Destination::Name(name) => {
                check_name(name).map_err(|problem| problem.at(["topic"]))?;
                fixed_topic = Some(name.clone());
            }
            column @ Destination::Column(_) => {
                topic_column = column.column(schema).map_err(|problem| problem.under("topic"))?.map(str::to_owned);
            }
        }
        let layout = Layout {
            fixed_topic,
            topic_column,
            key: self.key.iter().flat_map(KeySetting::columns).cloned().collect(),
            value: self.value.clone(),
            headers: self.headers.clone(),
            timestamp: self.timestamp.clone(),
            partition: self.partition.clone(),
            tombstones: self.tombstones.clone(),
            leaves_out_key: self.format.kind().name == "raw",
        };
        type Is = fn(&DataType) -> bool;
        self.check_key(schema)?;
        let checks: [(&str, &Option<String>, &str, Is); 4] = [
            ("headers", &self.headers, "list<{ name = utf8, value = binary? }>", rows::are_headers),
            ("timestamp", &self.timestamp, "timestamp", |kind| matches!(kind, DataType::Timestamp(_, _))),
            ("partition", &self.partition, "an integer", DataType::is_integer),
            ("tombstones", &self.tombstones, "utf8", |kind| *kind == DataType::Utf8),
        ];
        for (setting, column, wanted, is) in checks {
            let Some(column) = column else { continue };
            check_column(schema, column, wanted, is).map_err(|problem| problem.at([setting]))?;
        }
        for column in self.value.iter().flatten() {
            require_column(column, schema).map_err(|problem| problem.at(["value"]))?;
        }
        if layout.value_columns(schema).is_empty() {
            let problem = Problem::new("no column is left for the value");
            let names = schema.fields().iter().map(|field| field.name().as_str());
            return Err(problem.help(format!("name some in `value`; {}", known_names("", names))).at(["value"]));
        }
        Ok(layout)
    }
}

impl OutputSettings for KafkaOutputSettings {
    fn plan(&self, context: &PlanContext, input: &Stream) -> Result<OutputPlan, Problems> {
        let job = Arc::new(self.job(context, &input.schema, input.is_live)?);
        let write = RowFormat::new(&self.format, self.key_format.as_ref(), &job.layout, &input.schema, context)?;
        self.check_registry(&write, &job.layout, &input.schema)?;
        let place = match &job.layout.fixed_topic {
            Some(topic) => format!("topic {topic} of {}", job.brokers),
            None => format!("topics of {}", job.brokers),
        };
        let output = KafkaOutput::new(job, input.schema.clone(), write);
        Ok(OutputPlan::to_place(place, self.delivery, output))
    }

    fn probe(&self, context: &PlanContext) -> Option<Probe> {
        let beside = self.connection.configure(Role::Beside, &[], context).ok()?;
        let brokers = self.connection.brokers().to_owned();
        let topic = match &self.topic {
            Destination::Name(name) if !self.create_topics => Some(name.clone()),
            Destination::Name(_) | Destination::Column(_) => None,
        };
        Some(blocking_probe(move || limits::look(&beside, &brokers, topic.as_deref())))
    }
}
