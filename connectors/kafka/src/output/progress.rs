//! How far outputs have come: marks in a compacted topic, each written in the transaction of the rows that it tells of.
//!
//! Who comes to the rows begins with transactions, which ends those of others for good, and then reads the mark up to where the topic
//! ends at that moment. What it says is true from then on, until others begin in turn.

use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_core::{Error, Result, ResultExt};
use millstream_spool::Mark;
use rdkafka::consumer::Consumer as _;
use rdkafka::types::RDKafkaErrorCode;

use super::Job;
use crate::client::{ClientOptions, Consumer, failed};
use crate::input::partition::Assigned;
use crate::input::poller::assign;
use crate::native::Queue;
use crate::topics::TopicPartition;

/// How long to wait for one answer of a broker, and for all that the topic has.
const WAIT: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(30);

/// How long to wait for messages before it is looked whether all have come.
const POLL: Duration = Duration::from_millis(50);

/// How many are taken at once.
const PARCEL: usize = 4096;

/// Reads marks.
pub struct Progress {
    topic: String,
    key: String,
    queue: Queue,
    /// Of what is committed.
    reader: Arc<Consumer>,
    /// Of all that there is: it says where the topic ends, though the transaction of another output may be open there.
    asker: Arc<Consumer>,
    /// The next position.
    next: i64,
    mark: Option<Mark>,
}

impl Progress {
    /// Connects, and begins with the topic's first message.
    ///
    /// # Errors
    /// If no broker answers.
    pub fn connect(job: &Job) -> Result<Self> {
        let topic = job.progress_topic.clone();
        let ends = |consumer: &Arc<Consumer>| ends(consumer, &topic);
        let (asker, (first, _)) = Consumer::connect(&config(job, "read_uncommitted"), &job.brokers, ends)?;
        let (reader, ()) = Consumer::connect(&config(job, "read_committed"), &job.brokers, |_| Ok(()))?;
        let queue = Queue::new(&reader);
        queue.receive(&topic, 0);
        let of = TopicPartition { topic: topic.clone(), number: 0 };
        assign(&reader, &[Assigned::new(of, u64::try_from(first).unwrap_or_default(), None)])?;
        Ok(Self { topic, key: job.transactional_id.clone(), queue, reader, asker, next: first, mark: None })
    }

    /// The last mark, as of the last time that marks were read.
    pub fn mark(&self) -> Option<&Mark> {
        self.mark.as_ref()
    }

    /// Reads all marks up to where the topic ends now.
    ///
    /// # Errors
    /// If they don't come in time: another output may have a transaction open. Or if they can't be read.
    #[expect(clippy::disallowed_methods, reason = "brokers take real time")]
    pub fn read(&mut self) -> Result<()> {
        let (_, end) = ends(&self.asker, &self.topic)?;
        if end < self.next {
            return Err(self.lost("it ends before what was read of it"));
        }
        let deadline = Instant::now() + PATIENCE;
        // By position: behind the last message there may be others, which librdkafka does not show.
        while self.next < end {
            self.reader.serve();
            for message in self.queue.take(POLL, PARCEL).iter() {
                match message.error() {
                    None => {
                        self.next = message.offset() + 1;
                        if message.key() == Some(self.key.as_bytes()) {
                            self.mark = message.value().map(read_mark).transpose()?;
                        }
                    }
                    // Nothing lies before the place at which it ends for now.
                    Some((RDKafkaErrorCode::PartitionEOF, _)) => self.next = self.next.max(message.offset()),
                    Some((
                        RDKafkaErrorCode::AutoOffsetReset
                        | RDKafkaErrorCode::OffsetOutOfRange
                        | RDKafkaErrorCode::UnknownTopicOrPartition
                        | RDKafkaErrorCode::UnknownPartition
                        | RDKafkaErrorCode::UnknownTopic
                        | RDKafkaErrorCode::LogTruncation,
                        said,
                    )) => return Err(self.lost(&said)),
                    Some((_, said)) => {
                        return Err(Error::transient(format!("reading the topic `{}`: {said}", self.topic)));
                    }
                }
            }
            if Instant::now() > deadline {
                let why = self.reader.context().trouble().map_or_else(
                    || "the transaction of another output is open in it, or brokers do not answer".to_owned(),
                    |trouble| trouble.reason,
                );
                return Err(Error::transient(format!("reading the topic `{}` to its end: {why}", self.topic)));
            }
        }
        self.reader.context().is_well();
        Ok(())
    }

    /// The topic is not what it was.
    fn lost(&self, said: &str) -> Error {
        Error::new(format!(
            "the topic `{}`, in which it is written down how far the output has come, was deleted, or has lost its end ({said}): whether \
             the rows of the last checkpoint are in their topic can't be told. Look there; a run that is begun now sends them",
            self.topic
        ))
    }
}

/// Where the topic begins and ends.
fn ends(consumer: &Consumer, topic: &str) -> Result<(i64, i64)> {
    consumer.serve();
    let asked = consumer.fetch_watermarks(topic, 0, WAIT);
    asked.map_err(|error| failed(format!("asking where the topic `{topic}` ends"), error))
}

fn config(job: &Job, isolation: &str) -> ClientOptions {
    let mut config = job.beside.clone();
    config.set("group.id", &job.transactional_id).set("enable.auto.commit", "false");
    config.set("enable.auto.offset.store", "false").set("auto.offset.reset", "error");
    config.set("isolation.level", isolation).set("enable.partition.eof", "true").set("check.crcs", "true");
    config.set("allow.auto.create.topics", "false").set("fetch.wait.max.ms", "50").set("fetch.queue.backoff.ms", "1");
    config
}

fn read_mark(bytes: &[u8]) -> Result<Mark> {
    serde_json::from_slice(bytes).doing(|| "reading how far the output has come, which another build may have written")
}
