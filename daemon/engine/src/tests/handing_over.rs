//! Flows that go on in place of others while they run: what stays as it is, what is restored, and what is left if it goes wrong.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::sleep;

use super::crash::MemoryStore;
use super::kinds::{committed_text, forget, opened, set_down};
use super::running::plan;
use crate::checkpoint::{CheckpointStore, FlowCheckpoints, Manifest, ResumeOptions};
use crate::plan::Plan;
use crate::run::{NotTakenOver, RunMode, RunningFlow, Status};

/// Its batches are longer than its epochs, so that what was read lies on both sides of every barrier.
const FLOW: &str = r#"
    flow = { name = "NAME", epoch = { rows = 20, interval = "50ms" }, edge.rows = 10 }
    checkpoint.interval = "1h"
    input.a = { type = "count", rows = 0, endless = true, batch_rows = 64 }
    processor.b = { type = "batched", from = "a", rows = 7 }
    processor.plain = { type = "add", from = "a", by = 0 }
    output.sums = { type = "file", from = "b", path = "NAME/sums" }
    output.all = { type = "file", from = "plain", path = "NAME/all", slow = 1 }
"#;

/// A flow that is changed while it runs.
struct Flow {
    name: &'static str,
    text: String,
    store: Arc<MemoryStore>,
}

impl Flow {
    fn new(name: &'static str) -> Self {
        forget(name);
        Self { name, text: FLOW.replace("NAME", name), store: Arc::default() }
    }

    fn start(&self) -> RunningFlow {
        let plan = plan(&self.text);
        let checkpoints = FlowCheckpoints::open(&plan, self.checkpoints(), &ResumeOptions::default()).unwrap();
        RunningFlow::start(plan, RunMode::Keep(checkpoints), &Handle::current()).unwrap()
    }

    fn checkpoints(&self) -> CheckpointStore {
        CheckpointStore::new(self.store.clone(), self.name, "memory")
    }

    fn newest(&self) -> Manifest {
        self.checkpoints().latest().unwrap().unwrap().0
    }

    /// How often a node was opened, or built.
    fn opened(&self, node: &str) -> usize {
        opened(self.name, node)
    }

    /// The numbers that an output has committed.
    fn committed(&self, output: &str) -> Vec<i64> {
        let text = committed_text(&format!("{}/{output}", self.name));
        text.lines().skip(1).map(|line| line.parse().unwrap()).collect()
    }

    /// That every number up to the last was written once, and is in the sums.
    fn assert_whole(&self) {
        let all = self.committed("all");
        assert_eq!(all, (0..all.len() as i64).collect::<Vec<_>>());
        let sums: Vec<i64> = all.chunks_exact(7).map(|numbers| numbers.iter().sum()).collect();
        assert!(!sums.is_empty());
        assert_eq!(self.committed("sums"), sums);
    }
}

/// Has a flow come to a border, and one from another text go on there.
async fn change(running: RunningFlow, text: &str, options: &ResumeOptions) -> Result<RunningFlow, NotTakenOver> {
    let mut plan = plan(text);
    ask(&running, &mut plan);
    let outcome = running.join().await;
    let handed_over = outcome.handed_over.unwrap_or_else(|| panic!("{:?}", outcome.status));
    Ok(handed_over.go_on(plan, options)?.start(&Handle::current()))
}

/// Asks a flow to come to a border, for one with this plan.
fn ask(running: &RunningFlow, plan: &mut Plan) {
    let control = running.control();
    control.hand_over(control.build(plan).unwrap().unwrap());
}

async fn stop(running: RunningFlow) {
    running.control().stop();
    let status = running.join().await.status;
    assert!(matches!(status, Status::Stopped), "{status:?}");
}

/// Lets a flow run for a while.
async fn a_while() {
    sleep(Duration::from_millis(130)).await;
}

#[tokio::test(start_paused = true)]
async fn nodes_that_do_not_change_go_on_as_they_are() {
    let flow = Flow::new("goes_on");
    let mut running = flow.start();
    for number in 1..=10 {
        a_while().await;
        let text = flow.text.replace("slow = 1", &format!("slow = {}", 1 + number % 3));
        running = change(running, &text, &ResumeOptions::default()).await.unwrap();
    }
    a_while().await;
    stop(running).await;
    flow.assert_whole();
    let times = ["a", "b", "sums", "all"].map(|node| flow.opened(node));
    assert_eq!(times, [1, 1, 1, 11], "only the output that changes is opened again");
}

#[tokio::test(start_paused = true)]
async fn the_first_checkpoint_decides_that_a_flow_has_changed() {
    let flow = Flow::new("decides");
    let running = flow.start();
    a_while().await;
    let changed = flow.text.replace("by = 0", "by = 1000000");
    let options = ResumeOptions { revision: Some(2), ..ResumeOptions::default() };
    let running = change(running, &changed, &options).await.unwrap();
    let border = flow.newest();
    assert_eq!((border.revision, border.then.as_str()), (None, "continue"));
    let stats = running.stats();
    running.control().checkpoint();
    while stats.checkpoint().is_none() {
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!((flow.newest().revision, flow.newest().number), (Some(2), border.number + 1));
    stop(running).await;
    let all = flow.committed("all");
    let before = all.iter().position(|n| *n >= 1_000_000).unwrap();
    let expected = (0..all.len()).map(|n| if n < before { n as i64 } else { n as i64 + 1_000_000 });
    assert_eq!(all, expected.collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_flow_goes_on_as_if_nothing_had_happened_where_a_state_would_be_lost() {
    let flow = Flow::new("refused");
    let running = flow.start();
    a_while().await;
    let changed = flow.text.replace("rows = 7", "rows = 8");
    let refused = change(running, &changed, &ResumeOptions::default()).await.unwrap_err();
    assert!(refused.to_string().contains("`b` has other settings"), "{refused}");
    // What was not to go on is built again.
    let ready = refused.back.unwrap().go_on(plan(&flow.text), &ResumeOptions::default()).unwrap();
    let running = ready.start(&Handle::current());
    a_while().await;
    stop(running).await;
    flow.assert_whole();
    assert_eq!(["a", "sums", "all"].map(|node| flow.opened(node)), [1, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_node_is_reset_only_if_somebody_says_so() {
    let flow = Flow::new("reset_live");
    let running = flow.start();
    a_while().await;
    let changed = flow.text.replace("rows = 7", "rows = 1");
    let options = ResumeOptions { resets: vec!["b".to_owned()], ..ResumeOptions::default() };
    let running = change(running, &changed, &options).await.unwrap();
    a_while().await;
    stop(running).await;
    let (all, sums) = (flow.committed("all"), flow.committed("sums"));
    assert_eq!(all, (0..all.len() as i64).collect::<Vec<_>>());
    let single = &sums[sums.len() - 30..];
    assert_eq!(single, &all[all.len() - 30..], "each row is a batch of its own now");
}

#[tokio::test(start_paused = true)]
async fn a_flow_that_fails_before_its_first_checkpoint_leaves_the_former_where_it_was() {
    let flow = Flow::new("fails_live");
    let running = flow.start();
    a_while().await;
    let trouble = "type = \"trouble\", from = \"a\", panic = 20000";
    let changed = flow.text.replace("type = \"add\", from = \"a\", by = 0", trouble);
    let running = change(running, &changed, &ResumeOptions::default()).await.unwrap();
    let status = running.join().await.status;
    assert!(matches!(status, Status::Failed(_)), "{status:?}");
    let running = flow.start();
    a_while().await;
    stop(running).await;
    flow.assert_whole();
}

#[tokio::test(start_paused = true)]
async fn what_is_still_to_be_committed_goes_along() {
    let flow = Flow::new("commits_live");
    let running = flow.start();
    set_down("commits_live/sums", true);
    for _ in 0..3 {
        running.control().checkpoint();
        a_while().await;
    }
    let changed = flow.text.replace("slow = 1", "slow = 2");
    let running = change(running, &changed, &ResumeOptions::default()).await.unwrap();
    let stats = running.stats();
    let sums = stats.nodes.iter().find(|node| node.name == "sums").unwrap();
    assert!(sums.pending_commits() >= 2, "{}", sums.pending_commits());
    assert!(sums.retrying().is_some());
    set_down("commits_live/sums", false);
    a_while().await;
    stop(running).await;
    assert_eq!((sums.pending_commits(), sums.retrying()), (0, None));
    flow.assert_whole();
    assert_eq!(flow.opened("sums"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_flow_that_is_told_to_stop_does_not_hand_over() {
    let flow = Flow::new("stops_instead");
    let running = flow.start();
    a_while().await;
    let mut plan = plan(&flow.text);
    ask(&running, &mut plan);
    running.control().stop();
    let outcome = running.join().await;
    match outcome.handed_over {
        // It had come to the border before. Whoever asked for both goes on, and stops.
        Some(handed_over) => {
            let ready = handed_over.go_on(plan, &ResumeOptions::default()).unwrap();
            stop(ready.start(&Handle::current())).await;
        }
        None => assert!(matches!(outcome.status, Status::Stopped), "{:?}", outcome.status),
    }
    flow.assert_whole();
}

#[tokio::test(start_paused = true)]
async fn an_input_that_has_ended_has_ended_and_what_it_read_last_is_sent() {
    let flow = Flow::new("ends_live");
    let text = flow.text.replace("rows = 0, endless = true", "rows = 500");
    let flow = Flow { text, ..flow };
    let mut running = flow.start();
    for _ in 0..50 {
        let mut plan = plan(&flow.text);
        ask(&running, &mut plan);
        let outcome = running.join().await;
        let Some(handed_over) = outcome.handed_over else {
            assert!(matches!(outcome.status, Status::Done), "{:?}", outcome.status);
            assert_eq!(flow.committed("all").len(), 500);
            flow.assert_whole();
            assert_eq!(flow.opened("a"), 1);
            return;
        };
        running = handed_over.go_on(plan, &ResumeOptions::default()).unwrap().start(&Handle::current());
        sleep(Duration::from_millis(3)).await;
    }
    panic!("it does not end");
}
