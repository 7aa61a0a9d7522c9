//! Work folders that are copied, state folders that are damaged, and what `checkpoints` says of both.

use super::Trial;
use super::graphs::{BRANCHED, LINEAR};
use crate::millstream::{Ran, Workshop, copy};

const VERIFY: [&str; 4] = ["checkpoints", "--state", "state", "--verify"];

/// A flow of one output, killed in the middle: it has a part file, and nothing is visible.
fn killed() -> Trial {
    let trial = Trial::new(&LINEAR);
    assert!(trial.run_until("after-manifest:4"));
    trial
}

/// The name of the part file.
fn part_of(workshop: &Workshop) -> String {
    workshop.list("out").into_iter().find(|name| name.ends_with(".part")).unwrap()
}

fn flip(path: &std::path::Path) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[9] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_copied_work_folder_goes_on_with_its_own_files() {
    let trial = Trial::new(&BRANCHED);
    for point in ["after-manifest:4", "before-commit:4", "file-published:2", "after-commit:4"] {
        trial.start_over();
        assert!(trial.run_until(point), "{point}");
        let before = trial.results();
        let copied = trial.copy();
        copied.finish(&format!("copied at {point}"));
        assert!(trial.results() == before, "{point}: the original has changed");
        trial.finish(&format!("the original of {point}"));
    }
}

#[test]
fn a_run_in_another_folder_is_told_where_the_files_are() {
    let trial = killed();
    let elsewhere = trial.copy();
    std::fs::remove_dir_all(elsewhere.workshop.path("out")).unwrap();
    let ran = Ran::from(elsewhere.durable(&[]).output().unwrap());
    let error = ran.json()["error"]["message"].as_str().unwrap().to_owned();
    let place = trial.workshop.path("out").display().to_string();
    assert!(
        error.contains(&format!("is not there: the last checkpoint left it in `{place}`; run the flow in the")),
        "{error}"
    );
    assert!(!elsewhere.workshop.exists("out"), "nothing is written there");
}

#[test]
fn part_files_of_outputs_are_verified() {
    let trial = killed();
    let workshop = &trial.workshop;
    assert_eq!(workshop.run(&VERIFY).code, 0);
    let name = part_of(workshop);
    let part = workshop.path(&format!("out/{name}"));
    flip(&part);
    let ran = workshop.run(&VERIFY);
    assert_eq!(ran.code, 1);
    assert!(
        ran.stderr.contains("output `rows`: `") && ran.stderr.contains(&format!("{name}` is damaged")),
        "{}",
        ran.stderr
    );
    assert_eq!(workshop.run(&VERIFY[..3]).code, 0, "it is not looked at unless asked for");
    flip(&part);
    let moved = Trial::copy(&trial);
    let ran = moved.workshop.run(&VERIFY);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("output `rows`: its files were looked at in `"), "{}", ran.stderr);
    std::fs::remove_dir_all(workshop.path("out")).unwrap();
    let ran = moved.workshop.run(&VERIFY);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("output `rows`: its files were not looked at: `"), "{}", ran.stderr);
}

#[test]
fn what_to_do_about_a_damaged_checkpoint_is_said() {
    let trial = Trial::new(&BRANCHED);
    assert!(trial.run_until("after-manifest:4"));
    let kept = trial.copy();
    let workshop = &trial.workshop;
    let newest = workshop.list("state/flow/manifests").pop().unwrap();
    let number = newest.strip_suffix(".json").unwrap();
    let blob = workshop.list("state/flow/blobs").into_iter().find(|name| name.starts_with(number)).unwrap();
    for file in [format!("manifests/{newest}"), format!("blobs/{blob}")] {
        let _ = std::fs::remove_dir_all(workshop.path("state"));
        copy(&kept.workshop.path("state"), &workshop.path("state"));
        flip(&workshop.path("state/flow").join(&file));
        let told = "put it back from a copy, or start from scratch with another state folder";
        let listed = workshop.run(&VERIFY);
        assert!(listed.code == 1 && listed.stderr.contains(told), "{file}: {}", listed.stderr);
        let ran = Ran::from(trial.durable(&[]).output().unwrap());
        let error = ran.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(ran.code == 1 && error.contains(told), "{file}: {error}");
    }
}

#[test]
fn checkpoints_that_were_removed_are_missed() {
    let trial = killed();
    let workshop = &trial.workshop;
    for manifest in workshop.list("state/flow/manifests") {
        std::fs::remove_file(workshop.path("state/flow/manifests").join(manifest)).unwrap();
    }
    let ran = Ran::from(trial.durable(&[]).output().unwrap());
    let error = ran.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(error.contains("is missing") && error.contains("start from scratch with another state folder"), "{error}");
    for arguments in [&VERIFY[..], &VERIFY[..3], &["checkpoints", "--state", "state", "flow"]] {
        let ran = workshop.run(arguments);
        assert_eq!(ran.code, 1);
        assert!(ran.stderr.contains(&error), "{arguments:?}: {}", ran.stderr);
    }
}

#[test]
fn an_output_that_is_reset_leaves_no_part_behind() {
    let trial = killed();
    assert!(part_of(&trial.workshop).starts_with(".rows.csv."));
    let ran = Ran::from(trial.durable(&["--reset", "rows"]).output().unwrap());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(trial.workshop.list("out"), ["rows.csv"]);
    let (rows, all) = (trial.workshop.read("out/rows.csv"), &trial.control["out/rows.csv"]);
    let (header, rest) = rows.split_once('\n').unwrap();
    assert!(all.starts_with(header.as_bytes()) && all.ends_with(rest.as_bytes()) && rows.len() < all.len());
}
