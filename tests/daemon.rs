//! `millstream daemon`: flows that come, change and go with their files, through kills, and what a service manager is told.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use serde_json::Value;

use crate::daemons::{self, Daemon, append, ids, wait_for_rows};
use crate::millstream::{Ran, Workshop};

/// A flow of a file, below the folder of the daemon, that follows another one.
fn follows(name: &str) -> String {
    daemons::follows(name).replace("\"in/", "\"../in/")
}

#[test]
fn flows_survive_kills_of_the_daemon_and_every_row_counts_once() {
    let workshop = Workshop::new();
    for name in ["a", "b", "c"] {
        workshop.write(&format!("flows/{name}.toml"), &follows(name));
        append(&workshop, name, 0..10);
    }
    for round in 1..=5 {
        let daemon = Daemon::begin(&workshop, &[]);
        for name in ["a", "b", "c"] {
            append(&workshop, name, round * 10..round * 10 + 10);
            wait_for_rows(&workshop, name, round * 10 + 10);
            // These are on their way when it is killed.
            append(&workshop, name, round * 1000..round * 1000 + 10);
        }
        daemon.kill();
        for name in ["a", "b", "c"] {
            append(&workshop, name, round * 2000..round * 2000 + 10);
        }
        let daemon = Daemon::begin(&workshop, &[]);
        for name in ["a", "b", "c"] {
            wait_for_rows(&workshop, name, round * 30 + 10);
        }
        daemon.stop();
    }
}

#[test]
fn flows_come_change_and_go_with_their_files() {
    let workshop = Workshop::new();
    workshop.write("flows/a.toml", &follows("a"));
    append(&workshop, "a", 0..10);
    let daemon = Daemon::begin(&workshop, &[]);
    daemon.wait_for("ready: 1 flows");
    wait_for_rows(&workshop, "a", 10);

    append(&workshop, "b", 0..10);
    workshop.write("flows/b.toml", &follows("b"));
    wait_for_rows(&workshop, "b", 10);

    workshop.write("flows/a.toml", &follows("a").replace("SELECT id ", "SELECT ids "));
    daemon.wait_for("the flow goes on as it is");
    daemon.wait_for("flows/a.toml:");
    append(&workshop, "a", 10..20);
    wait_for_rows(&workshop, "a", 20);

    // What has come of it says that the state was kept: no row comes twice.
    workshop.write("flows/a.toml", &follows("a").replace("SELECT id ", "SELECT id + 100 AS id "));
    daemon.wait_for("runs flow=\"a\" revision=2");
    append(&workshop, "a", 20..30);
    wait_for_rows(&workshop, "a", 30);
    assert_eq!(ids(&workshop, "a"), (0..20).chain(120..130).collect::<Vec<_>>());

    std::fs::remove_file(workshop.path("flows/b.toml")).unwrap();
    daemon.wait_for("its state stays");
    append(&workshop, "b", 10..20);
    workshop.write("flows/b.toml", &follows("b"));
    wait_for_rows(&workshop, "b", 20);
    let last = daemon.stop();
    assert!(last.iter().any(|line| line.contains("all flows have stopped at a checkpoint")), "{last:#?}");
    assert_eq!(ids(&workshop, "b"), (0..20).collect::<Vec<_>>());
}

#[test]
fn a_flow_goes_on_with_what_the_files_say_that_it_names() {
    let workshop = Workshop::new();
    let connection = "[connection.web]\ntype = \"http\"\nurl = \"http://localhost:1/\"\n";
    workshop.write("shared.toml", connection);
    workshop.write("flows/a.toml", &format!("flow.connections = \"../shared.toml\"\n{}", follows("a")));
    append(&workshop, "a", 0..10);
    let daemon = Daemon::begin(&workshop, &[]);
    daemon.wait_for("ready: 1 flows");
    wait_for_rows(&workshop, "a", 10);
    workshop.write("shared.toml", &connection.replace(":1/", ":2/"));
    daemon.wait_for("runs flow=\"a\" revision=2");
    append(&workshop, "a", 10..20);
    wait_for_rows(&workshop, "a", 20);
    workshop.write("shared.toml", &connection.replace("http\"", "htp\""));
    daemon.wait_for("the flow goes on as it is");
    daemon.wait_for("shared.toml:2:");
    append(&workshop, "a", 20..30);
    wait_for_rows(&workshop, "a", 30);
    daemon.stop();
    assert_eq!(ids(&workshop, "a"), (0..30).collect::<Vec<_>>());
}

#[test]
fn a_flow_that_fails_leaves_the_others_alone() {
    let workshop = Workshop::new();
    // Its second row is none, which nobody takes.
    let fails = follows("fails").replace("[output.kept]", "on_error = \"fail\"\n[output.kept]");
    workshop.write("flows/fails.toml", &fails.replace("SELECT id ", "SELECT 1 / (id - 1) AS id "));
    workshop.write("flows/works.toml", &follows("works"));
    append(&workshop, "fails", 0..3);
    append(&workshop, "works", 0..3);
    let daemon = Daemon::begin(&workshop, &[("MILLSTREAM__LOG__FORMAT", "json")]);
    wait_for_rows(&workshop, "works", 3);
    let line = loop {
        let line = daemon.lines.recv_timeout(Duration::from_secs(180)).unwrap();
        if line.contains("has failed") {
            break serde_json::from_str::<Value>(&line).unwrap();
        }
    };
    assert_eq!((line["level"].as_str(), line["flow"].as_str()), (Some("ERROR"), Some("fails")), "{line}");
    append(&workshop, "works", 3..6);
    wait_for_rows(&workshop, "works", 6);
    daemon.stop();
}

/// A flow that follows a file and sends its rows to a port where nobody listens.
const SENDS: &str = r#"
    flow.epoch.interval = "50ms"
    checkpoint.interval = "100ms"
    [input.rows]
    type = "file"
    path = "../in/sends.ndjson"
    schema = { id = "int64" }
    follow = true
    on_error = "fail"
    [output.sent]
    type = "http"
    from = "rows"
    url = "http://127.0.0.1:1"
    path = "rows"
    format = "ndjson"
    on_error = "fail"
    retry = { attempts = 1, first_pause = "10ms", longest_pause = "20ms" }
"#;

#[test]
fn log_lines_name_flow_and_node_and_what_comes_again_is_counted() {
    let workshop = Workshop::new();
    workshop.write("flows/sends.toml", SENDS);
    append(&workshop, "sends", 0..3);
    let daemon = Daemon::begin(&workshop, &[("MILLSTREAM__LOG__FORMAT", "json")]);
    let next = |text: &str| loop {
        let line = daemon.lines.recv_timeout(Duration::from_secs(180)).unwrap();
        if line.contains(text) {
            break serde_json::from_str::<Value>(&line).unwrap();
        }
    };
    let first = next("127.0.0.1:1");
    let span = &first["span"];
    assert_eq!((span["flow"].as_str(), span["node"].as_str()), (Some("sends"), Some("sent")), "{first}");
    let counted = next("same message");
    assert_eq!((counted["flow"].as_str(), counted["node"].as_str()), (Some("sends"), Some("sent")), "{counted}");
    let message = counted["message"].as_str().unwrap();
    assert!(message.contains(" in 10 s (no rows are held back): "), "{message}");
    daemon.stop();
}

#[test]
fn settings_that_are_wrong_are_all_said_at_their_places() {
    let workshop = Workshop::new();
    workshop.write("millstream.toml", "flow = 'x'\nthreads = 0\n");
    workshop.write("millstream.d/10.toml", "[restart]\nfirst_pause = 5\n");
    let arguments = ["daemon", "--config", "millstream.toml", "--check"];
    let Ran { code, stderr, .. } =
        workshop.command(&arguments).env("MILLSTREAM__LOG__LEVEL", "loud").output().unwrap().into();
    assert_eq!(code, 2, "{stderr}");
    for expected in [
        "millstream.toml:1:1: there is no setting `flow`",
        "millstream.toml:2:11: expected at least 1, found 0",
        "millstream.d/10.toml:2:15: expected a string, found a whole number",
        "MILLSTREAM__LOG__LEVEL: `level` can't be `loud`",
    ] {
        assert!(stderr.contains(expected), "{stderr}");
    }
    workshop.write("millstream.toml", "threads = 1\n");
    workshop.write("millstream.d/10.toml", "");
    let ran = workshop.run(&arguments);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "the settings are good\n"), "{}", ran.stderr);
    let ran = workshop.run(&["daemon"]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("reading the folder of flows `./flows`"), "{}", ran.stderr);
}

#[test]
fn a_service_manager_is_told_that_it_is_ready_lives_and_stops() {
    let workshop = Workshop::new();
    std::fs::create_dir(workshop.path("flows")).unwrap();
    let path = workshop.path("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(180))).unwrap();
    let told = || {
        let mut message = [0; 1024];
        let length = manager.recv(&mut message).unwrap();
        String::from_utf8_lossy(&message[..length]).trim().to_owned()
    };
    let variables = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "100000")];
    let daemon = Daemon::begin(&workshop, &variables);
    let wait_for =
        |text: &str| assert!(std::iter::repeat_with(told).take(1000).any(|told| told.starts_with(text)), "{text}");
    wait_for("EXTEND_TIMEOUT_USEC=15000000\nSTATUS=starting");
    wait_for("READY=1\nSTATUS=0 flows of ");
    wait_for("WATCHDOG=1");
    wait_for("WATCHDOG=1");
    daemon.stop();
    wait_for("STOPPING=1");
}
