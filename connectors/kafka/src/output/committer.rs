//! Sends what checkpoints have decided, each row once.
//!
//! A producer begins with transactions, by which all others of its id are ended and fenced, and then the mark is read. From then on it is true
//! until this producer commits another one, since whoever else wants to has to begin first, which fences this one. So it is read once, and
//! a producer makes one transaction after the other.
//!
//! It does so as long as each of its requests was answered. One that was not, because a connection was lost or the time was over, may still be on
//! its way; a commit that comes late would end the transaction which is open then, in the midst of its rows. So the producer is let go, though
//! librdkafka may have asked again and had an answer, and another one begins: what is late is of a producer that is fenced. The same holds for
//! what brokers ask each other to write, which may be late if one of them was away; and then connections to it were lost here as well.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use millstream_core::{CommitContext, Committer, Error, PendingCommit, Result, ResultExt};
use millstream_spool::{Mark, Spooled, Standing, Unnamed};
use millstream_store::crash;

use super::limits::{Broker, TopicBook, ask, topics_of};
use super::pieces::{AHEAD, EncodedPiece, PieceEncoder};
use super::producer::{LetGo, Producer, SendError, WAIT};
use super::progress::{lost, read_mark};
use super::rows::{Prefixes, RowFormat};
use super::writer::{PREFIXES, Sent};
use super::{Job, QUEUE_KBYTES};
use crate::native::Outgoing;

/// How often another producer may take this one's place before that is waited for.
const FENCED: usize = 3;

/// What a batch of messages has at most. Topics that take less get smaller ones.
const BATCH_BYTES: usize = 1_000_000;

/// So many batches of each partition may wait in librdkafka: one that is under way, one that follows it, and one that is filled meanwhile. With more, it
/// would be busy with looking whether it can send them. All partitions together have no more than so many kilobytes.
const BATCHES: usize = 3;
const MOST_KBYTES: usize = 65_536;

/// A transaction ends when it has been open for so long, long before brokers would end it.
const LONGEST: Duration = Duration::from_secs(15);

/// Commits what the output has staged.
pub struct KafkaCommitter {
    job: Arc<Job>,
    format: RowFormat,
    unnamed: Unnamed,
    book: TopicBook,
    sent: Arc<Sent>,
    /// Whether it was seen that the topics are there.
    has_looked: bool,
    /// As far as the topic of marks has been read.
    seen: i64,
    ready: Option<Ready>,
    /// Whether marks of this state have been read or written by this process.
    is_ours: bool,
    encoder: Option<PieceEncoder>,
    let_go: LetGo,
}

/// A producer that has begun with transactions, and the mark as it is.
struct Ready {
    producer: Producer,
    batch_bytes: usize,
    mark: Option<Mark>,
}

/// A stage that is to be sent.
struct Stage<'a> {
    spooled: &'a Spooled,
    prefixes: &'a Prefixes,
    of: &'a CommitContext,
}

impl SendError {
    pub fn into_error(self) -> Error {
        match self {
            Self::Other(error) => error,
            Self::Fenced => Error::transient(
                "another producer is at work with the same `transactional_id`: another run of the flow, or another flow of its name",
            ),
        }
    }
}

impl KafkaCommitter {
    pub fn new(job: Arc<Job>, format: RowFormat, unnamed: Unnamed, book: TopicBook, sent: Arc<Sent>) -> Self {
        Self {
            job,
            format,
            unnamed,
            book,
            sent,
            has_looked: false,
            seen: 0,
            ready: None,
            is_ours: false,
            encoder: None,
            let_go: LetGo::default(),
        }
    }

    /// Sees once that the topics are there.
    async fn look(&mut self) -> Result<()> {
        if self.has_looked {
            return Ok(());
        }
        let job = self.job.clone();
        ask(move || async move { Broker::connect(&job.beside, &job.brokers).await?.require_progress(&job).await })
            .await?;
        self.book.require(&self.job).await?;
        self.has_looked = true;
        Ok(())
    }

    /// A producer that is ready.
    fn ready(&mut self) -> Result<Ready> {
        // So that all topics take its batches.
        let batch_bytes = BATCH_BYTES.min(self.book.least_bytes().saturating_sub(128)).max(1);
        match self.ready.take() {
            Some(ready) if ready.batch_bytes == batch_bytes => return Ok(ready),
            Some(ready) => self.let_go.add(ready.producer),
            None => {}
        }
        let mut config = self.job.producer.clone();
        config.set("batch.size", batch_bytes.to_string());
        config.set(QUEUE_KBYTES, queue_kbytes(self.book.extent()).to_string());
        let producer = Producer::new(&config)?;
        producer.connect(&self.job.progress_topic)?;
        producer.init().map_err(SendError::into_error)?;
        let mark = read_mark(&self.job, &mut self.seen)?;
        if self.is_ours && mark.is_none() {
            return Err(lost(&self.job, "the last mark is gone"));
        }
        Ok(Ready { producer, batch_bytes, mark })
    }

    /// Does something in a transaction, with a mark of how far the output has come then.
    fn transact(
        &mut self,
        mut ready: Ready,
        send: impl FnOnce(&mut Producer) -> Result<Mark, SendError>,
    ) -> Result<Mark, SendError> {
        let done = self.try_transact(&mut ready.producer, send);
        let trouble = ready.producer.trouble().filter(|_| done.is_err());
        self.sent.note_trouble(trouble);
        match &done {
            Ok(mark) if ready.producer.is_settled() => {
                ready.mark = Some(mark.clone());
                self.ready = Some(ready);
            }
            // If it was committed and that is not known, the next one will find it.
            _ => self.let_go.add(ready.producer),
        }
        self.is_ours |= done.is_ok();
        done
    }

    fn try_transact(
        &self,
        producer: &mut Producer,
        send: impl FnOnce(&mut Producer) -> Result<Mark, SendError>,
    ) -> Result<Mark, SendError> {
        producer.begin()?;
        let mark = send(producer)?;
        let value = serde_json::to_vec(&mark).doing(|| "writing how far the output has come")?;
        let key = Some(self.job.transactional_id.as_bytes());
        let message = Outgoing { key, value: Some(&value), partition: Some(0), ..Outgoing::default() };
        crash::point("kafka-part-sent");
        producer.send(&self.job.progress_topic, &message, patience())?;
        crash::point("kafka-marker-sent");
        producer.commit(patience())?;
        crash::point("kafka-part-committed");
        Ok(mark)
    }

    /// Sends all of a stage that is not there yet.
    async fn send_stage(&mut self, pending: &PendingCommit) -> Result<()> {
        let spooled = Spooled::of(pending, &self.unnamed)?;
        look_at_topics(&self.job, &self.book, &spooled).await?;
        let staged = &pending.staged;
        let prefixes = if staged.has(PREFIXES) { staged.get(PREFIXES)? } else { Prefixes::default() };
        let stage = Stage { spooled: &spooled, prefixes: &prefixes, of: &pending.context };
        let mut fenced = 0;
        loop {
            let ready = self.ready()?;
            let standing = Mark::standing(ready.mark.as_ref(), stage.of, self.is_ours);
            self.ready = Some(ready);
            let begun = match standing {
                Standing::Done => return Ok(()),
                Standing::TakenOver(by) => return Err(taken_over(&self.job, &by)),
                Standing::Begun(rows) => rows,
            };
            match self.send_behind(begun, &stage) {
                Ok(true) => return Ok(()),
                // Another producer goes on.
                Ok(false) => {}
                // Perhaps by a run that has taken over; the mark will say. The rows were not committed.
                Err(SendError::Fenced) if fenced < FENCED => fenced += 1,
                Err(error) => return Err(error.into_error()),
            }
        }
    }

    /// Sends the rows of a stage behind the first so many, while those behind them are encoded. Whether these are all.
    fn send_behind(&mut self, begun: u64, stage: &Stage<'_>) -> Result<bool, SendError> {
        if let Some(ready) = self.ready.take_if(|_| begun == stage.spooled.rows()) {
            return self.transact(ready, |_| Ok(stage.mark(begun, true))).map(|mark| mark.last);
        }
        let parts = stage.spooled.parts(begun, self.job.parts);
        let encoder = self.encoder.take();
        let mut encoder = encoder.unwrap_or_else(|| PieceEncoder::new(self.job.clone(), self.format.clone()));
        std::thread::scope(|scope| {
            let (give, pieces) = sync_channel(AHEAD);
            let encoding = scope.spawn(move || {
                encoder.encode_all(parts, stage.prefixes, &give);
                encoder
            });
            let sent = self.send_parts(&pieces, stage);
            // Nobody takes what is left.
            drop(pieces);
            self.encoder = encoding.join().ok();
            sent
        })
    }

    /// Sends part after part, as long as the producer may go on. Whether these are all.
    fn send_parts(&mut self, pieces: &Receiver<Result<EncodedPiece>>, stage: &Stage<'_>) -> Result<bool, SendError> {
        while let Some(ready) = self.ready.take() {
            let sent = self.sent.clone();
            let mark = self.transact(ready, |producer| stage.send_part(producer, pieces, &sent))?;
            if mark.last {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Writes down that this run goes on, so that those before it can't any more, whatever they have still to send.
    fn claim(&mut self, context: &CommitContext) -> Result<()> {
        let ready = self.ready()?;
        let before = ready.mark.as_ref().filter(|mark| mark.incarnation == context.incarnation).cloned();
        if before.as_ref().is_some_and(|mark| mark.generation > context.generation) {
            return Err(taken_over(&self.job, "a later run"));
        }
        if before.as_ref().is_some_and(|mark| mark.generation == context.generation) {
            self.ready = Some(ready);
            return Ok(());
        }
        let (checkpoint, rows, last) = before.map_or((0, 0, true), |mark| (mark.checkpoint, mark.rows, mark.last));
        let (incarnation, generation) = (context.incarnation.clone(), context.generation);
        let mark = Mark { incarnation, generation, checkpoint, rows, last };
        self.transact(ready, |_| Ok(mark)).map(drop).map_err(SendError::into_error)
    }
}

impl Stage<'_> {
    /// Says that so many of its rows are there.
    fn mark(&self, rows: u64, last: bool) -> Mark {
        let CommitContext { incarnation, generation, checkpoint, .. } = self.of;
        Mark { incarnation: incarnation.clone(), generation: *generation, checkpoint: *checkpoint, rows, last }
    }

    /// Sends its next part.
    fn send_part(
        &self,
        producer: &mut Producer,
        pieces: &Receiver<Result<EncodedPiece>>,
        sent: &Sent,
    ) -> Result<Mark, SendError> {
        let mut is_long = long_open();
        loop {
            let piece = pieces.recv().map_err(|_| Error::new("what makes messages of rows has ended"))??;
            producer.send_all(&piece.messages, patience())?;
            sent.add(piece.messages.len());
            if piece.ends_part || is_long() {
                return Ok(self.mark(piece.until, piece.is_last));
            }
        }
    }
}

/// Sees what topics the rows go to where a column says it, so that batches of messages are small enough for all. A run that goes on with
/// what another has staged does not know them yet.
async fn look_at_topics(job: &Arc<Job>, book: &TopicBook, spooled: &Spooled) -> Result<()> {
    if job.layout.topic_column.is_none() {
        return Ok(());
    }
    let mut parts = spooled.parts(0, job.parts);
    while let Some(piece) = parts.next_piece()? {
        let topics = topics_of(job, &piece.rows);
        book.look_up(job, topics.iter().map(String::as_str)).await?;
    }
    Ok(())
}

/// The target is given up for now when a call to it takes too long: the engine tries again, unless the flow is to stop.
#[expect(clippy::disallowed_methods, reason = "brokers take real time")]
fn patience() -> impl FnMut() -> bool {
    let deadline = Instant::now() + WAIT;
    move || Instant::now() > deadline
}

/// How many kilobytes of messages to so many partitions may wait, each of which may have so many bytes.
fn queue_kbytes((partitions, message_bytes): (usize, usize)) -> usize {
    let batches = BATCHES * partitions.max(1) * BATCH_BYTES.div_ceil(1024);
    batches.min(MOST_KBYTES).max(message_bytes.div_ceil(1024))
}

/// Whether a transaction that begins now has been open for long.
#[expect(clippy::disallowed_methods, reason = "brokers end transactions in real time")]
fn long_open() -> impl FnMut() -> bool {
    let end = Instant::now() + LONGEST;
    move || Instant::now() > end
}

fn taken_over(job: &Job, by: &str) -> Error {
    Error::new(format!(
        "{by} has taken the output over, by what the topic `{}` says of `{}`: nothing more of this run is sent, and what is still to be \
         sent is that run's to send. Two flows with one name need a `transactional_id` each",
        job.progress_topic, job.transactional_id
    ))
}

#[async_trait]
impl Committer for KafkaCommitter {
    async fn commit(&mut self, pending: &PendingCommit) -> Result<()> {
        self.look().await?;
        self.send_stage(pending).await
    }

    async fn recover(&mut self, pending: &[PendingCommit], context: &CommitContext) -> Result<()> {
        self.look().await?;
        for stage in pending {
            self.send_stage(stage).await?;
        }
        self.claim(context)
    }

    async fn committed(&mut self, pending: &PendingCommit) -> Result<()> {
        Spooled::of(pending, &self.unnamed)?.remove()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_has_room_in_the_queue() {
        assert_eq!(queue_kbytes((1, 1 << 20)), 2931);
        assert_eq!(queue_kbytes((100, 1 << 20)), MOST_KBYTES);
        assert_eq!(queue_kbytes((1, 100 << 20)), 100 << 10);
    }
}
