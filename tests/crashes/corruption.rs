//! Damaged state: whatever was done to a file of it, the flow notices, or comes to the same results.

use std::path::{Path, PathBuf};

use super::graphs::BRANCHED;
use super::{Trial, copy};
use crate::millstream::Ran;

/// What is done to a file.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Flip(u64),
    Cut(u64),
    Delete,
}

impl Damage {
    fn of(number: u64) -> Self {
        match number % 4 {
            0 | 1 => Self::Flip(number.wrapping_mul(2_654_435_761)),
            2 => Self::Cut(number.wrapping_mul(40_503)),
            _ => Self::Delete,
        }
    }

    fn apply(self, path: &Path) {
        let mut bytes = std::fs::read(path).unwrap();
        let length = bytes.len() as u64;
        match self {
            Self::Flip(place) if length > 0 => bytes[(place / 8 % length) as usize] ^= 1 << (place % 8),
            Self::Cut(place) if length > 0 => bytes.truncate((place % length) as usize),
            _ => return std::fs::remove_file(path).unwrap(),
        }
        std::fs::write(path, bytes).unwrap();
    }
}

/// The files that a killed run has left, and that the next one needs: state, and parts of outputs.
fn files(trial: &Trial) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for folder in ["state", "out"] {
        collect(&trial.workshop.path(folder), &mut files);
    }
    // What was published is the user's, and nobody asks for it again.
    let is_published = |path: &Path, name: &str| path.starts_with(trial.workshop.path("out")) && !name.starts_with('.');
    files.retain(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name != "owner" && !is_published(path, name)
    });
    files.sort();
    files
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().map(Result::unwrap) {
        if entry.path().is_dir() { collect(&entry.path(), files) } else { files.push(entry.path()) }
    }
}

fn damage(cases: u64) {
    let trial = Trial::new(&BRANCHED);
    // At the first commit: while one is under way, nobody can say of a file that is gone whether it had been published.
    assert!(trial.run_until("before-commit:1"));
    let kept = trial.workshop.path("kept");
    for folder in ["state", "out", "models"] {
        copy(&trial.workshop.path(folder), &kept.join(folder));
    }
    let newest = trial.workshop.list("state/flow/manifests").pop().unwrap();
    for case in 0..cases {
        trial.start_over();
        for folder in ["state", "out", "models"] {
            copy(&kept.join(folder), &trial.workshop.path(folder));
        }
        let files = files(&trial);
        let (file, damage) = (&files[case as usize % files.len()], Damage::of(case / files.len() as u64 + case));
        damage.apply(file);
        let ran = Ran::from(trial.durable(&[]).output().unwrap());
        let what = format!("{damage:?} of `{}`", file.strip_prefix(trial.workshop.path("")).unwrap().display());
        // Older checkpoints are only kept for people, and `checkpoints --verify` tells those. Parts of outputs may have grown
        // since the last one, and what has grown is cut off.
        let name = file.file_name().unwrap().to_str().unwrap();
        let is_needed = name == newest || name.starts_with(newest.strip_suffix(".json").unwrap()) && name.contains('-');
        // Nothing of it was visible, so that without it the flow goes on from the checkpoint before.
        let is_undecided = name == newest && matches!(damage, Damage::Delete);
        match ran.code {
            0 if is_needed && !is_undecided => panic!("{what} was not noticed"),
            0 => trial.check_results(&what, &ran),
            1 => {
                let error = ran.json()["error"]["message"].as_str().unwrap().to_owned();
                let words =
                    ["damaged", "missing", "there is none", "neither there", "other file", "shorter", "No such file"];
                assert!(words.iter().any(|word| error.contains(word)), "{what}: {error}");
            }
            code => panic!("{what}: exit code {code}: {}", ran.stderr),
        }
    }
}

#[test]
fn a_hundred_damages() {
    damage(100);
}

#[test]
#[ignore = "takes minutes; part of the nightly run"]
fn a_thousand_damages() {
    damage(1000);
}
