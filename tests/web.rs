//! Flows of the library that reach from web sites and HTTP to databases and brokers, with the real binary and real servers.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::millstream::{Ran, Running, Workshop, project};

/// A site with pages of 5 offers each, of which there are 40. It is slow, and every fourth request fails.
struct Shop {
    address: String,
    requests: Arc<AtomicUsize>,
}

impl Shop {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let shop = Self { address: format!("http://{}/", listener.local_addr().unwrap()), requests: Arc::default() };
        let requests = shop.requests.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                // A client that was killed is no matter.
                let _ = serve(stream.unwrap(), requests.fetch_add(1, Ordering::SeqCst));
            }
        });
        shop
    }
}

fn serve(mut stream: TcpStream, number: usize) -> std::io::Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte)? == 1 {
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default();
    let from = path.split_once("from=").map_or(0, |(_, from)| from.parse().unwrap());
    let offer = |id: usize| {
        format!(
            "<div class=offer><h2>Offer {id}</h2><p class=price>1,{id:03}.50 EUR</p><a class=more href='/offers/{id}'>more</a></div>"
        )
    };
    let offers: String = (from..from + 5).map(offer).collect();
    let next = if from < 35 { format!("<a class=next href='?from={}'>next</a>", from + 5) } else { String::new() };
    let (status, body) = match path {
        "/robots.txt" => ("200 OK", "User-agent: *\nDisallow: /offers/\n".to_owned()),
        _ if number % 4 == 3 => ("503 Service Unavailable", String::new()),
        _ => ("200 OK", format!("<html><body>{offers}{next}</body></html>")),
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-type: text/html\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

#[cfg(feature = "mysql")]
#[test]
fn web_to_mysql_writes_each_offer_through_any_crash() {
    let Some(mysql) = millstream_testkit::Mysql::start("mysql") else { return };
    let (workshop, shop) = (Workshop::new(), Shop::start());
    let flow = std::fs::read_to_string(project().join("flows/web_to_mysql.toml")).unwrap();
    let fast = "every = \"1h\"\nrate = \"100/s\"\nretry = { first_pause = \"1ms\" }";
    let flow = flow.replace("every = \"1h\"", fast).replace("interval = \"10s\"", "interval = \"50ms\"");
    workshop.write("flow.toml", &flow.replace("key = [\"link\"]\n", ""));
    let command = |arguments: &[&str]| {
        let mut command = workshop.command(&[&["run", "--json", "flow.toml", "--state", "state"], arguments].concat());
        command.env("SHOP_URL", &shop.address).env("MYSQL_ADDRESS", mysql.address());
        command.env("MYSQL_USER", "alice").env("MYSQL_PASSWORD", "canary-41d7").stdout(Stdio::piped());
        command
    };
    for round in 1..=5 {
        let running = Running::start(&mut command(&[]));
        let before = shop.requests.load(Ordering::SeqCst);
        let begin = Instant::now();
        while shop.requests.load(Ordering::SeqCst) < before + 2 + round && begin.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(round as u64 * 20));
        // It is killed.
        drop(running);
    }
    let ran: Ran = command(&["--set", "input.offers.bounded=true"]).output().unwrap().into();
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    // Without a key, what was written twice is there twice. A round that was over when the flow was killed is followed by another one, which
    // has every offer once more.
    let counts = mysql.rows(
        "SELECT COUNT(*), MIN(times), MAX(times) FROM (SELECT link, COUNT(*) AS times FROM offers GROUP BY link) AS offer",
    );
    assert!((1..=6).any(|rounds| counts == [format!("40 {rounds} {rounds}")]), "{counts:?}");
}

#[cfg(feature = "kafka")]
#[test]
fn http_to_kafka_sends_each_event_once() {
    let Some(kafka) = millstream_testkit::Kafka::start() else { return };
    let workshop = Workshop::new();
    let flow = std::fs::read_to_string(project().join("flows/http_to_kafka.toml")).unwrap();
    workshop.write("flow.toml", &flow.replace("interval = \"1s\"", "interval = \"50ms\""));
    let port = millstream_testkit::free_port();
    let start = || {
        let mut command = workshop.command(&["run", "--json", "flow.toml", "--state", "state"]);
        command.env("LISTEN", format!("127.0.0.1:{port}")).env("KAFKA_BROKERS", kafka.brokers());
        Running::start(command.stdout(Stdio::piped()))
    };
    let mut running = start();
    for number in 0..40 {
        let (kind, body) = if number % 2 == 0 {
            (
                "text/csv",
                format!("kind,id,at\nPaid,{number}-a,2026-01-31T12:00:00Z\nSent,{number}-b,2026-01-31T12:00:01Z\n"),
            )
        } else {
            let event = |part: &str| {
                format!(r#"{{"id":"{number}-{part}","kind":"PAID","at":"2026-01-31T12:00:00Z","amount":1}}"#)
            };
            ("application/json", format!("[{},{}]", event("a"), event("b")))
        };
        let begin = Instant::now();
        while !post(port, kind, number, &body) {
            assert!(begin.elapsed() < Duration::from_secs(60), "{number} is taken");
            std::thread::sleep(Duration::from_millis(20));
        }
        if number % 13 == 12 {
            drop(running);
            running = start();
        }
    }
    let begin = Instant::now();
    while !kafka.has("events") || kafka.read("events").len() < 80 {
        assert!(begin.elapsed() < Duration::from_secs(60), "all events are in the topic");
        std::thread::sleep(Duration::from_millis(100));
    }
    running.stop();
    let mut ids: Vec<_> =
        kafka.read("events").into_iter().map(|(_, _, key, _)| String::from_utf8(key.unwrap()).unwrap()).collect();
    ids.sort();
    let mut expected: Vec<_> = (0..40).flat_map(|number| ["a", "b"].map(|part| format!("{number}-{part}"))).collect();
    expected.sort();
    assert_eq!(ids, expected);
}

/// Sends a request, and says whether it was taken.
#[cfg(feature = "kafka")]
fn post(port: u16, kind: &str, key: usize, body: &str) -> bool {
    let sent = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        write!(
            stream,
            "POST /events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: {kind}\r\nIdempotency-Key: {key}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = sent().unwrap_or_default();
    assert!(!answer.starts_with("HTTP/1.1 4"), "{answer}");
    answer.starts_with("HTTP/1.1 200")
}
