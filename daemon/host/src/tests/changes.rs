//! What becomes of changes: those that fail on their way, those that are called off, and through restarts of the process.

use std::time::Duration;

use millstream_testkit::{committed, opened};

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

/// Waits until a flow runs, and nobody does anything with it.
async fn settled(site: &Site, name: &str) {
    site.wait_for(name, State::Running).await;
    for operation in site.host.operations().list() {
        end(site.host.operations().find(operation.id).unwrap()).await;
    }
}

fn assert_whole(place: &str) {
    let numbers = committed(place);
    assert!(!numbers.is_empty());
    assert_eq!(numbers, (0..numbers.len() as i64).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_flow_that_is_changed_goes_on_with_the_nodes_that_stay() {
    let site = Site::new(None);
    let text = flow("counted = 'stays'", "stays");
    site.put("stays", &text).await;
    settled(&site, "stays").await;
    for number in 2..=20 {
        let changed = text.replace("1h", &format!("{number}h"));
        let applied = site.apply("stays", &changed, Expected::Revision(number - 1)).await.unwrap();
        let operation = end(applied.operation).await;
        assert_eq!((operation.state, operation.result), (OperationState::Done, Some(number)), "{operation:?}");
        let took = operation.took.unwrap();
        assert!(took.wait_s <= 0.2 && took.pause_s <= 0.2, "{took:?}");
        assert_eq!(site.host.flow("stays").unwrap().status.revision, number);
    }
    assert_eq!(opened("stays"), 1, "its input has never stopped");
    assert_eq!(site.host.shut_down(Duration::from_secs(60)).await, 0);
    assert_whole("stays");
}

#[tokio::test(start_paused = true)]
async fn a_change_that_would_lose_a_state_is_refused_by_name_and_the_flow_goes_on() {
    let site = Site::new(None);
    let text = flow("counted = 'loses'", "loses");
    site.put("loses", &text).await;
    settled(&site, "loses").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let changed = text.replace("input.n", "input.m").replace("from = \"n\"", "from = \"m\"");
    let refused = site.apply("loses", &changed, Expected::Revision(1)).await.unwrap();
    let refused = end(refused.operation).await;
    let problem = refused.problem.unwrap();
    assert!(problem.contains("node `n` has state in the last checkpoint"), "{problem}");
    let now = site.host.flow("loses").unwrap();
    assert_eq!((now.revision, now.status.revision, now.status.state), (1, 1, State::Running));
    assert_eq!(now.refused.unwrap().revision, Some(2));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let reset = site.apply_resetting("loses", &changed, Expected::Revision(1), &["n"]).await.unwrap();
    assert_eq!(end(reset.operation).await.state, OperationState::Done);
    assert_eq!(site.host.flow("loses").unwrap().status.revision, reset.revision);
    assert_eq!(site.host.shut_down(Duration::from_secs(60)).await, 0);
    assert_whole("loses");
}

#[tokio::test(start_paused = true)]
async fn a_change_that_is_called_off_leaves_the_flow_as_it_was() {
    let site = Site::new(None);
    let text = flow("counted = 'called_off'", "called_off");
    site.put("called_off", &text).await;
    settled(&site, "called_off").await;
    for _ in 0..5 {
        let changed = site.apply("called_off", &text.replace("1h", "2h"), Expected::Revision(1)).await.unwrap();
        let id = changed.operation.borrow().id;
        assert!(site.host.operations().cancel(id));
        assert_eq!(end(changed.operation).await.state, OperationState::Cancelled);
        site.wait("called_off", |status| status.state == State::Running && status.revision == 1).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(site.host.flow("called_off").unwrap().revision, 1);
    assert_eq!(site.host.shut_down(Duration::from_secs(60)).await, 0);
    assert_whole("called_off");
}

#[tokio::test(start_paused = true)]
async fn a_flow_that_fails_while_its_change_is_on_its_way_begins_with_the_new_text() {
    let site = Site::new(Some(0));
    let text = flow("trouble = 'permanent', at = 100, times = 1000, counted = 'meanwhile'", "meanwhile");
    site.put("meanwhile", &text).await;
    settled(&site, "meanwhile").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    // It fails within this epoch, which takes until then.
    let mended = text.replace("times = 1000", "times = 0").replace("100ms", "10s");
    let changed = site.apply("meanwhile", &mended, Expected::Revision(1)).await.unwrap();
    let changed = end(changed.operation).await;
    assert_eq!(changed.state, OperationState::Done, "{changed:?}");
    assert_eq!(site.host.shut_down(Duration::from_secs(60)).await, 0);
    assert_whole("meanwhile");
}
