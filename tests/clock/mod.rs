//! The clock of the machine is set while a daemon runs, by days forwards and backwards: what it waits for takes as long as before, and nothing
//! is done a thousand times because so many days have passed.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::daemons::{Daemon, JSON, NEW, append, follows, ids, wait_for_rows};
use crate::millstream::{Workshop, project};

const DAY: i64 = 86_400;

/// A clock that is set while others look at it.
struct Clock {
    off: File,
    variables: Vec<(&'static str, String)>,
}

impl Clock {
    fn new(workshop: &Workshop) -> Self {
        let (library, path) = (workshop.path("clock.so"), workshop.path("clock"));
        let source = project().join("tests/clock/clock.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]).args([&library, &source]);
        assert!(compiler.status().unwrap().success());
        let off = File::create(&path).unwrap();
        let text = |path: PathBuf| path.into_os_string().into_string().unwrap();
        let clock = Self { off, variables: vec![("LD_PRELOAD", text(library)), ("CLOCK_OFF_BY", text(path))] };
        clock.set(0);
        clock
    }

    /// Sets it to so many seconds from the right time.
    fn set(&self, seconds: i64) {
        self.off.write_all_at(&seconds.to_ne_bytes(), 0).unwrap();
    }

    fn variables<'a>(&'a self, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        self.variables.iter().map(|(name, value)| (*name, value.as_str())).chain(more.iter().copied()).collect()
    }
}

/// How long the processors have worked for a process.
fn worked(daemon: &mut Daemon) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", daemon.running.id())).unwrap();
    // Behind the name, which may have anything in it.
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    // Of its own and in the system, in hundredths of a second.
    let ticks: u64 = [11, 12].map(|field: usize| fields[field].parse::<u64>().unwrap()).iter().sum();
    Duration::from_millis(ticks * 10)
}

/// Tries to send a row, for ever.
const TRIES: &str = r#"
    checkpoint.interval = "1h"
    [input.rows]
    type = "file"
    path = "in/tries.csv"
    format = "csv"
    schema = { n = "int64" }
    on_error = "fail"
    [processor.asks]
    type = "sql"
    from = "rows"
    query = "SELECT n FROM rows"
    [output.sent]
    type = "http"
    from = "asks"
    url = "http://127.0.0.1:1"
    path = "rows"
    format = "ndjson"
    on_error = "fail"
    retry = { attempts = 1, first_pause = "10ms", longest_pause = "50ms" }
"#;

/// Makes a row every ten milliseconds.
const TICKS: &str = r#"
    [input.ticks]
    type = "generate"
    rate = "100/s"
    columns = { n = "row" }
    [output.gone]
    type = "drop"
    from = "ticks"
"#;

#[test]
fn a_clock_that_jumps_neither_stalls_a_daemon_nor_keeps_it_busy() {
    let workshop = Workshop::new();
    let clock = Clock::new(&workshop);
    let mut daemon = Daemon::start_with(&workshop, &clock.variables(&[]));
    append(&workshop, "f", 0..10);
    daemon.put("f", &follows("f"), &[NEW]).is(201);
    daemon.put("ticks", TICKS, &[NEW]).is(201);
    workshop.write("in/tries.csv", "n\n1\n");
    daemon.put("tries", TRIES, &[NEW]).is(201);
    wait_for_rows(&workshop, "f", 10);
    let made = daemon.ask("POST", "/api/v1/tokens", &[JSON], &token()).is(201).body;
    let bearer = format!("Bearer {}", made["secret"].as_str().unwrap());
    let is_let_in =
        |daemon: &Daemon| daemon.ask_openly("GET", "/api/v1/flows", &[("authorization", &bearer)], "").status;
    assert_eq!(is_let_in(&daemon), 200);

    let mut rows = 10;
    for (off, status) in [(30 * DAY, 401), (-30 * DAY, 200)] {
        let ticks = ticked(&daemon);
        let begin = Instant::now();
        clock.set(off);
        // A token is over when the clock says so, and no longer than that.
        assert_eq!(is_let_in(&daemon), status, "{off}");
        // Rows come, and are visible after the same checkpoints and times as before.
        append(&workshop, "f", rows..rows + 10);
        rows += 10;
        wait_for_rows(&workshop, "f", rows);
        // What is tried again is, and what is said again is counted every ten seconds.
        daemon.wait_for("same message");
        // Files that appear are seen, and operations have their time.
        let name = if off > 0 { "later" } else { "earlier" };
        workshop.write(&format!("flows/{name}.toml"), TICKS);
        daemon.wait_for(&format!("{name}.toml` is to run"));
        daemon.post("/api/v1/flows/f/checkpoint").is(200);
        assert_eq!(daemon.ask("GET", "/livez", &[], "").is(200).text, "alive\n");
        // Rows that are made by time are as many as the time that has passed.
        let (made, passed) = (ticked(&daemon) - ticks, begin.elapsed().as_secs_f64());
        assert!(made > 0.0 && made < 100.0 * passed + 200.0, "{made} rows in {passed} s");
        let (before, begin) = (worked(&mut daemon), Instant::now());
        std::thread::sleep(Duration::from_secs(2));
        let share = (worked(&mut daemon) - before).as_secs_f64() / begin.elapsed().as_secs_f64();
        assert!(share < 0.6, "it works for {share} of the time, and has nothing to do");
    }
    assert_eq!(ids(&workshop, "f"), (0..rows).collect::<Vec<_>>());
    let last = daemon.stop();
    assert!(last.iter().any(|line| line.contains("all flows have stopped at a checkpoint")), "{last:#?}");
}

/// What a token is made from that expires in an hour, by the right time.
fn token() -> String {
    let in_an_hour = Command::new("date").args(["-u", "-d", "+1 hour", "+%Y-%m-%dT%H:%M:%SZ"]).output().unwrap();
    let expires = String::from_utf8(in_an_hour.stdout).unwrap();
    json!({ "name": "ci", "role": "viewer", "expires": expires.trim() }).to_string()
}

/// How many rows were made by time.
fn ticked(daemon: &Daemon) -> f64 {
    let seen = daemon.wait_until("ticks", |flow: &Value| flow["rows"]["read"].as_u64() > Some(0));
    seen["rows"]["read"].as_f64().unwrap()
}

#[test]
fn a_flow_that_has_failed_is_started_again_as_often_as_otherwise() {
    let workshop = Workshop::new();
    let clock = Clock::new(&workshop);
    let fails = [("MILLSTREAM_POISON", "same=7"), ("MILLSTREAM__RESTART__FIRST_PAUSE", "500ms")];
    let daemon = Daemon::start_with(&workshop, &clock.variables(&fails));
    for (name, off) in [("later", 30 * DAY), ("earlier", -30 * DAY)] {
        append(&workshop, name, 0..10);
        let text = follows(name).replace("on_error = \"fail\"", "on_error = { dead_letter = \"refused/\" }");
        let text =
            text.replace("from = \"rows\"", "from = \"rows\"\n        on_error = { dead_letter = \"refused/\" }");
        daemon.put(name, &text, &[NEW]);
        daemon.wait_until(name, |flow| flow["state"] == "backing_off");
        clock.set(off);
        // The row at which it fails is found by some more starts, and set aside.
        wait_for_rows(&workshop, name, 9);
        let count = daemon.get(&format!("/api/v1/flows/{name}"))["restarts"]["count"].as_u64();
        assert!(count < Some(10), "{count:?}");
    }
    daemon.stop();
}
