//! The input itself: messages become rows.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc as std_mpsc;
use std::thread;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use millstream_core::{
    Batch, Collector, Error, FailedRow, Figures, Home, Input, PartitionChange, Parts, Positions, Progress, Report,
    Result, ResultExt as _, State,
};
use millstream_formats::{BadRow, MetadataColumns};
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::Job;
use super::columns::{Metadata, refusal};
use super::partition::{Assigned, Kept, Progress as Reading};
use super::poller::{Discovered, Event, Poller};
use super::scout::Scout;
use super::sides::Sides;
use crate::client::{ClientOptions, Consumer, PATIENCE, failed};
use crate::native::{Message, Messages, known_end, topic_ids};
use crate::topics::{Place, TopicPartition, positions};

/// The piece of state that holds what is kept.
const KEPT: &str = "partitions";

/// How many parcels of messages wait to be decoded.
const PARCELS: usize = 2;

/// The setting that says how many kilobytes of messages may wait in a queue of librdkafka, and how many are enough for one partition.
const QUEUE_KBYTES: &str = "queued.max.messages.kbytes";
const ENOUGH_KBYTES: usize = 1024;

/// How often librdkafka is asked what it has to say besides messages.
const TICK: Duration = Duration::from_millis(100);

/// Reads partitions.
pub struct KafkaInput {
    source: Arc<str>,
    config: ClientOptions,
    job: Arc<Job>,
    sides: Sides,
    /// Messages whose schemas are not all known yet.
    waiting: Option<Messages>,
    metadata: MetadataColumns<Metadata>,
    /// What a run before has kept.
    resumed: Option<Vec<Kept>>,
    partitions: BTreeMap<TopicPartition, Reading>,
    running: Option<Running>,
}

/// What there is between `open` and the end.
struct Running {
    consumer: Arc<Consumer>,
    events: mpsc::Receiver<Event>,
    tick: Interval,
    /// By which partitions are added.
    discovered: std_mpsc::Sender<Discovered>,
    is_replay: bool,
    /// Ends the thread that looks for new partitions.
    _stop: std_mpsc::Sender<()>,
}

impl KafkaInput {
    pub fn new(
        source: Arc<str>,
        config: ClientOptions,
        job: Job,
        sides: Sides,
        metadata: MetadataColumns<Metadata>,
    ) -> Self {
        Self {
            source,
            config,
            job: Arc::new(job),
            sides,
            waiting: None,
            metadata,
            resumed: None,
            partitions: BTreeMap::new(),
            running: None,
        }
    }

    /// The columns that come.
    pub fn schema(&self) -> SchemaRef {
        self.metadata.schema().clone()
    }

    /// Fetches the schemas of the messages that wait.
    async fn fetch_schemas(&mut self) -> Result<()> {
        let Some(running) = self.running.as_mut() else { return Ok(()) };
        loop {
            let Some(messages) = &self.waiting else { return Ok(()) };
            let Some((side, id)) = self.sides.missing(messages) else { return Ok(()) };
            let Some(fetch) = side.fetch(id) else { return Ok(()) };
            let mut fetch = pin!(fetch);
            let schema = loop {
                tokio::select! {
                    schema = &mut fetch => break schema?,
                    _ = running.tick.tick() => running.consumer.serve(),
                }
            };
            side.add(id, schema)?;
        }
    }

    /// Messages of any partitions become rows.
    fn take(&mut self, messages: &Messages, out: &mut Collector) -> Result<()> {
        let mut places: HashMap<(usize, i32), usize> = HashMap::new();
        let mut groups: Vec<Vec<Message<'_>>> = Vec::new();
        let (mut last, mut place) = (None, 0);
        for message in messages.iter() {
            let of = (message.topic_id(), message.partition());
            if last != Some(of) {
                place = *places.entry(of).or_insert(groups.len());
                last = Some(of);
            }
            match groups.get_mut(place) {
                Some(group) => group.push(message),
                None => groups.push(vec![message]),
            }
        }
        groups.into_iter().try_for_each(|group| self.take_group(group, out))
    }

    /// Messages of one partition become rows.
    fn take_group(&mut self, mut messages: Vec<Message<'_>>, out: &mut Collector) -> Result<()> {
        let (Some(first), Some(last)) = (messages.first().copied(), messages.last().copied()) else { return Ok(()) };
        let of = TopicPartition { topic: first.topic().to_owned(), number: first.partition() };
        let Some(reading) = self.partitions.get_mut(&of) else { return Ok(()) };
        let name = reading.assigned.name.clone();
        let changes = first.leader_epoch() != last.leader_epoch();
        for message in messages.iter().take(if changes { usize::MAX } else { 1 }) {
            reading.pass(position(*message), message.leader_epoch());
        }
        reading.assigned.next = position(last) + 1;

        let (source, partition) = (&self.source, &name);
        let mut fail = |message: Message<'_>, bad: BadRow| {
            let BadRow { error, row, encoding, .. } = bad;
            let (source, partition, position) = (source.clone(), partition.clone(), Some(position(message)));
            out.fail(FailedRow { error, source, partition, position, line: None, row, encoding });
        };
        messages.retain(|message| match refusal(&self.metadata, *message) {
            None => true,
            Some(why) => {
                fail(*message, BadRow::new(0, why, message.value().unwrap_or_default()));
                false
            }
        });
        let mut rows = self.sides.read(&mut messages, &mut fail)?;
        self.metadata.add_to(&mut rows, &messages)?;
        for (start, rows) in rows.batches {
            let of = messages[start as usize..][..rows.num_rows()].iter().copied().map(position);
            out.push(0, Batch::at(rows, &self.source, &name, of));
        }
        Ok(())
    }

    fn add(&mut self, partitions: Vec<Assigned>, out: &mut Collector) {
        for assigned in partitions {
            let (partition, locator) = (assigned.name.clone(), assigned.locator());
            out.change_partition(PartitionChange::Added { partition, locator });
            self.partitions.entry(assigned.of.clone()).or_insert_with(|| Reading::new(assigned));
        }
    }
}

/// The position of a message, which is never negative.
fn position(message: Message<'_>) -> u64 {
    message.offset().max(0) as u64
}

impl Job {
    /// Finds out what there is to read.
    fn find(&self, consumer: &Consumer, before: Option<&[Kept]>, is_replay: bool) -> Result<Vec<Assigned>> {
        let found = self.topics.look_up(consumer)?;
        found.require_all(consumer)?;
        let ids = topic_ids(consumer, &found.topics(), PATIENCE);
        let ids = ids.map_err(|error| failed("asking for the ids of topics", error))?;
        let mut partitions: Vec<_> = before.iter().copied().flatten().map(Kept::assigned).collect();
        if let Some(gone) = partitions.iter().find(|partition| !found.partitions.contains(&partition.of)) {
            return Err(Error::new(format!(
                "`{}` is not there any more, which the flow has read: was its topic deleted, or taken out of `topics`? `--reset` of the \
                 node begins it again",
                gone.name
            )));
        }
        let is_new = |of: &TopicPartition| partitions.iter().all(|partition| partition.of != *of);
        let new: Vec<_> = found.partitions.into_iter().filter(is_new).collect();
        match before {
            // The replay says itself which ones come.
            _ if is_replay && !self.bounded => {}
            // What has come since was not there when the flow began.
            Some(_) if self.bounded => {}
            Some(_) => partitions.extend(self.begin(consumer, new, Place::Earliest)?),
            None => partitions.extend(self.begin(consumer, new, self.start)?),
        }
        partitions.iter_mut().try_for_each(|partition| partition.identify(&ids))?;
        Ok(partitions)
    }

    /// Partitions that the flow has not read before.
    fn begin(&self, consumer: &Consumer, new: Vec<TopicPartition>, place: Place) -> Result<Vec<Assigned>> {
        if new.is_empty() {
            return Ok(Vec::new());
        }
        let starts = positions(consumer, &new, place)?;
        let ends: Vec<_> = if self.bounded {
            positions(consumer, &new, Place::Latest)?.into_iter().map(Some).collect()
        } else {
            vec![None; new.len()]
        };
        Ok(new.into_iter().zip(starts).zip(ends).map(|((of, start), end)| Assigned::new(of, start, end)).collect())
    }
}

#[async_trait]
impl Input for KafkaInput {
    async fn open(&mut self, home: &Home) -> Result<()> {
        let is_replay = matches!(home, Home::Replay(_));
        let (job, config, before) = (self.job.clone(), self.config.clone(), self.resumed.clone());
        let find = move |consumer: &Arc<Consumer>| job.find(consumer, before.as_deref(), is_replay);
        let brokers = self.job.brokers.clone();
        let bounded = self.job.bounded;
        let open = move || {
            let (consumer, partitions) = Consumer::connect(&config, &brokers, find)?;
            if !bounded || partitions.len() < 2 {
                return Ok((consumer, partitions));
            }
            // Each partition has a queue of its own, and all together as much memory as one has.
            let mut config = config;
            let all: usize = config.get(QUEUE_KBYTES).and_then(|all| all.parse().ok()).unwrap_or_default();
            config.set(QUEUE_KBYTES, (all / partitions.len()).max(ENOUGH_KBYTES.min(all)).to_string());
            Consumer::connect(&config, &brokers, |_| Ok(partitions.clone()))
        };
        let opened = tokio::task::spawn_blocking(open).await.doing(|| "connecting to Kafka")?;
        let (consumer, partitions) = opened?;
        // A checkpoint before the first message has to know where they begin.
        let readings = partitions.iter().map(|assigned| (assigned.of.clone(), Reading::new(assigned.clone())));
        self.partitions = readings.collect();

        let (send, events) = mpsc::channel(PARCELS);
        let (discovered, new) = std_mpsc::channel();
        let (stop, stopped) = std_mpsc::channel();
        let poller = Poller {
            consumer: consumer.clone(),
            events: send,
            on_lost: self.job.on_lost,
            next: BTreeMap::new(),
            unsettled: Vec::new(),
        };
        let known = partitions.clone();
        // What it logs is of this flow and node.
        let span = tracing::Span::current();
        thread::spawn(move || {
            let _inside = span.entered();
            if bounded { poller.read(partitions) } else { poller.follow(partitions, new) }
        });
        if !bounded && !is_replay {
            let (consumer, topics, discovered) = (consumer.clone(), self.job.topics.clone(), discovered.clone());
            let interval = self.job.discovery_interval;
            Scout { consumer, topics, known, interval, discovered }.start(stopped);
        }
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.running = Some(Running { consumer, events, tick, discovered, is_replay, _stop: stop });
        Ok(())
    }

    async fn next(&mut self, out: &mut Collector) -> Result<Progress> {
        if self.waiting.is_some() {
            self.fetch_schemas().await?;
            if let Some(messages) = self.waiting.take() {
                self.take(&messages, out)?;
            }
            return Ok(Progress::More);
        }
        let running = self.running.as_mut().ok_or_else(|| Error::new("the input is not open"))?;
        let event = loop {
            tokio::select! {
                event = running.events.recv() => break event,
                _ = running.tick.tick() => running.consumer.serve(),
            }
        };
        match event {
            Some(Event::Added(partitions)) => self.add(partitions, out),
            // What is waiting when this is dropped is there for the next call.
            Some(Event::Messages(messages)) if self.sides.has_schemas() => self.waiting = Some(messages),
            Some(Event::Messages(messages)) => self.take(&messages, out)?,
            Some(Event::Gone(partition)) => out.change_partition(PartitionChange::Gone(partition)),
            Some(Event::Failed(error)) => return Err(error),
            None if self.job.bounded => return Ok(Progress::End),
            None => return Err(Error::new("the thread that reads from Kafka has ended")),
        }
        Ok(Progress::More)
    }

    fn snapshot(&mut self, positions: &Positions) -> Result<Parts> {
        let keep = |reading: &mut Reading| reading.keep(positions.get(&reading.assigned.name).copied());
        let kept = match self.running {
            Some(_) => Some(self.partitions.values_mut().map(keep).collect()),
            None => self.resumed.clone(),
        };
        let mut parts = Parts::default();
        parts.put(KEPT, &kept)?;
        self.sides.keep(&mut parts)?;
        Ok(parts)
    }

    fn restore(&mut self, positions: &Positions, state: &State) -> Result<()> {
        // Nothing if the flow was stopped before the input had begun.
        self.resumed = if state.has(KEPT) { state.get(KEPT)? } else { None };
        for kept in self.resumed.iter_mut().flatten() {
            if let Some(position) = positions.get(&*kept.assigned().name) {
                kept.next = *position;
            }
        }
        self.sides.restore(state)
    }

    async fn checkpoint_completed(&mut self, newest: &Positions, _oldest: &Positions) -> Result<()> {
        let Some(running) = self.running.as_ref().filter(|_| self.job.commits) else { return Ok(()) };
        let mut list = TopicPartitionList::new();
        for (of, reading) in &self.partitions {
            let position = newest.get(&reading.assigned.name).and_then(|position| i64::try_from(*position).ok());
            let offset = position.map(Offset::Offset);
            if let Some(Err(error)) = offset.map(|offset| list.add_partition_offset(&of.topic, of.number, offset)) {
                return Err(failed("committing positions", error));
            }
        }
        // Nothing depends on it, so that nobody waits for it.
        if let Err(error) = running.consumer.commit(&list, CommitMode::Async) {
            tracing::debug!("committing positions: {error}");
        }
        Ok(())
    }

    fn report(&self) -> Option<Report> {
        let consumer = &self.running.as_ref()?.consumer;
        let readings = self.partitions.values().map(|reading| &reading.assigned);
        let behind = readings.map(|assigned| {
            let TopicPartition { topic, number } = &assigned.of;
            let end = assigned.end.or_else(|| known_end(consumer, topic, *number));
            end.unwrap_or(assigned.next).saturating_sub(assigned.next)
        });
        let mut values = vec![("partitions", json!(self.partitions.len())), ("lag", json!(behind.sum::<u64>()))];
        values.extend(consumer.context().trouble().map(|trouble| ("trouble", json!(trouble.reason))));
        Some(Report::Figures(Figures { title: "topics of Kafka".to_owned(), values }))
    }

    fn locate(&mut self, partition: &Arc<str>, locator: &str) -> Result<()> {
        let Some(running) = self.running.as_ref().filter(|running| running.is_replay && !self.job.bounded) else {
            return Ok(());
        };
        let located = Assigned::located(partition, locator);
        let located = located.ok_or_else(|| Error::new(format!("`{partition}` is no partition of Kafka")))?;
        // A run that went on with a partition has told of it again.
        if let Entry::Vacant(place) = self.partitions.entry(located.of.clone()) {
            place.insert(Reading::new(located.clone()));
            let _ = running.discovered.send(Ok(vec![located]));
        }
        Ok(())
    }
}
