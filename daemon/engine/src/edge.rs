//! Edges: one bounded channel each, with limits in rows and bytes, and a count of what passes that anybody may read.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use millstream_core::{Batch, Canonical, Message, Result, batch_bytes};
use tokio::sync::Notify;
use tokio::time::Instant;

/// How much may wait on an edge. A batch over the limits passes alone. A slow reader has fewer rows waiting: as many as it takes in a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Rows.
    pub rows: usize,
    /// Bytes of these rows.
    pub bytes: usize,
}

/// How far the rows on an edge may be ahead of their reader. Barriers wait behind them, on each edge of their way, and so do checkpoints: this
/// is what Flink calls buffer debloating.
const AHEAD: Duration = Duration::from_secs(1);

/// How long a reader is watched before its pace counts.
const WATCHED: Duration = Duration::from_millis(200);

/// The other side is gone: its node failed or the flow is being stopped.
#[derive(Debug, PartialEq, Eq)]
pub struct Closed;

/// The upstream end of an edge.
#[derive(Debug)]
pub struct Sender {
    channel: async_channel::Sender<SizedMessage>,
    queue: Arc<Queue>,
    columns: Option<Canonical>,
}

/// The downstream end of an edge.
#[derive(Debug)]
pub struct Receiver {
    channel: async_channel::Receiver<SizedMessage>,
    queue: Arc<Queue>,
    pace: Mutex<Pace>,
}

/// How fast a reader is that does not have to wait for rows.
#[derive(Debug)]
struct Pace {
    since: Instant,
    /// What it has taken since then, the last batch included.
    rows: u64,
}

/// A message with its size, which is computed once.
#[derive(Debug)]
struct SizedMessage {
    message: Message,
    amount: Amount,
}

/// An amount of data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Rows.
    pub rows: u64,
    /// Bytes of these rows.
    pub bytes: u64,
    /// Batches that they are in.
    pub batches: u64,
}

/// What has entered an edge and left it. Only the one sender adds to the first, and only the one receiver to the second; anybody may look.
#[derive(Debug)]
pub struct Queue {
    limits: Limits,
    /// How many rows may wait at the pace of the reader.
    rows_at_pace: AtomicUsize,
    entered: Counter,
    left: Counter,
    /// Whether nobody reads it any more.
    is_over: AtomicBool,
    space: Notify,
}

#[derive(Debug, Default)]
struct Counter {
    rows: AtomicU64,
    bytes: AtomicU64,
    batches: AtomicU64,
}

/// A new edge.
pub fn edge(limits: Limits) -> (Sender, Receiver) {
    // The channel itself has no bound: the limits in rows and bytes are enforced before a message enters it.
    let (sender, receiver) = async_channel::unbounded();
    let queue = Arc::new(Queue::new(limits));
    (Sender { channel: sender, queue: queue.clone(), columns: None }, Receiver::new(receiver, queue))
}

impl Amount {
    /// Of a message. Only batches have a size.
    fn of(message: &Message) -> Self {
        match message {
            Message::Batch(batch) => {
                Self { rows: batch.len() as u64, bytes: batch_bytes(&batch.rows) as u64, batches: 1 }
            }
            _ => Self::default(),
        }
    }
}

impl Counter {
    fn add(&self, amount: Amount) {
        self.rows.fetch_add(amount.rows, Ordering::AcqRel);
        self.bytes.fetch_add(amount.bytes, Ordering::AcqRel);
        self.batches.fetch_add(amount.batches, Ordering::AcqRel);
    }

    fn read(&self) -> Amount {
        let [rows, bytes, batches] = [&self.rows, &self.bytes, &self.batches].map(|one| one.load(Ordering::Acquire));
        Amount { rows, bytes, batches }
    }
}

impl Queue {
    fn new(limits: Limits) -> Self {
        let (entered, left) = (Counter::default(), Counter::default());
        let rows_at_pace = AtomicUsize::new(limits.rows);
        Self { limits, rows_at_pace, entered, left, is_over: AtomicBool::new(false), space: Notify::new() }
    }

    /// How much may wait now.
    pub fn limits(&self) -> Limits {
        Limits { rows: self.rows_at_pace.load(Ordering::Relaxed), ..self.limits }
    }

    /// All that has entered.
    pub fn entered(&self) -> Amount {
        self.entered.read()
    }

    /// All that has left.
    pub fn left(&self) -> Amount {
        self.left.read()
    }

    /// What waits now: nothing, if nobody reads any more.
    pub fn waiting(&self) -> Amount {
        if self.is_over.load(Ordering::Relaxed) {
            return Amount::default();
        }
        // In this order: what has left had entered before.
        let (left, entered) = (self.left(), self.entered());
        Amount {
            rows: entered.rows.saturating_sub(left.rows),
            bytes: entered.bytes.saturating_sub(left.bytes),
            batches: entered.batches.saturating_sub(left.batches),
        }
    }

    /// How many rows wait.
    fn rows(&self) -> u64 {
        let left = self.left.rows.load(Ordering::Acquire);
        self.entered.rows.load(Ordering::Acquire) - left
    }

    /// How many bytes wait.
    fn bytes(&self) -> u64 {
        let left = self.left.bytes.load(Ordering::Acquire);
        self.entered.bytes.load(Ordering::Acquire) - left
    }

    fn fits(&self, amount: Amount) -> bool {
        let (waiting, limits) = (self.rows(), self.limits());
        // Barriers and the end never wait: they have no size.
        amount.rows == 0
            || waiting == 0
            || (waiting + amount.rows <= limits.rows as u64 && self.bytes() + amount.bytes <= limits.bytes as u64)
    }
}

impl Sender {
    /// What is on the edge.
    pub fn queue(&self) -> Arc<Queue> {
        self.queue.clone()
    }

    /// The same, where the reader unites several streams: batches are to be brought to the columns of all.
    pub fn uniting(self, columns: Option<Canonical>) -> Self {
        Self { columns, ..self }
    }

    /// A batch in the columns that the reader sees.
    pub fn united(&self, batch: &Batch) -> Result<Batch> {
        match &self.columns {
            Some(columns) => Ok(batch.with_rows(columns.apply(batch.rows.clone())?)),
            None => Ok(batch.clone()),
        }
    }

    /// Waits until the message fits, then sends it.
    pub async fn send(&self, message: Message) -> Result<(), Closed> {
        let amount = Amount::of(&message);
        while !self.queue.fits(amount) {
            let space = self.queue.space.notified();
            if self.channel.is_closed() {
                return Err(Closed);
            }
            // The receiver may have made space between the check and `notified`: `Notify` keeps that permit.
            space.await;
        }
        if amount.batches > 0 {
            self.queue.entered.add(amount);
        }
        self.channel.try_send(SizedMessage { message, amount }).map_err(|_| Closed)
    }

    /// Whether no rows wait on the edge.
    pub fn is_drained(&self) -> bool {
        self.queue.rows() == 0
    }

    /// Waits until no rows wait on the edge. Cancel safe.
    pub async fn drained(&self) -> Result<(), Closed> {
        while !self.is_drained() {
            let space = self.queue.space.notified();
            if self.channel.is_closed() {
                return Err(Closed);
            }
            space.await;
        }
        Ok(())
    }
}

impl Pace {
    /// A batch is taken, with others behind it. Returns how many rows the reader takes in [`AHEAD`], when that has been seen.
    fn take(&mut self, rows: u64) -> Option<usize> {
        let now = Instant::now();
        let time = now - self.since;
        if time < WATCHED {
            self.rows += rows;
            return None;
        }
        let ahead = self.rows as f64 * AHEAD.as_secs_f64() / time.as_secs_f64();
        *self = Self { since: now, rows };
        Some(ahead as usize)
    }
}

impl Receiver {
    fn new(channel: async_channel::Receiver<SizedMessage>, queue: Arc<Queue>) -> Self {
        Self { channel, queue, pace: Mutex::new(Pace { since: Instant::now(), rows: 0 }) }
    }

    /// The next message. Cancel safe.
    pub async fn recv(&self) -> Result<Message, Closed> {
        let has_to_wait = self.queue.rows() == 0;
        let sized = self.channel.recv().await.map_err(|_| Closed)?;
        if sized.amount.batches > 0 {
            self.note_pace(sized.amount.rows, has_to_wait);
            self.queue.left.add(sized.amount);
            self.queue.space.notify_one();
        }
        Ok(sized.message)
    }

    /// Lets no more rows wait than the reader takes in [`AHEAD`], but as many as the flow allows when it was the one that had to wait.
    fn note_pace(&self, rows: u64, had_to_wait: bool) {
        let most = self.queue.limits.rows;
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        let limit = if had_to_wait {
            *pace = Pace { since: Instant::now(), rows };
            Some(most)
        } else {
            pace.take(rows).map(|ahead| ahead.clamp(1, most))
        };
        limit.into_iter().for_each(|rows| self.queue.rows_at_pace.store(rows, Ordering::Relaxed));
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // A sender that waits for space must see that nobody will make any.
        self.channel.close();
        self.queue.is_over.store(true, Ordering::Relaxed);
        self.queue.space.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use millstream_testkit::{batch, table};

    use super::*;

    fn rows(count: usize) -> Message {
        let text: String = (0..count).map(|n| format!("\n{n}")).collect();
        Message::Batch(batch(table(&format!("n:int64{text}"))))
    }

    /// Whether a send goes through at once.
    async fn goes_through(sender: &Sender, message: Message) -> bool {
        tokio::select! {
            biased;
            sent = sender.send(message) => { sent.expect("open"); true }
            () = tokio::task::yield_now() => false,
        }
    }

    #[tokio::test]
    async fn rows_are_limited() {
        let (sender, receiver) = edge(Limits { rows: 10, bytes: 1 << 20 });
        assert!(goes_through(&sender, rows(6)).await);
        assert!(goes_through(&sender, rows(4)).await);
        assert!(!goes_through(&sender, rows(1)).await, "10 rows wait already");
        receiver.recv().await.expect("open");
        assert!(goes_through(&sender, rows(6)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_has_a_second_of_work_waiting() {
        let (sender, receiver) = edge(Limits { rows: 1000, bytes: 1 << 20 });
        let queue = sender.queue();
        let mut sent = 0;
        while goes_through(&sender, rows(10)).await {
            sent += 1;
        }
        assert_eq!(sent, 100, "nobody knows yet how fast the reader is");
        for _ in 0..sent {
            receiver.recv().await.expect("open");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(queue.limits().rows, 200, "rows in a second");
        let mut waiting = 0;
        while goes_through(&sender, rows(10)).await {
            waiting += 1;
        }
        assert_eq!(waiting, 20);
        for _ in 0..waiting {
            receiver.recv().await.expect("open");
        }
        let (taken, ()) = tokio::join!(receiver.recv(), async { sender.send(rows(10)).await.expect("open") });
        taken.expect("open");
        assert_eq!(queue.limits().rows, 1000, "the reader waits for rows");
    }

    #[tokio::test]
    async fn bytes_are_limited() {
        let (sender, _receiver) = edge(Limits { rows: 1000, bytes: 100 });
        assert!(goes_through(&sender, rows(10)).await);
        assert!(!goes_through(&sender, rows(10)).await, "80 of 100 bytes are taken");
    }

    #[tokio::test]
    async fn a_batch_over_the_limits_passes_alone() {
        let (sender, receiver) = edge(Limits { rows: 10, bytes: 10 });
        assert!(goes_through(&sender, rows(100)).await);
        assert!(!goes_through(&sender, rows(1)).await);
        receiver.recv().await.expect("open");
        assert!(goes_through(&sender, rows(1)).await);
    }

    #[tokio::test]
    async fn what_waits_and_what_has_passed_is_counted() {
        let (sender, receiver) = edge(Limits { rows: 10, bytes: 1 << 20 });
        let queue = sender.queue();
        for message in [rows(3), Message::End, rows(2)] {
            sender.send(message).await.expect("open");
        }
        assert_eq!(queue.waiting(), Amount { rows: 5, bytes: 40, batches: 2 });
        receiver.recv().await.expect("open");
        assert_eq!(queue.waiting(), Amount { rows: 2, bytes: 16, batches: 1 });
        assert_eq!(queue.left(), Amount { rows: 3, bytes: 24, batches: 1 });
        assert_eq!(queue.entered(), Amount { rows: 5, bytes: 40, batches: 2 });
        drop(receiver);
        assert_eq!(queue.waiting(), Amount::default(), "nobody waits for it");
    }

    #[tokio::test]
    async fn an_edge_is_drained_when_the_last_rows_are_taken() {
        let (sender, receiver) = edge(Limits { rows: 10, bytes: 1 << 20 });
        sender.drained().await.expect("open");
        sender.send(rows(1)).await.expect("open");
        sender.send(Message::End).await.expect("open");
        let taken = async {
            tokio::task::yield_now().await;
            receiver.recv().await
        };
        let (drained, _) = tokio::join!(sender.drained(), taken);
        assert_eq!(drained, Ok(()));
        sender.send(rows(1)).await.expect("open");
        let (drained, ()) = tokio::join!(sender.drained(), async { drop(receiver) });
        assert_eq!(drained, Err(Closed));
    }

    #[tokio::test]
    async fn barriers_pass_a_full_edge() {
        let (sender, _receiver) = edge(Limits { rows: 1, bytes: 1 });
        assert!(goes_through(&sender, rows(1)).await);
        assert!(goes_through(&sender, Message::End).await);
    }

    #[tokio::test]
    async fn a_waiting_sender_learns_that_the_receiver_is_gone() {
        let (sender, receiver) = edge(Limits { rows: 1, bytes: 1 });
        sender.send(rows(1)).await.expect("open");
        let (sent, ()) = tokio::join!(sender.send(rows(1)), async { drop(receiver) });
        assert_eq!(sent, Err(Closed));
    }
}
