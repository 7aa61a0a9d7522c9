//! Inputs that don't end: rows that come at a rate, files that grow, and event time when one of them falls silent.

use std::fs::{self, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::millstream::{Running, Workshop};

/// A flow that runs until it is stopped, and the lines that it prints.
struct Live {
    running: Running,
    lines: Receiver<String>,
}

impl Live {
    fn start(workshop: &Workshop, flow: &str) -> Self {
        let flow = workshop.write("live.toml", flow);
        let mut command = workshop.command(&["run", flow.to_str().unwrap()]);
        let mut running = Running::start(command.stdout(Stdio::piped()));
        let output = BufReader::new(running.take_stdout());
        let (sender, lines) = channel();
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { running, lines }
    }

    /// The next line, which has to come within a minute.
    fn line(&self) -> String {
        self.lines.recv_timeout(Duration::from_secs(60)).expect("a line should have come")
    }

    /// Ends the flow, and returns the lines that were not taken.
    fn stop(self) -> Vec<String> {
        self.running.stop();
        self.lines.iter().collect()
    }
}

fn append(workshop: &Workshop, name: &str, text: &str) {
    let path = workshop.path(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

const GENERATED: &str = r#"
    [input.rows]
    type = "generate"
    seed = 5
    columns = { n = "row", u = "random()", g = "random_normal()", c = "random_choice('a', 'b', 'c')", i = "random_int(1, 6)" }
    [output.kept]
    type = "file"
    from = "rows"
    path = "kept.ndjson"
    [output.seen]
    type = "stdout"
    from = "rows"
"#;

#[test]
fn generated_rows_depend_on_the_seed_only() {
    let workshop = Workshop::new();
    let flow = workshop.write("rows.toml", GENERATED);
    let run = |sets: &[&str]| {
        let mut arguments = vec![flow.to_str().unwrap(), "--set", "input.rows.rows=3000"];
        arguments.extend(sets.iter().flat_map(|set| ["--set", set]));
        workshop.run_json(&arguments);
        workshop.read("kept.ndjson")
    };
    let rows = run(&[]);
    assert_eq!(rows.lines().count(), 3000);
    for batch_rows in [1, 7, 1000] {
        assert_eq!(run(&[&format!("input.rows.batch_rows={batch_rows}")]), rows, "batches of {batch_rows}");
    }
    assert_eq!(run(&["input.rows.rate=100000/s"]), rows);
    assert_ne!(run(&["input.rows.seed=6"]), rows);
}

#[test]
fn generated_rows_come_at_their_rate() {
    let workshop = Workshop::new();
    let flow = workshop.write("rows.toml", GENERATED);
    let sets = ["--set", "input.rows.rows=1000", "--set", "input.rows.rate=1000/s"];
    let summary = workshop.run_json(&[&[flow.to_str().unwrap()], &sets[..]].concat());
    let elapsed = summary["elapsed_s"].as_f64().unwrap();
    assert!((0.9..10.0).contains(&elapsed), "1,000 rows at 1,000 a second took {elapsed} s");
}

#[test]
fn endless_rows_are_committed_when_the_flow_is_stopped() {
    let workshop = Workshop::new();
    let live = Live::start(&workshop, &GENERATED.replace("seed = 5", "rate = \"500/s\""));
    let mut lines: Vec<String> = (0..100).map(|_| live.line()).collect();
    lines.extend(live.stop());
    assert_eq!(workshop.read("kept.ndjson").lines().collect::<Vec<_>>(), lines);
    for (n, line) in lines.iter().enumerate() {
        assert!(line.starts_with(&format!("{{\"n\":{n},")), "{line}");
    }
}

#[test]
fn files_are_followed_as_they_grow_are_rotated_emptied_and_added() {
    let workshop = Workshop::new();
    append(&workshop, "logs/a.ndjson", "{\"n\":1}\n{\"n\"");
    let live = Live::start(
        &workshop,
        r#"
        [input.logs]
        type = "file"
        follow = true
        path = "logs/*.ndjson"
        schema = { n = "int64" }
        [output.seen]
        type = "stdout"
        from = "logs"
        [output.kept]
        type = "file"
        from = "logs"
        path = "kept.ndjson"
        [output.refused]
        type = "file"
        from = "logs.failed"
        path = "refused.csv"
        "#,
    );
    assert_eq!(live.line(), r#"{"n":1}"#);
    append(&workshop, "logs/a.ndjson", ":2}\n");
    assert_eq!(live.line(), r#"{"n":2}"#);
    // A rotation. The writer has not noticed it yet.
    fs::rename(workshop.path("logs/a.ndjson"), workshop.path("logs/a.ndjson.1")).unwrap();
    append(&workshop, "logs/a.ndjson", "{\"n\":4}\n");
    append(&workshop, "logs/a.ndjson.1", "{\"n\":3}\n");
    assert_eq!([live.line(), live.line()], [r#"{"n":3}"#, r#"{"n":4}"#]);
    // A rotation by a copy: the file is emptied in its place.
    fs::copy(workshop.path("logs/a.ndjson"), workshop.path("logs/a.ndjson.1")).unwrap();
    workshop.write("logs/a.ndjson", "{\"n\":5}\n");
    assert_eq!(live.line(), r#"{"n":5}"#);
    append(&workshop, "logs/b.ndjson", "{\"n\":6}\n{\"n\":\"six\"}\n{\"n\":7}\n");
    assert_eq!([live.line(), live.line()], [r#"{"n":6}"#, r#"{"n":7}"#]);
    assert!(live.stop().is_empty());
    let kept = workshop.read("kept.ndjson");
    let expected: Vec<_> = (1..=7).map(|n| format!("{{\"n\":{n}}}")).collect();
    assert_eq!(kept.lines().collect::<Vec<_>>(), expected);
    let refused = workshop.read("refused.csv");
    assert!(refused.contains("logs,logs/b.ndjson,1,") && refused.lines().count() == 2, "{refused}");
}

#[test]
fn windows_come_out_although_an_input_has_fallen_silent() {
    let workshop = Workshop::new();
    append(&workshop, "quiet.csv", "at,n\n2026-01-01T00:00:05Z,1\n");
    append(&workshop, "busy.csv", "at,n\n2026-01-01T00:00:10Z,10\n2026-01-01T00:00:20Z,100\n");
    let input = |name: &str, idle: &str| {
        format!(
            r#"
            [input.{name}]
            type = "file"
            follow = true
            path = "{name}.csv"
            schema = {{ at = "timestamp", n = "int64" }}
            event_time = {{ column = "at"{idle} }}
            "#
        )
    };
    let window = r#"
        [processor.minutes]
        type = "window"
        from = ["busy", "quiet"]
        size = "1m"
        select = { rows = "count(*)", n = "sum(n)" }
        [output.sums]
        type = "stdout"
        from = "minutes"
        [output.heard]
        type = "stdout"
        from = "quiet"
        "#;
    // Shorter than an epoch, so that rows of the silent input come and it falls silent again within one.
    let flow = [input("busy", ""), input("quiet", ", idle = \"100ms\""), window.to_owned()].concat();
    let live = Live::start(&workshop, &flow);
    let next = |end: &str| {
        let line = live.line();
        assert!(line.ends_with(end), "{line}");
    };
    next(r#""n":1}"#);
    append(&workshop, "busy.csv", "2026-01-01T00:01:30Z,1000\n");
    next(r#""rows":3,"n":111}"#);
    append(&workshop, "busy.csv", "2026-01-01T00:02:30Z,10000\n");
    next(r#""rows":1,"n":1000}"#);
    append(&workshop, "quiet.csv", "2026-01-01T00:02:40Z,2\n");
    next(r#""n":2}"#);
    append(&workshop, "busy.csv", "2026-01-01T00:03:30Z,3\n");
    next(r#""rows":2,"n":10002}"#);
    live.stop();
}

#[test]
fn rows_of_a_file_are_not_late_because_another_was_read_before() {
    let workshop = Workshop::new();
    for name in ["a", "b"] {
        let rows = (0..3600).map(|n| format!("{{\"at\":\"2026-01-01T00:{:02}:{:02}Z\"}}\n", n / 60, n % 60));
        append(&workshop, &format!("logs/{name}.ndjson"), &rows.collect::<String>());
    }
    let flow = r#"
        [input.logs]
        type = "file"
        follow = true
        path = "logs/*.ndjson"
        schema = { at = "timestamp" }
        event_time = { column = "at" }
        [processor.minutes]
        type = "window"
        from = "logs"
        size = "1m"
        select = { rows = "count(*)" }
        [output.seen]
        type = "stdout"
        from = "minutes"
        "#;
    let live = Live::start(&workshop, flow);
    for minute in 0..59 {
        let line = live.line();
        assert!(line.ends_with(r#""rows":120}"#), "minute {minute}: {line}");
    }
    live.stop();
}

#[test]
fn a_job_processes_what_has_come_since_its_last_run() {
    let workshop = Workshop::new();
    workshop.write(
        "job.toml",
        r#"
        [input.rows]
        type = "file"
        path = "in/*.csv"
        schema = { n = "int64" }
        once = "new_files"
        [input.names]
        type = "file"
        path = "names.csv"
        [processor.named]
        type = "join"
        from = "rows"
        with = "names"
        on = ["n"]
        kind = "inner"
        [output.out]
        type = "file"
        from = "named"
        path = "out"
        format = "ndjson"
        "#,
    );
    workshop.write("names.csv", "n,name\n1,a\n2,b\n3,c\n");
    let run = |rows: u64| {
        let json = workshop.run_json(&["job.toml", "--state", "state"]);
        assert_eq!((&json["status"], &json["nodes"]["rows"]["rows_in"]), (&"done".into(), &rows.into()));
        workshop.list("out").iter().filter(|name| !name.starts_with('.')).count()
    };
    assert_eq!(run(0), 0);
    workshop.write("in/b.csv", "n\n1\n2\n");
    assert_eq!(run(2), 1);
    assert_eq!(run(2), 1, "nothing has come");
    workshop.write("in/a.csv", "n\n3\n");
    assert_eq!(run(3), 2);
    let refused = workshop.run(&["run", "job.toml"]);
    assert!(refused.code == 2 && refused.stderr.contains("needs a state"), "{}", refused.stderr);
}
