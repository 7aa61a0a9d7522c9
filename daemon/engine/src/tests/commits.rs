//! Commits beside the flow: what a target that is down holds up, and what it does not.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use millstream_core::Report;
use serde_json::json;
use tokio::runtime::Handle;
use tokio::time::sleep;

use super::crash::MemoryStore;
use super::kinds::{committed_text, set_down};
use super::running::{failure, plan};
use crate::checkpoint::{CheckpointStore, FlowCheckpoints, Manifest, ResumeOptions};
use crate::run::{RunMode, RunningFlow, Status};

/// Two outputs of the same rows, of which the target of one goes down.
const FLOW: &str = r#"
    flow = { name = "NAME", epoch.rows = 10 }
    checkpoint.epochs = 1
    input.a = { type = "count", rows = ROWS, batch_rows = 10 }
    output.up = { type = "file", from = "a", path = "NAME/up" }
    output.down = { type = "file", from = "a", path = "NAME/down" }
"#;

struct Flow {
    name: &'static str,
    text: String,
    store: Arc<MemoryStore>,
}

impl Flow {
    fn of_rows(name: &'static str, rows: usize) -> Self {
        let text = FLOW.replace("NAME", name).replace("ROWS", &rows.to_string());
        Self { name, text, store: Arc::default() }
    }

    fn checkpoints(&self) -> CheckpointStore {
        CheckpointStore::new(self.store.clone(), self.name, "memory")
    }

    fn start(&self) -> RunningFlow {
        let plan = plan(&self.text);
        let checkpoints = FlowCheckpoints::open(&plan, self.checkpoints(), &ResumeOptions::default()).unwrap();
        RunningFlow::start(plan, RunMode::Keep(checkpoints), &Handle::current()).unwrap()
    }

    fn newest(&self) -> Manifest {
        self.checkpoints().latest().unwrap().unwrap().0
    }

    fn path(&self, output: &str) -> String {
        format!("{}/{output}", self.name)
    }

    /// The numbers that an output has committed.
    fn committed(&self, output: &str) -> Vec<i64> {
        committed_text(&self.path(output)).lines().skip(1).map(|line| line.parse().unwrap()).collect()
    }
}

fn first(rows: i64) -> Vec<i64> {
    (0..rows).collect()
}

#[tokio::test(start_paused = true)]
async fn a_target_that_is_down_for_a_while_delays_only_its_own_commits() {
    let flow = Flow::of_rows("down_for_a_while", 120);
    set_down(&flow.path("down"), true);
    let running = flow.start();
    let stats = running.stats();
    let come_back = async {
        while flow.committed("up").len() < 120 {
            sleep(Duration::from_millis(10)).await;
        }
        assert!(flow.committed("down").is_empty());
        let node = &stats.nodes[2];
        assert_eq!(node.pending_commits.load(Ordering::Relaxed), 13, "twelve epochs and the end");
        assert_eq!(node.retrying().as_deref(), Some("the target is down"));
        set_down(&flow.path("down"), false);
    };
    let (outcome, ()) = tokio::join!(running.join(), come_back);
    assert!(matches!(outcome.status, Status::Done), "{outcome:?}");
    assert_eq!(outcome.committed, ["up", "down"]);
    assert_eq!((flow.committed("up"), flow.committed("down")), (first(120), first(120)));
    assert_eq!(stats.nodes[2].retrying(), None);
}

#[tokio::test(start_paused = true)]
async fn what_a_manifest_lists_as_pending_is_committed_by_the_next_run() {
    let flow = Flow::of_rows("down_for_good", 2000);
    set_down(&flow.path("down"), true);
    let running = flow.start();
    let control = running.control();
    let stop = async {
        while flow.committed("up").len() < 50 {
            sleep(Duration::from_millis(1)).await;
        }
        control.stop();
    };
    let (outcome, ()) = tokio::join!(running.join(), stop);
    assert!(matches!(outcome.status, Status::Stopped), "{outcome:?}");
    let manifest = flow.newest();
    let up: Vec<_> = manifest.nodes["up"].pending.iter().map(|stage| stage.checkpoint).collect();
    let down: Vec<_> = manifest.nodes["down"].pending.iter().map(|stage| stage.checkpoint).collect();
    assert!(up.len() <= 1, "at most what this checkpoint has decided itself: {up:?}");
    assert_eq!(down, (2..=manifest.number).collect::<Vec<_>>());
    set_down(&flow.path("down"), false);
    let outcome = flow.start().join().await;
    assert!(matches!(outcome.status, Status::Done), "{outcome:?}");
    assert_eq!((flow.committed("up"), flow.committed("down")), (first(2000), first(2000)));
}

#[tokio::test(start_paused = true)]
async fn checkpoints_wait_where_too_much_is_pending() {
    let flow = Flow::of_rows("down_and_full", 2000);
    set_down(&flow.path("down"), true);
    let running = flow.start();
    let stats = running.stats();
    let come_back = async {
        sleep(Duration::from_secs(3600)).await;
        assert_eq!(stats.nodes[2].pending_commits.load(Ordering::Relaxed), 16);
        assert_eq!(flow.committed("up").len(), 160);
        set_down(&flow.path("down"), false);
    };
    let (outcome, ()) = tokio::join!(running.join(), come_back);
    assert!(matches!(outcome.status, Status::Done), "{outcome:?}");
    assert_eq!(flow.committed("down"), first(2000));
}

#[tokio::test]
async fn checkpoints_wait_for_commits_that_are_behind() {
    let text = r#"
        flow = { name = "behind", epoch.interval = "1ms", edge.rows = 1 }
        checkpoint.interval = "5ms"
        input.a = { type = "count", rows = 0, endless = true, batch_rows = 1 }
        output.c = { type = "file", from = "a", path = "behind/c", slow = 1, commit_slow = 50 }
    "#;
    let flow = Flow { name: "behind", text: text.to_owned(), store: Arc::default() };
    let running = flow.start();
    let (stats, control) = (running.stats(), running.control());
    let watch = async {
        let mut most = 0;
        while stats.checkpoint().is_none_or(|last| last.number < 12) {
            most = most.max(stats.nodes[1].pending_commits.load(Ordering::Relaxed));
            sleep(Duration::from_millis(1)).await;
        }
        control.stop();
        most
    };
    let (outcome, most) = tokio::join!(running.join(), watch);
    assert!(matches!(outcome.status, Status::Stopped), "{outcome:?}");
    assert_eq!(most, 2, "one is committed, and one waits");
}

#[tokio::test(start_paused = true)]
async fn without_state_a_flow_that_is_stopped_does_not_wait_for_its_target_for_ever() {
    let text = r#"
        input.a = { type = "count", rows = 10, waits = true }
        output.c = { type = "file", from = "a", path = "stateless/down" }
    "#;
    set_down("stateless/down", true);
    let running =
        RunningFlow::start(plan(text), RunMode::Commit { remove_published: false }, &Handle::current()).unwrap();
    running.control().stop();
    assert_eq!(failure(running.join().await), "node `c`: the target is down");
    assert_eq!(committed_text("stateless/down"), "");
}

#[tokio::test(start_paused = true)]
async fn the_last_report_of_an_output_counts_what_was_committed_at_the_end() {
    let stateless = r#"
        input.a = { type = "count", rows = 10 }
        output.c = { type = "file", from = "a", path = "stateless/reported" }
    "#;
    let mode = RunMode::Commit { remove_published: false };
    let running = RunningFlow::start(plan(stateless), mode, &Handle::current()).unwrap();
    let flow = Flow::of_rows("reported", 120);
    for (running, node, rows) in [(running, 1, 10), (flow.start(), 1, 120)] {
        let stats = running.stats();
        let outcome = running.join().await;
        assert!(matches!(outcome.status, Status::Done), "{outcome:?}");
        let Some(Report::Figures(figures)) = stats.nodes[node].report() else { panic!("no figures") };
        assert_eq!(figures.values, [("committed", json!(rows))]);
    }
}
