//! What becomes of flows that end, fail, are stopped and are changed.

use std::time::Duration;

use super::Site;
use super::kinds::committed;
use crate::State;

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
    assert_eq!(site.put("ends", &flow("rows = 10", "ends")), 1);
    let status = site.wait_for("ends", State::Finished).await;
    assert_eq!((status.revision, status.restarts, status.reason), (1, 0, None));
    assert_eq!(committed("ends"), (0..10).collect::<Vec<_>>());
    assert_eq!(status.stats.unwrap().rows_read(), 10);
}

#[tokio::test(start_paused = true)]
async fn what_may_be_over_in_a_while_is_tried_again_and_every_row_counts_once() {
    let site = Site::new(None);
    site.put("tried", &flow("rows = 300, trouble = 'transient', at = 250, times = 3, counted = 'tried'", "tried"));
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
    site.put("panics", &flow("trouble = 'panic', at = 5, times = 9, counted = 'panics'", "panics"));
    site.put("works", &flow("rows = 500", "works"));
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
    site.put("mended", &broken);
    let status = site.wait_for("mended", State::Failed).await;
    assert_eq!((status.reason.as_deref(), status.restarts), (Some("node `n`: there is no such table"), 0));
    assert!(site.host.start("mended"));
    site.wait_for("mended", State::Finished).await;
    assert_eq!(committed("mended"), (0..10).collect::<Vec<_>>());
    assert!(!site.host.start("nobody"));
}

#[tokio::test(start_paused = true)]
async fn a_flow_that_is_stopped_resumes_where_it_was() {
    let site = Site::new(None);
    site.put("stopped", &flow("", "stopped"));
    let read =
        |rows| move |status: &crate::FlowStatus| status.stats.as_ref().is_some_and(|stats| stats.rows_read() >= rows);
    site.wait_for("stopped", State::Running).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(site.host.stop("stopped"));
    site.wait_for("stopped", State::Stopped).await;
    let before = committed("stopped");
    assert!(before.len() > 100, "{}", before.len());
    assert!(site.host.start("stopped"));
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
    site.put("changed", &flow("", "changed"));
    site.wait_for("changed", State::Running).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(site.put("changed", &flow("", "changed")), 1, "the same text");
    let batched = flow("batch_rows = 4", "changed");
    assert_eq!(site.put("changed", &batched), 2);
    site.wait("changed", |status| status.revision == 2 && status.state == State::Running).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(site.host.remove("changed").await);
    assert!(site.host.status("changed").is_none());
    let numbers = committed("changed");
    assert!(numbers.len() > 500, "{}", numbers.len());
    assert_eq!(numbers, (0..numbers.len() as i64).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_flow_that_does_not_check_says_why_and_the_next_text_mends_it() {
    let site = Site::new(None);
    site.put("checked", &flow("rows = 'x'", "checked"));
    let status = site.wait_for("checked", State::Failed).await;
    assert!(status.reason.unwrap().contains("expected a whole number"));
    site.put("checked", &flow("rows = 3", "checked"));
    site.wait_for("checked", State::Finished).await;
}
