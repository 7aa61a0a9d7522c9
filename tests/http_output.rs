//! Flows that send rows over HTTP, with the real binary: they are killed, receivers fail, are slow, lose answers and go away meanwhile.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use millstream_store::crash;
use millstream_testkit::free_port;
use serde_json::Value;

use crate::millstream::{Ran, Running, Workshop};

/// What a receiver says to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Takes,
    /// It takes the rows, and the answer gets lost.
    LosesAnswer,
    Says(u16),
    IsSlow,
}

/// A service that takes requests with the same key once.
struct Receiver {
    port: u16,
    taken: Arc<Taken>,
}

#[derive(Default)]
struct Taken {
    /// The bodies, by keys.
    bodies: Mutex<BTreeMap<String, String>>,
    requests: AtomicUsize,
    /// How often a known key came with another body.
    differing: AtomicUsize,
}

impl Receiver {
    fn start(mood: impl Fn(usize) -> Mood + Send + Sync + 'static) -> Self {
        Self::start_on(TcpListener::bind("127.0.0.1:0").unwrap(), mood)
    }

    fn start_on(listener: TcpListener, mood: impl Fn(usize) -> Mood + Send + Sync + 'static) -> Self {
        let (port, taken) = (listener.local_addr().unwrap().port(), Arc::<Taken>::default());
        let (shared, mood) = (taken.clone(), Arc::new(mood));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (taken, mood) = (shared.clone(), mood.clone());
                // Who was killed is no matter.
                std::thread::spawn(move || serve(stream.unwrap(), &taken, &*mood));
            }
        });
        Self { port, taken }
    }

    fn address(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    fn requests(&self) -> usize {
        self.taken.requests.load(Ordering::SeqCst)
    }

    /// The numbers that have come, in the order of the keys.
    fn ids(&self) -> Vec<i64> {
        assert_eq!(self.taken.differing.load(Ordering::SeqCst), 0, "what comes again has the same bytes");
        let bodies = self.taken.bodies.lock().unwrap();
        let id = |line: &str| serde_json::from_str::<Value>(line).unwrap()["id"].as_i64().unwrap();
        bodies.values().flat_map(|body| body.lines().map(id).collect::<Vec<_>>()).collect()
    }

    fn has_all(&self, rows: i64) {
        let mut ids = self.ids();
        ids.sort_unstable();
        assert_eq!(ids.len() as i64, rows);
        let first = ids[0];
        assert_eq!(ids, (first..first + rows).collect::<Vec<_>>());
    }
}

/// Answers the requests of a connection.
fn serve(mut stream: TcpStream, taken: &Taken, mood: &(dyn Fn(usize) -> Mood + Send + Sync)) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    loop {
        let (mut length, mut key) = (0, String::new());
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            match line.split_once(": ") {
                Some(("content-length", value)) => length = value.parse().ok()?,
                Some(("idempotency-key", value)) => value.clone_into(&mut key),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let mood = mood(taken.requests.fetch_add(1, Ordering::SeqCst));
        let status = if let Mood::Says(status) = mood { status } else { 200 };
        if status == 200 {
            let body = String::from_utf8(body).unwrap();
            let mut bodies = taken.bodies.lock().unwrap();
            if *bodies.entry(key).or_insert_with(|| body.clone()) != body {
                taken.differing.fetch_add(1, Ordering::SeqCst);
            }
        }
        match mood {
            Mood::LosesAnswer => return None,
            Mood::IsSlow => std::thread::sleep(Duration::from_millis(60)),
            _ => {}
        }
        write!(stream, "HTTP/1.1 {status} x\r\nretry-after: 0\r\ncontent-length: 0\r\n\r\n").ok()?;
    }
}

const FLOW: &str = r#"
    [flow]
    epoch = { rows = 500, interval = "20ms" }
    [checkpoint]
    interval = "30ms"
    [input.numbers]
    type = "generate"
    rows = 4000
    rate = "8000/s"
    columns = { id = "row" }
    [output.sent]
    type = "http"
    from = "numbers"
    url = "${RECEIVER}"
    path = "rows"
    format = "ndjson"
    request_rows = 150
    retry = { first_pause = "1ms", longest_pause = "10ms" }
"#;

const ROWS: i64 = 4000;

fn command(workshop: &Workshop, address: &str) -> Command {
    let mut command = workshop.command(&["run", "--json", "flow.toml", "--state", "state"]);
    command.env("RECEIVER", address).stdout(Stdio::piped());
    command
}

fn run(workshop: &Workshop, address: &str) -> Ran {
    command(workshop, address).output().unwrap().into()
}

#[test]
fn each_row_is_delivered_once_wherever_the_flow_is_killed() {
    for (point, count, again) in [
        ("spool-sealed", 2, 0),
        ("spool-durable", 1, 0),
        ("before-manifest", 2, 0),
        ("after-manifest", 1, 0),
        ("before-commit", 2, 0),
        ("http-answered", 1, 1),
        ("http-answered", 7, 1),
        ("http-noted", 1, 0),
        ("http-noted", 7, 0),
        ("after-commit", 2, 0),
        ("marked-committed", 1, 0),
        ("spool-removed", 1, 0),
    ] {
        let (workshop, receiver) = (Workshop::new(), Receiver::start(|_| Mood::Takes));
        workshop.write("flow.toml", FLOW);
        let killed = command(&workshop, &receiver.address()).env(crash::VARIABLE, format!("{point}:{count}")).output();
        assert_eq!(killed.unwrap().status.code(), None, "{point}:{count} is reached");
        let ran = run(&workshop, &receiver.address());
        assert_eq!(ran.code, 0, "{point}: {}", ran.stderr);
        receiver.has_all(ROWS);
        let keys = receiver.taken.bodies.lock().unwrap().len();
        // The one that was under way when the flow died comes again, beside what the point makes certain.
        let repeated = receiver.requests() - keys;
        assert!((again..=1).contains(&repeated), "{point}:{count}: {repeated} requests came again");
    }
}

#[test]
fn each_row_is_delivered_once_when_all_goes_wrong() {
    let receiver = Receiver::start(|number| match number {
        number if number % 7 == 6 => Mood::LosesAnswer,
        number if number % 5 == 4 => Mood::Says(503),
        number if number % 11 == 10 => Mood::Says(429),
        number if number % 13 == 12 => Mood::Says(401),
        number if number % 17 == 16 => Mood::IsSlow,
        _ => Mood::Takes,
    });
    let workshop = Workshop::new();
    workshop.write("flow.toml", FLOW);
    for round in 1..=8 {
        let mut running = Running::start(&mut command(&workshop, &receiver.address()));
        let before = receiver.requests();
        while receiver.requests() < before + round && !running.has_ended() {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(round as u64 * 9));
        // It is killed.
        drop(running);
    }
    let ran = run(&workshop, &receiver.address());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    receiver.has_all(ROWS);
}

#[test]
fn rows_wait_for_a_receiver_that_is_away() {
    let reserved = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/", reserved.local_addr().unwrap());
    let port = reserved.local_addr().unwrap().port();
    drop(reserved);
    let workshop = Workshop::new();
    workshop.write("flow.toml", FLOW);
    let mut running = Running::start(&mut command(&workshop, &address));
    let mut lines = running.take_stderr();
    let said = lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("is tried again"))).unwrap().unwrap();
    assert!(said.contains("Connection refused"), "{said}");
    let receiver = Receiver::start_on(TcpListener::bind(("127.0.0.1", port)).unwrap(), |number| {
        if number < 20 { Mood::Says(403) } else { Mood::Takes }
    });
    let said = lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("403"))).unwrap().unwrap();
    assert!(said.contains("rows wait until the service lets the flow in"), "{said}");
    let rest = std::thread::spawn(move || lines.for_each(drop));
    let begin = Instant::now();
    while !running.has_ended() {
        assert!(begin.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(20));
    }
    rest.join().unwrap();
    receiver.has_all(ROWS);
}

/// The other flow takes requests with the same key once, so that each row counts once in it.
#[test]
fn one_flow_sends_to_another() {
    let port = free_port();
    let (sending, taking) = (Workshop::new(), Workshop::new());
    taking.write(
        "flow.toml",
        &format!(
            r#"
            [flow]
            epoch = {{ rows = 500, interval = "20ms" }}
            [checkpoint]
            interval = "50ms"
            [input.pushed]
            type = "http_listen"
            address = "127.0.0.1:{port}"
            path = "/rows"
            format = "ndjson"
            schema = {{ id = "int64" }}
            on_error = "fail"
            [output.out]
            type = "file"
            from = "pushed"
            path = "out"
            format = "ndjson"
            every = "50ms"
            "#
        ),
    );
    sending.write("flow.toml", FLOW);
    let address = format!("http://127.0.0.1:{port}/");
    let take = || Running::start(&mut command(&taking, ""));
    let mut taker = take();
    for round in 0..6 {
        let sender = Running::start(&mut command(&sending, &address));
        std::thread::sleep(Duration::from_millis(150 + round * 40));
        if round % 2 == 1 {
            drop(taker);
            taker = take();
        }
        drop(sender);
    }
    let ran = run(&sending, &address);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let taken = || {
        let names = taking.list("out").into_iter().filter(|name| !name.starts_with('.'));
        let id = |line: &str| serde_json::from_str::<Value>(line).unwrap()["id"].as_i64().unwrap();
        let ids = |name: String| taking.read(&format!("out/{name}")).lines().map(id).collect::<Vec<_>>();
        names.flat_map(ids).collect::<Vec<_>>()
    };
    let begin = Instant::now();
    while (taken().len() as i64) < ROWS && begin.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(50));
    }
    taker.stop();
    let mut ids = taken();
    ids.sort_unstable();
    let first = ids[0];
    assert_eq!(ids, (first..first + ROWS).collect::<Vec<_>>());
}
