//! A real Kafka to test with, and what only tests do to one.

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};

use crate::Services;

/// How long anything may take.
const WAIT: Duration = Duration::from_secs(60);

/// A Kafka of a test process's own.
#[derive(Debug)]
pub struct Kafka {
    services: Services,
}

/// A message to send.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sent<'a> {
    /// Its partition.
    pub partition: i32,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value.
    pub value: Option<&'a [u8]>,
    /// When it was sent, in milliseconds since 1970.
    pub timestamp: Option<i64>,
    /// A header.
    pub header: Option<(&'a str, &'a str)>,
}

impl<'a> Sent<'a> {
    /// A value to a partition.
    pub fn value(partition: i32, value: &'a str) -> Self {
        Self { partition, value: Some(value.as_bytes()), ..Self::default() }
    }
}

/// A message that was read: partition, offset, key and value.
pub type Received = (i32, i64, Option<Vec<u8>>, Option<Vec<u8>>);

impl Kafka {
    /// Starts one for a test. None where tests are to do without, which is said.
    pub fn start() -> Option<Self> {
        Some(Self { services: Services::start(&["kafka"])? })
    }

    /// Starts one.
    pub fn run() -> Self {
        Self { services: Services::run(&["kafka"]) }
    }

    /// The servers, to kill and start again.
    pub fn services(&self) -> &Services {
        &self.services
    }

    /// The address of the broker.
    pub fn brokers(&self) -> &str {
        self.services.get("KAFKA_BROKERS")
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.brokers());
        config
    }

    fn admin<T>(&self, ask: impl AsyncFnOnce(&AdminClient<DefaultClientContext>, &AdminOptions) -> T) -> T {
        let admin = self.config().create().unwrap();
        let options = AdminOptions::new().operation_timeout(Some(WAIT)).request_timeout(Some(WAIT));
        block_on(ask(&admin, &options))
    }

    /// Makes a topic.
    pub fn create(&self, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
        let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        let new = settings.iter().fold(new, |new, (name, value)| new.set(name, value));
        let made = self.admin(async |admin, options| admin.create_topics([&new], options).await.unwrap());
        assert!(made.iter().all(Result::is_ok), "{made:?}");
    }

    /// Whether there is a topic.
    pub fn has(&self, topic: &str) -> bool {
        let consumer: BaseConsumer = self.config().create().unwrap();
        consumer.fetch_metadata(None, WAIT).unwrap().topics().iter().any(|known| known.name() == topic)
    }

    /// Deletes a topic.
    pub fn delete(&self, topic: &str) {
        let deleted = self.admin(async |admin, options| admin.delete_topics(&[topic], options).await.unwrap());
        assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
    }

    /// Gives a topic more partitions.
    pub fn grow(&self, topic: &str, partitions: usize) {
        let new = NewPartitions::new(topic, partitions);
        let grown = self.admin(async |admin, options| admin.create_partitions([&new], options).await.unwrap());
        assert!(grown.iter().all(Result::is_ok), "{grown:?}");
    }

    /// Deletes the messages of a partition before an offset, as retention does.
    pub fn delete_before(&self, topic: &str, partition: i32, offset: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(offset)).unwrap();
        self.admin(async |admin, options| admin.delete_records(&list, options).await.unwrap());
    }

    /// Sends messages, each of which arrives once, also when the broker is killed meanwhile.
    pub fn send<'a>(&self, topic: &str, messages: impl IntoIterator<Item = Sent<'a>>) {
        let producer: BaseProducer =
            self.config().set("linger.ms", "5").set("enable.idempotence", "true").create().unwrap();
        send(&producer, topic, messages);
        // It may be killed again and again meanwhile.
        producer.flush(4 * WAIT).unwrap();
    }

    /// Sends messages in a transaction, which is committed or aborted.
    pub fn transact<'a>(&self, topic: &str, messages: impl IntoIterator<Item = Sent<'a>>, commits: bool) {
        let mut config = self.config();
        let producer: BaseProducer = config.set("transactional.id", format!("test-{topic}")).create().unwrap();
        producer.init_transactions(WAIT).unwrap();
        producer.begin_transaction().unwrap();
        send(&producer, topic, messages);
        // What is aborted has to be there.
        producer.flush(WAIT).unwrap();
        if commits { producer.commit_transaction(WAIT).unwrap() } else { producer.abort_transaction(WAIT).unwrap() }
    }

    /// All that a consumer sees that knows of transactions, partition by partition.
    pub fn read(&self, topic: &str) -> Vec<Received> {
        self.read_as(topic, "read_committed")
    }

    /// All that a consumer sees that knows nothing of transactions: also what is of one that is open, or was aborted.
    pub fn read_uncommitted(&self, topic: &str) -> Vec<Received> {
        self.read_as(topic, "read_uncommitted")
    }

    fn read_as(&self, topic: &str, isolation: &str) -> Vec<Received> {
        let mut config = self.config();
        config.set("group.id", "test").set("enable.partition.eof", "true").set("isolation.level", isolation);
        let consumer: BaseConsumer = config.set("auto.offset.reset", "error").create().unwrap();
        let partitions = consumer.fetch_metadata(Some(topic), WAIT).unwrap().topics()[0].partitions().len();
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions as i32 {
            list.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
        }
        consumer.assign(&list).unwrap();
        let (mut received, mut ended) = (Vec::new(), BTreeSet::new());
        while ended.len() < partitions {
            match consumer.poll(WAIT).expect("the broker has gone silent") {
                Ok(message) => {
                    let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
                    let (key, value) = (owned(message.key()), owned(message.payload()));
                    received.push((message.partition(), message.offset(), key, value));
                }
                Err(KafkaError::PartitionEOF(partition)) => _ = ended.insert(partition),
                // It connects again by itself.
                Err(KafkaError::MessageConsumption(
                    RDKafkaErrorCode::AllBrokersDown | RDKafkaErrorCode::BrokerTransportFailure,
                )) => {}
                Err(error) => panic!("{topic}: {error}"),
            }
        }
        received.sort();
        received
    }
}

fn send<'a>(producer: &BaseProducer, topic: &str, messages: impl IntoIterator<Item = Sent<'a>>) {
    for Sent { partition, key, value, timestamp, header } in messages {
        let mut record = BaseRecord::<[u8], [u8]>::to(topic).partition(partition);
        record = key.into_iter().fold(record, BaseRecord::key);
        record = value.into_iter().fold(record, BaseRecord::payload);
        record = timestamp.into_iter().fold(record, BaseRecord::timestamp);
        let headers = |(key, value)| OwnedHeaders::new().insert(Header { key, value: Some(value) });
        record = header.map(headers).into_iter().fold(record, BaseRecord::headers);
        while let Err((error, again)) = producer.send(record) {
            assert_eq!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::QueueFull));
            producer.poll(Duration::from_millis(10));
            record = again;
        }
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}
