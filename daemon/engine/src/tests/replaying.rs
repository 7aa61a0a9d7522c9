//! Flows that are gone through again: what was told to nodes that ask others is told again, whatever others say now.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::sleep;

use super::crash::MemoryStore;
use super::kinds::{forget, memory_text, service};
use super::running::{failure, plan};
use crate::checkpoint::{CheckpointStore, FanInEvent, FlowCheckpoints, InputEvent, Replay, ResumeOptions, StartPoint};
use crate::explain::explain;
use crate::run::{Outcome, RunMode, RunningFlow, Status};

/// A live flow with a model, a node that asks, and one that goes by event time behind it.
const FLOW: &str = r#"
    flow = { name = "NAME", epoch = { rows = 40, interval = "7ms" } }
    checkpoint = { epochs = 3, keep = 4, replay_log = "RETENTION" }
    input.a = { type = "events", rows = 900, batch_rows = BATCH, pause = 1, live = true, event_time = { column = "at", lateness = "5s", watermark_rows = 25 } }
    processor.b = { type = "ask", from = "a", service = "NAME/s", refuse = 13, busy = 7, in_flight = 4 }
    processor.held = { type = "hold", from = "b" }
    processor.taught = { type = "teach", from = "held", model = "m", learns = "largest" }
    output.c = { type = "file", from = "taught", path = "NAME/c" }
    output.versions = { type = "file", from = "taught.model", path = "NAME/versions" }
    output.failed = { type = "file", from = "b.failed", path = "NAME/failed" }
"#;

struct Flow {
    name: &'static str,
    retention: &'static str,
    /// What is run.
    flow: &'static str,
    store: Arc<MemoryStore>,
}

impl Flow {
    fn new(name: &'static str, retention: &'static str) -> Self {
        forget(name);
        Self { name, retention, flow: FLOW, store: Arc::default() }
    }

    fn text(&self, batch_rows: usize) -> String {
        let text = self.flow.replace("NAME", self.name).replace("RETENTION", self.retention);
        text.replace("BATCH", &batch_rows.to_string())
    }

    fn checkpoints(&self) -> CheckpointStore {
        CheckpointStore::new(self.store.clone(), self.name, "memory")
    }

    /// Runs the flow, while the service changes its mind. Returns what comes out.
    async fn run(&self, text: &str) -> [String; 3] {
        self.run_from(&[text]).await
    }

    /// The same, from one text after the other.
    async fn run_from(&self, texts: &[&str]) -> [String; 3] {
        let plans: Vec<_> = texts.iter().map(|text| plan(text)).collect();
        let options = |revision| ResumeOptions { revision: Some(revision), ..ResumeOptions::default() };
        let mut plans = (1..).zip(plans);
        let (revision, plan) = plans.next().unwrap();
        let checkpoints = FlowCheckpoints::open(&plan, self.checkpoints(), &options(revision)).unwrap();
        let mut running = RunningFlow::start(plan, RunMode::Keep(checkpoints), &Handle::current()).unwrap();
        let (mut says, is_over) = (0, AtomicBool::new(false));
        let change = async {
            while !is_over.load(Ordering::Relaxed) {
                sleep(Duration::from_millis(3)).await;
                says += 100;
                self.say(says);
            }
        };
        let join = async {
            for (revision, mut plan) in plans {
                sleep(Duration::from_millis(90)).await;
                let control = running.control();
                control.hand_over(control.build(&mut plan).unwrap().unwrap());
                let handed_over = running.join().await.handed_over.unwrap();
                running = handed_over.go_on(plan, &options(revision)).unwrap().start(&Handle::current());
            }
            let outcome = running.join().await;
            is_over.store(true, Ordering::Relaxed);
            outcome
        };
        let (outcome, ()) = tokio::join!(join, change);
        assert!(matches!(outcome.status, Status::Done), "{outcome:?}");
        self.take_rows()
    }

    fn say(&self, says: i64) {
        service(&format!("{}/s", self.name), |service| service.says = says);
    }

    /// The rows of all runs since the last time.
    fn take_rows(&self) -> [String; 3] {
        let rows = ["c", "versions", "failed"].map(|output| memory_text(&format!("{}/{output}", self.name)));
        forget(self.name);
        rows
    }

    /// Goes through it again, up to its last checkpoint.
    async fn replay(&self, from: Option<u64>, change: impl FnOnce(&mut StartPoint)) -> Outcome {
        self.replay_of(&self.text(11), from, change).await
    }

    async fn replay_of(&self, text: &str, from: Option<u64>, change: impl FnOnce(&mut StartPoint)) -> Outcome {
        let store = self.checkpoints();
        let (newest, _) = store.latest().unwrap().unwrap();
        let start_point = match from {
            None => StartPoint::default(),
            Some(number) => StartPoint::behind(&store, store.manifest(number).unwrap().0).unwrap(),
        };
        let replay_log = store.replay_log(from, newest.number).unwrap();
        let mut start_point = StartPoint { replay_log, store: Some(store), ..start_point };
        change(&mut start_point);
        let replay = Replay { start_point, until: None, homes: None, watch: Arc::new(|_, _| {}) };
        RunningFlow::start(plan(text), RunMode::Replay(replay), &Handle::current()).unwrap().join().await
    }

    /// What the replay log consists of.
    fn replay_log(&self) -> Vec<String> {
        let keys = self.store.keys.lock().unwrap();
        let prefix = format!("{}/replay_log/", self.name);
        keys.keys().filter_map(|key| key.strip_prefix(&prefix).map(str::to_owned)).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_replay_tells_what_was_told_whatever_others_say_now() {
    let flow = Flow::new("told", "all");
    let rows = flow.run(&flow.text(10)).await;
    assert!(
        rows.iter().all(|rows| rows.lines().count() > 20),
        "{:?}",
        rows.each_ref().map(|rows| rows.lines().count())
    );
    flow.say(-1);
    let outcome = flow.replay(None, |_| ()).await;
    assert!(matches!(outcome.status, Status::Done), "{outcome:?}");
    assert_eq!(service("told/s", |service| service.calls), 0, "nobody was asked");
    assert!(flow.take_rows() == rows, "the rows differ");
    let kept = flow.checkpoints().numbers().unwrap();
    let outcome = flow.replay(Some(kept[0]), |_| ()).await;
    assert!(matches!(outcome.status, Status::Done), "{outcome:?}");
    for (replayed, all) in flow.take_rows().iter().zip(&rows) {
        let tail = replayed.split_once('\n').unwrap().1;
        assert!(all.ends_with(tail) && replayed.len() < all.len(), "{tail}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_replay_goes_from_text_to_text_where_the_flow_has() {
    let flow = Flow::new("texts", "all");
    let texts =
        ["refuse = 13", "refuse = 11", "refuse = 17"].map(|refuse| flow.text(10).replace("refuse = 13", refuse));
    let all = flow.run_from(&texts.each_ref().map(String::as_str)).await;
    flow.say(-1);
    let store = flow.checkpoints();
    let (newest, _) = store.latest().unwrap().unwrap();
    let starts = newest.revisions;
    assert_eq!(starts.iter().map(|start| start.revision).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(starts[0].checkpoint == 0 && starts[1].checkpoint > 1 && starts[2].epoch > starts[1].epoch, "{starts:?}");
    let ends = [starts[1].checkpoint, starts[2].checkpoint, newest.number];
    let replay_logs = store.replay_logs(None, &ends).unwrap();
    let (mut nodes, mut replayed) = (Default::default(), [const { String::new() }; 3]);
    for (number, (replay_log, text)) in replay_logs.into_iter().zip(&texts).enumerate() {
        let plan = plan(text);
        let start_point = StartPoint::of_revision(&starts[number], nodes, &plan);
        let start_point = StartPoint { replay_log, store: Some(store.clone()), ..start_point };
        let until = starts.get(number + 1).map(|next| next.epoch);
        let replay = Replay { start_point, until, homes: None, watch: Arc::new(|_, _| {}) };
        let outcome = RunningFlow::start(plan, RunMode::Replay(replay), &Handle::current()).unwrap().join().await;
        assert_eq!(outcome.replayed.is_some(), until.is_some(), "{outcome:?}");
        nodes = outcome.replayed.unwrap_or_default();
        for (replayed, rows) in replayed.iter_mut().zip(flow.take_rows()) {
            let (head, rows) = rows.split_once('\n').unwrap();
            *replayed += &if number == 0 { format!("{head}\n{rows}") } else { rows.to_owned() };
        }
    }
    assert_eq!(service("texts/s", |service| service.calls), 0, "nobody was asked");
    assert!(replayed == all, "the rows differ");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_recorded_is_not_asked() {
    let flow = Flow::new("untold", "all");
    flow.run(&flow.text(10)).await;
    let outcome = flow.replay(None, |start_point| start_point.replay_log.answers.clear()).await;
    let message = failure(outcome);
    assert!(message.starts_with("node `b`: it is not recorded what it was told about "), "{message}");
    assert_eq!(service("untold/s", |service| service.calls), 0, "nobody was asked");
}

#[tokio::test(start_paused = true)]
async fn what_was_told_is_kept_as_long_as_the_replay_log() {
    let flow = Flow::new("kept_told", "kept");
    flow.run(&flow.text(10)).await;
    let (kept, log) = (flow.checkpoints().numbers().unwrap(), flow.replay_log());
    let number = |key: &String| key[..20].parse::<u64>().unwrap();
    assert!(log.iter().all(|key| number(key) > kept[0]), "{kept:?}, {log:?}");
    assert!(log.iter().any(|key| key.ends_with(".json")) && log.len() > 2, "{log:?}");
    let outcome = flow.replay(Some(kept[0]), |_| ()).await;
    assert!(matches!(outcome.status, Status::Done), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn many_answers_do_not_wait_for_the_next_checkpoint() {
    let flow = Flow::new("much_told", "all");
    let text = flow.text(100).replace("epochs = 3", "interval = \"1h\"").replace("rows = 900", "rows = 30000");
    // Rows that wait on edges come before the barrier of a checkpoint that is asked for.
    let text = text.replace("pause = 1", "pause = 20").replace("busy = 7, ", "");
    flow.run(&text).await;
    let keys = flow.store.keys.lock().unwrap();
    let sizes: Vec<usize> =
        keys.iter().filter(|(key, _)| key.contains("/replay_log/")).map(|(_, bytes)| bytes.len()).collect();
    assert!(sizes.len() > 10 && sizes.iter().all(|bytes| *bytes < 250_000), "{sizes:?}");
}

#[test]
fn it_is_explained_what_is_recorded() {
    let flow = Flow::new("explained", "all");
    let text = explain(&plan(&flow.text(10)));
    assert!(text.contains("`b` goes by what others tell it"), "{text}");
    assert!(text.contains("asks others about 4 batches at a time"), "{text}");
    assert!(
        text.contains("with `--state`, what it is told is recorded for `millstream replay`, and kept for good"),
        "{text}"
    );
    let text = explain(&plan(&Flow::new("explained", "kept").text(10)));
    assert!(text.contains("kept back to the oldest checkpoint that is kept"), "{text}");
    let text = explain(&plan(&flow.text(10).replace("service =", "constant = true, service =")));
    assert!(text.contains("is told the same whenever it asks") && !text.contains("recorded"), "{text}");
}

/// Two partitions of which both always have rows, but for the last of the first one.
const BY_TURNS: &str = r#"
    flow = { name = "NAME", epoch = { rows = 1000, interval = "1h" } }
    checkpoint = { epochs = 4, keep = 4, replay_log = "RETENTION" }
    input.a = { type = "events", rows = ROWS, partitions = 2, mixed = true, batch_rows = BATCH, live = true, event_time = { column = "at", lateness = "5s", watermark_rows = 25 } }
    processor.taught = { type = "teach", from = "a", model = "m", learns = "largest" }
    output.c = { type = "file", from = "taught", path = "NAME/c" }
    output.versions = { type = "file", from = "taught.model", path = "NAME/versions" }
"#;

#[tokio::test(start_paused = true)]
async fn partitions_that_take_turns_leave_no_step_a_turn() {
    let mut flow = Flow::new("by_turns", "all");
    flow.flow = BY_TURNS;
    let text = flow.text(7).replace("ROWS", "6000");
    let rows = flow.run(&text).await;
    let (newest, _) = flow.checkpoints().latest().unwrap().unwrap();
    let log = flow.checkpoints().replay_log(None, newest.number).unwrap();
    // Seven rows a turn are hundreds of turns. A barrier within a turn begins anew.
    let steps = &log.inputs["a"];
    let barriers = steps.iter().filter(|step| **step == InputEvent::Barrier).count();
    assert!(barriers >= 6 && steps.len() <= 12 * barriers, "{} steps, {barriers} barriers", steps.len());
    let outcome = flow.replay_of(&text.replace("batch_rows = 7", "batch_rows = 5"), None, |_| ()).await;
    assert!(matches!(outcome.status, Status::Done), "{outcome:?}");
    assert!(flow.take_rows() == rows, "the rows differ");
}

/// Rows that wait, some of which are dropped, are given up or leave first, before a model learns of those that are left.
const WAITING: &str = r#"
    flow = { name = "NAME", epoch = { rows = 40, interval = "7ms" } }
    checkpoint = { epochs = 3, keep = 4, replay_log = "RETENTION" }
    input.a = { type = "events", rows = 900, batch_rows = BATCH, pause = 4, live = true, event_time = { column = "at", lateness = "5s", watermark_rows = 25 } }
    processor.kept = { type = "wait", from = "a", most = 150, drops = true, expires = 60, first = 7 }
    processor.b = { type = "ask", from = "kept", service = "NAME/s", refuse = 13, busy = 7, in_flight = 1 }
    processor.held = { type = "hold", from = "b" }
    processor.all = { type = "merge", from = ["held", "kept.dropped", "kept.expired"] }
    processor.taught = { type = "teach", from = "all", model = "m", learns = "largest" }
    output.c = { type = "file", from = "taught", path = "NAME/c" }
    output.versions = { type = "file", from = "taught.model", path = "NAME/versions" }
    output.failed = { type = "file", from = "b.failed", path = "NAME/failed" }
"#;

#[tokio::test(start_paused = true)]
async fn rows_that_waited_leave_in_a_replay_as_they_did() {
    let mut flow = Flow::new("waited", "all");
    flow.flow = WAITING;
    let rows = flow.run(&flow.text(10)).await;
    let (newest, _) = flow.checkpoints().latest().unwrap().unwrap();
    let steps = &flow.checkpoints().replay_log(None, newest.number).unwrap().orders["kept"];
    let has = |is: fn(&FanInEvent) -> bool| steps.iter().any(is);
    assert!(
        has(|step| matches!(step, FanInEvent::Passed(..))) && has(|step| matches!(step, FanInEvent::Left(_))),
        "{steps:?}"
    );
    assert!(has(|step| matches!(step, FanInEvent::Expired(_))), "{steps:?}");
    let outcome = flow.replay(None, |_| ()).await;
    assert!(matches!(outcome.status, Status::Done), "{outcome:?}");
    assert!(flow.take_rows() == rows, "the rows differ");
    let kept = flow.checkpoints().numbers().unwrap();
    let outcome = flow.replay(Some(kept[0]), |_| ()).await;
    assert!(matches!(outcome.status, Status::Done), "{outcome:?}");
    for (replayed, all) in flow.take_rows().iter().zip(&rows) {
        let tail = replayed.split_once('\n').map_or("", |(_, tail)| tail);
        assert!(all.ends_with(tail) && replayed.len() < all.len(), "{tail}");
    }
    let outcome = flow
        .replay(None, |start_point| {
            start_point.replay_log.orders.get_mut("kept").unwrap().push_front(FanInEvent::Left(3));
        })
        .await;
    assert!(failure(outcome).contains("more rows have left it than it has kept this time"));
}
