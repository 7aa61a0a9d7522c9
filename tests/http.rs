//! A flow that asks a service for records, with the real binary: it is killed, and the service fails and goes away meanwhile.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::millstream::{Running, Workshop};

/// A service whose records are numbers from 0 on, of which there are more and more. Pages have 7 of them.
struct Service {
    address: String,
    /// How many records there are.
    records: Arc<AtomicUsize>,
    /// How many requests have come.
    requests: Arc<AtomicUsize>,
}

impl Service {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let service = Self { address, records: Arc::default(), requests: Arc::default() };
        let (records, requests) = (service.records.clone(), service.requests.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let number = requests.fetch_add(1, Ordering::SeqCst);
                // A client that was killed is no matter.
                let _ = answer(stream.unwrap(), number, records.load(Ordering::SeqCst));
            }
        });
        service
    }
}

/// Answers a request. Every fifth is refused for a while, and every seventh gets half an answer.
fn answer(mut stream: TcpStream, number: usize, records: usize) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut header = String::new();
    while reader.read_line(&mut header)? > 2 {
        header.clear();
    }
    let parameter = |name: &str| -> Option<usize> {
        let rest = line.split_once(&format!("{name}="))?.1;
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    };
    let since = parameter("since").unwrap_or(0);
    let from = parameter("after").map_or(since, |after| after + 1);
    let page: Vec<_> = (from..records.min(from + 7)).map(|id| format!("{{ \"id\": {id} }}")).collect();
    let next = if from + 7 < records { (from + 6).to_string() } else { "null".to_owned() };
    let body = format!("{{ \"data\": [{}], \"next\": {next} }}", page.join(", "));
    let (status, sent) = match number {
        number if number % 5 == 4 => ("503 Service Unavailable", ""),
        number if number % 7 == 6 => ("200 OK", &body[..body.len() / 2]),
        _ => ("200 OK", &*body),
    };
    let length = if status.starts_with("200") { body.len() } else { 0 };
    write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{sent}")?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let _ = reader.read(&mut [0]);
    Ok(())
}

const FLOW: &str = r#"
    [flow]
    epoch = { rows = 50, interval = "20ms" }
    [checkpoint]
    interval = "50ms"
    [connection.shop]
    type = "http"
    url = "${SERVICE}"
    retry = { first_pause = "1ms", longest_pause = "10ms" }
    [input.rows]
    type = "http_poll"
    connection = "shop"
    path = "orders"
    records = "$.data"
    schema = { id = "int64" }
    pages = { type = "cursor", parameter = "after", next = "$.next" }
    since = { field = "$.id", parameter = "since", kind = "number" }
    every = "20ms"
    [output.out]
    type = "file"
    from = "rows"
    path = "out"
    format = "ndjson"
    rows = 100
    every = "50ms"
"#;

fn start(workshop: &Workshop, service: &Service) -> Running {
    let mut command = workshop.command(&["run", "--json", "flow.toml", "--state", "state"]);
    Running::start(command.env("SERVICE", &service.address).stdout(Stdio::piped()))
}

/// The numbers that are visible, sorted.
fn ids(workshop: &Workshop) -> Vec<usize> {
    let names = workshop.list("out").into_iter().filter(|name| !name.starts_with('.'));
    let ids = |name: String| {
        let text = workshop.read(&format!("out/{name}"));
        let id = |line: &str| serde_json::from_str::<Value>(line).unwrap()["id"].as_u64().unwrap() as usize;
        text.lines().map(id).collect::<Vec<_>>()
    };
    let mut ids: Vec<_> = names.flat_map(ids).collect();
    ids.sort_unstable();
    ids
}

fn wait_for(workshop: &Workshop, rows: usize) {
    let begin = Instant::now();
    while ids(workshop).len() < rows {
        assert!(begin.elapsed() < Duration::from_secs(60), "{} of {rows} rows are visible", ids(workshop).len());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn each_record_counts_once_when_the_flow_is_killed() {
    let (workshop, service) = (Workshop::new(), Service::start());
    workshop.write("flow.toml", FLOW);
    for round in 1..=20 {
        service.records.fetch_add(100, Ordering::SeqCst);
        let mut running = start(&workshop, &service);
        // It is killed at some moment between its first request and after its last checkpoint.
        let before = service.requests.load(Ordering::SeqCst);
        while service.requests.load(Ordering::SeqCst) < before + round && !running.has_ended() {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(round as u64 * 7));
        drop(running);
    }
    let running = start(&workshop, &service);
    wait_for(&workshop, 2000);
    service.records.fetch_add(50, Ordering::SeqCst);
    wait_for(&workshop, 2050);
    running.stop();
    assert_eq!(ids(&workshop), (0..2050).collect::<Vec<_>>());
}

#[test]
fn a_state_elsewhere_is_refused_before_anything_runs() {
    let (workshop, service) = (Workshop::new(), Service::start());
    workshop.write("flow.toml", FLOW);
    for command in ["run", "check"] {
        let mut command = workshop.command(&[command, "flow.toml", "--state", "s3://nowhere/state"]);
        let ran: crate::millstream::Ran = command.env("SERVICE", &service.address).output().unwrap().into();
        let says = "input `rows` keeps what it has asked for in a log until a checkpoint covers it, and so needs a state on this machine";
        assert!(ran.code != 0 && ran.stderr.contains(says), "{}{}", ran.stdout, ran.stderr);
    }
    assert_eq!(service.requests.load(Ordering::SeqCst), 0);
}

#[test]
fn a_bounded_run_goes_on_where_the_one_before_has_ended() {
    let (workshop, service) = (Workshop::new(), Service::start());
    workshop.write("flow.toml", &FLOW.replace("every = \"20ms\"", "bounded = true"));
    for round in 1..=3 {
        service.records.fetch_add(30, Ordering::SeqCst);
        let mut command = workshop.command(&["run", "--json", "flow.toml", "--state", "state"]);
        let ran: crate::millstream::Ran = command.env("SERVICE", &service.address).output().unwrap().into();
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert_eq!(ids(&workshop), (0..round * 30).collect::<Vec<_>>());
    }
    let mut command = workshop.command(&["check", "--connect", "flow.toml"]);
    let ran: crate::millstream::Ran = command.env("SERVICE", format!("{}/x", service.address)).output().unwrap().into();
    assert!(ran.code == 0 || ran.stderr.contains("503"), "{}", ran.stderr);
}
