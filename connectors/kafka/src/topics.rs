//! Which topics and partitions there are, and where they begin and end.

use std::time::Duration;

use glob::Pattern;
use millstream_core::{Error, Problem, Result, known_names};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

use crate::client::{Consumer, failed};

/// How long to wait for one answer of a broker.
const WAIT: Duration = Duration::from_secs(10);

/// The topics that are read.
#[derive(Clone, Debug)]
pub struct Topics {
    names: Vec<String>,
    patterns: Vec<Pattern>,
}

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    pub topic: String,
    pub number: i32,
}

impl TopicPartition {
    /// What it is called in a flow.
    pub fn name(&self) -> String {
        format!("{}/{}", self.topic, self.number)
    }
}

impl Topics {
    /// Topics by their names, or by patterns.
    pub fn new(written: &[String]) -> Result<Self, Problem> {
        let at = |problem: Problem| problem.at(["topics"]);
        if written.is_empty() {
            return Err(at(Problem::new("there is no topic").help("name one at least")));
        }
        let is_pattern = |name: &&String| name.contains(['*', '?', '[']);
        let (patterns, names): (Vec<_>, Vec<_>) = written.iter().partition(is_pattern);
        if let Some(name) = names.iter().find(|name| !is_legal(name)) {
            let help = "topics have letters, digits, `.`, `_` and `-`; patterns also `*`, `?` and `[ab]`";
            return Err(at(Problem::new(format!("no topic can be called `{name}`")).help(help)));
        }
        let pattern = |text: &&String| {
            Pattern::new(text).map_err(|error| at(Problem::new(format!("`{text}` is no pattern: {}", error.msg))))
        };
        let patterns = patterns.iter().map(pattern).collect::<Result<_, _>>()?;
        Ok(Self { names: names.into_iter().cloned().collect(), patterns })
    }

    /// How many partitions each of them has.
    ///
    /// # Errors
    /// If brokers don't answer.
    pub fn look_up(&self, consumer: &Consumer) -> Result<Found> {
        let doing = |error| failed("looking for topics", error);
        let ask = |topic: Option<&str>| consumer.fetch_metadata(topic, WAIT).map_err(doing);
        let mut found = Found::default();
        for name in &self.names {
            found.add(&ask(Some(name))?, |_| true).map_err(doing)?;
        }
        if !self.patterns.is_empty() {
            // Names that begin so are Kafka's own.
            let is_wanted =
                |name: &str| !name.starts_with("__") && self.patterns.iter().any(|pattern| pattern.matches(name));
            found.add(&ask(None)?, is_wanted).map_err(doing)?;
        }
        found.partitions.sort();
        found.partitions.dedup();
        Ok(found)
    }
}

/// What there is of the topics that are read.
#[derive(Debug, Default)]
pub struct Found {
    pub partitions: Vec<TopicPartition>,
    /// The topics that are named, and not there.
    missing: Vec<String>,
}

impl Found {
    fn add(
        &mut self,
        metadata: &rdkafka::metadata::Metadata,
        is_wanted: impl Fn(&str) -> bool,
    ) -> Result<(), KafkaError> {
        for topic in metadata.topics().iter().filter(|topic| is_wanted(topic.name())) {
            let name = || topic.name().to_owned();
            match topic.error().map(RDKafkaErrorCode::from) {
                None => {}
                Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                    self.missing.push(name());
                    continue;
                }
                Some(error) => return Err(KafkaError::MetadataFetch(error)),
            }
            let numbers = topic.partitions().iter().map(|partition| partition.id());
            self.partitions.extend(numbers.map(|number| TopicPartition { topic: name(), number }));
        }
        Ok(())
    }

    /// Fails where a topic is missing.
    pub fn require_all(&self, consumer: &Consumer) -> Result<()> {
        let Some(missing) = self.missing.first() else { return Ok(()) };
        let all = consumer.fetch_metadata(None, WAIT).map_err(|error| failed("looking for topics", error))?;
        let others = all.topics().iter().map(|topic| topic.name()).filter(|name| !name.starts_with("__"));
        let help = known_names(missing, others);
        Err(Error::new(format!("there is no topic `{missing}`; {help}")))
    }

    /// The topics that there are.
    pub fn topics(&self) -> Vec<&str> {
        let mut topics: Vec<_> = self.partitions.iter().map(|partition| partition.topic.as_str()).collect();
        topics.dedup();
        topics
    }
}

/// Whether a topic can be called so.
pub fn is_legal(name: &str) -> bool {
    let is_legal = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-');
    !name.is_empty() && name.len() <= 249 && !matches!(name, "." | "..") && name.chars().all(is_legal)
}

/// What is wrong with the name of a topic, if anything is.
pub fn check_name(name: &str) -> Result<(), Problem> {
    if is_legal(name) {
        return Ok(());
    }
    let problem = Problem::new(format!("no topic can be called `{name}`"));
    Err(problem.help("topics have letters, digits, `.`, `_` and `-`, 249 of them at most"))
}

/// A place in a partition, whatever its number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The first message that is left.
    Earliest,
    /// Behind the last message, of those that are in no open transaction.
    Latest,
    /// The first message of this time or later, in milliseconds since 1970.
    Time(i64),
}

/// The positions of a place in partitions, in their order, as they are now.
pub fn positions(consumer: &Consumer, partitions: &[TopicPartition], place: Place) -> Result<Vec<u64>> {
    let ask = |partitions: &[TopicPartition], time: i64| -> Result<Vec<Option<u64>>> {
        let doing = || "asking for positions";
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for TopicPartition { topic, number } in partitions {
            // What librdkafka asks brokers for is a time, of which some stand for a place.
            let time = Offset::from_raw(time);
            list.add_partition_offset(topic, *number, time).map_err(|error| failed(doing(), error))?;
        }
        let answer = consumer.offsets_for_times(list, WAIT).map_err(|error| failed(doing(), error))?;
        let position = |partition: &TopicPartition| {
            let TopicPartition { topic, number } = partition;
            let Some(found) = answer.find_partition(topic, *number) else { return Ok(None) };
            found
                .error()
                .map_err(|error| failed(format!("asking for the position of `{}`", partition.name()), error))?;
            Ok(found.offset().to_raw().and_then(|offset| u64::try_from(offset).ok()))
        };
        partitions.iter().map(position).collect()
    };
    let time = match place {
        Place::Earliest => -2,
        Place::Latest => -1,
        Place::Time(time) => time,
    };
    let found = ask(partitions, time)?;
    // There may be no message of that time yet.
    let late: Vec<_> =
        partitions.iter().zip(&found).filter(|(_, found)| found.is_none()).map(|(of, _)| of.clone()).collect();
    let mut ends = if late.is_empty() { Vec::new() } else { ask(&late, -1)? }.into_iter();
    let known = |found: Option<u64>| found.or_else(|| ends.next().flatten());
    let missing = || Error::transient("asking for positions: a broker does not say them");
    found.into_iter().map(known).map(|position| position.ok_or_else(missing)).collect()
}
