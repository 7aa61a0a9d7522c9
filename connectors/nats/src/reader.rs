//! Reads a stream: a task asks for messages, batch by batch, and the input makes rows of them.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, TimeUnit};
use async_nats::jetstream::consumer::pull::Config;
use async_nats::jetstream::consumer::{AckPolicy, Consumer, DeliverPolicy};
use async_nats::jetstream::stream::{Info, Stream};
use async_nats::jetstream::{Context, Message};
use async_trait::async_trait;
use futures::{FutureExt as _, StreamExt as _};
use millstream_core::{
    Batch, Collector, Disturbance, Error, ErrorClass, FailedRow, Figures, Home, Input, Parts, Positions, Progress,
    Report, Result, State,
};
use millstream_formats::{MessageReader, MetadataColumns, Rows, headers_column, headers_type};
use millstream_spool::Pauses;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::input::{Job, OnLost, Start};

/// The piece of state that holds what is kept.
const KEPT: &str = "stream";

/// The one partition.
const PARTITION: &str = "";

/// How many messages are asked for at once, and about how many bytes.
const MESSAGES: usize = 8192;
const BYTES: usize = 16 << 20;

/// How many parcels of messages wait to be decoded.
const PARCELS: usize = 2;

/// How long a server keeps a request for messages that do not come.
const EXPIRES: Duration = Duration::from_secs(5);

/// A server forgets who has not asked for so long.
const INACTIVE: Duration = Duration::from_secs(60);

/// How long servers may take to answer at the beginning of a flow.
const PATIENCE: Duration = Duration::from_secs(30);

/// Something of a message that is not in its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Metadata {
    /// The subject, a `utf8`.
    Subject,
    /// The position in the stream, an `int64`.
    Sequence,
    /// When the server took it, a `timestamp`.
    Timestamp,
    /// The headers, a `list<{ name = utf8, value = binary? }>`.
    Headers,
}

/// A message, and what its server says of it.
pub struct Read {
    message: Message,
    sequence: u64,
    /// In microseconds since 1970.
    taken_at: i64,
    /// How many follow that are wanted.
    pending: u64,
}

impl millstream_formats::Metadata for Metadata {
    type Message<'a> = &'a Read;

    fn field(self, name: &str) -> Field {
        let data_type = match self {
            Self::Subject => DataType::Utf8,
            Self::Sequence => DataType::Int64,
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Headers => headers_type(),
        };
        Field::new(name, data_type, false)
    }

    fn column(self, messages: &[&Read]) -> ArrayRef {
        let all = messages.iter();
        match self {
            Self::Subject => Arc::new(StringArray::from_iter_values(all.map(|read| read.message.subject.as_str()))),
            Self::Sequence => Arc::new(Int64Array::from_iter_values(all.map(|read| read.sequence as i64))),
            Self::Timestamp => {
                let times = TimestampMicrosecondArray::from_iter_values(all.map(|read| read.taken_at));
                Arc::new(times.with_timezone("UTC"))
            }
            Self::Headers => headers_column(all.map(|read| {
                let all = read.message.headers.iter().flat_map(|headers| headers.iter());
                let mut headers: Vec<_> = all.map(|(name, values)| (name.to_string(), values)).collect();
                // They come in the order of a hash table.
                headers.sort_by(|one, other| one.0.cmp(&other.0));
                headers.into_iter().flat_map(|(name, values)| {
                    values.iter().map(move |value| (name.clone(), Some(value.as_str().as_bytes())))
                })
            })),
        }
    }
}

/// What a flow keeps of a stream, beside its position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    /// When the stream was made, in nanoseconds since 1970.
    created: i128,
    /// Where the flow has begun it, for one that has had no rows.
    begin: u64,
    /// Where it ends, for a flow that does.
    end: Option<u64>,
}

/// Reads a stream.
pub struct NatsInput {
    source: Arc<str>,
    job: Arc<Job>,
    values: Box<dyn MessageReader>,
    metadata: MetadataColumns<Metadata>,
    kept: Option<Kept>,
    /// The next position, if a run before has had rows.
    position: Option<u64>,
    /// How many messages follow, as of the last one.
    behind: u64,
    disturbance: Disturbance,
    running: Option<Running>,
}

/// What there is between `open` and the end.
struct Running {
    parcels: mpsc::Receiver<Result<Vec<Read>>>,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl NatsInput {
    pub fn new(
        source: Arc<str>,
        job: Job,
        values: Box<dyn MessageReader>,
        metadata: MetadataColumns<Metadata>,
    ) -> Self {
        Self {
            source,
            job: job.into(),
            values,
            metadata,
            kept: None,
            position: None,
            behind: 0,
            disturbance: Disturbance::default(),
            running: None,
        }
    }

    /// Messages become rows.
    fn take(&mut self, parcel: &[Read], out: &mut Collector) -> Result<()> {
        let value = |read: &Read| (!read.message.payload.is_empty()).then(|| read.message.payload.clone());
        let payloads: Vec<_> = parcel.iter().map(value).collect();
        let values: Vec<_> = payloads.iter().map(|payload| payload.as_deref()).collect();
        let mut rows = Rows::default();
        self.values.decode(&values, &mut rows)?;
        self.metadata.add_to(&mut rows, &parcel.iter().collect::<Vec<_>>())?;
        let partition = PARTITION.into();
        for bad in rows.failed {
            let (source, partition) = (self.source.clone(), Arc::clone(&partition));
            let position = Some(parcel[bad.position as usize].sequence);
            let (error, row, encoding) = (bad.error, bad.row, bad.encoding);
            out.fail(FailedRow { error, source, partition, position, line: None, row, encoding });
        }
        for (start, rows) in rows.batches {
            let positions = parcel[start as usize..][..rows.num_rows()].iter().map(|read| read.sequence);
            out.push(0, Batch::at(rows, &self.source, &partition, positions));
        }
        self.behind = parcel.last().map_or(0, |last| last.pending);
        Ok(())
    }
}

impl Job {
    /// Where a flow begins that has not read the stream before.
    fn begin(&self, info: &Info) -> Kept {
        let state = &info.state;
        let begin = match self.start {
            Start::Earliest => state.first_sequence.max(1),
            Start::Latest => state.last_sequence + 1,
        };
        Kept { created: created(info), begin, end: self.bounded.then_some(state.last_sequence) }
    }

    /// Checks that a stream is the one that was begun, and has what comes next. Returns that.
    fn check(&self, info: &Info, kept: &Kept, next: u64) -> Result<u64> {
        let (name, state) = (&self.stream, &info.state);
        if created(info) != kept.created {
            return Err(Error::new(format!(
                "the stream `{name}` was deleted and made again: its messages are others than those that the flow has read. `--reset` of \
                 the node begins with the new ones"
            )));
        }
        if state.last_sequence + 1 < next {
            return Err(Error::new(format!(
                "the stream `{name}` ends with message {}, and the flow has read up to {}: servers have lost its end, and what comes there now \
                 are other messages. `--reset` of the node begins it again",
                state.last_sequence,
                next - 1
            )));
        }
        // What was left out may be missing.
        if !self.subjects.is_empty() || state.first_sequence <= next {
            return Ok(next);
        }
        let (first, last) = (next, state.first_sequence - 1);
        let lost = format!("messages {first} to {last} of the stream `{name}` were deleted before they were read");
        match self.on_lost {
            OnLost::Fail => Err(Error::new(format!(
                "{lost}; `on_lost = \"earliest\"` goes on without them, and the stream should keep messages for longer"
            ))),
            OnLost::Earliest => {
                tracing::warn!("{lost}");
                Ok(state.first_sequence)
            }
        }
    }

    /// Asks for messages from a position on.
    async fn consumer(&self, stream: &Stream, next: u64) -> Result<Consumer<Config>> {
        let mut config = Config {
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: next.max(1) },
            ack_policy: AckPolicy::None,
            inactive_threshold: INACTIVE,
            memory_storage: true,
            num_replicas: 1,
            ..Config::default()
        };
        match self.subjects.as_slice() {
            [one] => config.filter_subject = one.clone(),
            several => config.filter_subjects = several.to_vec(),
        }
        let made = stream.create_consumer(config).await;
        made.map_err(|error| self.servers.failed(&format!("asking for messages of `{}`", self.stream), &error))
    }
}

fn created(info: &Info) -> i128 {
    info.created.unix_timestamp_nanos()
}

/// Reads parcel after parcel.
struct Following {
    job: Arc<Job>,
    kept: Kept,
    next: u64,
    parcels: mpsc::Sender<Result<Vec<Read>>>,
    disturbance: Disturbance,
}

impl Following {
    async fn follow(mut self, first: (Context, Stream)) {
        let mut pauses = Pauses::told(self.disturbance.clone());
        let mut connected = Some(first);
        loop {
            match self.read(connected.take(), &mut pauses).await {
                Err(error) if error.class() == ErrorClass::Transient => pauses.wait(&error).await,
                Err(error) => return drop(self.parcels.send(Err(error)).await),
                Ok(()) => return,
            }
        }
    }

    /// Whether nothing is wanted any more, of a stream in which so many messages follow that are.
    fn has_ended(&self, pending: u64) -> bool {
        self.kept.end.is_some_and(|end| self.next > end || pending == 0)
    }

    /// Reads until the end, or until nobody takes what is read.
    async fn read(&mut self, connected: Option<(Context, Stream)>, pauses: &mut Pauses) -> Result<()> {
        let (context, stream) = match connected {
            Some(connected) => connected,
            None => self.job.servers.connect(&self.job.stream).await?,
        };
        self.next = self.job.check(stream.cached_info(), &self.kept, self.next)?;
        let consumer = self.job.consumer(&stream, self.next).await?;
        // Messages may be long in coming.
        self.disturbance.note(None);
        if self.has_ended(consumer.cached_info().num_pending) {
            return Ok(());
        }
        let largest = BYTES.max(context.client().server_info().max_payload + 4096);
        let mut delivered = 0;
        loop {
            let asked = consumer.batch().max_messages(MESSAGES).max_bytes(largest).expires(EXPIRES).messages().await;
            let mut batch = asked.map_err(|error| self.failed(&error))?;
            while let Some(first) = batch.next().await {
                let mut parcel = vec![self.take(first, &mut delivered)?];
                while let Some(Some(next)) = batch.next().now_or_never() {
                    parcel.push(self.take(next, &mut delivered)?);
                }
                self.look_behind(&parcel, &stream).await?;
                let pending = parcel.last().map_or(0, |last| last.pending);
                if let Some(end) = self.kept.end {
                    parcel.retain(|read| read.sequence <= end);
                }
                pauses.end();
                if self.parcels.send(Ok(parcel)).await.is_err() || self.has_ended(pending) {
                    return Ok(());
                }
            }
        }
    }

    /// A message, which has to be the next one that is delivered.
    fn take(&self, message: Result<Message, async_nats::Error>, delivered: &mut u64) -> Result<Read> {
        let message = message.map_err(|error| self.failed(&*error))?;
        let info = message.info().map_err(|error| self.failed(&*error))?;
        if info.consumer_sequence != *delivered + 1 {
            return Err(Error::transient("messages were lost on their way"));
        }
        *delivered += 1;
        let taken_at = i64::try_from(info.published.unix_timestamp_nanos().div_euclid(1000)).unwrap_or_default();
        let (sequence, pending) = (info.stream_sequence, info.pending);
        Ok(Read { sequence, taken_at, pending, message })
    }

    /// Sees whether messages are missing that were deleted before they were read.
    async fn look_behind(&mut self, parcel: &[Read], stream: &Stream) -> Result<()> {
        let Some((first, last)) = parcel.first().zip(parcel.last()) else { return Ok(()) };
        if first.sequence > self.next && self.job.subjects.is_empty() {
            let info = stream.get_info().await.map_err(|error| self.failed(&error))?;
            // Those that were deleted one by one are not meant to be read.
            let oldest = info.state.first_sequence.min(first.sequence);
            if oldest > self.next {
                self.job.check(&info, &self.kept, self.next)?;
            }
        }
        self.next = last.sequence + 1;
        Ok(())
    }

    fn failed(&self, error: &(dyn std::error::Error + 'static)) -> Error {
        self.job.servers.failed(&format!("reading the stream `{}`", self.job.stream), error)
    }
}

#[async_trait]
impl Input for NatsInput {
    async fn open(&mut self, _: &Home) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut pauses = Pauses::default();
        let connected = loop {
            match self.job.servers.connect(&self.job.stream).await {
                Err(error) if error.class() == ErrorClass::Transient && Instant::now() < deadline => {
                    pauses.wait(&error).await;
                }
                connected => break connected?,
            }
        };
        let info = connected.1.cached_info();
        let kept = self.kept.get_or_insert_with(|| self.job.begin(info)).clone();
        let next = self.position.unwrap_or(kept.begin);
        self.job.check(info, &kept, next)?;
        let (parcels, received) = mpsc::channel(PARCELS);
        let (job, disturbance) = (self.job.clone(), self.disturbance.clone());
        let following = Following { job, kept, next, parcels, disturbance };
        self.running =
            Some(Running { parcels: received, task: tokio::spawn(following.follow(connected).in_current_span()) });
        Ok(())
    }

    async fn next(&mut self, out: &mut Collector) -> Result<Progress> {
        let running = self.running.as_mut().ok_or_else(|| Error::new("the input is not open"))?;
        match running.parcels.recv().await {
            Some(parcel) => self.take(&parcel?, out)?,
            None if self.job.bounded => return Ok(Progress::End),
            None => return Err(Error::new("what reads the stream has ended")),
        }
        Ok(Progress::More)
    }

    fn snapshot(&mut self, _: &Positions) -> Result<Parts> {
        let mut parts = Parts::default();
        parts.put(KEPT, &self.kept)?;
        Ok(parts)
    }

    fn restore(&mut self, positions: &Positions, state: &State) -> Result<()> {
        // Nothing if the flow was stopped before the input had begun.
        self.kept = if state.has(KEPT) { state.get(KEPT)? } else { None };
        self.position = positions.get(PARTITION).copied();
        Ok(())
    }

    fn report(&self) -> Option<Report> {
        let mut values = vec![("lag", json!(self.behind))];
        values.extend(self.disturbance.figure());
        Some(Report::Figures(Figures { title: "stream of NATS".to_owned(), values }))
    }
}
