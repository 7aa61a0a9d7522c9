//! What topics take, which brokers are asked for once; and which rows are refused therefore, before a checkpoint decides that they count.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::DataType;
use millstream_core::{
    Batch, Collector, Error, ErrorClass, PROBE_PATIENCE, Result, ResultExt, known_names, widest_row,
};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::{Client, DefaultClientContext};
use rdkafka::error::RDKafkaErrorCode;
use tokio::time::Instant;

use super::Job;
use super::rows::{Beside, Encoded, RowEncoder};
use crate::client::{ClientOptions, PATIENCE, PAUSE, failed};
use crate::tokens::Admission;
use crate::topics::is_legal;

/// How long to wait for one answer of a broker.
const WAIT: Duration = Duration::from_secs(10);

/// What a topic takes at most where brokers do not say it: the default of Kafka.
const DEFAULT_MESSAGE_BYTES: usize = 1_048_588;

/// How many bytes a message has besides key, value and headers at most: what stands before it, and before a batch that it is alone in.
const FRAME: usize = 128;

/// What a topic takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicLimits {
    partitions: i32,
    /// How large a batch of messages may be.
    pub message_bytes: usize,
    /// Whether every message needs a key.
    is_compacted: bool,
    /// By how many milliseconds the time of a message may be ahead.
    ahead: Option<i64>,
}

/// The topics that rows have gone to so far.
#[derive(Clone, Default)]
pub struct TopicBook(Arc<Mutex<BTreeMap<String, Known>>>);

/// What is known of a topic.
struct Known {
    /// None if it is not there.
    limits: Option<TopicLimits>,
    since: Instant,
}

/// A topic that is missing is looked for again after so long.
const MISSING: Duration = Duration::from_secs(30);

impl TopicBook {
    /// What is known of a topic.
    pub fn get(&self, topic: &str) -> Option<Option<TopicLimits>> {
        let book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Known { limits, since } = book.get(topic)?;
        (limits.is_some() || since.elapsed() < MISSING).then(|| limits.clone())
    }

    /// The smallest limit of any topic so far.
    pub fn least_bytes(&self) -> usize {
        let book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        book.values()
            .filter_map(|known| Some(known.limits.as_ref()?.message_bytes))
            .min()
            .unwrap_or(DEFAULT_MESSAGE_BYTES)
    }

    /// How many partitions all topics so far have together, and how large a message of one of them may be.
    pub fn extent(&self) -> (usize, usize) {
        let book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let limits = book.values().filter_map(|known| known.limits.as_ref());
        limits.fold((0, DEFAULT_MESSAGE_BYTES), |(partitions, bytes), limits| {
            (partitions + usize::try_from(limits.partitions).unwrap_or_default(), bytes.max(limits.message_bytes))
        })
    }

    /// Asks brokers about topics that are not known yet, and creates those that are missing, if the flow says so.
    ///
    /// # Errors
    /// If brokers don't answer.
    pub async fn look_up(&self, job: &Arc<Job>, topics: impl IntoIterator<Item = &str>) -> Result<()> {
        let unknown: Vec<_> = topics.into_iter().filter(|topic| self.get(topic).is_none()).map(str::to_owned).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let job = job.clone();
        let found = ask(move || async move {
            let mut found = Vec::new();
            let broker = Broker::connect(&job.beside, &job.brokers).await?;
            for topic in unknown {
                let limits = match broker.look_up(&topic).await? {
                    None if job.create_topics => {
                        broker.create(&topic, -1, &[]).await?;
                        broker.look_up(&topic).await?
                    }
                    limits => limits,
                };
                found.push((topic, Known { limits, since: Instant::now() }));
            }
            Ok(found)
        });
        let found = found.await?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(found);
        Ok(())
    }

    /// Asks brokers about the one topic of the output, which has to be there.
    ///
    /// # Errors
    /// If it is not, or brokers don't answer.
    pub async fn require(&self, job: &Arc<Job>) -> Result<()> {
        let Some(topic) = &job.layout.fixed_topic else { return Ok(()) };
        self.look_up(job, [topic.as_str()]).await?;
        let limits = match self.get(topic).flatten() {
            Some(limits) => limits,
            None => return Err(missing(job, topic).await),
        };
        if limits.is_compacted && job.layout.key.is_empty() {
            return Err(Error::new(format!(
                "the topic `{topic}` is compacted, and takes no message without a key: say which column it is, `key = \"COLUMN\"`"
            )));
        }
        Ok(())
    }
}

/// The error of a topic that is not there, with the names of those that are.
async fn missing(job: &Arc<Job>, topic: &str) -> Error {
    let (asked, name) = (job.clone(), topic.to_owned());
    let others = ask(move || async move { Broker::connect(&asked.beside, &asked.brokers).await?.names() });
    let others = others.await.unwrap_or_default();
    let known = known_names(&name, others.iter().map(String::as_str));
    Error::new(format!("there is no topic `{topic}`; {known}; or say `create_topics = true`"))
}

/// Does what may wait for brokers on a thread that may wait.
pub async fn ask<T, F>(work: impl FnOnce() -> F + Send + 'static) -> Result<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T>>,
{
    let asked = tokio::task::spawn_blocking(move || {
        tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(work())
    });
    asked.await.doing(|| "asking brokers")?
}

/// Whether brokers answer, and the topic is there.
pub fn look(config: &ClientOptions, brokers: &str, topic: Option<&str>) -> Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    runtime.block_on(async {
        let broker = Broker::connect_within(PROBE_PATIENCE, config, brokers).await?;
        let Some(topic) = topic else { return Ok(format!("brokers at `{brokers}`")) };
        match broker.look_up(topic).await? {
            Some(limits) => Ok(format!("topic `{topic}` with {} partitions at `{brokers}`", limits.partitions)),
            None => {
                let known = known_names(topic, broker.names()?.iter().map(String::as_str));
                Err(Error::new(format!("there is no topic `{topic}`; {known}; or say `create_topics = true`")))
            }
        }
    })
}

/// A client that asks brokers about topics, and creates them.
pub struct Broker {
    admin: AdminClient<DefaultClientContext>,
    admission: Option<Admission>,
    brokers: String,
}

impl Broker {
    /// Connects, and waits until a broker answers.
    ///
    /// # Errors
    /// If none does in time.
    pub async fn connect(config: &ClientOptions, brokers: &str) -> Result<Self> {
        Self::connect_within(PATIENCE, config, brokers).await
    }

    async fn connect_within(patience: Duration, config: &ClientOptions, brokers: &str) -> Result<Self> {
        let admin: AdminClient<_> =
            config.create().map_err(|error| Error::new(format!("the client of Kafka can't be made: {error}")))?;
        let admission = config.admit(admin.inner())?;
        let broker = Self { admin, admission, brokers: brokers.to_owned() };
        let deadline = Instant::now() + patience;
        loop {
            let Err(error) = broker.names() else { return Ok(broker) };
            if error.class() != ErrorClass::Transient {
                return Err(error);
            }
            if Instant::now() > deadline {
                return Err(Error::transient(format!("no broker of `{brokers}` answers: {error}")));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The client, of which brokers know who connects.
    fn client(&self) -> &Client<DefaultClientContext> {
        let client = self.admin.inner();
        if let Some(admission) = &self.admission {
            admission.renew(client);
        }
        client
    }

    /// The names of all topics.
    fn names(&self) -> Result<Vec<String>> {
        let metadata = self.client().fetch_metadata(None, WAIT);
        let metadata = metadata.map_err(|error| failed("looking for topics", error))?;
        let names = metadata.topics().iter().map(|topic| topic.name().to_owned());
        Ok(names.filter(|name| !name.starts_with("__")).collect())
    }

    /// What a topic takes. None if it is not there.
    pub async fn look_up(&self, topic: &str) -> Result<Option<TopicLimits>> {
        let doing = || format!("asking about the topic `{topic}`");
        let metadata = self.client().fetch_metadata(Some(topic), WAIT);
        let metadata = metadata.map_err(|error| failed(doing(), error))?;
        let Some(found) = metadata.topics().first() else { return Ok(None) };
        match found.error().map(RDKafkaErrorCode::from) {
            None => {}
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => return Ok(None),
            Some(code @ (RDKafkaErrorCode::LeaderNotAvailable | RDKafkaErrorCode::NetworkException)) => {
                return Err(Error::transient(format!("{}: {code}", doing())));
            }
            Some(code) => return Err(Error::new(format!("{}: {code}", doing()))),
        }
        let partitions = i32::try_from(found.partitions().len()).unwrap_or(i32::MAX);
        let settings = self.settings(topic).await?;
        let number = |name: &str| settings.get(name).and_then(|value| value.parse::<i64>().ok());
        // Brokers before 3.6 have one limit for both ways.
        let ahead = number("message.timestamp.after.max.ms").or_else(|| number("message.timestamp.difference.max.ms"));
        let takes_times = settings.get("message.timestamp.type").is_none_or(|kind| kind == "CreateTime");
        let bytes = number("max.message.bytes").and_then(|bytes| usize::try_from(bytes).ok());
        Ok(Some(TopicLimits {
            partitions,
            message_bytes: bytes.unwrap_or(DEFAULT_MESSAGE_BYTES),
            is_compacted: settings.get("cleanup.policy").is_some_and(|policy| policy.contains("compact")),
            ahead: ahead.filter(|_| takes_times),
        }))
    }

    /// The settings of a topic. None are known where brokers do not tell them.
    async fn settings(&self, topic: &str) -> Result<BTreeMap<String, String>> {
        let doing = || format!("asking for the settings of the topic `{topic}`");
        let options = AdminOptions::new().request_timeout(Some(WAIT));
        let described = self.admin.describe_configs(&[ResourceSpecifier::Topic(topic)], &options).await;
        let described = described.map_err(|error| match error.rdkafka_error_code() {
            Some(_) => failed(doing(), error),
            None => Error::transient(format!("{}: {error}", doing())),
        })?;
        match described.into_iter().next() {
            Some(Ok(found)) => {
                let settings = found.entries.into_iter();
                Ok(settings.filter_map(|entry| Some((entry.name, entry.value?))).collect())
            }
            Some(Err(RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::ClusterAuthorizationFailed)) => {
                tracing::warn!(
                    "brokers do not tell the settings of `{topic}` (the right `DescribeConfigs`), which are taken to be Kafka's defaults"
                );
                Ok(BTreeMap::new())
            }
            Some(Err(code)) => Err(Error::transient(format!("{}: {code}", doing()))),
            None => Ok(BTreeMap::new()),
        }
    }

    /// Creates a topic, and waits until it is there. Another may have been faster.
    ///
    /// # Errors
    /// If it can't be created.
    pub async fn create(&self, topic: &str, partitions: i32, settings: &[(&str, &str)]) -> Result<()> {
        let doing = || format!("creating the topic `{topic}`");
        let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(-1));
        let new = settings.iter().fold(new, |new, (name, value)| new.set(name, value));
        let options = AdminOptions::new().request_timeout(Some(WAIT)).operation_timeout(Some(WAIT));
        let created = self.admin.create_topics([&new], &options).await;
        let created = created.map_err(|error| Error::transient(format!("{}: {error}", doing())))?;
        for result in created {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((_, code)) => return Err(Error::new(format!("{}: {code}", doing()))),
            }
        }
        let deadline = Instant::now() + PATIENCE;
        while self.look_up(topic).await.ok().flatten().is_none() {
            if Instant::now() > deadline {
                return Err(Error::transient(format!("{}: brokers don't know it yet", doing())));
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Sees that the topic in which it is written down how far outputs have come can be used for that.
    ///
    /// # Errors
    /// If it can't, or is missing.
    pub async fn require_progress(&self, job: &Job) -> Result<()> {
        let topic = &job.progress_topic;
        let compacted = [("cleanup.policy", "compact"), ("segment.bytes", "16777216")];
        let limits = match self.look_up(topic).await? {
            None if job.create_topics => {
                self.create(topic, 1, &compacted).await?;
                self.look_up(topic).await?
            }
            limits => limits,
        };
        let command = |what: &str| format!("`kafka-topics.sh --bootstrap-server {} {what}`", self.brokers);
        match limits {
            None => Err(Error::new(format!(
                "there is no topic `{topic}`, in which it is written down how far each output has come; create it, with {}, or say \
                 `create_topics = true`",
                command(&format!("--create --topic {topic} --partitions 1 --config cleanup.policy=compact"))
            ))),
            Some(limits) if !limits.is_compacted && self.tells_settings(topic).await? => Err(Error::new(format!(
                "the topic `{topic}`, in which it is written down how far each output has come, is not compacted: what it says would \
                 be deleted in time, and rows would be sent twice; set `cleanup.policy=compact`, or name another one in `progress_topic`"
            ))),
            Some(_) => Ok(()),
        }
    }

    async fn tells_settings(&self, topic: &str) -> Result<bool> {
        Ok(!self.settings(topic).await?.is_empty())
    }
}

/// Rows that their topics take.
pub struct Taken {
    pub rows: RecordBatch,
    /// The same as messages, if that was needed to know.
    pub encoded: Option<Encoded>,
}

/// Refuses the rows that their topic does not take, and gives back the others. What is known of the topics of the rows is in the book.
pub fn refuse(
    batch: &Batch,
    job: &Job,
    book: &TopicBook,
    encoder: &mut RowEncoder,
    out: &mut Collector,
) -> Result<Taken> {
    let beside = Beside::new(&job.layout, &batch.rows)?;
    let fixed = job.layout.fixed_topic.as_ref().and_then(|topic| book.get(topic).flatten());
    let least = fixed.as_ref().map_or_else(|| book.least_bytes(), |limits| limits.message_bytes);
    let all_fit = !encoder.may_refuse && bound(&batch.rows).is_some_and(|bound| bound <= least);
    let encoded = if all_fit { None } else { Some(encoder.encode(&batch.rows)?) };
    let now = now_millis();
    let unwritten = encoded.iter().flat_map(Encoded::refused);
    let mut refused: BTreeMap<usize, String> = unwritten.map(|(row, why)| (*row, why.clone())).collect();
    // Most batches have nothing that could be wrong with them.
    let has_columns = beside.topics.is_some()
        || beside.times.is_some()
        || beside.partitions.is_some()
        || beside.headers.is_some()
        || fixed.as_ref().is_some_and(|limits| limits.is_compacted);
    if encoded.is_some() || has_columns {
        for row in 0..batch.len() {
            let limits = match &fixed {
                Some(limits) => Ok(limits.clone()),
                None => limits_of(&beside, row, book),
            };
            let why = limits.and_then(|limits| {
                let bytes = encoded.as_ref().map(|encoded| encoded.bytes(row));
                limits.check(&beside, row, bytes, now)
            });
            if let Err(why) = why {
                refused.entry(row).or_insert(why);
            }
        }
    }
    if refused.is_empty() {
        return Ok(Taken { rows: batch.rows.clone(), encoded });
    }
    let marks: BooleanArray = (0..batch.len()).map(|row| Some(refused.contains_key(&row))).collect();
    let rows = out.fail_rows(batch, &marks, |row| refused.get(&row).cloned().unwrap_or_default())?;
    Ok(Taken { rows, encoded: None })
}

/// The topics that rows name, as far as there can be such.
pub fn topics_of(job: &Job, rows: &RecordBatch) -> Vec<String> {
    let Some(column) = job.layout.topic_column.as_ref().and_then(|name| rows.column_by_name(name)) else {
        return Vec::new();
    };
    let mut topics: Vec<_> = column.as_string::<i32>().iter().flatten().collect();
    topics.sort_unstable();
    topics.dedup();
    topics.into_iter().filter(|topic| is_legal(topic)).map(str::to_owned).collect()
}

/// What the topic of a row takes, where a column says which it is.
fn limits_of(beside: &Beside, row: usize, book: &TopicBook) -> Result<TopicLimits, String> {
    let topic = beside.topic(row).ok_or("it has no topic")?;
    book.get(topic).flatten().ok_or_else(|| {
        if is_legal(topic) {
            format!("there is no topic `{topic}`")
        } else {
            format!("no topic can be called `{topic}`")
        }
    })
}

impl TopicLimits {
    /// Why a row is not taken, if it isn't. `bytes` are those of the message, if they may be too many.
    fn check(&self, beside: &Beside, row: usize, bytes: Option<usize>, now: i64) -> Result<(), String> {
        if let Some(bytes) = bytes.filter(|bytes| bytes + FRAME > self.message_bytes) {
            let most = self.message_bytes.saturating_sub(FRAME);
            return Err(format!(
                "the message has {bytes} bytes, and the topic takes {most} at most (`max.message.bytes`)"
            ));
        }
        if self.is_compacted && !beside.has_key(row) {
            return Err("it has no key, and the topic is compacted".to_owned());
        }
        if let Some(partition) = beside.partition(row).filter(|partition| !(0..self.partitions).contains(partition)) {
            return Err(format!("there is no partition {partition}: the topic has {}", self.partitions));
        }
        if let Some(time) = beside.time(row) {
            // 0 would become the time at which it is sent.
            if time < 1 {
                return Err("Kafka has no place for times before 1970".to_owned());
            }
            if let Some(ahead) = self.ahead.filter(|ahead| time > now.saturating_add(*ahead)) {
                return Err(format!("its time is more than {ahead} ms ahead, which the topic does not take"));
            }
        }
        for (name, _) in beside.headers.iter().flat_map(|headers| headers.of(row)) {
            let Some(name) = name else { return Err("a header has no name".to_owned()) };
            if name.contains('\0') {
                return Err("the name of a header has a 0 in it, which Kafka's client can't send".to_owned());
            }
        }
        Ok(())
    }
}

/// As many bytes as the message of any of these rows has, or more, in any format. None where that takes a closer look.
fn bound(rows: &RecordBatch) -> Option<usize> {
    // A letter of a text may become six, and a number twenty-five; and all may be in the key, too.
    let is_flat = |kind: &DataType| !matches!(kind, DataType::List(_) | DataType::Struct(_));
    let schema = rows.schema_ref();
    if !schema.fields().iter().all(|field| is_flat(field.data_type())) {
        return None;
    }
    let names: usize = schema.fields().iter().map(|field| 6 * field.name().len() + 64).sum();
    Some(2 * (6 * widest_row(rows.columns()) + names) + FRAME)
}

#[expect(clippy::disallowed_methods, reason = "brokers compare it with their own clocks")]
fn now_millis() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}
