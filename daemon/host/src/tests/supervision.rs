//! What becomes of flows that end, fail, are stopped and are changed.

use std::time::Duration;

use millstream_testkit::committed;

use super::{Site, ada, end};
use crate::{Expected, HostError, OperationState, Owner, State};

/// A flow with a checkpoint a second.
fn flow(input: &str, place: &str) -> String {
    format!(
        r#"
        flow.epoch.interval = "100ms"
        checkpoint.interval = "1s"
        input.n = {{ type = "numbers", {input} }}
        output.o = {{ type = "remember", from = "n", place = "{place}" }}
    "#
    )
}

#[tokio::test(start_paused = true)]
async fn a_flow_runs_until_its_inputs_end() {
    let site = Site::new(None);
    assert_eq!(site.put("ends", &flow("rows = 10", "ends")).await, 1);
    let status = site.wait_for("ends", State::Finished).await;
    assert_eq!((status.revision, status.restarts, status.reason), (1, 0, None));
    assert_eq!(committed("ends"), (0..10).collect::<Vec<_>>());
    assert_eq!(status.stats.unwrap().rows_read(), 10);
}

#[tokio::test(start_paused = true)]
async fn what_may_be_over_in_a_while_is_tried_again_and_every_row_counts_once() {
    let site = Site::new(None);
    site.put("tried", &flow("rows = 300, trouble = 'transient', at = 250, times = 3, counted = 'tried'", "tried"))
        .await;
    let status = site.wait_for("tried", State::BackingOff).await;
    assert_eq!(status.reason.as_deref(), Some("node `n`: the line is dead"));
    assert!(status.next_start.is_some());
    let status = site.wait_for("tried", State::Finished).await;
    assert_eq!((status.restarts, status.reason), (3, None));
    assert_eq!(committed("tried"), (0..300).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_one_flow_leaves_the_others_alone() {
    let site = Site::new(Some(2));
    site.put("panics", &flow("trouble = 'panic', at = 5, times = 9, counted = 'panics'", "panics")).await;
    site.put("works", &flow("rows = 500", "works")).await;
    let status = site.wait_for("panics", State::Failed).await;
    assert_eq!((status.reason.as_deref(), status.restarts), (Some("node `n`: panicked: a bug"), 2));
    let status = site.wait_for("works", State::Finished).await;
    assert_eq!(status.restarts, 0);
    assert_eq!(committed("works").len(), 500);
}

/// A flow whose node can't bear some numbers.
fn shy(rows: &str, of: &str, on_error: &str, place: &str) -> String {
    format!(
        r#"
        flow = {{ epoch.interval = "100ms", on_error = "{on_error}" }}
        checkpoint.interval = "1s"
        input.n = {{ type = "numbers", {rows} together = 8 }}
        processor.shy = {{ type = "shy", from = "n", of = {of} }}
        output.o = {{ type = "remember", from = "shy", place = "{place}" }}
    "#
    )
}

#[tokio::test(start_paused = true)]
async fn rows_that_a_node_can_not_bear_are_set_aside_and_all_others_count_once() {
    let site = Site::new(Some(1));
    site.put("shy", &shy("rows = 600,", "[3, 301, 302]", "drop", "shy")).await;
    site.put("beside", &flow("rows = 500", "beside")).await;
    let status = site.wait_for("shy", State::Finished).await;
    assert_eq!(status.restarts, 9, "each is found by the third try");
    let refused = status.stats.unwrap().nodes[1].rows_failed.load(std::sync::atomic::Ordering::Relaxed);
    let left: Vec<i64> = (0..600).filter(|number| ![3, 301, 302].contains(number)).collect();
    assert_eq!((refused, committed("shy")), (3, left));
    assert_eq!(site.wait_for("beside", State::Finished).await.restarts, 0);
}

#[tokio::test(start_paused = true)]
async fn a_row_that_nobody_takes_fails_the_flow_which_says_which_one_it_is() {
    let site = Site::new(None);
    site.put("refuses", &shy("rows = 600,", "[301]", "fail", "refuses")).await;
    let reason = site.wait_for("refuses", State::Failed).await.reason.unwrap();
    let expected = "node `shy`: panicked: it is shy, whenever it comes to row 301 of input `n`; `on_error = \"drop\"`";
    assert!(reason.starts_with(expected), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn a_flow_that_takes_too_much_disk_is_held_and_the_others_go_on() {
    let site = Site::new(None);
    site.put("greedy", &format!("limits.disk = \"1kB\"\n{}", flow("", "greedy"))).await;
    site.put("modest", &flow("", "modest")).await;
    let status = site.wait("greedy", |status| status.paused.is_some()).await;
    let reason = status.paused.unwrap();
    assert!(
        reason.starts_with("the flow takes ") && reason.ends_with("MiB of files, and may take 0.0 MiB (`limits.disk`)"),
        "{reason}"
    );
    let read = |name: &str| site.host.flow(name).unwrap().status.stats.map_or(0, |stats| stats.rows_read());
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = [read("greedy"), read("modest")];
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(read("greedy"), before[0]);
    assert!(read("modest") > before[1] + 1000);
    assert_eq!(site.host.flow("greedy").unwrap().status.restarts, 0, "that would not help");
    // Another text may say otherwise.
    site.put("greedy", &flow("", "greedy")).await;
    site.wait("greedy", |status| status.stats.as_ref().is_some_and(|stats| stats.rows_read() > before[0])).await;
}

#[tokio::test(start_paused = true)]
async fn a_flow_that_takes_too_much_memory_is_held_started_again_and_then_fails() {
    let site = Site::new(None);
    let remembers = shy("", "[]", "fail", "greedy_of_memory");
    site.put("greedy_of_memory", &format!("limits.memory = \"1kB\"\n{remembers}")).await;
    let held = site.wait("greedy_of_memory", |status| status.paused.is_some()).await;
    assert_eq!((held.state, held.restarts), (State::Running, 0));
    let again = site.wait_for("greedy_of_memory", State::BackingOff).await;
    assert!(again.reason.unwrap().contains("(`limits.memory`)"));
    let failed = site.wait_for("greedy_of_memory", State::Failed).await;
    let reason = failed.reason.unwrap();
    assert_eq!(failed.restarts, 1);
    assert!(reason.ends_with("(`limits.memory`), also when it is started again"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn what_only_a_person_can_mend_waits_for_that() {
    let site = Site::new(None);
    let broken = flow("rows = 10, trouble = 'permanent', at = 5, times = 1, counted = 'mended'", "mended");
    site.put("mended", &broken).await;
    let status = site.wait_for("mended", State::Failed).await;
    assert_eq!((status.reason.as_deref(), status.restarts), (Some("node `n`: there is no such table"), 0));
    let started = end(site.host.start("mended", ada()).await.unwrap()).await;
    assert_eq!(started.state, OperationState::Done);
    site.wait_for("mended", State::Finished).await;
    assert_eq!(committed("mended"), (0..10).collect::<Vec<_>>());
    assert!(matches!(site.host.start("nobody", ada()).await, Err(HostError::NoFlow(_))));
}

#[tokio::test(start_paused = true)]
async fn a_flow_that_is_stopped_resumes_where_it_was() {
    let site = Site::new(None);
    site.put("stopped", &flow("", "stopped")).await;
    let read =
        |rows| move |status: &crate::FlowStatus| status.stats.as_ref().is_some_and(|stats| stats.rows_read() >= rows);
    site.wait_for("stopped", State::Running).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let stopped = end(site.host.stop("stopped", false, ada()).await.unwrap()).await;
    assert!(stopped.state == OperationState::Done && stopped.result > Some(1), "{stopped:?}");
    assert_eq!(site.host.flow("stopped").unwrap().status.state, State::Stopped);
    let before = committed("stopped");
    assert!(before.len() > 100, "{}", before.len());
    site.host.start("stopped", ada()).await.unwrap();
    site.wait("stopped", read(before.len() as u64)).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(site.host.shut_down(Duration::from_secs(60)).await, 0);
    let after = committed("stopped");
    assert!(after.len() > before.len() + 100, "{} after {}", after.len(), before.len());
    assert_eq!(after, (0..after.len() as i64).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn another_text_goes_on_from_the_state_of_the_one_before() {
    let site = Site::new(None);
    site.put("changed", &flow("", "changed")).await;
    site.wait_for("changed", State::Running).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let same = site.apply("changed", &flow("", "changed"), Expected::Any).await.unwrap();
    assert_eq!((same.revision, end(same.operation).await.state), (1, OperationState::Done), "the same text");
    let batched = flow("batch_rows = 4", "changed");
    let changed = site.apply("changed", &batched, Expected::Revision(1)).await.unwrap();
    assert_eq!((changed.former, changed.revision), (Some(1), 2));
    let busy = site.apply("changed", &batched, Expected::Any).await;
    assert!(matches!(busy, Err(HostError::Busy { .. })));
    let changed = end(changed.operation).await;
    assert_eq!((changed.state, changed.result), (OperationState::Done, Some(2)), "{changed:?}");
    tokio::time::sleep(Duration::from_secs(5)).await;
    let removed = end(site.host.remove("changed", &Owner::Api, ada()).await.unwrap()).await;
    assert_eq!(removed.state, OperationState::Done);
    assert!(site.host.flow("changed").is_none());
    let numbers = committed("changed");
    assert!(numbers.len() > 500, "{}", numbers.len());
    assert_eq!(numbers, (0..numbers.len() as i64).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_flow_that_does_not_check_says_why_and_the_next_text_mends_it() {
    let site = Site::new(None);
    site.put("checked", &flow("rows = 'x'", "checked")).await;
    let status = site.wait_for("checked", State::Failed).await;
    assert!(status.reason.unwrap().contains("expected a whole number"));
    site.put("checked", &flow("rows = 3", "checked")).await;
    site.wait_for("checked", State::Finished).await;
}

#[tokio::test(start_paused = true)]
async fn inputs_are_held_for_one_flow_or_for_all_also_when_a_flow_is_started_again() {
    let site = Site::new(None);
    site.put("held", &flow("", "held")).await;
    site.put("free", &flow("", "free")).await;
    let read = |name: &str| site.host.flow(name).unwrap().status.stats.map_or(0, |stats| stats.rows_read());
    site.wait_for("held", State::Running).await;
    assert!(site.host.pause("held") && !site.host.pause("nobody"));
    let status = site.wait("held", |status| status.paused.is_some()).await;
    assert_eq!(status.paused.as_deref(), Some("somebody has paused it"));
    end(site.host.stop("held", false, ada()).await.unwrap()).await;
    assert_eq!(site.wait_for("held", State::Stopped).await.paused, None);
    end(site.host.start("held", ada()).await.unwrap()).await;
    site.wait("held", |status| status.paused.is_some()).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (held, free) = (read("held"), read("free"));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(read("held"), held);
    assert!(read("free") > free + 100);
    site.host.hold(Some("the disk is nearly full".into()));
    let status = site.wait("free", |status| status.paused.is_some()).await;
    assert_eq!(status.paused.as_deref(), Some("the disk is nearly full"));
    assert!(site.host.unpause("held"));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let both = [read("held"), read("free")];
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!([read("held"), read("free")], both);
    site.host.hold(None);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(read("held") > both[0] + 100 && read("free") > both[1] + 100);
}
