//! Where the daemon listens stays open while it is started again: nobody is turned away, and what was acknowledged counts once. And clients that
//! mean no good keep nobody waiting.

mod clients;
mod hostile;
mod manager;

use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use millstream_testkit::free_port;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use self::clients::{Answer, Load, exchange};
use self::manager::Manager;
use crate::daemons::{ids, wait_for_rows};
use crate::millstream::Workshop;

/// How long anything may take here.
const PATIENCE: Duration = Duration::from_secs(180);

/// A flow that takes rows, and more settings of its input.
fn takes(port: u16, name: &str, more: &str) -> String {
    format!(
        r#"
        flow.epoch.interval = "50ms"
        checkpoint.interval = "100ms"
        [input.rows]
        type = "http_listen"
        address = "127.0.0.1:{port}"
        format = "ndjson"
        schema = {{ id = "int64" }}
        on_error = "fail"
        {more}
        [output.kept]
        type = "file"
        from = "rows"
        path = "out/{name}/"
        format = "ndjson"
        rows = 10000
        every = "100ms"
        if_exists = "append"
    "#
    )
}

fn post(port: u16, id: usize) -> Answer {
    exchange(TcpStream::connect(("127.0.0.1", port)).unwrap(), "POST", "/", "", &format!("{{\"id\":{id}}}\n"))
}

fn ask(workshop: &Workshop, method: &str, path: &str) -> Answer {
    let stream = UnixStream::connect(workshop.path("admin.sock")).unwrap();
    exchange(stream, method, path, "Content-Type: application/json\r\n", "")
}

/// Starts the daemon again and again under load.
fn restarts_turn_nobody_away(restarts: usize) {
    let workshop = Workshop::new();
    let port = free_port();
    workshop.write("flows/shop.toml", &takes(port, "shop", ""));
    let manager = Manager::new(&workshop);
    let mut daemon = manager.start(&workshop);
    manager.wait_for("FDNAME=shop/rows");
    let load = Load::start(port, workshop.path("admin.sock"));
    let mut longest = Duration::ZERO;
    for _ in 0..restarts {
        load.wait_for_more();
        let begin = Instant::now();
        daemon.stop();
        daemon = manager.start(&workshop);
        manager.wait_for("READY=1");
        longest = longest.max(begin.elapsed());
    }
    load.wait_for_more();
    let done = load.stop();
    eprintln!("{restarts} restarts, the longest of {longest:?}: {done}");
    assert!(done.refused.is_empty(), "{:#?}", done.refused);
    wait_for_rows(&workshop, "shop", done.rows);
    daemon.stop();
    assert_eq!(ids(&workshop, "shop"), (0..done.rows).collect::<Vec<_>>());
}

#[test]
fn restarts_turn_nobody_away_and_every_row_counts_once() {
    restarts_turn_nobody_away(3);
}

#[test]
#[ignore = "takes minutes: tests/run --nightly"]
fn a_hundred_restarts_turn_nobody_away() {
    restarts_turn_nobody_away(100);
}

#[test]
fn who_comes_behind_a_crash_waits() {
    let workshop = Workshop::new();
    let port = free_port();
    workshop.write("flows/shop.toml", &takes(port, "shop", ""));
    let manager = Manager::new(&workshop);
    let mut daemon = manager.start(&workshop);
    manager.wait_for("FDNAME=shop/rows");
    assert_eq!(post(port, 0).status, 200);
    kill_process(Pid::from_raw(daemon.id() as i32).unwrap(), Signal::KILL).unwrap();
    drop(daemon);
    let client = std::thread::spawn(move || post(port, 1).status);
    let _early = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let daemon = manager.start(&workshop);
    assert_eq!(client.join().unwrap(), 200);
    wait_for_rows(&workshop, "shop", 2);
    daemon.stop();
    assert_eq!(ids(&workshop, "shop"), [0, 1]);
}

#[test]
fn doors_of_nobody_are_closed() {
    let workshop = Workshop::new();
    let (gone, old, new) = (free_port(), free_port(), free_port());
    workshop.write("flows/shop.toml", &takes(new, "shop", ""));
    let manager = Manager::new(&workshop);
    for (name, port) in [("gone/rows", gone), ("shop/rows", old)] {
        manager.keep(name, TcpListener::bind(("127.0.0.1", port)).unwrap().into());
    }
    let daemon = manager.start(&workshop);
    let is_there = |port: u16| TcpStream::connect(("127.0.0.1", port)).is_ok();
    let begin = Instant::now();
    while is_there(gone) || is_there(old) || !is_there(new) {
        assert!(begin.elapsed() < PATIENCE, "nobody should listen there any more");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(post(new, 0).status, 200);
    daemon.stop();
    assert_eq!(manager.kept(), ["shop/rows"], "the new one is there for the next process");
}

#[test]
fn a_service_manager_is_told_how_far_the_daemon_is() {
    let workshop = Workshop::new();
    workshop.write("flows/shop.toml", &takes(free_port(), "shop", ""));
    let manager = Manager::new(&workshop);
    let daemon = manager.start(&workshop);
    manager.wait_for("READY=1\nSTATUS=1 flows of ");
    daemon.stop();
    manager.wait_for("STOPPING=1");
    let said = manager.wait_for("EXTEND_TIMEOUT_USEC=");
    assert!(said.contains("STATUS=stopping: ") && said.contains(" of 1 flows are on the way"), "{said}");
}

#[test]
fn a_flow_that_is_paused_says_so_at_its_door() {
    let workshop = Workshop::new();
    let port = free_port();
    workshop.write("flows/shop.toml", &takes(port, "shop", ""));
    let manager = Manager::new(&workshop);
    let daemon = manager.start(&workshop);
    manager.wait_for("FDNAME=shop/rows");
    assert_eq!(post(port, 0).status, 200);
    assert_eq!(ask(&workshop, "POST", "/api/v1/flows/shop/pause").status, 200);
    let mut id = 1;
    let refused = loop {
        let answer = post(port, id);
        if answer.status != 200 {
            break answer;
        }
        id += 1;
    };
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("30")), "{refused:?}");
    let said: Value = serde_json::from_str(&refused.body).unwrap();
    assert_eq!(said["error"], "no rows are taken for now, since the flow is paused: somebody has paused it");
    assert_eq!(ask(&workshop, "POST", "/api/v1/flows/shop/resume").status, 200);
    let begin = Instant::now();
    while post(port, id).status != 200 {
        assert!(begin.elapsed() < PATIENCE, "it should go on");
    }
    wait_for_rows(&workshop, "shop", id + 1);
    daemon.stop();
}

/// What systemd itself hands over, where its tool for that is there.
#[test]
fn the_daemon_takes_the_socket_of_a_unit() {
    let workshop = Workshop::new();
    std::fs::create_dir_all(workshop.path("flows")).unwrap();
    let socket = workshop.path("admin.sock");
    let program = workshop.command(&["daemon"]).get_program().to_owned();
    let mut command = Command::new("systemd-socket-activate");
    command.arg("--listen").arg(&socket).arg("--fdname=admin").arg("--setenv=MILLSTREAM__ADMIN__ADDRESS=off");
    command.arg("--setenv").arg(format!("MILLSTREAM__DATA={}", workshop.path("").display()));
    command.arg(program).arg("daemon").current_dir(workshop.path("")).stdin(Stdio::null()).stderr(Stdio::null());
    let Ok(mut activated) = command.spawn() else {
        eprintln!("skipped: there is no systemd-socket-activate");
        return;
    };
    let begin = Instant::now();
    while !socket.exists() {
        assert!(begin.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(10));
    }
    let answer = ask(&workshop, "GET", "/livez");
    assert_eq!((answer.status, answer.body.as_str()), (200, "alive\n"));
    kill_process(Pid::from_child(&activated), Signal::TERM).unwrap();
    assert!(activated.wait().unwrap().success());
    assert!(socket.exists(), "the socket is not the daemon's to take away");
}
