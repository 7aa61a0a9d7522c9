//! That the simulations notice when the protocol is broken.

use super::super::sabotage::Sabotage;
use super::simulate;
use super::tally::Tally;

/// Asserts that one of the first so many simulations fails.
#[track_caller]
fn assert_noticed(sabotage: Sabotage, seeds: u64) {
    let mut tally = Tally::default();
    let name = format!("{sabotage:?}").to_lowercase();
    let noticed = (0..seeds).find(|seed| simulate(&name, *seed, Some(sabotage), &mut tally).is_err());
    assert!(noticed.is_some(), "{sabotage:?} goes unnoticed");
    println!("{sabotage:?} {noticed:?}");
}

#[test]
fn an_old_state_is_noticed() {
    assert_noticed(Sabotage::OldState, 300);
}

#[test]
fn a_commit_before_the_manifest_is_noticed() {
    assert_noticed(Sabotage::CommitBeforeManifest, 300);
}

#[test]
fn a_dropped_remainder_is_noticed() {
    assert_noticed(Sabotage::DroppedRemainder, 300);
}

#[test]
fn a_seed_from_time_is_noticed() {
    assert_noticed(Sabotage::SeededFromTime, 300);
}

#[test]
fn a_mark_before_the_commit_is_noticed() {
    assert_noticed(Sabotage::MarkBeforeCommit, 300);
}

#[test]
fn a_mark_before_the_manifest_is_noticed() {
    assert_noticed(Sabotage::MarkBeforeManifest, 300);
}
