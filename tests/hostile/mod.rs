//! Files that are cut off, damaged, endless, in another encoding or made to fill the memory: in every format, read once and
//! followed. No row is lost in silence, and the memory stays bounded.

mod files;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::sync::mpsc::{Receiver, channel};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use crate::millstream::{Ran, Running, Workshop};
use files::{Case, Rows};

/// How much memory a flow takes that has no row without an end: some 90 MiB without optimisation.
const SHORT_MIB: usize = 112;

/// How much more one such row takes. A row may have 64 MiB, so that as many have to be read, and what is read at once behind them, before it is known to
/// be too long: 64 MiB over an idle flow do not suffice.
const ENDLESS_MIB: usize = 68;

/// A flow that reads all cases, and prints their rows, good and bad.
fn flow(cases: &[Case], follow: bool) -> String {
    let input = |case: &Case| {
        let schema = if case.has_columns() { "" } else { "schema = { id = \"utf8\", n = \"int64\" }" };
        let follow = if follow { "follow = true" } else { "" };
        format!("[input.{}]\ntype = \"file\"\npath = \"{}\"\n{schema}\n{follow}\n", case.name, case.file)
    };
    let from = |port: &str| cases.iter().map(|case| format!("\"{}{port}\"", case.name)).collect::<Vec<_>>().join(", ");
    let inputs: String = cases.iter().map(input).collect();
    format!(
        "{inputs}
        [output.good]
        type = \"stdout\"
        from = [{}]
        [output.bad]
        type = \"stdout\"
        from = [{}]
        ",
        from(""),
        from(".failed")
    )
}

/// A flow that runs, the lines that it prints, and how much memory it takes.
struct Watched {
    running: Running,
    lines: Receiver<String>,
    peak: JoinHandle<usize>,
    most_mib: usize,
}

impl Watched {
    fn start(workshop: &Workshop, cases: &[Case], follow: bool) -> Self {
        for case in cases {
            let mut bytes = case.bytes.clone();
            // What is followed counts when its line break is there.
            if follow && !bytes.is_empty() && !bytes.ends_with(b"\n") {
                bytes.push(b'\n');
            }
            fs::write(workshop.path(&case.file), bytes).unwrap();
        }
        let flow = workshop.write("flow.toml", &flow(cases, follow));
        let mut command = workshop.command(&["run", flow.to_str().unwrap()]);
        let mut running = Running::start(command.stdout(Stdio::piped()));
        let id = running.id();
        let endless = cases.iter().filter(|case| case.is_endless).count();
        // Files that are read once are read one after the other.
        let most_mib = SHORT_MIB + ENDLESS_MIB * if follow { endless } else { endless.min(1) };
        let output = BufReader::new(running.take_stdout());
        let (sender, lines) = channel();
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { running, lines, peak: std::thread::spawn(move || peak_mib(id)), most_mib }
    }

    /// The lines of a flow that ends by itself.
    fn end(self) -> (Vec<String>, Ran) {
        let lines = self.lines.iter().collect();
        let ran = self.running.wait();
        check_peak(self.peak, self.most_mib);
        (lines, ran)
    }

    /// The lines of a flow that is stopped when all rows of these cases have come.
    fn stop_after(self, cases: &[Case]) -> Vec<String> {
        let mut left: HashMap<&str, usize> = cases.iter().map(|case| (case.name.as_str(), count(case))).collect();
        let mut lines = Vec::new();
        while left.values().any(|left| *left > 0) {
            let line =
                self.lines.recv_timeout(Duration::from_secs(60)).unwrap_or_else(|_| panic!("{left:?} are missing"));
            if let Some(left) = case_of(&line).and_then(|name| left.get_mut(name)) {
                *left = left.saturating_sub(1);
            }
            lines.push(line);
        }
        self.running.stop();
        lines.extend(self.lines.iter());
        check_peak(self.peak, self.most_mib);
        lines
    }
}

fn check_peak(peak: JoinHandle<usize>, most_mib: usize) {
    let peak = peak.join().unwrap();
    assert!(peak <= most_mib, "{peak} MiB of memory were taken, and at most {most_mib} may be");
}

/// The most memory that a process has taken, until it ends.
fn peak_mib(id: u32) -> usize {
    let mut peak = 0;
    while let Ok(status) = fs::read_to_string(format!("/proc/{id}/status")) {
        let Some(line) = status.lines().find(|line| line.starts_with("VmHWM:")) else { break };
        peak = line.split_whitespace().nth(1).and_then(|kib| kib.parse::<usize>().ok()).unwrap_or(0) / 1024;
        sleep(Duration::from_millis(2));
    }
    peak
}

/// Checks that every row of every case is there, as a good one or a bad one.
fn check(cases: &[Case], lines: &[String]) {
    let found: HashSet<&str> = lines.iter().flat_map(|line| markers(line)).collect();
    for case in cases {
        let marker = format!("{}-", case.name);
        let node = format!("{{\"node\":\"{}\"", case.name);
        let bad = lines.iter().filter(|line| line.starts_with(&node)).count();
        let good = lines.iter().filter(|line| line.starts_with(&format!("{{\"id\":\"{marker}"))).count();
        let is_right = match case.rows {
            Rows::Exactly(good_rows, bad_rows) => (good, bad) == (good_rows, bad_rows),
            Rows::Least(all) => good + bad >= all,
            Rows::AllBad(least) => good == 0 && bad >= least,
        };
        assert!(is_right, "{good} good and {bad} bad rows in {}", case.name);
        let missing: Vec<_> = (0..case.marked).filter(|row| !found.contains(&*format!("{marker}{row}."))).collect();
        assert!(missing.is_empty(), "rows {missing:?} of {} are gone", case.name);
    }
}

/// What may be markers in a line.
fn markers(line: &str) -> impl Iterator<Item = &str> {
    let words = line.split(|letter: char| !letter.is_ascii_alphanumeric() && !"_-.".contains(letter));
    words.filter_map(|word| word.split_inclusive('.').next())
}

/// How many lines a case gives at least.
fn count(case: &Case) -> usize {
    match case.rows {
        Rows::Exactly(good, bad) => good + bad,
        Rows::Least(all) | Rows::AllBad(all) => all,
    }
}

/// The case that a line is of: good rows begin with their marker, refused ones with the name of the input.
fn case_of(line: &str) -> Option<&str> {
    let good = line.strip_prefix("{\"id\":\"").and_then(|rest| rest.split('-').next());
    good.or_else(|| line.strip_prefix("{\"node\":\"")?.split('"').next())
}

fn read_once(cases: &[Case]) {
    let workshop = Workshop::new();
    let (lines, ran) = Watched::start(&workshop, cases, false).end();
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    check(cases, &lines);
}

fn follow(cases: &[Case]) {
    let workshop = Workshop::new();
    let lines = Watched::start(&workshop, cases, true).stop_after(cases);
    check(cases, &lines);
}

#[test]
fn text_is_read_once() {
    read_once(&[files::text(), files::cut()].concat());
}

#[test]
fn rows_without_an_end_have_no_room() {
    // The others are in the nightly test: this takes seconds.
    read_once(&[files::endless(65 << 20)[1].clone(), files::bombs(65 << 20)[0].clone()]);
}

#[test]
fn text_is_followed() {
    follow(&files::text());
}

#[test]
fn files_that_are_no_whole_ones_fail_the_flow_and_are_named() {
    let workshop = Workshop::new();
    let makers = [files::made("parquet"), files::made("arrow")];
    for flow in makers {
        let flow = workshop.write("make.toml", &flow);
        assert_eq!(workshop.run(&["run", flow.to_str().unwrap()]).code, 0);
    }
    for case in files::damaged(&workshop) {
        let cases = [case];
        let (lines, ran) = Watched::start(&workshop, &cases, false).end();
        let name = &cases[0].name;
        assert!(!ran.stderr.contains("panicked"), "{name}: {}", ran.stderr);
        match ran.code {
            0 => check(&cases, &lines),
            _ => assert!(ran.stderr.contains(&cases[0].file), "{name}: {}", ran.stderr),
        }
    }
}

/// Run by `tests/run --nightly`.
#[test]
#[ignore = "takes minutes and gigabytes"]
fn endless_rows_and_bombs_of_a_gigabyte() {
    read_once(&[files::endless(1 << 30), files::bombs(1 << 30)].concat());
    follow(&files::endless(1 << 30));
}
