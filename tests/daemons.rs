//! A real daemon for tests, what is asked of it, and flows for it that follow files.

use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::millstream::{Running, Workshop};

pub const TOML: (&str, &str) = ("content-type", "application/toml");
pub const JSON: (&str, &str) = ("content-type", "application/json");
pub const NEW: (&str, &str) = ("if-none-match", "*");
pub const WAIT: (&str, &str) = ("prefer", "wait=60");

/// How long anything may take here.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// A flow of the API that follows a file. Its output has a file for each checkpoint that had rows.
pub fn follows(name: &str) -> String {
    format!(
        r#"
        flow.epoch.interval = "20ms"
        checkpoint.interval = "100ms"
        [input.rows]
        type = "file"
        path = "in/{name}.ndjson"
        schema = {{ id = "int64" }}
        follow = true
        on_error = "fail"
        [processor.same]
        type = "sql"
        from = "rows"
        query = "SELECT id FROM rows"
        [output.kept]
        type = "file"
        from = "same"
        path = "out/{name}/"
        format = "ndjson"
        rows = 1000
        every = "100ms"
        if_exists = "append"
    "#
    )
}

/// A flow whose processor refuses 0, whose input refuses what is no number, and which both come back into.
pub fn refuses(name: &str) -> String {
    follows(name)
        .replace("on_error = \"fail\"", "on_error = { dead_letter = \"refused/\" }")
        .replace("from = \"rows\"", "from = [\"rows\", \"mended\"]\n        on_error = { dead_letter = \"refused/\" }")
        .replace("SELECT id FROM", "SELECT 1000 / id AS id FROM")
        + "[input.mended]\ntype = \"dead_letters\"\nschema = { id = \"int64\" }\non_error = { dead_letter = \"refused/\" }\n"
}

/// A flow that learns the model `lateness` from rows that are written for it.
pub fn learns(workshop: &Workshop, name: &str) -> String {
    let rows: String = (0..400).map(|n| format!("{n},{},{}\n", n % 7, n % 7 > 3)).collect();
    workshop.write(&format!("in/{name}.csv"), &format!("n,x,late\n{rows}"));
    format!(
        r#"
        [input.rows]
        type = "file"
        path = "in/{name}.csv"
        format = "csv"
        [processor.learn]
        type = "train"
        from = "rows"
        model = "lateness"
        features = ["x"]
        label = "late"
        estimator = {{ type = "logistic_regression" }}
        publish = {{ rows = 100 }}
        [output.kept]
        type = "drop"
        from = "learn"
    "#
    )
}

/// A daemon in a folder of its own, which listens on a port of its own.
pub struct Daemon {
    pub running: Running,
    /// What it logs.
    pub lines: Receiver<String>,
    /// The Unix socket.
    pub socket: std::path::PathBuf,
    /// The address that it listens on, if it does.
    pub address: String,
    /// What it has logged between the one and the other.
    pub earlier: Vec<String>,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    head: String,
    pub body: Value,
    pub text: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The same, if it has this status.
    pub fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:#?}");
        self
    }

    /// The same, if it is that problem.
    pub fn refused(self, status: u16, code: &str) -> Self {
        let found = self.is(status);
        assert_eq!(found.body["code"], code, "{found:#?}");
        assert_eq!(found.header("content-type"), Some("application/problem+json"));
        found
    }
}

impl Daemon {
    /// One that listens on a port of its own, and is ready.
    pub fn start(workshop: &Workshop) -> Self {
        Self::start_with(workshop, &[])
    }

    /// The same with these variables.
    pub fn start_with(workshop: &Workshop, variables: &[(&str, &str)]) -> Self {
        Self::start_in(workshop, "", variables)
    }

    /// The same with its data in a folder of the workshop's.
    pub fn start_in(workshop: &Workshop, data: &str, variables: &[(&str, &str)]) -> Self {
        make_folders(workshop);
        let (data, flows) = (workshop.path(data), workshop.path("flows"));
        let own = [
            ("MILLSTREAM__ADMIN__ADDRESS", "127.0.0.1:0"),
            ("MILLSTREAM__ADMIN__RATE", "10000/s"),
            ("MILLSTREAM__DATA", data.to_str().unwrap()),
            ("MILLSTREAM__FLOWS", flows.to_str().unwrap()),
        ];
        let mut daemon = Self::begin(workshop, &[&own, variables].concat());
        daemon.socket = data.join("admin.sock");
        let line = daemon.wait_for("the administration listens on");
        daemon.address = line.split('`').nth(1).unwrap().to_owned();
        daemon.earlier = daemon.until("ready: ");
        daemon
    }

    /// One that listens nowhere but at its Unix socket, unless the variables say otherwise. It may not be ready yet.
    pub fn begin(workshop: &Workshop, variables: &[(&str, &str)]) -> Self {
        let mut command = workshop.command(&["daemon"]);
        command
            .env("MILLSTREAM__SCAN_EVERY", "50ms")
            .env("MILLSTREAM__ADMIN__ADDRESS", "off")
            .envs(variables.iter().copied());
        let mut running = Running::start(&mut command);
        let log = running.take_stderr();
        let (sender, lines) = channel();
        std::thread::spawn(move || log.map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { running, lines, socket: workshop.path("admin.sock"), address: String::new(), earlier: Vec::new() }
    }

    /// One that dies at a crash point. It may have by now.
    pub fn start_dying(workshop: &Workshop, point: &str) -> Self {
        make_folders(workshop);
        let mut daemon = Self::begin(workshop, &[("MILLSTREAM_CRASH", point), ("MILLSTREAM__ADMIN__RATE", "10000/s")]);
        let begin = Instant::now();
        let is_ready =
            |daemon: &Self| daemon.try_ask("GET", "/readyz", &[], "").is_some_and(|answer| answer.status == 200);
        while !is_ready(&daemon) && !daemon.running.has_ended() {
            assert!(begin.elapsed() < PATIENCE, "the daemon is not ready");
            std::thread::sleep(Duration::from_millis(10));
        }
        daemon
    }

    /// Waits until it logs something.
    pub fn wait_for(&self, text: &str) -> String {
        self.until(text).pop().unwrap_or_default()
    }

    /// What it logs until it logs something, and that as well.
    fn until(&self, text: &str) -> Vec<String> {
        let mut seen = Vec::<String>::new();
        while !seen.last().is_some_and(|line| line.contains(text)) {
            seen.push(self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("`{text}` behind {seen:#?}")));
        }
        seen
    }

    /// Asks over the Unix socket.
    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        self.try_ask(method, path, headers, body).unwrap_or_else(|| panic!("{method} {path} is not answered"))
    }

    /// The same. Nothing if it is gone by then.
    pub fn try_ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Option<Answer> {
        ask_at(&self.socket, method, path, headers, body)
    }

    /// Asks over TCP.
    pub fn ask_openly(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let host = headers.iter().find(|(name, _)| *name == "host").map_or(self.address.as_str(), |(_, host)| host);
        let headers: Vec<_> = headers.iter().filter(|(name, _)| *name != "host").copied().collect();
        exchange(stream, host, method, path, &headers, body).unwrap()
    }

    /// The status of an answer over TCP, of which no more is read: it may have no end.
    pub fn status(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> u16 {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request(&self.address, method, path, headers, "").as_bytes()).unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        line.split(' ').nth(1).unwrap().parse().unwrap()
    }

    pub fn get(&self, path: &str) -> Value {
        self.ask("GET", path, &[], "").is(200).body
    }

    pub fn put(&self, flow: &str, text: &str, headers: &[(&str, &str)]) -> Answer {
        self.ask("PUT", &format!("/api/v1/flows/{flow}"), &[&[TOML, WAIT], headers].concat(), text)
    }

    pub fn post(&self, path: &str) -> Answer {
        self.ask("POST", path, &[JSON, WAIT], "{}")
    }

    /// Waits until a flow is in a state.
    pub fn wait_until(&self, flow: &str, is: impl Fn(&Value) -> bool) -> Value {
        let begin = Instant::now();
        loop {
            let seen = self.get(&format!("/api/v1/flows/{flow}"));
            if is(&seen) {
                return seen;
            }
            assert!(begin.elapsed() < PATIENCE, "{seen:#}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn kill(mut self) {
        kill_process(Pid::from_raw(self.running.id() as i32).unwrap(), Signal::KILL).unwrap();
        drop(self.running);
    }

    /// Stops it as a service manager does. What it still logs.
    pub fn stop(self) -> Vec<String> {
        self.running.stop();
        self.lines.iter().collect()
    }
}

fn request(host: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> String {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    )
}

/// Asks a daemon over its Unix socket, wherever that is known. Nothing if it is gone by then.
pub fn ask_at(socket: &Path, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Option<Answer> {
    let stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    exchange(stream, "localhost", method, path, headers, body)
}

/// The folders of flows and of what they read.
fn make_folders(workshop: &Workshop) {
    for folder in ["flows", "in"] {
        std::fs::create_dir_all(workshop.path(folder)).unwrap();
    }
}

/// A request, and its answer, if there is one.
fn exchange(
    mut stream: impl std::io::Read + std::io::Write,
    host: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Option<Answer> {
    stream.write_all(request(host, method, path, headers, body).as_bytes()).ok()?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).ok()?;
    let answer = String::from_utf8(bytes).unwrap();
    let (head, text) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let body = serde_json::from_str(text).unwrap_or(Value::Null);
    Some(Answer { status, head: head.to_owned(), body, text: text.to_owned() })
}

/// The events of a stream, as they come: their names and data.
pub fn events(daemon: &Daemon, path: &str) -> Receiver<(String, Value)> {
    let mut stream = UnixStream::connect(&daemon.socket).unwrap();
    let head = format!("GET /api/v1/{path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut event = String::new();
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if let Some(name) = line.strip_prefix("event: ") {
                event = name.to_owned();
            } else if let Some(data) = line.strip_prefix("data: ") {
                let told = sender.send((event.clone(), serde_json::from_str(data).unwrap()));
                if told.is_err() {
                    return;
                }
            }
        }
    });
    receiver
}

/// Adds rows to the file that a flow follows.
pub fn append(workshop: &Workshop, name: &str, ids: std::ops::Range<usize>) {
    let path = workshop.path("in").join(format!("{name}.ndjson"));
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let text: String = ids.map(|id| format!("{{\"id\": {id}}}\n")).collect();
    OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

/// The visible rows of a flow, sorted.
pub fn ids(workshop: &Workshop, name: &str) -> Vec<usize> {
    let folder = format!("out/{name}");
    let names = workshop.list(&folder).into_iter().filter(|name| !name.starts_with('.'));
    let text: String = names.map(|name| workshop.read(&format!("{folder}/{name}"))).collect();
    let id = |line: &str| serde_json::from_str::<Value>(line).unwrap()["id"].as_u64().unwrap() as usize;
    let mut ids: Vec<_> = text.lines().map(id).collect();
    ids.sort_unstable();
    ids
}

/// Waits until so many rows of a flow are visible.
pub fn wait_for_rows(workshop: &Workshop, name: &str, rows: usize) {
    let begin = Instant::now();
    while ids(workshop, name).len() < rows {
        assert!(begin.elapsed() < Duration::from_secs(180), "{} of {rows} rows of `{name}`", ids(workshop, name).len());
        std::thread::sleep(Duration::from_millis(20));
    }
}
