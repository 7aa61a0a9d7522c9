//! What is counted while a flow runs.

use std::sync::Arc;

use serde_json::json;
use tokio::runtime::Handle;

use super::crash::MemoryStore;
use super::running::plan;
use crate::checkpoint::{CheckpointStore, FlowCheckpoints, ResumeOptions};
use crate::run::{RunMode, RunningFlow};
use crate::stats::StatsSnapshot;

/// Runs a flow with state to its end, and gives its counters.
async fn counted(text: &str) -> StatsSnapshot {
    let (plan, store) = (plan(text), Arc::new(MemoryStore::default()));
    let checkpoint_store = CheckpointStore::new(store, &plan.flow, "memory");
    let checkpoints = FlowCheckpoints::open(&plan, checkpoint_store, &ResumeOptions::default()).unwrap();
    let running = RunningFlow::start(plan, RunMode::Keep(checkpoints), &Handle::current()).unwrap();
    let stats = running.stats();
    running.join().await;
    stats.snapshot()
}

#[tokio::test(start_paused = true)]
async fn a_slow_output_is_busy_and_those_before_it_are_blocked() {
    let seen = counted(
        r#"
        flow = { name = "slow", epoch.rows = 10, edge.rows = 1 }
        checkpoint.epochs = 1
        input.a = { type = "count", rows = 40, batch_rows = 1 }
        output.c = { type = "file", from = "a", path = "counted/slow", slow = 1000 }
    "#,
    )
    .await;
    let [input, output] = ["a", "c"].map(|name| &seen.nodes[name]);
    assert!((40.0..41.0).contains(&output.busy_s), "{output:?}");
    assert!(output.waiting_s < 1.0 && output.blocked_s == 0.0, "{output:?}");
    assert!((36.0..41.0).contains(&input.blocked_s), "{input:?}");
    assert!(input.busy_s < 1.0, "{input:?}");
    assert_eq!((input.rows_out["main"], input.bytes_out, output.bytes_in), (40, 320, 320));
    assert_eq!((input.bytes_in, output.bytes_out), (0, 0));
    let edge = seen.edges["a.main>c"];
    assert_eq!((edge.rows, edge.bytes, edge.batches, edge.limit_rows), (0, 0, 0, 1));
    assert_eq!(seen.epoch, 4);
    let checkpoint = seen.checkpoint.as_ref().expect("there was one");
    assert!(checkpoint.bytes > 0 && checkpoint.rows_read == 40, "{checkpoint:?}");
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_is_json_that_a_schema_describes() {
    let seen = counted(
        r#"
        flow.name = "described"
        input.a = { type = "count", rows = 3 }
        output.c = { type = "file", from = "a", path = "counted/described" }
    "#,
    )
    .await;
    let json = serde_json::to_value(&seen).unwrap();
    assert_eq!(json["nodes"]["c"]["rows_in"], json!(3));
    assert_eq!(json["nodes"]["c"]["report"]["kind"], json!("figures"));
    assert!(json["at"].as_str().unwrap().ends_with('Z'));
    let schema = schemars::schema_for!(StatsSnapshot).to_value();
    for name in json.as_object().unwrap().keys() {
        assert!(schema["properties"][name].is_object(), "{name}");
    }
}
