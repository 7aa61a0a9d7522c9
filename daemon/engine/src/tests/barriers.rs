//! Where the epochs of inputs end.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::crash::MemoryStore;
use super::kinds::{lineages, memory, memory_text};
use super::running::{failure, plan, run};
use crate::checkpoint::{CheckpointStore, FlowCheckpoints, ResumeOptions};
use crate::run::{RunMode, RunningFlow, Status};

#[tokio::test]
async fn borders_count_refused_rows_as_well() {
    for (number, batch_rows) in [1, 4, 100].into_iter().enumerate() {
        let path = format!("refused{number}");
        run(&format!(
            r#"
            flow.epoch.rows = 4
            input.a = {{ type = "count", rows = 9, refuse = 3, batch_rows = {batch_rows} }}
            processor.b = {{ type = "barriers", from = "a" }}
            output.rows = {{ type = "file", from = "b", path = "{path}" }}
            output.bad = {{ type = "file", from = "a.failed", path = "{path} bad" }}
        "#
        ))
        .await;
        assert_eq!(memory(&path).0, [1, 2, -1, 4, 5, 7, -2, 8]);
        let bad = memory_text(&format!("{path} bad"));
        let positions: Vec<_> = bad.lines().skip(1).map(|line| line.split(' ').nth(4).unwrap()).collect();
        assert_eq!(positions, ["0", "3", "6"], "{bad}");
    }
}

#[tokio::test]
async fn checkpoints_are_taken_while_every_row_is_refused() {
    for (number, batch_rows) in [1, 7, 100].into_iter().enumerate() {
        let plan = plan(&format!(
            r#"
            flow = {{ name = "refused{number}", epoch.rows = 10, on_error = "drop" }}
            checkpoint = {{ epochs = 1, keep = 1000 }}
            input.a = {{ type = "events", rows = 100, partitions = 3, mixed = true, refuse = 1, batch_rows = {batch_rows} }}
            output.c = {{ type = "file", from = "a", path = "refused{number}/c" }}
            "#
        ));
        let store = Arc::new(MemoryStore::default());
        let checkpoint_store = CheckpointStore::new(store.clone(), &plan.flow, "memory");
        let checkpoints = FlowCheckpoints::open(&plan, checkpoint_store, &ResumeOptions::default()).unwrap();
        let running = RunningFlow::start(plan, RunMode::Keep(checkpoints), &Handle::current()).unwrap();
        let status = running.join().await.status;
        assert!(matches!(status, Status::Done), "{status:?}");
        // The first one takes the flow over; the partitions have 50, 33 and 16 rows.
        assert_eq!(store.highest("/manifests/"), Some(1 + 9 + 1));
    }
}

#[tokio::test]
async fn a_border_lies_where_a_version_is_wanted() {
    for (number, batch_rows) in [1000, 8192, 1_000_000].into_iter().enumerate() {
        let name = format!("wanted{number}");
        run(&format!(
            r#"
            flow.name = "{name}"
            input.a = {{ type = "count", rows = 60_000, batch_rows = {batch_rows} }}
            processor.taught = {{ type = "teach", from = "a", model = "count", every = 10_000 }}
            output.c = {{ type = "file", from = "taught", path = "{name}/c" }}
            "#
        ))
        .await;
        let barriers: Vec<u64> = lineages(&name, "taught").values().filter_map(|read| read["a"][""].as_u64()).collect();
        let expected: Vec<u64> = (1..=24).map(|barrier| barrier * 2500).chain([60_000]).collect();
        assert_eq!(barriers, expected);
    }
}

#[test]
fn epochs_are_a_part_of_what_is_wanted_unless_they_are_set() {
    let rows = |epoch: &str, every: u64| {
        plan(&format!(
            r#"
            {epoch}
            input.a = {{ type = "count", rows = 10 }}
            processor.taught = {{ type = "teach", from = "a", model = "count", every = {every} }}
            output.c = {{ type = "file", from = "taught", path = "parts" }}
            "#
        ))
        .epoch_rows
    };
    assert_eq!((rows("", 10_000), rows("", 1), rows("", 100_000), rows("", 1_000_000)), (2500, 1, 25_000, 62_500));
    assert_eq!((rows("flow.epoch.rows = 700", 1000), rows("flow.epoch.rows = 5000", 1000)), (700, 1000));
}

#[tokio::test]
async fn the_share_of_refused_rows_does_not_depend_on_batches() {
    // One of 11 ends with a refused row that lies behind the barrier.
    for batch_rows in [1, 7, 11, 1000] {
        // At the barrier behind the first 5 rows, 3 of them have been refused.
        let message = failure(run(&format!(r#"
            flow.epoch.rows = 5
            input.a = {{ type = "count", rows = 1000, refuse = 2, on_error = "drop", max_failed = "20%", batch_rows = {batch_rows} }}
            output.c = {{ type = "file", from = "a", path = "share of {batch_rows}" }}
        "#)).await);
        assert!(message.starts_with("node `a`: 3 of 5 rows were rejected"), "{message}");
    }
}

#[tokio::test]
async fn refused_rows_of_other_partitions_lie_before_the_border_as_well() {
    for batch_rows in [1, 3, 1000] {
        // 0 to 6 of one partition, 1000 to 1005 of another; the barrier is behind 1000, and 0, 5 and 1000 are refused.
        let message = failure(run(&format!(r#"
            flow.epoch.rows = 8
            input.a = {{ type = "events", rows = 20, partitions = 2, mixed = true, refuse = 5, on_error = "drop", max_failed = "20%", batch_rows = {batch_rows} }}
            output.c = {{ type = "file", from = "a", path = "partitions of {batch_rows}" }}
        "#)).await);
        let is_first = message.starts_with("node `a`: 3 of 8 rows were rejected");
        assert!(is_first, "{batch_rows}: {message}");
    }
}
