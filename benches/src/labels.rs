//! Labels that are sent by the ids of predictions: how many a second are durable, and how long it takes until what was learned of one is served.

use std::io::{BufReader, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use millstream_core::{Error, Result, ResultExt as _};
use serde_json::{Value, json};

use crate::ingest::{connect, read_body};
use crate::measurement::{Goal, Measurement, quantile};
use crate::place;
use crate::serving::{Server, millstream};

/// How many clients send labels, each one request after the other.
const CLIENTS: usize = 8;

/// How many labels a request has.
const LABELS: usize = 100;

/// How many labels each client sends.
const EACH: usize = 20_000;

/// How often a label is followed until it is served.
const FOLLOWED: usize = 20;

/// The most that may pass until a version is there that has learned a label.
const PATIENCE: Duration = Duration::from_secs(60);

/// Measures both, by the flow of the library.
pub fn measure(folder: &Path) -> Result<Vec<Measurement>> {
    let flow = learn(folder)?;
    let token = operator(folder)?;
    let server = Server::start(folder, &["card_fraud@latest", "--log", "requests", "--config", "serve.toml"])?;
    let followed: Result<Vec<f64>> = (0..FOLLOWED).map(|_| follow(&server.address, &token)).collect();
    let slowest = quantile(followed?, 0.5);
    drop(flow);
    let labels = durable(&server.address, &token)?;
    let name = |what: &str| format!("serving: {what}");
    Ok(vec![
        Measurement::new(name("durable labels, 100 a request, 8 clients"), "labels/s", labels, Goal::AtLeast(20e3)),
        Measurement::new(
            name("from a label to a prediction by what was learned of it, 50 of 100"),
            "s",
            slowest,
            Goal::AtMost(1.0),
        ),
    ])
}

/// The flow that learns, which publishes at every barrier at which there is something new; and settings for a server that looks as often.
fn learn(folder: &Path) -> Result<Server> {
    std::fs::write(folder.join("serve.toml"), "[serve]\nfollow = \"100ms\"\n")?;
    let sets = [
        "input.history.rows=200",
        "processor.learned.publish={ rows = 1 }",
        "checkpoint.interval=100ms",
        "flow.epoch.interval=50ms",
    ];
    let sets = sets.map(str::to_owned);
    let flow = place::root().join("flows/learn_from_served.toml");
    let mut command = place::millstream_run(folder, &flow, &sets)?;
    command.args(["--state", "labels"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().doing(|| "starting the program")?;
    let flow = Server { child, address: String::new() };
    let begin = Instant::now();
    while !folder.join("models/card_fraud/versions").exists() {
        if begin.elapsed() > PATIENCE {
            return Err(Error::new("the flow has not published a model"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(flow)
}

fn operator(folder: &Path) -> Result<String> {
    let made = millstream(folder)?
        .args(["token", "create", "--name", "bench", "--role", "operator"])
        .stdout(Stdio::piped())
        .output()?;
    Ok(String::from_utf8_lossy(&made.stdout).trim().to_owned())
}

/// In how many seconds a label is learned and served, from when it is sent.
fn follow(address: &str, token: &str) -> Result<f64> {
    let mut client = Client::new(address, token)?;
    let ids = client.predict(1)?;
    let before = client.version;
    let begin = Instant::now();
    client.label(&ids)?;
    while client.version == before {
        client.predict(1)?;
        if begin.elapsed() > PATIENCE {
            return Err(Error::new("what was learned of a label is not served"));
        }
    }
    Ok(begin.elapsed().as_secs_f64())
}

/// How many labels a second are durable.
fn durable(address: &str, token: &str) -> Result<f64> {
    let clients = (0..CLIENTS).map(|_| {
        let mut client = Client::new(address, token)?;
        let ids: Result<Vec<_>> = (0..EACH / LABELS).map(|_| client.predict(LABELS)).collect();
        Ok((client, ids?))
    });
    let clients: Vec<(Client, Vec<Vec<String>>)> = clients.collect::<Result<_>>()?;
    let begin = Instant::now();
    std::thread::scope(|scope| {
        let send = |(mut client, ids): (Client, Vec<Vec<String>>)| {
            scope.spawn(move || ids.iter().try_for_each(|ids| client.label(ids)))
        };
        let sending: Vec<_> = clients.into_iter().map(send).collect();
        sending.into_iter().try_for_each(|sent| sent.join().unwrap_or_else(|_| Err(Error::new("a client died"))))
    })?;
    Ok((CLIENTS * EACH) as f64 / begin.elapsed().as_secs_f64())
}

/// One who asks, and says what became of it.
struct Client {
    stream: BufReader<TcpStream>,
    head: String,
    /// Which version has answered last.
    version: u64,
}

impl Client {
    fn new(address: &str, token: &str) -> Result<Self> {
        let stream = connect(address)?;
        stream.set_nodelay(true)?;
        let head = format!("Host: {address}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n");
        Ok(Self { stream: BufReader::new(stream), head, version: 0 })
    }

    /// The ids of so many predictions.
    fn predict(&mut self, rows: usize) -> Result<Vec<String>> {
        let rows: Vec<_> = (0..rows).map(|row| json!({ "shop": "games", "amount": row as f64 + 0.5 })).collect();
        let answer = self.post("predict", &json!({ "rows": rows }))?;
        self.version = answer["version"].as_u64().unwrap_or_default();
        serde_json::from_value(answer["ids"].clone()).doing(|| "reading ids")
    }

    fn label(&mut self, ids: &[String]) -> Result<()> {
        let rows: Vec<_> = ids.iter().map(|id| json!({ "id": id, "label": true })).collect();
        self.post("learn", &json!({ "rows": rows })).map(drop)
    }

    fn post(&mut self, path: &str, body: &Value) -> Result<Value> {
        let (head, body) = (&self.head, body.to_string());
        let line = format!("POST /api/v1/models/card_fraud/{path} HTTP/1.1\r\nContent-Length: {}\r\n", body.len());
        self.stream.get_mut().write_all(format!("{line}{head}\r\n{body}").as_bytes())?;
        serde_json::from_slice(&read_body(&mut self.stream)?).doing(|| "reading an answer")
    }
}
