//! A real broker of MQTT to test with, and what only tests do to one.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use tokio::sync::oneshot;

use crate::Services;

/// A broker of a test process's own.
#[derive(Debug)]
pub struct Mqtt {
    services: Services,
}

impl Mqtt {
    /// Starts one for a test. None where tests are to do without, which is said.
    pub fn start() -> Option<Self> {
        Some(Self { services: Services::start(&["mosquitto"])? })
    }

    /// The servers, to kill and start again.
    pub fn services(&self) -> &Services {
        &self.services
    }

    /// Where it listens without encryption.
    pub fn address(&self) -> &str {
        self.services.get("MQTT_ADDRESS")
    }

    fn options(&self, id: &str) -> MqttOptions {
        let (host, port) = self.address().split_once(':').unwrap();
        let mut options = MqttOptions::new(id, host, port.parse().unwrap());
        options.set_max_packet_size(1 << 24, 1 << 24).set_keep_alive(Duration::from_secs(30));
        options
    }

    /// Publishes messages with QoS 1, each with its topic, and waits until the broker has all of them and has written them down.
    pub fn publish(&self, messages: &[(String, Vec<u8>)], retain: bool) {
        let publish = async {
            let (client, mut events) =
                AsyncClient::new(self.options(&format!("sender-{:?}", thread::current().id())), 10);
            let send = async {
                for (topic, payload) in messages {
                    client.publish(topic, QoS::AtLeastOnce, retain, payload.clone()).await.unwrap();
                }
                // It is taken in a later turn than those before it, behind which they are written down.
                client.publish("turns", QoS::AtLeastOnce, false, "").await.unwrap();
            };
            let acknowledged = async {
                let mut left = messages.len() + 1;
                while left > 0 {
                    left -= usize::from(matches!(events.poll().await.unwrap(), Event::Incoming(Packet::PubAck(_))));
                }
            };
            tokio::join!(send, acknowledged);
        };
        // A test may have a runtime of its own.
        thread::scope(|scope| scope.spawn(|| runtime().block_on(publish)).join().unwrap());
    }

    /// Has the broker forget what it keeps for a client.
    pub fn forget(&self, client: &str) {
        let forget = async {
            let (client, mut events) = AsyncClient::new(self.options(client), 10);
            events.poll().await.unwrap();
            client.try_disconnect().unwrap();
            while events.poll().await.is_ok() {}
        };
        thread::scope(|scope| scope.spawn(|| runtime().block_on(forget)).join().unwrap());
    }

    /// Takes messages of topics from now on, each with its topic.
    pub fn subscribe(&self, filter: &str) -> Subscriber {
        let received = Messages::default();
        let mut options = self.options(&format!("reader-{filter}"));
        options.set_clean_session(false);
        let (subscribed, filter, kept) = (Arc::new(Mutex::new(None)), filter.to_owned(), received.clone());
        let (tell, told) = std::sync::mpsc::channel();
        let (stop, mut stopped) = oneshot::channel::<()>();
        *subscribed.lock().unwrap() = Some(tell);
        thread::spawn(move || {
            runtime().block_on(async {
                let (client, mut events) = AsyncClient::new(options, 10);
                loop {
                    let event = tokio::select! {
                        event = events.poll() => event,
                        _ = &mut stopped => return,
                    };
                    match event {
                        Ok(Event::Incoming(Packet::ConnAck(_))) => {
                            client.try_subscribe(&filter, QoS::AtLeastOnce).unwrap();
                        }
                        Ok(Event::Incoming(Packet::SubAck(_))) => {
                            subscribed.lock().unwrap().take().map(|tell| tell.send(()));
                        }
                        Ok(Event::Incoming(Packet::Publish(message))) => {
                            kept.lock().unwrap().push((message.topic, message.payload.to_vec()));
                        }
                        Ok(_) => {}
                        // It may be killed in a test.
                        Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                    }
                }
            });
        });
        told.recv().unwrap();
        Subscriber { received, _stop: stop }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Messages that have come, each with its topic.
type Messages = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// Takes messages until it is dropped.
#[derive(Debug)]
pub struct Subscriber {
    received: Messages,
    _stop: oneshot::Sender<()>,
}

impl Subscriber {
    /// What has come so far.
    pub fn received(&self) -> Vec<(String, Vec<u8>)> {
        self.received.lock().unwrap().clone()
    }
}
