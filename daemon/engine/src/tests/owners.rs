//! Two processes that want the same flow.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::crash::MemoryStore;
use super::running::plan;
use crate::checkpoint::{Keeper, KeeperOptions, Vault};
use crate::run::{Effects, FlowError, PreparedFlow, RunningFlow, Status};

fn prepare(store: &Arc<MemoryStore>, text: &str) -> Result<PreparedFlow, FlowError> {
    let plan = plan(text);
    let vault = Vault::new(store.clone(), &plan.flow, "memory");
    let keeper = Keeper::open(&plan, vault, &KeeperOptions::default()).unwrap();
    PreparedFlow::new(plan, Effects::Keep(keeper))
}

fn start(store: &Arc<MemoryStore>, text: &str) -> Result<RunningFlow, FlowError> {
    Ok(prepare(store, text)?.take_over()?.start(&Handle::current()))
}

async fn until_read(running: &RunningFlow, rows: u64) {
    let stats = running.stats();
    let begun = Instant::now();
    while stats.nodes[0].rows_in.load(Ordering::Relaxed) < rows {
        assert!(begun.elapsed() < Duration::from_secs(60), "it reads no more");
        tokio::task::yield_now().await;
    }
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
    first.stopper().stop();
    let status = first.join().await.status;
    assert!(matches!(status, Status::Stopped), "{status:?}");
    let second = start(&store, FLOW).unwrap();
    second.stopper().stop();
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
    first.stopper().stop();
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
    let second = prepared.take_over().unwrap().start(&Handle::current());
    let error = first.join().await.status;
    assert!(
        matches!(&error, Status::Failed(error) if error.to_string().contains("has taken this flow over")),
        "{error:?}"
    );
    second.stopper().stop();
    assert!(matches!(second.join().await.status, Status::Stopped));
    writer.stopper().stop();
    assert!(matches!(writer.join().await.status, Status::Stopped));
}
