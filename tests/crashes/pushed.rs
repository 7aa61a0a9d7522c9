//! Rows that are pushed: what was acknowledged comes out once, whatever happens to the process meanwhile.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use millstream_testkit::free_port;
use serde_json::Value;

use super::graphs::line;
use super::live::covered;
use crate::millstream::{Ran, Running, Workshop};

const FLOW: &str = r#"
    [flow]
    epoch = { rows = 200, interval = "50ms" }
    on_error = "fail"
    [checkpoint]
    interval = "100ms"
    [input.pushed]
    type = "http_listen"
    address = "127.0.0.1:PORT"
    format = { type = "csv", header = false }
    schema = { id = "int64", at = "timestamp", x = "float64", y = "float64", c = "utf8", label = "boolean" }
    [processor.learner]
    type = "train"
    from = "pushed"
    model = "m"
    estimator = { type = "logistic_regression" }
    features = ["x", "y", "c"]
    label = "label"
    [output.rows]
    type = "file"
    from = "learner"
    path = "out/rows.ndjson"
"#;

struct Pushed {
    workshop: Workshop,
    port: u16,
    /// How many rows were acknowledged; the numbers of the rows count from 0.
    rows: usize,
    /// The size of a request that nobody has answered: it has to be repeated as it was.
    unanswered: Option<usize>,
}

impl Pushed {
    fn new() -> Self {
        let workshop = Workshop::new();
        let port = free_port();
        workshop.write("flow.toml", &FLOW.replace("PORT", &port.to_string()));
        Self { workshop, port, rows: 0, unanswered: None }
    }

    fn start(&self, point: Option<&str>) -> Running {
        let mut command = self.workshop.command(&["run", "--json", "--state", "state", "flow.toml"]);
        point.map(|point| command.env("MILLSTREAM_CRASH", point));
        Running::start(command.stdout(Stdio::piped()))
    }

    /// Posts the next rows once. Whether they were acknowledged.
    fn post(&self, rows: usize) -> std::io::Result<bool> {
        let body: String = (self.rows..self.rows + rows).map(|row| format!("{}\n", line(row))).collect();
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        // The key is that of the first row, so that the same rows are the same request.
        write!(
            stream,
            "POST / HTTP/1.1\r\nHost: localhost\r\nIdempotency-Key: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.rows,
            body.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.starts_with("HTTP/1.1 200 "))
    }

    /// Posts the next rows until they are acknowledged. False if nobody answers any more.
    fn push(&mut self, rows: usize, running: &mut Running) -> bool {
        let begin = Instant::now();
        let rows = *self.unanswered.get_or_insert(rows);
        while !self.post(rows).unwrap_or(false) {
            if running.has_ended() {
                return false;
            }
            assert!(begin.elapsed() < Duration::from_secs(60), "nothing is acknowledged");
            std::thread::sleep(Duration::from_millis(5));
        }
        self.rows += rows;
        self.unanswered = None;
        true
    }

    /// What was acknowledged and not read when the flow stops is read when it goes on.
    fn wait_until_read(&self) {
        let begin = Instant::now();
        while covered(&self.workshop) < self.rows {
            assert!(begin.elapsed() < Duration::from_secs(60), "{} of {} rows", covered(&self.workshop), self.rows);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn check(&self, stopped: &Ran) {
        assert_eq!(stopped.json()["status"], "stopped");
        let text = self.workshop.read("out/rows.ndjson");
        let ids: Vec<_> = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].clone()).collect();
        let expected: Vec<Value> = (0..self.rows).map(Value::from).collect();
        assert!(ids == expected, "{} rows came out, and {} were acknowledged", ids.len(), self.rows);
    }
}

#[test]
fn what_was_acknowledged_comes_out_once() {
    let mut pushed = Pushed::new();
    for point in ["log-append:3", "log-before-sync:5", "log-after-sync:5", "after-manifest:4", "log-trim:1"] {
        let mut running = pushed.start(Some(point));
        let begin = Instant::now();
        // A segment of the log has to be full before one can be removed.
        let rows = if point.starts_with("log-trim") { 20_000 } else { 37 };
        while pushed.push(rows, &mut running) {
            assert!(begin.elapsed() < Duration::from_secs(60), "`{point}` is never reached");
        }
    }
    for rows in [1, 400] {
        let mut running = pushed.start(None);
        assert!(pushed.push(rows, &mut running));
        // Dropped, which kills it.
    }
    for rows in [5, 3] {
        let mut running = pushed.start(None);
        assert!(pushed.push(rows, &mut running));
        pushed.wait_until_read();
        let stopped = running.stop();
        pushed.check(&stopped);
    }
}

#[test]
fn pushed_rows_are_gone_through_again() {
    let mut pushed = Pushed::new();
    let flow = pushed.workshop.read("flow.toml");
    pushed
        .workshop
        .write("flow.toml", &flow.replace("label = \"label\"", "label = \"label\"\npublish = { rows = 400 }"));
    for rows in [500, 700] {
        let mut running = pushed.start(None);
        assert!(pushed.push(rows, &mut running));
        pushed.wait_until_read();
        running.stop();
    }
    // It takes rows meanwhile.
    let mut running = pushed.start(None);
    assert!(pushed.push(300, &mut running));
    let versions = pushed.workshop.list("models/m/versions").len();
    assert!(versions >= 2);
    let replay =
        |arguments: &[&str]| pushed.workshop.run(&[&["replay", "flow.toml", "--state", "state"], arguments].concat());
    for version in 1..=versions {
        let ran = replay(&[&format!("m/{version}")]);
        assert!(ran.stdout.contains("the same bits after "), "{version}: {}{}", ran.stdout, ran.stderr);
    }
    pushed.wait_until_read();
    running.stop();
    let kept = pushed.workshop.run(&["checkpoints", "--state", "state", "--json"]);
    let oldest: Value = serde_json::from_str(kept.stdout.lines().next().unwrap()).unwrap();
    let last = format!("m/{}", pushed.workshop.list("models/m/versions").len());
    let ran = replay(&[&last, "--from", &oldest["checkpoint"].to_string()]);
    let is_older = ran.stderr.contains("a replay has to begin behind one before it");
    assert!(is_older || ran.stdout.contains("the same bits after "), "{}{}", ran.stdout, ran.stderr);
    let log = pushed.workshop.path("state/flow/nodes/pushed/log");
    let segment = pushed.workshop.list("state/flow/nodes/pushed/log").pop().unwrap();
    let whole = std::fs::read(log.join(&segment)).unwrap();
    let verify = || pushed.workshop.run(&["checkpoints", "--state", "state", "--verify"]);
    assert_eq!(verify().code, 0);
    let mut damaged = whole.clone();
    *damaged.last_mut().unwrap() ^= 1;
    for damaged in [&damaged, &whole[..whole.len() - 1]] {
        std::fs::write(log.join(&segment), damaged).unwrap();
        let error = verify().stderr;
        assert!(error.contains("were acknowledged, and are no longer in it"), "{error}");
        let ran = pushed.start(None).wait();
        assert!(ran.code == 1 && ran.stdout.contains("were acknowledged, and are no longer in it"), "{}", ran.stdout);
    }
    std::fs::remove_dir_all(log).unwrap();
    assert!(verify().stderr.contains("input `pushed`: there is no log"), "{}", verify().stderr);
    let ran = replay(&[&last]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("log"), "{}", ran.stderr);
    let ran = pushed.start(None).wait();
    let error = ran.json()["error"]["message"].to_string();
    assert!(ran.code == 1 && error.contains("is missing, and with it rows that were acknowledged"), "{error}");
}

#[test]
fn without_state_it_is_refused_before_anything_runs_and_check_warns() {
    let pushed = Pushed::new();
    let says = "input `pushed` acknowledges rows only when they are durable, and so needs a state on this machine: `--state DIR`";
    let ran = pushed.workshop.run(&["run", "flow.toml"]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.starts_with(&format!("flow.toml: {says}")), "{}", ran.stderr);
    let checked = pushed.workshop.run(&["check", "flow.toml"]);
    assert_eq!(checked.code, 0, "{}", checked.stderr);
    assert!(checked.stdout.contains(&format!("flow.toml: warning: {says}")), "{}", checked.stdout);
    assert!(!pushed.workshop.run(&["check", "flow.toml", "--state", "state"]).stdout.contains("warning"));
}
