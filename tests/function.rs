//! `millstream function`: models and flows as platforms for functions start, ask and end them.

use std::process::Command;

use millstream_testkit::free_port;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::millstream::{Ran, Running, Workshop, project};
use crate::serving::{Connection, INFER, Log, learned, rows, tensors};

/// A function that listens at a port of its own.
struct Function {
    running: Running,
    address: String,
    _log: Log,
}

impl Function {
    fn start(command: &mut Command) -> Self {
        let mut running = Running::start(command.args(["--address", "127.0.0.1:0"]));
        let log = Log::of(&mut running);
        Self { running, address: log.address("listens on `"), _log: log }
    }

    fn connect(&self) -> Connection {
        Connection::to(&self.address)
    }

    /// Tells it to end, without waiting for that.
    fn tell_to_end(&mut self) {
        let process = Pid::from_raw(i32::try_from(self.running.id()).unwrap()).unwrap();
        kill_process(process, Signal::TERM).unwrap();
    }
}

/// A request whose body is on its way.
fn begin(function: &Function, path: &str, body: &str) -> Connection {
    let mut connection = function.connect();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: f\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    connection.send(head.as_bytes());
    connection
}

#[test]
fn a_model_is_a_function() {
    let workshop = Workshop::new();
    learned(&workshop);
    let metrics_port = free_port().to_string();
    let mut command = workshop.command(&["function", "lateness", "--metrics-port", &metrics_port]);
    let function = Function::start(&mut command);
    let mut connection = function.connect();
    assert_eq!(connection.ask("GET", "/_/health", "", b"").is(200).text, "OK\n");
    connection.ask("GET", "/_/ready", "", b"").is(200);
    let predicted = connection.ask("POST", "/", "", rows(6.0).to_string().as_bytes()).is(200);
    assert_eq!(predicted.body["predictions"][0]["prediction"], true, "{predicted:?}");
    assert!(predicted.head.contains("x-duration-seconds: 0."), "{predicted:?}");
    connection.ask("POST", INFER, "", tensors(6.0).to_string().as_bytes()).is(200);
    connection.ask("POST", "/", "", b"{}").is(400);
    connection.ask("POST", "/v2/repository/models/lateness/unload", "", b"").is(404);
    // Nor does it show what else is in the registry.
    connection.ask("POST", "/v2/repository/index", "", b"{}").is(404);
    connection.ask("GET", "/api/2.0/mlflow-artifacts/artifacts/lateness/1/model.safetensors", "", b"").is(404);

    // HTTP/2 on the same port, as clients begin it who know of it: a frame of settings is answered by one.
    let mut second = function.connect();
    second.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    assert_eq!(second.receive::<9>()[3], 4);

    let mut metrics = Connection::to(&format!("127.0.0.1:{metrics_port}"));
    let metrics = metrics.ask("GET", "/metrics", "", b"").is(200).text;
    for line in [
        r#"http_requests_total{method="POST",code="200"} 2"#,
        r#"http_requests_total{method="POST",code="400"} 1"#,
        "http_requests_in_flight 0",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    function.running.stop();
}

#[test]
fn a_function_takes_no_more_than_it_may_and_answers_what_was_asked_before_it_ends() {
    let workshop = Workshop::new();
    learned(&workshop);
    let mut command = workshop.command(&["function", "lateness", "--registry", "models"]);
    // As platforms say it: as variables, times as numbers of seconds.
    let mut function = Function::start(command.env("max_inflight", "1").env("write_timeout", "600"));
    let body = rows(6.0).to_string();
    let mut first = begin(&function, "/", &body);
    let mut other = function.connect();
    while other.ask("GET", "/_/ready", "", b"").status != 429 {}
    let refused = other.ask("POST", "/", "", body.as_bytes()).is(429);
    assert!(refused.head.contains("retry-after: 1"), "{refused:?}");
    other.ask("GET", "/_/health", "", b"").is(200);
    other.ask("GET", "/readyz", "", b"").is(200);

    function.tell_to_end();
    while other.ask("GET", "/_/health", "", b"").status != 503 {}
    first.send(body.as_bytes());
    first.answer().is(200);
    assert_eq!(function.running.wait().code, 0);
}

#[test]
fn a_flow_is_a_function_whose_inputs_have_a_path_each() {
    let workshop = Workshop::new();
    let flow = std::fs::read_to_string(project().join("flows/ask_and_learn.toml")).unwrap();
    workshop.write("flow.toml", &flow);
    std::fs::create_dir(workshop.path("temporary")).unwrap();
    let mut command = workshop.command(&["function", "flow.toml", "--set", "input.payments.respond.timeout=120s"]);
    // Not as variables: what they have in common with the address that the test reads would be hidden there.
    for input in ["payments", "labels"] {
        command.args(["--set", &format!("input.{input}.address=127.0.0.1:{}", free_port())]);
    }
    command.env("TMPDIR", workshop.path("temporary"));
    let function = Function::start(&mut command);
    let mut connection = function.connect();
    let payment = json!({"at": "2026-01-31T12:00:00Z", "card": "a", "amount": 20.0}).to_string();
    let json = "content-type: application/json\r\n";
    for count in 1..4 {
        let asked = connection.ask("POST", "/payments?any=1", json, payment.as_bytes()).is(200).body;
        assert_eq!(asked["answers"][0]["payments_in_an_hour"], count, "{asked}");
    }
    let label = json!({"request": 0, "known_at": "2026-01-31T12:20:00Z", "fraud": true}).to_string();
    assert_eq!(connection.ask("POST", "/labels", json, label.as_bytes()).is(200).body["rows"], 1);
    let missing = connection.ask("POST", "/other", json, b"{}").is(404).body;
    assert_eq!(missing["error"], "rows are taken at `/payments`, `/labels`");
    connection.ask("POST", "/payments", json, b"[").is(400);
    connection.ask("GET", "/payments", "", b"").is(405);
    let mut broken = function.connect();
    broken.send(b"POST /payments HTTP/1.1\r\nhost: f\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n");
    broken.answer().is(400);
    function.running.stop();
    assert!(workshop.list("temporary").is_empty(), "{:?}", workshop.list("temporary"));
}

#[test]
fn what_can_not_be_a_function_is_said() {
    let workshop = Workshop::new();
    let flow = |name: &str, settings: &str| {
        let input = format!("type = \"http_listen\"\nformat = \"ndjson\"\nschema = {{ a = \"int64\" }}\n{settings}");
        let file = format!(
            "[flow]\nname = \"f\"\non_error = \"drop\"\n[input.a]\n{input}\n[output.c]\ntype = \"drop\"\nfrom = [\"a\"]\n"
        );
        workshop.write(name, &file);
    };
    let refused = |target: &str, code: i32, words: &str| {
        let ran = workshop.run(&["function", target, "--address", "127.0.0.1:0"]);
        assert!(ran.code == code && ran.stderr.contains(words), "{}: {}", ran.code, ran.stderr);
    };
    let twice = "[input.b]\ntype = \"http_listen\"\naddress = \"127.0.0.1:8401\"\nformat = \"ndjson\"\nschema = { a = \"int64\" }";
    flow("twice.toml", twice);
    refused("twice.toml", 2, "input `b` of flow `f` takes rows at the path `/`, as another one does");
    workshop.write("file.toml", "[flow]\nname = \"f\"\n[input.a]\ntype = \"generate\"\ncolumns = { a = \"1\" }\nrows = 1\n[output.c]\ntype = \"drop\"\nfrom = \"a\"\n");
    refused("file.toml", 2, "has no input that takes rows by HTTP");
    flow("anywhere.toml", "address = \"127.0.0.1:0\"\n");
    refused("anywhere.toml", 2, "listens at any port");
    flow("files.toml", "[output.kept]\ntype = \"file\"\nfrom = \"a\"\npath = \"kept.ndjson\"\n");
    refused("files.toml", 2, "output `kept` of flow `f` publishes files");
    let misplaced = workshop.run(&["function", "files.toml", "--registry", "models"]);
    assert!(misplaced.code == 2 && misplaced.stderr.contains("`--registry` is for a model"), "{}", misplaced.stderr);
    refused("missing.toml", 2, "missing.toml");
    refused("missing", 1, "missing");
}

#[test]
fn a_variable_that_is_wrong_is_called_by_its_name() {
    let workshop = Workshop::new();
    let ask = |arguments: &[&str], name: &str, value: &str| {
        Ran::from(workshop.command(&[&["function", "fraud"], arguments].concat()).env(name, value).output().unwrap())
    };
    for (name, value) in [("max_inflight", "lots"), ("write_timeout", ""), ("PORT", "99999")] {
        let ran = ask(&[], name, value);
        let option = format!("--{}", name.to_lowercase().replace('_', "-"));
        assert!(ran.code == 2 && ran.stderr.contains(&format!("variable {name}")), "{}", ran.stderr);
        assert!(!ran.stderr.contains(&option), "{}", ran.stderr);
    }
    let listed = Ran::from(workshop.command(&["flows", "list"]).env("MILLSTREAM_URL", "").output().unwrap());
    assert!(listed.code == 2 && listed.stderr.contains("the variable MILLSTREAM_URL"), "{}", listed.stderr);
    let said = ask(&["--max-inflight", "lots"], "max_inflight", "3");
    assert!(
        said.code == 2 && said.stderr.contains("--max-inflight") && !said.stderr.contains("variable"),
        "{}",
        said.stderr
    );
}
