//! The input `mqtt`: its settings, and what they come to.

use std::sync::Arc;

use indexmap::IndexMap;
use millstream_connectors::push::{self, Health, LogSettings, MOST_BYTES, PushInput, PushNode};
use millstream_core::{
    ByteSize, Columns, InputPlan, InputSettings, KeptNode, Kind, PlanContext, Probe, Problem, Problems, Result, Step,
};
use millstream_formats::{Format, MetadataColumns, ReadMessages};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::connection::{CONNECTION, ConnectionSettings, client_id};
use crate::contents::{KeptMessages, Metadata};
use crate::receiver::{Subscription, look};
use crate::topic::wrong_filter;

/// Reads topics of MQTT.
///
/// ```toml
/// [input.sensors]
/// type = "mqtt"
/// address = "broker.example.com"
/// tls = {}
/// topics = ["rooms/+/temperature"]
/// format = "json"
/// schema = { celsius = "float64", at = "timestamp" }
/// metadata = { room = "topic" }
/// event_time = { column = "at", lateness = "10s" }
/// on_error = "drop"
/// ```
///
/// Each message is a row. It is subscribed to with QoS 1: a message is acknowledged when it is durable, in a log that belongs to the flow's state
/// and outlives any crash, and the flow counts each message of the log exactly once. The broker keeps messages for the flow while it does not run,
/// as long as it knows its `client_id` (it forgets them as it is configured: mosquitto by default behind 1,000, `max_queued_messages`). A message may
/// come twice where flow, broker or connection break down between log and acknowledgement; the column `repeated` says which ones may have. What is
/// published with QoS 0 may be lost on the way to the log.
///
/// Messages are taken while the flow is slow, until `max_log` of them wait. One that can't be read leaves by the port `failed`; senders don't hear
/// of it, so that the flow has to say with `on_error` what becomes of such rows. A message without a payload is a row of nulls where the format and
/// the columns allow that, and fails otherwise. What the broker keeps of topics (retained messages) comes once, when it is subscribed to.
///
/// The input needs `millstream run --state DIR`. It waits for a broker that is away as long as it takes; only at the beginning it gives up after 30
/// seconds.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct MqttInputSettings {
    #[serde(flatten)]
    connection: ConnectionSettings,
    /// The topics, by names or by patterns such as `"rooms/+/temperature"` and `"rooms/#"`, of which `+` is one level and `#` all that follow.
    topics: Vec<String>,
    /// How messages stand for rows: `"json"`, `"csv"` or `"raw"`, or a table with settings of the format, as `"avro"` and `"protobuf"` need it.
    format: Format<ReadMessages>,
    /// The columns and their types: `{ celsius = "float64" }`. For `raw` messages it is one column, `{ value = "binary?" }` if
    /// nothing is said. Of `avro` and `protobuf`, all fields are columns if nothing is said.
    schema: Option<Columns>,
    /// Columns that are not in the payload of the message, behind the others: `{ room = "topic" }`. There are `topic`, a `utf8`; `received_at`, a
    /// `timestamp`; `retained`, whether it is the one that the broker keeps of its topic, and `repeated`, whether the broker has sent it before and
    /// does not know that it was received, which are `boolean`.
    #[serde(default)]
    #[schemars(with = "std::collections::BTreeMap<String, Metadata>")]
    metadata: IndexMap<String, Metadata>,
    /// By what the broker knows the flow, and what it keeps for it. By default the names of flow and node, `FLOW.NODE`. Of two clients of one name, a
    /// broker throws out the first.
    client_id: Option<String>,
    /// How large a message may be, by default `"1MiB"`. A larger one ends the connection, and comes again.
    #[serde(default = "max_message")]
    max_message: ByteSize,
    #[serde(flatten)]
    log: LogSettings,
}

/// How large messages are.
pub fn max_message() -> ByteSize {
    ByteSize(1 << 20)
}

/// The largest that the protocol has, about.
const LARGEST: usize = 256 << 20;

/// Checks how large messages may be.
pub fn check_size(max_message: ByteSize) -> Result<usize, Problem> {
    if (1..LARGEST).contains(&max_message.0) {
        Ok(max_message.0)
    } else {
        Err(Problem::new("messages of MQTT have between 1 byte and 256 MiB").at(["max_message"]))
    }
}

impl Kind for MqttInputSettings {
    const NAME: &'static str = "mqtt";
    const ALSO_CALLED: &'static [&'static str] = &["mosquitto", "consume_mqtt", "mqtt_source"];
    const CONNECTION: Option<&'static str> = CONNECTION;
    const EXAMPLE: &'static str = r#"
address = "127.0.0.1:1883"
topics = ["rooms/+/temperature"]
format = "json"
schema = { celsius = "float64", at = "timestamp" }
metadata = { room = "topic" }
"#;
    const NEEDS_STATE: bool = true;

    fn verify(kept: &KeptNode<'_>) -> Result<Option<String>> {
        push::verify(kept)
    }
}

impl MqttInputSettings {
    fn check_topics(&self) -> Result<(), Problem> {
        if self.topics.is_empty() {
            return Err(Problem::new("name one topic at least").at(["topics"]));
        }
        for (index, topic) in self.topics.iter().enumerate() {
            if let Some(why) = wrong_filter(topic) {
                let problem = Problem::new(format!("`{topic}` is no topic: {why}"));
                return Err(problem.at([Step::from("topics"), Step::from(index)]));
            }
        }
        Ok(())
    }

    fn columns(&self, context: &PlanContext) -> Result<Columns, Problem> {
        if let Some(columns) = &self.schema {
            return Ok(columns.clone());
        }
        self.format.columns(context)?.ok_or_else(|| {
            let problem = Problem::new("`schema` is missing: the columns of the messages and their types");
            problem.help("such as `schema = { celsius = \"float64\", at = \"timestamp\" }`").at(["format"])
        })
    }

    fn subscription(&self, context: &PlanContext) -> Result<Subscription, Problem> {
        self.check_topics()?;
        let max_message = check_size(self.max_message)?;
        let client_id = client_id(self.client_id.as_deref(), context)?;
        let broker = self.connection.broker(&client_id, max_message, context)?;
        Ok(Subscription { broker, topics: self.topics.clone(), max_message, health: Arc::new(Health::default()) })
    }

    fn input(&self, context: &PlanContext) -> Result<PushInput, Problem> {
        let subscription = self.subscription(context)?;
        let columns = self.columns(context)?;
        let readers = self.format.readers(&columns, context)?;
        let metadata = MetadataColumns::plan(&self.metadata, &columns, readers.open().schema(), context)?;
        let contents = KeptMessages { readers, metadata: Arc::new(metadata), batch_rows: context.batch_rows };
        let largest = MOST_BYTES + subscription.max_message;
        let node = PushNode { kind: Self::NAME, largest, receiver: Box::new(subscription) };
        self.log.input(node, Arc::new(contents), context)
    }
}

impl InputSettings for MqttInputSettings {
    fn plan(&self, context: &PlanContext) -> Result<InputPlan, Problems> {
        Ok(self.input(context)?.plan())
    }

    fn probe(&self, context: &PlanContext) -> Option<Probe> {
        let broker = self.subscription(context).ok()?.broker;
        Some(Box::pin(async move { look(&broker).await }))
    }
}
