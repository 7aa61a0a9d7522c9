//! A node that keeps rows in front of a slow one: rows go on being taken in flat memory, none is lost or doubled through kills, and models are
//! trained again.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::live::{covered, covered_by};
use crate::millstream::{Ran, Running, Workshop};

/// A file that grows, and behind a node that keeps its rows one that lets few of them pass.
const FLOW: &str = r#"
    [flow]
    epoch = { rows = 5000, interval = "50ms" }
    edge = { bytes = "1MiB" }
    [checkpoint]
    interval = "100ms"
    [input.a]
    type = "file"
    path = "a.csv"
    follow = true
    on_error = "fail"
    schema = { id = "int64", x = "float64", label = "boolean", text = "utf8" }
    [processor.kept]
    type = "buffer"
    from = "a"
    memory = "1MiB"
    [processor.slow]
    type = "rate_limit"
    from = "kept"
    rows = "100/s"
    burst = "10ms"
    [processor.learner]
    type = "train"
    from = "slow"
    model = "m"
    estimator = { type = "logistic_regression", learning_rate = 0.05 }
    features = ["x"]
    label = "label"
    publish = { rows = 300 }
    [processor.sizes]
    type = "sql"
    from = "learner"
    query = "SELECT id, character_length(text) AS size FROM learner"
    [output.rows]
    type = "file"
    from = "sizes"
    path = "out"
    format = "ndjson"
    rows = 1000
    every = "100ms"
"#;

/// What is said where rows should pass quickly.
const QUICK: [&str; 2] = ["--set", "processor.slow.rows=10000000/s"];

struct Waiting {
    workshop: Workshop,
    written: usize,
}

impl Waiting {
    fn new() -> Self {
        let workshop = Workshop::new();
        workshop.write("flow.toml", FLOW);
        workshop.write("a.csv", "id,x,label,text\n");
        Self { workshop, written: 0 }
    }

    /// Appends rows of a kilobyte.
    fn append(&mut self, rows: usize) {
        let mut text = String::with_capacity(rows * 1100);
        for id in self.written..self.written + rows {
            // What can't be compressed takes its place on disk.
            let letter = |place: usize| char::from(b'a' + ((id * 31 + place * place * 7 + id * place) % 26) as u8);
            let long: String = (0..1000).map(letter).collect();
            text += &format!("{id},{},{},{long}\n", id * 37 % 101, id * 37 % 101 > 50);
        }
        self.written += rows;
        let path = self.workshop.path("a.csv");
        OpenOptions::new().append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Appends rows, and waits until they have been taken: a checkpoint covers them.
    fn append_and_wait(&mut self, rows: usize) {
        self.append(rows);
        self.wait_until("rows are covered", self.written, || covered_by(&self.workshop, &[]));
    }

    fn start(&self, more: &[&str]) -> Running {
        let arguments = [&["run", "--json", "--state", "state", "flow.toml"], more].concat();
        let mut command = self.workshop.command(&arguments);
        // So that what is measured is what the program has, and not what the C library keeps of what it had.
        command.env("MALLOC_MMAP_THRESHOLD_", "65536").env("MALLOC_TRIM_THRESHOLD_", "131072");
        Running::start(command.stdout(Stdio::piped()))
    }

    /// Waits until something has come so far. If it does not move for minutes, it never will.
    fn wait_until(&self, what: &str, wanted: usize, come: impl Fn() -> usize) {
        let (mut seen, mut since) = (0, Instant::now());
        while seen < wanted {
            assert!(since.elapsed() < Duration::from_secs(180), "{seen} of {wanted} {what}");
            std::thread::sleep(Duration::from_millis(20));
            let now = come();
            if now > seen {
                (seen, since) = (now, Instant::now());
            }
        }
    }

    /// The numbers of the rows that are visible, sorted.
    fn ids(&self) -> Vec<usize> {
        let names = self.workshop.list("out").into_iter().filter(|name| !name.starts_with('.'));
        let text: String = names.map(|name| self.workshop.read(&format!("out/{name}"))).collect();
        let id = |line: &str| line.strip_prefix("{\"id\":")?.split(',').next()?.parse().ok();
        let mut ids: Vec<_> = text.lines().filter_map(id).collect();
        ids.sort_unstable();
        ids
    }

    fn replay(&self, version: usize) -> Ran {
        let version = format!("m/{version}");
        self.workshop.run(&[&["replay", "flow.toml", &version, "--state", "state"], &QUICK[..]].concat())
    }
}

/// The memory of a process that is its own, in KiB: what it has of files is none of it.
fn own_memory(process: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("the process is running");
    line.trim().trim_end_matches("kB").trim().parse().unwrap()
}

#[test]
fn rows_go_on_being_taken_while_others_are_slow() {
    let mut flow = Waiting::new();
    for round in 0..4 {
        let running = flow.start(&[]);
        if round % 2 == 0 {
            flow.append_and_wait(1500)
        } else {
            flow.append(1500)
        }
        // Dropped, which kills it.
        drop(running);
    }
    let ids = flow.ids().len();
    assert!(ids < flow.written / 2, "{ids} of {} rows have left", flow.written);
    for _ in 0..3 {
        let begun = flow.ids().len();
        let running = flow.start(&["--set", "processor.slow.rows=3000/s"]);
        flow.append(100);
        flow.wait_until("rows have left", begun + 1000, || flow.ids().len());
        drop(running);
    }
    let running = flow.start(&QUICK);
    flow.wait_until("rows have left", flow.written, || flow.ids().len());
    running.stop();
    assert!(flow.ids().into_iter().eq(0..flow.written), "{} of {} rows", flow.ids().len(), flow.written);
    assert_eq!(covered(&flow.workshop), flow.written, "the checkpoints are whole");
    let versions = flow.workshop.list("models/m/versions").len();
    assert!(versions > 3, "{versions} versions");
    for version in [1, versions / 2, versions] {
        let ran = flow.replay(version);
        assert!(ran.stdout.starts_with(&format!("m/{version}: the same bits after ")), "{}{}", ran.stdout, ran.stderr);
    }
}

#[test]
fn memory_is_flat_while_rows_wait() {
    let mut flow = Waiting::new();
    let mut running = flow.start(&["--set", "processor.slow.rows=500/s"]);
    flow.append_and_wait(6000);
    let before = own_memory(running.id());
    (0..5).for_each(|_| flow.append_and_wait(6000));
    // More than twenty megabytes wait.
    let after = own_memory(running.id());
    assert!(after < before + (6 << 10), "its memory has grown from {before} to {after} KiB");
}
