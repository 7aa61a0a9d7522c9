//! Flows over a real broker of MQTT, with the real binary: both are killed, and nothing that was published is missing.

use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use millstream_testkit::{Mqtt, await_progress};
use serde_json::Value;

use crate::millstream::{Ran, Running, Workshop, project};
use crate::site::Site;

/// The broker that the tests of this process share. None where they are to do without.
fn shared() -> Option<&'static Mqtt> {
    static MQTT: OnceLock<Option<Mqtt>> = OnceLock::new();
    MQTT.get_or_init(Mqtt::start).as_ref()
}

/// Topics of its own, and a folder with the binary.
struct TopicSite<'a> {
    workshop: Workshop,
    mqtt: &'a Mqtt,
    topic: String,
}

/// Messages to a folder of files, as soon as they count.
const READ: &str = r#"
    [flow]
    epoch = { rows = 500, interval = "50ms" }
    [checkpoint]
    interval = "100ms"
    [input.rows]
    type = "mqtt"
    address = "${MQTT_ADDRESS}"
    client_id = "${TOPIC}"
    topics = ["${TOPIC}/#"]
    format = "json"
    schema = { id = "int64" }
    metadata = { topic = "topic", repeated = "repeated", retained = "retained", received_at = "received_at" }
    on_error = "drop"
    [output.out]
    type = "file"
    from = "rows"
    path = "out"
    format = "ndjson"
    rows = 1000
    every = "100ms"
"#;

/// Rows of a file to topics.
const WRITE: &str = r#"
    [flow]
    epoch = { rows = 100 }
    [checkpoint]
    epochs = 1
    [input.rows]
    type = "file"
    path = "rows.ndjson"
    schema = { id = "int64", topic = "utf8?" }
    [output.out]
    type = "mqtt"
    from = "rows"
    address = "${MQTT_ADDRESS}"
    client_id = "${TOPIC}"
    topic = { column = "topic" }
    format = "json"
    on_error = { dead_letter = "refused" }
"#;

impl Site for TopicSite<'_> {
    fn workshop(&self) -> &Workshop {
        &self.workshop
    }

    fn variables(&self) -> Vec<(&'static str, String)> {
        vec![("MQTT_ADDRESS", self.mqtt.address().to_owned()), ("TOPIC", self.topic.clone())]
    }
}

impl<'a> TopicSite<'a> {
    fn new(mqtt: &'a Mqtt, flow: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let topic = format!("topic-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let site = Self { workshop: Workshop::new(), mqtt, topic };
        site.workshop.write("flow.toml", flow);
        site
    }

    /// Publishes rows with these numbers, each to one of three topics.
    fn publish(&self, ids: std::ops::Range<usize>) {
        let message = |id: usize| (format!("{}/{}", self.topic, id % 3), format!(r#"{{ "id": {id} }}"#).into_bytes());
        self.mqtt.publish(&ids.map(message).collect::<Vec<_>>(), false);
    }

    /// Starts a run, and waits until the broker keeps messages of a topic for it.
    fn subscribed(&self, topic: &str) -> Running {
        let running = self.start();
        let note = "state/flow/nodes/rows/subscribed";
        await_progress(|| {
            let said = if self.workshop.exists(note) { self.workshop.read(note) } else { String::new() };
            if said.contains(topic) { Ok(()) } else { Err(format!("it has not subscribed to {topic}, but to {said}")) }
        });
        running
    }

    /// Waits until rows with these numbers are there, whatever else.
    fn wait_for_ids(&self, ids: std::ops::Range<usize>) {
        await_progress(|| {
            let there: BTreeSet<_> = self.ids().into_iter().collect();
            let missing: Vec<_> = ids.clone().filter(|id| !there.contains(id)).collect();
            let why = || format!("{} are there, and {} are missing: {missing:?}", there.len(), missing.len());
            if missing.is_empty() { Ok(()) } else { Err(why()) }
        });
    }

    /// Writes the file that a flow reads which publishes.
    fn write_rows(&self, count: usize) {
        let row = |id: usize| format!(r#"{{ "id": {id}, "topic": "{}/{}" }}"#, self.topic, id % 5);
        self.workshop.write("rows.ndjson", &(0..count).map(row).collect::<Vec<_>>().join("\n"));
    }
}

fn id(payload: &[u8]) -> usize {
    let row: Value = serde_json::from_slice(payload).unwrap();
    row["id"].as_u64().unwrap() as usize
}

#[test]
fn messages_count_when_the_flow_is_killed_and_come_twice_only_where_that_is_said() {
    let Some(mqtt) = shared() else { return };
    let site = TopicSite::new(mqtt, READ);
    site.subscribed(&site.topic).stop();
    std::thread::scope(|scope| {
        scope.spawn(|| (0..40).for_each(|round| site.publish(round * 50..(round + 1) * 50)));
        for point in ["mqtt-kept:3", "log-after-sync:5", "log-before-sync:4", "after-manifest:3", "mqtt-kept:7"] {
            let mut command = site.command(&["--state", "state"]);
            command.env("MILLSTREAM_CRASH", point).stdout(std::process::Stdio::piped());
            let ran = Running::start(&mut command).wait();
            assert_eq!(ran.code, -1, "{point}: {}", ran.stderr);
        }
    });
    let running = site.start();
    site.wait_for_ids(0..2000);
    running.stop();
    let mut firsts = BTreeSet::new();
    for row in site.rows().iter().filter(|row| row["repeated"] == false) {
        let id = row["id"].as_u64().unwrap();
        assert!(firsts.insert(id), "{id} is there twice, and not said to be repeated");
        assert_eq!(row["topic"], format!("{}/{}", site.topic, id % 3));
        assert!(row["received_at"].as_str().unwrap().starts_with("20"));
    }
}

#[test]
fn what_was_acknowledged_does_not_come_again() {
    let Some(mqtt) = shared() else { return };
    let site = TopicSite::new(mqtt, READ);
    let running = site.subscribed(&site.topic);
    for round in 0..3 {
        site.publish(round * 50..(round + 1) * 50);
        site.wait_for_ids(0..(round + 1) * 50);
    }
    running.stop();
    let running = site.start();
    site.publish(150..151);
    site.wait_for_ids(150..151);
    running.stop();
    assert_eq!(site.ids(), (0..151).collect::<Vec<_>>());
}

#[test]
fn messages_count_when_the_broker_is_killed() {
    // One of its own, since it is killed.
    let Some(mqtt) = Mqtt::start() else { return };
    let site = TopicSite::new(&mqtt, READ);
    let running = site.subscribed(&site.topic);
    for round in 0..4 {
        site.publish(round * 200..(round + 1) * 200);
        mqtt.services().kill("mosquitto");
        mqtt.services().start_again("mosquitto");
    }
    site.wait_for_ids(0..800);
    running.stop();
    // What comes while the flow does not run is kept by the broker.
    site.publish(800..1000);
    mqtt.services().kill("mosquitto");
    mqtt.services().start_again("mosquitto");
    let running = site.start();
    site.wait_for_ids(0..1000);
    running.stop();
}

#[test]
fn what_a_broker_keeps_of_topics_comes_once() {
    let Some(mqtt) = shared() else { return };
    let site = TopicSite::new(mqtt, READ);
    mqtt.publish(&[(format!("{}/kept", site.topic), br#"{ "id": 7 }"#.to_vec())], true);
    let running = site.start();
    site.wait_for_ids(7..8);
    running.stop();
    let running = site.start();
    site.publish(8..9);
    site.wait_for_ids(8..9);
    running.stop();
    assert_eq!(site.ids(), [7, 8]);
    assert_eq!(site.rows()[0]["retained"], true);
    // A topic that is wanted no more does not come, nor what the broker has kept of it for the flow.
    site.edit("${TOPIC}/#", "${TOPIC}-b/#");
    site.publish(9..10);
    let running = site.subscribed(&format!("{}-b", site.topic));
    mqtt.publish(&[(format!("{}-b/1", site.topic), br#"{ "id": 10 }"#.to_vec())], false);
    site.wait_for_ids(10..11);
    running.stop();
    assert_eq!(site.ids(), [7, 8, 10]);
}

#[test]
fn nobody_who_answers_and_a_wrong_password_are_said() {
    let Some(mqtt) = shared() else { return };
    let site = TopicSite::new(mqtt, READ);
    let refused = site.run(&[]);
    assert!(refused.code == 2 && refused.stderr.contains("`--state DIR`"), "{}", refused.stderr);
    let get = |variable: &str| mqtt.services().get(variable).to_owned();
    let tls = format!("tls = {{ ca = \"{}\" }}\n    user = \"alice\"", get("MQTT_CA"));
    let address = format!("\"{}\"\n    password = \"canary-wrong\"\n    {tls}", get("MQTT_ADDRESS_TLS"));
    site.edit("\"${MQTT_ADDRESS}\"", &address);
    let why = site.failure(&["--state", "state"]);
    assert!(why.contains("connecting to `127.0.0.1:") && !why.contains("canary"), "{why}");
}

#[test]
fn rows_are_published_at_least_once_whatever_step_the_process_dies_at() {
    let Some(mqtt) = shared() else { return };
    for point in [
        "spool-durable:2",
        "before-manifest:2",
        "after-manifest:2",
        "mqtt-published:2",
        "after-commit:2",
        "spool-removed:2",
    ] {
        let site = TopicSite::new(mqtt, WRITE);
        let subscriber = mqtt.subscribe(&format!("{}/#", site.topic));
        site.write_rows(500);
        assert!(site.crash(point), "{point} was not reached");
        site.finish(&["--state", "state"]);
        let ids = || subscriber.received().iter().map(|(_, payload)| id(payload)).collect::<BTreeSet<_>>();
        await_progress(|| match ids().len() {
            500.. => Ok(()),
            there => Err(format!("{point}: {there} of 500 rows are there")),
        });
        assert_eq!(ids(), (0..500).collect(), "{point}");
        for (topic, payload) in subscriber.received() {
            assert_eq!(topic, format!("{}/{}", site.topic, id(&payload) % 5));
        }
        // What two checkpoints have decided comes again at most: one is published while it is noted that the one before was.
        assert!(subscriber.received().len() <= 700, "{point}: {}", subscriber.received().len());
    }
}

#[test]
fn rows_wait_for_a_broker_that_is_away_and_those_without_a_topic_are_refused() {
    let Some(mqtt) = Mqtt::start() else { return };
    let site = TopicSite::new(&mqtt, WRITE);
    let subscriber = mqtt.subscribe(&format!("{}/#", site.topic));
    let t = &site.topic;
    site.workshop.write(
        "rows.ndjson",
        &format!("{{ \"id\": 1, \"topic\": \"{t}/a\" }}\n{{ \"id\": 2 }}\n{{ \"id\": 3, \"topic\": \"{t}/+\" }}"),
    );
    let is_back = AtomicBool::new(false);
    std::thread::scope(|scope| {
        mqtt.services().kill("mosquitto");
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(300));
            mqtt.services().start_again("mosquitto");
            is_back.store(true, Ordering::Relaxed);
        });
        site.finish(&["--state", "state"]);
        assert!(is_back.load(Ordering::Relaxed));
    });
    await_progress(|| if subscriber.received().is_empty() { Err("nothing is published") } else { Ok(()) });
    assert_eq!(subscriber.received(), [(format!("{t}/a"), br#"{"id":1}"#.to_vec())]);
    let refused = site.refused();
    assert!(
        refused.contains("nothing says where it goes") && refused.contains("is no topic to publish to"),
        "{refused}"
    );
}

#[test]
fn rows_that_protobuf_does_not_hold_are_refused() {
    let Some(mqtt) = shared() else { return };
    let site = TopicSite::new(mqtt, WRITE);
    let subscriber = mqtt.subscribe(&format!("{}/#", site.topic));
    let types = project().join("connectors/formats/tests/data/everything.binpb");
    std::fs::copy(types, site.workshop.path("types.binpb")).unwrap();
    site.edit("id = \"int64\"", "a = \"int64\"");
    let format = "{ type = \"protobuf\", descriptors = \"types.binpb\", message = \"test.Inner\" }";
    site.edit("format = \"json\"", &format!("format = {format}"));
    let row = |a: u64| format!(r#"{{ "a": {a}, "topic": "{}/a" }}"#, site.topic);
    site.workshop.write("rows.ndjson", &[1, 3_000_000_000, 2].map(row).join("\n"));
    let ran = site.finish(&["--state", "state"]);
    assert_eq!(ran.json()["nodes"]["out"]["rows_failed"], 1, "{}", ran.stdout);
    await_progress(|| match subscriber.received().len() {
        published @ 0..2 => Err(published),
        _ => Ok(()),
    });
    let payloads: Vec<_> = subscriber.received().into_iter().map(|(_, payload)| payload).collect();
    assert_eq!(payloads, [b"\x08\x01", b"\x08\x02"]);
    let refused = site.workshop.list("refused");
    let refused: String = refused.iter().map(|name| site.workshop.read(&format!("refused/{name}"))).collect();
    assert!(refused.contains("column `a`: 3000000000 is not an `int32`"), "{refused}");
}

#[test]
fn the_flow_of_the_library_sounds_the_alarm() {
    let Some(mqtt) = shared() else { return };
    let workshop = Workshop::new();
    let subscriber = mqtt.subscribe("alarms/#");
    let flow = project().join("flows/mqtt_sensors_alarm.toml");
    let state = workshop.path("state");
    let mut command = workshop.command(&["run", "--json", flow.to_str().unwrap(), "--state", state.to_str().unwrap()]);
    command.env("MQTT_ADDRESS", mqtt.address()).stdout(std::process::Stdio::piped());
    let running = Running::start(&mut command);
    let mut minute = 0;
    // Until it has subscribed, nobody keeps what is published.
    await_progress(|| {
        let reading = |room: &str, celsius: f64| {
            let text = format!(r#"{{ "celsius": {celsius}, "at": "2026-01-31T12:{minute:02}:00Z" }}"#);
            (format!("rooms/{room}/temperature"), text.into_bytes())
        };
        mqtt.publish(&[reading("cellar", 12.0), reading("server", 71.5)], false);
        minute = (minute + 1) % 60;
        if subscriber.received().is_empty() { Err("no alarm") } else { Ok(()) }
    });
    let ran: Ran = running.stop();
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let alarms = subscriber.received();
    assert!(alarms.iter().all(|(topic, _)| topic == "alarms/server"), "{alarms:?}");
    let alarm: Value = serde_json::from_slice(&alarms[0].1).unwrap();
    assert_eq!(alarm["celsius"], 71.5);
}
