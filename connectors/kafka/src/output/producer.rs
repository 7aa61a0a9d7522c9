//! A producer of librdkafka: what goes wrong with its messages, and how it is let go. All calls that wait are bounded.

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use millstream_core::{Error, Result};
use rdkafka::ClientContext;
use rdkafka::config::{FromClientConfigAndContext as _, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext};
use rdkafka::types::RDKafkaErrorCode as Code;

use super::rows::Message;
use crate::client::{ClientOptions, Watch};
use crate::tokens::Admission;

/// How long a call waits for brokers. Messages are given up before.
pub const WAIT: Duration = Duration::from_secs(30);

/// How long to wait for deliveries before it is looked whether all are there.
const FLUSH_POLL: Duration = Duration::from_millis(1);

/// How long a producer that is let go may hold up the end of the process.
pub const LAST_MOMENT: Duration = Duration::from_secs(1);

/// A producer.
pub struct Producer {
    client: Option<BaseProducer<Deliveries>>,
    admission: Option<Admission>,
}

/// What has become of messages.
#[derive(Default)]
pub struct Deliveries {
    watch: Watch,
    /// The first that could not be delivered, and why.
    failed: Mutex<Option<(Code, String)>>,
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.watch.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.watch.error(error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let Err((error, message)) = result else { return };
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
        failed.get_or_insert_with(|| (code, message.topic().to_owned()));
    }
}

/// What went wrong when something was sent.
#[derive(Debug)]
pub enum SendError {
    /// Another producer has taken the place of this one.
    Fenced,
    /// Anything else, which need not mean that nothing was sent.
    Other(Error),
}

impl From<Error> for SendError {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

impl SendError {
    fn of(doing: &str, error: &KafkaError) -> Self {
        let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
        match code {
            Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch => Self::Fenced,
            _ => Self::Other(of_class(code, format!("{doing}: {error}"))),
        }
    }
}

/// Only a person can help where a right is missing, or a topic takes less than it did; all else may be over in a while, such as a broker
/// that is away, or a topic that is.
fn of_class(code: Code, message: String) -> Error {
    match code {
        Code::TopicAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed
        | Code::Authentication
        | Code::SaslAuthenticationFailed
        | Code::UnsupportedFeature
        | Code::UnsupportedVersion
        | Code::InvalidTransactionTimeout
        | Code::InvalidTopic
        | Code::InvalidTimestamp
        | Code::InvalidRecord => Error::new(message),
        Code::MessageSizeTooLarge | Code::MessageBatchTooLarge => Error::new(format!(
            "{message}: the topic takes less than when these rows were checked; set its `max.message.bytes` to what it was"
        )),
        _ => Error::transient(message),
    }
}

impl Producer {
    /// Makes one, which connects by itself.
    ///
    /// # Errors
    /// If it can't be made.
    pub fn new(config: &ClientOptions) -> Result<Self> {
        let made = BaseProducer::from_config_and_context(config, Deliveries::default());
        let client = made.map_err(|error| Error::new(format!("the client of Kafka can't be made: {error}")))?;
        let mut producer = Self { client: Some(client), admission: None };
        producer.admission = config.admit(producer.get().client())?;
        Ok(producer)
    }

    fn get(&self) -> &BaseProducer<Deliveries> {
        match &self.client {
            Some(producer) => producer,
            None => unreachable!("it is taken only when it is dropped"),
        }
    }

    /// What is wrong with its connections now.
    pub fn trouble(&self) -> Option<String> {
        self.get().context().watch.trouble().map(|trouble| trouble.reason)
    }

    /// Waits until it has a connection.
    ///
    /// # Errors
    /// If no broker answers.
    pub fn connect(&self, topic: &str) -> Result<()> {
        let asked = self.get().client().fetch_metadata(Some(topic), WAIT);
        asked.map(drop).map_err(|error| {
            let why = self.trouble().unwrap_or_else(|| error.to_string());
            Error::transient(format!("no broker takes transactions: {why}"))
        })
    }

    /// Begins its life as the one producer of its transactional id: what others have open is ended, and they are fenced.
    pub fn init(&self) -> Result<(), SendError> {
        let begun = self.get().init_transactions(WAIT);
        begun.map_err(|error| match self.trouble() {
            Some(trouble) if is_waiting(&error) => {
                Error::transient(format!("no broker takes transactions: {trouble}")).into()
            }
            _ => SendError::of("beginning with transactions", &error),
        })
    }

    /// Begins a transaction.
    pub fn begin(&self) -> Result<(), SendError> {
        self.get().begin_transaction().map_err(|error| SendError::of("beginning a transaction", &error))
    }

    /// Commits it, when all messages are delivered.
    pub fn commit(&self, gives_up: impl FnMut() -> bool) -> Result<(), SendError> {
        self.flush(gives_up)?;
        let committed = self.get().commit_transaction(WAIT);
        self.check()?;
        committed.map_err(|error| SendError::of("committing a transaction", &error))
    }

    /// Sends a message as soon as there is room for it; brokers that are away are waited for until `gives_up` says so.
    pub fn send(&self, message: Message<'_>, mut gives_up: impl FnMut() -> bool) -> Result<(), SendError> {
        let Message { topic, key, value, partition, time, headers } = message;
        let mut record = BaseRecord::<[u8], [u8]>::to(topic);
        (record.key, record.payload, record.partition) = (key, value, partition);
        (record.timestamp, record.headers) = (time, headers);
        while let Err((error, again)) = self.get().send(record) {
            if error.rdkafka_error_code() != Some(Code::QueueFull) {
                return Err(SendError::of(&format!("sending to the topic `{topic}`"), &error));
            }
            self.serve_for(Duration::from_millis(10))?;
            if gives_up() {
                let why = self.trouble().unwrap_or_else(|| "brokers take no messages".to_owned());
                return Err(Error::transient(format!("sending to the topic `{topic}`: {why}")).into());
            }
            record = again;
        }
        Ok(())
    }

    /// Takes note of what has become of messages, and sees that brokers know who connects. Never waits.
    pub fn serve(&self) -> Result<(), SendError> {
        self.serve_for(Duration::ZERO)
    }

    fn serve_for(&self, wait: Duration) -> Result<(), SendError> {
        if let Some(admission) = &self.admission {
            admission.renew(self.get().client());
        }
        self.get().poll(wait);
        self.check()
    }

    /// Waits until all messages are delivered, or `gives_up` says that it has been long enough.
    pub fn flush(&self, mut gives_up: impl FnMut() -> bool) -> Result<(), SendError> {
        loop {
            let flushed = self.get().flush(Duration::ZERO);
            self.serve()?;
            match flushed {
                Ok(()) => return Ok(()),
                Err(_) if gives_up() => {
                    let why = self.trouble().unwrap_or_else(|| "brokers do not answer".to_owned());
                    return Err(Error::transient(format!("waiting for messages to be delivered: {why}")).into());
                }
                Err(error) if !is_waiting(&error) => return Err(SendError::of("delivering messages", &error)),
                // It takes all of the time that it is given, also when the last message has been delivered.
                Err(_) => self.get().poll(FLUSH_POLL),
            }
        }
    }

    /// The error of a message that was not delivered.
    fn check(&self) -> Result<(), SendError> {
        let failed = self.get().context().failed.lock().unwrap_or_else(PoisonError::into_inner);
        match &*failed {
            None => Ok(()),
            Some((Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch, _)) => Err(SendError::Fenced),
            Some((code, topic)) => {
                Err(of_class(*code, format!("a message to the topic `{topic}` was not delivered: {code}")).into())
            }
        }
    }

    /// Lets it go on a thread of its own, since that may hang.
    fn let_go(&mut self) -> Receiver<()> {
        let producer = self.client.take();
        let (done, is_done) = channel();
        std::thread::spawn(move || {
            drop(producer);
            let _ = done.send(());
        });
        is_done
    }
}

fn is_waiting(error: &KafkaError) -> bool {
    matches!(error.rdkafka_error_code(), Some(Code::OperationTimedOut | Code::RequestTimedOut))
}

impl Drop for Producer {
    fn drop(&mut self) {
        if self.client.is_some() {
            let _ = self.let_go().recv_timeout(LAST_MOMENT);
        }
    }
}

/// Producers that have been let go. A process that ends meanwhile would pull memory away from librdkafka's threads, so that it waits for
/// them for a moment.
#[derive(Default)]
pub struct LetGo(Vec<Receiver<()>>);

impl LetGo {
    /// Lets a producer go, without waiting.
    pub fn add(&mut self, mut producer: Producer) {
        self.0.retain(|done| done.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty));
        self.0.push(producer.let_go());
    }
}

impl Drop for LetGo {
    #[expect(clippy::disallowed_methods, reason = "librdkafka's threads take real time")]
    fn drop(&mut self) {
        let deadline = Instant::now() + LAST_MOMENT;
        for done in &self.0 {
            let _ = done.recv_timeout(deadline.saturating_duration_since(Instant::now()));
        }
    }
}
