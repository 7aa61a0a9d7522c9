//! The thread that looks for new partitions.

use std::sync::Arc;
use std::sync::mpsc as std_mpsc;
use std::thread;
use std::time::Duration;

use millstream_core::{ErrorClass, Result};
use rdkafka::consumer::Consumer as _;

use super::partition::Assigned;
use super::poller::Discovered;
use crate::client::{Consumer, failed};
use crate::native::topic_ids;
use crate::topics::{Place, TopicPartition, Topics, positions};

/// How long brokers may take to say the ids of topics.
const WAIT: Duration = Duration::from_secs(10);

/// Looks for new partitions from time to time, until nobody wants to know of them any more.
pub struct Scout {
    pub consumer: Arc<Consumer>,
    pub topics: Topics,
    /// The partitions that are known.
    pub known: Vec<Assigned>,
    pub interval: Duration,
    pub discovered: std_mpsc::Sender<Discovered>,
}

impl Scout {
    /// Looks again and again until the other side of `stop` is dropped.
    pub fn start(mut self, stop: std_mpsc::Receiver<()>) {
        thread::spawn(move || {
            while stop.recv_timeout(self.interval) == Err(std_mpsc::RecvTimeoutError::Timeout) {
                match self.look() {
                    Ok(new) if new.is_empty() => {}
                    // Brokers may be away; the poller waits for them.
                    Err(error) if error.class() == ErrorClass::Transient => tracing::debug!("{error}"),
                    found => _ = self.discovered.send(found),
                }
            }
        });
    }

    fn look(&mut self) -> Result<Vec<Assigned>> {
        let found = self.topics.look_up(&self.consumer)?;
        let ids = topic_ids(&self.consumer, &found.topics(), WAIT);
        let ids = ids.map_err(|error| failed("asking for the ids of topics", error))?;
        self.consumer.context().is_well();
        self.known.iter_mut().try_for_each(|partition| partition.identify(&ids))?;
        let is_new = |of: &TopicPartition| self.known.iter().all(|partition| partition.of != *of);
        let new: Vec<_> = found.partitions.into_iter().filter(is_new).collect();
        if new.is_empty() {
            return Ok(Vec::new());
        }
        let starts = positions(&self.consumer, &new, Place::Earliest)?;
        let mut new: Vec<_> = new.into_iter().zip(starts).map(|(of, start)| Assigned::new(of, start, None)).collect();
        new.iter_mut().try_for_each(|partition| partition.identify(&ids))?;
        self.known.extend(new.iter().cloned());
        Ok(new)
    }
}
