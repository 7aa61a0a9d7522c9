//! `millstream serve`, and a daemon that serves what its flows learn. The clients of others ask it in `tests/serving`.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::daemons::{Daemon, NEW, PATIENCE, learns};
use crate::millstream::{Running, Workshop};

/// What a process logs.
pub struct Log(Receiver<String>);

/// `millstream serve`, which listens on a port of its own.
struct Server {
    running: Running,
    log: Log,
    address: String,
    /// What lets in who says which models are served.
    token: String,
}

/// A connection to one, which stays open.
pub struct Connection {
    stream: BufReader<TcpStream>,
    address: String,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Value,
    pub text: String,
}

/// The model `lateness` in a workshop, in several versions.
pub fn learned(workshop: &Workshop) {
    let flow = workshop.write("learn.toml", &learns(workshop, "rows"));
    let ran = workshop.run(&["run", flow.to_str().unwrap()]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}

/// The number of its newest version.
fn latest(workshop: &Workshop) -> String {
    workshop.list("models/lateness/versions").pop().unwrap().trim_start_matches('0').to_owned()
}

fn token(workshop: &Workshop, role: &str) -> String {
    let ran = workshop.run(&["token", "create", "--name", role, "--role", role]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    ran.stdout.trim().to_owned()
}

impl Server {
    fn start(workshop: &Workshop, arguments: &[&str]) -> Self {
        Self::start_with(workshop, arguments, token(workshop, "operator"))
    }

    fn start_with(workshop: &Workshop, arguments: &[&str], token: String) -> Self {
        let own = ["serve", "--address", "127.0.0.1:0"];
        let mut running = Running::start(&mut workshop.command(&[&own, arguments].concat()));
        let log = Log::of(&mut running);
        let address = log.address("serving `");
        Self { running, log, address, token }
    }

    fn wait_for(&self, text: &str) -> String {
        self.log.wait_for(text)
    }

    fn connect(&self) -> Connection {
        Connection::to(&self.address)
    }

    fn bearer(&self) -> String {
        format!("authorization: Bearer {}\r\n", self.token)
    }

    /// Asks with the token.
    fn ask(&self, method: &str, path: &str, body: &Value) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.connect().ask(method, path, &self.bearer(), body.as_bytes())
    }
}

impl Log {
    pub fn of(running: &mut Running) -> Self {
        let log = running.take_stderr();
        let (sender, lines) = channel();
        std::thread::spawn(move || log.map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self(lines)
    }

    /// Waits until something is logged.
    pub fn wait_for(&self, text: &str) -> String {
        let mut seen = Vec::new();
        loop {
            let line = self.0.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("`{text}` behind {seen:#?}"));
            if line.contains(text) {
                return line;
            }
            seen.push(line);
        }
    }

    /// The address with which such a line ends.
    pub fn address(&self, text: &str) -> String {
        self.wait_for(text).rsplit('`').nth(1).unwrap().to_owned()
    }
}

impl Connection {
    pub fn to(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream), address: address.to_owned() }
    }

    pub fn ask(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        let (host, length) = (&self.address, body.len());
        let head = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {length}\r\n{headers}\r\n");
        self.send(&[head.as_bytes(), body].concat());
        self.answer()
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    /// The next bytes that come.
    pub fn receive<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    pub fn answer(&mut self) -> Answer {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(self.stream.read_line(&mut head).unwrap() > 0, "the connection has ended: {head}");
        }
        let head = head.to_ascii_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let length =
            head.split("content-length: ").nth(1).map_or(0, |rest| rest.split('\r').next().unwrap().parse().unwrap());
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).unwrap();
        let text = String::from_utf8_lossy(&body).into_owned();
        Answer { status, head, body: serde_json::from_slice(&body).unwrap_or_default(), text }
    }
}

impl Answer {
    pub fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:#?}");
        self
    }
}

pub fn rows(x: f64) -> Value {
    json!({ "rows": [{ "x": x }] })
}

pub fn tensors(x: f64) -> Value {
    json!({ "inputs": [{ "name": "x", "shape": [1], "datatype": "FP64", "data": [x] }] })
}

pub const INFER: &str = "/v2/models/lateness/infer";
const PREDICT: &str = "/api/v1/models/lateness/predict";

#[test]
fn a_server_asks_for_tokens_and_says_what_is_wrong_in_each_protocol() {
    let workshop = Workshop::new();
    learned(&workshop);
    let server = Server::start(&workshop, &["lateness"]);
    assert_eq!(server.ask("POST", INFER, &tensors(6.0)).is(200).body["outputs"][0]["data"], json!([true]));
    let predicted = server.ask("POST", PREDICT, &rows(0.0)).is(200).body;
    assert_eq!((&predicted["version"], &predicted["predictions"][0]["prediction"]), (&json!(1), &json!(false)));
    let body = tensors(1.0).to_string();
    let mut connection = server.connect();
    for path in ["/v2/health/live", "/v2/health/ready", "/v2", "/", "/ping", "/livez", "/readyz"] {
        connection.ask("GET", path, "", b"").is(200);
    }
    let refused = connection.ask("POST", INFER, "", body.as_bytes()).is(401);
    assert!(
        refused.head.contains("content-type: application/json\r\n")
            && refused.head.contains("www-authenticate: bearer")
    );
    assert!(refused.body["error"].as_str().unwrap().contains("`Authorization: Bearer TOKEN`"));
    assert_eq!(connection.ask("POST", "/invocations", "", b"{}").is(401).body["error_code"], "UNAUTHENTICATED");
    assert_eq!(connection.ask("POST", PREDICT, "", b"{}").is(401).body["code"], "not-signed-in");
    let viewer = format!("authorization: Bearer {}\r\n", token(&workshop, "viewer"));
    connection.ask("POST", INFER, &viewer, body.as_bytes()).is(200);
    connection.ask("POST", "/v2/repository/models/lateness/unload", &viewer, b"").is(403);
    let from_a_page = format!("{viewer}origin: https://elsewhere.example\r\n");
    connection.ask("POST", INFER, &from_a_page, body.as_bytes()).is(200);
    assert!(
        connection.ask("GET", "/v3", &viewer, b"").is(404).body["error"].as_str().unwrap().contains("no such route")
    );
    connection.ask("DELETE", INFER, &viewer, b"").is(405);
    let metrics = connection.ask("GET", "/metrics", &viewer, b"").is(200);
    assert!(metrics.head.contains("content-type: "));
    server.ask("POST", "/v2/repository/models/lateness/unload", &Value::Null).is(200);
    server.ask("GET", "/v2/models/lateness/ready", &Value::Null).is(404);
    server.ask("POST", "/v2/repository/models/lateness/load", &Value::Null).is(200);
    server.ask("GET", "/v2/models/lateness/ready", &Value::Null).is(200);
    let audit = std::fs::read_dir(workshop.path("serve/admin/audit")).unwrap().flatten();
    let audit: String = audit.map(|file| std::fs::read_to_string(file.path()).unwrap_or_default()).collect();
    assert!(
        audit.contains("/v2/repository/models/lateness/unload") && !audit.contains("/infer\",\"result\":\"done"),
        "{audit}"
    );
    server.running.stop();
}

#[test]
fn a_server_without_tokens_predicts_and_nothing_more() {
    let workshop = Workshop::new();
    learned(&workshop);
    let server = Server::start(&workshop, &["lateness@latest", "--without-token"]);
    let mut connection = server.connect();
    assert_eq!(
        connection.ask("POST", INFER, "", tensors(6.0).to_string().as_bytes()).is(200).body["model_version"],
        latest(&workshop)
    );
    connection.ask("POST", "/v2/repository/models/lateness/unload", "", b"").is(403);
    connection.ask("GET", "/api/2.0/mlflow-artifacts/artifacts/lateness/1/model.safetensors", "", b"").is(403);
    connection.ask("GET", "/v2/models", "", b"").is(200);
    // The page of another site can't have rows predicted either.
    connection.ask("POST", INFER, "origin: https://elsewhere.example\r\n", b"{}").is(403);
    let elsewhere = "POST /v2/models/lateness/infer HTTP/1.1\r\nhost: elsewhere.example\r\ncontent-length: 0\r\n\r\n";
    connection.stream.get_mut().write_all(elsewhere.as_bytes()).unwrap();
    connection.answer().is(421);
}

#[test]
fn a_server_that_can_not_serve_says_why() {
    let workshop = Workshop::new();
    learned(&workshop);
    let wrong = |arguments: &[&str]| {
        let ran = workshop.run(&[&["serve"], arguments].concat());
        (ran.code, ran.stderr)
    };
    let (code, why) = wrong(&["latenes"]);
    assert!(code == 1 && why.contains("there is no model `latenes` in `models`; did you mean `lateness`?"), "{why}");
    let (code, why) = wrong(&[]);
    assert!(code == 2 && why.contains("say which models are to be served"), "{why}");
    let (code, why) = wrong(&["lateness/x"]);
    assert!(code == 2 && why.contains("`x` is no version of a model"), "{why}");
    let trial = "[serve]\ntrials = { latenes = { version = \"2\" } }\n";
    let settings = workshop.write("trial.toml", trial).to_str().unwrap().to_owned();
    let (code, why) = wrong(&["lateness", "--config", &settings]);
    assert!(code == 2 && why.contains("model `latenes` is not among `models`; did you mean `lateness`?"), "{why}");
    let idle = workshop.write("trial.toml", "[serve]\ntrials = { lateness = { version = \"2\" } }\n");
    let (code, why) = wrong(&["lateness", "--config", idle.to_str().unwrap()]);
    assert!(code == 2 && why.contains("version `2` neither answers nor predicts anything"), "{why}");
    let (code, why) = wrong(&["lateness", "--address", "0.0.0.0:0"]);
    assert!(code == 2 && why.contains("can be reached by others") && why.contains("[serve.tls]"), "{why}");
}

#[test]
fn servers_beside_each_other_answer_the_same_callers_by_the_version_on_trial() {
    let workshop = Workshop::new();
    learned(&workshop);
    let trial = r#"trials = { lateness = { version = "latest", share = "50%", by = "x-user", shadow = true } }"#;
    let settings = workshop.write("trial.toml", &format!("[serve]\n{trial}\n")).to_str().unwrap().to_owned();
    let arguments = ["lateness", "--config", &settings];
    let first = Server::start(&workshop, &arguments);
    let second = Server::start_with(&workshop, &arguments, first.token.clone());
    let answered = |server: &Server| -> Vec<Value> {
        let (mut connection, body) = (server.connect(), tensors(6.0).to_string());
        let headers = |user: usize| format!("{}x-user: {user}\r\n", server.bearer());
        let answer = |user| connection.ask("POST", INFER, &headers(user), body.as_bytes()).is(200).body;
        (0..20).map(answer).map(|answer| answer["model_version"].clone()).collect()
    };
    let versions = answered(&first);
    assert!(versions.contains(&json!("1")) && versions.contains(&json!(latest(&workshop))), "{versions:?}");
    assert_eq!((answered(&first), answered(&second)), (versions.clone(), versions));
    assert_eq!(workshop.list("serve-2"), ["admin"], "each has an audit log of its own");
    first.running.stop();
    second.running.stop();
}

#[test]
fn bad_bodies_are_answered_and_the_server_goes_on() {
    let workshop = Workshop::new();
    learned(&workshop);
    let server = Server::start(&workshop, &["lateness"]);
    let bearer = server.bearer();
    // A gigabyte is refused by what its head says.
    let mut connection = server.connect();
    let head =
        format!("POST {INFER} HTTP/1.1\r\nhost: {}\r\ncontent-length: 1000000000\r\n{bearer}\r\n", server.address);
    connection.stream.get_mut().write_all(head.as_bytes()).unwrap();
    assert!(connection.answer().is(413).body["error"].as_str().unwrap().contains("67108864 bytes"));
    // And a bomb by what it becomes.
    let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
    (0..65).for_each(|_| bomb.write_all(&vec![b' '; 1 << 20]).unwrap());
    let bomb = bomb.finish().unwrap();
    let compressed = format!("{bearer}content-encoding: gzip\r\n");
    server.connect().ask("POST", INFER, &compressed, &bomb).is(413);
    // Some leave in the middle of what they say, and some before they are answered.
    for cut in [40, 60] {
        let whole = format!("{head}{}", tensors(1.0));
        TcpStream::connect(&server.address).unwrap().write_all(&whole.as_bytes()[..cut]).unwrap();
    }
    let body = tensors(1.0).to_string();
    for _ in 0..20 {
        let request = format!(
            "POST {INFER} HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\n{bearer}\r\n{body}",
            server.address,
            body.len()
        );
        TcpStream::connect(&server.address).unwrap().write_all(request.as_bytes()).unwrap();
    }
    server.ask("POST", INFER, &tensors(1.0)).is(200);
}

#[test]
fn no_request_fails_while_versions_are_published_and_aliases_move() {
    let workshop = Workshop::new();
    learned(&workshop);
    let server = Server::start(&workshop, &["lateness"]);
    let done = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..3)
        .map(|_| {
            let (done, mut connection, bearer) = (done.clone(), server.connect(), server.bearer());
            let body = tensors(6.0).to_string();
            std::thread::spawn(move || {
                let mut answers = std::collections::BTreeMap::<String, Value>::new();
                while !done.load(Ordering::Relaxed) {
                    let answer = connection.ask("POST", INFER, &bearer, body.as_bytes()).is(200).body;
                    let version = answer["model_version"].as_str().unwrap().to_owned();
                    let known = answers.entry(version).or_insert_with(|| answer["outputs"].clone());
                    assert_eq!(*known, answer["outputs"], "a version answers always the same");
                }
                answers
            })
        })
        .collect();
    let last = latest(&workshop);
    for version in 2..=last.parse::<u64>().unwrap() {
        assert_eq!(workshop.run(&["models", "promote", "lateness", &version.to_string()]).code, 0);
        // It is served as soon as the server has looked, without a request of it.
        server.wait_for(&format!("model `lateness`: version {version} is served"));
    }
    let more: String = (0..150).map(|n| format!("{n},{},{}\n", n % 5, n % 5 > 2)).collect();
    let flow = learns(&workshop, "more");
    workshop.write("in/more.csv", &format!("n,x,late\n{more}"));
    let flow = workshop.write("more.toml", &flow);
    assert_eq!(workshop.run(&["run", flow.to_str().unwrap()]).code, 0);
    let newest = latest(&workshop);
    assert_ne!(newest, last);
    assert_eq!(workshop.run(&["models", "alias", "lateness", "challenger", &newest]).code, 0);
    server.wait_for(&format!("model `lateness`: version {newest} is served"));
    assert_eq!(
        server.ask("POST", "/v2/models/lateness/versions/challenger/infer", &tensors(6.0)).is(200).body["model_version"],
        newest
    );
    done.store(true, Ordering::Relaxed);
    for client in clients {
        let answers = client.join().unwrap();
        assert!(answers.contains_key(&last), "{answers:?}");
    }
}

#[test]
fn a_daemon_serves_what_its_flows_learn() {
    let workshop = Workshop::new();
    let variables =
        [("MILLSTREAM__SERVE__ADDRESS", "127.0.0.1:0"), ("MILLSTREAM__SERVE__MODELS", "[\"lateness@latest\"]")];
    let daemon = Daemon::start_with(&workshop, &[&variables[..], &[("MILLSTREAM__SERVE__FOLLOW", "50ms")]].concat());
    // The daemon has said where before it said that it was ready: it is found among what its metrics know of it.
    let token = token(&workshop, "viewer");
    let address = address_of(&daemon);
    let bearer = format!("authorization: Bearer {token}\r\n");
    let mut connection = Connection::to(&address);
    connection.ask("GET", "/v2/health/ready", "", b"").is(503);
    connection.ask("POST", PREDICT, &bearer, rows(6.0).to_string().as_bytes()).is(404);
    daemon.put("learn", &learns(&workshop, "rows"), &[NEW]).is(201);
    while connection.ask("GET", "/readyz", "", b"").status != 200 {
        std::thread::sleep(Duration::from_millis(20));
    }
    let answer = connection.ask("POST", PREDICT, &bearer, rows(6.0).to_string().as_bytes()).is(200).body;
    assert_eq!(answer["predictions"][0]["prediction"], true, "{answer}");
    daemon.stop();
}

/// Where a daemon serves.
pub fn address_of(daemon: &Daemon) -> String {
    let line = daemon.earlier.iter().find(|line| line.contains("serving `")).expect("it serves");
    line.rsplit('`').nth(1).unwrap().to_owned()
}
