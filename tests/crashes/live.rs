//! Live flows: killed while rows come, stopped and gone on with; and their models trained again afterwards.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::graphs::line;
use crate::millstream::{Ran, Running, Workshop};

/// Two files that grow, taken as their rows come; a model, and outputs of one file and of many.
const FLOW: &str = r#"
    [flow]
    epoch = { rows = 300, interval = "50ms" }
    [checkpoint]
    interval = "100ms"
    [input.a]
    type = "file"
    path = "a-*.csv"
    follow = true
    schema = { id = "int64", at = "timestamp", x = "float64", y = "float64", c = "utf8", label = "boolean" }
    [input.b]
    type = "file"
    path = "b-*.csv"
    follow = true
    schema = { id = "int64", at = "timestamp", x = "float64", y = "float64", c = "utf8", label = "boolean" }
    [processor.both]
    type = "merge"
    from = ["a", "b"]
    order = "arrival"
    [processor.learner]
    type = "train"
    from = "both"
    model = "m"
    estimator = { type = "logistic_regression", learning_rate = 0.05 }
    features = ["x", "y", "c"]
    label = "label"
    publish = { rows = 400 }
    [output.rows]
    type = "file"
    from = "learner"
    path = "out/rows.ndjson"
    [output.parts]
    type = "file"
    from = "both"
    path = "out/parts"
    format = "csv"
    rows = 100
    [output.kinds]
    type = "file"
    from = "both"
    path = "out/timed"
    format = "ndjson"
    every = "200ms"
"#;

struct Live {
    workshop: Workshop,
    /// How many rows were written to each file.
    written: BTreeMap<&'static str, usize>,
}

/// The first number of the rows of each file.
const FILES: [(&str, usize); 3] = [("a-1.csv", 0), ("a-2.csv", 1_000_000), ("b-1.csv", 2_000_000)];

impl Live {
    fn new() -> Self {
        let workshop = Workshop::new();
        workshop.write("flow.toml", FLOW);
        Self { workshop, written: BTreeMap::new() }
    }

    /// Appends rows, now to one file, now to another.
    fn append(&mut self, rounds: usize) {
        for round in 0..rounds {
            let (file, first) = FILES[round * 7 % 3];
            let written = self.written.entry(file).or_default();
            let mut text = if *written == 0 { "id,at,x,y,c,label\n".to_owned() } else { String::new() };
            let rows = 1 + round * 13 % 60;
            (first + *written..first + *written + rows).for_each(|row| text += &format!("{}\n", line(row)));
            *written += rows;
            let path = self.workshop.path(file);
            OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
        }
    }

    fn rows(&self) -> usize {
        self.written.values().sum()
    }

    fn start(&self) -> Running {
        self.start_until("")
    }

    /// Starts a run that kills itself at a crash point.
    fn start_until(&self, point: &str) -> Running {
        let mut command = self.workshop.command(&["run", "--json", "--state", "state", "flow.toml"]);
        command.env("MILLSTREAM_CRASH", point);
        Running::start(command.stdout(Stdio::piped()))
    }

    /// Waits until a checkpoint covers so many rows.
    fn wait_for(&self, rows: usize) {
        let begin = Instant::now();
        while covered(&self.workshop) < rows {
            assert!(
                begin.elapsed() < Duration::from_secs(60),
                "{} of {rows} rows are covered",
                covered(&self.workshop)
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The numbers of the rows in all files of an output, sorted.
    fn ids(&self, output: &str) -> Vec<usize> {
        let folder = self.workshop.path(output);
        let files = if folder.is_dir() {
            self.workshop.list(output).into_iter().map(|name| format!("{output}/{name}")).collect()
        } else {
            vec![output.to_owned()]
        };
        let visible = files.into_iter().filter(|name| !name.rsplit('/').next().unwrap().starts_with('.'));
        let id = |line: &str| match serde_json::from_str::<Value>(line) {
            Ok(row) => row["id"].as_u64().map(|id| id as usize),
            Err(_) => line.split(',').next()?.parse().ok(),
        };
        let mut ids: Vec<_> =
            visible.flat_map(|name| self.workshop.read(&name).lines().filter_map(id).collect::<Vec<_>>()).collect();
        ids.sort_unstable();
        ids
    }

    fn expected(&self) -> Vec<usize> {
        FILES.iter().flat_map(|(file, first)| *first..first + self.written.get(file).copied().unwrap_or(0)).collect()
    }

    fn versions(&self) -> Vec<String> {
        self.workshop.list("models/m/versions")
    }
}

/// How many rows of all inputs the last checkpoint covers, all of which is read.
pub fn covered(workshop: &Workshop) -> usize {
    covered_by(workshop, &["--verify"])
}

/// How many rows of all inputs the last checkpoint covers, which is looked at with these arguments.
pub fn covered_by(workshop: &Workshop, arguments: &[&str]) -> usize {
    let ran = workshop.run(&[&["checkpoints", "--state", "state", "--json"], arguments].concat());
    let Some(last) = ran.stdout.lines().last() else { return 0 };
    let Ok(last) = serde_json::from_str::<Value>(last) else { return 0 };
    assert!(last["problem"].is_null(), "a flow that runs is no damage: {last}");
    let inputs = last["inputs"].as_object().into_iter().flatten();
    let next = inputs.flat_map(|(_, partitions)| partitions.as_object().into_iter().flatten());
    next.map(|(_, next)| next.as_u64().unwrap() as usize).sum()
}

#[test]
fn a_live_flow_is_killed_stopped_and_gone_on_with() {
    let mut live = Live::new();
    live.append(20);
    for _ in 0..4 {
        let running = live.start();
        live.append(15);
        live.wait_for(live.rows() - 100);
        live.append(10);
        // Dropped, which kills it.
        drop(running);
    }
    for point in ["replay-log-written:2", "after-manifest:3"] {
        let mut running = live.start_until(point);
        while !running.has_ended() {
            live.append(3);
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    let running = live.start();
    live.append(5);
    live.wait_for(live.rows());
    let before = running.stop().json();
    assert_eq!(before["status"], "stopped");
    for output in ["out/rows.ndjson", "out/parts", "out/timed"] {
        assert!(live.ids(output) == live.expected(), "`{output}`: {} of {} rows", live.ids(output).len(), live.rows());
    }
    // A restart goes through nothing again.
    let running = live.start();
    live.append(1);
    live.wait_for(live.rows());
    let after = running.stop().json();
    let read = |summary: &Value| summary["nodes"]["both"]["rows_in"].as_u64().unwrap() as usize;
    assert_eq!((read(&before) + 1, read(&after)), (live.rows(), live.rows()));
    assert_eq!(live.ids("out/rows.ndjson"), live.expected());
    assert!(live.versions().len() >= 3);
    for version in live.versions() {
        let version = format!("m/{}", version.parse::<u64>().unwrap());
        let ran = live.workshop.run(&["replay", "flow.toml", &version, "--state", "state"]);
        assert_eq!(ran.code, 0, "{version}: {}", ran.stderr);
        assert!(ran.stdout.starts_with(&format!("{version}: the same bits after ")), "{}", ran.stdout);
    }
    let ran = live.workshop.run(&["replay", "flow.toml", "m/1"]);
    assert!(ran.stderr.contains("`--state DIR` is where it was written down how they came"), "{}", ran.stderr);
}

#[test]
fn rotated_files_are_in_the_lineage_and_gone_through_again() {
    let mut live = Live::new();
    let settings = ["--set", "input.a.path=a-1.csv"];
    let run = |live: &Live| {
        let arguments = [&["run", "--json", "--state", "state", "flow.toml"], &settings[..]].concat();
        Running::start(live.workshop.command(&arguments).stdout(Stdio::piped()))
    };
    let mut rows = 0;
    for rotation in 1..=3 {
        let mut running = run(&live);
        live.append(40);
        rows = live.written["a-1.csv"] + live.written["b-1.csv"];
        live.wait_for(rows);
        if rotation < 3 {
            let (from, to) = (live.workshop.path("a-1.csv"), live.workshop.path(&format!("a-1.csv.{rotation}")));
            std::fs::rename(&from, to).unwrap();
            std::fs::write(&from, "id,at,x,y,c,label\n").unwrap();
            // It is stopped when the new file was found, and has to wait until the old one is given up.
            let from = from.canonicalize().unwrap();
            while !running.has_open(&from) {
                assert!(!running.has_ended(), "{}", running.wait().stdout);
                std::thread::yield_now();
            }
        }
        running.stop();
    }
    let last = live.versions().len();
    let card: Value =
        serde_json::from_str(&live.workshop.run(&["models", "show", &format!("m/{last}")]).stdout).unwrap();
    let inputs = &card["lineage"]["inputs"];
    let trained: u64 =
        ["a", "b"].iter().flat_map(|input| inputs[input].as_object().unwrap().values()).filter_map(Value::as_u64).sum();
    assert_eq!(inputs["a"].as_object().unwrap().keys().collect::<Vec<_>>(), ["a-1.csv", "a-1.csv#2", "a-1.csv#3"]);
    assert_eq!(card["rows"], trained);
    assert!(rows as u64 >= trained);
    for version in 1..=last {
        let version = format!("m/{version}");
        let arguments = [&["replay", "flow.toml", &version, "--state", "state"], &settings[..]].concat();
        let ran = live.workshop.run(&arguments);
        assert!(ran.stdout.contains("the same bits after "), "{version}: {}{}", ran.stdout, ran.stderr);
    }
}

#[test]
fn a_version_is_trained_again_from_the_first_row_or_from_a_checkpoint() {
    let workshop = Workshop::new();
    super::graphs::BRANCHED.write_data(&workshop);
    workshop.write("flow.toml", super::graphs::BRANCHED.flow);
    let run = |arguments: &[&str]| -> Ran { workshop.run(arguments) };
    assert_eq!(run(&["run", "flow.toml", "--state", "state", "--set", "checkpoint.keep=100"]).code, 0);
    let lineage = |version: &str| -> Value {
        let card: Value = serde_json::from_str(&run(&["models", "show", version]).stdout).unwrap();
        card["lineage"].clone()
    };
    let last = format!("m/{}", workshop.list("models/m/versions").len());
    let checkpoint = lineage(&last)["checkpoint"].as_u64().unwrap();
    assert_eq!(lineage(&last)["inputs"]["a"]["a.csv"], 9000);
    let from = (checkpoint - 2).to_string();
    for arguments in [vec![], vec!["--state", "state"], vec!["--state", "state", "--from", &from]] {
        let ran = run(&[&["replay", "flow.toml", &last], &arguments[..]].concat());
        assert_eq!(ran.code, 0, "{arguments:?}: {}", ran.stderr);
    }
    let late = run(&["replay", "flow.toml", "m/1", "--state", "state", "--from", &from]);
    assert!(late.stderr.contains("the version was published by checkpoint "), "{}", late.stderr);
    let unknown = run(&["replay", "flow.toml", &last, "--state", "state", "--from", "1000"]);
    assert!(unknown.stderr.contains("checkpoint 1000 is not kept in `state`; these are: 1, 2, "), "{}", unknown.stderr);
    // Other rows, of which some are learned, and it is another model.
    let text = workshop.read("a.csv").replacen("red", "blue", 20);
    workshop.write("a.csv", &text);
    let ran = run(&["replay", "flow.toml", &last]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("comes out otherwise: its sha256 is"), "{}", ran.stderr);
}
