//! What a flow takes from a topic and sends to another in a second, exactly once beside at least once; and how long a message takes from one
//! to the other. The broker is on the same machine.

use std::fmt::Write as _;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use millstream_core::{Error, Result, ResultExt as _};
use millstream_testkit::{Kafka, Sent};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};

use crate::kafka::{Content, fill};
use crate::measurement::{Goal, Measurement, median};
use crate::place;

/// Exactly once and at least once take turns so often; the medians count.
const TURNS: usize = 3;

/// A model learns from so many rows.
const LEARNED: usize = 5_000_000;

/// While it is measured how long messages take, so many come in a second, for so long.
const RATE: usize = 10_000;
const SPAN: Duration = Duration::from_secs(15);

/// So many of these messages differ.
const MADE: usize = 1000;

/// So many messages go from topic to topic.
const MESSAGES: usize = 10_000_000;

/// Measures how many messages a second go from topic to topic, how many a model learns from on their way, and how long one takes.
pub fn run() -> Result<Vec<Measurement>> {
    let kafka = &Kafka::run();
    fill(kafka, "json", Content::Json, MESSAGES);
    let mut seconds = [Vec::new(), Vec::new()];
    for turn in 0..TURNS {
        for once in [turn % 2, 1 - turn % 2] {
            seconds[once].push(through(kafka, "kafka_through.toml", DELIVERIES[once])?);
        }
    }
    let [once, least] = seconds.map(|seconds| MESSAGES as f64 / median(seconds));
    let name = "kafka: json → sql → kafka, exactly once; beside at least once";
    let mut measurements = vec![Measurement::new(name, "messages/s", once, Goal::Times(0.9)).beside(least)];
    fill_features(kafka)?;
    let learned = through(kafka, "kafka_train.toml", DELIVERIES[0])?;
    let name = "kafka: csv → train, logistic regression of 28 features → kafka, exactly once";
    measurements.push(Measurement::new(name, "rows/s", LEARNED as f64 / learned, Goal::AtLeast(5e5)));
    for (delivery, sets, most) in [(DELIVERIES[1], AT_ONCE, 10.0), (DELIVERIES[0], EVERY_100_MS, 250.0)] {
        let [middle, high] = lag(kafka, delivery, sets)?;
        let name = format!(
            "kafka: 10,000 messages/s from a topic to the prediction in another, {}",
            delivery.replace('_', " ")
        );
        measurements.push(Measurement::new(format!("{name}, median"), "ms", middle, Goal::Shown));
        measurements.push(Measurement::new(format!("{name}, 99 of 100"), "ms", high, Goal::AtMost(most)));
    }
    Ok(measurements)
}

const DELIVERIES: [&str; 2] = ["exactly_once", "at_least_once"];
const AT_ONCE: &[&str] = &["checkpoint.interval=1s"];
const EVERY_100_MS: &[&str] = &["checkpoint.interval=100ms", "flow.epoch.interval=50ms"];

/// Makes the command that runs a flow with a new state.
fn command(kafka: &Kafka, flow: &str, delivery: &str, sets: &[&str]) -> Result<Command> {
    let work = place::empty_folder("kafka_through")?;
    let brokers = kafka.brokers();
    let mut all = vec![
        format!("input.messages.brokers={brokers}"),
        format!("output.out.brokers={brokers}"),
        format!("output.out.delivery={delivery}"),
    ];
    all.extend(sets.iter().map(|set| (*set).to_owned()));
    let mut command = place::millstream_run(&work, &place::flow(flow), &all)?;
    command.args(["--state", "state", "--json"]);
    Ok(command)
}

/// Runs a flow to its end, and says how many seconds that took.
fn through(kafka: &Kafka, flow: &str, delivery: &str) -> Result<f64> {
    let mut command = command(kafka, flow, delivery, &[])?;
    let start = Instant::now();
    place::json_of(&mut command)?;
    Ok(start.elapsed().as_secs_f64())
}

/// Writes a message with 28 features.
fn message(id: usize, sent: u128, text: &mut String) {
    let _ = write!(text, "{id},{sent}");
    features(id, text);
}

/// Writes what a message says beside its number and the time.
fn features(id: usize, text: &mut String) {
    let mut hash = id as u64;
    for _ in 0..28 {
        hash = hash.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23) ^ id as u64;
        let _ = write!(text, ",{}.{:03}", hash % 10, (hash >> 20) % 1000);
    }
    let _ = write!(text, ",{}", hash.is_multiple_of(3));
}

fn fill_features(kafka: &Kafka) -> Result<()> {
    kafka.create("features", 1, &[]);
    for part in 0..10 {
        let (mut text, mut ends) = (String::new(), vec![0]);
        for id in part * LEARNED / 10..(part + 1) * LEARNED / 10 {
            message(id, 0, &mut text);
            ends.push(text.len());
        }
        kafka.send("features", ends.windows(2).map(|ends| Sent::value(0, &text[ends[0]..ends[1]])));
    }
    Ok(())
}

/// This flow runs until it is let go.
struct Live(Child);

impl Drop for Live {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Measures in how many milliseconds the predictions of half of the messages, and of 99 of 100, are there for a consumer that knows of transactions.
fn lag(kafka: &Kafka, delivery: &str, sets: &[&str]) -> Result<[f64; 2]> {
    let (source, sink) = (format!("lag-{delivery}"), format!("lag-{delivery}-predicted"));
    kafka.create(&source, 1, &[]);
    kafka.create(&sink, 1, &[]);
    let more = [
        "input.messages.bounded=false".to_owned(),
        format!("input.messages.topics=[\"{source}\"]"),
        format!("output.out.topic={sink}"),
        "input.messages.client={ \"fetch.wait.max.ms\" = 5 }".to_owned(),
    ];
    let more: Vec<&str> = sets.iter().copied().chain(more.iter().map(String::as_str)).collect();
    let mut command = command(kafka, "kafka_train.toml", delivery, &more)?;
    let _live = Live(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().doing(|| "starting the flow")?);
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| send(kafka, &source, &ended));
        let lags = receive(kafka, &sink);
        ended.store(true, Ordering::Relaxed);
        sending.join().map_err(|_| Error::new("sending has failed"))??;
        lags
    })
}

fn millis() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()
}

fn send(kafka: &Kafka, topic: &str, ended: &AtomicBool) -> Result<()> {
    let mut config = ClientConfig::new();
    // Without waiting at all, each message would be a request, which keeps the broker busier than all else.
    config.set("bootstrap.servers", kafka.brokers()).set("linger.ms", "1");
    let producer: BaseProducer = config.create().doing(|| "making a producer")?;
    // What sends should take no time from what is measured.
    let made = |id| {
        let mut text = String::new();
        features(id, &mut text);
        text
    };
    let made: Vec<String> = (0..MADE).map(made).collect();
    let (begin, mut id, mut text) = (Instant::now(), 0, String::new());
    while !ended.load(Ordering::Relaxed) {
        let due = (begin.elapsed().as_secs_f64() * RATE as f64) as usize;
        while id < due {
            text.clear();
            let _ = write!(text, "{id},{}{}", millis(), made[id % MADE]);
            let record = BaseRecord::<(), str>::to(topic).payload(&text);
            producer.send(record).map_err(|(error, _)| Error::new(error.to_string()))?;
            id += 1;
        }
        producer.poll(Duration::from_millis(1));
    }
    producer.flush(Duration::from_secs(10)).doing(|| "sending")
}

fn receive(kafka: &Kafka, topic: &str) -> Result<[f64; 2]> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", kafka.brokers()).set("group.id", "lag").set("isolation.level", "read_committed");
    let consumer: BaseConsumer = config.set("fetch.wait.max.ms", "5").create().doing(|| "making a consumer")?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Beginning).doing(|| "reading")?;
    consumer.assign(&list).doing(|| "reading")?;
    // The first seconds are those of the flow's start.
    let (warm, end) = (Instant::now() + SPAN / 3, Instant::now() + SPAN);
    let mut lags = Vec::new();
    while Instant::now() < end {
        let Some(message) = consumer.poll(Duration::from_millis(100)) else { continue };
        let message = message.doing(|| "reading predictions")?;
        let text = message.payload().and_then(|value| std::str::from_utf8(value).ok()).unwrap_or_default();
        let sent: Option<u128> = text.split(',').nth(1).and_then(|sent| sent.parse().ok());
        if Instant::now() > warm {
            lags.extend(sent.map(|sent| millis().saturating_sub(sent) as f64));
        }
    }
    lags.sort_by(f64::total_cmp);
    let at = |share: f64| lags.get((lags.len() as f64 * share) as usize).copied();
    match (at(0.5), at(0.99)) {
        (Some(middle), Some(high)) if lags.len() > RATE => Ok([middle, high]),
        _ => Err(Error::new(format!("only {} predictions came", lags.len()))),
    }
}
