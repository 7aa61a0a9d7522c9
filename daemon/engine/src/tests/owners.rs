//! Two processes that want the same flow.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use super::crash::MemoryStore;
use super::running::plan;
use crate::checkpoint::{CheckpointStore, FlowCheckpoints, Manifest, Piece, ResumeOptions};
use crate::run::{FlowError, PreparedFlow, ReadyFlow, RunMode, RunningFlow, Status, TakeOver};

fn prepare(store: &Arc<MemoryStore>, text: &str) -> Result<PreparedFlow, FlowError> {
    let plan = plan(text);
    let checkpoint_store = CheckpointStore::new(store.clone(), &plan.flow, "memory");
    let checkpoints = FlowCheckpoints::open(&plan, checkpoint_store, &ResumeOptions::default()).unwrap();
    PreparedFlow::new(plan, RunMode::Keep(checkpoints))
}

fn start(store: &Arc<MemoryStore>, text: &str) -> Result<RunningFlow, FlowError> {
    Ok(until_taken_over(prepare(store, text)?, text)?.start(&Handle::current()))
}

/// Prepares a flow again as long as its owner is faster.
fn until_taken_over(mut prepared: PreparedFlow, text: &str) -> Result<ReadyFlow, FlowError> {
    loop {
        match prepared.take_over()? {
            TakeOver::Ready(ready) => return Ok(*ready),
            TakeOver::Outrun(checkpoints) => prepared = PreparedFlow::new(plan(text), RunMode::Keep(checkpoints))?,
        }
    }
}

async fn until_read(running: &RunningFlow, rows: u64) {
    let stats = running.stats();
    let begun = Instant::now();
    while stats.nodes[0].rows_in.load(Ordering::Relaxed) < rows {
        assert!(begun.elapsed() < Duration::from_secs(60), "it reads no more");
        tokio::task::yield_now().await;
    }
}

fn newest(store: &Arc<MemoryStore>, text: &str) -> Manifest {
    CheckpointStore::new(store.clone(), &plan(text).flow, "memory").latest().unwrap().unwrap().0
}

const FLOW: &str = r#"
    flow = { name = "owners", epoch.rows = 10 }
    checkpoint.epochs = 1
    input.a = { type = "count", rows = 0, endless = true, batch_rows = 5 }
    output.c = { type = "file", from = "a", path = "owners/c", claims = true }
"#;

#[tokio::test]
async fn who_can_not_write_an_output_leaves_the_flow_to_its_owner() {
    let store = Arc::new(MemoryStore::default());
    let first = start(&store, FLOW).unwrap();
    until_read(&first, 100).await;
    let error = start(&store, FLOW).unwrap_err().to_string();
    assert_eq!(error, "node `c`: another run is writing `owners/c`");
    until_read(&first, 300).await;
    first.control().stop();
    let status = first.join().await.status;
    assert!(matches!(status, Status::Stopped), "{status:?}");
    let second = start(&store, FLOW).unwrap();
    second.control().stop();
    assert!(matches!(second.join().await.status, Status::Stopped));
}

#[tokio::test]
async fn who_can_not_read_the_state_leaves_the_flow_to_its_owner() {
    let store = Arc::new(MemoryStore::default());
    let flow = FLOW.replace("from = \"a\"", "from = \"b\"").replace("owners", "readers").replace(", claims = true", "");
    let flow = format!("{flow}\nprocessor.b = {{ type = \"publish\", from = \"a\", every = 1000000 }}");
    let first = start(&store, &flow).unwrap();
    until_read(&first, 100).await;
    while !store.has("/blobs/", "") {
        tokio::task::yield_now().await;
    }
    // Somebody else does not find what the newest checkpoint needs, or not what it was.
    let damaged: Vec<_> = store.keys.lock().unwrap().clone().into_iter().collect();
    let other = Arc::new(MemoryStore::default());
    for (key, mut bytes) in damaged {
        if key.contains("/blobs/") {
            bytes[7] ^= 1;
        }
        other.keys.lock().unwrap().insert(key, bytes);
    }
    let manifests = other.highest("/manifests/");
    let error = start(&other, &flow).unwrap_err().to_string();
    assert!(error.contains("it is damaged"), "{error}");
    assert_eq!(other.highest("/manifests/"), manifests, "it has not taken the flow over");
    first.control().stop();
    assert!(matches!(first.join().await.status, Status::Stopped));
}

#[tokio::test]
async fn who_can_not_go_on_from_the_state_leaves_the_flow_to_its_owner() {
    let store = Arc::new(MemoryStore::default());
    let flow = FLOW.replace("from = \"a\"", "from = \"b\"").replace("owners", "picky").replace(", claims = true", "");
    let flow = format!("{flow}\nprocessor.b = {{ type = \"batched\", from = \"a\", rows = 7 }}");
    let first = start(&store, &flow).unwrap();
    until_read(&first, 100).await;
    // The state of another build, say, has all its checksums.
    let other = Arc::new(MemoryStore { keys: store.keys.lock().unwrap().clone().into(), ..MemoryStore::default() });
    let mut manifest = newest(&other, &flow);
    manifest.number += 1;
    manifest
        .nodes
        .get_mut("b")
        .unwrap()
        .state
        .values_mut()
        .for_each(|piece| *piece = Piece::inline(b"\xff\xff\xff\xff"));
    CheckpointStore::new(other.clone(), "picky", "memory").put(&manifest).unwrap().unwrap();
    let error = start(&other, &flow).unwrap_err().to_string();
    assert!(error.starts_with("node `b`: "), "{error}");
    assert_eq!(other.highest("/manifests/"), Some(manifest.number), "it has not taken the flow over");
    first.control().stop();
    assert!(matches!(first.join().await.status, Status::Stopped));
}

#[tokio::test]
async fn a_flow_is_its_owner_s_until_the_flows_beside_it_are_prepared() {
    let (store, other) = (Arc::new(MemoryStore::default()), Arc::new(MemoryStore::default()));
    let flow = FLOW.replace("owners", "prepared").replace(", claims = true", "");
    let beside = FLOW.replace("owners", "beside");
    let first = start(&store, &flow).unwrap();
    let writer = start(&other, &beside).unwrap();
    until_read(&first, 100).await;
    let prepared = prepare(&store, &flow).unwrap();
    let error = prepare(&other, &beside).unwrap_err().to_string();
    assert_eq!(error, "node `c`: another run is writing `beside/c`");
    until_read(&first, 300).await;
    // It goes on from what the owner has written meanwhile.
    let second = until_taken_over(prepared, &flow).unwrap().start(&Handle::current());
    let error = first.join().await.status;
    assert!(
        matches!(&error, Status::Failed(error) if error.to_string().contains("has taken this flow over")),
        "{error:?}"
    );
    second.control().stop();
    assert!(matches!(second.join().await.status, Status::Stopped));
    writer.control().stop();
    assert!(matches!(writer.join().await.status, Status::Stopped));
}
