//! Real clients over TCP, restarts, and what is refused.

#![allow(clippy::unwrap_used)]

mod access;
mod answers;
mod hostile;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration as StdDuration;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::BodyExt;
use millstream_core::{Collector, FailedRow, Held, Home, Input};
use millstream_testkit::{context, parse};

use super::request::{Refusal, Taken, response};
use super::*;
use crate::push::{Ack, Refused};

const NDJSON: &str = "format = \"ndjson\"\nschema = { a = \"int64\" }";

/// An input, and where it is reached.
struct Site {
    settings: String,
    port: u16,
    home: tempfile::TempDir,
}

impl Site {
    fn new(settings: &str) -> Self {
        let port = millstream_testkit::free_port();
        let settings = format!("address = \"127.0.0.1:{port}\"\n{settings}");
        Self { settings, port, home: tempfile::tempdir().unwrap() }
    }

    fn input(&self, files: Arc<dyn Files>) -> PushInput {
        parse::<HttpListenInput>(&self.settings).input(&context(), files).unwrap()
    }

    fn home(&self) -> Home {
        Home::Folder(self.home.path().to_owned())
    }

    async fn open(&self) -> PushInput {
        let mut input = self.input(Arc::new(LocalFiles));
        input.open(&self.home()).await.unwrap();
        input
    }

    /// What is answered to a request with more lines in its header.
    fn send(&self, lines: &str, body: &[u8]) -> (u16, String) {
        self.exchange("POST /", &format!("Content-Length: {}\r\n{lines}", body.len()), body)
    }

    fn exchange(&self, what: &str, lines: &str, body: &[u8]) -> (u16, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        write!(stream, "{what} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{lines}\r\n").unwrap();
        stream.write_all(body).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer)
    }

    /// Sends rows, which are taken.
    fn post(&self, lines: &str, rows: &[i64]) -> String {
        let (status, answer) = self.send(lines, &body(rows));
        assert_eq!(status, 200, "{answer}");
        answer.lines().last().unwrap().to_owned()
    }
}

fn body(rows: &[i64]) -> Vec<u8> {
    rows.iter().map(|row| format!("{{\"a\":{row}}}\n")).collect::<String>().into_bytes()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The next rows with their positions, and those that failed.
async fn next(input: &mut PushInput) -> (Vec<(u64, i64)>, Vec<FailedRow>) {
    let mut out = Collector::new(1);
    input.next(&mut out).await.unwrap();
    let mut rows = Vec::new();
    for batch in out.take(0) {
        let values = batch.rows.column(0).as_primitive::<Int64Type>().values().to_vec();
        rows.extend((batch.origin.start..batch.origin.end).zip(values));
    }
    (rows, out.take_failed())
}

/// The rows until there is none for a while.
async fn drain(input: &mut PushInput) -> Vec<(u64, i64)> {
    let mut rows = Vec::new();
    while let Ok((more, _)) = tokio::time::timeout(StdDuration::from_millis(100), next(input)).await {
        rows.extend(more);
    }
    rows
}

#[tokio::test]
async fn every_refusal_has_its_status() {
    let sent = |result: Result<Ack, Refused>| async {
        let taken = |ack| Taken { ack, answers: None };
        let answer = response(result.map(taken).map_err(Refusal::from));
        let has_retry = answer.headers().contains_key("retry-after");
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, has_retry, String::from_utf8(body.to_vec()).unwrap())
    };
    let taken = sent(Ok(Ack { first: Some(7), rows: 2 })).await;
    assert_eq!(taken, (200, false, r#"{"rows":2,"first":7}"#.to_owned()));
    let none = sent(Ok(Ack { first: None, rows: 0 })).await;
    assert_eq!(none, (200, false, r#"{"rows":0,"first":null}"#.to_owned()));
    for (refused, status, part) in [
        (Refused::NoText, 400, "the body is not UTF-8"),
        (Refused::Unreadable { row: Some(3), why: "bad".into() }, 400, r#"{"error":"bad","row":3}"#),
        (Refused::Unreadable { row: None, why: "bad".into() }, 400, r#"{"error":"bad"}"#),
        (Refused::KeyOfOthers, 422, "had another body"),
        (Refused::BeingTaken, 409, "ask again"),
        (Refused::NoRoom("the log is full".into()), 503, "the log is full"),
        (Refused::Held(Held::Paused("by Ada".into())), 503, "since the flow is paused: by Ada"),
        (Refused::Held(Held::Scarcity("the disk is nearly full".into())), 507, "since the disk is nearly full"),
        (Refused::Unknown("the disk".into()), 500, "only with the same `Idempotency-Key` can they be sent again"),
    ] {
        let (found, has_retry, body) = sent(Err(refused.clone())).await;
        assert!(
            (found, has_retry) == (status, matches!(status, 503 | 507)) && body.contains(part),
            "{refused:?}: {body}"
        );
    }
}

#[tokio::test]
async fn a_key_is_that_of_a_request() {
    let site = Site::new(NDJSON);
    let mut input = site.open().await;
    for _ in 0..2 {
        assert_eq!(site.post("Idempotency-Key: a\r\n", &[1]), r#"{"rows":1,"first":0}"#);
    }
    assert_eq!(site.send("Idempotency-Key: a\r\n", &body(&[2])).0, 422);
    assert_eq!(drain(&mut input).await, [(0, 1)]);
}

#[tokio::test]
async fn who_has_nothing_more_to_say_is_answered() {
    let site = Site::new(NDJSON);
    let mut input = site.open().await;
    let mut stream = TcpStream::connect(("127.0.0.1", site.port)).unwrap();
    write!(stream, "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8\r\n\r\n{{\"a\":1}}\n").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert_eq!(drain(&mut input).await, [(0, 1)]);
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_refused_at_the_door() {
    let site = Site::new("format = \"csv\"\nschema = { a = \"int64\", b = \"utf8\" }");
    let mut input = site.open().await;
    let (status, answer) = site.send("", b"b,a\n\"x\ny\",1\nz,bad\nz,3\n");
    let expected = r#"{"error":"row 1, counted from 0, can't be read: column `a`: `bad` is not an `int64`; none was taken","row":1}"#;
    assert_eq!((status, answer.lines().last()), (400, Some(expected)));
    let (status, answer) = site.send("", b"b,a\nz,bad\nz,3\nworse\n");
    assert!(status == 400 && answer.contains("row 0, counted from 0, can't be read, nor can 1 other of 3"), "{answer}");
    let (status, answer) = site.send("Content-Encoding: gzip\r\n", &gzip(b"a,b\n2,x\n"));
    assert_eq!((status, answer.lines().last()), (200, Some(r#"{"rows":1,"first":0}"#)));
    assert_eq!(next(&mut input).await.0, [(0, 2)]);
}

/// A client that has sent so much of a body of unknown length.
fn slow(site: &Site, sent: usize) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", site.port)).unwrap();
    write!(stream, "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    if sent > 0 {
        write!(stream, "{sent:x}\r\n").unwrap();
        stream.write_all(&vec![b' '; sent]).unwrap();
    }
    stream
}

#[tokio::test]
async fn slow_clients_keep_nobody_waiting() {
    let site = Site::new(&format!("{NDJSON}\nmax_body = \"2MiB\"\ntimeout = \"5s\""));
    let mut input = site.open().await;
    // Each might yet send 2 MiB.
    let _slow: Vec<_> = (0..10).map(|_| slow(&site, 100)).collect();
    site.post("", &[1]);
    assert_eq!(drain(&mut input).await, [(0, 1)]);
}

#[tokio::test]
async fn a_body_that_comes_too_slowly_is_not_waited_for() {
    let site = Site::new(&format!("{NDJSON}\nmin_rate = \"10B\"\ntimeout = \"1h\""));
    let _input = site.open().await;
    let (status, answer) = site.exchange("POST /", "Content-Length: 5\r\n", b"{}");
    assert!(status == 408 && answer.contains("with 10 bytes a second"), "{answer}");
}

#[tokio::test]
async fn when_bodies_take_all_the_memory_others_are_told_to_come_again() {
    let site = Site::new(&format!("{NDJSON}\nmax_body = \"2MiB\""));
    let mut input = site.open().await;
    let large = 1_900_000;
    let send = || site.send("", &vec![b' '; large]);
    // What two others send may still be on its way, or come too slowly where the machine is busy.
    let crowded = || {
        let slow = [(); 2].map(|()| slow(&site, large));
        (0..20).map(|_| send()).find(|(status, _)| *status == 503).map(|(_, answer)| (slow, answer))
    };
    let (slow, answer) = (0..20).find_map(|_| crowded()).expect("memory is full once");
    assert!(answer.contains("retry-after: 1") && answer.contains("memory"), "{answer}");
    drop(slow);
    while send().0 == 503 {}
    site.post("", &[1]);
    assert_eq!(drain(&mut input).await, [(0, 1)]);
}

#[tokio::test]
async fn idle_connections_give_way() {
    let site = Site::new(&format!("max_connections = 20\n{NDJSON}"));
    let _input = site.open().await;
    let idle: Vec<_> = (0..20).map(|_| TcpStream::connect(("127.0.0.1", site.port)).unwrap()).collect();
    site.post("", &[1]);
    let is_closed = |stream: &&TcpStream| {
        stream.set_nonblocking(true).unwrap();
        let mut stream: &TcpStream = stream;
        stream.read(&mut [0]).is_ok()
    };
    assert_eq!(idle.iter().filter(is_closed).count(), 1);
    assert!(is_closed(&&idle[0]));
}

/// A proxy that goes by the length would take the second request for a part of the first one's body.
#[tokio::test]
async fn no_request_is_hidden_within_another() {
    let site = Site::new(NDJSON);
    let mut input = site.open().await;
    let hidden = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8\r\n\r\n{\"a\":2}\n";
    let body = format!("8\r\n{{\"a\":1}}\n\r\n0\r\n\r\n{hidden}");
    let length = format!("Content-Length: {}\r\n", body.len());
    for lines in [format!("{length}Transfer-Encoding: chunked\r\n"), format!("Transfer-Encoding: chunked\r\n{length}")]
    {
        let mut stream = TcpStream::connect(("127.0.0.1", site.port)).unwrap();
        write!(stream, "POST / HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n{body}").unwrap();
        let mut answers = Vec::new();
        // The connection may be reset, since more has come than was read.
        let _ = stream.read_to_end(&mut answers);
        let answers = String::from_utf8(answers).unwrap();
        assert_eq!(answers.matches("HTTP/1.1 200").count(), 1, "{answers}");
    }
    assert_eq!(drain(&mut input).await, [(0, 1), (1, 1)]);
}

#[tokio::test]
async fn requests_that_proxies_may_understand_in_another_way_are_refused() {
    let site = Site::new(NDJSON);
    let mut input = site.open().await;
    let answer = |head: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", site.port)).unwrap();
        write!(stream, "POST / HTTP/1.1\r\n{head}Connection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let length = "Content-Length: 0\r\n";
    assert!(answer(length).contains("one header `Host`"));
    let hosts = answer(&format!("Host: a\r\nHost: b\r\n{length}"));
    assert!(hosts.starts_with("HTTP/1.1 400"), "{hosts}");
    let coded = answer("Host: a\r\nTransfer-Encoding: gzip, chunked\r\n");
    assert!(coded.starts_with("HTTP/1.1 501"), "{coded}");
    site.post("", &[1]);
    assert_eq!(drain(&mut input).await, [(0, 1)]);
}

#[tokio::test]
async fn requests_that_are_refused() {
    let site = Site::new(
        "format = \"csv\"\nschema = { a = \"int64\" }\npath = \"/rows\"\nmax_body = \"2MiB\"\ntimeout = \"300ms\"",
    );
    let mut input = site.open().await;
    let post = |lines: &str, body: &[u8]| {
        let lines = format!("Content-Length: {}\r\n{lines}", body.len());
        let (status, answer) = site.exchange("POST /rows", &lines, body);
        let text = answer.lines().last().unwrap().to_owned();
        (status, text)
    };
    assert_eq!(site.send("", b"").0, 404);
    assert_eq!(site.exchange("GET /rows", "", b"").0, 405);
    assert_eq!(post("Origin: http://example.com\r\n", b"a\n1\n").0, 403);
    assert_eq!(post("Content-Encoding: br\r\n", b"a\n1\n").0, 415);
    assert_eq!(post("", b"a\n\xff\n"), (400, r#"{"error":"the body is not UTF-8"}"#.to_owned()));
    assert_eq!(post("", b"b\n1\n").0, 400);
    assert_eq!(post("Content-Encoding: gzip\r\n", b"a\n1\n").0, 400);
    assert_eq!(post("Content-Encoding: gzip\r\n", &gzip(b"a\n1\n")[..15]).0, 400);
    assert_eq!(post("Idempotency-Key:\r\n", b"a\n1\n").0, 400);
    assert_eq!(post(&format!("Idempotency-Key: {}\r\n", "k".repeat(256)), b"a\n1\n").0, 400);
    assert_eq!(post("Idempotency-Key: a\r\nIdempotency-Key: b\r\n", b"a\n1\n").0, 400);
    assert_eq!(post("Content-Encoding: gzip\r\nContent-Encoding: gzip\r\n", &gzip(b"a\n1\n")).0, 415);
    assert_eq!(post("Content-Length: 5\r\n", b"a\n1\n").0, 400);
    let long = vec![b'1'; (2 << 20) + 1];
    assert_eq!(post("", &long).0, 413);
    let chunked = [b"200001\r\n", long.as_slice(), b"\r\n0\r\n\r\n"].concat();
    assert_eq!(site.exchange("POST /rows", "Transfer-Encoding: chunked\r\n", &chunked).0, 413);
    assert_eq!(post("Content-Encoding: gzip\r\n", &gzip(&long)).0, 413);
    let bomb = gzip(&vec![b'1'; 1_900_000]);
    assert!(bomb.len() < 19_000 / 4);
    assert_eq!(post("Content-Encoding: gzip\r\n", &bomb).0, 413);
    assert_eq!(site.exchange("POST /rows", "Content-Length: 5\r\n", b"a\n").0, 408);
    assert_eq!(post("", b"a\n1\n").0, 200);
    assert_eq!(drain(&mut input).await, [(0, 1)]);
}

#[tokio::test]
async fn a_slow_header_is_not_waited_for() {
    let site = Site::new(NDJSON);
    let _input = site.open().await;
    let mut slow = TcpStream::connect(("127.0.0.1", site.port)).unwrap();
    slow.write_all(b"POST / HTTP/1.1\r\nHost: ").unwrap();
    slow.set_read_timeout(Some(StdDuration::from_secs(5))).unwrap();
    assert!(slow.read_to_end(&mut Vec::new()).is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_clients_at_once_and_a_reader_that_is_interrupted() {
    let site = Arc::new(Site::new(NDJSON));
    let mut input = site.open().await;
    let clients: Vec<_> = (0..8)
        .map(|client| {
            let site = site.clone();
            thread::spawn(move || {
                for turn in 0..40 {
                    site.post("", &[client * 1000 + turn * 2, client * 1000 + turn * 2 + 1]);
                }
            })
        })
        .collect();
    let mut rows = Vec::new();
    while rows.len() < 640 {
        let mut out = Collector::new(1);
        // Whatever has not been pushed must come again.
        let _ = tokio::time::timeout(StdDuration::from_micros(300), input.next(&mut out)).await;
        for batch in out.take(0) {
            let values = batch.rows.column(0).as_primitive::<Int64Type>().values().to_vec();
            rows.extend((batch.origin.start..batch.origin.end).zip(values));
        }
    }
    clients.into_iter().for_each(|client| client.join().unwrap());
    assert!(rows.iter().enumerate().all(|(index, (position, _))| *position == index as u64));
    assert_eq!(rows.iter().map(|(_, row)| row).collect::<BTreeSet<_>>().len(), 640);
}

#[tokio::test]
async fn it_can_be_opened_again_at_once() {
    let site = Site::new(NDJSON);
    for turn in 0..20 {
        let input = site.open().await;
        let _idle = TcpStream::connect(("127.0.0.1", site.port)).unwrap();
        let mut busy = TcpStream::connect(("127.0.0.1", site.port)).unwrap();
        write!(busy, "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n").unwrap();
        site.post("", &[turn]);
        drop(input);
    }
    assert_eq!(drain(&mut site.open().await).await.len(), 20);
}

#[tokio::test]
async fn what_it_needs() {
    let site = Site::new(NDJSON);
    let error = site.input(Arc::new(LocalFiles)).open(&Home::Nowhere).await.unwrap_err().to_string();
    assert!(error.starts_with("`http_listen` acknowledges rows only when they are durable"), "{error}");
    let _other = std::net::TcpListener::bind(("127.0.0.1", site.port)).unwrap();
    let error = site.input(Arc::new(LocalFiles)).open(&site.home()).await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("listening on `127.0.0.1:{}`: Address already in use", site.port)), "{error}");
}

#[test]
fn settings_that_are_wrong() {
    let place = |text: &str| {
        let settings: HttpListenInput = parse(&format!("{NDJSON}\n{text}"));
        settings.plan(&context()).unwrap_err().remove(0).at
    };
    for wrong in ["address = \"0.0.0.0:8400\"", "address = \"192.168.1.1:80\"", "address = \"localhost\""] {
        assert_eq!(place(wrong), ["address".into()]);
    }
    assert_eq!(place("path = \"rows\""), ["path".into()]);
    assert_eq!(place("max_body = \"1GiB\""), ["max_body".into()]);
    assert_eq!(place("max_log = \"20MiB\""), ["max_log".into()]);
    assert_eq!(place("min_rate = \"0B\""), ["min_rate".into()]);
    assert_eq!(place("tokens = { shop = \"short\" }"), ["tokens".into(), "shop".into()]);
    assert_eq!(place("signature = { secret = \"short\" }"), ["signature".into(), "secret".into()]);
    let none = "tls = { certificate = \"none.pem\", key = \"none.key\" }";
    assert_eq!(place(none), ["tls".into(), "certificate".into()]);
    let format = "format = { type = \"ndjson\", timezone = \"Berlin\" }\nschema = { a = \"int64\" }";
    let problem = parse::<HttpListenInput>(format).plan(&context()).unwrap_err().remove(0);
    assert_eq!(problem.at, ["format".into(), "timezone".into()]);
    let settings: HttpListenInput = parse(&format!("{NDJSON}\naddress = \"[::1]:8400\""));
    let plan = settings.plan(&context()).unwrap();
    assert_eq!((plan.finite, plan.replayable, plan.acknowledges, plan.interleaved), (false, true, true, false));
}

/// Rows in another format, written by our own output.
fn written(format: &str, rows: &arrow::array::RecordBatch) -> Vec<u8> {
    use millstream_formats::{Format, WriteFiles, WriteOptions};
    let format = Format::<WriteFiles>::named(format).unwrap().write("").unwrap();
    let options = WriteOptions { format, compression: None, begins: true };
    let mut writer = options.open(Vec::new(), &rows.schema()).unwrap();
    writer.write(rows).unwrap();
    writer.finish().unwrap()
}

fn arrow_stream(rows: &arrow::array::RecordBatch) -> Vec<u8> {
    use arrow::ipc::CompressionType;
    use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};
    let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME)).unwrap();
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), &rows.schema(), options).unwrap();
    writer.write(rows).unwrap();
    writer.into_inner().unwrap()
}

#[tokio::test]
async fn requests_say_in_which_format_their_rows_are() {
    let site = Site::new("format = \"ndjson\"\nschema = { a = \"int64\", b = \"utf8?\" }");
    let mut input = site.open().await;
    let rows = millstream_testkit::table("b:utf8? a:int64 c:int64\nx 3 0\nnull 4 0");
    let bodies: [(&str, Vec<u8>); 9] = [
        ("text/plain", b"{\"a\":1}\n{\"a\":2}".to_vec()),
        ("application/json; charset=utf-8", b"[{\"a\":3},\n {\"a\":4}]".to_vec()),
        ("application/cloudevents+json", b"{\"a\":5}\n{\"a\":6}".to_vec()),
        ("application/x-ndjson", b"{\"a\":7}\n{\"a\":8}".to_vec()),
        ("text/csv", b"b,a\nx,9\ny,10\n".to_vec()),
        ("application/vnd.apache.arrow.stream", arrow_stream(&rows)),
        ("application/vnd.apache.arrow.file", written("arrow", &rows)),
        ("application/avro", written("avro", &rows)),
        ("application/octet-stream", b"{\"a\":5}\n{\"a\":6}".to_vec()),
    ];
    for (index, (kind, body)) in bodies.iter().enumerate() {
        let lines = format!("Content-Type: {kind}\r\nIdempotency-Key: {index}\r\n");
        for _ in 0..2 {
            let (status, answer) = site.send(&lines, body);
            let expected = format!("{{\"rows\":2,\"first\":{}}}", index * 2);
            assert_eq!((status, answer.lines().last()), (200, Some(expected.as_str())), "{kind}");
        }
    }
    let found: Vec<_> = drain(&mut input).await.into_iter().map(|(_, a)| a).collect();
    assert_eq!(found, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 3, 4, 3, 4, 3, 4, 5, 6]);
    // The same bytes are other rows in another format, and so another request.
    assert_eq!(site.send("Content-Type: application/json\r\nIdempotency-Key: 0\r\n", &bodies[0].1).0, 422);
    // What was taken is read again as it was.
    drop(input);
    assert_eq!(drain(&mut site.open().await).await.len(), 18);
}

#[tokio::test]
async fn what_is_wrong_with_a_body_is_said() {
    let site = Site::new("format = { type = \"csv\", delimiter = \";\" }\nschema = { a = \"int64\" }");
    let _input = site.open().await;
    let rows = |text: &str| millstream_testkit::table(text);
    let cut = |mut body: Vec<u8>| {
        body.truncate(body.len() - 30);
        body
    };
    let arrow = "application/vnd.apache.arrow.stream";
    for (kind, body, status, part) in [
        ("image/png", vec![], 415, "no rows are read from `image/png`; there are `text/csv`"),
        ("application/json; charset=latin1", b"[]".to_vec(), 415, "UTF-8"),
        ("application/json", b"[{\"a\":1},{\"a\":\"x\"}]".to_vec(), 400, "row 1, counted from 0"),
        ("application/json", b"<html>".to_vec(), 400, "error"),
        (arrow, b"PK\x03\x04 is no stream".to_vec(), 400, "no valid stream of Arrow IPC"),
        (arrow, vec![0xff; 100], 400, "no valid stream of Arrow IPC"),
        (arrow, cut(arrow_stream(&rows("a:int64\n1\n2"))), 400, "in the midst of a message"),
        (arrow, arrow_stream(&rows("b:int64\n1")), 400, "there is no column `a`"),
        (arrow, arrow_stream(&rows("a:utf8\nx")), 400, "its columns are `a` utf8, and have to be `a` int64"),
        (arrow, arrow_stream(&rows("a:int64?\nnull")), 400, "null"),
        ("application/avro", b"Obj\x01\xff\xff\xff\xff\xff\xff\xff\xff\x7f".to_vec(), 400, "no valid Avro file"),
        ("application/avro", written("avro", &rows("b:int64\n1")), 400, "column `a` is missing"),
        ("application/avro", written("avro", &rows("a:utf8\nx")), 400, "column `a`"),
    ] {
        let (found, answer) = site.send(&format!("Content-Type: {kind}\r\n"), &body);
        assert!(found == status && answer.contains(part), "{kind}: {answer}");
    }
    // The delimiter is that of the settings.
    assert_eq!(site.send("Content-Type: text/csv\r\n", b"b;a\nx;1\n").0, 200);
}

/// Bodies that claim or become far more than they are are refused before memory is taken for them.
#[tokio::test]
async fn bombs_are_refused() {
    let site = Site::new(&format!("{NDJSON}\nmax_body = \"2MiB\""));
    let mut input = site.open().await;
    let zeros = vec![b' '; 64 << 20];
    let member = gzip(&zeros);
    // Ten gigabytes in members that each could be a whole body.
    let bomb: Vec<u8> = member.iter().copied().cycle().take(member.len() * 160).collect();
    let chunked = |body: &[u8]| [format!("{:x}\r\n", body.len()).as_bytes(), body, b"\r\n0\r\n\r\n"].concat();
    let send = |encoding: &str, body: &[u8]| {
        let lines = format!("Transfer-Encoding: chunked\r\nContent-Encoding: {encoding}\r\n");
        site.exchange("POST /", &lines, &chunked(body))
    };
    let part = &bomb[..1 << 20];
    let (status, answer) = send("gzip", part);
    assert!(status == 413 && answer.contains("decompressed"), "{answer}");
    let frame = zstd::encode_all(&zeros[..], 19).unwrap();
    let frames: Vec<u8> = frame.iter().copied().cycle().take(frame.len() * 160).collect();
    let (status, answer) = send("zstd", &frames);
    assert!(status == 413 && answer.contains("decompressed"), "{answer}");
    // A frame that wants to look back a gigabyte.
    let wide = {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(27).unwrap();
        encoder.write_all(&zeros[..1 << 20]).unwrap();
        encoder.write_all(b"{\"a\":1}\n").unwrap();
        encoder.finish().unwrap()
    };
    let (status, answer) = send("zstd", &wide);
    assert!(status == 400 && answer.contains("the body is no zstd"), "{answer}");
    let (status, answer) = send("zstd", &zstd::encode_all(&body(&[7])[..], 3).unwrap());
    assert_eq!(status, 200, "{answer}");
    // A batch of Arrow that becomes 72 MB.
    let large: arrow::array::ArrayRef = Arc::new(arrow::array::Int64Array::from(vec![0; 9 << 20]));
    let batch = arrow_stream(&arrow::array::RecordBatch::try_from_iter([("a", large)]).unwrap());
    let (status, answer) = site.send("Content-Type: application/vnd.apache.arrow.stream\r\n", &batch);
    assert!(status == 400 && answer.contains("bytes in memory, more than"), "{answer}");
    assert_eq!(drain(&mut input).await, [(0, 7)]);
}
