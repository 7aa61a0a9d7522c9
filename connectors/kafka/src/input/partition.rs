//! A partition that is read, and how far.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::topics::TopicPartition;

/// A partition, and where it is read.
#[derive(Clone, Debug)]
pub struct Assigned {
    pub of: TopicPartition,
    /// What it is called in the flow.
    pub name: Arc<str>,
    /// Where the flow has begun it.
    pub start: u64,
    /// Where it ends for a flow that does.
    pub end: Option<u64>,
    /// The next position.
    pub next: u64,
    /// The epoch of the leader that has written what lies before it, or -1.
    pub epoch: i32,
    /// The id of the topic, if brokers give topics ids.
    pub topic_id: Option<String>,
}

impl Assigned {
    pub fn new(of: TopicPartition, start: u64, end: Option<u64>) -> Self {
        Self { name: of.name().into(), of, start, end, next: start, epoch: -1, topic_id: None }
    }

    /// Takes note of the id of its topic.
    ///
    /// # Errors
    /// If the topic has had another one.
    pub fn identify(&mut self, ids: &BTreeMap<String, String>) -> Result<()> {
        let Some(id) = ids.get(&self.of.topic) else { return Ok(()) };
        match self.topic_id.replace(id.clone()) {
            Some(before) if before != *id => Err(Error::new(format!(
                "the topic `{}` was deleted and made again: its messages are others than those that the flow has read. `--reset` of \
                 the node begins with the new ones",
                self.of.topic
            ))),
            _ => Ok(()),
        }
    }

    /// By which it is found again in a later replay.
    pub fn locator(&self) -> String {
        match self.end {
            Some(end) => format!("{}..{end}", self.start),
            None => format!("{}..", self.start),
        }
    }

    /// The partition of this name, as its locator says.
    pub fn located(name: &str, locator: &str) -> Option<Self> {
        let (topic, number) = name.rsplit_once('/')?;
        let (start, end) = locator.split_once("..")?;
        let end = if end.is_empty() { None } else { Some(end.parse().ok()?) };
        let of = TopicPartition { topic: topic.to_owned(), number: number.parse().ok()? };
        Some(Self::new(of, start.parse().ok()?, end))
    }
}

/// What a flow keeps of a partition, beside its position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    pub topic: String,
    pub number: i32,
    pub start: u64,
    pub end: Option<u64>,
    /// Where it goes on, if it has no position.
    pub next: u64,
    pub epoch: i32,
    pub topic_id: Option<String>,
}

impl Kept {
    /// The partition, to go on there.
    pub fn assigned(&self) -> Assigned {
        let of = TopicPartition { topic: self.topic.clone(), number: self.number };
        let Self { next, epoch, ref topic_id, .. } = *self;
        Assigned { next, epoch, topic_id: topic_id.clone(), ..Assigned::new(of, self.start, self.end) }
    }
}

/// How far a partition has been read.
#[derive(Debug)]
pub struct Progress {
    pub assigned: Assigned,
    /// Where this run has begun it.
    begin: u64,
    /// From which positions on messages are of which leader's epoch: as far back as a snapshot may be asked for.
    epochs: Vec<(u64, i32)>,
}

impl Progress {
    pub fn new(assigned: Assigned) -> Self {
        let (begin, epochs) = (assigned.next, vec![(0, assigned.epoch)]);
        Self { assigned, begin, epochs }
    }

    /// Takes note that a message was written in an epoch of its leader.
    pub fn pass(&mut self, offset: u64, epoch: i32) {
        if self.epochs.last().is_none_or(|(_, last)| *last != epoch) {
            self.epochs.push((offset, epoch));
        }
    }

    /// What is kept at a position, or where it was begun if it has none. None before it is asked for any more.
    pub fn keep(&mut self, position: Option<u64>) -> Kept {
        let position = position.unwrap_or(self.begin);
        let last = self.epochs.partition_point(|(first, _)| *first < position).saturating_sub(1);
        self.epochs.drain(..last);
        let Assigned { of, start, end, topic_id, .. } = self.assigned.clone();
        let epoch = self.epochs.first().map_or(-1, |(_, epoch)| *epoch);
        Kept { topic: of.topic, number: of.number, start, end, next: position, epoch, topic_id }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn partition() -> Assigned {
        Assigned::new(TopicPartition { topic: "a.b".to_owned(), number: 3 }, 7, None)
    }

    #[test]
    fn a_partition_is_found_again_by_its_locator() {
        let found =
            |name: &str, locator: &str| Assigned::located(name, locator).map(|found| (found.of, found.next, found.end));
        assert_eq!(found("a.b/3", &partition().locator()), Some((partition().of, 7, None)));
        let bounded = Assigned { end: Some(9), ..partition() };
        assert_eq!(found("a.b/3", &bounded.locator()), Some((partition().of, 7, Some(9))));
        assert_eq!(found("a.b/3", "7"), None);
        assert_eq!(found("a.b", "7.."), None);
    }

    #[test]
    fn a_topic_that_was_made_again_is_another() {
        let ids = |id: &str| BTreeMap::from([("a.b".to_owned(), id.to_owned())]);
        let mut partition = partition();
        assert!(partition.identify(&ids("x")).is_ok() && partition.identify(&ids("x")).is_ok());
        assert!(partition.identify(&BTreeMap::new()).is_ok(), "a broker that has no ids");
        let error = partition.identify(&ids("y")).unwrap_err().to_string();
        assert!(error.starts_with("the topic `a.b` was deleted and made again"), "{error}");
    }

    #[test]
    fn the_epoch_that_is_kept_is_that_of_the_message_before_the_position() {
        let mut progress = Progress::new(partition());
        for (offset, epoch) in [(7, 2), (8, 2), (9, 3), (10, 3), (12, 4)] {
            progress.pass(offset, epoch);
        }
        let epochs: Vec<_> = [7, 8, 9, 10, 12, 13].map(|position| progress.keep(Some(position)).epoch).into();
        assert_eq!(epochs, [-1, 2, 2, 3, 3, 4]);
        assert_eq!(progress.epochs.len(), 1, "those before are forgotten");
    }
}
