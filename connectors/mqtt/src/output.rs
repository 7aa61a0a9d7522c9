//! The output `mqtt`: its settings, and what sends rows for it.

use async_trait::async_trait;
use millstream_core::{
    ByteSize, CommitContext, Committer, Delivery, KeptNode, Kind, OutputPlan, OutputSettings, PendingCommit,
    PlanContext, Probe, Problem, Problems, Result, ResultExt as _, Stream,
};
use millstream_messages::{Destination, Layout, MessageOutput, Messages, RowEncoder, Stages, Target, ValueSettings};
use millstream_spool::{PartLimits, Spooled};
use millstream_store::crash;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::connection::{Broker, CONNECTION, ConnectionSettings, client_id};
use crate::input::{check_size, max_message};
use crate::publisher::Publisher;
use crate::receiver::look;
use crate::topic::wrong_name;

/// Publishes rows to topics of MQTT.
///
/// ```toml
/// [output.alarms]
/// type = "mqtt"
/// from = "hot"
/// address = "broker.example.com"
/// tls = {}
/// topic = { column = "alarm_topic" }
/// format = "json"
/// retain = true
/// ```
///
/// Each row is a message, published with QoS 1. With `--state`, rows are kept beside the state until a checkpoint has decided that they count, and
/// are published then, each at least once through any crash of the flow or the broker: MQTT has no way to ask a broker what it has, so what was being
/// published when either broke down is published again. Rows that no checkpoint has decided are never published. While the broker is away, commits
/// wait. Without `--state`, a flow that ends publishes its rows at its end, and one that does not publishes them as they come.
///
/// Rows are refused whose topic is null or none to publish to, and those whose message is larger than `max_message`. Brokers take messages that the
/// client may not publish there without a word, and drop them: see that it may.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct MqttOutputSettings {
    #[serde(flatten)]
    connection: ConnectionSettings,
    /// The topic, or the column that says it for each row: `{ column = "alarm_topic" }`.
    topic: Destination,
    #[serde(flatten)]
    value: ValueSettings,
    /// Whether the broker keeps the last message of each topic for those who subscribe later. A message without a payload, as `raw` makes it of null,
    /// has it forget that.
    #[serde(default)]
    retain: bool,
    /// By what the broker knows the output. By default the names of flow and node, `FLOW.NODE`. Of two clients of one name, a broker throws out the
    /// first.
    client_id: Option<String>,
    /// How large a message may be, by default `"1MiB"`: no more than the broker takes, which ends the connection at a larger one.
    #[serde(default = "max_message")]
    max_message: ByteSize,
}

impl Kind for MqttOutputSettings {
    const NAME: &'static str = "mqtt";
    const ALSO_CALLED: &'static [&'static str] = &["mosquitto", "publish_mqtt", "mqtt_sink"];
    const CONNECTION: Option<&'static str> = CONNECTION;
    const EXAMPLE: &'static str = r#"
address = "127.0.0.1:1883"
topic = "alarms"
format = "json"
"#;
    const FREE_SETTINGS: &'static [&'static str] = &["address", "user", "password", "tls", "client_id", "max_message"];

    fn verify(kept: &KeptNode<'_>) -> Result<Option<String>> {
        kept.pending.iter().try_for_each(|staged| Spooled::verify(staged, kept.home))?;
        Ok(None)
    }
}

/// A broker that takes messages.
struct Topics {
    broker: Broker,
    retain: bool,
    max_message: usize,
    publisher: Option<Publisher>,
}

/// Publishes, over the connection that stands, or a new one.
async fn publish(
    publisher: &mut Option<Publisher>,
    broker: &Broker,
    messages: &Messages<'_>,
    retain: bool,
) -> Result<()> {
    let mut over = match publisher.take() {
        Some(over) => over,
        None => Publisher::connect(broker).await?,
    };
    over.publish(messages, retain).await?;
    *publisher = Some(over);
    Ok(())
}

#[async_trait]
impl Target for Topics {
    const TITLE: &'static str = "topic of MQTT";

    async fn open(&mut self) -> Result<()> {
        // It does not stay: the committer has a connection of the same name.
        Publisher::connect(&self.broker).await.map(drop)
    }

    fn refusal(&self, to: &str, value: &[u8]) -> Option<String> {
        if let Some(why) = wrong_name(to) {
            return Some(format!("`{to}` is no topic to publish to: {why}"));
        }
        let (bytes, most) = (value.len(), self.max_message);
        (bytes > most).then(|| format!("the message has {bytes} bytes, and may have {most} (`max_message`)"))
    }

    async fn send(&mut self, messages: &Messages<'_>) -> Result<()> {
        publish(&mut self.publisher, &self.broker, messages, self.retain).await
    }

    fn committer(&self, stages: Stages) -> Box<dyn Committer> {
        let (broker, retain) = (self.broker.clone(), self.retain);
        Box::new(MqttCommitter { broker, retain, stages, encoder: None, publisher: None, at: None })
    }
}

/// Publishes what checkpoints have decided.
struct MqttCommitter {
    broker: Broker,
    retain: bool,
    stages: Stages,
    encoder: Option<RowEncoder>,
    publisher: Option<Publisher>,
    /// How many rows of a stage the broker has acknowledged, for a try that follows one that has failed.
    at: Option<(CommitContext, u64)>,
}

#[async_trait]
impl Committer for MqttCommitter {
    async fn commit(&mut self, pending: &PendingCommit) -> Result<()> {
        let spooled = Spooled::of(pending, &self.stages.unnamed)?;
        let done = self.at.take().filter(|(of, _)| *of == pending.context).map_or(0, |(_, rows)| rows);
        let mut parts = spooled.parts(done, PartLimits::default());
        while let Some(piece) = parts.next_piece()? {
            let mut encoder = match self.encoder.take() {
                Some(encoder) => encoder,
                None => self.stages.layout.encoder(&self.stages.schema)?,
            };
            let messages = encoder.encode(&piece.rows)?;
            let published = publish(&mut self.publisher, &self.broker, &messages, self.retain).await;
            self.stages.sent.note(published.as_ref().err());
            published.doing(|| "publishing to MQTT")?;
            self.stages.sent.add(messages.len() as u64);
            self.encoder = Some(encoder);
            self.at = Some((pending.context.clone(), piece.until));
            crash::point("mqtt-published");
        }
        Ok(())
    }

    async fn committed(&mut self, pending: &PendingCommit) -> Result<()> {
        Spooled::of(pending, &self.stages.unnamed)?.remove()
    }
}

impl MqttOutputSettings {
    fn topics(&self, context: &PlanContext) -> Result<Topics, Problem> {
        let max_message = check_size(self.max_message)?;
        if let Destination::Name(topic) = &self.topic
            && let Some(why) = wrong_name(topic)
        {
            return Err(Problem::new(format!("`{topic}` is no topic to publish to: {why}")).at(["topic"]));
        }
        let client_id = client_id(self.client_id.as_deref(), context)?;
        let broker = self.connection.broker(&client_id, max_message, context)?;
        Ok(Topics { broker, retain: self.retain, max_message, publisher: None })
    }
}

impl OutputSettings for MqttOutputSettings {
    fn check(&self, context: &PlanContext) -> Result<(), Problems> {
        self.topics(context)?;
        Ok(())
    }

    fn plan(&self, context: &PlanContext, input: &Stream) -> Result<OutputPlan, Problems> {
        let topics = self.topics(context)?;
        let layout = Layout::new(&self.topic, "topic", &self.value, &input.schema, context)?;
        let place = match &self.topic {
            Destination::Name(topic) => format!("topic {topic} of {}", topics.broker.address),
            Destination::Column(_) => format!("topics of {}", topics.broker.address),
        };
        let (schema, is_live) = (input.schema.clone(), input.is_live);
        let output = MessageOutput::new(topics, layout, schema, Delivery::ExactlyOnce, is_live);
        Ok(OutputPlan::to_place(place, Delivery::AtLeastOnce, output))
    }

    fn probe(&self, context: &PlanContext) -> Option<Probe> {
        let broker = self.topics(context).ok()?.broker;
        Some(Box::pin(async move { look(&broker).await }))
    }
}
