//! A producer of librdkafka: what goes wrong with its messages, and how it is let go. All calls that wait are bounded.

use std::cell::RefCell;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use millstream_core::{Error, Result};
use rdkafka::types::RDKafkaErrorCode as Code;

use super::rows::Encoded;
use crate::client::{ClientOptions, Watch};
use crate::native::{self, Deliveries, Failure, Outgoing};
use crate::tokens::Admission;

/// How long a call waits for brokers. Messages are given up before.
pub const WAIT: Duration = Duration::from_secs(30);

/// How long to wait for deliveries before it is looked what else there is: messages that were not delivered count as waiting until then.
const FLUSH_POLL: Duration = Duration::from_millis(20);

/// How long to wait for room before a message is offered again.
const ROOM_POLL: Duration = Duration::from_millis(5);

/// So many messages are handed over at once.
const AT_ONCE: usize = 1024;

/// How long a producer that is let go may hold up the end of the process.
pub const LAST_MOMENT: Duration = Duration::from_secs(1);

/// A producer.
pub struct Producer {
    client: Option<native::Producer<Watch>>,
    admission: Option<Admission>,
    /// The first message that could not be delivered: why, and its topic.
    failed: RefCell<Option<(Code, String)>>,
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
    fn of(doing: &str, failure: Failure) -> Self {
        let Failure { code, said } = failure;
        match code {
            Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch => Self::Fenced,
            _ => Self::Other(of_class(code, format!("{doing}: {said}"))),
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

/// The error of messages that were not delivered.
pub fn undelivered(code: Code, what: &str) -> Error {
    of_class(code, format!("{what} was not delivered: {code}"))
}

impl Producer {
    /// Makes one, which connects by itself.
    ///
    /// # Errors
    /// If it can't be made.
    pub fn new(config: &ClientOptions) -> Result<Self> {
        let made = native::Producer::new(config, Watch::default());
        let client = made.map_err(|error| Error::new(format!("the client of Kafka can't be made: {error}")))?;
        let admission = config.admit(client.client())?;
        Ok(Self { client: Some(client), admission, failed: RefCell::default() })
    }

    fn get(&self) -> &native::Producer<Watch> {
        match &self.client {
            Some(producer) => producer,
            None => unreachable!("it is taken only when it is dropped"),
        }
    }

    /// Whether nothing that it has asked brokers to write can still arrive, nor anything that they have asked each other because of that: each of its
    /// requests was answered, and no connection was lost.
    pub fn is_settled(&self) -> bool {
        !self.get().has_lost_answers() && self.trouble().is_none()
    }

    /// What is wrong with its connections now.
    pub fn trouble(&self) -> Option<String> {
        self.get().client().context().trouble().map(|trouble| trouble.reason)
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
        self.get().init(WAIT).map_err(|failure| match self.trouble() {
            Some(trouble) if matches!(failure.code, Code::OperationTimedOut | Code::RequestTimedOut) => {
                Error::transient(format!("no broker takes transactions: {trouble}")).into()
            }
            _ => SendError::of("beginning with transactions", failure),
        })
    }

    /// Begins a transaction.
    pub fn begin(&self) -> Result<(), SendError> {
        self.get().begin().map_err(|failure| SendError::of("beginning a transaction", failure))
    }

    /// Commits it, when all messages are delivered.
    pub fn commit(&self, gives_up: impl FnMut() -> bool) -> Result<(), SendError> {
        self.flush(gives_up)?;
        let committed = self.get().commit(WAIT);
        self.serve()?;
        committed.map_err(|failure| SendError::of("committing a transaction", failure))
    }

    /// Sends rows, each as soon as there is room for it; brokers that are away are waited for until `gives_up` says so.
    pub fn send_all(&mut self, rows: &Encoded, mut gives_up: impl FnMut() -> bool) -> Result<(), SendError> {
        if let Some(topic) = rows.plain_topic() {
            return self.send_plain(topic, rows, gives_up);
        }
        for row in 0..rows.len() {
            let topic = rows.topic(row).ok_or_else(|| Error::new("a row has no topic"))?;
            self.send(topic, &rows.message(row), &mut gives_up)?;
        }
        self.serve()
    }

    /// The same of rows that all go to one topic, and are nothing but key and value.
    fn send_plain(&mut self, topic: &str, rows: &Encoded, mut gives_up: impl FnMut() -> bool) -> Result<(), SendError> {
        let mut next = 0;
        while next < rows.len() {
            let Some(client) = &mut self.client else { unreachable!("it is taken only when it is dropped") };
            let messages = (next..rows.len().min(next + AT_ONCE)).map(|row| rows.message(row));
            let (taken, sent) = client.send_all(topic, messages);
            next += taken;
            match sent {
                Ok(()) => {}
                Err(failure) => self.await_room(topic, failure, &mut gives_up)?,
            }
        }
        self.serve()
    }

    /// Waits for room after a message was not taken, if that is why.
    fn await_room(&self, topic: &str, failure: Failure, gives_up: &mut impl FnMut() -> bool) -> Result<(), SendError> {
        if failure.code != Code::QueueFull {
            return Err(SendError::of(&format!("sending to the topic `{topic}`"), failure));
        }
        self.serve_for(ROOM_POLL)?;
        if gives_up() {
            let why = self.trouble().unwrap_or_else(|| "brokers take no messages".to_owned());
            return Err(Error::transient(format!("sending to the topic `{topic}`: {why}")).into());
        }
        Ok(())
    }

    /// Sends a message as soon as there is room for it.
    pub fn send(
        &mut self,
        topic: &str,
        message: &Outgoing<'_>,
        mut gives_up: impl FnMut() -> bool,
    ) -> Result<(), SendError> {
        loop {
            let Some(client) = &mut self.client else { unreachable!("it is taken only when it is dropped") };
            match client.send(topic, message) {
                Ok(()) => return Ok(()),
                Err(failure) => self.await_room(topic, failure, &mut gives_up)?,
            }
        }
    }

    /// Counts from now on which messages are under way.
    pub fn count(&mut self) {
        self.client.iter_mut().for_each(native::Producer::count);
    }

    /// All messages that were sent so far, if they are counted.
    pub fn deliveries(&mut self) -> Deliveries {
        let Some(client) = &mut self.client else { unreachable!("it is taken only when it is dropped") };
        client.deliveries()
    }

    /// Takes note of what has become of messages, and sees that brokers know who connects. Never waits.
    pub fn serve(&self) -> Result<(), SendError> {
        self.serve_for(Duration::ZERO)
    }

    fn serve_for(&self, wait: Duration) -> Result<(), SendError> {
        if let Some(admission) = &self.admission {
            admission.renew(self.get().client());
        }
        self.get().poll(wait, |code, topic| {
            self.failed.borrow_mut().get_or_insert_with(|| (code, topic.to_owned()));
        });
        self.check()
    }

    /// Waits until all messages are delivered, or `gives_up` says that it has been long enough.
    pub fn flush(&self, mut gives_up: impl FnMut() -> bool) -> Result<(), SendError> {
        loop {
            let is_delivered = self.get().flush(FLUSH_POLL);
            self.serve()?;
            if is_delivered {
                return Ok(());
            }
            if gives_up() {
                let why = self.trouble().unwrap_or_else(|| "brokers do not answer".to_owned());
                return Err(Error::transient(format!("waiting for messages to be delivered: {why}")).into());
            }
        }
    }

    /// The error of a message that was not delivered.
    fn check(&self) -> Result<(), SendError> {
        match &*self.failed.borrow() {
            None => Ok(()),
            Some((Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch, _)) => Err(SendError::Fenced),
            Some((code, topic)) => Err(undelivered(*code, &format!("a message to the topic `{topic}`")).into()),
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use millstream_testkit::{Kafka, table};
    use rdkafka::config::ClientConfig;
    use serde_json::json;

    use super::*;
    use crate::output::rows::{Layout, Prefixes, RowEncoder, RowFormat};
    use crate::output::{COMMON, TRANSACTIONS};

    /// A producer that has begun with transactions.
    fn begun(kafka: &Kafka, topic: &str) -> Producer {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", kafka.brokers()).set("transactional.id", topic);
        COMMON.iter().chain(TRANSACTIONS).for_each(|(name, value)| _ = config.set(*name, *value));
        let producer = Producer::new(&config.into()).unwrap();
        producer.connect(topic).unwrap();
        producer.init().unwrap();
        producer
    }

    fn send(producer: &mut Producer, topic: &str, value: &str) -> Result<(), SendError> {
        let message = Outgoing { value: Some(value.as_bytes()), ..Outgoing::default() };
        producer.send(topic, &message, || false)
    }

    #[test]
    fn a_producer_makes_one_transaction_after_the_other_until_it_is_fenced() {
        let Some(kafka) = Kafka::start() else { return };
        kafka.create("one", 1, &[]);
        let mut producer = begun(&kafka, "one");
        for number in 0..5 {
            producer.begin().unwrap();
            send(&mut producer, "one", &number.to_string()).unwrap();
            producer.commit(|| false).unwrap();
            assert!(producer.is_settled(), "{:?}", producer.trouble());
        }
        producer.begin().unwrap();
        send(&mut producer, "one", "late").unwrap();
        producer.flush(|| false).unwrap();
        let other = begun(&kafka, "one");
        assert!(matches!(producer.commit(|| false), Err(SendError::Fenced)));
        drop(other);
        let values: Vec<_> = kafka.read("one").into_iter().map(|(_, _, _, value)| value.unwrap()).collect();
        assert_eq!(values, [b"0", b"1", b"2", b"3", b"4"]);
    }

    #[test]
    fn rows_that_are_handed_over_together_keep_their_order_though_there_is_little_room() {
        let Some(kafka) = Kafka::start() else { return };
        kafka.create("many", 1, &[]);
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", kafka.brokers());
        COMMON.iter().for_each(|(name, value)| _ = config.set(*name, *value));
        config.set("queue.buffering.max.messages", "100");
        let mut producer = Producer::new(&config.into()).unwrap();
        let texts: Vec<_> = (0..5000).map(|number| number.to_string()).collect();
        let rows = table(&format!("value:utf8\n{}", texts.join("\n")));
        let layout = Layout { fixed_topic: Some("many".to_owned()), ..Layout::default() };
        let format = serde_json::from_value(json!("raw")).unwrap();
        let format = RowFormat::new(&format, None, &layout, &rows.schema(), &millstream_testkit::context()).unwrap();
        let encoder = RowEncoder::new(&layout, &format, rows.schema(), &Prefixes::default());
        producer.send_all(&encoder.unwrap().encode(&rows).unwrap(), || false).unwrap();
        producer.flush(|| false).unwrap();
        let values = kafka.read("many").into_iter().map(|(_, _, _, value)| String::from_utf8(value.unwrap()).unwrap());
        assert_eq!(values.collect::<Vec<_>>(), texts);
    }

    #[test]
    fn what_was_sent_is_waited_for_and_not_what_comes_behind_it() {
        let Some(kafka) = Kafka::start() else { return };
        kafka.create("counted", 1, &[]);
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", kafka.brokers());
        COMMON.iter().for_each(|(name, value)| _ = config.set(*name, *value));
        let mut producer = Producer::new(&config.into()).unwrap();
        producer.count();
        assert_eq!(producer.deliveries().wait(), Ok(()), "nothing was sent");
        send(&mut producer, "counted", "first").unwrap();
        let first = producer.deliveries();
        first.wait().unwrap();
        kafka.services().kill("kafka");
        send(&mut producer, "counted", "second").unwrap();
        let (second, third) = (producer.deliveries(), producer.deliveries());
        drop(second);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| third.wait());
            kafka.services().start_again("kafka");
            assert_eq!(waiting.join().unwrap(), Ok(()));
        });
        kafka.services().kill("kafka");
        send(&mut producer, "counted", "third").unwrap();
        let lost = producer.deliveries();
        drop(producer);
        assert!(lost.wait().is_err());
    }

    #[test]
    fn a_request_without_an_answer_is_noted() {
        let Some(kafka) = Kafka::start() else { return };
        kafka.create("lost", 1, &[]);
        let mut producer = begun(&kafka, "lost");
        producer.begin().unwrap();
        send(&mut producer, "lost", "first").unwrap();
        producer.flush(|| false).unwrap();
        assert!(producer.is_settled());
        let long = Outgoing { value: Some(&[b'x'; 100_000]), ..Outgoing::default() };
        std::thread::scope(|scope| {
            let killing = scope.spawn(|| kafka.services().kill("kafka"));
            // Some are under way when the broker dies, also where it takes a while to.
            while !killing.is_finished() {
                let _ = producer.send("lost", &long, || killing.is_finished());
            }
        });
        kafka.services().start_again("kafka");
        // librdkafka has asked again, and had an answer; or it has given up.
        let _ = producer.commit(|| false);
        assert!(producer.get().has_lost_answers());
        assert!(!producer.is_settled());
    }
}
