//! Nodes that keep rows while there is no room behind them: rows go on being taken, and barriers pass what waits.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::sleep;

use super::crash::MemoryStore;
use super::kinds::{committed_text, forget, memory, memory_text};
use super::running::{plan, run, try_plan};
use crate::checkpoint::{CheckpointStore, FlowCheckpoints, ResumeOptions};
use crate::explain::explain;
use crate::run::{RunMode, RunningFlow, Status};

/// An output that takes a second for each batch, behind a node that keeps rows.
const FLOW: &str = r#"
    flow = { name = "NAME", epoch = { rows = 1000, interval = "100ms" } }
    checkpoint.interval = "200ms"
    input.a = { type = "events", rows = 900, batch_rows = 10, pause = 100, live = true }
    processor.kept = { type = "wait", from = "a" }
    output.c = { type = "file", from = "kept", path = "NAME/c", slow = 1000 }
"#;

fn start(store: &Arc<MemoryStore>, text: &str) -> RunningFlow {
    let plan = plan(text);
    let checkpoint_store = CheckpointStore::new(store.clone(), &plan.flow, "memory");
    let checkpoints = FlowCheckpoints::open(&plan, checkpoint_store, &ResumeOptions::default()).unwrap();
    RunningFlow::start(plan, RunMode::Keep(checkpoints), &Handle::current()).unwrap()
}

/// The numbers that are committed at a path.
fn committed(path: &str) -> Vec<i64> {
    let text = committed_text(path);
    text.lines().skip(1).map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn rows_are_taken_and_barriers_pass_while_those_behind_have_no_room() {
    let store = Arc::new(MemoryStore::default());
    let running = start(&store, &FLOW.replace("NAME", "taken"));
    let (stats, control) = (running.stats(), running.control());
    let stop = async {
        sleep(Duration::from_millis(5050)).await;
        let rows = |node: usize| stats.nodes[node].rows_in.load(Ordering::Relaxed);
        assert!(rows(0) > 450 && rows(0) == rows(1), "{} and {}", rows(0), rows(1));
        assert!((1..50).contains(&rows(2)), "{}", rows(2));
        control.give_up();
        rows(2)
    };
    let (_, written) = tokio::join!(running.join(), stop);
    // A checkpoint each 200 ms and what it takes itself; behind the rows, which take a second a batch, there would be five.
    assert!(store.epoch() >= 20, "epoch {}", store.epoch());
    assert!(committed("taken/c").len() <= written as usize);
    // What had come does not come again.
    let running = start(&store, &FLOW.replace("NAME", "taken").replace("slow = 1000", "slow = 0"));
    let outcome = running.join().await;
    assert!(matches!(outcome.status, Status::Done), "{outcome:?}");
    assert_eq!(committed("taken/c"), (0..900).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_flow_that_stops_keeps_what_waits_for_the_next_run() {
    let store = Arc::new(MemoryStore::default());
    let text = FLOW.replace("NAME", "stopped_waiting");
    let running = start(&store, &text);
    let control = running.control();
    let stop = async {
        sleep(Duration::from_millis(1500)).await;
        control.stop();
    };
    let (outcome, ()) = tokio::join!(running.join(), stop);
    assert!(matches!(outcome.status, Status::Stopped), "{outcome:?}");
    let outcome = start(&store, &text.replace("slow = 1000", "slow = 1")).join().await;
    assert!(matches!(outcome.status, Status::Done), "{outcome:?}");
    assert_eq!(committed("stopped_waiting/c"), (0..900).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn one_that_is_full_takes_no_more() {
    let text = FLOW.replace("NAME", "full").replace("from = \"a\"", "from = \"a\", most = 50");
    let running = RunningFlow::start(plan(&text), RunMode::None, &Handle::current()).unwrap();
    let (stats, control) = (running.stats(), running.control());
    let look = async {
        sleep(Duration::from_secs(5)).await;
        let rows = |node: usize| stats.nodes[node].rows_in.load(Ordering::Relaxed);
        let waiting = rows(1) - rows(2);
        control.give_up();
        waiting
    };
    let (_, waiting) = tokio::join!(running.join(), look);
    assert!((40..=70).contains(&waiting), "{waiting} rows wait");
}

#[tokio::test(start_paused = true)]
async fn what_is_dropped_or_waits_for_too_long_leaves_by_a_port_of_its_own() {
    let outputs = r#"
        output.dropped = { type = "file", from = "kept.dropped", path = "given_up/dropped" }
        output.expired = { type = "file", from = "kept.expired", path = "given_up/expired" }
    "#;
    let settings = "from = \"a\", most = 400, drops = true, expires = 3000, first = 100";
    let text = FLOW.replace("NAME", "given_up").replace("from = \"a\"", settings);
    let text = format!("{}{outputs}", text.replace("pause = 100", "pause = 10").replace("slow = 1000", "slow = 200"));
    let outcome = run(&text).await;
    assert!(matches!(outcome.status, Status::Done), "{outcome:?}");
    let [given, dropped, expired] = ["c", "dropped", "expired"].map(|port| memory(&format!("given_up/{port}")).0);
    assert!([&given, &dropped, &expired].iter().all(|rows| rows.len() > 5), "{given:?} {dropped:?} {expired:?}");
    assert!(dropped.is_sorted() && expired.is_sorted() && !given.is_sorted(), "{given:?}");
    let mut all = [given, dropped, expired].concat();
    all.sort_unstable();
    assert_eq!(all, (0..900).collect::<Vec<_>>());
}

/// Rows with event times on their way to a node that goes by event time, through one that is slow.
const TIMED: &str = r#"
    flow = { name = "NAME", epoch = { rows = 1000, interval = "100ms" } }
    input.a = { type = "events", rows = 900, batch_rows = 10, live = true, event_time = { column = "at", lateness = "50s", watermark_rows = 25 } }
    processor.kept = { type = "wait", from = "a", first = FIRST }
    processor.slow = { type = "ask", from = "kept", service = "NAME/s", in_flight = 1 }
    processor.held = { type = "hold", from = "slow" }
    output.c = { type = "file", from = "held", path = "NAME/c" }
    output.late = { type = "file", from = "held.late", path = "NAME/late" }
"#;

#[tokio::test(start_paused = true)]
async fn event_time_waits_for_the_rows_that_came_before() {
    let mut seen = Vec::new();
    for first in [1000, 7] {
        let name = format!("timed_{first}");
        let text = TIMED.replace("NAME", &name).replace("FIRST", &first.to_string());
        let running = RunningFlow::start(plan(&text), RunMode::None, &Handle::current()).unwrap();
        let stats = running.stats();
        let look = async {
            // Rows behind a watermark leave before all have come.
            while stats.nodes[3].rows_out[0].1.load(Ordering::Relaxed) == 0 {
                sleep(Duration::from_millis(1)).await;
            }
            stats.nodes[1].rows_out[0].1.load(Ordering::Relaxed)
        };
        let (outcome, left) = tokio::join!(running.join(), look);
        assert!(matches!(outcome.status, Status::Done), "{outcome:?}");
        assert!(left < 900, "{left} rows had left");
        assert_eq!(memory_text(&format!("{name}/late")).lines().count(), 0, "no row is late");
        seen.push(memory(&format!("{name}/c")).0);
    }
    assert!(seen[0].len() == 900 && seen[0] == seen[1], "the rows differ");
}

/// What has waited when a side input is added, which is read before.
const EDITED: &str = r#"
    flow = { name = "edited_waiting", epoch = { rows = 5, interval = "100ms" } }
    checkpoint.epochs = 1
    input.a = { type = "events", rows = 900, batch_rows = 10, live = true }
    input.side = { type = "events", rows = 40, batch_rows = 1, pause = 100, start = 0 }
    processor.kept = { type = "wait", from = "a" }
    processor.joined = { type = "after", from = "kept", with = "side" }
    output.c = { type = "file", from = "joined", path = "edited_waiting/c" }
"#;

#[tokio::test(start_paused = true)]
async fn what_has_waited_stays_where_those_behind_do_not_read_yet() {
    forget("edited_waiting");
    let store = Arc::new(MemoryStore::default());
    let stop_after = async |text: &str, millis: u64| {
        let running = start(&store, text);
        let control = running.control();
        let stop = async {
            sleep(Duration::from_millis(millis)).await;
            control.give_up();
        };
        tokio::join!(running.join(), stop).0
    };
    let first = FLOW.replace("NAME", "edited_waiting");
    stop_after(&first, 3000).await;
    // Some checkpoints are taken while the side input is read.
    let (epoch, outcome) = (store.epoch(), stop_after(EDITED, 3000).await);
    assert!(store.epoch() > epoch + 2, "{outcome:?}");
    let before = committed("edited_waiting/c").len() as i64;
    assert_eq!(committed("edited_waiting/c"), (0..before).collect::<Vec<_>>());
    let outcome = start(&store, &EDITED.replace("pause = 100", "pause = 0")).join().await;
    assert!(matches!(outcome.status, Status::Done), "{outcome:?}");
    let sum: i64 = (0..40).sum();
    let joined = (before..900).map(|n| n + sum);
    assert_eq!(committed("edited_waiting/c"), (0..before).chain(joined).collect::<Vec<_>>());
}

#[tokio::test]
async fn rows_pass_where_all_inputs_end() {
    let text = FLOW.replace("NAME", "passing").replace("pause = 100, live = true", "pause = 0");
    let text = text.replace("from = \"a\"", "from = \"a\", first = 2").replace("slow = 1000", "slow = 0");
    let planned = plan(&text);
    assert!(planned.is_strict() && explain(&planned).contains("lets rows pass at once"), "{}", explain(&planned));
    assert!(planned.warnings[0].starts_with("rows pass `kept` at once"), "{:?}", planned.warnings);
    run(&text).await;
    assert_eq!(memory("passing/c").0, (0..900).collect::<Vec<_>>());
}

#[test]
fn rows_that_have_waited_are_not_predicted_by_later_ones() {
    let flow = |taught: &str, predicted: &str, settings: &str| {
        let text = format!(
            r#"
            input.a = {{ type = "events", rows = 900, live = true }}
            processor.kept = {{ type = "wait", from = "a", {settings} }}
            processor.other = {{ type = "add", from = "kept", by = 1 }}
            processor.taught = {{ type = "teach", from = "{taught}", model = "m" }}
            processor.pupil = {{ type = "obey", from = "{predicted}", model = "m" }}
            output.c = {{ type = "file", from = "pupil", path = "future/c" }}
            output.d = {{ type = "file", from = "taught", path = "future/d" }}
            "#
        );
        try_plan(&text).map_err(|problems| problems.to_string())
    };
    for (taught, predicted, settings) in [("a", "other", "most = 5"), ("other", "kept", "first = 5")] {
        let wrong = flow(taught, predicted, settings).unwrap_err();
        assert!(wrong.contains("`pupil`: rows that wait in `kept` would be predicted by a model"), "{wrong}");
    }
    for (taught, predicted) in [("kept", "other"), ("kept", "a")] {
        let text = explain(&flow(taught, predicted, "most = 5").unwrap());
        assert!(text.contains("it is recorded for `millstream replay` when rows have left"), "{text}");
    }
}
