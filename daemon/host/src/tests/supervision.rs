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
