//! How far outputs have come: marks in a compacted topic, each written in the transaction of the rows that it tells of.
//!
//! Who comes to the rows begins with transactions, which ends those of others for good, and then reads the mark up to where the topic
//! ends at that moment. What it says is true from then on, until it commits another one, or others begin in turn.

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

/// The last mark, as of now. `seen` is how far the topic has been read before.
///
/// # Errors
/// If marks don't come in time: another output may have a transaction open. Or if they can't be read.
pub fn read_mark(job: &Job, seen: &mut i64) -> Result<Option<Mark>> {
    let mut reader = Reader::connect(job)?;
    if reader.end < *seen {
        return Err(lost(job, "it ends before what was read of it"));
    }
    let mark = reader.read(job)?;
    *seen = reader.next;
    Ok(mark)
}

/// Reads marks.
struct Reader {
    queue: Queue,
    /// Of what is committed.
    consumer: Arc<Consumer>,
    /// The next position.
    next: i64,
    /// Where the topic has ended when the reader was made.
    end: i64,
}

impl Reader {
    /// Connects, and begins with the topic's first message.
    fn connect(job: &Job) -> Result<Self> {
        let topic = &job.progress_topic;
        // Of all that there is: it says where the topic ends, though the transaction of another output may be open there.
        let ends = |consumer: &Arc<Consumer>| ends(consumer, topic);
        let (_, (first, end)) = Consumer::connect(&config(job, "read_uncommitted"), &job.brokers, ends)?;
        let (consumer, ()) = Consumer::connect(&config(job, "read_committed"), &job.brokers, |_| Ok(()))?;
        let queue = Queue::new(&consumer);
        queue.receive(topic, 0);
        let of = TopicPartition { topic: topic.clone(), number: 0 };
        assign(&consumer, &[Assigned::new(of, u64::try_from(first).unwrap_or_default(), None)])?;
        Ok(Self { queue, consumer, next: first, end })
    }

    /// Reads all marks, up to where the topic ends.
    #[expect(clippy::disallowed_methods, reason = "brokers take real time")]
    fn read(&mut self, job: &Job) -> Result<Option<Mark>> {
        let topic = &job.progress_topic;
        let deadline = Instant::now() + PATIENCE;
        let mut mark = None;
        // By position: behind the last message there may be others, which librdkafka does not show.
        while self.next < self.end {
            self.consumer.serve();
            for message in self.queue.take(POLL, PARCEL).iter() {
                match message.error() {
                    None => {
                        self.next = message.offset() + 1;
                        if message.key() == Some(job.transactional_id.as_bytes()) {
                            mark = message.value().map(decode).transpose()?;
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
                    )) => return Err(lost(job, &said)),
                    Some((_, said)) => {
                        return Err(Error::transient(format!("reading the topic `{topic}`: {said}")));
                    }
                }
            }
            if Instant::now() > deadline {
                let why = self.consumer.context().trouble().map_or_else(
                    || "the transaction of another output is open in it, or brokers do not answer".to_owned(),
                    |trouble| trouble.reason,
                );
                return Err(Error::transient(format!("reading the topic `{topic}` to its end: {why}")));
            }
        }
        Ok(mark)
    }
}

/// The topic is not what it was.
pub fn lost(job: &Job, said: &str) -> Error {
    Error::new(format!(
        "the topic `{}`, in which it is written down how far the output has come, was deleted, or has lost its end ({said}): whether \
         the rows of the last checkpoint are in their topic can't be told. Look there; a run that is begun now sends them",
        job.progress_topic
    ))
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

fn decode(bytes: &[u8]) -> Result<Mark> {
    serde_json::from_slice(bytes).doing(|| "reading how far the output has come, which another build may have written")
}
