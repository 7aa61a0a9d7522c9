//! Edges: one bounded channel each, with limits in rows and bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use millstream_core::{Batch, Canonical, Message, Result, batch_bytes};
use tokio::sync::Notify;

/// How much may wait on an edge. A batch over the limits passes alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Rows.
    pub rows: usize,
    /// Bytes of these rows.
    pub bytes: usize,
}

/// The other side is gone: its node failed or the flow is being stopped.
#[derive(Debug, PartialEq, Eq)]
pub struct Closed;

/// The upstream end of an edge.
#[derive(Debug)]
pub struct Sender {
    channel: async_channel::Sender<SizedMessage>,
    buffered: Arc<Buffered>,
    limits: Limits,
    columns: Option<Canonical>,
}

/// The downstream end of an edge.
#[derive(Debug)]
pub struct Receiver {
    channel: async_channel::Receiver<SizedMessage>,
    buffered: Arc<Buffered>,
}

/// A message with its size, which is computed once.
#[derive(Debug)]
struct SizedMessage {
    message: Message,
    rows: u64,
    bytes: u64,
}

/// What is on the edge. Only the one sender adds and only the one receiver takes away.
#[derive(Debug, Default)]
struct Buffered {
    rows: AtomicU64,
    bytes: AtomicU64,
    space: Notify,
}

/// A new edge.
pub fn edge(limits: Limits) -> (Sender, Receiver) {
    // The channel itself has no bound: the limits in rows and bytes are enforced before a message enters it.
    let (sender, receiver) = async_channel::unbounded();
    let buffered = Arc::new(Buffered::default());
    (
        Sender { channel: sender, buffered: buffered.clone(), limits, columns: None },
        Receiver { channel: receiver, buffered },
    )
}

impl Sender {
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
        let (rows, bytes) = match &message {
            Message::Batch(batch) => (batch.len() as u64, batch_bytes(&batch.rows) as u64),
            _ => (0, 0),
        };
        while !self.fits(rows, bytes) {
            let space = self.buffered.space.notified();
            if self.channel.is_closed() {
                return Err(Closed);
            }
            // The receiver may have made space between the check and `notified`: `Notify` keeps that permit.
            space.await;
        }
        self.buffered.rows.fetch_add(rows, Ordering::AcqRel);
        self.buffered.bytes.fetch_add(bytes, Ordering::AcqRel);
        self.channel.try_send(SizedMessage { message, rows, bytes }).map_err(|_| Closed)
    }

    /// Whether no rows wait on the edge.
    pub fn is_drained(&self) -> bool {
        self.buffered.rows.load(Ordering::Acquire) == 0
    }

    /// Waits until no rows wait on the edge. Cancel safe.
    pub async fn drained(&self) -> Result<(), Closed> {
        while !self.is_drained() {
            let space = self.buffered.space.notified();
            if self.channel.is_closed() {
                return Err(Closed);
            }
            space.await;
        }
        Ok(())
    }

    fn fits(&self, rows: u64, bytes: u64) -> bool {
        let waiting_rows = self.buffered.rows.load(Ordering::Acquire);
        let waiting_bytes = self.buffered.bytes.load(Ordering::Acquire);
        // Barriers and the end never wait: they have no size.
        rows == 0
            || waiting_rows == 0
            || (waiting_rows + rows <= self.limits.rows as u64 && waiting_bytes + bytes <= self.limits.bytes as u64)
    }
}

impl Receiver {
    /// The next message. Cancel safe.
    pub async fn recv(&self) -> Result<Message, Closed> {
        let sized = self.channel.recv().await.map_err(|_| Closed)?;
        if sized.rows > 0 {
            self.buffered.rows.fetch_sub(sized.rows, Ordering::AcqRel);
            self.buffered.bytes.fetch_sub(sized.bytes, Ordering::AcqRel);
            self.buffered.space.notify_one();
        }
        Ok(sized.message)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // A sender that waits for space must see that nobody will make any.
        self.channel.close();
        self.buffered.space.notify_one();
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
