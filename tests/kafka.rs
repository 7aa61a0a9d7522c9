//! Flows that read from a real Kafka, with the real binary: both are killed, and what comes out is compared with what was sent.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use millstream_testkit::{Kafka, Sent, Services};
use serde_json::Value;

use crate::millstream::{Ran, Running, Workshop, project};
use crate::site::Site;

/// The Kafka that the tests of this process share. None where they are to do without.
pub fn shared() -> Option<&'static Kafka> {
    static KAFKA: OnceLock<Option<Kafka>> = OnceLock::new();
    KAFKA.get_or_init(Kafka::start).as_ref()
}

/// A topic of its own in a Kafka, and a folder with the binary that reads it.
struct TopicSite<'a> {
    workshop: Workshop,
    kafka: &'a Kafka,
    topic: String,
}

/// Rows of the topic to a folder of files, as soon as they count.
const FLOW: &str = r#"
    [flow]
    epoch = { rows = 2000, interval = "50ms" }
    [checkpoint]
    interval = "100ms"
    [input.rows]
    type = "kafka"
    brokers = "${KAFKA_BROKERS}"
    topics = ["${TOPIC}"]
    format = "json"
    schema = { id = "int64" }
    metadata = { partition = "partition", offset = "offset" }
    discovery_interval = "200ms"
    [output.out]
    type = "file"
    from = "rows"
    path = "out"
    format = "ndjson"
    rows = 1000
    every = "100ms"
"#;

impl<'a> TopicSite<'a> {
    fn new(kafka: &'a Kafka, partitions: i32) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let topic = format!("topic-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        kafka.create(&topic, partitions, &[]);
        let site = Self { workshop: Workshop::new(), kafka, topic };
        site.workshop.write("flow.toml", FLOW);
        site
    }

    /// Sends the rows with these numbers to partitions in turn.
    fn send(&self, ids: std::ops::Range<usize>, partitions: usize) {
        let rows: Vec<_> = ids.map(|id| (id, row(id))).collect();
        self.kafka.send(&self.topic, rows.iter().map(|(id, row)| Sent::value((id % partitions) as i32, row)));
    }

    /// Checks that the rows with these numbers are there, each once, and those of each partition in their order.
    fn has_all(&self, ids: impl IntoIterator<Item = usize>) {
        assert_eq!(self.ids(), ids.into_iter().collect::<Vec<_>>());
        let mut last: BTreeMap<i64, i64> = BTreeMap::new();
        for row in self.rows() {
            let (partition, offset) = (row["partition"].as_i64().unwrap(), row["offset"].as_i64().unwrap());
            let before = last.insert(partition, offset).unwrap_or(-1);
            assert!(before < offset, "partition {partition}: {offset} comes behind {before}");
        }
    }
}

impl Site for TopicSite<'_> {
    fn workshop(&self) -> &Workshop {
        &self.workshop
    }

    fn variables(&self) -> Vec<(&'static str, String)> {
        vec![("KAFKA_BROKERS", self.kafka.brokers().to_owned()), ("TOPIC", self.topic.clone())]
    }
}

fn row(id: usize) -> String {
    format!(r#"{{ "id": {id}, "text": "{:060}" }}"#, id * 7919)
}

#[test]
fn rows_count_once_when_the_flow_and_the_broker_are_killed() {
    // One of its own, since it is killed.
    let Some(kafka) = Kafka::start() else { return };
    let site = TopicSite::new(&kafka, 3);
    let sent = Arc::new(AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..60 {
                site.send(round * 500..(round + 1) * 500, 3);
                sent.fetch_add(500, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        for round in 0..8 {
            let running = site.start();
            std::thread::sleep(Duration::from_millis(300 + round * 130));
            if round % 3 == 1 {
                kafka.services().kill("kafka");
                std::thread::sleep(Duration::from_millis(200));
                kafka.services().start_again("kafka");
            }
            // It is killed.
            drop(running);
        }
    });
    let running = site.start();
    site.wait_for(30_000);
    running.stop();
    site.has_all(0..30_000);
}

#[test]
fn a_flow_waits_for_a_broker_that_is_away() {
    let Some(kafka) = Kafka::start() else { return };
    let site = TopicSite::new(&kafka, 2);
    site.send(0..1000, 2);
    let mut running = site.start();
    site.wait_for(1000);
    kafka.services().kill("kafka");
    std::thread::sleep(Duration::from_secs(2));
    assert!(!running.has_ended());
    kafka.services().start_again("kafka");
    site.send(1000..2000, 2);
    site.wait_for(2000);
    let ran = running.stop();
    assert!(ran.stderr.contains("kafka: "), "it says that brokers are away: {}", ran.stderr);
    site.has_all(0..2000);
}

#[test]
fn nobody_who_answers_is_said() {
    let Some(kafka) = shared() else { return };
    let site = TopicSite::new(kafka, 1);
    site.edit("${KAFKA_BROKERS}", "127.0.0.1:1");
    let failure = site.failure(&[]);
    assert!(failure.contains("no broker of `127.0.0.1:1` answers: "), "{failure}");
}

#[test]
fn a_topic_that_is_not_there_is_said() {
    let Some(kafka) = shared() else { return };
    let site = TopicSite::new(kafka, 1);
    site.edit("${TOPIC}", "${TOPIC}x");
    let failure = site.failure(&[]);
    assert!(failure.contains("there is no topic `${TOPIC}x`; did you mean `${TOPIC}`?"), "{failure}");
}

#[test]
fn new_partitions_and_topics_are_read_from_their_beginning() {
    let Some(kafka) = shared() else { return };
    let site = TopicSite::new(kafka, 1);
    site.edit("${TOPIC}", "${TOPIC}*");
    site.send(0..100, 1);
    let running = site.start();
    site.wait_for(100);
    kafka.grow(&site.topic, 3);
    site.send(100..400, 3);
    site.wait_for(400);
    let other = format!("{}-other", site.topic);
    kafka.create(&other, 1, &[]);
    let rows: Vec<_> = (400..450).map(row).collect();
    kafka.send(&other, rows.iter().map(|row| Sent::value(0, row)));
    site.wait_for(450);
    running.stop();
    // And those that come while no run is there.
    kafka.grow(&other, 2);
    let rows: Vec<_> = (450..500).map(row).collect();
    kafka.send(&other, rows.iter().map(|row| Sent::value(1, row)));
    let running = site.start();
    site.wait_for(500);
    running.stop();
    assert_eq!(site.ids(), (0..500).collect::<Vec<_>>());
}

#[test]
fn what_others_have_aborted_does_not_come() {
    let Some(kafka) = shared() else { return };
    let site = TopicSite::new(kafka, 1);
    let mut expected = Vec::new();
    let mut transact = |rounds: std::ops::Range<usize>| {
        for round in rounds {
            let ids = round * 10..(round + 1) * 10;
            let rows: Vec<_> = ids.clone().map(row).collect();
            kafka.transact(&site.topic, rows.iter().map(|row| Sent::value(0, row)), round % 3 != 0);
            expected.extend(ids.filter(|_| round % 3 != 0));
        }
        expected.len()
    };
    transact(0..20);
    // Each run takes what fits into a checkpoint or two, so that flows go on within the gaps.
    for _ in 0..4 {
        let running = site.start();
        std::thread::sleep(Duration::from_millis(400));
        drop(running);
    }
    let running = site.start();
    site.wait_for(transact(20..29));
    running.stop();
    site.has_all(expected);
}

#[test]
fn a_bounded_flow_ends_behind_what_is_there_in_the_same_order() {
    let Some(kafka) = shared() else { return };
    let site = TopicSite::new(kafka, 3);
    site.edit("discovery_interval", "bounded = true\n    discovery_interval");
    site.send(0..30_000, 3);
    let rows: Vec<_> = (90_000..90_010).map(row).collect();
    kafka.transact(&site.topic, rows.iter().map(|row| Sent::value(0, row)), false);
    assert_eq!(site.run(&[]).code, 0);
    site.has_all(0..30_000);
    let control = site.rows();
    std::fs::remove_dir_all(site.workshop.path("out")).unwrap();
    // More comes meanwhile, and the flow is killed.
    let mut running = site.start();
    while site.workshop.list("state").is_empty() && !running.has_ended() {
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(250));
    drop(running);
    let ran = site.run(&["--state", "state"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(site.rows(), control);
}

#[test]
fn messages_that_are_deleted_before_they_are_read_are_missed() {
    let Some(kafka) = shared() else { return };
    let site = TopicSite::new(kafka, 1);
    site.send(0..100, 1);
    let running = site.start();
    site.wait_for(100);
    running.stop();
    site.send(100..200, 1);
    kafka.delete_before(&site.topic, 0, 150);
    let failure = site.failure(&["--state", "state"]);
    let expected = "messages 100 to 149 of `${TOPIC}/0` were deleted before they were read";
    assert!(failure.contains(expected), "{failure}");
    site.edit("discovery_interval", "on_lost = \"earliest\"\n    discovery_interval");
    let running = site.start();
    site.wait_for(150);
    let ran = running.stop();
    assert!(ran.stderr.contains(&format!("{expected}; going on at 150")), "{}", ran.stderr);
    site.has_all((0..100).chain(150..200));
}

#[test]
fn a_topic_that_was_made_again_is_another() {
    let Some(kafka) = shared() else { return };
    let site = TopicSite::new(kafka, 1);
    site.send(0..100, 1);
    let running = site.start();
    site.wait_for(100);
    running.stop();
    let make_again = || {
        kafka.delete(&site.topic);
        while kafka.has(&site.topic) {
            std::thread::sleep(Duration::from_millis(50));
        }
        kafka.create(&site.topic, 1, &[]);
        site.send(100..300, 1);
    };
    make_again();
    let expected = "the topic `${TOPIC}` was deleted and made again";
    let failure = site.failure(&["--state", "state"]);
    assert!(failure.contains(expected), "{failure}");
    // Also while a flow reads it.
    site.workshop.write("flow.toml", &FLOW.replace("path = \"out\"", "path = \"again\""));
    let running = Running::start(site.command(&["--state", "other"]).stdout(Stdio::piped()));
    while site.workshop.list("again").iter().all(|name| name.starts_with('.')) {
        std::thread::sleep(Duration::from_millis(20));
    }
    make_again();
    let ran = running.wait();
    assert_eq!(ran.code, 1);
    assert!(ran.stdout.contains(expected), "{}", ran.stdout);
}

#[test]
fn a_flow_starts_where_it_is_told_to() {
    let Some(kafka) = shared() else { return };
    let site = TopicSite::new(kafka, 1);
    let rows: Vec<_> = (0..10).map(row).collect();
    let at =
        |(second, row): (i64, _)| Sent { timestamp: Some(1_700_000_000_000 + second * 1000), ..Sent::value(0, row) };
    kafka.send(&site.topic, (0..).zip(rows.iter().map(String::as_str)).map(at));
    site.edit("discovery_interval", "bounded = true\n    start = \"2023-11-14T22:13:26Z\"\n    discovery_interval");
    assert_eq!(site.run(&[]).code, 0);
    assert_eq!(site.ids(), [6, 7, 8, 9]);
    site.edit("2023-11-14T22:13:26Z", "latest");
    site.edit("path = \"out\"", "path = \"none\"");
    assert_eq!(site.run(&[]).code, 0);
    assert!(site.workshop.list("none").is_empty());
}

#[test]
fn the_state_says_where_to_go_on_and_no_group_does() {
    let Some(kafka) = shared() else { return };
    let site = TopicSite::new(kafka, 1);
    site.edit("discovery_interval", "start = \"latest\"\n    discovery_interval");
    site.send(0..100, 1);
    let running = site.start();
    // It has begun when a checkpoint is there.
    let begin = Instant::now();
    while site.workshop.run(&["checkpoints", "--json", "--state", "state"]).code != 0 {
        assert!(begin.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(50));
    }
    std::thread::sleep(Duration::from_secs(1));
    running.stop();
    site.send(100..200, 1);
    let running = site.start();
    site.wait_for(100);
    running.stop();
    site.has_all(100..200);
}

/// Appends a number in base 128, its low digits first.
fn varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Sends messages of `encode` to two partitions, and one that is none; and reads them all.
fn read_encoded(site: &TopicSite, format: &str, encode: impl Fn(u64) -> Vec<u8>) {
    let messages: Vec<_> = (0..5000).map(|id| (id, encode(id))).collect();
    let sent =
        messages.iter().map(|(id, value)| Sent { partition: (id % 2) as i32, value: Some(value), ..Sent::default() });
    site.kafka.send(&site.topic, sent.chain([Sent::value(1, "\u{1}")]));
    site.edit(
        "format = \"json\"\n    schema = { id = \"int64\" }",
        &format!("format = {format}\n    bounded = true\n    on_error = {{ dead_letter = \"rejected\" }}"),
    );
    let ran = site.run(&["--state", "state"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(ran.json()["nodes"]["rows"]["rows_failed"], 1, "{}", ran.stdout);
    site.has_all(0..5000);
    let rows = site.rows();
    assert!(rows.iter().all(|row| row["text"] == format!("text {}", row["id"])), "{rows:?}");
}

#[test]
fn messages_of_avro_have_the_columns_of_their_schema() {
    let Some(kafka) = shared() else { return };
    let site = TopicSite::new(kafka, 2);
    let schema = r#"{ "type": "record", "name": "Row", "fields": [{ "name": "id", "type": "long" }, { "name": "text", "type": "string" }] }"#;
    site.workshop.write("row.avsc", schema);
    read_encoded(&site, "{ type = \"avro\", schema_file = \"row.avsc\" }", |id| {
        let (text, mut message) = (format!("text {id}"), Vec::new());
        varint(2 * id, &mut message);
        varint(2 * text.len() as u64, &mut message);
        [&message, text.as_bytes()].concat()
    });
}

/// A registry that answers what is at its paths, and nothing else; and nothing at all when it is gone.
fn registry(answers: [(&'static str, &'static str); 3], is_gone: Arc<AtomicBool>) -> String {
    use std::io::{BufRead as _, BufReader, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            if is_gone.load(Ordering::Relaxed) {
                continue;
            }
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            let path = lines.next().and_then(|line| line.split(' ').nth(1).map(str::to_owned)).unwrap_or_default();
            lines.take_while(|line| !line.is_empty()).for_each(drop);
            let answer = answers.iter().find(|(known, _)| *known == path).map(|(_, answer)| *answer);
            let (status, body) = answer.map_or(("404 Not Found", "{}"), |answer| ("200 OK", answer));
            let length = body.len();
            let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
        }
    });
    format!("http://{address}")
}

#[test]
fn schemas_of_a_registry_are_fetched_once_and_kept() {
    let Some(kafka) = shared() else { return };
    let site = TopicSite::new(kafka, 1);
    // The second names a type of another schema.
    let first =
        r#"{ "schema": "{\"type\":\"record\",\"name\":\"Row\",\"fields\":[{\"name\":\"id\",\"type\":\"int\"}]}" }"#;
    let second = r#"{ "schema": "{\"type\":\"record\",\"name\":\"Row\",\"fields\":[{\"name\":\"more\",\"type\":\"More\"},{\"name\":\"id\",\"type\":\"long\"}]}",
        "references": [{ "name": "More", "subject": "a/more", "version": 3 }] }"#;
    let more = r#"{ "subject": "a/more", "schema": "{\"type\":\"enum\",\"name\":\"More\",\"symbols\":[\"A\"]}" }"#;
    let answers = [("/schemas/ids/1", first), ("/schemas/ids/2", second), ("/subjects/a%2Fmore/versions/3", more)];
    let is_gone = Arc::new(AtomicBool::new(false));
    let url = registry(answers, is_gone.clone());
    let send = |messages: &[&[u8]]| {
        let sent = messages.iter().map(|value| Sent { value: Some(value), ..Sent::default() });
        kafka.send(&site.topic, sent);
    };
    send(&[b"\0\0\0\0\x01\x02", b"\0\0\0\0\x02\0\x04", b"\0\0\0\0\x07\0", b"{}", b"\0\0\0\0\x01\x06"]);
    site.edit(
        "format = \"json\"",
        &format!(
            "format = \"avro\"\n    registry = {{ url = \"{url}\" }}\n    on_error = {{ dead_letter = \"rejected\" }}"
        ),
    );
    let running = site.start();
    site.wait_for(3);
    running.stop();
    assert_eq!(site.ids(), [1, 2, 3]);
    let rejected: String =
        site.workshop.list("rejected").iter().map(|name| site.workshop.read(&format!("rejected/{name}"))).collect();
    assert!(rejected.contains("schema 7: the registry does not have it"), "{rejected}");
    assert!(rejected.contains("the message names no schema"), "{rejected}");
    // What it has said is kept.
    is_gone.store(true, Ordering::Relaxed);
    send(&[b"\0\0\0\0\x02\0\x08", b"\0\0\0\0\x01\x0a"]);
    let running = site.start();
    site.wait_for(5);
    running.stop();
    assert_eq!(site.ids(), [1, 2, 3, 4, 5]);
}

/// Registers a schema of Avro at a registry. Returns its number.
fn register(url: &str, subject: &str, schema: &Value) -> u32 {
    use std::io::{Read as _, Write as _};
    let (host, base) = url.strip_prefix("http://").and_then(|rest| rest.split_once('/')).unwrap();
    let body = serde_json::json!({ "schema": schema.to_string() }).to_string();
    let mut stream = std::net::TcpStream::connect(host).unwrap();
    write!(
        stream,
        "POST /{base}/subjects/{subject}/versions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let number = answer.split("\"id\":").nth(1).unwrap_or_else(|| panic!("{answer}"));
    number.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
}

#[test]
#[ignore = "downloads a registry"]
fn a_real_registry_has_the_schemas() {
    let Some(kafka) = shared() else { return };
    let services = Services::start(&["registry"]).unwrap();
    let url = services.get("REGISTRY_URL");
    let site = TopicSite::new(kafka, 1);
    let field = |name: &str, kind: Value| serde_json::json!({ "name": name, "type": kind });
    let row = |fields: Vec<Value>| serde_json::json!({ "type": "record", "name": "Row", "fields": fields });
    let first = register(url, "rows-value", &row(vec![field("id", "int".into())]));
    let mut more = field("note", serde_json::json!(["null", "string"]));
    more["default"] = Value::Null;
    let second = register(url, "rows-value", &row(vec![field("id", "int".into()), more]));
    assert_ne!(first, second);
    let message = |schema: u32, value: &[u8]| [&[0][..], &schema.to_be_bytes(), value].concat();
    let messages = [message(first, &[2]), message(second, &[4, 2, 2, b'x']), message(first, &[6])];
    kafka.send(&site.topic, messages.iter().map(|value| Sent { value: Some(value), ..Sent::default() }));
    site.edit(
        "format = \"json\"",
        &format!("format = \"avro\"\n    bounded = true\n    registry = {{ url = \"{url}\" }}"),
    );
    let ran = site.run(&["--state", "state"]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    assert_eq!(site.ids(), [1, 2, 3]);
}

#[test]
fn messages_of_protobuf_have_the_columns_of_their_type() {
    let Some(kafka) = shared() else { return };
    let site = TopicSite::new(kafka, 2);
    let delimited = |number: u64, bytes: &[u8]| {
        let mut field = Vec::new();
        varint(number << 3 | 2, &mut field);
        varint(bytes.len() as u64, &mut field);
        [&field, bytes].concat()
    };
    // Name, number, label and type.
    let field = |name: &str, number: u8, kind: u8| {
        [&delimited(1, name.as_bytes())[..], &[0x18, number, 0x20, 1, 0x28, kind]].concat()
    };
    let fields = [delimited(2, &field("id", 1, 3)), delimited(2, &field("text", 2, 9))].concat();
    let message = [delimited(1, b"Row"), fields].concat();
    let file = [delimited(1, b"row.proto"), delimited(4, &message), delimited(12, b"proto3")].concat();
    // All of its bytes are ASCII.
    site.workshop.write("row.binpb", &String::from_utf8(delimited(1, &file)).unwrap());
    read_encoded(&site, "{ type = \"protobuf\", descriptors = \"row.binpb\", message = \"Row\" }", |id| {
        let mut message = vec![0x08];
        varint(id, &mut message);
        [message, delimited(2, format!("text {id}").as_bytes())].concat()
    });
}

#[test]
fn the_flow_of_the_library_writes_what_it_reads() {
    let Some(kafka) = shared() else { return };
    let site = TopicSite::new(kafka, 2);
    let flow = std::fs::read_to_string(project().join("flows/kafka_to_parquet.toml")).unwrap();
    site.workshop.write("flow.toml", &flow.replace("[\"payments\"]", "[\"${TOPIC}\"]"));
    let payment = |id: usize| {
        let value = format!(r#"{{ "id": "p{id}", "amount": {id}.5, "currency": "EUR" }}"#);
        (format!("card-{}", id % 7), value)
    };
    let payments: Vec<_> = (0..1000).map(payment).collect();
    let sent = payments
        .iter()
        .enumerate()
        .map(|(id, (key, value))| Sent { key: Some(key.as_bytes()), ..Sent::value((id % 2) as i32, value) });
    kafka.send(&site.topic, sent.chain([Sent::value(0, "no JSON")]));
    let ran = site.run(&["--set", "input.payments.bounded=true"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let summary = ran.json();
    assert_eq!(summary["nodes"]["payments"]["rows_failed"], 1, "{summary}");
    let parquet = site.workshop.list("out/payments").into_iter().filter(|name| name.ends_with(".parquet")).count();
    assert!(parquet > 0, "{:?}", site.workshop.list("out/payments"));
}

#[test]
fn check_connects_and_says_what_is_there() {
    let Some(kafka) = shared() else { return };
    let site = TopicSite::new(kafka, 2);
    let check = |arguments: &[&str]| -> Ran {
        let mut command = site.workshop.command(&[&["check", "--connect", "flow.toml"], arguments].concat());
        command.env("KAFKA_BROKERS", kafka.brokers()).env("TOPIC", &site.topic).output().unwrap().into()
    };
    let ran = check(&["--set", "input.rows.on_error=\"drop\""]);
    let expected = "flow.toml: ok, 2 nodes\nflow.toml: input `rows`: 1 topic with 2 partitions at `${KAFKA_BROKERS}`\n";
    assert_eq!((ran.code, ran.stdout.as_str()), (0, expected), "{}", ran.stderr);
    // It has left nothing behind.
    assert_eq!(site.workshop.list(""), ["flow.toml"]);
    let json = check(&["--json", "--set", "input.rows.topics=[\"none\", \"${TOPIC}\"]"]);
    assert_eq!(json.code, 1, "{}", json.stderr);
    let said = json.json();
    let problem = &said["connections"][0]["problems"][0];
    assert_eq!((&said["ok"], &problem["line"]), (&Value::from(false), &Value::from(6)), "{said}");
    assert!(problem["message"].as_str().unwrap().starts_with("input `rows`: there is no topic `none`"), "{said}");
}

/// Learns from the rows, however they come.
const LEARNING: &str = r#"
    [processor.features]
    type = "sql"
    from = "rows"
    query = "SELECT id, partition, \"offset\", id % 7 AS x, id % 3 = 0 AS label FROM rows"
    [processor.learner]
    type = "train"
    from = "features"
    model = "m"
    estimator = { type = "logistic_regression", learning_rate = 0.05 }
    features = ["x"]
    label = "label"
    publish = { rows = 1000 }
"#;

#[test]
fn versions_are_trained_again_from_the_topic() {
    let Some(kafka) = shared() else { return };
    let site = TopicSite::new(kafka, 2);
    site.edit("from = \"rows\"", "from = \"learner\"");
    site.edit("    [output.out]", &format!("{LEARNING}    [output.out]"));
    site.send(0..1500, 2);
    // It is killed, and goes on with a partition more.
    let running = site.start();
    site.wait_for(1000);
    drop(running);
    kafka.grow(&site.topic, 3);
    site.send(1500..4000, 3);
    let running = site.start();
    site.wait_for(4000);
    running.stop();
    site.has_all(0..4000);
    let versions = site.workshop.list("models/m/versions");
    assert!(versions.len() >= 2, "{versions:?}");
    for version in versions {
        let version = format!("m/{}", version.parse::<u64>().unwrap());
        let mut command = site.workshop.command(&["replay", "flow.toml", &version, "--state", "state"]);
        let ran: Ran = command.env("KAFKA_BROKERS", kafka.brokers()).env("TOPIC", &site.topic).output().unwrap().into();
        assert_eq!(ran.code, 0, "{version}: {}", ran.stderr);
        assert!(ran.stdout.starts_with(&format!("{version}: the same bits after ")), "{}", ran.stdout);
    }
}
