//! Flows whose inputs are held for a while.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use millstream_core::Held;
use tokio::runtime::Handle;
use tokio::time::sleep;

use super::crash::MemoryStore;
use super::kinds::committed_text;
use super::running::plan;
use crate::checkpoint::{CheckpointStore, FlowCheckpoints, ResumeOptions};
use crate::run::{RunMode, RunningFlow, Status};
use crate::stats::FlowStats;

/// Its output takes ten milliseconds for each row.
const FLOW: &str = r#"
    flow = { name = "NAME", epoch.rows = 100, epoch.interval = "1s", edge.rows = 1 }
    checkpoint.interval = "10s"
    input.a = { type = "count", batch_rows = 1, INPUT }
    output.c = { type = "file", from = "a", path = "NAME/c", slow = 10 }
"#;

fn start(name: &str, input: &str) -> RunningFlow {
    let plan = plan(&FLOW.replace("NAME", name).replace("INPUT", input));
    let checkpoint_store = CheckpointStore::new(Arc::new(MemoryStore::default()), &plan.flow, "memory");
    let checkpoints = FlowCheckpoints::open(&plan, checkpoint_store, &ResumeOptions::default()).unwrap();
    RunningFlow::start(plan, RunMode::Keep(checkpoints), &Handle::current()).unwrap()
}

/// Waits until so many rows have been written.
async fn written(stats: &FlowStats, rows: u64) {
    while stats.nodes[1].rows_in.load(Ordering::Relaxed) < rows {
        sleep(Duration::from_millis(100)).await;
    }
}

fn assert_all_committed(path: &str, rows: u64) {
    let committed: Vec<i64> = committed_text(path).lines().skip(1).map(|line| line.parse().unwrap()).collect();
    assert_eq!(committed, (0..rows as i64).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn inputs_that_are_held_read_nothing_and_checkpoints_go_on() {
    let running = start("held", "rows = 1, endless = true");
    let (stats, control) = (running.stats(), running.control());
    let hold = async {
        written(&stats, 50).await;
        control.pause(Held::Paused("for a while".into()));
        assert!(control.is_paused());
        sleep(Duration::from_secs(60)).await;
        let (read, checkpoint) = (stats.rows_read(), stats.checkpoint().unwrap());
        assert_eq!(checkpoint.rows_read, read, "what was read before is durable");
        let waited = stats.nodes[0].clock.times().waiting;
        sleep(Duration::from_secs(60)).await;
        assert_eq!(stats.rows_read(), read);
        assert!(stats.checkpoint().unwrap().number > checkpoint.number);
        assert!(stats.nodes[0].clock.times().waiting - waited > Duration::from_secs(59));
        control.resume();
        written(&stats, read + 50).await;
        control.stop();
    };
    let (outcome, ()) = tokio::join!(running.join(), hold);
    assert!(matches!(outcome.status, Status::Stopped) && !outcome.abandoned, "{outcome:?}");
    assert_all_committed("held/c", stats.rows_read());
}

#[tokio::test(start_paused = true)]
async fn a_flow_that_is_held_stops_at_a_border_when_it_is_told_to() {
    let running = start("held_and_stopped", "rows = 1000");
    let (stats, control) = (running.stats(), running.control());
    let stop = async {
        written(&stats, 50).await;
        control.pause(Held::Paused("for a while".into()));
        sleep(Duration::from_secs(60)).await;
        assert_eq!((stats.rows_read(), stats.checkpoint().unwrap().rows_read), (100, 100), "up to the next barrier");
        control.stop();
    };
    let (outcome, ()) = tokio::join!(running.join(), stop);
    assert!(matches!(outcome.status, Status::Stopped) && !outcome.abandoned, "{outcome:?}");
    assert_all_committed("held_and_stopped/c", 200);
}

#[tokio::test(start_paused = true)]
async fn a_live_flow_that_is_held_reads_nothing_more_when_it_is_told_to_stop() {
    let running = start("held_live_and_stopped", "rows = 1, endless = true");
    let (stats, control) = (running.stats(), running.control());
    let stop = async {
        written(&stats, 50).await;
        control.pause(Held::Paused("for a while".into()));
        sleep(Duration::from_secs(60)).await;
        let read = stats.rows_read();
        control.stop();
        read
    };
    let (outcome, read) = tokio::join!(running.join(), stop);
    assert!(matches!(outcome.status, Status::Stopped) && !outcome.abandoned, "{outcome:?}");
    assert_eq!(stats.rows_read(), read);
    assert_all_committed("held_live_and_stopped/c", read);
}
