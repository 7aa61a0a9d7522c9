//! Stateless nodes on several threads: nobody sees how many there are.

use std::sync::Arc;

use tokio::runtime::Builder;

use super::crash::MemoryStore;
use super::kinds::{committed_text, forget};
use super::running::plan;
use crate::checkpoint::{CheckpointStore, FlowCheckpoints, ResumeOptions};
use crate::run::{Outcome, RunMode, RunningFlow, Status};
use crate::stats::Counters;

/// What comes of a flow on so many threads: how it ends, what its outputs have committed, and what node `b` has counted.
fn run(name: &str, text: &str, threads: usize) -> (Outcome, [String; 3], Counters) {
    forget(name);
    let runtime = Builder::new_multi_thread().worker_threads(threads).enable_all().build().unwrap();
    let plan = plan(&text.replace("NAME", name));
    let store = CheckpointStore::new(Arc::new(MemoryStore::default()), name, "memory");
    let checkpoints = FlowCheckpoints::open(&plan, store.clone(), &ResumeOptions::default()).unwrap();
    let running = RunningFlow::start(plan, RunMode::Keep(checkpoints), runtime.handle()).unwrap();
    let outcome = runtime.block_on(running.join());
    let counters = store.latest().unwrap().unwrap().0.nodes["b"].counters.clone();
    (outcome, ["c", "late", "failed"].map(|output| committed_text(&format!("{name}/{output}"))), counters)
}

const FLOW: &str = r#"
    flow = { name = "NAME", epoch.rows = 70 }
    checkpoint.epochs = 2
    input.a = { type = "events", rows = 900, batch_rows = 10, event_time = { column = "at", lateness = "5s", watermark_rows = 25 } }
    processor.b = { type = "uneven", from = "a" }
    processor.held = { type = "hold", from = "b" }
    output.c = { type = "file", from = "held", path = "NAME/c" }
    output.late = { type = "file", from = "held.late", path = "NAME/late" }
    output.failed = { type = "file", from = "b.failed", path = "NAME/failed" }
"#;

#[test]
fn any_number_of_threads_gives_the_same_rows_in_the_same_order() {
    let (outcome, expected, counted) = run("lanes_1", FLOW, 1);
    assert!(matches!(outcome.status, Status::Done), "{outcome:?}");
    assert_eq!(counted.rows_in, 900);
    let lines = expected.each_ref().map(|rows| rows.lines().count());
    assert!(counted.rows_failed > 60 && lines.iter().all(|lines| *lines > 10), "{counted:?}, {lines:?}");
    for threads in [2, 3, 8] {
        let (outcome, found, counters) = run(&format!("lanes_{threads}"), FLOW, threads);
        assert!(matches!(outcome.status, Status::Done), "{outcome:?}");
        assert_eq!((&found, &counters), (&expected, &counted), "{threads} threads");
    }
}

#[test]
fn a_lane_that_panics_fails_its_node() {
    let text = FLOW.replace("type = \"uneven\"", "type = \"uneven\", panic = 444");
    let (outcome, _, _) = run("lanes_panic", &text, 4);
    let Status::Failed(error) = outcome.status else { panic!("{outcome:?}") };
    assert_eq!(error.to_string(), "node `b`: panicked: this node panics");
}
