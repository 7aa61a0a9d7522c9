//! The output `nats`: its settings, and what they come to.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::Context;
use async_trait::async_trait;
use millstream_core::{
    Committer, Delivery, Error, KeptNode, Kind, OutputPlan, OutputSettings, PlanContext, Probe, Problem, Problems,
    Result, Stream,
};
use millstream_messages::{Destination, Layout, MessageOutput, Messages, Stages, Target, ValueSettings};
use millstream_spool::Spooled;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::client::{CONNECTION, ConnectionSettings, Servers};
use crate::committer::NatsCommitter;
use crate::subject::{matches, wrong_subject};

/// Sends rows to a stream of NATS JetStream.
///
/// ```toml
/// [output.predictions]
/// type = "nats"
/// from = "predicted"
/// servers = "nats.example.com"
/// stream = "PREDICTIONS"
/// subject = { column = "subject" }
/// format = "json"
/// on_error = { dead_letter = "out/refused" }
/// ```
///
/// Each row is a message. With `--state`, each is in the stream exactly once, through any crash, of the flow or of servers: rows are kept beside the
/// state until a checkpoint has decided that they count, and sent then, each with an id (`Nats-Msg-Id`) that the server refuses a second time within
/// the stream's `duplicate_window`. Every 20,000 rows, and at the end of what a checkpoint has decided, a mark in a bucket of keys and values
/// (`progress_bucket`) says how far the output has come. A flow that goes on, also much later, asks that mark, and looks in the stream for rows that
/// were sent behind it. A process that was thought dead finds out by the mark that another has taken over.
///
/// For that the stream has to keep its messages for longer than a flow is down: where others take them out (retention `workqueue` or `interest`), only
/// the `duplicate_window` guards what was sent behind the last mark. Nor does it guard, like any id, against a process that is stopped for longer than
/// that in the midst of sending, and goes on beside its successor.
///
/// While servers are away, or the stream is full, commits wait, and so do checkpoints once sixteen of them are waiting. Without `--state`, a flow that
/// ends sends its rows at its end; one that does not sends them as they come, at least once.
///
/// Rows are refused that the stream can't take: subjects that are null, none, or not among the stream's; and messages that are larger than server or
/// stream allow. `on_error` says what becomes of them.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct NatsOutputSettings {
    #[serde(flatten)]
    connection: ConnectionSettings,
    /// The stream, which has to be there.
    stream: String,
    /// The subject, one of the stream's, or the column that says it for each row: `{ column = "subject" }`.
    subject: Destination,
    #[serde(flatten)]
    value: ValueSettings,
    /// How often a row is delivered: `"exactly_once"`, the default, or `"at_least_once"`, which is sooner, as rows are sent as they come, and those since
    /// the last checkpoint once more after a crash.
    #[serde(default)]
    delivery: Delivery,
    /// The bucket in which it is noted how far each output has come, one for all flows. It is made if it is missing.
    #[serde(default = "progress_bucket")]
    progress_bucket: String,
}

fn progress_bucket() -> String {
    "millstream_progress".to_owned()
}

/// Streams forget ids behind their window, which has to be longer than requests take.
const SHORTEST_WINDOW: Duration = Duration::from_secs(30);

/// How many bytes of a message are its headers' at most.
const HEADERS: usize = 1024;

impl Kind for NatsOutputSettings {
    const NAME: &'static str = "nats";
    const ALSO_CALLED: &'static [&'static str] = &["jetstream", "nats_jetstream"];
    const CONNECTION: Option<&'static str> = CONNECTION;
    const EXAMPLE: &'static str = r#"
servers = "127.0.0.1:4222"
stream = "PREDICTIONS"
subject = "predictions"
format = "json"
"#;
    const FREE_SETTINGS: &'static [&'static str] = &["servers", "user", "password", "token", "tls"];

    fn verify(kept: &KeptNode<'_>) -> Result<Option<String>> {
        kept.pending.iter().try_for_each(|staged| Spooled::verify(staged, kept.home))?;
        Ok(None)
    }
}

/// What an output does, as its settings say.
pub struct Job {
    pub servers: Servers,
    pub stream: String,
    pub subject: Destination,
    pub progress_bucket: String,
}

/// A stream that takes messages.
struct Subjects {
    job: Arc<Job>,
    delivery: Delivery,
    /// What the stream takes.
    subjects: Vec<String>,
    largest: usize,
    context: Option<Context>,
}

#[async_trait]
impl Target for Subjects {
    const TITLE: &'static str = "stream of NATS";

    async fn open(&mut self) -> Result<()> {
        let (context, stream) = self.job.servers.connect(&self.job.stream).await?;
        let config = &stream.cached_info().config;
        let name = &self.job.stream;
        if let Destination::Name(subject) = &self.job.subject
            && !config.subjects.iter().any(|pattern| matches(pattern, subject))
        {
            let subjects = config.subjects.join("`, `");
            return Err(Error::new(format!(
                "`{subject}` is none of the subjects of the stream `{name}`: `{subjects}`"
            )));
        }
        if self.delivery == Delivery::ExactlyOnce && config.duplicate_window < SHORTEST_WINDOW {
            return Err(Error::new(format!(
                "the stream `{name}` forgets the ids of messages behind {:?} (`duplicate_window`), and rows may come twice: let it be 30 seconds at \
                 least, or say `delivery = \"at_least_once\"`",
                config.duplicate_window
            )));
        }
        let server = context.client().server_info().max_payload;
        let of_stream = usize::try_from(config.max_message_size).ok().filter(|size| *size > 0);
        self.largest = of_stream.map_or(server, |size| size.min(server)).saturating_sub(HEADERS);
        self.subjects.clone_from(&config.subjects);
        self.context = Some(context);
        Ok(())
    }

    fn refusal(&self, to: &str, value: &[u8]) -> Option<String> {
        if let Some(why) = wrong_subject(to) {
            return Some(format!("`{to}` is no subject to send to: {why}"));
        }
        if !self.subjects.iter().any(|pattern| matches(pattern, to)) {
            return Some(format!("`{to}` is none of the subjects of the stream `{}`", self.job.stream));
        }
        let (bytes, most) = (value.len(), self.largest);
        (bytes > most).then(|| format!("the message has {bytes} bytes, and the server takes {most} at most"))
    }

    async fn send(&mut self, messages: &Messages<'_>) -> Result<()> {
        let context = match self.context.take() {
            Some(context) => context,
            None => self.job.servers.connect(&self.job.stream).await?.0,
        };
        self.job.send(&context, messages, None, &HashSet::new()).await?;
        self.context = Some(context);
        Ok(())
    }

    fn committer(&self, stages: Stages) -> Box<dyn Committer> {
        Box::new(NatsCommitter::new(self.job.clone(), stages))
    }
}

impl NatsOutputSettings {
    fn job(&self, context: &PlanContext) -> Result<Job, Problem> {
        if let Destination::Name(subject) = &self.subject
            && let Some(why) = wrong_subject(subject)
        {
            return Err(Problem::new(format!("`{subject}` is no subject to send to: {why}")).at(["subject"]));
        }
        Ok(Job {
            servers: self.connection.servers(context)?,
            stream: self.stream.clone(),
            subject: self.subject.clone(),
            progress_bucket: self.progress_bucket.clone(),
        })
    }
}

impl OutputSettings for NatsOutputSettings {
    fn check(&self, context: &PlanContext) -> Result<(), Problems> {
        self.job(context)?;
        Ok(())
    }

    fn plan(&self, context: &PlanContext, input: &Stream) -> Result<OutputPlan, Problems> {
        let job = Arc::new(self.job(context)?);
        let layout = Layout::new(&self.subject, "subject", &self.value, &input.schema, context)?;
        let place = format!("stream {} of {}", self.stream, job.servers.written);
        let (schema, is_live, delivery) = (input.schema.clone(), input.is_live, self.delivery);
        let target = Subjects { job, delivery, subjects: Vec::new(), largest: 0, context: None };
        let output = MessageOutput::new(target, layout, schema, delivery, is_live);
        Ok(OutputPlan::to_place(place, delivery, output))
    }

    fn probe(&self, context: &PlanContext) -> Option<Probe> {
        let job = self.job(context).ok()?;
        Some(Box::pin(job.servers.look(job.stream)))
    }
}
