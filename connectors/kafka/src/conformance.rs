//! The suite that every node passes, with a real Kafka.

use std::rc::Rc;

use millstream_core::NodeTypes;
use millstream_testkit::{InputSamples, Kafka, Sent, Source, check_inputs};

use crate::register;

#[test]
fn inputs() {
    let Some(kafka) = Kafka::start().map(Rc::new) else { return };
    let mut types = NodeTypes::default();
    register(&mut types);
    let sources = vec![
        json(&kafka, "payments", ""),
        json(&kafka, "bounded", "bounded = true"),
        raw(&kafka),
        Source::new(settings(&kafka, "empty", "bounded = true"), 0, 0, made(&kafka, "empty", |_, _| {})),
    ];
    check_inputs(&types, &[InputSamples { node: "kafka", sources, wrong: WRONG, excuses: &[] }]);
}

const WRONG: &[(&str, &str)] = &[
    ("brokers = 'nowhere'\ntopics = ['a']\nformat = 'raw'", "brokers"),
    ("brokers = 'a:1'\ntopics = []\nformat = 'raw'", "topics"),
    ("brokers = 'a:1'\ntopics = ['a/b']\nformat = 'raw'", "topics"),
    ("brokers = 'a:1'\ntopics = ['a[']\nformat = 'raw'", "topics"),
    ("brokers = 'a:1'\ntopics = ['a']\nformat = 'raw'\nstart = 'yesterday'", "start"),
    ("brokers = 'a:1'\ntopics = ['a']\nformat = 'raw'\nschema = { n = 'int64' }", "schema"),
    ("brokers = 'a:1'\ntopics = ['a']\nformat = 'ndjson'", "format"),
    ("brokers = 'a:1'\ntopics = ['a']\nformat = 'raw'\nmetadata = { value = 'key' }", "metadata.value"),
    (
        "brokers = 'a:1'\ntopics = ['a']\nformat = 'raw'\nclient = { 'plugin.library.paths' = 'a' }",
        "client.plugin.library.paths",
    ),
    (
        "brokers = 'a:1'\ntopics = ['a']\nformat = 'raw'\nclient = { 'fetch.min.bytes' = 'many' }",
        "client.fetch.min.bytes",
    ),
    ("brokers = 'a:1'\ntopics = ['a']\nformat = 'avro'", "format"),
    (
        "brokers = 'a:1'\ntopics = ['a']\nformat = 'avro'\nschema = { n = 'int64' }\nregistry = { url = 'nowhere' }",
        "registry.url",
    ),
    (
        "brokers = 'a:1'\ntopics = ['a']\nformat = { type = 'csv', header = true }\nschema = { n = 'int64' }",
        "format.header",
    ),
];

fn settings(kafka: &Kafka, topic: &str, more: &str) -> String {
    format!(
        "brokers = '{}'\ntopics = ['{topic}']\nformat = 'json'\nschema = {{ id = 'int64', name = 'utf8?' }}\n\
         metadata = {{ key = 'key', at = 'timestamp', headers = 'headers', topic = 'topic', number = 'partition', \
         offset = 'offset' }}\n{more}",
        kafka.brokers()
    )
}

/// Makes a topic of two partitions, unless it is there.
fn made(kafka: &Rc<Kafka>, topic: &'static str, fill: fn(&Kafka, &str)) -> impl Fn(&std::path::Path) + 'static {
    let kafka = kafka.clone();
    move |_| {
        if !kafka.has(topic) {
            kafka.create(topic, 2, &[]);
            fill(&kafka, topic);
        }
    }
}

/// A topic with what a topic may have: keys, headers, messages that can't be read, and transactions, of which the last are aborted.
fn json(kafka: &Rc<Kafka>, topic: &'static str, more: &str) -> Source {
    fn fill(kafka: &Kafka, topic: &str) {
        let value = Sent::value;
        let ada = Sent { key: Some(b"a"), timestamp: Some(1000), ..value(0, r#"{ "id": 1, "name": "Ada" }"#) };
        kafka.send(
            topic,
            [
                ada,
                value(0, r#"{ "id": 2 }"#),
                value(0, "no JSON"),
                Sent { key: Some(b"\xff"), ..value(0, r#"{ "id": 80 }"#) },
            ],
        );
        let aborted = [value(0, r#"{ "id": 90 }"#), value(1, r#"{ "id": 91 }"#)];
        kafka.transact(topic, aborted, false);
        kafka.transact(topic, [value(0, r#"{ "id": 3 }"#), value(1, r#"{ "id": 4, "name": null }"#)], true);
        let header = Sent { header: Some(("trace", "x")), ..value(1, r#"{ "id": 5 }"#) };
        kafka.send(topic, [Sent { partition: 1, ..Sent::default() }, header, value(0, r#"{ "id": 6 }"#)]);
        kafka.transact(topic, aborted, false);
    }
    Source::new(settings(kafka, topic, more), 6, 3, made(kafka, topic, fill))
}

fn raw(kafka: &Rc<Kafka>) -> Source {
    fn fill(kafka: &Kafka, topic: &str) {
        kafka.send(topic, [Sent::value(0, "a"), Sent::default(), Sent { value: Some(b"\xff"), ..Sent::value(1, "") }]);
    }
    let settings = format!("brokers = '{}'\ntopics = ['ra?']\nformat = 'raw'", kafka.brokers());
    Source::new(settings, 3, 0, made(kafka, "raw", fill))
}
