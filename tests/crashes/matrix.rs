//! One hash a model, whatever happens on the way: kills, checkpoints, the cut of batches, threads.

use super::Trial;
use super::graphs::{BRANCHED, Graph, MERGED};

/// How often checkpoints are taken.
const CHECKPOINTS: [&str; 3] = ["1", "10", "1000000"];
const BATCHES: [&str; 3] = ["1", "500", "5000"];
const KILLS: [usize; 3] = [0, 1, 7];

struct Case {
    kills: usize,
    checkpoint: &'static str,
    batch_rows: &'static str,
    threads: &'static str,
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for kills in KILLS {
        for checkpoint in CHECKPOINTS {
            for batch_rows in BATCHES {
                for threads in ["1", "2"] {
                    cases.push(Case { kills, checkpoint, batch_rows, threads });
                }
            }
        }
    }
    cases
}

fn run(trial: &Trial, graph: &Graph, case: &Case) {
    let Case { kills, checkpoint, batch_rows, threads } = case;
    let what =
        format!("{}: {kills} kills, {checkpoint} epochs, batches of {batch_rows}, {threads} threads", graph.name);
    trial.start_over();
    let mut sets = vec![format!("checkpoint.epochs={checkpoint}"), format!("input.a.batch_rows={batch_rows}")];
    if graph.name == "merged" {
        sets.push(format!("input.b.batch_rows={batch_rows}"));
    }
    let mut arguments = vec!["--threads", threads];
    sets.iter().for_each(|set| arguments.extend(["--set", set]));
    for kill in 0..*kills {
        // Somewhere in the flow's life; the last ones come when it is through.
        let point = format!("barrier-sent:{}", 2 + kill * 2);
        trial.durable(&arguments).env("MILLSTREAM_CRASH", point).output().unwrap();
    }
    let ran = trial.durable(&arguments).output().map(crate::millstream::Ran::from).unwrap();
    assert_eq!(ran.code, 0, "{what}: {}", ran.stderr);
    trial.check(&what, &ran);
}

/// Every pair of values of two dimensions is among these.
#[test]
fn twelve_runs_one_hash() {
    let trials = [(Trial::new(&BRANCHED), &BRANCHED), (Trial::new(&MERGED), &MERGED)];
    let cases = cases();
    for place in 0..12 {
        // 13 and 54 have no common factor, so that all dimensions move.
        let case = &cases[place * 13 % cases.len()];
        let (trial, graph) = &trials[place % 2];
        run(trial, graph, case);
    }
}

#[test]
#[ignore = "takes ten minutes; part of the nightly run"]
fn all_runs_one_hash() {
    for graph in [&BRANCHED, &MERGED] {
        let trial = Trial::new(graph);
        cases().iter().for_each(|case| run(&trial, graph, case));
    }
}
