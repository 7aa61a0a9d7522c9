//! Crash points: the process kills itself at every step of the protocol, and of recovery.

use millstream_store::crash::POINTS;

use super::Trial;
use super::graphs::{ALL, BRANCHED, Graph, LINEAR, MERGED, SEQUENCE};

/// How the points begin by which only other tests come.
const ELSEWHERE: &[&str] = &[
    "change-",
    "delta-",
    "git-",
    "http-",
    "kafka-",
    "log-",
    "mqtt-",
    "mysql-",
    "nats-",
    "objects-",
    "postgres-",
    "spool-",
];

/// Points that only a flow of this kind comes by; all others are on the way of every flow that keeps state.
fn graph_of(point: &str) -> Option<&'static Graph> {
    match point {
        // `pushed.rs`, `changes.rs` of the daemon and the tests with servers come by.
        _ if ELSEWHERE.iter().any(|others| point.starts_with(others)) => None,
        "version-numbered" | "version-written" | "version-decided" => Some(&MERGED),
        "journal-removed" | "blob-written" | "blob-removed" => Some(&BRANCHED),
        // `live.rs` comes by.
        "replay-log-written" => None,
        _ => Some(&LINEAR),
    }
}

/// Steps of a run that goes on with what another one has left, so that one has to die before.
fn is_of_recovery(point: &str) -> bool {
    point.starts_with("recovery-")
}

fn crash_at(trial: &Trial, graph: &Graph, point: &str, occurrence: usize) -> bool {
    trial.start_over();
    let named = format!("{point}:{occurrence}");
    let what = format!("{}, {named}", graph.name);
    if is_of_recovery(point) {
        // Behind the decision, with everything still to be made visible.
        assert!(trial.run_until("before-commit:1"), "{what}");
    }
    let is_reached = trial.run_until(&named);
    trial.finish(&what);
    is_reached
}

#[test]
fn every_point_once() {
    let trials: Vec<_> = ALL.iter().map(|graph| Trial::new(graph)).collect();
    for point in POINTS {
        let Some(graph) = graph_of(point) else { continue };
        let trial = &trials[ALL.iter().position(|known| known.name == graph.name).unwrap()];
        assert!(crash_at(trial, graph, point, 1), "`{point}` is not reached by the graph `{}`", graph.name);
    }
}

/// A crash during recovery, and another one during the next.
#[test]
fn crashes_in_a_row() {
    let trial = Trial::new(&BRANCHED);
    for second in ["recovery-taken-over", "recovery-before-commit", "recovery-after-commit", "marked-committed"] {
        trial.start_over();
        assert!(trial.run_until("before-commit:2"));
        assert!(trial.run_until(second), "{second}");
        assert!(trial.run_until("before-manifest"), "{second}");
        trial.finish(second);
    }
}

/// An input may come to its end, while the checkpoint of a barrier before its first row is gathered.
#[test]
fn crashes_while_an_input_waits_for_its_turn() {
    let trial = Trial::new(&SEQUENCE);
    for point in ["snapshots-gathered", "after-manifest", "collected"] {
        for occurrence in [1, 2, 2, 2, 2, 3] {
            crash_at(&trial, &SEQUENCE, point, occurrence);
        }
    }
}

#[test]
#[ignore = "takes half an hour; part of the nightly run"]
fn every_point_on_every_graph() {
    for graph in ALL {
        let trial = Trial::new(graph);
        for point in POINTS.iter().filter(|point| !point.starts_with("log-")) {
            for occurrence in [1, 2, 5] {
                crash_at(&trial, graph, point, occurrence);
            }
        }
    }
}
