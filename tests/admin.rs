//! The administration of a daemon over its Unix socket and over TCP: flows that are changed while they run, who may do what, what is written
//! down, and the command line.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::daemon::{append, ids, wait_for_rows};
use crate::millstream::{Running, Workshop};

const TOML: (&str, &str) = ("content-type", "application/toml");
const JSON: (&str, &str) = ("content-type", "application/json");
pub const NEW: (&str, &str) = ("if-none-match", "*");
const WAIT: (&str, &str) = ("prefer", "wait=60");

/// How long anything may take here.
const PATIENCE: Duration = Duration::from_secs(180);

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

/// A daemon in a folder of its own, which listens on a port of its own.
pub struct Daemon {
    running: Running,
    lines: Receiver<String>,
    socket: std::path::PathBuf,
    /// The address that it listens on.
    pub address: String,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    status: u16,
    head: String,
    pub body: Value,
    text: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The same, if it has this status.
    pub fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:#?}");
        self
    }

    /// The same, if it is that problem.
    fn refused(self, status: u16, code: &str) -> Self {
        let found = self.is(status);
        assert_eq!(found.body["code"], code, "{found:#?}");
        assert_eq!(found.header("content-type"), Some("application/problem+json"));
        found
    }
}

impl Daemon {
    pub fn start(workshop: &Workshop) -> Self {
        std::fs::create_dir_all(workshop.path("flows")).unwrap();
        std::fs::create_dir_all(workshop.path("in")).unwrap();
        let mut command = workshop.command(&["daemon"]);
        command.env("MILLSTREAM__SCAN_EVERY", "50ms").env("MILLSTREAM__ADMIN__ADDRESS", "127.0.0.1:0");
        command.env("MILLSTREAM__ADMIN__RATE", "10000/s");
        let mut running = Running::start(&mut command);
        let log = running.take_stderr();
        let (sender, lines) = channel();
        std::thread::spawn(move || log.map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut daemon = Self { running, lines, socket: workshop.path("admin.sock"), address: String::new() };
        let line = daemon.wait_for("the administration listens on");
        daemon.address = line.split('`').nth(1).unwrap().to_owned();
        daemon.wait_for("ready: ");
        daemon
    }

    /// Waits until it logs something.
    fn wait_for(&self, text: &str) -> String {
        let mut seen = Vec::new();
        loop {
            let line = self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("`{text}` behind {seen:#?}"));
            if line.contains(text) {
                return line;
            }
            seen.push(line);
        }
    }

    /// Asks over the Unix socket.
    fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        exchange(stream, "localhost", method, path, headers, body)
    }

    /// Asks over TCP.
    fn ask_openly(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let host = headers.iter().find(|(name, _)| *name == "host").map_or(self.address.as_str(), |(_, host)| host);
        let headers: Vec<_> = headers.iter().filter(|(name, _)| *name != "host").copied().collect();
        exchange(stream, host, method, path, &headers, body)
    }

    /// The status of an answer over TCP, of which no more is read: it may have no end.
    fn status(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> u16 {
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

    fn kill(mut self) {
        kill_process(Pid::from_raw(self.running.id() as i32).unwrap(), Signal::KILL).unwrap();
        drop(self.running);
    }

    pub fn stop(self) {
        self.running.stop();
    }
}

fn request(host: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> String {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    )
}

/// A request, and its answer.
fn exchange(
    mut stream: impl std::io::Read + std::io::Write,
    host: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    stream.write_all(request(host, method, path, headers, body).as_bytes()).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let answer = String::from_utf8(bytes).unwrap();
    let (head, text) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let body = serde_json::from_str(text).unwrap_or(Value::Null);
    Answer { status, head: head.to_owned(), body, text: text.to_owned() }
}

#[test]
fn flows_are_made_changed_and_taken_away_over_the_api() {
    let workshop = Workshop::new();
    let daemon = Daemon::start(&workshop);
    assert_eq!(daemon.ask("GET", "/livez", &[], "").is(200).text, "alive\n");
    assert_eq!(daemon.get("/readyz")["ready"], true);
    append(&workshop, "a", 0..10);
    let text = follows("a");

    daemon.put("a", &text, &[]).refused(428, "precondition-required");
    daemon.put("a", &text, &[("if-match", "\"1\"")]).refused(412, "revision-mismatch");
    let wrong = daemon.put("a", &text.replace("SELECT id", "SELECT ids"), &[NEW]).refused(422, "flow-does-not-check");
    let error = &wrong.body["errors"][0];
    assert!(error["line"] == 13 && error["message"].as_str().unwrap().contains("there is no column `ids`"), "{error}");
    daemon.put("other", &format!("flow.name = 'a'\n{text}"), &[NEW]).refused(400, "bad-request");
    daemon.put("No-Name", &text, &[NEW]).refused(400, "bad-request");

    let dry = daemon.ask("PUT", "/api/v1/flows/a?dry_run=true", &[TOML, NEW], &text).is(200).body;
    assert!(dry["revision"].is_null() && dry["nodes"][2]["effect"] == "added", "{dry}");
    daemon.ask("GET", "/api/v1/flows/a", &[], "").refused(404, "not-found");
    let path = format!("/api/v1/flows/a?message=begin&plan={}", dry["plan"].as_str().unwrap());
    let made = daemon.ask("PUT", &path, &[TOML, NEW, WAIT], &text).is(201);
    assert_eq!(made.header("etag"), Some("\"1\""));
    wait_for_rows(&workshop, "a", 10);
    daemon.put("a", &text, &[NEW]).refused(412, "revision-mismatch");

    let other = text.replace("SELECT id", "SELECT id + 100 AS id");
    let stale = daemon.ask("PUT", "/api/v1/flows/a?plan=blake3:0", &[TOML, ("if-match", "\"1\"")], &other);
    stale.refused(412, "plan-stale");
    let changed = daemon.put("a", &other, &[("if-match", "\"1\"")]).is(200).body;
    assert_eq!((&changed["base"], &changed["revision"]), (&json!(1), &json!(2)));
    assert_eq!(changed["nodes"][1], json!({ "node": "same", "effect": "changed", "settings": ["query"] }));
    append(&workshop, "a", 10..20);
    wait_for_rows(&workshop, "a", 20);
    assert_eq!(ids(&workshop, "a"), (0..10).chain(110..120).collect::<Vec<_>>());

    let revisions = daemon.get("/api/v1/flows/a/revisions");
    assert!(revisions["items"][1]["message"] == "begin" && revisions["items"][0]["number"] == 2, "{revisions}");
    let source = daemon.ask("GET", "/api/v1/flows/a/revisions/1", &[], "").is(200);
    assert_eq!((source.header("content-type"), source.text.as_str()), (Some("application/toml"), text.as_str()));
    let diff = daemon.get("/api/v1/flows/a/revisions/2/diff");
    assert!(diff["text"].as_str().unwrap().contains("+        query = \"SELECT id + 100 AS id"), "{diff}");
    let back = daemon.ask("POST", "/api/v1/flows/a/rollback", &[JSON, WAIT], "{\"to\": 1}").is(200).body;
    assert_eq!((&back["state"], &back["result"]), (&json!("done"), &json!(3)));
    daemon.post("/api/v1/flows/a/rollback").refused(400, "bad-request");

    let graph = daemon.get("/api/v1/flows/a/graph");
    assert_eq!(graph["edges"][0]["id"], "rows.main>same", "{graph}");
    assert_eq!(daemon.get("/api/v1/flows/a/stats")["nodes"]["rows"]["rows_in"], 20);
    let gone = daemon.ask("DELETE", "/api/v1/flows/a", &[JSON, WAIT], "").is(200).body;
    assert_eq!(gone["state"], "done");
    daemon.ask("GET", "/api/v1/flows/a", &[], "").refused(404, "not-found");
    assert!(workshop.exists("state/a"), "its state stays");
    daemon.stop();
}

#[test]
fn a_change_that_fails_goes_back_and_says_why() {
    let workshop = Workshop::new();
    let daemon = Daemon::start(&workshop);
    append(&workshop, "b", 1..10);
    daemon.put("b", &follows("b"), &[NEW]).is(201);
    wait_for_rows(&workshop, "b", 9);
    // It checks, but can't be begun: a folder is where its file should be.
    std::fs::create_dir_all(workshop.path("out/taken.ndjson/x")).unwrap();
    let bad = follows("b")
        + "\n[output.taken]\ntype = \"file\"\nfrom = \"same\"\npath = \"out/taken.ndjson\"\nformat = \"ndjson\"\n";
    let change = daemon.put("b", &bad, &[("if-match", "\"1\"")]);
    let seen = daemon.wait_until("b", |flow| flow["operation"].is_null());
    if change.status == 200 {
        let operation = daemon.get(&format!("/api/v1/operations/{}", change.body["operation"]));
        assert_eq!(operation["state"], "failed", "{operation:#}");
    }
    assert_eq!((&seen["state"], &seen["running_revision"]), (&json!("running"), &json!(1)), "{seen:#}");
    append(&workshop, "b", 10..20);
    wait_for_rows(&workshop, "b", 19);
    assert_eq!(ids(&workshop, "b"), (1..20).collect::<Vec<_>>());
    daemon.stop();
}

#[test]
fn a_flow_that_is_changed_again_and_again_under_load_has_every_row_once() {
    let workshop = Workshop::new();
    let daemon = Daemon::start(&workshop);
    append(&workshop, "c", 0..100);
    daemon.put("c", &follows("c"), &[NEW]).is(201);
    for change in 1..=10 {
        append(&workshop, "c", change * 1000..change * 1000 + 500);
        let text = follows("c").replace("SELECT id", &format!("SELECT id + {} - {change} AS id", change));
        let tag = format!("\"{change}\"");
        daemon.put("c", &text, &[("if-match", &tag)]).is(200);
        append(&workshop, "c", change * 1000 + 500..change * 1000 + 600);
    }
    wait_for_rows(&workshop, "c", 6100);
    let expected: Vec<usize> = (0..100).chain((1..=10).flat_map(|change| change * 1000..change * 1000 + 600)).collect();
    assert_eq!(ids(&workshop, "c"), expected);
    daemon.stop();
}

#[test]
fn what_is_wanted_survives_a_kill() {
    let workshop = Workshop::new();
    let daemon = Daemon::start(&workshop);
    for name in ["runs", "stops"] {
        append(&workshop, name, 0..10);
        daemon.put(name, &follows(name), &[NEW]).is(201);
        wait_for_rows(&workshop, name, 10);
    }
    workshop.write("flows/file.toml", &follows("file").replace("in/file", "../in/file"));
    append(&workshop, "file", 0..10);
    wait_for_rows(&workshop, "file", 10);
    let stopped = daemon.post("/api/v1/flows/stops/stop").is(200).body;
    assert!(stopped["state"] == "done" && stopped["result"].as_u64() > Some(0), "{stopped}");
    daemon.kill();
    ["runs", "stops", "file"].iter().for_each(|name| append(&workshop, name, 10..20));
    let daemon = Daemon::start(&workshop);
    wait_for_rows(&workshop, "runs", 20);
    wait_for_rows(&workshop, "file", 20);
    assert_eq!(daemon.get("/api/v1/flows/stops")["state"], "stopped");
    assert_eq!(daemon.put("file", &follows("file"), &[("if-match", "\"1\"")]).status, 409);
    let operations = daemon.get("/api/v1/operations?flow=stops");
    assert!(operations["items"][0]["kind"] == "stop" && operations["items"][0]["state"] == "done", "{operations}");
    daemon.post("/api/v1/flows/stops/start").is(200);
    wait_for_rows(&workshop, "stops", 20);
    daemon.stop();
}

#[test]
fn a_flow_can_be_held_and_take_a_checkpoint_when_asked() {
    let workshop = Workshop::new();
    let daemon = Daemon::start(&workshop);
    append(&workshop, "held", 0..10);
    let text = follows("held").replace("checkpoint.interval = \"100ms\"", "checkpoint.interval = \"1h\"");
    daemon.put("held", &text, &[NEW]).is(201);
    daemon.wait_until("held", |flow| flow["rows"]["written"] == 10);
    let mut last = 0;
    // A file is whole at the first checkpoint that is 100 ms behind its first row.
    while ids(&workshop, "held").len() < 10 {
        let taken = daemon.post("/api/v1/flows/held/checkpoint").is(200).body["result"].as_u64().unwrap();
        assert!(taken > last, "{taken} behind {last}");
        last = taken;
    }
    daemon.post("/api/v1/flows/held/pause").is(200);
    let seen = daemon.wait_until("held", |flow| !flow["paused"].is_null());
    assert_eq!((&seen["state"], &seen["paused"]), (&json!("running"), &json!("somebody has paused it")));
    append(&workshop, "held", 10..20);
    daemon.post("/api/v1/flows/held/resume").is(200);
    daemon.wait_until("held", |flow| flow["rows"]["read"] == 20);
    daemon.post("/api/v1/flows/held/stop").is(200);
    wait_for_rows(&workshop, "held", 20);
    daemon.post("/api/v1/flows/held/checkpoint").refused(409, "not-running");
    daemon.stop();
}

#[test]
fn who_asks_may_do_what_the_table_of_routes_says() {
    let workshop = Workshop::new();
    let token = |name: &str, role: &str, more: &[&str]| {
        let ran = workshop.run(&[&["token", "create", "--name", name, "--role", role], more].concat());
        format!("Bearer {}", ran.stdout.trim())
    };
    let (viewer, operator, admin) = (token("v", "viewer", &[]), token("o", "operator", &[]), token("a", "admin", &[]));
    let daemon = Daemon::start(&workshop);
    let document = daemon.ask_openly("GET", "/api/v1/openapi.json", &[], "").is(200).body;
    assert_eq!(document["openapi"], "3.1.0");
    let mut asked = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        // Of nothing that is there, so that nothing happens.
        let target: String = path
            .split('/')
            .map(|part| match part {
                "{revision}" | "{operation}" => "4711",
                part if part.starts_with('{') => "nobody",
                part => part,
            })
            .collect::<Vec<_>>()
            .join("/");
        for (method, operation) in operations.as_object().unwrap() {
            let method = method.to_uppercase();
            let ask = |token: Option<&str>| {
                let authorization = token.map(|token| ("authorization", token));
                let headers: Vec<_> = [JSON].into_iter().chain(authorization).collect();
                daemon.status(&method, &target, &headers)
            };
            let role = operation["x-role"].as_str();
            let rank = |role: &str| ["viewer", "operator", "admin"].iter().position(|known| *known == role).unwrap();
            let anonymous = ask(None);
            match role {
                None => assert_ne!(anonymous, 401, "{method} {target}"),
                Some(role) => {
                    assert_eq!(anonymous, 401, "{method} {target}");
                    for (has, token) in [("viewer", &viewer), ("operator", &operator), ("admin", &admin)] {
                        let status = ask(Some(token));
                        let is_refused = matches!(status, 401 | 403);
                        assert_eq!(is_refused, rank(has) < rank(role), "{has}: {status} {method} {target}");
                    }
                }
            }
            asked += 1;
        }
    }
    assert!(asked > 30, "{asked}");
    let header = ("authorization", operator.as_str());
    daemon.ask_openly("GET", "/api/v1/flows", &[header, ("host", "evil.example")], "").refused(421, "wrong-host");
    let cross = [header, JSON, ("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")];
    // A token is no cookie: whoever has it is no page that was lured.
    daemon.ask_openly("POST", "/api/v1/flows/nobody/start", &cross, "{}").refused(404, "not-found");
    daemon
        .ask_openly("GET", "/api/v1/flows", &[("authorization", "Bearer ms_x")], "")
        .refused(401, "wrong-credentials");
    daemon.stop();
}

#[test]
fn a_session_begins_with_a_token_and_ends_with_it() {
    let workshop = Workshop::new();
    let made = workshop.run(&["token", "create", "--name", "ops", "--role", "operator"]);
    let token = made.stdout.trim();
    let daemon = Daemon::start(&workshop);
    daemon.ask_openly("GET", "/api/v1/session", &[], "").refused(401, "not-signed-in");
    let wrong = json!({ "token": "ms_nobody" }).to_string();
    daemon.ask_openly("POST", "/api/v1/session", &[JSON], &wrong).refused(401, "wrong-credentials");
    let right = json!({ "token": token }).to_string();
    let signed_in = daemon.ask_openly("POST", "/api/v1/session", &[JSON], &right).is(200);
    assert_eq!((&signed_in.body["who"], &signed_in.body["role"]), (&json!("ops"), &json!("operator")));
    let cookie = signed_in.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let cookie = ("cookie", cookie.as_str());
    daemon.ask_openly("GET", "/api/v1/flows", &[cookie], "").is(200);
    let site = ("sec-fetch-site", "same-origin");
    let foreign = ("sec-fetch-site", "cross-site");
    let stop = "/api/v1/flows/nobody/stop";
    daemon.ask_openly("POST", stop, &[cookie, JSON, foreign], "{}").refused(403, "cross-site");
    daemon.ask_openly("POST", stop, &[cookie, JSON], "{}").refused(403, "cross-site");
    daemon.ask_openly("POST", stop, &[cookie, JSON, site], "{}").refused(404, "not-found");
    let id = daemon.get("/api/v1/tokens")["items"][0]["id"].as_str().unwrap().to_owned();
    daemon.ask("DELETE", &format!("/api/v1/tokens/{id}"), &[JSON], "").is(204);
    daemon.ask_openly("GET", "/api/v1/flows", &[cookie], "").refused(401, "not-signed-in");
    daemon.stop();
}

#[test]
fn what_is_done_is_written_down_before_the_answer() {
    let workshop = Workshop::new();
    let daemon = Daemon::start(&workshop);
    append(&workshop, "d", 0..1);
    daemon.put("d", &follows("d"), &[NEW]).is(201);
    daemon.ask("POST", "/api/v1/flows/nobody/stop", &[JSON], "{}").refused(404, "not-found");
    daemon.ask_openly("POST", "/api/v1/flows/d/stop", &[JSON], "{}").refused(401, "not-signed-in");
    let entries = daemon.get("/api/v1/audit?limit=10")["items"].clone();
    let said: Vec<_> = entries
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            format!("{} {} {}", entry["method"].as_str().unwrap(), entry["path"].as_str().unwrap(), entry["result"])
        })
        .collect();
    let expected = [
        "POST /api/v1/flows/d/stop {\"refused\":\"not-signed-in\"}",
        "POST /api/v1/flows/nobody/stop {\"failed\":\"not-found\"}",
        "POST /api/v1/flows/nobody/stop \"begun\"",
        "PUT /api/v1/flows/d \"done\"",
        "PUT /api/v1/flows/d \"begun\"",
    ];
    assert_eq!(said, expected);
    daemon.stop();
    let verified = workshop.run(&["audit", "verify", "admin/audit"]);
    assert_eq!(verified.code, 0, "{}{}", verified.stdout, verified.stderr);
}

/// The events of a stream, as they come: their names and data.
fn events(daemon: &Daemon, path: &str) -> Receiver<(String, Value)> {
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

#[test]
fn events_tell_what_happens() {
    let workshop = Workshop::new();
    let daemon = Daemon::start(&workshop);
    append(&workshop, "e", 0..10);
    let told = events(&daemon, "events?topics=flows,operations,flow:e.stats");
    let wait = |is: &dyn Fn(&str, &Value) -> bool| {
        loop {
            let (event, data) = told.recv_timeout(PATIENCE).unwrap();
            if is(&event, &data) {
                return data;
            }
        }
    };
    daemon.put("e", &follows("e"), &[NEW]).is(201);
    wait(&|event, data| event == "flow" && data["name"] == "e" && data["state"] == "running");
    wait(&|event, data| event == "stats" && data["flow"] == "e" && data["nodes"]["kept"]["rows_in"] == 10);
    daemon.post("/api/v1/flows/e/stop").is(200);
    wait(&|event, data| event == "operation" && data["kind"] == "stop" && data["state"] == "done");
    wait(&|event, data| event == "flow" && data["state"] == "stopped");
    daemon.ask("DELETE", "/api/v1/flows/e", &[JSON, WAIT], "").is(200);
    wait(&|event, data| event == "gone" && data["name"] == "e");
    daemon.stop();
}

#[test]
fn rows_can_be_looked_at_as_they_pass_also_when_the_flow_is_changed() {
    let workshop = Workshop::new();
    let daemon = Daemon::start(&workshop);
    daemon.put("t", &follows("t"), &[NEW]).is(201);
    daemon.ask("GET", "/api/v1/flows/t/tap?node=nobody", &[], "").refused(404, "not-found");
    let told = events(&daemon, "flows/t/tap?node=same");
    let mut last = 0;
    for change in 1..=2 {
        // Whoever looks has begun to when rows come; until then, they pass unseen.
        let row = loop {
            append(&workshop, "t", last..last + 1);
            last += 1;
            if let Ok((_, data)) = told.recv_timeout(Duration::from_millis(200)) {
                break data["rows"][0]["id"].as_u64().unwrap();
            }
        };
        let is_changed = row >= 1000;
        assert_eq!(is_changed, change == 2, "{row}");
        if change == 1 {
            let text = follows("t").replace("SELECT id", "SELECT id + 1000 AS id");
            daemon.put("t", &text, &[("if-match", "\"1\"")]).is(200);
            while told.try_recv().is_ok() {}
        }
    }
    daemon.stop();
}

#[test]
fn flows_are_steered_from_the_command_line() {
    let workshop = Workshop::new();
    let daemon = Daemon::start(&workshop);
    append(&workshop, "f", 0..10);
    workshop.write("f.toml", &follows("f"));
    let run = |arguments: &[&str]| workshop.run(&[&["flows"], arguments].concat());
    let good = |arguments: &[&str]| {
        let ran = run(arguments);
        assert_eq!(ran.code, 0, "{arguments:?}: {}{}", ran.stdout, ran.stderr);
        ran.stdout
    };
    assert!(good(&["apply", "f.toml", "--dry-run"]).contains("added"));
    assert_eq!(good(&["apply", "f.toml", "-m", "first"]), "flow `f`: revision 1\n");
    wait_for_rows(&workshop, "f", 10);
    assert!(good(&["list"]).contains("running"));
    workshop.write("f.toml", &follows("f").replace("SELECT id", "SELECT id + 1000 AS id"));
    assert_eq!(good(&["apply", "f.toml"]), "flow `f`: revision 2\n");
    assert!(good(&["diff", "f"]).contains("+        query"));
    assert!(good(&["stop", "f"]).starts_with("flow `f` has stopped at checkpoint "));
    assert!(good(&["show", "f"]).contains("desired           stopped"));
    assert_eq!(good(&["start", "f"]), "flow `f` runs, from revision 2\n");
    assert_eq!(good(&["rollback", "f", "--to", "1"]), "flow `f`: revision 3\n");
    assert!(good(&["logs", "f"]).contains("resumes from checkpoint"));
    workshop.write("f.toml", &follows("f").replace("SELECT id", "SELECT ids"));
    let wrong = run(&["apply", "f.toml"]);
    assert!(wrong.code == 2 && wrong.stderr.contains("there is no column `ids`"), "{}", wrong.stderr);
    let json: Value = serde_json::from_str(&good(&["show", "f", "--json"])).unwrap();
    assert_eq!(json["revision"], 3);
    assert_eq!(good(&["delete", "f"]), "flow `f` is gone; its state stays\n");
    let operations = workshop.run(&["operations", "list"]).stdout;
    assert!(operations.contains("remove") && operations.contains("uid "), "{operations}");
    let missing = run(&["show", "f"]);
    assert!(missing.code == 1 && missing.stderr.contains("there is no flow `f`"), "{}", missing.stderr);

    let token = workshop.run(&["token", "create", "--name", "ci", "--role", "viewer"]).stdout;
    workshop.write("token", &token);
    let url = format!("http://{}", daemon.address);
    let remote = run(&["list", "--url", &url, "--token-file", "token", "--json"]);
    assert_eq!((remote.code, remote.stdout.as_str()), (0, ""), "{}", remote.stderr);
    let refused = run(&["stop", "f", "--url", &url, "--token-file", "token"]);
    assert!(refused.code == 1 && refused.stderr.contains("takes the role `operator`"), "{}", refused.stderr);
    daemon.stop();
    let nobody = run(&["list"]);
    assert!(nobody.code == 1 && nobody.stderr.contains("no daemon listens at"), "{}", nobody.stderr);
}

#[test]
fn refused_rows_are_shown_page_by_page() {
    let workshop = Workshop::new();
    let daemon = Daemon::start(&workshop);
    append(&workshop, "l", 0..3);
    let bad: String = (0..5).map(|number| format!("{{\"id\": \"bad {number}\"}}\n")).collect();
    workshop.write("in/l.ndjson", &(workshop.read("in/l.ndjson") + &bad));
    let text = follows("l").replace("on_error = \"fail\"", "on_error = { dead_letter = \"refused/\" }");
    daemon.put("l", &text, &[NEW]).is(201);
    daemon.wait_until("l", |flow| flow["rows"]["failed"] == 5);
    daemon.post("/api/v1/flows/l/stop").is(200);
    let first = daemon.get("/api/v1/flows/l/dead_letters?limit=3");
    let (item, next) = (&first["items"][0], first["next"].as_str().unwrap());
    assert!(item["node"] == "rows" && item["row"]["id"] == "bad 0" && item["position"] == 3, "{first:#}");
    let second = daemon.get(&format!("/api/v1/flows/l/dead_letters?limit=3&cursor={}", next.replace(':', "%3A")));
    assert!(second["items"].as_array().unwrap().len() == 2 && second["next"].is_null(), "{second:#}");
    assert_eq!(daemon.get("/api/v1/flows/l/dead_letters?node=nobody")["items"], json!([]));
    daemon.stop();
}

#[test]
fn models_are_shown_and_promoted() {
    let workshop = Workshop::new();
    let daemon = Daemon::start(&workshop);
    assert_eq!(daemon.get("/api/v1/models")["items"], json!([]));
    daemon.ask("GET", "/api/v1/models/..%2Fx/versions", &[], "").refused(404, "not-found");
    let rows: String = (0..400).map(|n| format!("{n},{},{}\n", n % 7, n % 7 > 3)).collect();
    workshop.write("in/m.csv", &format!("n,x,late\n{rows}"));
    let train = r#"
        [input.rows]
        type = "file"
        path = "in/m.csv"
        format = "csv"
        [processor.learn]
        type = "train"
        from = "rows"
        model = "lateness"
        features = ["x"]
        label = "late"
        estimator = { type = "logistic_regression" }
        publish = { rows = 100 }
        [output.kept]
        type = "drop"
        from = "learn"
    "#;
    daemon.put("m", train, &[NEW]).is(201);
    daemon.wait_until("m", |flow| flow["state"] == "finished");
    let models = daemon.get("/api/v1/models")["items"].clone();
    let latest = models[0]["latest"].as_u64().unwrap();
    assert!(latest > 1 && models[0]["name"] == "lateness" && models[0]["aliases"]["champion"] == 1, "{models}");
    let versions = daemon.get("/api/v1/models/lateness/versions?limit=2");
    assert_eq!(
        (&versions["items"][0]["version"], &versions["next"]),
        (&json!(latest), &json!((latest - 1).to_string()))
    );
    let series = daemon.get("/api/v1/models/lateness/series");
    assert!(series["metric"] == "auc" && series["points"].as_array().unwrap().len() == latest as usize, "{series}");
    let version = json!({ "version": latest }).to_string();
    let promoted = daemon.ask("PUT", "/api/v1/models/lateness/aliases/champion", &[JSON], &version).is(200).body;
    assert_eq!(promoted["aliases"]["champion"], latest);
    let card = daemon.get(&format!("/api/v1/models/lateness/versions/{latest}"));
    assert!(card["lineage"]["inputs"]["rows"].is_object(), "{card}");
    daemon
        .ask("PUT", "/api/v1/models/lateness/aliases/champion", &[JSON], "{\"version\": 99}")
        .refused(404, "not-found");
    daemon.ask("DELETE", "/api/v1/models/lateness/aliases/nobody", &[JSON], "").refused(404, "not-found");
    daemon.stop();
}

#[test]
fn what_has_changed_is_looked_at_when_somebody_asks() {
    let workshop = Workshop::new();
    let daemon = Daemon::start(&workshop);
    let reload = || workshop.run(&["reload", "--wait"]);
    assert_eq!((reload().code, reload().stdout.as_str()), (0, ""));
    workshop.write("flows/wrong.toml", "input = 3");
    let wrong = daemon.ask("POST", "/api/v1/system/reload", &[JSON], "{}").is(200).body;
    // The daemon looks by itself as well, and may have been first.
    assert!(wrong["flows"].as_array().unwrap().iter().all(|file| file["outcome"] == "refused"), "{wrong}");
    assert_eq!((&wrong["certificate"], &wrong["settings"]), (&json!(true), &Value::Null));
    append(&workshop, "r", 0..5);
    workshop.write("flows/r.toml", &follows("r").replace("in/r", "../in/r"));
    assert_eq!(reload().code, 0);
    daemon.wait_until("r", |flow| flow["state"] == "running");
    wait_for_rows(&workshop, "r", 5);
    daemon.stop();
}

#[test]
fn slow_headers_and_readers_that_never_read_hold_nobody_up() {
    let workshop = Workshop::new();
    let daemon = Daemon::start(&workshop);
    append(&workshop, "g", 0..10);
    daemon.put("g", &follows("g"), &[NEW]).is(201);
    let mut silent = Vec::new();
    for _ in 0..100 {
        let Ok(mut stream) = TcpStream::connect(&daemon.address) else { continue };
        let _ = stream.write_all(b"GET /livez HTTP/1.1\r\nhost: ");
        silent.push(stream);
    }
    let mut deaf = UnixStream::connect(&daemon.socket).unwrap();
    deaf.write_all(b"GET /api/v1/events?topics=flows,flow:g.stats HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let begin = Instant::now();
    for _ in 0..20 {
        daemon.get("/api/v1/flows/g");
        daemon.ask_openly("GET", "/livez", &[], "").is(200);
    }
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    append(&workshop, "g", 10..20);
    wait_for_rows(&workshop, "g", 20);
    drop((silent, deaf));
    daemon.stop();
}

#[test]
fn every_kind_of_problem_has_a_page_and_metrics_can_be_read() {
    let workshop = Workshop::new();
    let daemon = Daemon::start(&workshop);
    append(&workshop, "h", 0..10);
    daemon.put("h", &follows("h"), &[NEW]).is(201);
    wait_for_rows(&workshop, "h", 10);
    let missing = daemon.ask("GET", "/api/v1/nothing", &[], "").refused(404, "not-found").body;
    let page = daemon.ask("GET", missing["type"].as_str().unwrap(), &[], "").is(200);
    assert!(page.text.starts_with("not-found (404)\n"), "{}", page.text);
    daemon.ask("PATCH", "/api/v1/flows", &[JSON], "{}").refused(405, "method-not-allowed");
    daemon.ask("GET", "/api/v1/flows?limits=3", &[], "").refused(400, "bad-request");
    daemon.ask("POST", "/api/v1/flows/h/stop", &[JSON], "{\"deadline\": 3}").refused(400, "bad-request");
    daemon
        .ask("POST", "/api/v1/flows/h/stop", &[("content-type", "text/plain")], "{}")
        .refused(415, "wrong-content-type");
    let long = format!("#{}", "x".repeat(1 << 20));
    daemon.put("h", &long, &[("if-match", "\"1\"")]).refused(413, "too-large");
    let metrics = daemon.ask("GET", "/metrics", &[], "").is(200).text;
    assert!(metrics.contains("millstream_flow_state{flow=\"h\",state=\"running\"} 1.0"), "{metrics}");
    let levels =
        daemon.ask("PUT", "/api/v1/logging", &[JSON], "{\"levels\": {\"millstream_engine\": \"debug\"}, \"for_s\": 5}");
    assert_eq!(levels.is(200).body["levels"]["millstream_engine"], "debug");
    let types = daemon.get("/api/v1/node_types/file");
    assert!(types["roles"] == json!(["input", "output"]) && types["schemas"][0].is_object(), "{types}");
    assert!(daemon.get("/api/v1/system")["memory_bytes"].as_u64() > Some(1 << 20));
    daemon.stop();
}
