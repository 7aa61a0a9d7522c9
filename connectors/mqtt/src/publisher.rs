//! Publishes messages with QoS 1, over a connection of its own.

use std::sync::{Arc, Mutex, PoisonError};

use millstream_core::{Error, Result};
use millstream_messages::Messages;
use rumqttc::{AsyncClient, Event, EventLoop, Packet, QoS};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Duration, timeout};

use crate::connection::Broker;

/// How many messages may be on their way. Brokers keep that many for a client at least.
const IN_FLIGHT: u16 = 100;

/// How long a broker may take to acknowledge anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection that publishes.
pub struct Publisher {
    broker: Broker,
    client: AsyncClient,
    sent: u64,
    acknowledged: watch::Receiver<u64>,
    ended: Arc<Mutex<Option<Error>>>,
    task: JoinHandle<()>,
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Publisher {
    /// Connects.
    pub async fn connect(broker: &Broker) -> Result<Self> {
        let mut options = broker.options.clone();
        // Nothing is left to the broker's memory: what it has not acknowledged is sent again from the spool.
        options.set_clean_session(true).set_inflight(IN_FLIGHT);
        let (client, mut events) = AsyncClient::new(options, usize::from(IN_FLIGHT));
        events.poll().await.map_err(|error| broker.failed(&error))?;
        let (count, acknowledged) = watch::channel(0);
        let ended = Arc::new(Mutex::new(None));
        let task = tokio::spawn(run(events, count, broker.clone(), ended.clone()));
        Ok(Self { broker: broker.clone(), client, sent: 0, acknowledged, ended, task })
    }

    /// Publishes messages, and waits until the broker has acknowledged all of them.
    pub async fn publish(&mut self, messages: &Messages<'_>, retain: bool) -> Result<()> {
        for row in 0..messages.len() {
            let to = messages.to(row).ok_or_else(|| Error::new("a row that was staged has no topic"))?;
            let sent = self.client.publish(to, QoS::AtLeastOnce, retain, messages.value(row));
            if timeout(PATIENCE, sent).await.map_err(|_| self.silent())?.is_err() {
                return Err(self.why());
            }
            self.sent += 1;
        }
        while *self.acknowledged.borrow_and_update() < self.sent {
            let change = timeout(PATIENCE, self.acknowledged.changed()).await;
            if change.map_err(|_| self.silent())?.is_err() {
                return Err(self.why());
            }
        }
        Ok(())
    }

    fn silent(&self) -> Error {
        Error::transient(format!("`{}` acknowledges nothing", self.broker.address))
    }

    /// Why the connection has ended.
    fn why(&self) -> Error {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner).take();
        ended.unwrap_or_else(|| Error::transient(format!("the connection to `{}` has ended", self.broker.address)))
    }
}

/// Keeps the connection, and counts what is acknowledged, until it ends.
async fn run(mut events: EventLoop, count: watch::Sender<u64>, broker: Broker, ended: Arc<Mutex<Option<Error>>>) {
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Packet::PubAck(_))) => count.send_modify(|count| *count += 1),
            Ok(_) => {}
            Err(error) => {
                *ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(broker.failed(&error));
                return;
            }
        }
    }
}
