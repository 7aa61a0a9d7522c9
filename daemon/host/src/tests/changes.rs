//! What becomes of changes: those that fail on their way, those that are called off, and through restarts of the process.

use std::time::Duration;

use millstream_testkit::committed;

use super::{Site, ada, end, open};
use crate::{Expected, HostError, OperationState, State};

/// A flow with a checkpoint an hour, so that those that are taken were asked for.
fn flow(input: &str, place: &str) -> String {
    format!(
        r#"
        flow.epoch.interval = "100ms"
        checkpoint.interval = "1h"
        input.n = {{ type = "numbers", {input} }}
        output.o = {{ type = "remember", from = "n", place = "{place}" }}
    "#
    )
}

#[tokio::test(start_paused = true)]
async fn a_change_that_fails_before_its_first_checkpoint_goes_back_by_itself() {
    let site = Site::new(None);
    site.put("back", &flow("", "back")).await;
    site.wait_for("back", State::Running).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let bad = flow("trouble = 'permanent', at = 0, times = 1000, counted = 'back'", "back");
    let changed = site.apply("back", &bad, Expected::Revision(1)).await.unwrap();
    let changed = end(changed.operation).await;
    assert_eq!(
        (changed.state, changed.problem.as_deref()),
        (OperationState::Failed, Some("node `n`: there is no such table"))
    );
    let flow_now = site.host.flow("back").unwrap();
    assert_eq!((flow_now.revision, flow_now.status.revision, flow_now.status.state), (1, 1, State::Running));
    assert_eq!(flow_now.refused.unwrap().revision, Some(2));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(site.host.shut_down(Duration::from_secs(60)).await, 0);
    let numbers = committed("back");
    assert!(numbers.len() > 500, "{}", numbers.len());
    assert_eq!(numbers, (0..numbers.len() as i64).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_change_of_what_somebody_else_has_changed_is_refused() {
    let site = Site::new(None);
    let absent = site.apply("other", &flow("", "other"), Expected::Revision(1)).await;
    assert!(matches!(absent, Err(HostError::Outdated { revision: 0, .. })));
    let first = site.apply("other", &flow("", "other"), Expected::Absent).await.unwrap();
    end(first.operation).await;
    let second = site.apply("other", &flow("batch_rows = 4", "other"), Expected::Absent).await;
    assert!(matches!(second, Err(HostError::Outdated { revision: 1, .. })));
}

#[tokio::test(start_paused = true)]
async fn an_earlier_text_comes_back_as_a_revision_of_its_own() {
    let site = Site::new(None);
    site.put("rolled", &flow("", "rolled")).await;
    site.wait_for("rolled", State::Running).await;
    let second = site.apply("rolled", &flow("batch_rows = 4", "rolled"), Expected::Any).await.unwrap();
    end(second.operation).await;
    let back = site.host.roll_back("rolled", 1, ada()).await.unwrap();
    assert_eq!((back.former, back.revision), (Some(2), 3));
    assert_eq!(end(back.operation).await.state, OperationState::Done);
    let missing = site.host.roll_back("rolled", 9, ada()).await;
    assert!(matches!(missing, Err(HostError::NoRevision { revision: 9, .. })));
}

#[tokio::test(start_paused = true)]
async fn what_is_wanted_survives_the_process() {
    let site = Site::new(None);
    site.put("runs", &flow("", "kept_runs")).await;
    site.put("stops", &flow("", "kept_stops")).await;
    site.wait_for("stops", State::Running).await;
    site.wait_for("runs", State::Running).await;
    for operation in site.host.operations().list() {
        end(site.host.operations().find(operation.id).unwrap()).await;
    }
    end(site.host.stop("stops", false, ada()).await.unwrap()).await;
    assert_eq!(site.host.shut_down(Duration::from_secs(60)).await, 0);

    let again = Site { host: open(&site.folder, None), folder: site.folder };
    again.host.resume().await.unwrap();
    again.wait_for("runs", State::Running).await;
    assert_eq!(again.host.flow("stops").unwrap().status.state, State::Stopped);
    end(again.host.start("stops", ada()).await.unwrap()).await;
    assert_eq!(again.host.flow("stops").unwrap().status.state, State::Running);
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_can_be_asked_for_and_a_stop_called_off() {
    let site = Site::new(None);
    site.put("asked", &flow("", "asked")).await;
    site.wait_for("asked", State::Running).await;
    for operation in site.host.operations().list() {
        end(site.host.operations().find(operation.id).unwrap()).await;
    }
    let first = end(site.host.checkpoint("asked", ada()).await.unwrap()).await;
    let second = end(site.host.checkpoint("asked", ada()).await.unwrap()).await;
    assert!(second.result > first.result && first.result > Some(0), "{first:?} {second:?}");
    let stop = site.host.stop("asked", false, ada()).await.unwrap();
    let id = stop.borrow().id;
    assert!(site.host.operations().cancel(id));
    site.wait_for("asked", State::Running).await;
    assert_eq!(end(stop).await.state, OperationState::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn a_flow_that_does_not_run_takes_no_checkpoint() {
    let site = Site::new(None);
    site.put("late", &flow("trouble = 'transient', at = 0, times = 1000, counted = 'late'", "late")).await;
    site.wait_for("late", State::BackingOff).await;
    let missing = site.host.checkpoint("late", ada()).await;
    assert!(matches!(missing, Err(HostError::NotRunning { state: "backing_off", .. })), "{missing:?}");
}
