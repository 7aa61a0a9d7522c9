//! Sends what checkpoints have decided, each row once.
//!
//! Each row has an id, of the state, the node, the checkpoint and its number, which a server refuses that has had it within the stream's
//! `duplicate_window`. Every some thousand rows a mark says how far the output has come, and which message of the stream it was. A connection
//! that is new, behind a crash or an error, reads what lies behind that message: rows that are there are not sent again, however long ago
//! they were. What of an old connection arrives after that, the ids refuse. The marks of a run without state are nobody else's business, and
//! stay in memory.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::consumer::pull::Config;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::Stream;
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use millstream_core::{CommitContext, Committer, Error, PendingCommit, Result, ResultExt as _};
use millstream_messages::{Destination, Messages, RowEncoder, Stages};
use millstream_spool::{Mark, PartLimits, Spooled, Standing};
use millstream_store::crash;
use tokio::time::Instant;

use crate::output::Job;
use crate::progress::{NotWritten, Place, Progress};

/// How many rows are sent between two marks, and how many bytes: as much may have to be looked through behind a crash.
const PART: PartLimits = PartLimits { rows: 20_000, bytes: 16 << 20 };

/// How many messages are sent before they are waited for.
const CHUNK: usize = 1000;

/// How many messages are looked through at once.
const BATCH: usize = 8192;

/// How long a server may take to send one.
const WAIT: Duration = Duration::from_secs(10);

/// A mark that was read so long ago is read again before anything is sent, in case the process was stopped meanwhile.
const FRESH: Duration = Duration::from_secs(10);

/// Commits what the output has staged.
pub struct NatsCommitter {
    job: Arc<Job>,
    stages: Stages,
    encoder: Option<RowEncoder>,
    session: Option<Session>,
    /// Whether marks of this state have been read or written by this process.
    is_ours: bool,
    /// The last mark of a run without state.
    unkept: Option<Place>,
}

/// A connection, and what is known of the stream.
struct Session {
    context: Context,
    stream: Stream,
    progress: Progress,
    /// Whether rows may be in the stream that no mark speaks of.
    is_unsure: bool,
    read_at: Instant,
}

impl NatsCommitter {
    pub fn new(job: Arc<Job>, stages: Stages) -> Self {
        Self { job, stages, encoder: None, session: None, is_ours: false, unkept: None }
    }

    async fn session(&mut self, of: &CommitContext) -> Result<Session> {
        if let Some(session) = self.session.take() {
            return Ok(session);
        }
        let (context, stream) = self.job.servers.connect(&self.job.stream).await?;
        let progress = if of.generation == 0 {
            Progress::unkept(&self.job.servers, self.unkept.clone())
        } else {
            let key = format!("{}/{}", of.flow, of.node);
            Progress::open(&self.job.servers, &context, &self.job.progress_bucket, &key).await?
        };
        Ok(Session { context, stream, progress, is_unsure: true, read_at: Instant::now() })
    }

    /// Sends all of a stage that is not there yet.
    async fn send_stage(&mut self, pending: &PendingCommit) -> Result<()> {
        let spooled = Spooled::of(pending, &self.stages.unnamed)?;
        if spooled.rows() == 0 {
            return Ok(());
        }
        let of = self.named(&pending.context);
        let mut session = self.session(&of).await?;
        let sent = self.send_parts(&mut session, &spooled, &of).await;
        self.stages.sent.note(sent.as_ref().err());
        // What was sent over a connection on which something has gone wrong is found out by the next one.
        sent.map(|()| self.session = Some(session))
    }

    /// The context with the name of the run, so that ids of a run without state are others than those of the next one.
    fn named(&self, of: &CommitContext) -> CommitContext {
        let mut named = of.clone();
        if let Some(incarnation) = self.stages.incarnation.get().filter(|_| named.incarnation.is_empty()) {
            named.incarnation.clone_from(incarnation);
        }
        named
    }

    async fn send_parts(&mut self, session: &mut Session, spooled: &Spooled, of: &CommitContext) -> Result<()> {
        let Some(begun) = self.begin(session, of).await? else { return Ok(()) };
        let there = self.job.find_sent(session, of).await?;
        let mut parts = spooled.parts(begun, PART);
        let mut at = begun;
        let mut last_sequence = session.progress.place().map_or(0, |place| place.sequence);
        let mut encoder = match self.encoder.take() {
            Some(encoder) => encoder,
            None => self.stages.layout.encoder(&self.stages.schema)?,
        };
        while let Some(piece) = parts.next_piece()? {
            if session.read_at.elapsed() > FRESH && self.begin(session, of).await?.is_none() {
                return Ok(());
            }
            let messages = encoder.encode(&piece.rows)?;
            let sent = self.job.send(&session.context, &messages, Some((of, at)), &there).await?;
            last_sequence = last_sequence.max(sent);
            self.stages.sent.add(messages.len() as u64);
            at = piece.until;
            crash::point("nats-rows-sent");
            if piece.ends_part {
                let place = Place { mark: mark(of, of.checkpoint, at, piece.is_last), sequence: last_sequence };
                self.note(session, place).await?;
                crash::point("nats-marked");
            }
        }
        session.is_unsure = false;
        self.encoder = Some(encoder);
        Ok(())
    }

    /// How many rows of a stage the mark says are sent. None if all are.
    async fn begin(&mut self, session: &mut Session, of: &CommitContext) -> Result<Option<u64>> {
        if session.read_at.elapsed() > FRESH {
            session.progress.read().await?;
            session.read_at = Instant::now();
        }
        let known = session.progress.place().map(|place| &place.mark);
        match Mark::standing(known, of, self.is_ours) {
            Standing::Done => return Ok(None),
            Standing::TakenOver(by) => return Err(self.taken_over(&by)),
            Standing::Begun(rows) if known.is_some_and(|mark| mark.incarnation == of.incarnation) => {
                self.is_ours = true;
                return Ok(Some(rows));
            }
            Standing::Begun(_) => {}
        }
        // Nothing of this state was sent yet, and what will be lies behind what is there.
        let sequence = last_sequence_of(&session.stream, &self.job).await?;
        self.note(session, Place { mark: mark(of, 0, 0, false), sequence }).await?;
        Ok(Some(0))
    }

    async fn note(&mut self, session: &mut Session, place: Place) -> Result<()> {
        match session.progress.write(place).await {
            Ok(()) => {
                (self.is_ours, session.read_at) = (true, Instant::now());
                self.unkept = session.progress.place().cloned();
                Ok(())
            }
            Err(NotWritten::Failed(error)) => Err(error),
            // The next try reads what it says.
            Err(NotWritten::Overtaken) => Err(Error::transient("another run has noted how far the output has come")),
        }
    }

    /// Notes that this run goes on, so that those before it can't any more.
    async fn claim(&mut self, of: &CommitContext) -> Result<()> {
        let mut session = self.session(of).await?;
        self.begin(&mut session, of).await?;
        let Some(place) = session.progress.place().cloned() else { return Ok(()) };
        if place.mark.generation > of.generation {
            return Err(self.taken_over("a later run"));
        }
        if place.mark.generation < of.generation {
            let mark = Mark { generation: of.generation, ..place.mark };
            self.note(&mut session, Place { mark, sequence: place.sequence }).await?;
        }
        self.session = Some(session);
        Ok(())
    }

    fn taken_over(&self, by: &str) -> Error {
        Error::new(format!(
            "{by} has taken the output over, by what the bucket `{}` says: nothing more of this run is sent, and what is still to be sent is that \
             run's to send",
            self.job.progress_bucket
        ))
    }
}

fn mark(of: &CommitContext, checkpoint: u64, rows: u64, last: bool) -> Mark {
    Mark { incarnation: of.incarnation.clone(), generation: of.generation, checkpoint, rows, last }
}

async fn last_sequence_of(stream: &Stream, job: &Job) -> Result<u64> {
    let info = stream.get_info().await;
    info.map(|info| info.state.last_sequence).map_err(|error| job.servers.failed("asking for the stream", &error))
}

/// What the ids of rows of a stage begin with. The number of the row follows.
fn id_of(of: &CommitContext) -> String {
    format!("{}/{}/{}/", of.incarnation, of.node, of.checkpoint)
}

impl Job {
    /// Sends messages, and waits until they are in the stream. Returns the last place there. Rows of a stage, of which so many lie before
    /// these, get ids, and those that are there already are left out.
    pub async fn send(
        &self,
        context: &Context,
        messages: &Messages<'_>,
        stage: Option<(&CommitContext, u64)>,
        there: &HashSet<u64>,
    ) -> Result<u64> {
        let failed = |error: &(dyn std::error::Error + 'static)| {
            self.servers.failed(&format!("sending to the stream `{}`", self.stream), error)
        };
        let id = stage.map(|(of, _)| id_of(of));
        let first = stage.map_or(0, |(_, first)| first);
        let mut last = 0;
        for start in (0..messages.len()).step_by(CHUNK) {
            let mut waiting = Vec::with_capacity(CHUNK);
            for row in start..(start + CHUNK).min(messages.len()) {
                let number = first + row as u64;
                if there.contains(&number) {
                    continue;
                }
                let to = messages.to(row).ok_or_else(|| Error::new("a row that was staged has no subject"))?;
                let mut message = PublishMessage::build().payload(Bytes::copy_from_slice(messages.value(row)));
                message = message.expected_stream(&self.stream);
                if let Some(id) = &id {
                    message = message.message_id(format!("{id}{number}"));
                }
                let sent = context.send_publish(to.to_owned(), message).await;
                waiting.push(sent.map_err(|error| failed(&error))?);
            }
            for answer in waiting {
                let answer = answer.await.map_err(|error| failed(&error))?;
                last = last.max(answer.sequence);
            }
        }
        Ok(last)
    }

    /// The numbers of the rows of a stage that are in the stream though no mark says so.
    async fn find_sent(&self, session: &Session, of: &CommitContext) -> Result<HashSet<u64>> {
        let mut found = HashSet::new();
        let Some(place) = session.progress.place().filter(|_| session.is_unsure) else { return Ok(found) };
        let end = last_sequence_of(&session.stream, self).await?;
        if end <= place.sequence {
            return Ok(found);
        }
        let failed = |error: &(dyn std::error::Error + 'static)| {
            self.servers.failed(&format!("looking for what was sent to the stream `{}`", self.stream), error)
        };
        let config = Config {
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: place.sequence + 1 },
            ack_policy: AckPolicy::None,
            headers_only: true,
            filter_subject: match &self.subject {
                Destination::Name(subject) => subject.clone(),
                Destination::Column(_) => String::new(),
            },
            memory_storage: true,
            num_replicas: 1,
            ..Config::default()
        };
        let consumer = session.stream.create_consumer(config).await.map_err(|error| failed(&error))?;
        let mut pending = consumer.cached_info().num_pending;
        let id = id_of(of);
        while pending > 0 {
            let asked = consumer.batch().max_messages(BATCH).expires(WAIT).messages().await;
            let mut batch = asked.map_err(|error| failed(&error))?;
            let before = pending;
            while let Some(message) = batch.next().await {
                let message = message.map_err(|error| failed(&*error))?;
                let info = message.info().map_err(|error| failed(&*error))?;
                pending = if info.stream_sequence >= end { 0 } else { info.pending };
                let known =
                    message.headers.as_ref().and_then(|headers| headers.get(async_nats::header::NATS_MESSAGE_ID));
                found.extend(known.and_then(|known| known.as_str().strip_prefix(&id)?.parse::<u64>().ok()));
                if pending == 0 {
                    break;
                }
            }
            if pending == before {
                return Err(Error::transient("the server does not send what lies in the stream"));
            }
        }
        Ok(found)
    }
}

#[async_trait]
impl Committer for NatsCommitter {
    async fn commit(&mut self, pending: &PendingCommit) -> Result<()> {
        self.send_stage(pending).await.doing(|| "committing to NATS")
    }

    async fn recover(&mut self, pending: &[PendingCommit], context: &CommitContext) -> Result<()> {
        for stage in pending {
            self.commit(stage).await?;
        }
        self.claim(context).await
    }

    async fn committed(&mut self, pending: &PendingCommit) -> Result<()> {
        Spooled::of(pending, &self.stages.unnamed)?.remove()
    }
}
