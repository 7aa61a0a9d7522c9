//! A real NATS to test with, and what only tests do to one.

use std::time::Duration;

use async_nats::ConnectOptions;
use async_nats::jetstream::consumer::pull::Config as ConsumerConfig;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy};
use async_nats::jetstream::stream::Config;
use async_nats::jetstream::{self, Context};
use futures::StreamExt as _;

use crate::Services;

/// A server of a test process's own.
#[derive(Debug)]
pub struct Nats {
    services: Services,
}

impl Nats {
    /// Starts one for a test. None where tests are to do without, which is said.
    pub fn start() -> Option<Self> {
        Some(Self { services: Services::start(&["nats"])? })
    }

    /// The servers, to kill and start again.
    pub fn services(&self) -> &Services {
        &self.services
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        self.services.get("NATS_ADDRESS")
    }

    /// Does something with a connection.
    pub fn with<T: Send>(&self, ask: impl AsyncFnOnce(Context) -> T + Send) -> T {
        let work = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let client = ConnectOptions::new().connect(self.address()).await.unwrap();
                ask(jetstream::new(client)).await
            })
        };
        // A test may have a runtime of its own.
        std::thread::scope(|scope| scope.spawn(work).join().unwrap())
    }

    /// Makes a stream of these subjects, or changes it.
    pub fn stream(&self, name: &str, subjects: &[&str], change: impl FnOnce(&mut Config)) {
        let subjects = subjects.iter().map(|subject| (*subject).to_owned()).collect();
        let duplicate_window = Duration::from_secs(120);
        let mut config = Config { name: name.to_owned(), subjects, duplicate_window, ..Config::default() };
        change(&mut config);
        self.with(async move |context| {
            context.create_or_update_stream(config).await.unwrap();
        });
    }

    /// Sends messages, each with its subject, and waits until the server has them.
    pub fn send(&self, messages: &[(String, Vec<u8>)]) {
        self.with(async |context| {
            let mut answers = Vec::new();
            for (subject, payload) in messages {
                answers.push(context.publish(subject.clone(), payload.clone().into()).await.unwrap());
            }
            for answer in answers {
                answer.await.unwrap();
            }
        });
    }

    /// All messages of a stream, each with its subject, in their order.
    pub fn read(&self, stream: &str) -> Vec<(String, Vec<u8>)> {
        self.with(async |context| {
            let stream = context.get_stream(stream).await.unwrap();
            let config = ConsumerConfig {
                deliver_policy: DeliverPolicy::All,
                ack_policy: AckPolicy::None,
                ..ConsumerConfig::default()
            };
            let consumer = stream.create_consumer(config).await.unwrap();
            let mut left = consumer.cached_info().num_pending as usize;
            let mut read = Vec::with_capacity(left);
            while left > 0 {
                let asked = consumer.batch().max_messages(left).expires(Duration::from_secs(10));
                let mut batch = asked.messages().await.unwrap();
                while let Some(message) = batch.next().await {
                    let message = message.unwrap();
                    read.push((message.subject.to_string(), message.payload.to_vec()));
                    left -= 1;
                }
            }
            read
        })
    }
}
