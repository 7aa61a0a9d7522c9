//! What becomes of uploads and objects in the hands of others, with a real S3.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use futures::TryStreamExt as _;
use millstream_core::{
    Barrier, Collector, CommitContext, Committer, Epoch, Home, Output, OutputSettings as _, PendingCommit, Run, Then,
};
use millstream_testkit::{Fault, Proxy, batch, context, parse, stream, table};
use object_store::ObjectStoreExt as _;

use super::*;
use crate::conformance::{endpoint, lines, objects, settings};

/// Rows that are more than a part, in tests of this crate.
fn rows() -> arrow::array::RecordBatch {
    let text: String = (0..40).map(|id| format!("{id} name_{id}\n")).collect();
    table(&format!("id:int64 name:utf8\n{text}"))
}

/// An output in a folder of S3.
fn output(endpoint: &str, below: &str, rows: &arrow::array::RecordBatch) -> Box<dyn Output> {
    let more = format!(
        "path = '{below}'\nformat = 'csv'\nretry = {{ attempts = 3, first_pause = '1ms', longest_pause = '5ms' }}\n"
    );
    let settings: ObjectsOutput = parse(&format!("{}{more}", settings(endpoint)));
    (settings.plan(&context(), &stream("from", rows.schema())).unwrap().build)().unwrap()
}

fn run(generation: u64) -> Run {
    Run { incarnation: "0123456789abcdef".into(), generation }
}

/// Writes all rows, and what is staged of them.
async fn stage(output: &mut dyn Output, home: &Home, run: &Run, rows: &arrow::array::RecordBatch) -> PendingCommit {
    output.open(home, run).await.unwrap();
    output.write(batch(rows.clone()), &mut Collector::new(0)).await.unwrap();
    output.barrier(Epoch(1));
    let snapshot = output.stage(Barrier { epoch: Epoch(1), then: Then::Stop }).await.unwrap();
    snapshot.state.into_state().unwrap();
    let context = CommitContext {
        incarnation: run.incarnation.clone(),
        generation: run.generation,
        checkpoint: 2,
        epoch: Epoch(1),
        home: home.clone(),
        ..CommitContext::default()
    };
    PendingCommit { staged: snapshot.staged.into_state().unwrap(), context }
}

/// The committer of another process.
fn other(endpoint: &str, below: &str) -> Box<dyn Committer> {
    output(endpoint, below, &rows()).committer().unwrap()
}

fn folder() -> (tempfile::TempDir, Home) {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::Folder(folder.path().join("node"));
    (folder, home)
}

/// The files in the node's folder with such an ending.
fn files(home: &Home, ending: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(home.folder().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.to_string_lossy().ends_with(ending)).collect()
}

/// Waits until an upload has begun, which happens in the background, and all parts of it are there.
#[expect(clippy::disallowed_methods, reason = "a store takes real time")]
async fn sent(home: &Home) {
    let is_whole = |file: &PathBuf| std::fs::read_to_string(file).unwrap().contains('[');
    let begin = Instant::now();
    while !files(home, ".upload").first().is_some_and(is_whole) {
        assert!(begin.elapsed() < Duration::from_secs(180), "no upload has all its parts");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// How often each row is visible.
fn visible(below: &str) -> usize {
    let lines = lines("s3://bucket/below", below, 1);
    let all: std::collections::BTreeSet<_> = lines.iter().collect();
    assert_eq!(all.len(), lines.len(), "rows that are there twice");
    lines.len()
}

/// What is there below a name.
async fn take_away(below: &str) -> usize {
    let store = objects("s3://bucket/below");
    let there: Vec<_> = store.store.list(Some(&store.path(below).unwrap())).try_collect().await.unwrap();
    for object in &there {
        store.store.delete(&object.location).await.unwrap();
    }
    there.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_is_completed_by_another_process_and_twice() {
    let (Some(endpoint), (_folder, home), rows) = (endpoint(), folder(), rows()) else { return };
    let mut first = output(&endpoint, "twice", &rows);
    let pending = stage(&mut *first, &home, &run(1), &rows).await;
    // The parts are there, and nobody sees them.
    sent(&home).await;
    assert_eq!(visible("twice"), 0);
    other(&endpoint, "twice").commit(&pending).await.unwrap();
    assert_eq!(visible("twice"), 40);
    // The first one does not know of it, and the marker is not there, as if it had died before.
    for marker in files(&home, ".visible") {
        std::fs::remove_file(marker).unwrap();
    }
    let mut committer = first.committer().unwrap();
    committer.commit(&pending).await.unwrap();
    assert_eq!(visible("twice"), 40);
    committer.committed(&pending).await.unwrap();
    assert!(files(&home, "").is_empty(), "{:?}", files(&home, ""));
    committer.commit(&pending).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_is_gone_is_sent_once_more() {
    let (Some(endpoint), (_folder, home), rows) = (endpoint(), folder(), rows()) else { return };
    let mut first = output(&endpoint, "gone", &rows);
    let pending = stage(&mut *first, &home, &run(1), &rows).await;
    sent(&home).await;
    let [noted] = &files(&home, ".upload")[..] else { panic!("no upload was begun") };
    let part = noted.with_extension("");
    let store = objects("s3://bucket/below");
    let name = part.file_name().unwrap().to_str().unwrap().strip_prefix('.').unwrap();
    let name = name.strip_suffix(".0123456789abcdef-1.part").unwrap();
    let path = store.path(&format!("gone/{name}")).unwrap();
    uploads::Uploads::new(store).give_up(&path, &part).await;
    other(&endpoint, "gone").commit(&pending).await.unwrap();
    assert_eq!(visible("gone"), 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_that_was_taken_away_does_not_come_again() {
    let (Some(endpoint), (_folder, home), rows) = (endpoint(), folder(), rows()) else { return };
    let mut first = output(&endpoint, "away", &rows);
    let pending = stage(&mut *first, &home, &run(1), &rows).await;
    first.committer().unwrap().commit(&pending).await.unwrap();
    assert_eq!(take_away("away").await, 1);
    other(&endpoint, "away").recover(std::slice::from_ref(&pending), &pending.context).await.unwrap();
    assert_eq!(visible("away"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_state_is_elsewhere_another_process_has_the_bytes() {
    let (Some(endpoint), rows) = (endpoint(), rows()) else { return };
    let mut first = output(&endpoint, "elsewhere", &rows);
    let pending = stage(&mut *first, &Home::Elsewhere, &run(1), &rows).await;
    // Its successor goes on while it stands still, and it wakes up.
    let mut waking = first.committer().unwrap();
    let staged: Vec<committer::StagedObject> = pending.staged.get(committer::STAGED).unwrap();
    let away = staged[0].file.with_extension("away");
    std::fs::rename(&staged[0].file, &away).unwrap();
    other(&endpoint, "elsewhere").commit(&pending).await.unwrap();
    std::fs::rename(&away, &staged[0].file).unwrap();
    assert_eq!(visible("elsewhere"), 40);
    waking.commit(&pending).await.unwrap();
    assert_eq!(visible("elsewhere"), 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_checkpoint_has_decided_is_given_up_by_the_next_run() {
    let (Some(endpoint), (_folder, home), rows) = (endpoint(), folder(), rows()) else { return };
    let mut first = output(&endpoint, "undecided", &rows);
    stage(&mut *first, &home, &run(1), &rows).await;
    sent(&home).await;
    drop(first);
    assert!(!files(&home, ".part").is_empty());
    let mut second = output(&endpoint, "undecided", &rows);
    second.open(&home, &run(2)).await.unwrap();
    assert!(files(&home, "").is_empty(), "{:?}", files(&home, ""));
    assert_eq!(visible("undecided"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_are_lost_cut_and_errors_do_no_harm() {
    let (Some(endpoint), rows) = (endpoint(), rows()) else { return };
    for seed in 0..10_u64 {
        let faults = move |number: u64, _: &[u8]| match (seed << 32 | number).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40
        {
            random if random % 5 > 0 => None,
            random => Some(match random / 5 % 6 {
                0 => Fault::Lost,
                1 => Fault::Unanswered,
                2 => Fault::Cut(30),
                3 => Fault::Late(Duration::from_millis(20)),
                4 => Fault::Status(500),
                _ => Fault::Status(503),
            }),
        };
        let proxy = Proxy::start(endpoint.strip_prefix("http://").unwrap(), faults);
        let (_folder, home) = folder();
        let (below, through) = (format!("faults-{seed}"), format!("http://{}", proxy.address()));
        let mut first = output(&through, &below, &rows);
        let pending = stage(&mut *first, &home, &run(1), &rows).await;
        let mut committer = first.committer().unwrap();
        // As the engine does it, until it succeeds.
        let mut tries = 0;
        while let Err(error) = committer.commit(&pending).await {
            assert_eq!(error.class(), millstream_core::ErrorClass::Transient, "{error}");
            tries += 1;
            assert!(tries < 100, "{error}");
        }
        assert_eq!(visible(&below), 40, "{seed}");
        committer.committed(&pending).await.unwrap();
        assert!(files(&home, "").is_empty(), "{:?}", files(&home, ""));
    }
}
