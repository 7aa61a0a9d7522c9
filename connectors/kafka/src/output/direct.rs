//! Sends rows as they come, at least once: on a thread of its own, since librdkafka waits.

use std::sync::Arc;
use std::sync::mpsc as std_mpsc;

use millstream_core::{Error, Result};
use tokio::sync::{mpsc, oneshot};

use super::producer::{Producer, SendError, undelivered};
use super::rows::Encoded;
use super::writer::Sent;
use crate::client::ClientOptions;
use crate::native::Deliveries;

/// How many batches may wait for the thread.
const WAITING: usize = 2;

/// The way to the thread.
pub struct Direct(mpsc::Sender<Request>);

enum Request {
    Send(Box<Encoded>),
    /// Tells of all that was sent so far.
    Tell(std_mpsc::Sender<Result<Deliveries>>),
    /// Says when all that was sent has been delivered.
    Flush(oneshot::Sender<Result<()>>),
}

/// All rows that were sent up to a moment.
pub struct SentRows(std_mpsc::Receiver<Result<Deliveries>>);

impl SentRows {
    /// Waits until all of them are delivered, however long brokers are away.
    ///
    /// # Errors
    /// If a row can't be delivered.
    pub fn wait(self) -> Result<()> {
        let deliveries = self.0.recv().map_err(|_| gone())??;
        deliveries.wait().map_err(|code| undelivered(code, "a row"))
    }
}

fn gone() -> Error {
    Error::new("what sends rows to Kafka has ended")
}

impl Direct {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the client can't be made.
    pub fn start(config: &ClientOptions, sent: Arc<Sent>) -> Result<Self> {
        let mut producer = Producer::new(config)?;
        producer.count();
        let (requests, received) = mpsc::channel(WAITING);
        let sender = Sender { producer, sent, requests: received, failed: None };
        std::thread::spawn(move || sender.run());
        Ok(Self(requests))
    }

    /// Sends rows, as soon as there is room for them.
    pub async fn send(&self, rows: Encoded) -> Result<()> {
        match self.0.send(Request::Send(Box::new(rows))).await {
            Ok(()) => Ok(()),
            // It says why.
            Err(_) => self.flush().await,
        }
    }

    /// All rows that were sent so far. Those that come next need not wait for them.
    pub async fn sent(&self) -> Result<SentRows> {
        let (tell, told) = std_mpsc::channel();
        self.0.send(Request::Tell(tell)).await.map_err(|_| gone())?;
        Ok(SentRows(told))
    }

    /// Waits until all rows are delivered, however long brokers are away.
    ///
    /// # Errors
    /// If a row can't be delivered.
    pub async fn flush(&self) -> Result<()> {
        let (tell, told) = oneshot::channel();
        self.0.send(Request::Flush(tell)).await.map_err(|_| gone())?;
        told.await.map_err(|_| gone())?
    }
}

/// What the thread has.
struct Sender {
    producer: Producer,
    sent: Arc<Sent>,
    requests: mpsc::Receiver<Request>,
    /// The first thing that went wrong, which is said when it is asked.
    failed: Option<Error>,
}

impl Sender {
    fn run(mut self) {
        while let Some(request) = self.requests.blocking_recv() {
            match request {
                Request::Send(_) if self.failed.is_some() => {}
                Request::Send(rows) => self.failed = self.send(&rows).err().map(SendError::into_error),
                Request::Tell(tell) => {
                    let sent = self.failed.take().map_or_else(|| Ok(self.producer.deliveries()), Err);
                    let _ = tell.send(sent);
                }
                Request::Flush(tell) => {
                    let requests = &self.requests;
                    let failed = self.failed.take();
                    let flushed = failed
                        .map_or(Ok(()), Err)
                        .and_then(|()| self.producer.flush(|| requests.is_closed()).map_err(SendError::into_error));
                    self.sent.note_trouble(self.producer.trouble());
                    let _ = tell.send(flushed);
                }
            }
        }
    }

    fn send(&mut self, rows: &Encoded) -> Result<(), SendError> {
        let requests = &self.requests;
        self.producer.send_all(rows, || requests.is_closed())?;
        self.sent.add(rows.len());
        self.sent.note_trouble(self.producer.trouble());
        Ok(())
    }
}
