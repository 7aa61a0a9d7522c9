//! What is said of events that come again, and what is kept of them.
#![allow(clippy::unwrap_used)]

use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt as _;

use super::super::kept::KeepLines;
use super::*;

/// The logs of what is done, in virtual time, with the timer.
async fn logged(act: impl AsyncFnOnce()) -> Arc<FlowLogs> {
    let logs = Arc::new(FlowLogs::default());
    let repeats = Repeats::new(logs.clone());
    let subscriber = Registry::default().with(KeepLines::new(logs.clone())).with(repeats.clone());
    let _guard = tracing::subscriber::set_default(subscriber);
    tokio::select! {
        biased;
        never = repeats.tell() => match never {},
        () = act() => {}
    }
    logs
}

fn fail(node: &str) {
    tracing::warn!(target: "millstream_kafka::client", node, error = "the line is dead", "trying again");
}

fn lines(logs: &FlowLogs, flow: &str) -> Vec<String> {
    logs.lines(flow, 100)
        .into_iter()
        .map(|line| format!("{}: {}", line.node.unwrap_or_default(), line.message))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn what_comes_again_is_counted_and_told_by_a_timer() {
    let logs = logged(async || {
        // Behind the first tick.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let _flow = tracing::error_span!("flow", flow = "shop").entered();
        (0..1235).for_each(|_| fail("a"));
        fail("b");
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(with_commas(1_234_567), "1,234,567");
        tokio::time::sleep(Duration::from_secs(10)).await;
        fail("a");
    })
    .await;
    let told = "a: same message 1,234 times in 10 s (no rows are held back): trying again: the line is dead";
    assert_eq!(
        lines(&logs, "shop"),
        [
            "a: trying again: the line is dead",
            "b: trying again: the line is dead",
            told,
            "a: trying again: the line is dead"
        ]
    );
    let errors = logs.errors("shop");
    let counted: Vec<_> =
        errors.iter().map(|error| (error.node.as_deref(), error.count, error.message.as_str())).collect();
    assert_eq!(counted, [(Some("b"), 1, "the line is dead"), (Some("a"), 1236, "the line is dead")]);
}

#[tokio::test(start_paused = true)]
async fn flows_that_fail_say_so_each_time() {
    let logs = logged(async || {
        for _ in 0..3 {
            tracing::warn!(target: "millstream_host::supervisor", flow = "shop", "has failed");
        }
        tracing::info!("nothing of a flow");
    })
    .await;
    assert_eq!(lines(&logs, "shop"), [": has failed"; 3]);
    assert_eq!(logs.errors("shop")[0].count, 3);
}

#[tokio::test(start_paused = true)]
async fn only_the_last_lines_and_errors_are_kept() {
    let logs = logged(async || {
        let _flow = tracing::error_span!("node", flow = "shop", node = "a").entered();
        for number in 0..300 {
            tracing::warn!(target: "millstream_host", "failure {number}");
        }
    })
    .await;
    let kept = lines(&logs, "shop");
    assert_eq!((kept.len(), kept[99].as_str()), (100, "a: failure 299"));
    assert_eq!(logs.lines("shop", 1000).len(), 200);
    let errors = logs.errors("shop");
    assert_eq!((errors.len(), errors[19].message.as_str()), (20, "failure 299"));
}

#[tokio::test(start_paused = true)]
async fn flows_of_which_nothing_was_said_for_long_are_forgotten() {
    let logs = logged(async || {
        tracing::warn!(target: "millstream_host", flow = "", "failure");
        // Some may come in the same millisecond: then the first by name goes.
        for number in 0..1000 {
            tracing::warn!(target: "millstream_host", flow = number.to_string(), "failure");
        }
    })
    .await;
    assert!(logs.lines("", 10).is_empty() && logs.errors("").is_empty());
    assert_eq!((logs.lines("0", 10).len(), logs.errors("999").len()), (1, 1));
}
