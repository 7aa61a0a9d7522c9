//! What others do to the files of a flow while it is down, or before it has remembered what it did.

use super::Trial;
use super::graphs::{BRANCHED, LINEAR, line};
use crate::millstream::{Ran, Running, Workshop};

fn message(ran: &Ran) -> String {
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    ran.json()["error"]["message"].as_str().unwrap().to_owned()
}

/// The linear flow, with a folder to which every run adds.
const APPENDING: [&str; 8] = [
    "--set",
    "output.rows.path=out/rows",
    "--set",
    "output.rows.format=csv",
    "--set",
    "output.rows.rows=1000",
    "--set",
    "output.rows.if_exists=append",
];

/// The numbers of the rows in the visible files of a folder.
fn ids(workshop: &Workshop, folder: &str) -> Vec<usize> {
    let files = workshop.list(folder).into_iter().filter(|name| !name.starts_with('.'));
    let texts = files.map(|name| workshop.read(&format!("{folder}/{name}"))).collect::<Vec<_>>();
    let id = |line: &str| line.split(',').next().and_then(|id| id.parse().ok());
    let mut ids: Vec<usize> = texts.iter().flat_map(|text| text.lines().filter_map(id)).collect();
    ids.sort_unstable();
    ids
}

fn expected() -> Vec<usize> {
    (0..12_000).filter(|id| id % 7 != 3).collect()
}

#[test]
fn a_decided_part_that_is_missing_is_missed() {
    let trial = Trial::new(&LINEAR);
    let mut command = trial.durable(&APPENDING);
    assert_eq!(command.env("MILLSTREAM_CRASH", "before-commit:3").output().unwrap().status.code(), None);
    let name = trial.workshop.list("out/rows").into_iter().find(|name| name.ends_with(".part")).unwrap();
    let (part, aside) = (trial.workshop.path(&format!("out/rows/{name}")), trial.workshop.path("aside"));
    std::fs::rename(&part, &aside).unwrap();
    let error = message(&Ran::from(trial.durable(&APPENDING).output().unwrap()));
    assert!(error.contains("was to become visible, and is neither there nor at `"), "{error}");
    std::fs::rename(&aside, &part).unwrap();
    assert!(trial.durable(&APPENDING).output().unwrap().status.success());
    assert!(ids(&trial.workshop, "out/rows") == expected());
}

#[test]
fn a_run_without_state_leaves_what_a_flow_with_state_needs() {
    for graph in [&LINEAR, &BRANCHED] {
        let trial = Trial::new(graph);
        for point in ["after-manifest:4", "before-commit:1", "file-noted:1"] {
            trial.start_over();
            assert!(trial.run_until(point), "{point}");
            let hidden = |name: &String| name.ends_with(".part");
            let before: Vec<_> = trial.workshop.list("out").into_iter().filter(hidden).collect();
            let ran = Ran::from(trial.command(&["--set", "flow.registry=elsewhere"]).output().unwrap());
            assert_eq!(ran.code, 0, "{point}: {}", ran.stderr);
            let after: Vec<_> = trial.workshop.list("out").into_iter().filter(hidden).collect();
            assert_eq!(before, after, "{point}");
            trial.finish(&format!("{}, {point}", graph.name));
        }
    }
}

#[test]
fn a_published_file_may_be_taken_away_at_any_moment() {
    let trial = Trial::new(&LINEAR);
    let last = (1..).map(|time| format!("marked-committed:{time}"));
    let points = ["file-published:1", "after-commit:1"].map(str::to_owned).into_iter().chain(last);
    let rows = trial.workshop.path("out/rows.csv");
    for point in points {
        trial.start_over();
        assert!(trial.run_until(&point), "{point}");
        // The file comes with the last checkpoint.
        if !rows.exists() {
            continue;
        }
        std::fs::remove_file(&rows).unwrap();
        for _ in 0..2 {
            let ran = Ran::from(trial.durable(&[]).output().unwrap());
            assert_eq!(ran.code, 0, "{point}: {}{}", ran.stdout, ran.stderr);
            assert!(trial.workshop.list("out").is_empty(), "{point}: it comes only once, and leaves nothing");
        }
        if point.starts_with("marked") {
            break;
        }
    }
    trial.start_over();
    trial.finish("undisturbed");
    std::fs::remove_file(trial.workshop.path("out/rows.csv")).unwrap();
    let ran = Ran::from(trial.durable(&[]).output().unwrap());
    assert_eq!(ran.code, 0, "a flow that is done: {}", ran.stderr);
    assert!(trial.workshop.list("out").is_empty());
}

#[test]
fn files_of_a_folder_may_be_taken_away_as_they_come() {
    let trial = Trial::new(&LINEAR);
    let mut taken = Vec::new();
    for point in ["file-published:2", "after-commit:2", "file-published:3", "file-noted:2", ""] {
        let mut command = trial.durable(&APPENDING);
        let output = command.env("MILLSTREAM_CRASH", point).output().unwrap();
        assert_eq!(output.status.success(), point.is_empty(), "{point}: {}", String::from_utf8_lossy(&output.stderr));
        taken.extend(ids(&trial.workshop, "out/rows"));
        for name in trial.workshop.list("out/rows").iter().filter(|name| !name.starts_with('.')) {
            std::fs::remove_file(trial.workshop.path(&format!("out/rows/{name}"))).unwrap();
        }
    }
    taken.sort_unstable();
    assert!(taken == expected(), "{} of {} rows", taken.len(), expected().len());
}

#[test]
fn an_input_that_was_replaced_is_not_gone_on_with() {
    let trial = Trial::new(&LINEAR);
    assert!(trial.run_until("after-manifest:4"));
    let path = trial.workshop.path("a.csv");
    let old = trial.workshop.read("a.csv");
    // The same number of rows, and the same beginning.
    let new = old.replace("green", "brown");
    std::fs::write(trial.workshop.path("new.csv"), &new).unwrap();
    std::fs::rename(trial.workshop.path("new.csv"), &path).unwrap();
    let error = message(&Ran::from(trial.durable(&[]).output().unwrap()));
    assert!(error.contains("`a.csv`: another file has taken its name since it was opened"), "{error}");
    std::fs::write(trial.workshop.path("copy.csv"), &old).unwrap();
    std::fs::rename(trial.workshop.path("copy.csv"), &path).unwrap();
    trial.finish("with a copy of the old one");
}

#[test]
fn an_input_that_is_replaced_while_it_is_read_is_not_gone_on_with() {
    let trial = Trial::new(&LINEAR);
    let path = trial.workshop.path("a.csv").canonicalize().unwrap();
    let many: String =
        trial.workshop.read("a.csv") + &(12_000..200_000).map(|row| line(row) + "\n").collect::<String>();
    std::fs::write(&path, &many).unwrap();
    std::fs::write(trial.workshop.path("new.csv"), many.replace("green", "brown")).unwrap();
    let mut running = Running::start(trial.durable(&[]).stdout(std::process::Stdio::piped()));
    let commits = || trial.workshop.list("state/flow/commits").into_iter();
    let checkpoint = || commits().filter_map(|name| name.parse::<u64>().ok()).max().unwrap_or(0);
    let mut wait_for = |number: u64| {
        while checkpoint() < number {
            assert!(!running.has_ended());
            std::thread::yield_now();
        }
    };
    wait_for(2);
    std::fs::rename(trial.workshop.path("new.csv"), &path).unwrap();
    wait_for(checkpoint() + 2);
    drop(running);
    let error = message(&Ran::from(trial.durable(&[]).output().unwrap()));
    assert!(error.contains("`a.csv`: another file has taken its name since it was opened"), "{error}");
}
