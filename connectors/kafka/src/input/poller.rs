//! The thread that takes messages from librdkafka.
//!
//! librdkafka fetches on threads of its own until its queue is full. The poller takes what is there, and waits while two parcels of it
//! wait to be decoded: that is all the backpressure, since partitions that are paused have been known to stay so.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc as std_mpsc;
use std::thread;
use std::time::Duration;

use millstream_core::{Error, ErrorClass, Result, ResultExt as _};
use rdkafka::consumer::Consumer as _;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::mpsc;

use super::OnLost;
use super::partition::Assigned;
use super::turns::Turns;
use crate::client::{Consumer, PAUSE, failed};
use crate::native::{self, Message, Messages, Queue};
use crate::topics::{Place, TopicPartition, positions};

/// How many messages a parcel has at most.
const PARCEL: usize = 8192;

/// How long to wait for a message before looking whether there is something else to do.
const WAIT: Duration = Duration::from_millis(50);

/// What comes of the poller.
pub enum Event {
    /// Partitions that are read from now on.
    Added(Vec<Assigned>),
    /// Messages, of any partitions and in the order of each. There are no errors among them.
    Messages(Messages),
    /// No more messages come of a partition.
    Gone(Arc<str>),
    /// Nothing comes any more.
    Failed(Error),
}

/// What is new of the topics.
pub type Discovered = Result<Vec<Assigned>>;

/// What a poller works with.
pub struct Poller {
    pub consumer: Arc<Consumer>,
    pub events: mpsc::Sender<Event>,
    pub on_lost: OnLost,
    /// Where each partition goes on.
    pub next: BTreeMap<TopicPartition, u64>,
    /// Those that were stopped and begun again, and of which nothing has come since.
    pub unsettled: Vec<TopicPartition>,
}

/// Begins to read partitions.
pub fn assign(consumer: &Consumer, partitions: &[Assigned]) -> Result<()> {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    let doing = || "beginning to read partitions";
    for Assigned { of: TopicPartition { topic, number }, next, epoch, .. } in partitions {
        let next = i64::try_from(*next).doing(doing)?;
        list.add_partition_offset(topic, *number, Offset::Offset(next)).map_err(|error| failed(doing(), error))?;
        if *epoch >= 0 {
            native::set_leader_epoch(&mut list, topic, *number, *epoch);
        }
    }
    consumer.incremental_assign(&list).map_err(|error| failed(doing(), error))
}

impl Poller {
    /// Reads partitions, and those that are found later, until nobody wants them any more.
    pub fn follow(mut self, partitions: Vec<Assigned>, discovered: std_mpsc::Receiver<Discovered>) {
        if let Err(error) = self.try_follow(partitions, &discovered) {
            let _ = self.events.blocking_send(Event::Failed(error));
        }
    }

    fn try_follow(&mut self, partitions: Vec<Assigned>, discovered: &std_mpsc::Receiver<Discovered>) -> Result<()> {
        let queue = Queue::new(&self.consumer);
        let mut new = partitions;
        while !self.events.is_closed() {
            if !new.is_empty() {
                new.iter().for_each(|partition| _ = queue.receive(&partition.of.topic, partition.of.number));
                assign(&self.consumer, &new)?;
                self.next.extend(new.iter().map(|partition| (partition.of.clone(), partition.next)));
                let _ = self.events.blocking_send(Event::Added(std::mem::take(&mut new)));
            }
            self.receive_again(&queue, |_| true);
            let messages = queue.take(WAIT, PARCEL);
            if !messages.is_empty() {
                self.hand_on(messages)?;
            }
            if let Ok(found) = discovered.try_recv() {
                new = found?;
            }
        }
        Ok(())
    }

    /// Hands on what came, but for errors, which are seen to.
    fn hand_on(&mut self, mut messages: Messages) -> Result<()> {
        loop {
            let mut rest = messages.split_off(messages.until(|message| message.is_error()));
            self.send(messages);
            let Some(error) = rest.iter().next() else { return Ok(()) };
            self.see_to(error)?;
            messages = rest.split_off(1);
        }
    }

    fn send(&mut self, messages: Messages) {
        if messages.is_empty() {
            return;
        }
        self.consumer.context().is_well();
        let mut last: Option<Message<'_>> = None;
        for message in messages.iter() {
            if let Some(last) =
                last.filter(|last| (last.topic_id(), last.partition()) != (message.topic_id(), message.partition()))
            {
                self.come_to(last);
            }
            last = Some(message);
        }
        last.into_iter().for_each(|last| self.come_to(last));
        let _ = self.events.blocking_send(Event::Messages(messages));
    }

    fn come_to(&mut self, last: Message<'_>) {
        let of = TopicPartition { topic: last.topic().to_owned(), number: last.partition() };
        self.unsettled.retain(|unsettled| *unsettled != of);
        self.next.insert(of, u64::try_from(last.offset() + 1).unwrap_or_default());
    }

    /// An error of a partition. `Ok` if it is over.
    fn see_to(&mut self, message: Message<'_>) -> Result<()> {
        let of = TopicPartition { topic: message.topic().to_owned(), number: message.partition() };
        let name = of.name();
        let Some((code, said)) = message.error() else { return Ok(()) };
        match code {
            RDKafkaErrorCode::PartitionEOF => Ok(()),
            RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange => self.lost(&of),
            RDKafkaErrorCode::LogTruncation => Err(Error::new(format!(
                "brokers have lost the end of the log of `{name}`, which the flow has read already ({said}); rows that follow would not \
                 be those behind the ones it has. `--reset` of the node begins it again"
            ))),
            RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownPartition
            | RDKafkaErrorCode::UnknownTopic => {
                Err(Error::new(format!("`{name}` is not there any more: was the topic deleted?")))
            }
            _ => Err(Error::new(format!("reading `{name}`: {said}"))),
        }
    }

    /// The position of a partition is none of its log's any more.
    fn lost(&mut self, of: &TopicPartition) -> Result<()> {
        let (first, end) = (self.ask(of, Place::Earliest)?, self.ask(of, Place::Latest)?);
        let next = self.next.get(of).copied().unwrap_or(first);
        let name = of.name();
        if next > end {
            return Err(Error::new(format!(
                "the flow has read `{name}` up to {next}, and it ends at {end}: brokers have lost the end of its log, or the topic \
                 was deleted and made again. `--reset` of the node begins it again"
            )));
        }
        if first <= next {
            // It was no more than a broker that did not answer.
            return self.go_on(of, next);
        }
        let lost =
            format!("messages {next} to {} of `{name}` were deleted before they were read", first.saturating_sub(1));
        if self.on_lost == OnLost::Fail {
            return Err(Error::new(format!("{lost}; `on_lost = \"earliest\"` goes on without them")));
        }
        tracing::warn!("{lost}; going on at {first}");
        self.next.insert(of.clone(), first);
        self.go_on(of, first)
    }

    /// Reads on at a position. librdkafka has stopped to fetch the partition, so that it has to begin again.
    fn go_on(&mut self, of: &TopicPartition, position: u64) -> Result<()> {
        let doing = |error| failed(format!("going on in `{}` at {position}", of.name()), error);
        let mut list = TopicPartitionList::new();
        list.add_partition(&of.topic, of.number);
        self.consumer.incremental_unassign(&list).map_err(doing)?;
        self.unsettled.push(of.clone());
        assign(&self.consumer, &[Assigned::new(of.clone(), position, None)])
    }

    /// Has a queue receive the partitions again that were stopped. When librdkafka stops one, which is some time after it was told to, it
    /// forgets who receives it; what has come meanwhile is not lost.
    fn receive_again(&self, queue: &Queue, is_its: impl Fn(&TopicPartition) -> bool) {
        for of in self.unsettled.iter().filter(|of| is_its(of)) {
            queue.receive(&of.topic, of.number);
        }
    }

    /// The position of a place, for which brokers are waited for.
    #[expect(clippy::disallowed_methods, reason = "this thread has nothing else to do, and no runtime")]
    fn ask(&self, of: &TopicPartition, place: Place) -> Result<u64> {
        loop {
            match positions(&self.consumer, std::slice::from_ref(of), place) {
                Ok(found) => return Ok(found[0]),
                Err(error) if error.class() != ErrorClass::Transient || self.events.is_closed() => return Err(error),
                Err(_) => thread::sleep(PAUSE),
            }
        }
    }

    /// Reads partitions to their ends, in an order that is the same in every run.
    pub fn read(mut self, partitions: Vec<Assigned>) {
        if let Err(error) = self.try_read(partitions) {
            let _ = self.events.blocking_send(Event::Failed(error));
        }
    }

    fn try_read(&mut self, partitions: Vec<Assigned>) -> Result<()> {
        self.next.extend(partitions.iter().map(|partition| (partition.of.clone(), partition.next)));
        let queue = |partition: &Assigned| {
            let queue = Queue::new(&self.consumer);
            queue.receive(&partition.of.topic, partition.of.number);
            queue
        };
        let queues: Vec<_> = partitions.iter().map(queue).collect();
        let mut left: Vec<_> = partitions.iter().map(|_| Messages::none(&self.consumer)).collect();
        let mut turns = Turns::new(&partitions);
        let is_left = |partition: &&Assigned| partition.end.is_some_and(|end| partition.next < end);
        let (to_read, done): (Vec<_>, Vec<_>) = partitions.iter().cloned().partition(|partition| is_left(&partition));
        if !to_read.is_empty() {
            assign(&self.consumer, &to_read)?;
        }
        let _ = self.events.blocking_send(Event::Added(partitions.clone()));
        for partition in done {
            let _ = self.events.blocking_send(Event::Gone(partition.name));
        }
        while let Some((index, limit)) = turns.next() {
            if self.events.is_closed() {
                return Ok(());
            }
            self.receive_again(&queues[index], |of| *of == partitions[index].of);
            let mut messages = if left[index].is_empty() {
                queues[index].take(WAIT, PARCEL.min((limit - turns.position(index)) as usize))
            } else {
                std::mem::replace(&mut left[index], Messages::none(&self.consumer))
            };
            let stops = |message: Message<'_>| message.is_error() || message.offset() as u64 >= limit;
            let mut rest = messages.split_off(messages.until(stops));
            if let Some(last) = messages.iter().last() {
                turns.come_to(index, last.offset() as u64 + 1);
            }
            self.send(messages);
            let mut passed = 0;
            if let Some(message) = rest.iter().next() {
                let offset = message.offset().max(0) as u64;
                match message.error() {
                    // Nothing lies before the next message, nor before the place at which the partition ends for now.
                    None | Some((RDKafkaErrorCode::PartitionEOF, _)) => turns.come_to(index, offset),
                    Some(_) => self.see_to(message)?,
                }
                passed = usize::from(message.is_error());
            }
            left[index] = rest.split_off(passed);
            if turns.has_ended(index) {
                let _ = self.events.blocking_send(Event::Gone(partitions[index].name.clone()));
            }
        }
        Ok(())
    }
}
