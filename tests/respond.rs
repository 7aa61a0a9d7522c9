//! Requests that a flow answers, and labels that name them: each counts once, whatever happens to the process.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use millstream_testkit::free_port;
use serde_json::{Value, json};

use crate::millstream::{Running, Workshop, project};

/// How long something may take on a machine that has much to do.
const PATIENCE: Duration = Duration::from_secs(120);

/// The flow of the library that is asked and learns.
struct Flow {
    workshop: Workshop,
    ports: [u16; 2],
    running: Option<Running>,
}

impl Flow {
    fn start() -> Self {
        let workshop = Workshop::new();
        let flow = std::fs::read_to_string(project().join("flows/ask_and_learn.toml")).unwrap();
        workshop.write("flow.toml", &flow);
        let ports = [free_port(), free_port()];
        let running = Some(Self::run(&workshop, ports));
        Self { workshop, ports, running }
    }

    fn run(workshop: &Workshop, [payments, labels]: [u16; 2]) -> Running {
        let sets = ["input.payments.respond.timeout=120s", "checkpoint.interval=200ms", "flow.epoch.interval=50ms"];
        let mut command = workshop.command(&["run", "--json", "flow.toml", "--state", "state"]);
        sets.iter().for_each(|set| _ = command.args(["--set", set]));
        command.env("PAYMENTS", format!("127.0.0.1:{payments}")).env("LABELS", format!("127.0.0.1:{labels}"));
        Running::start(command.stdout(Stdio::piped()))
    }

    /// Ends it at once, and starts it again.
    fn kill(&mut self) {
        self.running = None;
        self.running = Some(Self::run(&self.workshop, self.ports));
    }

    fn wait_longer(&mut self, begin: Instant, error: &std::io::Error) {
        let running = self.running.as_mut().unwrap();
        assert!(!running.has_ended(), "{}", running.last_words());
        assert!(begin.elapsed() < PATIENCE, "{error}");
        std::thread::sleep(Duration::from_millis(20));
    }

    /// Sends rows until somebody listens, and waits for the answer. None if the connection is cut.
    fn post(&mut self, port: u16, path: &str, key: &str, rows: &Value) -> Option<(u16, Value)> {
        let body = rows.to_string();
        let begin = Instant::now();
        let mut stream = loop {
            match TcpStream::connect(("127.0.0.1", port)) {
                Ok(stream) => break stream,
                Err(error) => self.wait_longer(begin, &error),
            }
        };
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Idempotency-Key: {key}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(format!("{head}{body}").as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let status = answer.split(' ').nth(1)?.parse().ok()?;
        Some((status, serde_json::from_str(answer.lines().last()?).ok()?))
    }

    fn pay(&mut self, key: &str, rows: &Value) -> Value {
        let (status, said) = self.post(self.ports[0], "/payments", key, rows).unwrap();
        assert_eq!(status, 200, "{said}");
        said
    }

    fn label(&mut self, key: &str, rows: &Value) {
        let (status, said) = self.post(self.ports[1], "/labels", key, rows).unwrap();
        assert_eq!(status, 200, "{said}");
    }
}

fn payment(minute: usize, card: &str, amount: f64) -> Value {
    json!({"at": format!("2026-01-31T12:{minute:02}:00Z"), "card": card, "amount": amount})
}

/// Payments of which those of large amounts are frauds.
fn amount(row: u64) -> f64 {
    if row.is_multiple_of(3) { 900.0 + row as f64 } else { 10.0 + row as f64 / 10.0 }
}

/// What the model of a stopped flow has learned.
fn learned(said: &Value) -> u64 {
    said["nodes"]["learned"]["rows_in"].as_u64().unwrap_or_else(|| panic!("{said}"))
}

#[test]
fn a_flow_is_asked_and_learns_by_the_numbers_of_requests_through_kills() {
    let mut flow = Flow::start();
    let first = json!([payment(0, "a", 20.0), payment(1, "b", 30.0), payment(2, "a", 60.0)]);
    let asked = flow.pay("first", &first);
    let counts: Vec<_> = (0..3).map(|row| asked["answers"][row]["payments_in_an_hour"].clone()).collect();
    assert_eq!((&asked["first"], counts), (&json!(0), vec![json!(1), json!(1), json!(2)]), "{asked}");
    assert!(asked["answers"][0].get("request").is_none() && asked["answers"][0].get("fraud").is_none(), "{asked}");

    // 300 payments, and what became of each.
    let rows: Vec<_> = (3..303).map(|row| payment(3, "c", amount(row))).collect();
    let asked = flow.pay("many", &json!(rows));
    assert_eq!((&asked["first"], asked["answers"].as_array().unwrap().len()), (&json!(3), 300));
    flow.kill();
    let labels = |rows: std::ops::Range<u64>| {
        let label =
            |row: u64| json!({"request": row, "known_at": "2026-01-31T12:20:00Z", "fraud": row.is_multiple_of(3)});
        json!(rows.map(label).collect::<Vec<_>>())
    };
    flow.label("one half", &labels(3..153));
    flow.kill();
    flow.label("one half", &labels(3..153));
    flow.label("the other", &labels(153..303));

    // Labels wait until payments have come as far in time, and versions come with barriers.
    let begin = Instant::now();
    let mut known = 3;
    let judged = loop {
        let judged = flow.pay(&format!("judged {known}"), &json!([payment(40, "d", 950.0), payment(40, "e", 12.0)]));
        known += 2;
        if judged["answers"][0]["fraud"] == true && judged["answers"][1]["fraud"] == false {
            break judged;
        }
        assert!(begin.elapsed() < PATIENCE, "{judged}");
    };
    assert!(judged["answers"][0]["model_version"].as_str().unwrap().starts_with("payments#"), "{judged}");
    assert_eq!(judged["first"].as_u64(), Some(300 + known - 2));

    // What was counted before a kill is counted behind it, once.
    flow.kill();
    let again = flow.pay("again", &json!([payment(41, "a", 20.0)]));
    assert_eq!(again["answers"][0]["payments_in_an_hour"], 3, "{again}");
    let (status, said) = flow.post(flow.ports[0], "/payments", "first", &first).unwrap();
    assert!(matches!(status, 200 | 410) && said["first"] == 0, "{status}: {said}");
    let stopped = flow.running.take().unwrap().stop();
    assert_eq!(learned(&stopped.json()), 300, "{}", stopped.stdout);
}
