//! Receives messages, and acknowledges them when they are durable.
//!
//! A broker keeps what it has for a client that it knows by its name, and sends again what was not acknowledged. So a message that is
//! acknowledged behind its sync is lost in no crash, and may come a second time in one between the two.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use millstream_connectors::push::{Health, Ingest, Note, Receiver, Waiting, Worker, keep, waiting};
use millstream_core::{Error, ErrorClass, PROBE_PATIENCE, Report, Result, ResultExt as _};
use millstream_spool::Pauses;
use millstream_store::crash;
use rumqttc::{AsyncClient, Event, Packet, Publish, QoS, SubAck, SubscribeFilter, SubscribeReasonCode};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Duration, Instant, timeout};

use crate::connection::Broker;
use crate::contents::{Kept, pack};

/// How long a broker may take to answer at the beginning of a flow.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long the broker may take at the end to have read what is acknowledged. Brokers that write each acknowledgement down are slow.
const LAST_MOMENT: Duration = Duration::from_secs(10);

/// How many requests may wait for a connection: more than there can be messages that are not acknowledged.
const REQUESTS: usize = 1 << 17;

/// The note that says which topics the broker was asked for, so that it is not asked again: it would send what it keeps of them anew.
const SUBSCRIBED: &str = "subscribed";

/// Receives messages of topics.
pub struct Subscription {
    pub broker: Broker,
    pub topics: Vec<String>,
    pub max_message: usize,
    pub health: Arc<Health>,
}

#[async_trait]
impl Receiver for Subscription {
    async fn start(&mut self, ingest: Ingest) -> Result<Box<dyn Send>> {
        let (tell, told) = oneshot::channel();
        let (send, taken) = waiting(self.max_message);
        let (end, ends) = watch::channel(false);
        let following = Following {
            broker: self.broker.clone(),
            topics: self.topics.clone(),
            subscribed: Note::new(ingest.home(), SUBSCRIBED),
            health: self.health.clone(),
            messages: send,
            first: Some(tell),
            ends,
        };
        let health = self.health.clone();
        let worker = Worker::start("mqtt", |stopped| {
            Ok(async move {
                let mut following = pin!(following.follow());
                let mut last = None;
                tokio::select! {
                    () = &mut following => return,
                    () = keep(taken, &ingest, &health, stopped, |several| last = acknowledge(several)) => {}
                }
                // What was kept is acknowledged, so that it does not come again. The broker ends the connection when it has read all of that.
                let _ = end.send(true);
                if last.is_some_and(|over| over.try_disconnect().is_ok()) {
                    let _ = timeout(LAST_MOMENT, following).await;
                }
            })
        })?;
        told.await.map_err(|_| Error::new("what receives messages has ended"))??;
        Ok(Box::new(worker))
    }

    fn report(&self) -> Option<Report> {
        self.health.report("topics of MQTT")
    }
}

/// A message that has come over a connection.
struct Taken {
    message: Publish,
    received_at: i64,
    /// The connection, which is the only one over which it may be acknowledged: behind it, its number may be that of another.
    over: AsyncClient,
}

/// Follows topics over one connection after the other.
struct Following {
    broker: Broker,
    topics: Vec<String>,
    subscribed: Note,
    health: Arc<Health>,
    messages: mpsc::Sender<Taken>,
    /// Told when messages can come, or why they can't.
    first: Option<oneshot::Sender<Result<()>>>,
    /// Whether it ends with the connection.
    ends: watch::Receiver<bool>,
}

impl Following {
    async fn follow(mut self) {
        let deadline = Instant::now() + PATIENCE;
        let mut pauses = Pauses::default();
        loop {
            let error = self.connect(&mut pauses).await;
            if *self.ends.borrow() {
                return;
            }
            if self.first.is_some() && (error.class() != ErrorClass::Transient || Instant::now() > deadline) {
                return self.tell(Err(error));
            }
            self.health.note(Some(&error));
            pauses.wait(&error).await;
        }
    }

    fn tell(&mut self, first: Result<()>) {
        if let Some(tell) = self.first.take() {
            let _ = tell.send(first);
        }
    }

    /// Receives until the connection ends, and says why.
    async fn connect(&mut self, pauses: &mut Pauses) -> Error {
        match self.receive(pauses).await {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    async fn receive(&mut self, pauses: &mut Pauses) -> Result<Infallible> {
        let mut options = self.broker.options.clone();
        options.set_clean_session(false).set_manual_acks(true);
        let (over, mut events) = AsyncClient::new(options, REQUESTS);
        loop {
            let event = events.poll().await.map_err(|error| self.broker.failed(&error))?;
            match event {
                Event::Incoming(Packet::ConnAck(answer)) => {
                    let asks = self.subscribe(&over, answer.session_present)?;
                    if !asks {
                        self.is_well(pauses);
                    }
                }
                Event::Incoming(Packet::SubAck(answer)) => {
                    self.check(&answer)?;
                    self.is_well(pauses);
                }
                // The broker may not have been told yet that a topic is wanted no more.
                Event::Incoming(Packet::Publish(message)) if !self.wants(&message) => {
                    let _ = over.try_ack(&message);
                }
                Event::Incoming(Packet::Publish(message)) => {
                    // At the end nobody takes it, and it is not acknowledged.
                    let _ = self.messages.send(Taken { message, received_at: now(), over: over.clone() }).await;
                }
                _ => {}
            }
        }
    }

    fn wants(&self, message: &Publish) -> bool {
        self.topics.iter().any(|filter| rumqttc::matches(&message.topic, filter))
    }

    fn is_well(&mut self, pauses: &mut Pauses) {
        self.tell(Ok(()));
        self.health.note(None);
        pauses.end();
    }

    /// Asks for the topics that the broker does not know to be wanted. Returns whether it has an answer to that.
    fn subscribe(&self, over: &AsyncClient, is_known: bool) -> Result<bool> {
        let said = if is_known { self.subscribed.read()? } else { None };
        let before: BTreeSet<String> = said.and_then(|said| serde_json::from_slice(&said).ok()).unwrap_or_default();
        let wanted: BTreeSet<_> = self.topics.iter().cloned().collect();
        let asking = |error| Error::transient(format!("subscribing to topics: {error}"));
        for unwanted in before.difference(&wanted) {
            over.try_unsubscribe(unwanted).map_err(asking)?;
        }
        if is_known && before == wanted {
            return Ok(false);
        }
        let new = wanted.difference(&before);
        let filters: Vec<_> = new.map(|topic| SubscribeFilter::new(topic.clone(), QoS::AtLeastOnce)).collect();
        if filters.is_empty() {
            self.note_topics()?;
            return Ok(false);
        }
        over.try_subscribe_many(filters).map_err(asking)?;
        Ok(true)
    }

    fn check(&self, answer: &SubAck) -> Result<()> {
        if answer.return_codes.contains(&SubscribeReasonCode::Failure) {
            let topics = self.topics.join("`, `");
            return Err(Error::new(format!("the broker does not let the client read all of `{topics}`")));
        }
        self.note_topics()
    }

    fn note_topics(&self) -> Result<()> {
        self.subscribed.write(&serde_json::to_vec(&self.topics).doing(|| "noting topics")?)
    }
}

/// Acknowledges messages that were kept, and returns the connection of the last ones.
fn acknowledge(several: Vec<Taken>) -> Option<AsyncClient> {
    crash::point("mqtt-kept");
    for Taken { message, over, .. } in &several {
        // Over a connection that has ended, nothing is acknowledged, and the broker sends it again.
        let _ = over.try_ack(message);
    }
    several.into_iter().next_back().map(|taken| taken.over)
}

impl Waiting for Taken {
    fn bytes(&self) -> usize {
        self.message.payload.len() + self.message.topic.len()
    }

    fn pack(several: &[Self]) -> Result<Vec<u8>> {
        pack(&several.iter().map(Self::kept).collect::<Vec<_>>())
    }
}

impl Taken {
    fn kept(&self) -> Kept<'_> {
        let Publish { topic, payload, retain, dup, .. } = &self.message;
        Kept { topic, payload, received_at: self.received_at, is_retained: *retain, is_repeated: *dup }
    }
}

#[expect(clippy::disallowed_methods, reason = "it is kept with the message, so that a replay has the same")]
fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_micros()).unwrap_or(i64::MAX)
}

/// Connects, and says what was found.
pub async fn look(broker: &Broker) -> Result<String> {
    let mut options = broker.options.clone();
    // Another name, so that a flow that runs is not thrown out.
    options.set_client_id(format!("{}.look", options.client_id())).set_clean_session(true);
    let (_client, mut events) = AsyncClient::new(options, 1);
    let connected = timeout(PROBE_PATIENCE, events.poll()).await;
    let late = |_| Error::transient(format!("`{}` does not answer", broker.address));
    connected.map_err(late)?.map_err(|error| broker.failed(&error))?;
    Ok(format!("a broker of MQTT at `{}`", broker.address))
}
