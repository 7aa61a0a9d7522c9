//! Sends what checkpoints have decided, each row once.
//!
//! A producer is used for one transaction only, and the next one is made ready behind it: it begins with transactions, by which all
//! others are ended and fenced, and then the mark is read. So whatever has been said or lost before, the mark is true when the rows
//! are sent, and a request of before that is late can end no transaction but its own. The one behind that is connected meanwhile:
//! librdkafka looks for a coordinator twice a second only, until it has a connection, which is far longer than all the rest.

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use millstream_core::{CommitContext, Committer, Error, PendingCommit, Result, ResultExt};
use millstream_spool::{Mark, PartReader, Spooled, Standing, Unnamed};
use millstream_store::crash;

use super::Job;
use super::limits::{Broker, TopicBook, ask, topics_of};
use super::producer::{LAST_MOMENT, LetGo, Producer, SendError, WAIT};
use super::progress::Progress;
use super::rows::{Message, Prefixes, RowEncoder, RowFormat};
use super::writer::{LAST, PREFIXES, Sent};

/// How often another producer may take this one's place before that is waited for.
const FENCED: usize = 3;

/// How long the coordinator of transactions takes to note that one is over, when its mark is seen.
const OVER: Duration = Duration::from_millis(10);

/// What a batch of messages has at most. Topics that take less get smaller ones.
const BATCH_BYTES: usize = 1_000_000;

/// Commits what the output has staged.
pub struct KafkaCommitter {
    job: Arc<Job>,
    format: RowFormat,
    unnamed: Unnamed,
    book: TopicBook,
    sent: Arc<Sent>,
    /// Whether it was seen that the topics are there.
    has_looked: bool,
    progress: Option<Progress>,
    next: Next,
    connected: Arc<Connected>,
    /// Whether marks of this state have been read or written by this process.
    is_ours: bool,
    encoder: Option<RowEncoder>,
    let_go: LetGo,
}

/// The next producer.
enum Next {
    /// There is none.
    None,
    /// It is being made ready.
    Coming(Receiver<Result<Ready>>),
    /// It is ready.
    Ready(Ready),
}

/// A producer that has begun with transactions, and the mark as it has been since.
struct Ready {
    producer: Producer,
    progress: Progress,
}

/// A producer that has a connection and nothing else, for the next who needs one.
#[derive(Default)]
struct Connected(Mutex<Option<(usize, Producer)>>);

impl Connected {
    /// The producer, if its batches of messages are as large as wanted.
    fn take(&self, batch_bytes: usize) -> Option<Producer> {
        let taken = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        taken.filter(|(bytes, _)| *bytes == batch_bytes).map(|(_, producer)| producer)
    }

    /// Connects another one. If that fails, it is tried again by who needs one, and said then.
    fn add(&self, job: &Job, batch_bytes: usize) {
        let connected = connect(job, batch_bytes).ok().map(|producer| (batch_bytes, producer));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = connected;
    }
}

/// A producer with a connection.
fn connect(job: &Job, batch_bytes: usize) -> Result<Producer> {
    let mut config = job.producer.clone();
    config.set("batch.size", batch_bytes.to_string());
    let producer = Producer::new(&config)?;
    producer.connect(&job.progress_topic)?;
    Ok(producer)
}

impl Ready {
    /// Makes a producer ready, which waits for brokers.
    fn make(job: &Job, book: &TopicBook, connected: &Connected, progress: Option<Progress>) -> Result<Self> {
        let batch_bytes = batch_bytes(book);
        let producer = connected.take(batch_bytes).map_or_else(|| connect(job, batch_bytes), Ok)?;
        let progress = progress.map(await_end).transpose()?;
        producer.init().map_err(SendError::into_error)?;
        let mut progress = progress.map_or_else(|| Progress::connect(job), Ok)?;
        progress.read()?;
        Ok(Self { producer, progress })
    }
}

/// Waits until the transaction before is over, which it is a little later than its commit is answered. Who begins before is turned away,
/// and librdkafka comes again half a second later.
#[expect(
    clippy::disallowed_methods,
    reason = "the thread is nobody else's, and the broker says nothing when it is done"
)]
fn await_end(mut progress: Progress) -> Result<Progress> {
    // Its mark is seen when all its partitions but some know of its end.
    progress.read()?;
    std::thread::sleep(OVER);
    Ok(progress)
}

/// How large a batch of messages may be, so that all topics take it.
fn batch_bytes(book: &TopicBook) -> usize {
    BATCH_BYTES.min(book.least_bytes().saturating_sub(128)).max(1)
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
            progress: None,
            next: Next::None,
            connected: Arc::default(),
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
        let coming = match std::mem::replace(&mut self.next, Next::None) {
            Next::Ready(ready) => return Ok(ready),
            Next::Coming(coming) => coming.recv().ok(),
            Next::None => None,
        };
        match coming {
            Some(Ok(ready)) => Ok(ready),
            // What went wrong may be over.
            Some(Err(_)) | None => Ready::make(&self.job, &self.book, &self.connected, self.progress.take()),
        }
    }

    /// Has the next producer made ready beside the flow, and the one behind it connected.
    fn make_next(&mut self, progress: Progress) {
        let (send, coming) = channel();
        let (job, book, connected) = (self.job.clone(), self.book.clone(), self.connected.clone());
        std::thread::spawn(move || {
            let _ = send.send(Ready::make(&job, &book, &connected, Some(progress)));
            connected.add(&job, batch_bytes(&book));
        });
        self.next = Next::Coming(coming);
    }

    /// Does something in a transaction, with a mark of how far the output has come then.
    fn transact(
        &mut self,
        ready: Ready,
        context: &CommitContext,
        send: impl FnOnce(&mut Self, &Producer) -> Result<Mark, SendError>,
    ) -> Result<(Mark, Progress), SendError> {
        let done = self.try_transact(&ready.producer, context, send);
        if let Some(trouble) = ready.producer.trouble().filter(|_| done.is_err()) {
            self.sent.note_trouble(Some(trouble));
        }
        self.let_go.add(ready.producer);
        match done {
            Ok(mark) => {
                self.sent.note_trouble(None);
                self.is_ours = true;
                Ok((mark, ready.progress))
            }
            Err(error) => {
                // Whether it was committed, the next one will find.
                self.progress = Some(ready.progress);
                Err(error)
            }
        }
    }

    fn try_transact(
        &mut self,
        producer: &Producer,
        context: &CommitContext,
        send: impl FnOnce(&mut Self, &Producer) -> Result<Mark, SendError>,
    ) -> Result<Mark, SendError> {
        producer.begin()?;
        let mark = send(self, producer)?;
        debug_assert_eq!(mark.incarnation, context.incarnation);
        let value = serde_json::to_vec(&mark).doing(|| "writing how far the output has come")?;
        let (topic, key) = (self.job.progress_topic.clone(), self.job.transactional_id.clone());
        let message = Message {
            topic: &topic,
            key: Some(key.as_bytes()),
            value: Some(&value),
            partition: Some(0),
            time: None,
            headers: None,
        };
        crash::point("kafka-part-sent");
        producer.send(message, patience())?;
        crash::point("kafka-marker-sent");
        producer.commit(patience())?;
        crash::point("kafka-part-committed");
        Ok(mark)
    }

    /// Sends the next part of a stage.
    fn send_part(
        &mut self,
        producer: &Producer,
        parts: &mut PartReader<'_>,
        prefixes: &Prefixes,
        of: &CommitContext,
    ) -> Result<Mark, SendError> {
        let mark = |rows, last| Mark {
            incarnation: of.incarnation.clone(),
            generation: of.generation,
            checkpoint: of.checkpoint,
            rows,
            last,
        };
        while let Some(piece) = parts.next_piece()? {
            self.send_rows(producer, &piece.rows, prefixes)?;
            if piece.ends_part {
                return Ok(mark(piece.until, piece.is_last));
            }
        }
        // All were there.
        Ok(mark(parts.until(), true))
    }

    fn send_rows(
        &mut self,
        producer: &Producer,
        rows: &arrow::array::RecordBatch,
        prefixes: &Prefixes,
    ) -> Result<(), SendError> {
        let mut encoder = match self.encoder.take().filter(|encoder| encoder.is_for(&rows.schema(), prefixes)) {
            Some(encoder) => encoder,
            None => RowEncoder::new(&self.job.layout, &self.format, rows.schema(), prefixes)?,
        };
        let encoded = encoder.encode(rows)?;
        if let Some((_, why)) = encoded.refused().next() {
            // It could when it was staged.
            let error =
                format!("a row that was staged can't be written any more: {why}; is `descriptors` another file now?");
            return Err(Error::new(error).into());
        }
        let mut gives_up = patience();
        for row in 0..encoded.len() {
            let missing = || Error::new("a row that was staged has no topic");
            producer.send(encoded.message(row).ok_or_else(missing)?, &mut gives_up)?;
        }
        producer.serve()?;
        self.sent.add(encoded.len());
        self.encoder = Some(encoder);
        Ok(())
    }

    /// Sends all of a stage that is not there yet.
    async fn send_stage(&mut self, pending: &PendingCommit) -> Result<()> {
        let spooled = Spooled::of(pending, &self.unnamed)?;
        look_at_topics(&self.job, &self.book, &spooled).await?;
        let staged = &pending.staged;
        let prefixes = if staged.has(PREFIXES) { staged.get(PREFIXES)? } else { Prefixes::default() };
        let mut fenced = 0;
        // Where the reader stands, which is where the mark does, unless something went wrong.
        let mut parts = spooled.parts(0, self.job.parts);
        let mut at = 0;
        loop {
            let ready = self.ready()?;
            let begun = match Mark::standing(ready.progress.mark(), &pending.context, self.is_ours) {
                Standing::Done => {
                    self.next = Next::Ready(ready);
                    return Ok(());
                }
                Standing::TakenOver(by) => return Err(taken_over(&self.job, &by)),
                Standing::Begun(rows) => rows,
            };
            if begun != at {
                parts = spooled.parts(begun, self.job.parts);
            }
            let done = self.transact(ready, &pending.context, |this, producer| {
                this.send_part(producer, &mut parts, &prefixes, &pending.context)
            });
            match done {
                Ok((mark, progress)) => {
                    at = mark.rows;
                    // Behind the last stage nobody sends any more.
                    if mark.last && pending.staged.has(LAST) {
                        self.progress = Some(progress);
                    } else {
                        self.make_next(progress);
                    }
                    if mark.last {
                        return Ok(());
                    }
                }
                Err(SendError::Fenced) if fenced < FENCED => {
                    // Perhaps by a run that has taken over; the mark will say. The rows were not committed.
                    (fenced, at) = (fenced + 1, u64::MAX);
                }
                Err(error) => return Err(error.into_error()),
            }
        }
    }

    /// Writes down that this run goes on, so that those before it can't any more, whatever they have still to send.
    fn claim(&mut self, context: &CommitContext) -> Result<()> {
        let ready = self.ready()?;
        let before = ready.progress.mark().filter(|mark| mark.incarnation == context.incarnation).cloned();
        if before.as_ref().is_some_and(|mark| mark.generation > context.generation) {
            return Err(taken_over(&self.job, "a later run"));
        }
        if before.as_ref().is_some_and(|mark| mark.generation == context.generation) {
            self.next = Next::Ready(ready);
            return Ok(());
        }
        let (checkpoint, rows, last) = before.map_or((0, 0, true), |mark| (mark.checkpoint, mark.rows, mark.last));
        let (incarnation, generation) = (context.incarnation.clone(), context.generation);
        let mark = Mark { incarnation, generation, checkpoint, rows, last };
        let (_, progress) = self.transact(ready, context, |_, _| Ok(mark)).map_err(SendError::into_error)?;
        self.make_next(progress);
        Ok(())
    }
}

impl Drop for KafkaCommitter {
    fn drop(&mut self) {
        let ready = match std::mem::replace(&mut self.next, Next::None) {
            Next::None => None,
            Next::Ready(ready) => Some(ready),
            Next::Coming(coming) => coming.recv_timeout(LAST_MOMENT).ok().and_then(Result::ok),
        };
        ready.into_iter().for_each(|ready| self.let_go.add(ready.producer));
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
