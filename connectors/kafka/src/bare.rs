//! A consumer that does nothing with its messages: what the input is measured beside.

use std::time::Duration;

use millstream_core::{Error, Result};
use rdkafka::config::ClientConfig;

use crate::client::Consumer;
use crate::input::CLIENT;
use crate::input::partition::Assigned;
use crate::input::poller::assign;
use crate::native::Queue;
use crate::topics::TopicPartition;

/// Takes so many messages of the first partition of a topic from librdkafka, with the settings that the input has, and forgets them.
///
/// # Errors
/// If they don't come.
pub fn consume(brokers: &str, topic: &str, messages: usize) -> Result<()> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("group.id", "bare");
    CLIENT.iter().for_each(|(name, value)| _ = config.set(*name, *value));
    let of = TopicPartition { topic: topic.to_owned(), number: 0 };
    let (consumer, ()) = Consumer::connect(&config.into(), brokers, |_| Ok(()))?;
    let queue = Queue::new(&consumer);
    queue.receive(topic, 0);
    assign(&consumer, &[Assigned::new(of, 0, None)])?;
    let mut taken = 0;
    while taken < messages {
        let parcel = queue.take(Duration::from_secs(30), 8192);
        if parcel.is_empty() || parcel.iter().any(|message| message.is_error()) {
            return Err(Error::new(format!("{taken} of {messages} messages came of `{topic}`")));
        }
        taken += parcel.len();
    }
    Ok(())
}
