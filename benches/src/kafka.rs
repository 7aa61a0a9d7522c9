//! What a flow takes from Kafka in a second, beside a consumer of librdkafka that forgets its messages, with the broker on the same
//! machine.

use std::fmt::Write as _;
use std::time::Instant;

use millstream_core::{Error, Result, ResultExt as _};
use millstream_testkit::{Kafka, Sent};
use rustix::time::{ClockId, clock_gettime};

use crate::flow;
use crate::measurement::{Goal, Measurement, median};
use crate::own_process::numbers_of;

/// The flow and the bare consumer take turns so often; the medians count.
const TURNS: usize = 5;

const MESSAGES: usize = 5_000_000;

/// Messages are of one of these kinds, which the flow reads as such.
#[derive(Clone, Copy)]
pub enum Content {
    Raw,
    Json,
}

/// Measures how many messages a second a flow takes and a bare consumer takes, of bytes and of JSON.
pub fn run() -> Result<Vec<Measurement>> {
    let kafka = Kafka::run();
    let mut measurements = Vec::new();
    for (topic, content, goal) in [("raw", Content::Raw, Goal::Times(0.8)), ("json", Content::Json, Goal::Shown)] {
        fill(&kafka, topic, content, MESSAGES);
        let [ours, bare, cpu] = compare(kafka.brokers(), topic)?;
        let name = format!("kafka: {topic}, 100 B → drop; beside a bare consumer of librdkafka");
        measurements.push(Measurement::new(&name, "messages/s", ours, goal).beside(bare));
        measurements.push(Measurement::new(format!("{name}, CPU time"), "ns a message", cpu, Goal::Shown));
    }
    Ok(measurements)
}

/// Measures the messages per second that the flow and the bare consumer take, and the CPU time of the flow: the medians.
fn compare(brokers: &str, topic: &str) -> Result<[f64; 3]> {
    let mut figures = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..TURNS {
        let [seconds, cpu] = numbers_of(&["kafka-flow", brokers, topic])?;
        let [bare, _] = numbers_of(&["kafka-bare", brokers, topic])?;
        let messages = MESSAGES as f64;
        figures[0].push(messages / seconds);
        figures[1].push(messages / bare);
        figures[2].push(cpu / messages * 1e9);
    }
    Ok(figures.map(median))
}

/// Makes a topic of one partition with so many messages.
pub fn fill(kafka: &Kafka, topic: &str, content: Content, messages: usize) {
    kafka.create(topic, 1, &[]);
    let mut text = String::new();
    let mut ends = vec![0];
    for number in 0..messages {
        let hash = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let _ = match content {
            Content::Raw => write!(text, "{number:020}{hash:080}"),
            Content::Json => {
                let (price, country) = ((hash >> 20) % 100_000, ["DE", "FR", "NL", "PL"][hash >> 62]);
                let at = "2026-01-31T12:00:00Z";
                write!(
                    text,
                    r#"{{"id":{number},"quantity":{},"price":{}.{:02},"country":"{country}","at":"{at}"}}"#,
                    1 + hash % 9,
                    price / 100,
                    price % 100
                )
            }
        };
        ends.push(text.len());
    }
    kafka.send(topic, ends.windows(2).map(|ends| Sent::value(0, &text[ends[0]..ends[1]])));
}

/// Does a job, and says how many seconds that took on the wall and of the CPU.
fn timed(job: impl FnOnce() -> Result<()>) -> Result<[f64; 2]> {
    let start = Instant::now();
    job()?;
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    Ok([start.elapsed().as_secs_f64(), cpu.tv_sec as f64 + cpu.tv_nsec as f64 * 1e-9])
}

fn arguments(arguments: &[String]) -> Result<[&str; 2]> {
    let found: [&String; 2] =
        arguments.iter().collect::<Vec<_>>().try_into().map_err(|_| Error::new("which topic?"))?;
    Ok(found.map(String::as_str))
}

/// Runs the flow that drops the messages of a topic, and says how many seconds that took.
pub fn millstream(given: &[String]) -> Result<[f64; 2]> {
    let [brokers, topic] = arguments(given)?;
    let sets = [format!("input.messages.brokers={brokers}"), format!("input.messages.topics=[\"{topic}\"]")];
    let json = ["input.messages.format=json", SCHEMA].map(str::to_owned);
    let sets = if topic == "json" { [sets, json].concat() } else { sets.to_vec() };
    timed(|| {
        let rows = flow::rows_into("kafka.toml", &sets, 2, "gone")?;
        if rows as usize == MESSAGES {
            Ok(())
        } else {
            Err(Error::new(format!("{rows} messages came instead of {MESSAGES}")))
        }
    })
    .doing(|| format!("reading `{topic}`"))
}

const SCHEMA: &str = r#"input.messages.schema={ id = "int64", quantity = "int64", price = "float64", country = "utf8", at = "timestamp" }"#;

/// Runs the consumer that forgets the messages of a topic, and says how many seconds that took.
pub fn bare(given: &[String]) -> Result<[f64; 2]> {
    let [brokers, topic] = arguments(given)?;
    timed(|| millstream_kafka::bare::consume(brokers, topic, MESSAGES))
}
