//! That the simulations notice when the protocol is broken.

use super::super::sabotage::Sabotage;
use super::graphs::Graph;
use super::tally::Tally;
use super::{Simulation, simulate};

/// Asserts that one of the simulations fails, from a seed on that is not far before the first which does.
#[track_caller]
fn assert_noticed_from(first: u64, sabotage: Sabotage) {
    let mut tally = Tally::default();
    let name = format!("{sabotage:?}").to_lowercase();
    let noticed = (first..first + 200).find(|seed| {
        let simulation = Simulation::new(&name, *seed, Graph::learning, &mut tally);
        sabotage.turn_on(&simulation.name);
        simulate(simulation).is_err()
    });
    assert!(noticed.is_some(), "{sabotage:?} goes unnoticed");
}

#[test]
fn an_old_state_is_noticed() {
    assert_noticed_from(0, Sabotage::OldState);
}

#[test]
fn a_commit_before_the_manifest_is_noticed() {
    assert_noticed_from(0, Sabotage::CommitBeforeManifest);
}

#[test]
fn a_dropped_remainder_is_noticed() {
    assert_noticed_from(0, Sabotage::DroppedRemainder);
}

#[test]
fn a_seed_from_time_is_noticed() {
    assert_noticed_from(0, Sabotage::SeededFromTime);
}

#[test]
fn a_mark_before_the_commit_is_noticed() {
    assert_noticed_from(30, Sabotage::MarkBeforeCommit);
}

#[test]
fn a_mark_before_the_manifest_is_noticed() {
    assert_noticed_from(30, Sabotage::MarkBeforeManifest);
}
