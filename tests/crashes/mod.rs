//! Exactly once, and the same bits: the real binary is killed, its state damaged, and what comes out compared with a run
//! that was left alone.

mod aliases;
mod corruption;
mod disks;
mod disturbed;
mod golden;
mod graphs;
mod kills;
mod live;
mod matrix;
mod moved;
mod owners;
mod points;
mod pushed;
mod refused;
mod resets;
mod waiting;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::millstream::{Ran, Workshop, copy};
use graphs::Graph;

/// A flow, what it gives when nobody disturbs it, and a folder to disturb it in.
pub struct Trial {
    pub workshop: Workshop,
    flow: PathBuf,
    /// What comes out, by path: all outputs, and all versions of models.
    control: BTreeMap<String, Vec<u8>>,
    /// The JSON line of the undisturbed run, without what differs from run to run.
    summary: Value,
}

/// The folders that a flow writes to.
const RESULTS: [&str; 2] = ["out", "models"];

impl Trial {
    pub fn new(graph: &Graph) -> Self {
        let workshop = Workshop::new();
        graph.write_data(&workshop);
        let flow = workshop.write("flow.toml", graph.flow);
        let mut trial = Self { workshop, flow, control: BTreeMap::new(), summary: Value::Null };
        let ran = trial.command(&[]).output().map(Ran::from).unwrap();
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        trial.summary = comparable(&ran.json());
        trial.control = trial.results();
        trial.start_over();
        trial
    }

    /// A run of the flow without state.
    pub fn command(&self, arguments: &[&str]) -> Command {
        self.workshop.command(&[&["run", "--json", self.flow.to_str().unwrap()], arguments].concat())
    }

    /// A run of the flow that keeps state, in which checkpoints are taken as often as possible.
    pub fn durable(&self, arguments: &[&str]) -> Command {
        self.command(&[&["--state", "state"], arguments].concat())
    }

    /// Removes everything that was written.
    pub fn start_over(&self) {
        for folder in RESULTS.into_iter().chain(["state"]) {
            let _ = std::fs::remove_dir_all(self.workshop.path(folder));
        }
    }

    /// The same in a folder of its own, with everything that is there.
    pub fn copy(&self) -> Self {
        let workshop = Workshop::new();
        copy(&self.workshop.path(""), &workshop.path(""));
        let flow = workshop.path("flow.toml");
        Self { workshop, flow, control: self.control.clone(), summary: self.summary.clone() }
    }

    /// Runs the flow until it is killed at a crash point. False if it never comes there, and so to its end.
    pub fn run_until(&self, point: &str) -> bool {
        let ran = Ran::from(self.durable(&[]).env("MILLSTREAM_CRASH", point).output().unwrap());
        // A process that was killed has no exit code.
        assert!(ran.code == -1 || ran.code == 0, "{point}: {}", ran.stderr);
        ran.code == -1
    }

    /// Goes on to the end, and compares what has come out.
    pub fn finish(&self, what: &str) {
        let ran = Ran::from(self.durable(&[]).output().unwrap());
        assert_eq!(ran.code, 0, "{what}: {}{}", ran.stdout, ran.stderr);
        self.check(what, &ran);
    }

    /// Compares what has come out.
    pub fn check_results(&self, what: &str, ran: &Ran) {
        assert_eq!(comparable(&ran.json()), self.summary, "{what}: the summaries differ");
        let results = self.results();
        let names = |results: &BTreeMap<String, Vec<u8>>| results.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&results), names(&self.control), "{what}: other files, or left-overs");
        for (name, bytes) in &results {
            assert!(*bytes == self.control[name], "{what}: `{name}` differs");
        }
    }

    /// The same, and that all checkpoints are whole.
    pub fn check(&self, what: &str, ran: &Ran) {
        self.check_results(what, ran);
        let checked = self.workshop.run(&["checkpoints", "--state", "state", "--verify"]);
        assert_eq!(checked.code, 0, "{what}: {}", checked.stderr);
    }

    /// Every file of the results, hidden ones too. Of models the bytes and the lineage; cards have the time in them, and
    /// publications the name of the run.
    fn results(&self) -> BTreeMap<String, Vec<u8>> {
        let mut results = BTreeMap::new();
        for folder in RESULTS {
            collect(&self.workshop.path(folder), folder, &mut results);
        }
        let of_runs = ["card.json", "version.json", "/aliases/", "/publications/", "/last/"];
        results.retain(|name, _| !of_runs.iter().any(|part| name.contains(part)));
        results
    }
}

fn collect(folder: &Path, name: &str, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().map(Result::unwrap) {
        let name = format!("{name}/{}", entry.file_name().to_str().unwrap());
        if entry.path().is_dir() {
            collect(&entry.path(), &name, files)
        } else {
            _ = files.insert(name, std::fs::read(entry.path()).unwrap());
        }
    }
}

/// A summary without what differs from run to run.
fn comparable(summary: &Value) -> Value {
    let mut summary = summary.clone();
    summary["elapsed_s"] = Value::Null;
    summary.as_object_mut().unwrap().remove("this_run");
    summary
}
