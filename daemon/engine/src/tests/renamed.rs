//! Flows whose state is kept under another name.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::crash::MemoryStore;
use super::running::plan;
use crate::checkpoint::{CheckpointStore, FlowCheckpoints, ResumeOptions};
use crate::run::{RunMode, RunningFlow};

const FLOW: &str = r#"
    flow.name = "former"
    input.a = { type = "count", rows = 5 }
    output.c = { type = "file", from = "a", path = "former/c" }
"#;

fn warning(store: &Arc<MemoryStore>, text: &str) -> Option<String> {
    let plan = plan(text);
    let checkpoint_store = CheckpointStore::new(store.clone(), &plan.flow, "states");
    FlowCheckpoints::open(&plan, checkpoint_store, &ResumeOptions::default()).unwrap().warning(&plan).unwrap()
}

#[tokio::test]
async fn a_flow_that_begins_is_told_of_the_state_of_one_with_the_same_nodes() {
    let store = Arc::new(MemoryStore::default());
    assert_eq!(warning(&store, FLOW), None, "there is none");
    let planned = plan(FLOW);
    let checkpoint_store = CheckpointStore::new(store.clone(), "former", "states");
    let checkpoints = FlowCheckpoints::open(&planned, checkpoint_store, &ResumeOptions::default()).unwrap();
    RunningFlow::start(planned, RunMode::Keep(checkpoints), &Handle::current()).unwrap().join().await;
    assert_eq!(warning(&store, FLOW), None, "it is its own");
    let renamed = FLOW.replace("\"former\"", "\"latter\"");
    let expected = "flow `latter` begins from scratch: `states` has no state of it, but that of `former`, with the same nodes; if \
                    it was renamed, `[flow] name = \"former\"` resumes it from there";
    assert_eq!(warning(&store, &renamed).as_deref(), Some(expected));
    assert_eq!(warning(&store, &renamed.replace("input.a", "input.b").replace("\"a\"", "\"b\"")), None, "another flow");
}
