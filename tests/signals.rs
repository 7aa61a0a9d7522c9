//! Ctrl-C: the first signal finishes what was read, the second gives up.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::millstream::{Ran, Workshop};

const FLOW: &str = r#"
    [input.rows]
    type = "stdin"
    format = "ndjson"
    schema = { id = "int64" }
    [output.seen]
    type = "stdout"
    from = "rows"
    [output.kept]
    type = "file"
    from = "rows"
    path = "kept.ndjson"
"#;

fn interrupt(child: &Child) {
    kill_process(Pid::from_child(child), Signal::INT).unwrap();
}

/// Starts a flow that reads from a pipe which stays open, and waits until it has passed a row on.
fn start(workshop: &Workshop) -> (Child, BufReader<std::process::ChildStdout>) {
    let flow = workshop.write("live.toml", FLOW);
    let mut command = workshop.command(&["run", flow.to_str().unwrap()]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(b"{\"id\": 7}\n").unwrap();
    child.stdin.as_mut().unwrap().flush().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    assert_eq!(line.trim(), r#"{"id":7}"#);
    (child, lines)
}

#[test]
fn one_interrupt_commits_what_was_read() {
    let workshop = Workshop::new();
    let (child, _lines) = start(&workshop);
    interrupt(&child);
    // The pipe stays open until here: the flow must end without its input's end.
    let ran: Ran = wait_with_open_pipe(child);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(workshop.read("kept.ndjson").trim(), r#"{"id":7}"#);
}

#[test]
fn data_threads_give_way_to_the_one_of_signals() {
    let workshop = Workshop::new();
    let (child, _lines) = start(&workshop);
    let nicenesses = |name: &str| -> Vec<i32> {
        let threads = std::fs::read_dir(format!("/proc/{}/task", child.id())).unwrap();
        let stats = threads.map(|thread| std::fs::read_to_string(thread.unwrap().path().join("stat")).unwrap());
        // The name stands in brackets, the niceness is the 17th field behind it.
        let named = stats.filter(|stat| stat.contains(&format!("({name})")));
        named.map(|stat| stat.rsplit(") ").next().unwrap().split(' ').nth(16).unwrap().parse().unwrap()).collect()
    };
    let first = nicenesses("millstream")[0];
    let data = nicenesses("data");
    assert!(!data.is_empty());
    assert!(data.iter().all(|of_data| *of_data == (first + 5).min(19)), "{first}: {data:?}");
    interrupt(&child);
    wait_with_open_pipe(child);
}

#[test]
fn a_second_interrupt_gives_up_and_leaves_nothing_behind() {
    let workshop = Workshop::new();
    // However few rows are read at first, they become more than a pipe holds to a reader that does not read, so that
    // draining can't end.
    let long = r#"
        [processor.long]
        type = "sql"
        from = "rows"
        query = "SELECT id, repeat('long ', 20000) AS text FROM rows"
    "#;
    let flow = workshop.write("live.toml", &format!("{long}{}", FLOW.replace("from = \"rows\"", "from = \"long\"")));
    let mut command = workshop.command(&["run", "--json", flow.to_str().unwrap()]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    pipe.write_all(b"{\"id\": 1}\n{\"id\": 2}\n").unwrap();
    let mut errors = BufReader::new(child.stderr.take().unwrap());
    let written =
        |output: &Option<std::process::ChildStdout>| rustix::io::ioctl_fionread(output.as_ref().unwrap()).unwrap();
    while written(&child.stdout) == 0 || !workshop.list(".").iter().any(|name| name.contains("part")) {
        std::thread::yield_now();
    }
    interrupt(&child);
    // As `timeout` does, to the process and to its group.
    std::thread::sleep(Duration::from_millis(5));
    interrupt(&child);
    let mut line = String::new();
    errors.read_line(&mut line).unwrap();
    assert!(line.starts_with("stopping:"), "{line}");
    // What comes within a second is an echo of the first one.
    std::thread::sleep(Duration::from_secs(1));
    let said = rustix::io::ioctl_fionread(errors.get_ref()).unwrap();
    assert!(said == 0 && errors.buffer().is_empty(), "it gave up: {:?}", errors.buffer());
    interrupt(&child);
    line.clear();
    errors.read_line(&mut line).unwrap();
    assert!(line.starts_with("giving up:"), "{line}");
    let ran: Ran = child.wait_with_output().unwrap().into();
    assert_eq!(ran.code, 1);
    assert_eq!(workshop.list("."), ["live.toml"], "neither the file nor a part of it");
    drop(pipe);
}

/// It would end by itself, after a long time.
const LONG: &str = r#"
    [flow]
    epoch.rows = 10000
    [input.rows]
    type = "generate"
    rows = 10000000000
    columns = { n = "row" }
    [output.kept]
    type = "file"
    from = "rows"
    path = "kept.csv"
"#;

/// Stops a flow when it has begun to write.
fn stop_in_the_middle(workshop: &Workshop, arguments: &[&str]) -> Ran {
    workshop.write("long.toml", LONG);
    let mut command = workshop.command(&[&["run", "--json", "long.toml"], arguments].concat());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while !workshop.list(".").iter().any(|name| name.contains("part")) {
        assert!(child.try_wait().unwrap().is_none(), "it runs on");
        std::thread::yield_now();
    }
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    child.wait_with_output().unwrap().into()
}

#[test]
fn half_of_a_result_does_not_take_the_place_of_a_whole_one() {
    let workshop = Workshop::new();
    workshop.write("kept.csv", "n\n1\n");
    let ran = stop_in_the_middle(&workshop, &[]);
    assert_eq!((ran.code, &ran.json()["status"]), (3, &"unfinished".into()), "{}", ran.stderr);
    assert_eq!(ran.stderr, "stopping: nothing is committed\n");
    assert_eq!(workshop.read("kept.csv"), "n\n1\n");
    assert_eq!(workshop.list("."), ["kept.csv", "long.toml"]);
}

#[test]
fn a_flow_with_state_that_is_stopped_before_its_end_says_that_it_is_unfinished() {
    let workshop = Workshop::new();
    let ran = stop_in_the_middle(&workshop, &["--state", "state"]);
    assert_eq!((ran.code, &ran.json()["status"]), (3, &"unfinished".into()), "{}", ran.stderr);
    let read = ran.json()["nodes"]["rows"]["rows_in"].as_u64().unwrap();
    assert_eq!(workshop.read("kept.csv").lines().count() as u64, 1 + read, "what was read is there");
    let rows = format!("input.rows.rows={}", read + 5);
    let resumed = workshop.run(&["run", "long.toml", "--state", "state", "--set", &rows]);
    assert_eq!(resumed.code, 0, "{}", resumed.stderr);
    assert_eq!(workshop.read("kept.csv").lines().count() as u64, 1 + read + 5);
}

/// Starts a flow whose file is a pipe, and waits until it is being read: what the flow is becomes known when that is written.
fn start_with_unread_flow(workshop: &Workshop) -> (Child, std::fs::File) {
    let path = workshop.path("long.toml");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    let mut command = workshop.command(&["run", "long.toml"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // This waits until the other end is opened as well.
    (child, std::fs::File::options().write(true).open(path).unwrap())
}

fn terminate(child: &Child) {
    kill_process(Pid::from_child(child), Signal::TERM).unwrap();
}

#[test]
fn a_signal_that_comes_before_a_flow_has_begun_stops_it() {
    let workshop = Workshop::new();
    workshop.write("kept.csv", "n\n1\n");
    let (child, mut flow) = start_with_unread_flow(&workshop);
    terminate(&child);
    // It is gone by now, if the signal ends it.
    std::thread::sleep(Duration::from_millis(50));
    let _ = flow.write_all(LONG.as_bytes());
    drop(flow);
    let ran: Ran = child.wait_with_output().unwrap().into();
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert!(ran.stderr.starts_with("stopping: nothing is committed\n"), "{}", ran.stderr);
    assert_eq!(workshop.read("kept.csv"), "n\n1\n");
    assert_eq!(workshop.list("."), ["kept.csv", "long.toml"]);
}

#[test]
fn a_second_signal_ends_what_has_not_begun() {
    let workshop = Workshop::new();
    let (child, flow) = start_with_unread_flow(&workshop);
    terminate(&child);
    // What comes within a second would be an echo.
    std::thread::sleep(Duration::from_millis(1100));
    terminate(&child);
    let ran: Ran = child.wait_with_output().unwrap().into();
    drop(flow);
    assert_eq!(
        (ran.code, ran.stderr.as_str()),
        (1, "error: interrupted before a flow has begun; nothing has been read\n")
    );
}

/// A flow that is behind its first barrier for minutes, since its output waits.
const SLOW: &str = r#"
    [input.rows]
    type = "generate"
    rows = 10000000
    batch_rows = 10
    columns = { n = "row" }
    [processor.long]
    type = "sql"
    from = "rows"
    query = "SELECT n, repeat('long ', 20000) AS text FROM rows"
    [output.seen]
    type = "stdout"
    from = "long"
"#;

/// Stops that flow when it has begun to write, and does not read what it writes.
fn stop_a_slow_one(workshop: &Workshop, arguments: &[&str]) -> (Ran, Duration) {
    workshop.write("slow.toml", SLOW);
    let mut command = workshop.command(&[&["run", "slow.toml"], arguments].concat());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let stdout = child.stdout.take().unwrap();
    while rustix::io::ioctl_fionread(&stdout).unwrap() == 0 {
        assert!(child.try_wait().unwrap().is_none(), "it runs on");
        std::thread::yield_now();
    }
    let begun = std::time::Instant::now();
    terminate(&child);
    let ran = child.wait_with_output().unwrap().into();
    (ran, begun.elapsed())
}

#[test]
fn a_finite_flow_without_state_stops_at_once() {
    let (ran, took) = stop_a_slow_one(&Workshop::new(), &[]);
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn a_finite_flow_with_state_that_does_not_come_to_a_border_in_time_stops_where_its_last_checkpoint_was() {
    let (ran, took) = stop_a_slow_one(&Workshop::new(), &["--state", "state"]);
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert!(ran.stderr.contains("the same command resumes it from its last checkpoint"), "{}", ran.stderr);
    assert!(took < Duration::from_secs(15), "{took:?}");
}

fn wait_with_open_pipe(mut child: Child) -> Ran {
    let pipe = child.stdin.take();
    let output = child.wait_with_output().unwrap();
    drop(pipe);
    output.into()
}
