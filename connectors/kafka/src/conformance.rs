//! The suite that every node passes, with a real Kafka.

use std::path::Path;
use std::rc::Rc;

use millstream_core::NodeTypes;
use millstream_testkit::{
    InputSamples, Kafka, OutputSamples, Sent, Source, Target, check_inputs, check_outputs, table,
};

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

#[test]
#[ignore = "waits for brokers for six minutes; part of the nightly run"]
fn outputs() {
    let Some(kafka) = Kafka::start().map(Rc::new) else { return };
    let mut types = NodeTypes::default();
    register(&mut types);
    let name = |folder: &Path| folder.file_name().unwrap().to_str().unwrap().to_owned();
    let settings = format!(
        "brokers = '{}'\ntopic = 'FOLDER'\nkey = 'text'\nformat = 'json'\nprogress_topic = 'FOLDER-progress'\ntransaction_rows = 4",
        kafka.brokers()
    );
    let (looked, made) = (kafka.clone(), kafka);
    let rows = move |folder: &Path| {
        let received = looked.read(&name(folder)).into_iter();
        received.map(|(_, _, _, value)| String::from_utf8(value.unwrap()).unwrap()).collect()
    };
    let prepare = move |folder: &Path| {
        let (kafka, topic): (&Kafka, _) = (&made, name(folder));
        // The suite has a runtime of its own on this thread.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                kafka.create(&topic, 2, &[]);
                kafka.create(&format!("{topic}-progress"), 1, &[("cleanup.policy", "compact")]);
            });
        });
    };
    let targets = vec![Target::new(settings, rows).prepared(prepare)];
    let texts = ["plain", "\"two words\"", "null", "ü,;"];
    let lines: Vec<_> = (0..23).map(|n: usize| format!("{n} {} {}.5", texts[n % 4], n * 3)).collect();
    let rows = table(&format!("n:int64 text:utf8? amount:float64\n{}", lines.join("\n")));
    check_outputs(&types, &[OutputSamples { node: "kafka", targets, wrong: WRONG_OUTPUTS, excuses: &[] }], &rows);
}

const WRONG_OUTPUTS: &[(&str, &str)] = &[
    ("brokers = 'nowhere'\ntopic = 'a'\nformat = 'json'", "brokers"),
    ("brokers = 'a:1'\ntopic = 'a/b'\nformat = 'json'", "topic"),
    ("brokers = 'a:1'\ntopic = { column = 'txt' }\nformat = 'json'", "topic.column"),
    ("brokers = 'a:1'\ntopic = { column = 'n' }\nformat = 'json'", "topic.column"),
    ("brokers = 'a:1'\ntopic = 'a'\nformat = 'raw'", "format"),
    ("brokers = 'a:1'\ntopic = 'a'\nformat = 'ndjson'", "format"),
    ("brokers = 'a:1'\ntopic = 'a'\nformat = { type = 'csv', header = true }", "format.header"),
    ("brokers = 'a:1'\ntopic = 'a'\nformat = 'json'\nkey = 'amount'", "key"),
    ("brokers = 'a:1'\ntopic = 'a'\nformat = 'json'\nkey = 'nobody'", "key"),
    ("brokers = 'a:1'\ntopic = 'a'\nformat = 'json'\nvalue = ['nobody']", "value"),
    ("brokers = 'a:1'\ntopic = 'a'\nformat = 'json'\nvalue = []", "value"),
    ("brokers = 'a:1'\ntopic = 'a'\nformat = 'json'\nheaders = 'text'", "headers"),
    ("brokers = 'a:1'\ntopic = 'a'\nformat = 'json'\ntimestamp = 'n'", "timestamp"),
    ("brokers = 'a:1'\ntopic = 'a'\nformat = 'json'\npartition = 'text'", "partition"),
    ("brokers = 'a:1'\ntopic = 'a'\nformat = 'json'\ntombstones = 'n'", "tombstones"),
    ("brokers = 'a:1'\ntopic = 'a'\nformat = 'json'\nprogress_topic = ''", "progress_topic"),
    ("brokers = 'a:1'\ntopic = 'a'\nformat = 'json'\nclient = { 'transactional.id' = 'a' }", "client.transactional.id"),
    ("brokers = 'a:1'\ntopic = 'a'\nformat = 'json'\nclient = { 'linger.ms' = 'long' }", "client.linger.ms"),
];

const WRONG: &[(&str, &str)] = &[
    ("brokers = 'nowhere'\ntopics = ['a']\nformat = 'raw'", "brokers"),
    ("brokers = 'a:1'\ntopics = []\nformat = 'raw'", "topics"),
    ("brokers = 'a:1'\nsasl = { mechanism = 'PLAIN', username = 'a' }\ntopics = ['a']\nformat = 'raw'", "sasl"),
    ("brokers = 'a:1'\ntopics = ['a', 'b']\nformat = 'avro'\nregistry = { url = 'http://a' }", "registry"),
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
fn made(kafka: &Rc<Kafka>, topic: &'static str, fill: fn(&Kafka, &str)) -> impl Fn(&Path) + 'static {
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
