//! Flows that are stopped far from the next barrier.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use super::crash::MemoryStore;
use super::kinds::committed_text;
use super::running::plan;
use crate::checkpoint::{CheckpointStore, FlowCheckpoints, ResumeOptions};
use crate::run::{Outcome, RunMode, RunningFlow, Status};

/// Its output takes a second for each row, so that barriers are minutes apart.
const FLOW: &str = r#"
    flow = { name = "patience", epoch.rows = 100 }
    checkpoint.epochs = 1
    input.a = { type = "count", rows = 250, batch_rows = 1 }
    output.c = { type = "file", from = "a", path = "patience/c", slow = 1000 }
"#;

fn start(store: &Arc<MemoryStore>, text: &str) -> RunningFlow {
    let plan = plan(text);
    let checkpoint_store = CheckpointStore::new(store.clone(), &plan.flow, "memory");
    let checkpoints = FlowCheckpoints::open(&plan, checkpoint_store, &ResumeOptions::default()).unwrap();
    RunningFlow::start(plan, RunMode::Keep(checkpoints), &Handle::current()).unwrap()
}

/// The numbers that are committed at a path.
fn committed(path: &str) -> Vec<i64> {
    committed_text(path).lines().skip(1).map(|line| line.parse().unwrap()).collect()
}

/// Stops a flow when its output has had so many rows. How it ends, and how long that takes.
async fn stop_behind(running: RunningFlow, rows: u64) -> (Outcome, Duration) {
    let (stats, control) = (running.stats(), running.control());
    let stop = async {
        while stats.nodes[1].rows_in.load(Ordering::Relaxed) < rows {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        control.stop();
        Instant::now()
    };
    let (outcome, stopped) = tokio::join!(running.join(), stop);
    (outcome, stopped.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_finite_flow_that_comes_to_no_border_in_time_goes_on_from_its_last_checkpoint() {
    let store = Arc::new(MemoryStore::default());
    let (outcome, took) = stop_behind(start(&store, FLOW), 150).await;
    assert!(matches!(outcome.status, Status::Stopped), "{outcome:?}");
    assert!(outcome.unfinished && outcome.abandoned && took < Duration::from_secs(4), "{outcome:?} after {took:?}");
    assert_eq!(committed("patience/c"), (0..100).collect::<Vec<_>>());
    let outcome = start(&store, FLOW).join().await;
    assert!(matches!(outcome.status, Status::Done), "{outcome:?}");
    assert_eq!(committed("patience/c"), (0..250).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_finite_flow_that_comes_to_a_border_in_time_stops_there() {
    let store = Arc::new(MemoryStore::default());
    let text = FLOW.replace("patience", "punctual").replace("250", "1000").replace("slow = 1000", "slow = 10");
    let (outcome, _) = stop_behind(start(&store, &text), 150).await;
    assert!(matches!(outcome.status, Status::Stopped) && outcome.unfinished && !outcome.abandoned, "{outcome:?}");
    let committed = committed("punctual/c");
    assert!(committed.len() < 1000 && committed.len().is_multiple_of(100), "{}", committed.len());
    assert_eq!(committed, (0..committed.len() as i64).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_live_flow_works_off_what_it_has_read_however_long_that_takes() {
    let store = Arc::new(MemoryStore::default());
    let text = FLOW.replace("patience", "diligent").replace("rows = 250", "rows = 60, waits = true");
    let (outcome, took) = stop_behind(start(&store, &text), 10).await;
    assert!(matches!(outcome.status, Status::Stopped) && !outcome.abandoned, "{outcome:?}");
    assert!(took > Duration::from_secs(40), "{took:?}");
    assert_eq!(committed("diligent/c"), (0..60).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_run_that_resumes_knows_the_checkpoint_that_it_goes_on_from() {
    let store = Arc::new(MemoryStore::default());
    let text = FLOW.replace("patience", "resumed").replace("250", "1000").replace("slow = 1000", "slow = 10");
    let running = start(&store, &text);
    let stats = running.stats();
    assert_eq!((stats.resumed(), stats.memory()), (None, 0));
    stop_behind(running, 150).await;
    let last = stats.checkpoint().unwrap();
    let running = start(&store, &text);
    let stats = running.stats();
    assert_eq!(stats.resumed().map(|resumed| resumed.number), Some(last.number));
    running.control().give_up();
    running.join().await;
    assert_eq!(stats.checkpoint(), None, "it has taken none of its own");
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_is_taken_when_somebody_asks_for_it() {
    let store = Arc::new(MemoryStore::default());
    let text = FLOW.replace("patience", "asked").replace("checkpoint.epochs = 1", "checkpoint.interval = \"5h\"");
    let running = start(&store, &text);
    let (stats, control) = (running.stats(), running.control());
    let ask = async {
        control.checkpoint();
        while stats.checkpoint().is_none() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        control.give_up();
    };
    let (outcome, ()) = tokio::join!(running.join(), ask);
    assert!(matches!(outcome.status, Status::Failed(_)), "{outcome:?}");
    assert_eq!(stats.checkpoint().unwrap().rows_read, 100);
}
