//! Real clients over TCP, restarts, and what is refused.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration as StdDuration;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use flate2::Compression;
use flate2::write::GzEncoder;
use millstream_core::FailedRow;
use millstream_store::simulation::{Faults, Simulation};
use millstream_testkit::{context, parse};

use super::*;

const NDJSON: &str = "format = \"ndjson\"\nschema = { a = \"int64\" }";

/// An input, and where it is reached.
struct Site {
    settings: String,
    port: u16,
    home: tempfile::TempDir,
}

impl Site {
    fn new(settings: &str) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let settings = format!("address = \"127.0.0.1:{port}\"\n{settings}");
        Self { settings, port, home: tempfile::tempdir().unwrap() }
    }

    fn input(&self, files: Arc<dyn Files>) -> HttpListen {
        parse::<HttpListenInput>(&self.settings).input(&context(), files).unwrap()
    }

    fn home(&self) -> Home {
        Home::Folder(self.home.path().to_owned())
    }

    async fn open(&self) -> HttpListen {
        let mut input = self.input(Arc::new(LocalFiles));
        input.open(&self.home()).await.unwrap();
        input
    }

    /// Opens it as a flow does that is resumed from a checkpoint.
    async fn resume(&self, positions: &Positions, state: Parts) -> HttpListen {
        let mut input = self.input(Arc::new(LocalFiles));
        input.restore(positions, &state.into_state().unwrap()).unwrap();
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

fn at(position: u64) -> Positions {
    [("".into(), position)].into()
}

/// The next rows with their positions, and those that failed.
async fn next(input: &mut HttpListen) -> (Vec<(u64, i64)>, Vec<FailedRow>) {
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
async fn drain(input: &mut HttpListen) -> Vec<(u64, i64)> {
    let mut rows = Vec::new();
    while let Ok((more, _)) = tokio::time::timeout(StdDuration::from_millis(100), next(input)).await {
        rows.extend(more);
    }
    rows
}

#[tokio::test]
async fn what_was_acknowledged_comes_once_across_restarts() {
    let site = Site::new(NDJSON);
    let mut input = site.open().await;
    assert_eq!(site.post("", &[10, 11]), r#"{"rows":2,"first":0}"#);
    assert_eq!(site.post("", &[12, 13, 14]), r#"{"rows":3,"first":2}"#);
    assert_eq!(site.post("", &[]), r#"{"rows":0,"first":null}"#);
    assert_eq!(drain(&mut input).await, [(0, 10), (1, 11), (2, 12), (3, 13), (4, 14)]);
    assert_eq!(site.post("", &[15]), r#"{"rows":1,"first":5}"#);
    drop(input);
    // There was no checkpoint yet.
    let mut input = site.open().await;
    assert_eq!(drain(&mut input).await.len(), 6);
    // It may lie within a request, and rows behind it may have been read.
    let positions = at(3);
    let state = input.snapshot(&positions).unwrap();
    input.checkpoint_completed(&positions, &positions).await.unwrap();
    drop(input);
    let mut input = site.resume(&positions, state).await;
    assert_eq!(site.post("", &[16]), r#"{"rows":1,"first":6}"#);
    assert_eq!(drain(&mut input).await, [(3, 13), (4, 14), (5, 15), (6, 16)]);
}

#[tokio::test]
async fn a_key_is_taken_once_also_when_its_record_is_gone() {
    let site = Site::new(&format!("{NDJSON}\nmax_log = \"4kB\"\nmax_body = \"1kB\""));
    let mut input = site.open().await;
    let key = |number: usize| format!("Idempotency-Key: request {number}\r\n");
    let many: Vec<i64> = (0..20).collect();
    for number in 0..40 {
        assert_eq!(site.post(&key(number), &many), format!(r#"{{"rows":20,"first":{}}}"#, number * 20));
        if number % 8 == 7 {
            let rows = drain(&mut input).await;
            let positions = at(rows.last().unwrap().0 + 1);
            let state = input.snapshot(&positions).unwrap();
            input.checkpoint_completed(&positions, &positions).await.unwrap();
            // These are taken after the checkpoint.
            if number == 31 {
                assert_eq!(site.post(&key(100), &[1]), r#"{"rows":1,"first":640}"#);
                assert_eq!(site.post(&key(100), &[1]), r#"{"rows":1,"first":640}"#);
                drop(input);
                let mut input = site.resume(&positions, state).await;
                for number in 0..32 {
                    assert_eq!(site.post(&key(number), &many), format!(r#"{{"rows":20,"first":{}}}"#, number * 20));
                }
                assert_eq!(site.post(&key(100), &[1]), r#"{"rows":1,"first":640}"#);
                // Other rows, of a client that has mistaken itself.
                for number in [3, 100] {
                    let (status, answer) = site.send(&key(number), &body(&[2]));
                    assert!(status == 422 && answer.contains("had another body"), "{answer}");
                }
                assert_eq!(drain(&mut input).await, [(640, 1)]);
                return;
            }
        }
    }
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_refused_at_the_door() {
    let site = Site::new("format = \"csv\"\nschema = { a = \"int64\", b = \"utf8\" }");
    let mut input = site.open().await;
    let (status, answer) = site.send("", b"b,a\n\"x\ny\",1\nz,bad\nz,3\n");
    let expected =
        r#"{"error":"row 1, counted from 0, can't be read: column `a`: `bad` is no int64; none was taken","row":1}"#;
    assert_eq!((status, answer.lines().last()), (400, Some(expected)));
    let (status, answer) = site.send("", b"b,a\nz,bad\nz,3\nworse\n");
    assert!(
        status == 400 && answer.contains("row 0, counted from 0, can't be read, as 1 others of 3 can't"),
        "{answer}"
    );
    let (status, answer) = site.send("Content-Encoding: gzip\r\n", &gzip(b"a,b\n2,x\n"));
    assert_eq!((status, answer.lines().last()), (200, Some(r#"{"rows":1,"first":0}"#)));
    assert_eq!(next(&mut input).await.0, [(0, 2)]);
}

#[tokio::test]
async fn a_body_in_which_nothing_can_be_read_is_refused() {
    for (settings, body) in [
        (NDJSON, "hello\n"),
        (NDJSON, "[1, 2]"),
        (NDJSON, "a=1&b=2"),
        ("format = \"csv\"\nschema = { a = \"int64?\" }", "b,c\n1,2\n"),
        ("format = \"csv\"\nschema = { a = \"int64?\" }", "17\n"),
    ] {
        let site = Site::new(settings);
        let mut input = site.open().await;
        let (status, answer) = site.send("", body.as_bytes());
        assert_eq!(status, 400, "{body}: {answer}");
        assert_eq!(drain(&mut input).await, []);
    }
}

#[tokio::test]
async fn columns_that_the_flow_does_not_use_are_judged_as_well() {
    let site = Site::new("format = \"ndjson\"\nschema = { a = \"int64\", b = \"int64\" }");
    let context = PlanContext { columns: Some(["a".to_owned()].into()), ..context() };
    let mut input = parse::<HttpListenInput>(&site.settings).input(&context, Arc::new(LocalFiles)).unwrap();
    input.open(&site.home()).await.unwrap();
    assert_eq!(site.send("", b"{\"a\": 1, \"b\": \"x\"}\n").0, 400);
    site.send("", b"{\"a\": 1, \"b\": 2}\n");
    assert_eq!(drain(&mut input).await, [(0, 1)]);
}

#[tokio::test]
async fn rows_that_were_taken_with_another_schema_leave_with_their_position() {
    let site = Site::new("format = \"ndjson\"\nschema = { a = \"utf8\" }");
    let input = site.open().await;
    assert_eq!(site.send("", b"{\"a\": \"1\"}\n{\"a\": \"x\"}\n").0, 200);
    drop(input);
    let site = Site { settings: site.settings.replace("utf8", "int64"), ..site };
    let (rows, failed) = next(&mut site.open().await).await;
    assert_eq!(rows, [(0, 1)]);
    assert_eq!((failed.len(), failed[0].position, failed[0].row.as_str()), (1, Some(1), "{\"a\": \"x\"}"));
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
    let site = Site::new(NDJSON);
    let _input = site.open().await;
    let idle: Vec<_> =
        (0..server::CONNECTIONS).map(|_| TcpStream::connect(("127.0.0.1", site.port)).unwrap()).collect();
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

#[tokio::test]
async fn a_full_disk_acknowledges_nothing() {
    let site = Site::new(NDJSON);
    let files = Simulation::new(7);
    let mut input = site.input(Arc::new(files.clone()));
    input.open(&Home::Folder("/home".into())).await.unwrap();
    site.post("", &[1]);
    files.set_faults(Faults { capacity: 100, ..Faults::NONE });
    let (status, answer) = site.send("Idempotency-Key: k\r\n", &body(&[2; 20]));
    assert!(status == 503 && answer.contains("retry-after: 1") && answer.contains("writing the log: "), "{answer}");
    assert_eq!(drain(&mut input).await, [(0, 1)]);
    files.set_faults(Faults::NONE);
    assert_eq!(site.post("Idempotency-Key: k\r\n", &[2, 3]), r#"{"rows":2,"first":1}"#);
    drop(input);
    let files = files.restarted();
    let mut input = site.input(Arc::new(files));
    input.open(&Home::Folder("/home".into())).await.unwrap();
    assert_eq!(drain(&mut input).await, [(0, 1), (1, 2), (2, 3)]);
}

#[tokio::test]
async fn a_full_log_is_written_again_when_it_is_covered() {
    let site = Site::new(&format!("{NDJSON}\nmax_log = \"4kB\"\nmax_body = \"1kB\""));
    let mut input = site.open().await;
    let rows = vec![1; 80];
    let mut taken = 0;
    while site.send("", &body(&rows)).0 == 200 {
        taken += 80;
    }
    assert!(taken > 3 * 80);
    let (status, answer) = site.send("", &body(&rows));
    assert!(status == 503 && answer.contains("the log is full: it holds "), "{answer}");
    assert_eq!(drain(&mut input).await.len(), taken);
    input.checkpoint_completed(&at(taken as u64), &at(taken as u64)).await.unwrap();
    site.post("", &rows);
}

#[tokio::test]
async fn a_disk_that_fails_may_leave_open_what_counts() {
    let site = Site::new(NDJSON);
    let files = Simulation::new(3);
    let mut input = site.input(Arc::new(files.clone()));
    input.open(&Home::Folder("/home".into())).await.unwrap();
    files.set_faults(Faults { errors: 1000, ..Faults::NONE });
    let (status, answer) = site.send("Idempotency-Key: k\r\n", &body(&[1, 2]));
    assert!(
        status == 500 && answer.contains("only with the same `Idempotency-Key` can they be sent again"),
        "{answer}"
    );
    files.set_faults(Faults::NONE);
    assert_eq!(site.post("Idempotency-Key: k\r\n", &[1, 2]), r#"{"rows":2,"first":0}"#);
    drop(input);
    let mut input = site.input(Arc::new(files.restarted()));
    input.open(&Home::Folder("/home".into())).await.unwrap();
    assert_eq!(drain(&mut input).await, [(0, 1), (1, 2)]);
}

#[tokio::test]
async fn it_begins_from_scratch_with_what_its_log_still_has() {
    let site = Site::new(&format!("{NDJSON}\nmax_log = \"4kB\"\nmax_body = \"1kB\""));
    let mut input = site.open().await;
    let rows = vec![1; 80];
    (0..3).for_each(|_| drop(site.post("", &rows)));
    assert_eq!(drain(&mut input).await.len(), 240);
    input.checkpoint_completed(&at(200), &at(200)).await.unwrap();
    drop(input);
    // As after `--reset`: nothing is restored.
    let mut input = site.open().await;
    assert_eq!(site.post("", &[2]), r#"{"rows":1,"first":240}"#);
    let rows = drain(&mut input).await;
    assert_eq!((rows[0], rows.last(), rows.len()), ((160, 1), Some(&(240, 2)), 81));
    drop(input);
    // Without any checkpoint nothing is trimmed, and so something is missing.
    std::fs::remove_file(site.home.path().join("covered")).unwrap();
    let error = site.input(Arc::new(LocalFiles)).open(&site.home()).await.unwrap_err().to_string();
    assert!(error.contains("record 0 is no longer in the log"), "{error}");
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
    assert!(error.contains("needs `millstream run --state DIR`"), "{error}");
    let error = site.input(Arc::new(LocalFiles)).open(&Home::Elsewhere).await.unwrap_err().to_string();
    assert!(error.contains("`--state DIR` with a folder, not a URL"), "{error}");
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
    let format = "format = { type = \"ndjson\", timezone = \"Berlin\" }\nschema = { a = \"int64\" }";
    let problem = parse::<HttpListenInput>(format).plan(&context()).unwrap_err().remove(0);
    assert_eq!(problem.at, ["format".into(), "timezone".into()]);
    let settings: HttpListenInput = parse(&format!("{NDJSON}\naddress = \"[::1]:8400\""));
    let plan = settings.plan(&context()).unwrap();
    assert_eq!((plan.finite, plan.replayable, plan.acknowledges, plan.interleaved), (false, true, true, false));
}
