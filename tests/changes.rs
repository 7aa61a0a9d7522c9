//! Flows of a daemon that get another text while they run: every row counts once, models learn on, listeners stay open, and a kill at any step
//! of the change leaves one revision or the other.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::millstream::{Running, Workshop};

/// How long anything may take here.
const PATIENCE: Duration = Duration::from_secs(240);

/// A daemon in a folder of its own.
struct Daemon<'w> {
    workshop: &'w Workshop,
    running: Running,
}

impl<'w> Daemon<'w> {
    /// Starts one that dies at this crash point, if there is one.
    fn start(workshop: &'w Workshop, point: Option<&str>) -> Self {
        std::fs::create_dir_all(workshop.path("flows")).unwrap();
        let mut command = workshop.command(&["daemon"]);
        command.env("MILLSTREAM__ADMIN__ADDRESS", "off").env("MILLSTREAM__LOG__LEVEL", "warn");
        command.env("MILLSTREAM__ADMIN__RATE", "100000/s");
        point.map(|point| command.env("MILLSTREAM_CRASH", point));
        let mut daemon = Self { workshop, running: Running::start(&mut command) };
        let begin = Instant::now();
        while daemon.ask("GET", "/readyz", "", "").is_none_or(|(status, _)| status != 200) {
            assert!(begin.elapsed() < PATIENCE, "the daemon is not ready");
            // One that dies on its way has done its part.
            if point.is_some() && daemon.running.has_ended() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        daemon
    }

    /// What is answered, unless the daemon is gone.
    fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Option<(u16, Value)> {
        let mut stream = UnixStream::connect(self.workshop.path("admin.sock")).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n",
            body.len()
        );
        stream.write_all((head + body).as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, serde_json::from_str(body).unwrap_or_default()))
    }

    /// Has a flow run from a text, and waits for what comes of that. Nothing if the daemon is gone by then.
    fn put(&self, flow: &str, text: &str, condition: &str) -> Option<Value> {
        let headers = format!("content-type: application/toml\r\nprefer: wait=120\r\n{condition}\r\n");
        let (status, answer) = self.ask("PUT", &format!("/api/v1/flows/{flow}?deadline_s=120"), &headers, text)?;
        assert!(status / 100 == 2, "{status}: {answer}");
        Some(answer)
    }

    /// The same, of a change that comes through. How long the flow stood still, in seconds.
    fn change(&self, flow: &str, text: &str, revision: u64) -> f64 {
        let answer = self.put(flow, text, &format!("if-match: \"{revision}\"")).unwrap();
        let operation = self.operation(&answer);
        assert_eq!(operation["state"], "done", "{operation}");
        operation["took"]["pause_s"].as_f64().unwrap_or_else(|| panic!("it was not changed while it ran: {operation}"))
    }

    fn operation(&self, answer: &Value) -> Value {
        self.ask("GET", &format!("/api/v1/operations/{}", answer["operation"]), "", "").unwrap().1
    }

    fn flow(&self, flow: &str) -> Value {
        self.ask("GET", &format!("/api/v1/flows/{flow}"), "", "").unwrap().1
    }

    /// Waits until a flow is in a state, and runs from a revision.
    fn wait_for(&self, flow: &str, state: &str, revision: u64) {
        let begin = Instant::now();
        loop {
            let seen = self.flow(flow);
            if seen["state"] == state && seen["running_revision"] == revision {
                return;
            }
            assert!(begin.elapsed() < PATIENCE, "it should be {state} at revision {revision}: {seen}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn has_ended(&mut self) -> bool {
        self.running.has_ended()
    }

    fn stop(self) {
        self.running.stop();
    }

    fn kill(mut self) {
        if !self.running.has_ended() {
            kill_process(Pid::from_raw(self.running.id() as i32).unwrap(), Signal::KILL).unwrap();
        }
    }
}

/// The rows that are visible in the files of a folder, sorted by a column.
fn rows(workshop: &Workshop, folder: &str, column: &str) -> Vec<Value> {
    let names = workshop.list(folder).into_iter().filter(|name| !name.starts_with('.'));
    let text: String = names.map(|name| workshop.read(&format!("{folder}/{name}"))).collect();
    let mut rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    rows.sort_by_key(|row| row[column].as_u64());
    rows
}

/// A flow that learns, and counts by windows. It ends by itself; `RATE`, `FEATURE` and `EXTRA` are what changes.
const LEARNS: &str = r#"
    flow = { name = "learns", epoch = { rows = 250, interval = "50ms" } }
    checkpoint.interval = "500ms"
    [input.rows]
    type = "generate"
    rows = 60000
    RATE
    seed = 7
    columns = { n = "row", x = "random_normal()", y = "random_normal()", at = "timestamp '2026-01-01' + row * interval '1 s'" }
    event_time = { column = "at" }
    [processor.features]
    type = "sql"
    from = "rows"
    query = "SELECT n, x, y, FEATURE AS label, at FROM rows"
    [processor.learn]
    type = "train"
    from = "features"
    model = "signs"
    features = ["x", "y"]
    label = "label"
    estimator = { type = "logistic_regression" }
    [processor.minutes]
    type = "window"
    from = "features"
    size = "1m"
    select = { rows = "count(*)", sum = "sum(x)" }
    [output.kept]
    type = "file"
    from = "learn"
    path = "out/kept/"
    format = "ndjson"
    rows = 4000
    if_exists = "append"
    [output.minutes_kept]
    type = "file"
    from = "minutes"
    path = "out/minutes.ndjson"
    EXTRA
"#;

fn learns(number: u64, rate: &str) -> String {
    // The same, in other words.
    let feature = ["x + y > 0", "y + x > 0", "NOT (x + y <= 0)"][(number % 3) as usize];
    let extra = if number.is_multiple_of(2) { "" } else { "[output.extra]\ntype = \"drop\"\nfrom = \"features\"" };
    LEARNS.replace("RATE", rate).replace("FEATURE", feature).replace("    EXTRA", extra)
}

#[test]
fn a_flow_that_is_changed_again_and_again_gives_what_one_gives_that_never_was() {
    let (undisturbed, changed) = (Workshop::new(), Workshop::new());
    let control = undisturbed.write("learns.toml", &learns(0, ""));
    let control = undisturbed.run_json(&[control.to_str().unwrap()]);
    let daemon = Daemon::start(&changed, None);
    // At this rate, it takes far longer than all changes.
    let slowly = "rate = \"400/s\"";
    daemon.put("learns", &learns(1, slowly), "if-none-match: *").unwrap();
    let pauses = (1..10).map(|revision| daemon.change("learns", &learns(revision + 1, slowly), revision));
    let pauses: Vec<_> = pauses.collect();
    eprintln!("its input stood still for {pauses:.3?} s");
    daemon.change("learns", &learns(11, ""), 10);
    daemon.wait_for("learns", "finished", 11);
    daemon.stop();
    assert!(rows(&changed, "out/kept", "n") == rows(&undisturbed, "out/kept", "n"), "other rows, or other predictions");
    assert_eq!(changed.read("out/minutes.ndjson"), undisturbed.read("out/minutes.ndjson"));
    let shown = changed.run(&["models", "show", "signs"]).stdout;
    let (version, sha256) = (&control["models"]["signs"]["version"], &control["models"]["signs"]["sha256"]);
    assert!(shown.contains(sha256.as_str().unwrap()), "{version} {sha256}: {shown}");
}

/// A flow to which rows are pushed.
const PUSHED: &str = r#"
    flow = { name = "pushed", epoch.interval = "50ms", on_error = "fail" }
    checkpoint.interval = "200ms"
    [input.pushed]
    type = "http_listen"
    address = "127.0.0.1:PORT"
    path = "/rows"
    format = "ndjson"
    schema = { id = "int64" }
    [processor.same]
    type = "sql"
    from = "pushed"
    query = "SELECT id, NUMBER AS revision FROM pushed"
    [output.kept]
    type = "file"
    from = "same"
    path = "out/kept/"
    format = "ndjson"
    rows = 1000
    every = "100ms"
    if_exists = "append"
"#;

/// Posts a row over a connection of its own, which has to be taken.
fn post(port: u16, id: u64) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the listener is always open");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let body = format!("{{\"id\": {id}}}\n");
    let head = format!(
        "POST /rows HTTP/1.1\r\nHost: localhost\r\nIdempotency-Key: {id}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[test]
fn a_listener_refuses_no_connection_while_its_flow_is_changed() {
    let workshop = Workshop::new();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let text = |number: u64| PUSHED.replace("PORT", &port.to_string()).replace("NUMBER", &number.to_string());
    let daemon = Daemon::start(&workshop, None);
    daemon.put("pushed", &text(1), "if-none-match: *").unwrap();
    daemon.wait_for("pushed", "running", 1);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        std::thread::sleep(Duration::from_millis(10));
    }
    let is_over = AtomicBool::new(false);
    let sent = std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut sent = 0;
            while !is_over.load(Ordering::Relaxed) {
                post(port, sent);
                sent += 1;
            }
            sent
        });
        for revision in 1..=20 {
            daemon.change("pushed", &text(revision + 1), revision);
        }
        is_over.store(true, Ordering::Relaxed);
        sender.join().unwrap()
    });
    daemon.stop();
    let rows = rows(&workshop, "out/kept", "id");
    let ids: Vec<_> = rows.iter().filter_map(|row| row["id"].as_u64()).collect();
    assert_eq!(ids, (0..sent).collect::<Vec<_>>());
    assert!(rows.is_sorted_by_key(|row| row["revision"].as_u64()), "each row is of one revision, in order");
}

/// A flow that follows a file, and takes no checkpoint by itself.
fn follows(number: u64) -> String {
    format!(
        r#"
        flow = {{ name = "follows", epoch.interval = "20ms" }}
        checkpoint.interval = "1h"
        [input.rows]
        type = "file"
        path = "in/rows.ndjson"
        schema = {{ id = "int64" }}
        follow = true
        on_error = "fail"
        [processor.same]
        type = "sql"
        from = "rows"
        query = "SELECT id, {number} AS revision FROM rows"
        [output.kept]
        type = "file"
        from = "same"
        path = "out/kept/"
        format = "ndjson"
        rows = 1000
        if_exists = "append"
    "#
    )
}

fn append(workshop: &Workshop, ids: std::ops::Range<u64>) {
    let path = workshop.path("in/rows.ndjson");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    let text: String = ids.map(|id| format!("{{\"id\": {id}}}\n")).collect();
    file.write_all(text.as_bytes()).unwrap();
}

/// Every step of a change, and both of its checkpoints.
const STEPS: &[&str] = &[
    "change-planned",
    "change-asked",
    "before-manifest:1",
    "after-manifest:1",
    "change-border",
    "change-handed-over",
    "change-restored",
    "change-begun",
    "before-manifest:2",
    "after-manifest:2",
];

#[test]
fn a_kill_at_any_step_of_a_change_loses_nothing_and_repeats_nothing() {
    for step in STEPS {
        let workshop = Workshop::new();
        append(&workshop, 0..100);
        let mut daemon = Daemon::start(&workshop, Some(step));
        daemon.put("follows", &follows(1), "if-none-match: *").unwrap();
        let begin = Instant::now();
        while daemon.flow("follows")["rows"]["read"] != 100 {
            assert!(begin.elapsed() < PATIENCE, "{step}: {}", daemon.flow("follows"));
            std::thread::sleep(Duration::from_millis(10));
        }
        let answered = daemon.put("follows", &follows(2), "if-match: \"1\"");
        let begin = Instant::now();
        while !daemon.has_ended() {
            assert!(begin.elapsed() < PATIENCE, "{step} is not reached: {answered:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
        daemon.kill();
        append(&workshop, 100..200);
        let daemon = Daemon::start(&workshop, None);
        // It is still wanted, and carried out now.
        daemon.wait_for("follows", "running", 2);
        append(&workshop, 200..300);
        let begin = Instant::now();
        while daemon.flow("follows")["rows"]["read"] != 300 {
            assert!(begin.elapsed() < PATIENCE, "{step}: {}", daemon.flow("follows"));
            std::thread::sleep(Duration::from_millis(10));
        }
        daemon.stop();
        let rows = rows(&workshop, "out/kept", "id");
        let ids: Vec<_> = rows.iter().filter_map(|row| row["id"].as_u64()).collect();
        assert_eq!(ids, (0..300).collect::<Vec<_>>(), "{step}");
        assert!(rows.is_sorted_by_key(|row| row["revision"].as_u64()), "{step}");
    }
}
