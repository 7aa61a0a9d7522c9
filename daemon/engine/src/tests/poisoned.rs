//! Flows in which a node can't bear a row: it is found among others, set aside, and stays so.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::crash::MemoryStore;
use super::kinds::{committed_text, forget};
use super::running::{failure, plan};
use crate::checkpoint::{CheckpointStore, FlowCheckpoints, Replay, ResumeOptions, StartPoint};
use crate::quarantine::{AtWork, Quarantine};
use crate::run::{Outcome, RunMode, RunningFlow, Status};

/// Its node `b` panics at 37, and its input refuses every ninth row.
const FLOW: &str = r#"
    flow = { name = "NAME", epoch.rows = 16, on_error = "drop" }
    checkpoint.epochs = 1
    input.a = { type = "count", rows = 100, batch_rows = BATCH, refuse = 9 }
    processor.same = { type = "add", from = "a", by = 0 }
    processor.b = { type = "trouble", from = "same", panic = 37 }
    output.c = { type = "file", from = "b", path = "NAME/c" }
    output.failed = { type = "file", from = "b.failed", path = "NAME/failed" }
"#;

struct Flow {
    name: String,
    text: String,
    store: Arc<MemoryStore>,
}

impl Flow {
    fn new(batch_rows: usize) -> Self {
        let name = format!("poisoned_{batch_rows}");
        forget(&name);
        let text = FLOW.replace("NAME", &name).replace("BATCH", &batch_rows.to_string());
        Self { name, text, store: Arc::default() }
    }

    fn checkpoints(&self) -> CheckpointStore {
        CheckpointStore::new(self.store.clone(), &self.name, "memory")
    }

    /// Runs it, and says at which rows `b` was last.
    async fn run(&self, quarantine: &Quarantine) -> (Outcome, Option<AtWork>) {
        let options = ResumeOptions { quarantine: quarantine.clone(), ..ResumeOptions::default() };
        let plan = plan(&self.text);
        let checkpoints = FlowCheckpoints::open(&plan, self.checkpoints(), &options).unwrap();
        let running = RunningFlow::start(plan, RunMode::Keep(checkpoints), &Handle::current()).unwrap();
        let stats = running.stats();
        let outcome = running.join().await;
        let node = stats.nodes.iter().find(|node| node.name == "b").unwrap();
        assert!(node.may_refuse);
        (outcome, node.at_work())
    }

    /// Goes through it again, where nodes do without these rows.
    async fn replay(&self, quarantine: Quarantine) -> Outcome {
        let start_point = StartPoint { quarantine, ..StartPoint::default() };
        let mut plan = plan(&self.text);
        plan.drop_outputs();
        let replay = Replay { start_point, until: None, homes: None, watch: Arc::new(|_, _| {}) };
        RunningFlow::start(plan, RunMode::Replay(replay), &Handle::current()).unwrap().join().await
    }
}

const PANIC: &str = "node `b`: panicked: this node panics";

#[tokio::test]
async fn a_row_is_found_among_others_and_set_aside_in_every_run() {
    for batch_rows in [1, 7, 100] {
        let flow = Flow::new(batch_rows);
        let (outcome, rows) = flow.run(&Quarantine::default()).await;
        assert_eq!(failure(outcome), PANIC);
        let origin = rows.unwrap().origin;
        assert!((origin.start..origin.end).contains(&37), "{origin:?}");
        let (outcome, rows) = flow.run(&Quarantine { suspects: Some(origin), ..Quarantine::default() }).await;
        assert_eq!(failure(outcome), PANIC);
        let rows = rows.unwrap();
        assert_eq!((rows.origin.start, rows.origin.end), (37, 38));
        let row = rows.poisoned("b", "it panicked").unwrap();
        let (outcome, rows) = flow.run(&Quarantine { rows: vec![row], suspects: None }).await;
        assert!(matches!(outcome.status, Status::Done) && rows.is_none(), "{outcome:?}");
        let numbers = committed_text(&format!("{}/c", flow.name));
        let numbers: Vec<i64> = numbers.lines().skip(1).map(|line| line.trim().parse().unwrap()).collect();
        assert_eq!(numbers, (0..100).filter(|n| n % 9 != 0 && *n != 37).collect::<Vec<_>>());
        let failed = committed_text(&format!("{}/failed", flow.name));
        assert_eq!(failed.lines().count(), 2, "{failed}");
        assert!(failed.contains("it panicked") && failed.contains("37"), "{failed}");
        // It is known from the run on that was told of it.
        let newest = flow.checkpoints().latest().unwrap().unwrap().0.number;
        let known = flow.checkpoints().quarantine(newest).unwrap();
        assert_eq!(known.rows.len(), 1);
        assert!(flow.checkpoints().quarantine(known.rows[0].checkpoint - 1).unwrap().rows.is_empty());
        let again = flow.replay(known).await;
        assert!(matches!(again.status, Status::Done), "{again:?}");
        assert_eq!(failure(flow.replay(Quarantine::default()).await), PANIC);
    }
}

#[tokio::test]
async fn a_run_that_follows_needs_not_be_told_again() {
    let flow = Flow::new(8);
    let (_, rows) = flow
        .run(&Quarantine { suspects: Some(millstream_core::Origin::new("a", "", 0, 100)), ..Quarantine::default() })
        .await;
    let row = rows.unwrap().poisoned("b", "it panicked").unwrap();
    let options =
        ResumeOptions { quarantine: Quarantine { rows: vec![row], suspects: None }, ..ResumeOptions::default() };
    // It is taken over, and dies before it begins.
    let planned = plan(&flow.text);
    assert!(FlowCheckpoints::open(&planned, flow.checkpoints(), &options).unwrap().take_over(&planned).unwrap());
    let (outcome, _) = flow.run(&Quarantine::default()).await;
    assert!(matches!(outcome.status, Status::Done), "{outcome:?}");
}
