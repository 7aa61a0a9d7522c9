//! Nodes that ask others: in order, again where that may help, and never about what has been answered for good.

use std::sync::Arc;
use std::time::Duration;

use millstream_testkit::{drive, parse, table};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};

use super::crash::MemoryStore;
use super::kinds::{Ask, committed_text, forget, memory, memory_text, service};
use super::running::{failure, plan, run, try_plan};
use crate::checkpoint::{CheckpointStore, FlowCheckpoints, ResumeOptions};
use crate::run::{RunMode, RunningFlow, Status};

/// Rows with watermarks, which a node asks about, and behind that a node that holds rows back until event time has come, one that marks
/// barriers, and refused rows.
const FLOW: &str = r#"
    flow = { name = "NAME", epoch.rows = 70 }
    input.a = { type = "events", rows = 900, batch_rows = 10, event_time = { column = "at", lateness = "5s", watermark_rows = 25 } }
    processor.b = { type = "ask", from = "a", service = "NAME/s", refuse = 13, busy = 7, SETTINGS }
    processor.held = { type = "hold", from = "b" }
    processor.marked = { type = "barriers", from = "held" }
    output.c = { type = "file", from = "marked", path = "NAME/c" }
    output.late = { type = "file", from = "held.late", path = "NAME/late" }
    output.failed = { type = "file", from = "b.failed", path = "NAME/failed" }
"#;

#[tokio::test(start_paused = true)]
async fn what_is_answered_leaves_in_the_order_in_which_it_came() {
    let mut seen = Vec::new();
    for in_flight in [1, 4, 16] {
        let name = format!("asking_{in_flight}");
        service(&format!("{name}/s"), |service| service.says = 1000);
        let text = FLOW.replace("NAME", &name).replace("SETTINGS", &format!("in_flight = {in_flight}"));
        let outcome = run(&text).await;
        assert!(matches!(outcome.status, Status::Done), "{outcome:?}");
        let service = service(&format!("{name}/s"), |service| service.clone());
        assert!(service.peak <= in_flight && (in_flight > 4 || service.peak == in_flight), "{in_flight}: {service:?}");
        seen.push(["c", "late", "failed"].map(|output| memory_text(&format!("{name}/{output}"))));
    }
    let lines = seen[0].each_ref().map(|rows| rows.lines().count());
    assert!(lines.iter().all(|lines| *lines > 10), "{lines:?}");
    assert!(seen.iter().all(|rows| *rows == seen[0]), "the rows differ");
}

/// Ten rows in two batches, and a node that asks about them.
fn small(name: &str, settings: &str) -> String {
    format!(
        r#"
        input.a = {{ type = "count", rows = 10, batch_rows = 5 }}
        processor.b = {{ type = "ask", from = "a", service = "{name}/s", {settings} }}
        output.c = {{ type = "file", from = "b", path = "{name}/c" }}
        "#
    )
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_down_is_asked_again_until_it_answers() {
    service("asked_again/s", |service| service.is_down = true);
    let plan = plan(&small("asked_again", ""));
    let running = RunningFlow::start(plan, RunMode::Commit { remove_published: false }, &Handle::current()).unwrap();
    let stats = running.stats();
    let come_back = async {
        sleep(Duration::from_secs(600)).await;
        assert_eq!(stats.nodes[1].retrying().as_deref(), Some("the service is down"));
        // Two batches are under way, and each is asked about 27 times if all pauses are the longest, and 47 times if they are the shortest.
        let calls = service("asked_again/s", |service| service.calls);
        assert!((2 * 27..=2 * 48).contains(&calls), "pauses grow to a quarter or half of a minute: {calls} calls");
        service("asked_again/s", |service| service.is_down = false);
    };
    let (outcome, ()) = tokio::join!(running.join(), come_back);
    assert!(matches!(outcome.status, Status::Done), "{outcome:?}");
    assert_eq!(memory("asked_again/c").0, (0..10).collect::<Vec<_>>());
    assert_eq!(stats.nodes[1].retrying(), None);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_answer_in_time_is_asked_again() {
    let begin = Instant::now();
    let outcome = run(&small("silent", "silent = 3, timeout = \"5s\"")).await;
    assert!(matches!(outcome.status, Status::Done), "{outcome:?}");
    assert_eq!(memory("silent/c").0, (0..10).collect::<Vec<_>>());
    assert_eq!(service("silent/s", |service| service.calls), 3);
    assert!((5..7).contains(&begin.elapsed().as_secs()), "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_asking_again_does_not_help_against_ends_the_flow() {
    assert_eq!(failure(run(&small("forbidden", "forbidden = 7")).await), "node `b`: no permission");
    assert_eq!(service("forbidden/s", |service| service.calls), 2);
    assert_eq!(failure(run(&small("refusing", "refuse = 4")).await).split(" (").next(), Some("node `b`: 0 is refused"));
}

#[tokio::test(start_paused = true)]
async fn a_flow_that_is_to_stop_does_not_wait_for_an_answer_for_ever() {
    let name = "stopped_asking";
    forget(name);
    let text = format!(
        r#"
        flow = {{ name = "{name}", epoch.rows = 10 }}
        checkpoint.epochs = 1
        input.a = {{ type = "events", rows = 100, batch_rows = 10, pause = 1000, live = true }}
        processor.b = {{ type = "ask", from = "a", service = "{name}/s" }}
        output.c = {{ type = "file", from = "b", path = "{name}/c" }}
        "#
    );
    let store = CheckpointStore::new(Arc::new(MemoryStore::default()), name, "memory");
    let start = || {
        let plan = plan(&text);
        let checkpoints = FlowCheckpoints::open(&plan, store.clone(), &ResumeOptions::default()).unwrap();
        RunningFlow::start(plan, RunMode::Keep(checkpoints), &Handle::current()).unwrap()
    };
    let running = start();
    let control = running.control();
    let stop = async {
        sleep(Duration::from_millis(4500)).await;
        service("stopped_asking/s", |service| service.is_down = true);
        sleep(Duration::from_secs(60)).await;
        control.stop();
        Instant::now()
    };
    let (outcome, stopped) = tokio::join!(running.join(), stop);
    assert_eq!(failure(outcome), "node `b`: the service is down");
    assert!(stopped.elapsed() < Duration::from_secs(60), "{:?}", stopped.elapsed());
    let rows = || committed_text("stopped_asking/c").lines().count() - 1;
    assert!((10..60).contains(&rows()), "{}", rows());
    service("stopped_asking/s", |service| service.is_down = false);
    let outcome = start().join().await;
    assert!(matches!(outcome.status, Status::Done), "{outcome:?}");
    assert_eq!(rows(), 100);
}

#[test]
fn a_node_that_asks_is_driven_by_hand_like_any_other() {
    service("driven/s", |service| service.says = 7);
    let settings: Ask = parse("service = 'driven/s'\nrefuse = 3");
    let driven = drive(&settings, &[("from", table("n:int64\n 1\n 3\n 5"))], 2);
    assert_eq!((driven.text("main").as_str(), driven.failed.len()), ("n:int64\n8\n12\n", 1));
}

#[test]
fn only_nodes_that_ask_have_settings_for_it() {
    let wrong = |text: &str| try_plan(text).unwrap_err().to_string();
    let none = wrong(&small("settings", "in_flight = 0"));
    assert!(none.contains("in_flight = 0") && none.contains("expected at least 1, found 0"), "{none}");
    let none = wrong(&small("settings", "timeout = \"0s\""));
    assert!(none.contains("nobody answers in no time"), "{none}");
    let other =
        small("settings", "in_flight = 3").replace("\"ask\"", "\"add\"").replace("service = \"settings/s\"", "by = 1");
    assert!(wrong(&other).contains("in_flight"), "{}", wrong(&other));
}
