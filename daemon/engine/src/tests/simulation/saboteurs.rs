//! That the simulations notice when the protocol is broken.

use super::super::sabotage::Sabotage;
use super::graphs::Graph;
use super::tally::Tally;
use super::{Simulation, simulate};

/// Asserts that one of the first simulations fails.
#[track_caller]
fn assert_noticed(sabotage: Sabotage) {
    let mut tally = Tally::default();
    let name = format!("{sabotage:?}").to_lowercase();
    let noticed = (0..200).find(|seed| {
        let simulation = Simulation::new(&name, *seed, Graph::learning, &mut tally);
        sabotage.turn_on(&simulation.name);
        simulate(simulation).is_err()
    });
    assert!(noticed.is_some(), "{sabotage:?} goes unnoticed");
}

#[test]
fn an_old_state_is_noticed() {
    assert_noticed(Sabotage::OldState);
}

#[test]
fn a_commit_before_the_manifest_is_noticed() {
    assert_noticed(Sabotage::CommitBeforeManifest);
}

#[test]
fn a_dropped_remainder_is_noticed() {
    assert_noticed(Sabotage::DroppedRemainder);
}

#[test]
fn a_seed_from_time_is_noticed() {
    assert_noticed(Sabotage::SeededFromTime);
}

#[test]
fn a_mark_before_the_commit_is_noticed() {
    assert_noticed(Sabotage::MarkBeforeCommit);
}

#[test]
fn a_mark_before_the_manifest_is_noticed() {
    assert_noticed(Sabotage::MarkBeforeManifest);
}
