//! Predictions that are labelled by their ids while the server and the flow that learns from them are killed: each label trains once, and what was learned is served.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::daemons::{Daemon, NEW};
use crate::millstream::{Running, Workshop, project};
use crate::serving::{Log, address_of};

/// How long something may take on a machine that has much to do.
const PATIENCE: Duration = Duration::from_secs(120);

/// How many rows the model has learned of before anybody is asked.
const HISTORY: u64 = 50;

/// A server, and the flow that learns from what it is told. Each may be away.
struct Circle {
    workshop: Workshop,
    token: String,
    flow: Option<Running>,
    server: Option<(Running, Log, String)>,
}

impl Circle {
    fn start() -> Self {
        let workshop = Workshop::new();
        workshop.write("flow.toml", &flow());
        workshop.write("serve.toml", "[serve]\naddress = '127.0.0.1:0'\nfollow = '50ms'\n");
        let made = workshop.run(&["token", "create", "--name", "me", "--role", "operator"]);
        assert_eq!(made.code, 0, "{}", made.stderr);
        let token = made.stdout.trim().to_owned();
        let mut circle = Self { workshop, token, flow: None, server: None };
        circle.start_flow();
        circle.wait_for_rows(HISTORY);
        circle.start_server();
        circle
    }

    fn start_flow(&mut self) {
        let sets = [
            &*format!("input.history.rows={HISTORY}"),
            "processor.learned.publish={ rows = 1 }",
            "checkpoint.interval=100ms",
            "flow.epoch.interval=20ms",
        ];
        let mut command = self.workshop.command(&["run", "--json", "flow.toml", "--state", "state"]);
        sets.iter().for_each(|set| _ = command.args(["--set", set]));
        self.flow = Some(Running::start(command.stdout(Stdio::piped())));
    }

    fn start_server(&mut self) {
        let arguments = ["serve", "card_fraud@latest", "--log", "requests", "--config", "serve.toml"];
        let mut running = Running::start(&mut self.workshop.command(&arguments));
        let log = Log::of(&mut running);
        let address = log.address("serving `");
        self.server = Some((running, log, address));
    }

    /// Waits until the newest version has learned of so many rows, and not of more. Returns its number.
    fn wait_for_rows(&mut self, rows: u64) -> u64 {
        let begin = Instant::now();
        loop {
            if let Some((version, learned)) = newest(&self.workshop).filter(|(_, learned)| *learned >= rows) {
                assert_eq!(learned, rows, "a label has trained twice");
                return version;
            }
            let flow = self.flow.as_mut().unwrap();
            assert!(!flow.has_ended(), "{}", flow.last_words());
            assert!(begin.elapsed() < PATIENCE, "{:?} of {rows} rows", newest(&self.workshop));
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Who asks the server that is there.
    fn client(&self) -> Client {
        let (.., address) = self.server.as_ref().unwrap();
        Client { address: address.clone(), token: self.token.clone() }
    }

    fn predict(&self, count: usize) -> (Vec<String>, u64) {
        self.client().predict(count)
    }

    fn learn(&self, ids: &[String]) -> Value {
        self.client().learn(ids).unwrap()
    }
}

/// The newest version, and how many rows it has learned of.
fn newest(workshop: &Workshop) -> Option<(u64, u64)> {
    let folder = "models/card_fraud/versions";
    let name = workshop.exists(folder).then(|| workshop.list(folder).pop())??;
    let card = format!("{folder}/{name}/card.json");
    let card: Value = workshop.exists(&card).then(|| serde_json::from_str(&workshop.read(&card)).unwrap())?;
    Some((name.parse().unwrap(), card["rows"].as_u64().unwrap()))
}

/// The flow of the library, which reads the log of the server beside it.
fn flow() -> String {
    std::fs::read_to_string(project().join("flows/learn_from_served.toml")).unwrap()
}

/// Who asks a server, and says what became of it.
struct Client {
    address: String,
    token: String,
}

impl Client {
    /// An answer of the server. None if it was killed before it answered.
    fn post(&self, path: &str, body: &Value) -> Option<(u16, Value)> {
        let (address, body) = (&self.address, body.to_string());
        let head = format!(
            "POST /api/v1/models/card_fraud/{path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            self.token,
            body.len()
        );
        let mut stream = TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all((head + &body).as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, serde_json::from_str(body).ok()?))
    }

    /// The ids of payments that are predicted, and the version that has predicted them.
    fn predict(&self, count: usize) -> (Vec<String>, u64) {
        let rows: Vec<_> = (0..count).map(|n| json!({ "shop": "games", "amount": n as f64 + 0.1 })).collect();
        let (status, answer) = self.post("predict", &json!({ "rows": rows })).unwrap();
        assert_eq!(status, 200, "{answer}");
        (serde_json::from_value(answer["ids"].clone()).unwrap(), answer["version"].as_u64().unwrap())
    }

    fn learn(&self, ids: &[String]) -> Option<Value> {
        let rows: Vec<_> = ids.iter().map(|id| json!({ "id": id, "label": true })).collect();
        let (status, answer) = self.post("learn", &json!({ "rows": rows }))?;
        assert_eq!(status, 200, "{answer}");
        Some(answer)
    }
}

#[test]
fn labels_train_once_whoever_is_killed_and_what_was_learned_is_served() {
    let mut circle = Circle::start();
    let mut told = HISTORY;
    for round in 0..6 {
        let (ids, _) = circle.predict(10);
        let (now, later) = ids.split_at(5);
        assert_eq!(circle.learn(now)["rows"], 5);
        told += 5;
        // Labels outlive a server that is killed behind its answer, and one that is killed before.
        if round % 2 == 0 {
            circle.server = None;
            circle.start_server();
        }
        if round % 3 != 1 {
            circle.flow = None;
            circle.start_flow();
        }
        let answer = circle.learn(&ids);
        assert_eq!((&answer["rows"], &answer["known"]), (&json!(later.len()), &json!(now.len())));
        told += 5;
    }
    circle.wait_for_rows(told);
    // A request that is cut off by a kill is sent again: whether its labels were taken or not, they count once.
    let (ids, _) = circle.predict(200);
    for (turn, some) in ids.chunks(50).enumerate() {
        let pid = circle.server.as_mut().unwrap().0.id().to_string();
        std::thread::scope(|scope| {
            let client = circle.client();
            scope.spawn(move || some.chunks(5).all(|few| client.learn(few).is_some()));
            std::thread::sleep(Duration::from_millis(7 * turn as u64));
            assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
        });
        circle.server = None;
        circle.start_server();
        circle.learn(some);
    }
    told += 200;
    let version = circle.wait_for_rows(told);
    let published = Instant::now();
    while circle.predict(1).1 < version {
        assert!(published.elapsed() < PATIENCE);
    }
    // Whatever else was to come would have come before this one.
    let (ids, _) = circle.predict(1);
    circle.learn(&ids);
    circle.wait_for_rows(told + 1);
}

/// All in one process: the flow, what it has learned, the log, and the labels, while the process is killed.
#[test]
fn a_daemon_learns_from_the_labels_of_what_it_serves() {
    let workshop = Workshop::new();
    let variables = [
        ("MILLSTREAM__SERVE__ADDRESS", "127.0.0.1:0"),
        ("MILLSTREAM__SERVE__MODELS", "[\"card_fraud@latest\"]"),
        ("MILLSTREAM__SERVE__FOLLOW", "50ms"),
        ("MILLSTREAM__SERVE__LOG__PATH", "requests"),
    ];
    let small =
        flow().replace("rows = 5000", "rows = 50").replace("publish = { rows = 100 }", "publish = { rows = 1 }");
    let quick = small.replace("interval = \"5s\"", "interval = \"100ms\"\n[flow.epoch]\ninterval = \"20ms\"");
    let mut daemon = Daemon::start_with(&workshop, &variables);
    daemon.put("learn_from_served", &quick, &[NEW]).is(201);
    let token = workshop.run(&["token", "create", "--name", "me", "--role", "operator"]).stdout.trim().to_owned();
    let learned = |rows: u64| {
        let begin = Instant::now();
        while newest(&workshop).is_none_or(|(_, learned)| learned < rows) {
            assert!(begin.elapsed() < PATIENCE, "{:?} of {rows} rows", newest(&workshop));
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(newest(&workshop).unwrap().1, rows, "a label has trained twice");
    };
    let client = |daemon: &Daemon| Client { address: address_of(daemon), token: token.clone() };
    learned(HISTORY);
    // The server may not have seen it yet.
    while client(&daemon).post("predict", &json!({ "rows": [] })).is_none_or(|(status, _)| status == 404) {
        std::thread::sleep(Duration::from_millis(20));
    }
    for round in 1..4 {
        let (ids, _) = client(&daemon).predict(10);
        assert_eq!(client(&daemon).learn(&ids[..5]).unwrap()["rows"], 5);
        daemon.kill();
        daemon = Daemon::start_with(&workshop, &variables);
        let answer = client(&daemon).learn(&ids).unwrap();
        assert_eq!((&answer["rows"], &answer["known"]), (&json!(5), &json!(5)));
        learned(HISTORY + 10 * round);
    }
    daemon.stop();
}

#[test]
fn who_may_only_ask_may_not_teach() {
    let mut circle = Circle::start();
    let made = circle.workshop.run(&["token", "create", "--name", "guest", "--role", "viewer"]);
    let (ids, _) = circle.predict(1);
    let operator = std::mem::replace(&mut circle.token, made.stdout.trim().to_owned());
    circle.predict(1);
    let body = json!({ "rows": [{ "id": ids[0], "label": true }] });
    assert_eq!(circle.client().post("learn", &body).unwrap().0, 403);
    circle.token = operator;
    assert_eq!(circle.client().post("learn", &body).unwrap().0, 200);
    let folder = circle.workshop.path("requests");
    let mode = |path: &std::path::Path| {
        std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions()) & 0o777
    };
    assert_eq!(mode(&folder), 0o700);
    for file in std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()) {
        assert_eq!(mode(&file) & 0o077, 0, "{}", file.display());
    }
}
