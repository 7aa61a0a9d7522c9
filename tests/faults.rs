//! What goes wrong with one flow is nothing to the others: a daemon of many flows that is killed, and one with flows that panic, take too much,
//! or have a full disk; clients that do harm; and what nobody is to read.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use serde_json::Value;

use crate::daemons::{Daemon, PATIENCE, append, ids, wait_for_rows};
use crate::millstream::Workshop;

/// A flow that follows a file of its own, with `NAME` in place of its name. Its output has a file for each checkpoint that had rows.
const FOLLOWS: &str = r#"
    flow.epoch.interval = "50ms"
    checkpoint.interval = "100ms"
    [input.rows]
    type = "file"
    path = "../in/NAME.ndjson"
    schema = { id = "int64" }
    follow = true
    on_error = "fail"
    [processor.same_NAME]
    type = "sql"
    from = "rows"
    query = "SELECT id FROM rows"
    ON_ERROR
    [output.kept]
    type = "file"
    from = "same_NAME"
    path = "out/NAME/"
    format = "ndjson"
    rows = 1000
    every = "100ms"
    if_exists = "append"
"#;

fn follows(name: &str, on_error: &str) -> String {
    FOLLOWS.replace("NAME", name).replace("ON_ERROR", on_error)
}

/// Adds such a flow, and rows for it.
fn add(workshop: &Workshop, name: &str, on_error: &str, rows: usize) {
    append(workshop, name, 0..rows);
    workshop.write(&format!("flows/{name}.toml"), &follows(name, on_error));
}

/// A flow that has to go on whatever happens beside it.
struct Bystander<'a> {
    workshop: &'a Workshop,
    rows: usize,
}

impl<'a> Bystander<'a> {
    fn new(workshop: &'a Workshop) -> Self {
        add(workshop, "bystander", "", 10);
        Self { workshop, rows: 10 }
    }

    /// Waits until more rows have come through, and are committed.
    fn goes_on(&mut self) {
        append(self.workshop, "bystander", self.rows..self.rows + 10);
        self.rows += 10;
        wait_for_rows(self.workshop, "bystander", self.rows);
    }

    /// It has had each row once, and has never failed.
    fn has_not_noticed(&mut self, daemon: &Daemon) {
        self.goes_on();
        assert_eq!(ids(self.workshop, "bystander"), (0..self.rows).collect::<Vec<_>>());
        let seen = daemon.get("/api/v1/flows/bystander");
        assert_eq!((&seen["restarts"]["count"], &seen["state"]), (&0.into(), &"running".into()), "{seen:#}");
    }
}

/// Kills a daemon of twenty flows again and again, at a moment at which one of them has come a little further.
fn kill_often(rounds: usize) {
    let workshop = Workshop::new();
    let names: Vec<_> = (0..20).map(|number| format!("f{number:02}")).collect();
    names.iter().for_each(|name| add(&workshop, name, "", 5));
    for round in 0..rounds {
        let daemon = Daemon::start(&workshop);
        names.iter().for_each(|name| append(&workshop, name, 1000 * round + 1000..1000 * round + 1040));
        wait_for_rows(&workshop, &names[round * 7 % names.len()], 40 * round + 10);
        daemon.kill();
    }
    let daemon = Daemon::start(&workshop);
    let all: Vec<_> = (0..5).chain((0..rounds).flat_map(|round| 1000 * round + 1000..1000 * round + 1040)).collect();
    for name in &names {
        wait_for_rows(&workshop, name, all.len());
        assert_eq!(&ids(&workshop, name), &all, "{name}");
    }
    daemon.stop();
}

#[test]
fn a_daemon_of_twenty_flows_is_killed_and_every_row_counts_once() {
    kill_often(3);
}

#[test]
#[ignore = "takes minutes; part of the nightly run"]
fn a_daemon_of_twenty_flows_is_killed_thirty_times() {
    kill_often(30);
}

#[test]
fn a_row_at_which_a_node_panics_is_set_aside_for_good() {
    let workshop = Workshop::new();
    let mut bystander = Bystander::new(&workshop);
    add(&workshop, "shy", "on_error = { dead_letter = \"dead\" }", 100);
    let variables = [("MILLSTREAM_POISON", "same_shy=77"), ("MILLSTREAM__RESTART__FIRST_PAUSE", "10ms")];
    let daemon = Daemon::start_with(&workshop, &variables);
    daemon.wait_for("row 77 of input `rows`");
    wait_for_rows(&workshop, "shy", 99);
    append(&workshop, "shy", 100..150);
    wait_for_rows(&workshop, "shy", 149);
    bystander.goes_on();
    // It is known from what is kept.
    daemon.kill();
    let daemon = Daemon::start_with(&workshop, &variables);
    append(&workshop, "shy", 150..170);
    wait_for_rows(&workshop, "shy", 169);
    let expected: Vec<_> = (0..170).filter(|id| *id != 77).collect();
    assert_eq!(ids(&workshop, "shy"), expected);
    let aside = daemon.get("/api/v1/flows/shy")["set_aside"].clone();
    assert_eq!(aside.as_array().map(Vec::len), Some(1), "{aside}");
    assert!(aside[0]["node"] == "same_shy" && aside[0]["input"] == "rows" && aside[0]["position"] == 77, "{aside}");
    let shown = workshop.run(&["flows", "show", "shy"]).stdout;
    assert!(shown.contains("which fails with") && shown.contains("panicked") && shown.contains("77"), "{shown}");
    bystander.has_not_noticed(&daemon);
    daemon.stop();
    // Their file is whole when the flow has stopped.
    let dead = dead_letters(&workshop);
    assert_eq!(dead.len(), 1, "{dead:?}");
    let letter: Value = serde_json::from_str(&dead[0]).unwrap();
    assert_eq!((&letter["position"], &letter["row"]), (&77.into(), &"{\"id\":77}".into()), "{letter}");
    let error = letter["error"].as_str().unwrap();
    assert!(error.starts_with("the node failed at this row whenever it was tried: panicked: "), "{error}");
}

fn dead_letters(workshop: &Workshop) -> Vec<String> {
    let names = workshop.list("dead").into_iter().filter(|name| !name.starts_with('.'));
    names
        .flat_map(|name| workshop.read(&format!("dead/{name}")).lines().map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

#[test]
fn a_panic_that_nobody_takes_fails_its_flow_which_says_at_which_row() {
    let workshop = Workshop::new();
    let mut bystander = Bystander::new(&workshop);
    add(&workshop, "fails", "on_error = \"fail\"", 100);
    let variables = [("MILLSTREAM_POISON", "same_fails=42"), ("MILLSTREAM__RESTART__FIRST_PAUSE", "10ms")];
    let daemon = Daemon::start_with(&workshop, &variables);
    let failed = daemon.wait_until("fails", |flow| flow["state"] == "failed");
    let reason = failed["reason"].as_str().unwrap_or_else(|| panic!("{failed:#}"));
    assert!(reason.contains("whenever it comes to row 42 of input `rows`"), "{reason}");
    bystander.has_not_noticed(&daemon);
    daemon.stop();
}

/// Remembers all rows.
const GREEDY: &str = r#"
    limits.memory = "4KiB"
    flow.epoch.interval = "50ms"
    checkpoint.interval = "100ms"
    [input.rows]
    type = "file"
    path = "../in/greedy.ndjson"
    schema = { id = "int64" }
    follow = true
    on_error = "fail"
    [processor.once]
    type = "dedup"
    from = "rows"
    keys = ["id"]
    [output.gone]
    type = "drop"
    from = "once"
"#;

#[test]
fn a_flow_that_takes_too_much_memory_is_held_started_again_and_fails_alone() {
    let workshop = Workshop::new();
    let mut bystander = Bystander::new(&workshop);
    append(&workshop, "greedy", 0..10_000);
    workshop.write("flows/greedy.toml", GREEDY);
    let variables = [("MILLSTREAM__LIMITS__PATIENCE", "200ms"), ("MILLSTREAM__RESTART__FIRST_PAUSE", "10ms")];
    let daemon = Daemon::start_with(&workshop, &variables);
    let failed = daemon.wait_until("greedy", |flow| flow["state"] == "failed");
    let reason = failed["reason"].as_str().unwrap_or_else(|| panic!("{failed:#}"));
    assert!(reason.ends_with("may take 0.0 MiB (`limits.memory`), also when it is started again"), "{reason}");
    // Rows that wait between nodes may have been too much before the state was.
    assert!(failed["restarts"]["count"].as_u64() >= Some(1), "{failed:#}");
    bystander.has_not_noticed(&daemon);
    // A larger limit is what it needs.
    workshop.write("flows/greedy.toml", &GREEDY.replace("4KiB", "4GiB"));
    daemon.wait_until("greedy", |flow| flow["state"] == "running");
    daemon.stop();
}

#[test]
fn a_dead_target_holds_one_flow_only_and_its_disk_has_a_limit() {
    let workshop = Workshop::new();
    let mut bystander = Bystander::new(&workshop);
    let sends = r#"
        limits.disk = "8KiB"
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
    append(&workshop, "sends", 0..10_000);
    workshop.write("flows/sends.toml", sends);
    let daemon = Daemon::start(&workshop);
    let held = daemon.wait_until("sends", |flow| !flow["paused"].is_null());
    let reason = held["paused"].as_str().unwrap();
    assert!(reason.contains("MiB of files") && reason.contains("`limits.disk`"), "{reason}");
    let Value::Object(disk) = &held["budget"]["disk"] else { panic!("{held:#}") };
    assert!(disk["limit_bytes"] == 8192 && disk["used_bytes"].as_u64() > Some(8192), "{disk:?}");
    let memory = &held["budget"]["memory"];
    assert!(memory["limit_bytes"].is_null() && memory["used_bytes"].is_u64(), "{memory}");
    assert!(workshop.run(&["flows", "show", "sends"]).stdout.contains("bytes of disk"));
    bystander.has_not_noticed(&daemon);
    daemon.stop();
}

/// A small disk, for those who may mount one.
struct Disk(PathBuf);

impl Disk {
    fn mount(folder: &Path, mebibytes: usize) -> Option<Self> {
        std::fs::create_dir_all(folder).unwrap();
        let options = format!("size={mebibytes}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(folder).output();
        if mounted.is_ok_and(|mounted| mounted.status.success()) {
            return Some(Self(folder.to_owned()));
        }
        eprintln!("skipped: only root can mount a small disk");
        None
    }

    /// Fills it up to the last byte.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.0.join("filling")).unwrap();
        let block = vec![7; 1 << 16];
        while file.write_all(&block).is_ok() {}
    }

    fn relieve(&self) {
        std::fs::remove_file(self.0.join("filling")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_fails_the_flow_that_writes_there_and_no_other() {
    let workshop = Workshop::new();
    let Some(disk) = Disk::mount(&workshop.path("out/full"), 2) else { return };
    let mut bystander = Bystander::new(&workshop);
    disk.fill();
    add(&workshop, "full", "", 10_000);
    let variables = [("MILLSTREAM__RESTART__FIRST_PAUSE", "10ms"), ("MILLSTREAM__RESTART__LONGEST_PAUSE", "100ms")];
    let daemon = Daemon::start_with(&workshop, &variables);
    let failed = daemon.wait_until("full", |flow| !flow["reason"].is_null());
    assert!(failed["reason"].as_str().unwrap().contains("No space left"), "{failed:#}");
    bystander.has_not_noticed(&daemon);
    disk.relieve();
    wait_for_rows(&workshop, "full", 10_000);
    assert_eq!(ids(&workshop, "full"), (0..10_000).collect::<Vec<_>>());
    daemon.stop();
}

#[test]
fn ballast_is_given_up_when_the_disk_is_full_and_taken_again() {
    let workshop = Workshop::new();
    let Some(disk) = Disk::mount(&workshop.path("small"), 64) else { return };
    let ballast = workshop.path("small/host/ballast");
    add(&workshop, "held", "", 10);
    let mut daemon = Daemon::start_in(&workshop, "small", &[("MILLSTREAM__BALLAST", "8MiB")]);
    let begin = Instant::now();
    let wait = |is: &dyn Fn() -> bool| {
        while !is() {
            assert!(begin.elapsed() < PATIENCE, "{:?}", std::fs::read_dir(&disk.0).unwrap().collect::<Vec<_>>());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    };
    wait(&|| ballast.exists());
    disk.fill();
    daemon.wait_for("the ballast is given up");
    assert!(!ballast.exists());
    daemon
        .wait_until("held", |flow| flow["paused"].as_str().is_some_and(|why| why.contains("the disk is nearly full")));
    // What must be written still is: an operation, a checkpoint, and a line of the audit log.
    let stopped = daemon.post("/api/v1/flows/held/stop");
    assert!(stopped.status < 300, "{stopped:#?}");
    daemon.wait_until("held", |flow| flow["state"] == "stopped");
    disk.relieve();
    wait(&|| ballast.exists());
    daemon.post("/api/v1/flows/held/start");
    daemon.wait_until("held", |flow| flow["state"] == "running" && flow["paused"].is_null());
    assert!(!daemon.running.has_ended());
    daemon.stop();
}

#[test]
fn a_daemon_under_load_stops_at_checkpoints() {
    let workshop = Workshop::new();
    for number in 0..5 {
        let made = r#"
            flow.epoch.interval = "50ms"
            [input.rows]
            type = "generate"
            rate = "20000/s"
            columns = { id = "row" }
            on_error = "fail"
            [output.kept]
            type = "file"
            from = "rows"
            path = "out/NAME/"
            format = "ndjson"
            if_exists = "append"
        "#;
        workshop.write(&format!("flows/made_{number}.toml"), &made.replace("NAME", &format!("made_{number}")));
    }
    let daemon = Daemon::start(&workshop);
    for number in 0..5 {
        let has_read = |flow: &Value| flow["nodes"]["rows"]["rows_in"].as_u64() > Some(1000);
        let path = format!("/api/v1/flows/made_{number}/stats");
        let begin = Instant::now();
        while !has_read(&daemon.get(&path)) {
            assert!(begin.elapsed() < PATIENCE, "{:#}", daemon.get(&path));
        }
    }
    let begin = Instant::now();
    let last = daemon.stop();
    eprintln!("stopped within {:.2} s", begin.elapsed().as_secs_f64());
    assert!(last.iter().any(|line| line.contains("all flows have stopped at a checkpoint")), "{last:#?}");
}

#[test]
fn who_never_reads_its_events_holds_nobody() {
    let workshop = Workshop::new();
    let mut bystander = Bystander::new(&workshop);
    let daemon = Daemon::start(&workshop);
    let deaf: Vec<_> = (0..8)
        .map(|_| {
            let mut stream = UnixStream::connect(workshop.path("admin.sock")).unwrap();
            stream.write_all(b"GET /api/v1/events HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
            stream
        })
        .collect();
    for _ in 0..50 {
        for what in ["pause", "resume"] {
            let done = daemon.post(&format!("/api/v1/flows/bystander/{what}"));
            assert!(done.status < 300, "{done:#?}");
        }
    }
    bystander.has_not_noticed(&daemon);
    drop(deaf);
    daemon.stop();
}

#[test]
fn five_hundred_clients_that_never_finish_their_requests_hold_nobody() {
    let workshop = Workshop::new();
    let mut bystander = Bystander::new(&workshop);
    let daemon = Daemon::start(&workshop);
    let slow: Vec<_> = (0..500)
        .filter_map(|_| {
            let mut stream = TcpStream::connect(&daemon.address).ok()?;
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.write_all(b"GET /api/v1/flows HTTP/1.1\r\nhost: lo").ok()?;
            Some(stream)
        })
        .collect();
    assert!(slow.len() >= 64, "{}", slow.len());
    bystander.has_not_noticed(&daemon);
    assert_eq!(daemon.ask("GET", "/livez", &[], "").is(200).text, "alive\n");
    // Each is told to go in the end, and then there is room for others.
    for mut stream in slow {
        let _ = stream.read(&mut [0; 1024]);
    }
    let mut stream = TcpStream::connect(&daemon.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
        .write_all(format!("GET /livez HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", daemon.address).as_bytes())
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    daemon.stop();
}

/// What nobody is to read, wherever it is planted.
const SECRET: &str = "geheim-4711-word";

#[test]
fn no_secret_is_to_be_read_anywhere() {
    let workshop = Workshop::new();
    workshop.write("secret.txt", SECRET);
    let text = r#"
        flow.epoch.interval = "50ms"
        checkpoint.interval = "100ms"
        flow.on_error = { dead_letter = "dead" }
        [input.rows]
        type = "file"
        path = "in/secretive.ndjson"
        schema = { id = "int64" }
        follow = true
        [processor.shy]
        type = "sql"
        from = "rows"
        query = "SELECT id, CAST('${TOKEN}' || id AS BIGINT) AS wrong FROM rows"
        [output.sent]
        type = "http"
        from = "rows"
        url = "http://127.0.0.1:1"
        path = "rows/${TOKEN}"
        format = "ndjson"
        headers = { x-key = "${TOKEN}" }
        auth = { type = "bearer", token = { file = "secret.txt" } }
        retry = { attempts = 1, first_pause = "10ms", longest_pause = "20ms" }
        [output.gone]
        type = "drop"
        from = "shy"
    "#;
    append(&workshop, "secretive", 0..10);
    let daemon = Daemon::start_with(&workshop, &[("TOKEN", SECRET)]);
    let made = daemon.put("secretive", text, &[("if-none-match", "*")]).is(201);
    // What is wrong with the other one names what is in it.
    let wrong = text.replace("AS BIGINT", "AS ${TOKEN}");
    let refused = daemon.put("other", &wrong, &[("if-none-match", "*")]).is(422);
    daemon.wait_for("127.0.0.1:1");
    for answer in [&made, &refused] {
        assert!(!answer.text.contains(SECRET), "{answer:#?}");
    }
    let description = daemon.get("/api/v1/openapi.json");
    let mut leaks = Vec::new();
    for (path, methods) in description["paths"].as_object().unwrap() {
        if methods["get"].is_null() || path.contains("events") || path.contains("tap") {
            continue;
        }
        let path = fill(path);
        let answer = daemon.ask("GET", &path, &[], "");
        if answer.text.contains(SECRET) {
            leaks.push(format!("{path}: {}", answer.text));
        }
    }
    assert!(leaks.is_empty(), "{leaks:#?}");
    let metrics = daemon.ask("GET", "/metrics", &[], "").is(200).text;
    assert!(!metrics.contains(SECRET), "{metrics}");
    for line in daemon.stop() {
        assert!(!line.contains(SECRET), "{line}");
    }
    std::fs::remove_file(workshop.path("secret.txt")).unwrap();
    assert_none_in(&workshop.path(""));
}

/// A path with something in place of each of its parameters.
fn fill(path: &str) -> String {
    let parts = path.split('/').map(|part| match part {
        "{flow}" | "{name}" => "secretive",
        part if part.starts_with('{') => "1",
        part => part,
    });
    parts.collect::<Vec<_>>().join("/")
}

/// No file below a folder has the secret.
fn assert_none_in(folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            assert_none_in(&path);
        } else if path.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            let found = bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
            assert!(!found, "{}", path.display());
        }
    }
}
