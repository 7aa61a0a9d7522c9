//! Flows that listen to syslog, with the real binary, which is killed: what was in its log counts once.

use std::io::Write as _;
use std::net::TcpStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use millstream_testkit::free_port;

use crate::millstream::{Running, Workshop};
use crate::site::Site;

/// A port of its own, and a folder with the binary.
struct PortSite {
    workshop: Workshop,
    port: u16,
}

const FLOW: &str = r#"
    [flow]
    epoch = { rows = 500, interval = "50ms" }
    [checkpoint]
    interval = "100ms"
    [input.logs]
    type = "syslog"
    address = "127.0.0.1:${PORT}"
    on_error = "drop"
    [processor.numbers]
    type = "sql"
    from = "logs"
    query = "SELECT cast(message AS bigint) AS id, host, app, severity FROM logs"
    on_error = "drop"
    [output.out]
    type = "file"
    from = "numbers"
    path = "out"
    format = "ndjson"
    rows = 1000
    every = "100ms"
"#;

impl Site for PortSite {
    fn workshop(&self) -> &Workshop {
        &self.workshop
    }

    fn variables(&self) -> Vec<(&'static str, String)> {
        vec![("PORT", self.port.to_string())]
    }
}

impl PortSite {
    fn new() -> Self {
        let port = free_port();
        let site = Self { workshop: Workshop::new(), port };
        site.workshop.write("flow.toml", FLOW);
        site
    }

    /// Sends messages with these numbers. An error if nobody listens.
    fn send(&self, ids: std::ops::Range<usize>) -> std::io::Result<()> {
        let message = |id: usize| format!("<34>1 2026-01-31T12:00:00Z host app - - - {id}\n");
        TcpStream::connect(("127.0.0.1", self.port))?.write_all(ids.map(message).collect::<String>().as_bytes())
    }

    /// Waits for a row with this number. A run that writes nothing for minutes hangs, however slow the machine is.
    fn wait_for_id(&self, id: usize) {
        let (mut seen, mut since) = (0, Instant::now());
        loop {
            let ids = self.ids();
            if ids.contains(&id) {
                return;
            }
            if ids.len() > seen {
                (seen, since) = (ids.len(), Instant::now());
            }
            assert!(since.elapsed() < Duration::from_secs(180), "{id} is not among {} rows", ids.len());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

#[test]
fn messages_count_once_when_the_flow_is_killed() {
    let site = PortSite::new();
    for (round, point) in
        ["after-manifest:3", "before-manifest:4", "log-after-sync:3", "file-published:2"].into_iter().enumerate()
    {
        let mut command = site.command(&["--state", "state"]);
        command.env("MILLSTREAM_CRASH", point).stdout(Stdio::piped());
        let mut running = Running::start(&mut command);
        let mut sent = round * 1_000_000;
        let begin = Instant::now();
        while !running.has_ended() {
            assert!(begin.elapsed() < Duration::from_secs(180), "{point} is not reached");
            // It may not listen yet, or be killed in the midst of it.
            let _ = site.send(sent..sent + 50);
            sent += 50;
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    let running = site.start();
    let begin = Instant::now();
    while site.send(9_000_000..9_001_000).is_err() {
        assert!(begin.elapsed() < Duration::from_secs(180), "nobody listens");
        std::thread::sleep(Duration::from_millis(20));
    }
    site.wait_for_id(9_000_999);
    running.stop();
    let ids = site.ids();
    let mut once = ids.clone();
    once.dedup();
    assert_eq!(ids, once, "each once");
    assert_eq!(ids.iter().filter(|id| **id >= 9_000_000).count(), 1000);
    let row = &site.rows()[0];
    assert_eq!((&row["host"], &row["app"], &row["severity"]), (&"host".into(), &"app".into(), &2.into()));
}
