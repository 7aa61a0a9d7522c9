//! Flows over a real NATS, with the real binary: both are killed, and each message counts once.

use std::process::Stdio;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use millstream_testkit::Nats;
use serde_json::Value;

use crate::millstream::{Running, Workshop, project};
use crate::site::Site;

/// The server that the tests of this process share. None where they are to do without.
fn shared() -> Option<&'static Nats> {
    static NATS: OnceLock<Option<Nats>> = OnceLock::new();
    NATS.get_or_init(Nats::start).as_ref()
}

/// Streams of its own, and a folder with the binary.
struct StreamSite<'a> {
    workshop: Workshop,
    nats: &'a Nats,
    stream: String,
}

/// Messages to a folder of files, as soon as they count.
const READ: &str = r#"
    [flow]
    epoch = { rows = 500, interval = "50ms" }
    [checkpoint]
    interval = "100ms"
    [input.rows]
    type = "nats"
    servers = "${NATS_ADDRESS}"
    stream = "${STREAM}"
    format = "json"
    schema = { id = "int64" }
    metadata = { sequence = "sequence", subject = "subject" }
    [output.out]
    type = "file"
    from = "rows"
    path = "out"
    format = "ndjson"
    rows = 1000
    every = "100ms"
"#;

/// Rows of a file to a stream.
const WRITE: &str = r#"
    [flow]
    name = "${STREAM}"
    epoch = { rows = 300 }
    [checkpoint]
    epochs = 1
    [input.rows]
    type = "file"
    path = "rows.ndjson"
    schema = { id = "int64", subject = "utf8?" }
    [output.out]
    type = "nats"
    from = "rows"
    servers = "${NATS_ADDRESS}"
    stream = "${STREAM}"
    subject = { column = "subject" }
    format = "json"
    on_error = { dead_letter = "refused" }
"#;

impl Site for StreamSite<'_> {
    fn workshop(&self) -> &Workshop {
        &self.workshop
    }

    fn variables(&self) -> Vec<(&'static str, String)> {
        vec![("NATS_ADDRESS", self.nats.address().to_owned()), ("STREAM", self.stream.clone())]
    }
}

impl<'a> StreamSite<'a> {
    fn new(nats: &'a Nats, flow: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let stream = format!("stream_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        nats.stream(&stream, &[&format!("{stream}.>")], |_| {});
        let site = Self { workshop: Workshop::new(), nats, stream };
        // Marks of outputs are known by the name of the flow.
        site.workshop.write("flow.toml", &flow.replace("name = \"${STREAM}\"", &format!("name = \"{}\"", site.stream)));
        site
    }

    /// Sends rows with these numbers, each to one of three subjects.
    fn send(&self, ids: std::ops::Range<usize>) {
        let message = |id: usize| (format!("{}.{}", self.stream, id % 3), format!(r#"{{ "id": {id} }}"#).into_bytes());
        self.nats.send(&ids.map(message).collect::<Vec<_>>());
    }

    /// Checks that rows with these numbers are there, each once and in their order.
    fn has_all(&self, ids: std::ops::Range<usize>) {
        let there: Vec<_> = self.rows().iter().map(|row| row["id"].as_u64().unwrap() as usize).collect();
        assert_eq!(there, ids.collect::<Vec<_>>());
    }

    /// Writes the file that a flow reads which sends.
    fn write_rows(&self, ids: std::ops::Range<usize>) {
        let row = |id: usize| format!(r#"{{ "id": {id}, "subject": "{}.{}" }}"#, self.stream, id % 5);
        self.workshop.write("rows.ndjson", &ids.map(row).collect::<Vec<_>>().join("\n"));
    }

    /// The rows of the stream, by their numbers.
    fn sent(&self) -> Vec<usize> {
        let read = self.nats.read(&self.stream);
        let id = |(subject, payload): (String, Vec<u8>)| {
            let row: Value = serde_json::from_slice(&payload).unwrap();
            let id = row["id"].as_u64().unwrap() as usize;
            assert_eq!(subject, format!("{}.{}", self.stream, id % 5));
            id
        };
        read.into_iter().map(id).collect()
    }
}

#[test]
fn messages_count_once_when_the_flow_and_the_server_are_killed() {
    // One of its own, since it is killed.
    let Some(nats) = Nats::start() else { return };
    let site = StreamSite::new(&nats, READ);
    for (round, point) in
        ["after-manifest:2", "before-manifest:3", "file-published:2", "after-commit:2"].iter().enumerate()
    {
        let mut command = site.command(&["--state", "state"]);
        command.env("MILLSTREAM_CRASH", point).stdout(Stdio::piped());
        let mut running = Running::start(&mut command);
        let mut sent = 0;
        let begin = Instant::now();
        while !running.has_ended() {
            site.send(round * 1_000_000 + sent..round * 1_000_000 + sent + 100);
            sent += 100;
            if sent == 500 {
                nats.services().kill("nats");
                nats.services().start_again("nats");
            }
            assert!(begin.elapsed() < Duration::from_secs(180), "{point} is not reached");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    let there = nats.read(&site.stream).len();
    let running = site.start();
    site.wait_for(there);
    running.stop();
    let sequences: Vec<_> = site.rows().iter().map(|row| row["sequence"].as_u64().unwrap()).collect();
    assert_eq!(sequences, (1..=there as u64).collect::<Vec<_>>());
}

#[test]
fn a_bounded_flow_ends_behind_what_is_there_and_goes_on_in_the_next_run() {
    let Some(nats) = shared() else { return };
    let site = StreamSite::new(nats, READ);
    site.edit("format = \"json\"\n    schema", "bounded = true\n    format = \"json\"\n    schema");
    site.send(0..1000);
    site.finish(&["--state", "state"]);
    site.has_all(0..1000);
}

#[test]
fn messages_that_are_deleted_before_they_are_read_are_missed() {
    let Some(nats) = shared() else { return };
    let site = StreamSite::new(nats, READ);
    site.send(0..10);
    let running = site.start();
    site.wait_for(10);
    running.stop();
    site.send(10..30);
    let purge = |sequence: u64| {
        nats.with(async |context| {
            let stream = context.get_stream(&site.stream).await.unwrap();
            stream.purge().sequence(sequence).await.unwrap();
        });
    };
    // The messages 11 to 15 of the stream.
    purge(16);
    let why = site.failure(&["--state", "state"]);
    // What variables have said is not told.
    assert!(why.contains("messages 11 to 15 of the stream `${STREAM}` were deleted before"), "{why}");
    site.edit("format = \"json\"\n    schema", "on_lost = \"earliest\"\n    format = \"json\"\n    schema");
    let running = site.start();
    site.wait_for(25);
    running.stop();
    assert_eq!(site.ids(), (0..10).chain(15..30).collect::<Vec<_>>());
    nats.with(async |context| context.delete_stream(&site.stream).await.unwrap());
    let why = site.failure(&["--state", "state"]);
    assert!(why.contains("there is no stream"), "{why}");
    nats.stream(&site.stream, &[&format!("{}.>", site.stream)], |_| {});
    site.send(0..100);
    let why = site.failure(&["--state", "state"]);
    assert!(why.contains("was deleted and made again"), "{why}");
}

#[test]
fn rows_are_sent_once_whatever_step_the_process_dies_at() {
    let Some(nats) = shared() else { return };
    let points = [
        "spool-durable:2",
        "before-manifest:2",
        "after-manifest:2",
        "before-commit:2",
        "nats-rows-sent:1",
        "nats-rows-sent:3",
        "nats-marked:2",
        "after-commit:2",
        "spool-removed:2",
    ];
    for point in points {
        let site = StreamSite::new(nats, WRITE);
        site.write_rows(0..1500);
        assert!(site.crash(point), "{point} was not reached");
        site.finish(&["--state", "state"]);
        assert_eq!(site.sent(), (0..1500).collect::<Vec<_>>(), "{point}");
    }
}

#[test]
fn rows_are_sent_once_though_their_ids_are_forgotten() {
    let Some(nats) = shared() else { return };
    let site = StreamSite::new(nats, WRITE);
    site.write_rows(0..1500);
    assert!(site.crash("nats-rows-sent:3"));
    let before = site.sent().len();
    assert!(before > 0 && before.is_multiple_of(300), "{before}");
    // As if the flow had been down for longer than the window.
    let window = |window| {
        nats.stream(&site.stream, &[&format!("{}.>", site.stream)], |config| config.duplicate_window = window);
    };
    window(Duration::from_millis(100));
    std::thread::sleep(Duration::from_millis(300));
    window(Duration::from_secs(60));
    // Others send there meanwhile.
    nats.send(&[(format!("{}.0", site.stream), br#"{ "id": 5000 }"#.to_vec())]);
    site.finish(&["--state", "state"]);
    let mut sent = site.sent();
    sent.sort_unstable();
    assert_eq!(sent, (0..1500).chain([5000]).collect::<Vec<_>>());
}

#[test]
fn rows_are_sent_once_when_the_server_is_killed_and_those_that_fit_nowhere_are_refused() {
    let Some(nats) = Nats::start() else { return };
    let site = StreamSite::new(&nats, WRITE);
    site.write_rows(0..20_000);
    std::thread::scope(|scope| {
        let run = scope.spawn(|| site.finish(&["--state", "state"]));
        for _ in 0..4 {
            std::thread::sleep(Duration::from_millis(150));
            nats.services().kill("nats");
            nats.services().start_again("nats");
        }
        run.join().unwrap();
    });
    assert_eq!(site.sent(), (0..20_000).collect::<Vec<_>>());

    let other = StreamSite::new(&nats, WRITE);
    let large = "x".repeat(1 << 20);
    let rows = [
        format!(r#"{{ "id": 1, "subject": "{}.1" }}"#, other.stream),
        r#"{ "id": 2 }"#.to_owned(),
        r#"{ "id": 3, "subject": "elsewhere" }"#.to_owned(),
        format!(r#"{{ "id": 4, "subject": "{}.1", "text": "{large}" }}"#, other.stream),
    ];
    other.workshop.write("rows.ndjson", &rows.join("\n"));
    other.edit("subject = \"utf8?\" }", "subject = \"utf8?\", text = \"utf8?\" }");
    other.finish(&["--state", "state"]);
    assert_eq!(other.sent(), [1]);
    let refused = other.refused();
    for why in ["nothing says where it goes", "is none of the subjects", "and the server takes"] {
        assert!(refused.contains(why), "{why}: {}", &refused[..refused.len().min(2000)]);
    }
}

#[test]
fn rows_that_protobuf_does_not_hold_are_refused() {
    let Some(nats) = shared() else { return };
    let site = StreamSite::new(nats, WRITE);
    let types = project().join("connectors/formats/tests/data/everything.binpb");
    std::fs::copy(types, site.workshop.path("types.binpb")).unwrap();
    site.edit("id = \"int64\"", "a = \"int64\"");
    let format = "{ type = \"protobuf\", descriptors = \"types.binpb\", message = \"test.Inner\" }";
    site.edit("format = \"json\"", &format!("format = {format}"));
    let row = |a: u64| format!(r#"{{ "a": {a}, "subject": "{}.1" }}"#, site.stream);
    site.workshop.write("rows.ndjson", &[1, 3_000_000_000, 2].map(row).join("\n"));
    let ran = site.finish(&["--state", "state"]);
    assert_eq!(ran.json()["nodes"]["out"]["rows_failed"], 1, "{}", ran.stdout);
    let payloads: Vec<_> = nats.read(&site.stream).into_iter().map(|(_, payload)| payload).collect();
    assert_eq!(payloads, [b"\x08\x01", b"\x08\x02"]);
    let refused = site.workshop.list("refused");
    let refused: String = refused.iter().map(|name| site.workshop.read(&format!("refused/{name}"))).collect();
    assert!(refused.contains("column `a`: 3000000000 is not an `int32`"), "{refused}");
}

#[test]
fn a_run_without_state_sends_its_rows_at_its_end() {
    let Some(nats) = shared() else { return };
    let site = StreamSite::new(nats, WRITE);
    site.write_rows(0..700);
    let ran = site.finish(&[]);
    assert_eq!(site.sent(), (0..700).collect::<Vec<_>>());
    assert_eq!(ran.json()["reports"]["out"]["sent"], 700);
    site.finish(&[]);
    assert_eq!(site.sent().len(), 1400, "each run for itself");
}
