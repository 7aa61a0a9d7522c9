//! Flows that send to a real Kafka, with the real binary: both are killed, and what a consumer sees that knows of transactions is
//! compared with what was to be sent.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use millstream_testkit::{Kafka, Received, Sent, Services};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::kafka::shared;
use crate::millstream::{Ran, Running, Workshop, project};
use crate::registry::Registry;
use crate::site::Site;

/// Topics of its own in a Kafka, and a folder with the binary that sends to them.
struct SinkSite<'a> {
    workshop: Workshop,
    kafka: &'a Kafka,
    /// What comes.
    source: String,
    /// Where it goes.
    topic: String,
}

/// Rows of a file to a topic, a few of each checkpoint in each transaction.
const FINITE: &str = r#"
    [flow]
    epoch = { rows = 300 }
    [checkpoint]
    epochs = 1
    [input.rows]
    type = "file"
    path = "rows.ndjson"
    schema = { id = "int64", card = "utf8" }
    [output.out]
    type = "kafka"
    from = "rows"
    brokers = "${KAFKA_BROKERS}"
    topic = "${TOPIC}"
    key = "card"
    format = "json"
    create_topics = true
    transactional_id = "${TOPIC}"
    transaction_rows = 100
"#;

/// What comes to a topic goes to another.
const LIVE: &str = r#"
    [flow]
    epoch = { rows = 1000, interval = "50ms" }
    [checkpoint]
    interval = "100ms"
    [input.rows]
    type = "kafka"
    brokers = "${KAFKA_BROKERS}"
    topics = ["${SOURCE}"]
    format = "json"
    schema = { id = "int64", card = "utf8" }
    [output.out]
    type = "kafka"
    from = "rows"
    brokers = "${KAFKA_BROKERS}"
    topic = "${TOPIC}"
    key = "card"
    format = "json"
    create_topics = true
    transactional_id = "${TOPIC}"
    transaction_rows = 300
"#;

impl<'a> SinkSite<'a> {
    fn new(kafka: &'a Kafka, flow: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let (source, topic) = (format!("source-{number}"), format!("sink-{number}"));
        let site = Self { workshop: Workshop::new(), kafka, source, topic };
        site.workshop.write("flow.toml", flow);
        site
    }

    /// One whose topics are there, with so many partitions each.
    fn with_topics(kafka: &'a Kafka, flow: &str, partitions: i32) -> Self {
        let site = Self::new(kafka, flow);
        kafka.create(&site.source, partitions, &[]);
        kafka.create(&site.topic, partitions, &[]);
        site
    }

    /// Writes the file that a finite flow reads.
    fn write_rows(&self, count: usize) {
        self.workshop.write("rows.ndjson", &(0..count).map(row).collect::<Vec<_>>().join("\n"));
    }

    /// Sends the rows with these numbers to the topic that a live flow reads.
    fn send(&self, ids: std::ops::Range<usize>, partitions: usize) {
        let rows: Vec<_> = ids.map(|id| (id, row(id))).collect();
        self.kafka.send(&self.source, rows.iter().map(|(id, row)| Sent::value((id % partitions) as i32, row)));
    }

    /// The messages that a consumer sees.
    fn received(&self) -> Vec<Received> {
        self.kafka.read(&self.topic)
    }

    /// The rows that it sees, partition by partition.
    fn ids(&self) -> Vec<usize> {
        self.received().iter().map(|(_, _, _, value)| id(value.as_ref().unwrap())).collect()
    }

    /// Waits until so many rows are visible. A run that sends nothing for minutes hangs, however slow the machine is.
    fn wait_for(&self, rows: usize, running: &mut Running) {
        let (mut seen, mut since) = (0, Instant::now());
        while seen < rows {
            if since.elapsed() > Duration::from_secs(180) {
                let sent = self.kafka.read_uncommitted(&self.topic).len();
                let state = ["manifests", "commits"].map(|part| self.workshop.list(&format!("state/flow/{part}")));
                let said = running.last_words();
                panic!(
                    "{seen} of {rows} rows are visible, {sent} were sent, the state has {state:?}, and the flow says:\n{said}"
                );
            }
            std::thread::sleep(Duration::from_millis(50));
            let now = self.ids().len();
            if now > seen {
                (seen, since) = (now, Instant::now());
            }
        }
    }

    /// Checks that each row is there once, behind those before it in its partition, and with those of its key.
    fn has_all(&self, rows: usize, what: &str) {
        let mut ids = self.ids();
        ids.sort_unstable();
        assert_eq!(ids, (0..rows).collect::<Vec<_>>(), "{what}");
        let mut last: BTreeMap<i32, i64> = BTreeMap::new();
        let mut places: BTreeMap<Vec<u8>, i32> = BTreeMap::new();
        for (partition, offset, key, value) in self.received() {
            let before = last.insert(partition, offset).unwrap_or(-1);
            assert!(before < offset, "{what}");
            let key = key.unwrap();
            assert_eq!(key, card(id(&value.unwrap())).into_bytes(), "{what}");
            assert_eq!(*places.entry(key).or_insert(partition), partition, "{what}: a key in two partitions");
        }
    }

    /// Checks that rows of a partition are in the order in which they came.
    fn is_in_order(&self, what: &str) {
        let mut last: BTreeMap<i32, usize> = BTreeMap::new();
        for (partition, _, _, value) in self.received() {
            let id = id(&value.unwrap());
            assert!(last.insert(partition, id).is_none_or(|before| before < id), "{what}: {id} comes too late");
        }
    }
}

impl Site for SinkSite<'_> {
    fn workshop(&self) -> &Workshop {
        &self.workshop
    }

    fn variables(&self) -> Vec<(&'static str, String)> {
        vec![
            ("KAFKA_BROKERS", self.kafka.brokers().to_owned()),
            ("SOURCE", self.source.clone()),
            ("TOPIC", self.topic.clone()),
        ]
    }
}

fn card(id: usize) -> String {
    format!("card-{}", id % 17)
}

fn row(id: usize) -> String {
    format!(r#"{{ "id": {id}, "card": "{}" }}"#, card(id))
}

fn id(value: &[u8]) -> usize {
    let row: Value = serde_json::from_slice(value).unwrap();
    row["id"].as_u64().unwrap() as usize
}

const ROWS: usize = 1500;

#[test]
fn rows_are_sent_once_whatever_step_the_process_dies_at() {
    let Some(kafka) = shared() else { return };
    let points = [
        "spool-sealed:2",
        "spool-durable:2",
        "before-manifest:2",
        "after-manifest:2",
        "before-commit:2",
        "kafka-part-sent:2",
        "kafka-marker-sent:5",
        "kafka-part-committed:5",
        "after-commit:2",
        "marked-committed:2",
        "spool-removed:1",
        "recovery-taken-over",
        "recovery-before-commit",
        "recovery-after-commit",
    ];
    for point in points {
        let site = SinkSite::with_topics(kafka, FINITE, 3);
        site.write_rows(ROWS);
        if point.starts_with("recovery-") {
            assert!(site.crash("kafka-part-committed:5"));
        }
        assert!(site.crash(point), "`{point}` is not reached");
        // And once more, while it goes on.
        site.crash("kafka-marker-sent:2");
        site.finish(&["--state", "state"]);
        site.has_all(ROWS, point);
        site.is_in_order(point);
        let left = site.workshop.list("state/flow/nodes/out");
        assert!(left.is_empty(), "{point}: {left:?} is left in the spool");
    }
}

#[test]
fn a_flow_that_ends_needs_no_state() {
    let Some(kafka) = shared() else { return };
    let site = SinkSite::new(kafka, FINITE);
    site.write_rows(ROWS);
    let ran = site.finish(&[]);
    site.has_all(ROWS, "without state");
    assert_eq!(ran.json()["nodes"]["out"]["rows_in"], ROWS, "{}", ran.stdout);
}

#[test]
fn a_flow_that_ends_sends_its_rows_in_each_run() {
    let Some(kafka) = shared() else { return };
    let site = SinkSite::new(kafka, FINITE);
    site.write_rows(700);
    for run in 1..=2 {
        site.finish(&[]);
        assert_eq!(site.received().len(), run * 700, "without state, a run knows nothing of the one before");
    }
}

/// Kills the flow while it sends, and two times of three the broker, so many times.
fn kill_both(rounds: usize) {
    // One of its own, since it is killed.
    let Some(kafka) = Kafka::start() else { return };
    let site = SinkSite::with_topics(&kafka, LIVE, 3);
    let mut sent = 0;
    for round in 0..rounds {
        let moment = |step: usize| std::thread::sleep(Duration::from_millis((round * 377 * step % 400) as u64));
        let mut running = site.start();
        // To one partition, so that there is one order. They make several checkpoints, of several transactions each.
        site.send(sent..sent + 4000, 1);
        sent += 4000;
        site.wait_for(sent - 3500, &mut running);
        moment(1);
        if round % 3 != 0 {
            kafka.services().kill("kafka");
            moment(2);
            kafka.services().start_again("kafka");
        }
        if round % 2 == 0 {
            // The flow has seen the broker go and come, and is killed when it sends again.
            site.wait_for(sent - 2500, &mut running);
        }
        drop(running);
        // And once more, while it takes up what it has left.
        let running = site.start();
        moment(3);
        drop(running);
    }
    let mut running = site.start();
    site.wait_for(sent, &mut running);
    running.stop();
    site.has_all(sent, "flow and broker were killed");
    site.is_in_order("flow and broker were killed");
}

#[test]
fn rows_are_sent_once_when_the_flow_and_the_broker_are_killed() {
    kill_both(5);
}

#[test]
#[ignore = "takes minutes; part of the nightly run"]
fn rows_are_sent_once_when_the_flow_and_the_broker_are_killed_fifty_times() {
    kill_both(50);
}

#[test]
fn commits_wait_for_a_broker_that_is_away() {
    let Some(kafka) = Kafka::start() else { return };
    let site = SinkSite::with_topics(&kafka, LIVE, 1);
    let mut running = site.start();
    site.send(0..1000, 1);
    site.wait_for(1000, &mut running);
    for round in 1..3 {
        site.send(round * 1000..(round + 1) * 1000, 1);
        kafka.services().kill("kafka");
        std::thread::sleep(Duration::from_secs(2));
        assert!(!running.has_ended());
        kafka.services().start_again("kafka");
        site.wait_for((round + 1) * 1000, &mut running);
    }
    running.stop();
    site.has_all(3000, "the broker was away");
    site.is_in_order("the broker was away");
}

#[test]
fn a_process_that_was_thought_dead_sends_nothing() {
    let Some(kafka) = shared() else { return };
    let Some(services) = Services::start(&["s3"]) else { return };
    let site = SinkSite::with_topics(kafka, LIVE, 1);
    let command = || {
        let mut command = site.command(&["--state", "s3://bucket/state"]);
        command
            .env("AWS_ACCESS_KEY_ID", "key")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ENDPOINT_URL", services.get("S3_ENDPOINT"))
            .env("AWS_ALLOW_HTTP", "true")
            .env("NO_PROXY", "127.0.0.1");
        command
    };
    let start = || Running::start(command().stdout(Stdio::piped()));
    let signal = |running: &mut Running, signal| {
        kill_process(Pid::from_raw(running.id() as i32).unwrap(), signal).unwrap();
    };
    let mut rows = 0;
    let mut send = |count: usize| {
        site.send(rows..rows + count, 1);
        rows += count;
        rows
    };
    for round in 0..3 {
        let mut first = start();
        site.wait_for(send(1000), &mut first);
        // It may be at any step of a commit.
        send(3000);
        std::thread::sleep(Duration::from_millis(100 + 120 * round));
        signal(&mut first, Signal::STOP);
        let mut second = start();
        site.wait_for(send(1000), &mut second);
        signal(&mut first, Signal::CONT);
        let ran = first.wait();
        assert_eq!(ran.code, 1, "{}", ran.stderr);
        site.wait_for(send(500), &mut second);
        second.stop();
    }
    site.has_all(rows, "a process came back");
    site.is_in_order("a process came back");
}

#[test]
fn transactions_of_others_hold_nothing_up_and_are_not_taken_for_ours() {
    let Some(kafka) = shared() else { return };
    let site = SinkSite::with_topics(kafka, LIVE, 1);
    site.edit("create_topics = true", "create_topics = true\n    progress_topic = \"${TOPIC}-progress\"");
    let progress = format!("{}-progress", site.topic);
    kafka.create(&progress, 1, &[("cleanup.policy", "compact")]);
    let other = Sent { key: Some(b"other"), ..Sent::value(0, "{}") };
    for round in 0..4 {
        // What is aborted leaves nothing behind the last message but records that no consumer shows.
        kafka.transact(&progress, [other], false);
        kafka.transact(&site.topic, [Sent::value(0, r#"{ "id": 99999 }"#)], false);
        let mut running = site.start();
        site.send(round * 500..(round + 1) * 500, 1);
        site.wait_for((round + 1) * 500, &mut running);
        if round % 2 == 0 {
            drop(running)
        } else {
            _ = running.stop()
        }
        kafka.transact(&progress, [other], true);
        kafka.transact(&progress, [other], false);
    }
    site.has_all(2000, "beside transactions of others");
}

#[test]
fn what_a_topic_does_not_take_is_kept_apart() {
    let Some(kafka) = shared() else { return };
    let site = SinkSite::new(kafka, FINITE);
    kafka.create(&site.topic, 2, &[("max.message.bytes", "2000"), ("cleanup.policy", "compact")]);
    let long = |id: usize, length: usize| format!(r#"{{ "id": {id}, "card": "c", "text": "{}" }}"#, "x".repeat(length));
    // Many that fit alone, and not together.
    let mut rows: Vec<_> = (0..100).map(|id| long(id, 1200)).collect();
    rows.push(long(100, 3000));
    rows.push(r#"{ "id": 101, "text": "x" }"#.to_owned());
    site.workshop.write("rows.ndjson", &rows.join("\n"));
    site.edit("card = \"utf8\"", "card = \"utf8?\", text = \"utf8?\"");
    let failure = site.failure(&[]);
    assert!(failure.contains("the message has 3"), "{failure}");
    assert!(failure.contains("and the topic takes 1872 at most (`max.message.bytes`)"), "{failure}");
    assert!(failure.contains("`on_error` says what to do with such rows"), "{failure}");
    site.edit("key =", "on_error = { dead_letter = \"refused\" }\n    key =");
    let ran = site.finish(&["--state", "state"]);
    assert_eq!(ran.json()["nodes"]["out"]["rows_failed"], 2, "{}", ran.stdout);
    let mut ids = site.ids();
    ids.sort_unstable();
    assert_eq!(ids, (0..100).collect::<Vec<_>>());
    let names = site.workshop.list("refused").into_iter().filter(|name| !name.starts_with('.'));
    let refused: String = names.map(|name| site.workshop.read(&format!("refused/{name}"))).collect();
    assert_eq!(refused.lines().count(), 2, "{refused}");
    assert!(refused.contains("it has no key, and the topic is compacted"), "{refused}");
}

#[test]
fn what_stands_beside_the_value_is_sent_along() {
    let Some(kafka) = shared() else { return };
    let site = SinkSite::new(kafka, FINITE);
    kafka.create(&site.topic, 3, &[]);
    site.workshop.write(
        "rows.ndjson",
        "{ \"id\": 1, \"card\": \"a\", \"part\": 2, \"at\": \"2026-01-31T12:00:00Z\", \"op\": \"update\", \
         \"head\": [{ \"name\": \"trace\", \"value\": \"t\" }] }\n\
         { \"id\": 2, \"card\": \"b\", \"part\": 1, \"op\": \"delete\" }\n\
         { \"id\": 3, \"card\": \"c\", \"part\": 7 }\n\
         { \"id\": 4, \"card\": \"d\", \"part\": 0, \"at\": \"1969-01-01T00:00:00Z\" }\n",
    );
    site.edit(
        "card = \"utf8\"",
        "card = \"utf8\", part = \"int64\", at = \"timestamp?\", op = \"utf8?\", head = \"list<{ name = utf8, value = utf8? }>?\"",
    );
    site.edit(
        "key =",
        "on_error = \"drop\"\n    partition = \"part\"\n    timestamp = \"at\"\n    tombstones = \"op\"\n    headers = \"head\"\n    key =",
    );
    let ran = site.finish(&[]);
    assert_eq!(ran.json()["nodes"]["out"]["rows_failed"], 2, "{}", ran.stdout);
    let text = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(|bytes| String::from_utf8(bytes.clone()).unwrap());
    let received = site.received();
    let received: Vec<_> = received.iter().map(|(part, _, key, value)| (*part, text(key), text(value))).collect();
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(received, [(1, some("b"), None), (2, some("a"), some(r#"{"id":1,"card":"a"}"#))]);
    // The input reads what the output has written.
    site.workshop.write(
        "back.toml",
        "[input.rows]\ntype = \"kafka\"\nbrokers = \"${KAFKA_BROKERS}\"\ntopics = [\"${TOPIC}\"]\nformat = \"raw\"\nbounded = true\n\
         metadata = { at = \"timestamp\", head = \"headers\" }\n\
         [output.out]\ntype = \"file\"\nfrom = \"rows\"\npath = \"back.ndjson\"\n",
    );
    let mut back = site.workshop.command(&["run", "back.toml"]);
    let back: Ran = back.env("KAFKA_BROKERS", kafka.brokers()).env("TOPIC", &site.topic).output().unwrap().into();
    assert_eq!(back.code, 0, "{}", back.stderr);
    let back = site.workshop.read("back.ndjson");
    assert!(
        back.contains("\"at\":\"2026-01-31T12:00:00Z\",\"head\":[{\"name\":\"trace\",\"value\":\"74\"}]"),
        "{back}"
    );
}

#[test]
fn a_column_says_the_topic() {
    let Some(kafka) = shared() else { return };
    let site = SinkSite::new(kafka, FINITE);
    let (made, created) = (format!("{}-made", site.topic), format!("{}-created", site.topic));
    kafka.create(&made, 1, &[("max.message.bytes", "1000")]);
    let row = |id: usize, topic: &str| format!(r#"{{ "id": {id}, "card": "{}", "to": "{topic}" }}"#, card(id));
    let rows: Vec<_> = (0..600).map(|id| row(id, [&made, &created][id % 2])).chain([row(9999, "no/topic")]).collect();
    site.workshop.write("rows.ndjson", &rows.join("\n"));
    site.edit("card = \"utf8\"", "card = \"utf8\", to = \"utf8\"");
    site.edit("topic = \"${TOPIC}\"", "topic = { column = \"to\" }\n    on_error = \"drop\"");
    assert!(site.crash("kafka-marker-sent:2"));
    site.finish(&["--state", "state"]);
    for (topic, first) in [(&made, 0), (&created, 1)] {
        let received = kafka.read(topic);
        let mut ids: Vec<_> = received.iter().map(|(_, _, _, value)| id(value.as_ref().unwrap())).collect();
        ids.sort_unstable();
        assert_eq!(ids, (first..600).step_by(2).collect::<Vec<_>>(), "{topic}");
    }
}

#[test]
fn what_is_missing_is_said_with_what_to_do() {
    let Some(kafka) = shared() else { return };
    let site = SinkSite::new(kafka, FINITE);
    site.write_rows(10);
    site.edit("create_topics = true", "progress_topic = \"${TOPIC}-progress\"");
    let state = ["--state", "state"];
    let failure = site.failure(&state);
    assert!(
        failure.contains("--create --topic ${TOPIC}-progress --partitions 1 --config cleanup.policy=compact"),
        "{failure}"
    );
    assert!(failure.contains("or say `create_topics = true`"), "{failure}");
    let progress = format!("{}-progress", site.topic);
    kafka.create(&progress, 1, &[]);
    let failure = site.failure(&state);
    assert!(failure.contains("is not compacted") && failure.contains("set `cleanup.policy=compact`"), "{failure}");
    site.edit("${TOPIC}-progress", "${TOPIC}-compacted");
    kafka.create(&format!("{}-compacted", site.topic), 1, &[("cleanup.policy", "compact")]);
    kafka.create(&format!("{}x", site.topic), 1, &[]);
    let failure = site.failure(&state);
    assert!(failure.contains("there is no topic `${TOPIC}`; did you mean `${TOPIC}x`?"), "{failure}");
    kafka.create(&site.topic, 1, &[("cleanup.policy", "compact")]);
    site.edit("key = \"card\"", "");
    let failure = site.failure(&state);
    assert!(failure.contains("takes no message without a key: say which column it is"), "{failure}");
}

#[test]
fn rows_are_sent_as_they_come_where_that_is_wanted() {
    let Some(kafka) = shared() else { return };
    // Without state, nobody would ever decide that they count.
    for (flow, arguments) in [("", &[][..]), ("delivery = \"at_least_once\"\n    ", &["--state", "state"][..])] {
        let site = SinkSite::with_topics(kafka, LIVE, 2);
        site.edit("key =", &format!("{flow}key ="));
        let mut running = Running::start(site.command(arguments).stdout(Stdio::piped()));
        site.send(0..2000, 2);
        site.wait_for(2000, &mut running);
        if !arguments.is_empty() {
            drop(running);
            let mut running = site.start();
            site.send(2000..3000, 2);
            site.wait_for(3000, &mut running);
            running.stop();
            let mut ids = site.ids();
            ids.sort_unstable();
            ids.dedup();
            assert_eq!(ids, (0..3000).collect::<Vec<_>>());
        } else {
            running.stop();
            site.has_all(2000, "without state");
        }
    }
}

#[test]
fn a_spool_that_is_damaged_is_said() {
    let Some(kafka) = shared() else { return };
    let site = SinkSite::with_topics(kafka, FINITE, 1);
    site.write_rows(ROWS);
    assert!(site.crash("before-commit:2"));
    let spool = site.workshop.path("state/flow/nodes/out");
    let mut files: Vec<_> = std::fs::read_dir(&spool).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    // The first ones may be in the topic already, and not be needed.
    let damaged = files.iter().rev().find(|path| {
        let bytes = std::fs::read(path).unwrap();
        // One that has just been begun is empty.
        std::fs::write(path, &bytes[..bytes.len().saturating_sub(1)]).unwrap();
        let said = site.workshop.run(&["checkpoints", "--state", "state", "--verify"]);
        let is_said = said.stdout.contains("is damaged") || said.stderr.contains("is damaged");
        if !is_said {
            std::fs::write(path, &bytes).unwrap();
        }
        is_said
    });
    let damaged = damaged.expect("a file that a checkpoint needs").clone();
    let failure = site.failure(&["--state", "state"]);
    assert!(failure.contains("is damaged: it has 300 rows that a checkpoint has decided"), "{failure}");
    assert!(failure.contains(&*damaged.file_name().unwrap().to_string_lossy()), "{failure}");
}

#[test]
fn the_flow_of_the_library_predicts_what_it_reads() {
    let Some(kafka) = shared() else { return };
    let site = SinkSite::with_topics(kafka, "", 2);
    let flow = std::fs::read_to_string(project().join("flows/kafka_train_kafka.toml")).unwrap();
    // A flow that ends waits for nobody.
    let flow = flow.replace(", idle = \"10s\"", "");
    let flow =
        flow.replace("[\"payments\"]", "[\"${SOURCE}\"]").replace("topic = \"predictions\"", "topic = \"${TOPIC}\"");
    site.workshop.write(
        "flow.toml",
        &flow.replace("create_topics = true", "create_topics = true\ntransactional_id = \"${TOPIC}\""),
    );
    let payment = |id: usize| {
        let amount = (id * 7919 % 1000) as f64 / 10.0;
        let at = format!("2026-01-31T{:02}:{:02}:{:02}Z", 8 + id / 3600, id / 60 % 60, id % 60);
        format!(
            r#"{{ "id": "p{id}", "card": "{}", "amount": {amount}, "at": "{at}", "fraud": {} }}"#,
            card(id),
            amount > 80.0
        )
    };
    let payments: Vec<_> = (0..4000).map(payment).collect();
    kafka.send(&site.source, payments.iter().enumerate().map(|(id, text)| Sent::value((id % 2) as i32, text)));
    let ran = site.finish(&["--set", "input.payments.bounded=true", "--state", "state"]);
    let received = site.received();
    assert_eq!(received.len(), 4000, "{}", ran.stdout);
    let mut right = 0;
    for (_, _, key, value) in &received {
        assert!(key.as_ref().unwrap().starts_with(b"card-"));
        let row: Value = serde_json::from_slice(value.as_ref().unwrap()).unwrap();
        right += usize::from((row["score"].as_f64().unwrap_or_default() > 0.5) == row["fraud"].as_bool().unwrap());
    }
    assert!(right > 3200, "{right} of 4000 are right");
}

/// Reads the topic back by the input, with such settings, into a file of NDJSON. Returns its lines.
fn read_back(site: &SinkSite<'_>, settings: &str) -> Vec<Value> {
    let flow = format!(
        "[input.rows]\ntype = \"kafka\"\nbrokers = \"${{KAFKA_BROKERS}}\"\ntopics = [\"${{TOPIC}}\"]\nbounded = true\n{settings}\n\
         [output.out]\ntype = \"file\"\nfrom = \"rows\"\npath = \"back.ndjson\"\nif_exists = \"replace\"\n"
    );
    site.workshop.write("back.toml", &flow);
    let mut back = site.workshop.command(&["run", "back.toml"]);
    let back: Ran = back.env("KAFKA_BROKERS", site.kafka.brokers()).env("TOPIC", &site.topic).output().unwrap().into();
    assert_eq!(back.code, 0, "{}", back.stderr);
    site.workshop.read("back.ndjson").lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Writes rows, of whose values and keys a registry has the schemas, through a crash, and reads them back.
fn through_a_registry(kafka: &Kafka, url: &str) -> String {
    let site = SinkSite::with_topics(kafka, FINITE, 2);
    site.write_rows(ROWS);
    let registry = format!("registry = {{ url = \"{url}\" }}");
    site.edit("format = \"json\"", &format!("format = {{ type = \"avro\", name = \"shop.Row\" }}\n    {registry}"));
    site.edit("key = \"card\"", "key = [\"card\"]\n    key_format = \"avro\"");
    assert!(site.crash("before-commit:2"));
    site.finish(&["--state", "state"]);
    let settings = format!(
        "format = \"avro\"\nschema = {{ id = \"int64\", card = \"utf8\" }}\nkey_format = \"avro\"\nkey_schema = {{ card = \"utf8\" }}\n{registry}"
    );
    let rows = read_back(&site, &settings);
    let mut ids: Vec<_> = rows.iter().map(|row| row["id"].as_u64().unwrap() as usize).collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..ROWS).collect::<Vec<_>>());
    for row in rows {
        let card = card(row["id"].as_u64().unwrap() as usize);
        assert_eq!(row, serde_json::json!({ "id": row["id"], "card": card, "key_card": card }));
    }
    site.topic
}

#[test]
fn a_registry_has_the_schemas_of_what_is_written() {
    let Some(kafka) = shared() else { return };
    let registry = Registry::start();
    let topic = through_a_registry(kafka, registry.url());
    let schemas = registry.schemas();
    let subjects: Vec<_> = schemas.iter().map(|schema| (schema.subject.as_str(), schema.kind.as_str())).collect();
    assert_eq!(subjects, [(&*format!("{topic}-value"), "AVRO"), (&*format!("{topic}-key"), "AVRO")]);
    let value: Value = serde_json::from_str(&schemas[0].schema).unwrap();
    assert_eq!((value["namespace"].as_str(), value["name"].as_str()), (Some("shop"), Some("Row")));
}

#[test]
fn what_a_registry_says_against_a_schema_is_said() {
    let Some(kafka) = shared() else { return };
    let registry = Registry::start();
    let site = SinkSite::with_topics(kafka, FINITE, 1);
    site.write_rows(10);
    site.edit(
        "format = \"json\"",
        &format!(
            "format = {{ type = \"avro\", name = \"closed\" }}\n    registry = {{ url = \"{}\", register = false, subject = \"topic\" }}",
            registry.url()
        ),
    );
    let failure = site.failure(&[]);
    let expected = "the registry does not have the schema under the subject `${TOPIC}-value`: Schema not found";
    assert!(failure.contains(expected), "{failure}");
    site.edit("register = false, subject = \"topic\"", "subject = \"record\"");
    let failure = site.failure(&[]);
    let expected = "the schema does not go with those before it under the subject `closed`: a field is missing";
    assert!(failure.contains(expected), "{failure}");
    assert_eq!(registry.schemas().len(), 0);
}

#[test]
fn messages_of_protobuf_are_written_and_read_back() {
    let Some(kafka) = shared() else { return };
    let registry = Registry::start();
    let site = SinkSite::with_topics(kafka, FINITE, 1);
    let types = project().join("connectors/formats/tests/data/everything.binpb");
    std::fs::copy(types, site.workshop.path("types.binpb")).unwrap();
    let rows = "{\"a\":1,\"b\":\"x\",\"c\":[1,2]}\n{\"a\":3000000000}\n{\"a\":3,\"c\":[7]}\n";
    site.workshop.write("rows.ndjson", rows);
    site.edit("id = \"int64\", card = \"utf8\"", "a = \"int64\", b = \"utf8?\", c = \"list<int64>?\"");
    site.edit("key = \"card\"", "on_error = { dead_letter = \"refused\" }");
    let format =
        |message: &str| format!("{{ type = \"protobuf\", descriptors = \"types.binpb\", message = \"{message}\" }}");
    let registry_of = format!("registry = {{ url = \"{}\", subject = \"topic_record\" }}", registry.url());
    site.edit("format = \"json\"", &format!("format = {}\n    {registry_of}", format("test.Inner")));
    let ran = site.finish(&["--state", "state"]);
    assert_eq!(ran.json()["nodes"]["out"]["rows_failed"], 1, "{}", ran.stdout);
    let refused: String =
        site.workshop.list("refused").iter().map(|name| site.workshop.read(&format!("refused/{name}"))).collect();
    assert!(refused.contains("column `a`: 3000000000 is not an `int32`"), "{refused}");
    let value = |bytes: &Received| bytes.3.clone().unwrap();
    let written: Vec<_> = site.received().iter().map(value).collect();
    assert_eq!(
        written,
        [&b"\0\0\0\0\x02\0\x08\x01\x12\x01x\x1a\x02\x01\x02"[..], b"\0\0\0\0\x02\0\x08\x03\x1a\x01\x07"]
    );
    let schemas = registry.schemas();
    let told: Vec<_> = schemas.iter().map(|schema| (schema.subject.as_str(), schema.references.as_slice())).collect();
    let references = [("legacy.proto".to_owned(), 1)];
    assert_eq!(told, [("legacy.proto", &[][..]), (&*format!("{}-test.Inner", site.topic), &references[..])]);
    let back =
        read_back(&site, &format!("format = {}\nregistry = {{ url = \"{}\" }}", format("test.Inner"), registry.url()));
    assert_eq!(back, [serde_json::json!({ "a": 1, "b": "x", "c": [1, 2] }), serde_json::json!({ "a": 3, "c": [7] })]);
}

#[test]
#[ignore = "downloads a registry; part of the nightly run"]
fn a_real_registry_takes_the_schemas_of_kafka() {
    let Some(kafka) = shared() else { return };
    let services = Services::start(&["registry"]).unwrap();
    let url = services.get("REGISTRY_URL");
    through_a_registry(kafka, url);
    let types = project().join("connectors/formats/tests/data/everything.binpb");
    for format in ["{ type = \"protobuf\", descriptors = \"types.binpb\", message = \"test.Tree\" }", "\"json\""] {
        let site = SinkSite::with_topics(kafka, FINITE, 1);
        std::fs::copy(&types, site.workshop.path("types.binpb")).unwrap();
        site.workshop.write("rows.ndjson", "{\"name\":\"x\"}\n");
        site.edit("id = \"int64\", card = \"utf8\"", "name = \"utf8\"");
        site.edit("key = \"card\"", "");
        site.edit("format = \"json\"", &format!("format = {format}\n    registry = {{ url = \"{url}\" }}"));
        site.finish(&[]);
        let back = read_back(
            &site,
            &format!("format = {format}\nschema = {{ name = \"utf8\" }}\nregistry = {{ url = \"{url}\" }}"),
        );
        assert_eq!(back, [serde_json::json!({ "name": "x" })]);
    }
}

#[test]
fn a_key_of_several_columns_is_written_and_read_back() {
    let Some(kafka) = shared() else { return };
    let site = SinkSite::with_topics(kafka, FINITE, 1);
    site.workshop.write("rows.ndjson", "{\"id\":1,\"card\":\"a\"}\n{\"id\":2}\n");
    site.edit("id = \"int64\", card = \"utf8\"", "id = \"int64\", shop = \"int64?\", card = \"utf8?\"");
    site.edit("key = \"card\"", "key = [\"shop\", \"card\"]\n    value = [\"id\"]\n    key_format = \"json\"");
    site.finish(&[]);
    let keys: Vec<_> = site.received().into_iter().map(|(_, _, key, _)| key).collect();
    assert_eq!(keys, [Some(br#"{"card":"a"}"#.to_vec()), None]);
    let settings = "format = \"json\"\nschema = { id = \"int64\" }\nkey_format = \"json\"\non_error = { dead_letter = \"unread\" }\n";
    let both = format!("{settings}key_schema = {{ card = \"utf8?\" }}\nkey_prefix = \"of_\"");
    assert_eq!(
        read_back(&site, &both),
        [serde_json::json!({ "id": 1, "of_card": "a" }), serde_json::json!({ "id": 2 })]
    );
    let one = format!("{settings}key_schema = {{ card = \"utf8\" }}");
    assert_eq!(read_back(&site, &one), [serde_json::json!({ "id": 1, "key_card": "a" })]);
    let unread: String =
        site.workshop.list("unread").iter().map(|name| site.workshop.read(&format!("unread/{name}"))).collect();
    assert!(unread.contains("key: the message has no value: column `card` is missing or null"), "{unread}");
}
