//! What is sent to a receiver, and what follows from its answers.

use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::RecordBatch;
use http_body_util::Full;
use hyper::Response;
use millstream_core::{
    Barrier, Collector, Epoch, ErrorClass, FailedRow, Home, Output, PendingCommit, Result, Run, Then,
};
use millstream_testkit::{batch, context, parse, stages, stream, table};
use tokio::runtime::Runtime;
use tokio::time::Instant;

use super::requests::Messages;
use super::*;
use crate::server_for_tests::{Asked, Server, Shelves, status};

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// An output to a server, in a folder.
struct Site {
    settings: String,
    home: Home,
    work: tempfile::TempDir,
}

impl Site {
    fn new(server: &Server, more: &str) -> Self {
        let retry = "retry = { attempts = 3, first_pause = '1ms' }";
        let work = tempfile::tempdir().unwrap();
        let home = Home::Folder(work.path().join("state/node"));
        Self { settings: format!("url = '{}'\n{retry}\n{more}", server.url), home, work }
    }

    fn output(&self, rows: &RecordBatch) -> Box<dyn Output> {
        let settings: HttpOutputSettings = parse(&self.settings);
        let context = PlanContext { work_folder: self.work.path().to_owned(), ..context() };
        (settings.plan(&context, &stream("from", rows.schema())).unwrap().build)().unwrap()
    }

    /// Writes rows, and stages them.
    async fn stage(&self, rows: &RecordBatch) -> (Box<dyn Output>, Vec<PendingCommit>, Vec<FailedRow>) {
        let mut output = self.output(rows);
        let run = Run { incarnation: "0123456789abcdef".into(), generation: 1 };
        output.open(&self.home, &run).await.unwrap();
        let mut out = Collector::new(0);
        output.write(batch(rows.clone()), &mut out).await.unwrap();
        let snapshot = output.stage(Barrier { epoch: Epoch(1), then: Then::End }).await.unwrap();
        let mut stages = stages([snapshot.staged.into_state().unwrap()]);
        stages.iter_mut().for_each(|stage| stage.context.home = self.home.clone());
        (output, stages, out.take_failed())
    }

    /// Sends rows.
    fn send(&self, rows: &RecordBatch) -> Result<Vec<FailedRow>> {
        runtime().block_on(async {
            let (mut output, stages, failed) = self.stage(rows).await;
            let mut committer = output.committer().unwrap();
            committer.commit(&stages[0]).await?;
            committer.committed(&stages[0]).await?;
            Ok(failed)
        })
    }
}

fn numbers(count: usize) -> RecordBatch {
    table(&format!("n:int64\n{}", (0..count).map(|n| format!("{n}\n")).collect::<String>()))
}

fn taken(_: &Asked) -> crate::server_for_tests::Answer {
    status(200, &[])
}

#[test]
fn rows_are_sent_as_settings_say() {
    let server = Server::start(taken);
    let rows = table("n:int64 text:utf8\n1 a\n2 b\n3 c");
    for (settings, content, bodies) in [
        (
            "format = 'json'\nrequest_rows = 2",
            "application/json",
            &["[\n{\"n\":1,\"text\":\"a\"},\n{\"n\":2,\"text\":\"b\"}\n]\n", "[\n{\"n\":3,\"text\":\"c\"}\n]\n"][..],
        ),
        ("format = 'csv'", "text/csv", &["n,text\n1,a\n2,b\n3,c\n"]),
        (
            "format = 'ndjson'\nrequest_bytes = '1B'\nmethod = 'put'",
            "application/x-ndjson",
            &["{\"n\":1,\"text\":\"a\"}\n", "{\"n\":2,\"text\":\"b\"}\n", "{\"n\":3,\"text\":\"c\"}\n"],
        ),
        (
            "message = 'json'\nheaders = { Content-Type = 'application/x' }",
            "application/x",
            &["{\"n\":1,\"text\":\"a\"}", "{\"n\":2,\"text\":\"b\"}", "{\"n\":3,\"text\":\"c\"}"],
        ),
    ] {
        let before = server.asked().len();
        let site =
            Site::new(&server, &format!("path = 'x'\nauth = {{ type = 'bearer', token = 'geheim' }}\n{settings}"));
        assert_eq!(site.send(&rows).unwrap(), []);
        let asked = &server.asked()[before..];
        assert_eq!(asked.iter().map(|asked| asked.body.as_str()).collect::<Vec<_>>(), bodies, "{settings}");
        assert!(asked.iter().all(|asked| asked.header("content-type") == content), "{settings}");
        assert!(asked.iter().all(|asked| asked.path == "/x" && asked.header("authorization") == "Bearer geheim"));
        assert_eq!(asked[0].method, if settings.contains("put") { "PUT" } else { "POST" });
        assert_eq!(asked[0].header("idempotency-key"), "0123456789abcdef/node/2/0");
    }
    let before = server.asked().len();
    for format in ["arrow", "avro", "parquet"] {
        Site::new(&server, &format!("format = '{format}'")).send(&rows).unwrap();
    }
    Site::new(&server, "format = 'ndjson'\ncompression = 'gzip'").send(&rows).unwrap();
    let asked = &server.asked()[before..];
    let begins: Vec<&[u8]> = vec![b"ARROW1", b"Obj\x01", b"PAR1", b"\x1f\x8b"];
    assert!(asked.iter().zip(begins).all(|(asked, begin)| asked.bytes.starts_with(begin)));
    assert_eq!(asked[3].header("content-encoding"), "gzip");
}

#[test]
fn rows_that_can_not_be_written_are_refused_before() {
    let server = Server::start(taken);
    let types = concat!(env!("CARGO_MANIFEST_DIR"), "/../formats/tests/data/everything.binpb");
    let message = format!("message = {{ type = 'protobuf', descriptors = '{types}', message = 'test.Inner' }}");
    let failed = Site::new(&server, &message).send(&table("a:int64\n1\n3000000000\n3")).unwrap();
    let errors: Vec<_> = failed.iter().map(|row| row.error.as_str()).collect();
    assert_eq!(errors, ["column `a`: 3000000000 is not an `int32`"]);
    let bodies: Vec<_> = server.asked().iter().map(|asked| asked.bytes.to_vec()).collect();
    assert_eq!(bodies, [b"\x08\x01", b"\x08\x03"]);
}

#[test]
fn a_column_says_where_rows_go() {
    let server = Server::start(taken);
    let other = Server::start(taken);
    let column = format!("path = {{ column = 'to', hosts = ['{}'] }}", other.url);
    let rows = table(&format!(
        "n:int64 to:utf8?\n1 a\n2 a\n3 {0}/hook?x=1\n4 http://127.0.0.1:1/x\n5 null\n6 null\n7 //evil/x\n8 http://u:p@evil/\n9 b",
        other.url
    ));
    let auth = "auth = { type = 'bearer', token = 'geheim' }\nheaders = { X-Own = 'y' }";
    let failed = Site::new(&server, &format!("format = 'ndjson'\n{auth}\n{column}")).send(&rows).unwrap();
    let why: Vec<_> = failed.iter().map(|row| row.error.as_str()).collect();
    assert_eq!(why.len(), 4, "{why:?}");
    assert!(why[0].contains("leads to `127.0.0.1`, which is none of the `hosts`"), "{why:?}");
    assert!(why[1].contains("is null") && why[2].contains("is null") && why[3].contains("passwords"), "{why:?}");
    let paths: Vec<_> = server.asked().iter().map(|asked| (asked.path.clone(), asked.body.clone())).collect();
    let expected = [
        ("/a".to_owned(), "{\"n\":1}\n{\"n\":2}\n".to_owned()),
        ("/evil/x".to_owned(), "{\"n\":7}\n".to_owned()),
        ("/b".to_owned(), "{\"n\":9}\n".to_owned()),
    ];
    assert_eq!(paths, expected);
    assert_eq!(server.asked()[0].header("x-own"), "y");
    let elsewhere = &other.asked()[0];
    assert_eq!(
        (elsewhere.path.as_str(), elsewhere.header("authorization"), elsewhere.header("x-own")),
        ("/hook?x=1", "", "")
    );
}

#[test]
fn what_may_be_over_in_a_while_is_sent_again_as_it_was() {
    let count = AtomicUsize::new(0);
    let server = Server::start(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 => status(503, &[]),
        2 => status(429, &[("retry-after", "1")]),
        4 => status(409, &[]),
        _ => status(200, &[]),
    });
    let site = Site::new(&server, "format = 'json'\nrequest_rows = 5");
    let begin = Instant::now();
    site.send(&numbers(12)).unwrap();
    assert!(begin.elapsed() >= std::time::Duration::from_secs(1), "it is left alone for as long as it asks");
    let asked = server.asked();
    let keys: Vec<_> = asked.iter().map(|asked| asked.header("idempotency-key").rsplit('/').next().unwrap()).collect();
    assert_eq!(keys, ["0", "0", "5", "5", "10", "10"]);
    assert!(asked.chunks(2).all(|pair| pair[0].bytes == pair[1].bytes));
}

#[test]
fn rows_wait_for_who_does_not_let_them_in_or_wants_silence() {
    for (code, headers, said) in [
        (401, &[][..], "401 Unauthorized: for a reason; see `auth` of the connection; rows wait until"),
        (403, &[], "403 Forbidden"),
        (500, &[], "500 Internal Server Error: for a reason"),
        (429, &[("retry-after", "3000")], "429 Too Many Requests"),
    ] {
        let server = Server::start(move |_| status(code, headers));
        let site = Site::new(&server, "format = 'json'\nrefused = 'refused'");
        runtime().block_on(async {
            let (mut output, stages, _) = site.stage(&numbers(3)).await;
            let mut committer = output.committer().unwrap();
            let error = committer.commit(&stages[0]).await.unwrap_err();
            assert!(error.class() == ErrorClass::Transient && error.to_string().contains(said), "{error}");
            let before = server.asked().len();
            let error = committer.commit(&stages[0]).await.unwrap_err();
            assert_eq!(error.class(), ErrorClass::Transient);
            if code == 429 {
                assert!(error.to_string().contains("asks to be left alone for 29"), "{error}");
                assert_eq!((before, server.asked().len()), (1, 1), "it is left alone");
            }
        });
        assert!(!site.work.path().join("refused").exists(), "{code}: nothing was dropped");
    }
}

#[test]
fn tokens_that_are_not_given_are_waited_for() {
    let count = AtomicUsize::new(0);
    let server = Server::start(move |asked| match asked.path.as_str() {
        "/token" if count.fetch_add(1, Ordering::SeqCst) < 2 => status(401, &[]),
        "/token" => Response::new(Full::new(r#"{ "access_token": "a", "expires_in": 3600 }"#.into())),
        _ => status(if asked.header("authorization") == "Bearer a" { 200 } else { 500 }, &[]),
    });
    let auth = format!(
        "auth = {{ type = 'oauth2', token_url = '{}/token', client_id = 'flows', client_secret = 'geheim' }}",
        server.url
    );
    Site::new(&server, &format!("format = 'json'\n{auth}")).send(&numbers(3)).unwrap();
    assert_eq!(server.asked().iter().filter(|asked| asked.path == "/").count(), 1);
}

#[test]
fn what_is_refused_is_kept_apart_once_or_stops_the_flow() {
    let refuse = |asked: &Asked| status(if asked.body.contains("\"n\":3}") { 422 } else { 200 }, &[]);
    let server = Server::start(refuse);
    let site = Site::new(&server, "format = 'ndjson'\nrequest_rows = 2\nrefused = 'refused'");
    for _ in 0..2 {
        site.send(&numbers(6)).unwrap();
    }
    let lines = std::fs::read_to_string(site.work.path().join("refused/0123456789abcdef-node-2-2.ndjson")).unwrap();
    let rows: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((rows.len(), &rows[1]["row"]), (2, &"{\"n\":3}".into()));
    assert!(rows[0]["error"].as_str().unwrap().ends_with("the answer is 422 Unprocessable Entity: for a reason"));
    assert_eq!(server.asked().len(), 3, "what was answered for is not sent again");
    let site = Site::new(&server, "format = 'ndjson'\nrequest_rows = 2");
    let error = site.send(&numbers(6)).unwrap_err();
    let said = "the request has 2 rows that count, the first of which is {\"n\":2}; mend it";
    assert!(error.class() == ErrorClass::Permanent && error.to_string().contains(said), "{error}");
    // A service that is elsewhere now has not refused anything.
    let server = Server::start(|_| status(301, &[("location", "/there")]));
    let error = Site::new(&server, "format = 'ndjson'\nrefused = 'refused'").send(&numbers(6)).unwrap_err().to_string();
    assert!(error.contains("redirects are not followed"), "{error}");
}

/// A process that ends between an answer and its note sends one request again, and no other.
#[test]
fn it_goes_on_behind_the_last_answer_that_was_noted() {
    let shelves = Shelves::default();
    let taking = shelves.clone();
    let count = AtomicUsize::new(0);
    let server = Server::start(move |asked| {
        let answer = taking.take(asked);
        // The third is taken, and the answer says otherwise.
        if count.fetch_add(1, Ordering::SeqCst) == 2 { status(300, &[]) } else { answer }
    });
    let site = Site::new(&server, "format = 'ndjson'\nrequest_rows = 2");
    assert!(site.send(&numbers(10)).is_err());
    site.send(&numbers(10)).unwrap();
    assert_eq!(server.asked().len(), 6);
    assert_eq!(shelves.on("/").concat(), (0..10).map(|n| format!("{{\"n\":{n}}}\n")).collect::<String>());
}

#[test]
fn answers_of_any_length_are_taken_by_their_status() {
    let server = Server::start(|_| Response::new(Full::new(vec![b'x'; 4 << 20].into())));
    Site::new(&server, "format = 'json'\nmax_response = '1kB'").send(&numbers(3)).unwrap();
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn a_live_flow_without_state_sends_rows_as_they_come() {
    let count = AtomicUsize::new(0);
    let server = Server::start(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0..5 => status(503, &[]),
        5 => status(404, &[]),
        _ => status(200, &[]),
    });
    let site = Site::new(&server, "format = 'ndjson'\nrequest_rows = 2");
    let rows = numbers(5);
    let settings: HttpOutputSettings = parse(&site.settings);
    let live = Stream { is_live: true, ..stream("from", rows.schema()) };
    let mut output = (settings.plan(&context(), &live).unwrap().build)().unwrap();
    let mut out = Collector::new(0);
    runtime().block_on(async {
        let run = Run { incarnation: "ab".into(), generation: 0 };
        output.open(&Home::Nowhere, &run).await.unwrap();
        output.write(batch(rows), &mut out).await.unwrap();
    });
    let failed = out.take_failed();
    assert_eq!(failed.iter().map(|row| row.row.as_str()).collect::<Vec<_>>(), ["{\"n\":0}", "{\"n\":1}"]);
    let keys: Vec<_> = server.asked().iter().map(|asked| asked.header("idempotency-key").to_owned()).collect();
    assert_eq!(keys[5..], ["ab/node/0/0", "ab/node/0/2", "ab/node/0/4"]);
}

#[test]
fn a_look_sends_no_rows() {
    let server = Server::start(|asked| status(if asked.method == "HEAD" { 405 } else { 500 }, &[]));
    let look = |server: &Server| {
        let settings: HttpOutputSettings = parse(&Site::new(server, "format = 'json'\npath = 'x'").settings);
        runtime().block_on(settings.probe(&context()).unwrap())
    };
    let found = look(&server).unwrap();
    assert_eq!(found, format!("`{}/x` answers, with 405 Method Not Allowed to a request without rows", server.url));
    let server = Server::start(|_| status(401, &[]));
    assert!(look(&server).unwrap_err().to_string().contains("see `auth` of the connection"));
}

#[test]
fn requests_do_not_depend_on_where_one_begins() {
    let texts: String = (0..200).map(|n| format!("{n} {}\n", "x".repeat(n * 7 % 50 + 1))).collect();
    let rows = table(&format!("n:int64 text:utf8\n{texts}"));
    let settings: HttpOutputSettings =
        parse("url = 'http://a/'\nformat = 'ndjson'\nrequest_rows = 30\nrequest_bytes = '600B'");
    let addresses = Addresses::new(&settings.connection, &settings.path).unwrap();
    let layout = settings.layout(&addresses, &rows.schema(), &context()).unwrap();
    let (mut messages, mut others) = (Messages::default(), Messages::default());
    let requests = layout.requests(&rows, &mut messages).unwrap();
    let mut all = Vec::new();
    let mut from = 0;
    while from < rows.num_rows() {
        let packed = requests.pack(from, rows.num_rows()).unwrap();
        assert!(packed.body.len() <= 600 && packed.rows.len() <= 30);
        from = packed.rows.end;
        all.push(packed);
    }
    assert!(all.len() > 10);
    for packed in &all {
        // As the spool gives what was not sent.
        let start = packed.rows.start;
        let rest = rows.slice(start, rows.num_rows() - start);
        let of_rest = layout.requests(&rest, &mut others).unwrap();
        assert_eq!(of_rest.pack(0, rest.num_rows()).unwrap().body, packed.body);
    }
}

#[test]
fn messages_have_the_columns_of_their_rows_when_these_change() {
    let settings: HttpOutputSettings = parse("url = 'http://a/'\nmessage = 'json'");
    let addresses = Addresses::new(&settings.connection, &settings.path).unwrap();
    let rows = table("n:int64\n1\n2");
    let layout = settings.layout(&addresses, &rows.schema(), &context()).unwrap();
    let mut messages = Messages::default();
    let mut second = |rows: &RecordBatch| {
        let requests = layout.requests(rows, &mut messages).unwrap();
        requests.pack(1, rows.num_rows()).unwrap().body
    };
    assert_eq!(second(&rows), r#"{"n":2}"#);
    assert_eq!(second(&table("n:int64 text:utf8\n3 a\n4 b")), r#"{"n":4,"text":"b"}"#);
    assert_eq!(second(&rows), r#"{"n":2}"#);
}
