//! That the simulations notice when the protocol is broken.

use super::super::sabotage::Sabotage;
use super::graphs::Graph;
use super::numbers::Numbers;
use super::tally::Tally;
use super::{Simulation, simulate, try_crash_at_each_step};

/// Asserts that one of the simulations fails.
#[track_caller]
fn assert_noticed(sabotage: Sabotage) {
    assert_noticed_in(Graph::learning, sabotage);
}

/// The same, of simulations of these flows.
#[track_caller]
fn assert_noticed_in(graph: fn(&mut Numbers) -> Graph, sabotage: Sabotage) {
    let mut tally = Tally::default();
    let name = format!("{sabotage:?}").to_lowercase();
    let noticed = (0..200).find(|seed| {
        let simulation = Simulation::new(&name, *seed, graph, &mut tally);
        sabotage.turn_on(&simulation.name);
        simulate(simulation).is_err()
    });
    assert!(noticed.is_some(), "{sabotage:?} goes unnoticed");
}

/// Asserts that what is broken shows when a flow crashes at each of its steps: there are so few at which it does that seeds may miss
/// them.
fn assert_noticed_at_some_step(sabotage: Sabotage) {
    let name = format!("{sabotage:?}").to_lowercase();
    let crashed = try_crash_at_each_step(&name, &Graph::gated(0), 0, |simulation| sabotage.turn_on(simulation));
    assert!(crashed.is_err(), "{sabotage:?} goes unnoticed");
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
fn forgotten_rows_that_waited_are_noticed() {
    assert_noticed_in(Graph::waiting, Sabotage::ForgottenRows);
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
    assert_noticed_at_some_step(Sabotage::MarkBeforeCommit);
}

#[test]
fn a_mark_before_the_manifest_is_noticed() {
    assert_noticed_at_some_step(Sabotage::MarkBeforeManifest);
}
