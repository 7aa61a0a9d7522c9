//! What is taken, refused, and read again; restarts, and disks that fail.

#![allow(clippy::unwrap_used)]

mod hostile;
mod lines;

use std::sync::mpsc;
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use millstream_core::{Collector, FailedRow, Home, Input, Parts, Positions, Progress};
use millstream_store::LocalFiles;
use millstream_store::simulation::{Faults, Simulation};
use millstream_testkit::context;

use super::*;

const NDJSON: &str = "format = \"ndjson\"\nschema = { a = \"int64\" }";

/// How many bytes may come at once.
const LARGEST: usize = 1000;

/// Lets a test bring the rows.
struct ByHand(mpsc::Sender<Ingest>);

#[async_trait]
impl Receiver for ByHand {
    async fn start(&mut self, ingest: Ingest) -> Result<Box<dyn Send>> {
        self.0.send(ingest).unwrap();
        Ok(Box::new(()))
    }
}

/// An input, and what takes its rows, which goes first.
struct Opened {
    ingest: Ingest,
    input: PushInput,
}

/// Where an input has its log.
struct Site {
    settings: String,
    context: PlanContext,
    home: tempfile::TempDir,
}

impl Site {
    fn new(settings: &str) -> Self {
        Self { settings: settings.to_owned(), context: context(), home: tempfile::tempdir().unwrap() }
    }

    fn input(&self, files: Arc<dyn Files>) -> (PushInput, mpsc::Receiver<Ingest>) {
        let settings: PushSettings = toml::from_str(&self.settings).unwrap();
        let (sender, ingest) = mpsc::channel();
        let node = PushNode { kind: "by_hand", largest: LARGEST, receiver: Box::new(ByHand(sender)) };
        (settings.input(node, &self.context, files).unwrap(), ingest)
    }

    fn home(&self) -> Home {
        Home::Folder(self.home.path().to_owned())
    }

    async fn open(&self) -> Opened {
        let (mut input, ingest) = self.input(Arc::new(LocalFiles));
        input.open(&self.home()).await.unwrap();
        Opened { ingest: ingest.recv().unwrap(), input }
    }

    /// Opens it as a flow does that is resumed from a checkpoint.
    async fn resume(&self, positions: &Positions, state: Parts) -> Opened {
        let (mut input, ingest) = self.input(Arc::new(LocalFiles));
        input.restore(positions, &state.into_state().unwrap()).unwrap();
        input.open(&self.home()).await.unwrap();
        Opened { ingest: ingest.recv().unwrap(), input }
    }

    /// Opens it on a simulated disk.
    async fn open_on(&self, files: &Simulation) -> Opened {
        let (mut input, ingest) = self.input(Arc::new(files.clone()));
        input.open(&Home::Folder("/home".into())).await.unwrap();
        Opened { ingest: ingest.recv().unwrap(), input }
    }
}

impl Opened {
    async fn send(&self, key: Option<&str>, bytes: impl Into<Vec<u8>>) -> Result<Ack, Refused> {
        let key = key.map(|key| Key::new(key).unwrap());
        self.ingest.take(key, FormatTag::OWN, bytes.into(), self.ingest.memory()).await
    }

    /// The position of rows that are taken.
    async fn push(&self, key: Option<&str>, rows: &[i64]) -> u64 {
        let taken = self.send(key, body(rows)).await.unwrap();
        assert_eq!(taken.rows as usize, rows.len());
        taken.first.unwrap()
    }

    /// The next rows with their positions, and those that failed.
    async fn next(&mut self) -> (Vec<(u64, i64)>, Vec<FailedRow>) {
        let mut out = Collector::new(1);
        self.input.next(&mut out).await.unwrap();
        let mut rows = Vec::new();
        for batch in out.take(0) {
            let values = batch.rows.column(0).as_primitive::<Int64Type>().values().to_vec();
            rows.extend((batch.origin.start..batch.origin.end).zip(values));
        }
        (rows, out.take_failed())
    }

    /// The rows until there is none for a while.
    async fn drain(&mut self) -> Vec<(u64, i64)> {
        let mut rows = Vec::new();
        while let Ok((more, _)) = tokio::time::timeout(Duration::from_millis(100), self.next()).await {
            rows.extend(more);
        }
        rows
    }

    /// What a checkpoint at a position keeps. It is complete.
    async fn checkpoint(&mut self, position: u64) -> (Positions, Parts) {
        let positions = at(position);
        let state = self.input.snapshot(&positions).unwrap();
        self.input.checkpoint_completed(&positions, &positions).await.unwrap();
        (positions, state)
    }
}

fn body(rows: &[i64]) -> Vec<u8> {
    rows.iter().map(|row| format!("{{\"a\":{row}}}\n")).collect::<String>().into_bytes()
}

fn at(position: u64) -> Positions {
    [("".into(), position)].into()
}

#[tokio::test]
async fn what_was_acknowledged_comes_once_across_restarts() {
    let site = Site::new(NDJSON);
    let mut opened = site.open().await;
    assert_eq!(opened.push(None, &[10, 11]).await, 0);
    assert_eq!(opened.push(None, &[12, 13, 14]).await, 2);
    assert_eq!(opened.send(None, "").await, Ok(Ack { first: None, rows: 0 }));
    assert_eq!(opened.drain().await, [(0, 10), (1, 11), (2, 12), (3, 13), (4, 14)]);
    assert_eq!(opened.push(None, &[15]).await, 5);
    drop(opened);
    // There was no checkpoint yet.
    let mut opened = site.open().await;
    assert_eq!(opened.drain().await.len(), 6);
    // It may lie within what came at once, and rows behind it may have been read.
    let (positions, state) = opened.checkpoint(3).await;
    drop(opened);
    let mut opened = site.resume(&positions, state).await;
    assert_eq!(opened.push(None, &[16]).await, 6);
    assert_eq!(opened.drain().await, [(3, 13), (4, 14), (5, 15), (6, 16)]);
}

#[tokio::test]
async fn rows_are_gone_through_again_while_others_come() {
    let site = Site::new(NDJSON);
    let mut opened = site.open().await;
    opened.push(None, &[10, 11]).await;
    assert_eq!(opened.drain().await.len(), 2);
    let (positions, state) = opened.checkpoint(1).await;
    opened.push(None, &[12]).await;
    let (mut again, ingest) = site.input(Arc::new(LocalFiles));
    again.restore(&positions, &state.into_state().unwrap()).unwrap();
    again.open(&Home::Replay(Some(site.home.path().to_owned()))).await.unwrap();
    assert!(ingest.try_recv().is_err(), "nothing is received");
    opened.push(None, &[13]).await;
    let mut out = Collector::new(1);
    again.next(&mut out).await.unwrap();
    assert_eq!(out.take(0).map(|batch| (batch.origin.start, batch.origin.end)).collect::<Vec<_>>(), [(1, 3)]);
    assert_eq!(again.next(&mut out).await.unwrap(), Progress::End);
}

#[tokio::test]
async fn a_key_is_taken_once_also_when_its_record_is_gone() {
    let site = Site::new(&format!("{NDJSON}\nmax_log = \"4kB\""));
    let mut opened = site.open().await;
    let many: Vec<i64> = (0..20).collect();
    for number in 0..32 {
        assert_eq!(opened.push(Some(&number.to_string()), &many).await, number * 20);
        if number % 8 == 7 {
            let last = opened.drain().await.last().unwrap().0 + 1;
            let (positions, state) = opened.checkpoint(last).await;
            if number == 31 {
                // These are taken after the checkpoint.
                assert_eq!(opened.push(Some("late"), &[1]).await, 640);
                assert_eq!(opened.push(Some("late"), &[1]).await, 640);
                drop(opened);
                opened = site.resume(&positions, state).await;
                break;
            }
        }
    }
    for number in 0..32 {
        assert_eq!(opened.push(Some(&number.to_string()), &many).await, number * 20);
    }
    assert_eq!(opened.push(Some("late"), &[1]).await, 640);
    // Other rows, of a sender that has mistaken itself.
    for key in ["3", "late"] {
        assert_eq!(opened.send(Some(key), body(&[2])).await, Err(Refused::KeyOfOthers));
    }
    assert_eq!(opened.drain().await, [(640, 1)]);
}

#[tokio::test]
async fn rows_that_cannot_be_read_are_refused_at_the_door() {
    let csv = "format = \"csv\"\nschema = { a = \"int64?\" }";
    let unreadable = |row, why: &str| Refused::Unreadable { row, why: why.to_owned() };
    for (settings, bytes, refused) in [
        (csv, "a\n1\nbad\n3\nworse\n", {
            let why = "row 1, counted from 0, can't be read, nor can 1 other of 4: column `a`: `bad` is not an `int64`; none was taken";
            unreadable(Some(1), why)
        }),
        (csv, "b,c\n1,2\n", unreadable(None, "none of the columns is in the header, which has `b`, `c`")),
        (csv, "17\n", unreadable(None, "none of the columns is in the header, which has `17`")),
    ] {
        let site = Site::new(settings);
        let mut opened = site.open().await;
        assert_eq!(opened.send(Some("k"), bytes).await, Err(refused));
        // The key is free.
        assert_eq!(opened.send(Some("k"), "a\n1\n").await, Ok(Ack { first: Some(0), rows: 1 }));
        assert_eq!(opened.drain().await, [(0, 1)]);
    }
    let site = Site::new(NDJSON);
    let mut opened = site.open().await;
    for bytes in ["hello\n", "[1, 2]", "a=1&b=2"] {
        assert!(matches!(opened.send(None, bytes).await, Err(Refused::Unreadable { row: Some(0), .. })), "{bytes}");
    }
    assert_eq!(opened.send(None, b"{\"a\": 1}\xff".to_vec()).await, Err(Refused::NoText));
    assert_eq!(opened.drain().await, []);
}

#[tokio::test]
async fn formats_have_all_their_settings() {
    let format = "{ type = \"csv\", delimiter = \";\", header = false, skip_lines = 1, encoding = \"latin-1\" }";
    let site = Site::new(&format!("format = {format}\nschema = {{ a = \"int64\", b = \"utf8\" }}"));
    let mut opened = site.open().await;
    let taken = opened.send(None, b"made by h\xe4nd\n1;\xfc\n2;x\n".to_vec()).await;
    assert_eq!(taken, Ok(Ack { first: Some(0), rows: 2 }));
    assert_eq!(opened.drain().await, [(0, 1), (1, 2)]);
}

#[tokio::test]
async fn columns_that_the_flow_does_not_use_are_judged_as_well() {
    let mut site = Site::new("format = \"ndjson\"\nschema = { a = \"int64\", b = \"int64\" }");
    site.context.columns = Some(["a".to_owned()].into());
    let mut opened = site.open().await;
    assert!(opened.send(None, "{\"a\": 1, \"b\": \"x\"}\n").await.is_err());
    opened.send(None, "{\"a\": 1, \"b\": 2}\n").await.unwrap();
    assert_eq!(opened.drain().await, [(0, 1)]);
}

#[tokio::test]
async fn rows_that_were_taken_with_another_schema_leave_with_their_position() {
    let site = Site::new("format = \"ndjson\"\nschema = { a = \"utf8\" }");
    let opened = site.open().await;
    opened.send(None, "{\"a\": \"1\"}\n{\"a\": \"x\"}\n").await.unwrap();
    drop(opened);
    let site = Site { settings: site.settings.replace("utf8", "int64"), ..site };
    let (rows, failed) = site.open().await.next().await;
    assert_eq!(rows, [(0, 1)]);
    assert_eq!((failed.len(), failed[0].position, failed[0].row.as_str()), (1, Some(1), "{\"a\": \"x\"}"));
}

#[tokio::test]
async fn a_format_that_counts_otherwise_is_noticed() {
    let site = Site::new("format = \"csv\"\nschema = { a = \"int64?\" }");
    site.open().await.send(None, "a\n1\n").await.unwrap();
    let other = "{ type = \"csv\", header = false }";
    let site = Site { settings: site.settings.replace("\"csv\"", other), ..site };
    let mut opened = site.open().await;
    let error = opened.input.next(&mut Collector::new(1)).await.unwrap_err().to_string();
    assert!(error.starts_with("what was pushed at 0 has other rows than when it was taken"), "{error}");
}

#[tokio::test]
async fn a_full_disk_acknowledges_nothing() {
    let site = Site::new(NDJSON);
    let files = Simulation::new(7);
    let mut opened = site.open_on(&files).await;
    opened.push(None, &[1]).await;
    files.set_faults(Faults { capacity: 100, ..Faults::NONE });
    let refused = opened.send(Some("k"), body(&[2; 20])).await;
    assert!(matches!(&refused, Err(Refused::NoRoom(why)) if why.starts_with("writing the log: ")), "{refused:?}");
    assert_eq!(opened.drain().await, [(0, 1)]);
    files.set_faults(Faults::NONE);
    assert_eq!(opened.push(Some("k"), &[2, 3]).await, 1);
    drop(opened);
    assert_eq!(site.open_on(&files.restarted()).await.drain().await, [(0, 1), (1, 2), (2, 3)]);
}

#[tokio::test]
async fn a_full_log_is_written_again_when_it_is_covered() {
    let site = Site::new(&format!("{NDJSON}\nmax_log = \"4kB\""));
    let mut opened = site.open().await;
    let rows = [1; 80];
    let mut taken = 0;
    while opened.send(None, body(&rows)).await.is_ok() {
        taken += 80;
    }
    assert!(taken > 3 * 80);
    let refused = opened.send(None, body(&rows)).await;
    let is_full = matches!(&refused, Err(Refused::NoRoom(why)) if why.starts_with("the log is full: it holds "));
    assert!(is_full, "{refused:?}");
    assert_eq!(opened.drain().await.len(), taken);
    opened.checkpoint(taken as u64).await;
    assert_eq!(opened.push(None, &rows).await, taken as u64);
}

#[tokio::test]
async fn a_disk_that_fails_may_leave_open_what_counts() {
    let site = Site::new(NDJSON);
    let files = Simulation::new(3);
    let opened = site.open_on(&files).await;
    files.set_faults(Faults { errors: 1000, ..Faults::NONE });
    let refused = opened.send(Some("k"), body(&[1, 2])).await;
    assert!(matches!(refused, Err(Refused::Unknown(_))), "{refused:?}");
    files.set_faults(Faults::NONE);
    assert_eq!(opened.push(Some("k"), &[1, 2]).await, 0);
    drop(opened);
    assert_eq!(site.open_on(&files.restarted()).await.drain().await, [(0, 1), (1, 2)]);
}

#[tokio::test]
async fn it_begins_from_scratch_with_what_its_log_still_has() {
    let site = Site::new(&format!("{NDJSON}\nmax_log = \"4kB\""));
    let mut opened = site.open().await;
    for _ in 0..3 {
        opened.push(None, &[1; 80]).await;
    }
    assert_eq!(opened.drain().await.len(), 240);
    opened.checkpoint(200).await;
    drop(opened);
    // As after `--reset`: nothing is restored.
    let mut opened = site.open().await;
    assert_eq!(opened.push(None, &[2]).await, 240);
    let rows = opened.drain().await;
    assert_eq!((rows[0], rows.last(), rows.len()), ((160, 1), Some(&(240, 2)), 81));
    drop(opened);
    // Without any checkpoint nothing is trimmed, and so something is missing.
    std::fs::remove_file(site.home.path().join("covered")).unwrap();
    let error = site.input(Arc::new(LocalFiles)).0.open(&site.home()).await.unwrap_err().to_string();
    assert!(error.contains("record 0 is no longer in the log"), "{error}");
}

#[tokio::test]
async fn a_log_that_is_gone_is_told() {
    let site = Site::new(NDJSON);
    let mut opened = site.open().await;
    opened.push(None, &[1, 2]).await;
    let (positions, state) = opened.checkpoint(2).await;
    drop(opened);
    std::fs::remove_dir_all(site.home.path().join("log")).unwrap();
    let (mut input, _) = site.input(Arc::new(LocalFiles));
    input.restore(&positions, &state.into_state().unwrap()).unwrap();
    let error = input.open(&site.home()).await.unwrap_err().to_string();
    assert!(error.contains("acknowledged from 2 on, if there were any (rows 0 to 1 are in the flow"), "{error}");
}

#[tokio::test]
async fn memory_is_shared_by_all_that_comes() {
    let site = Site::new(NDJSON);
    let opened = site.open().await;
    let (mut one, mut other) = (opened.ingest.memory(), opened.ingest.memory());
    one.grow(3 << 20).unwrap();
    assert!(matches!(other.grow(2 << 20), Err(Refused::NoRoom(_))));
    opened.ingest.take(None, FormatTag::OWN, body(&[1]), one).await.unwrap();
    other.grow(2 << 20).unwrap();
}

#[tokio::test]
async fn what_it_needs() {
    let site = Site::new(NDJSON);
    for (home, needs) in [
        (
            Home::Nowhere,
            "`by_hand` acknowledges rows only when they are durable, and so needs `millstream run --state DIR`",
        ),
        (Home::Elsewhere, "`--state DIR` with a folder, not a URL"),
        (Home::Replay(None), "`--state DIR` with a folder, not a URL"),
    ] {
        let error = site.input(Arc::new(LocalFiles)).0.open(&home).await.unwrap_err().to_string();
        assert!(error.contains(needs), "{error}");
    }
    let plan = site.input(Arc::new(LocalFiles)).0.plan();
    assert_eq!((plan.finite, plan.replayable, plan.acknowledges, plan.interleaved), (false, true, true, false));
}

#[test]
fn settings_that_are_wrong() {
    let place = |settings: &str| {
        let settings: PushSettings = toml::from_str(settings).unwrap();
        let node = PushNode { kind: "by_hand", largest: LARGEST, receiver: Box::new(ByHand(mpsc::channel().0)) };
        settings.input(node, &context(), Arc::new(LocalFiles)).err().unwrap().at
    };
    assert_eq!(place(&format!("{NDJSON}\nmax_log = \"3kB\"")), ["max_log".into()]);
    assert_eq!(place("format = \"csv\"\nschema = { a = \"list<int64>\" }"), ["schema".into()]);
    let format = "format = { type = \"csv\", delimiter = \"é\" }\nschema = { a = \"int64\" }";
    assert_eq!(place(format), ["format".into(), "delimiter".into()]);
}
