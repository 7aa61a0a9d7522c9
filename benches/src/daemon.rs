//! A daemon: how long flows stand still when they are changed, how soon the API answers beside flows that take all cores, and what flows cost
//! that have nothing to do.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use millstream_core::{Error, Result, ResultExt as _};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::measurement::{Goal, Measurement, quantile};
use crate::place;

/// How often a flow is changed.
const CHANGES: usize = 100;

/// How many requests are sent, and how many a second.
const REQUESTS: (u32, u32) = (2000, 200);

/// How many flows have nothing to do.
const IDLE: usize = 50;

/// For how long it is looked how much they do.
const LOOK: Duration = Duration::from_secs(10);

const MIB: f64 = (1 << 20) as f64;

/// A daemon in a folder of its own.
struct Daemon {
    child: Child,
    folder: PathBuf,
}

pub fn run() -> Result<Vec<Measurement>> {
    let mut measured = changes()?;
    measured.extend(beside_busy_flows()?);
    measured.extend(idle()?);
    Ok(measured)
}

impl Daemon {
    /// Starts one with these flows, and waits until all of them run.
    fn start(folder: &Path, flows: &[(String, String)]) -> Result<Self> {
        std::fs::create_dir_all(folder.join("flows"))?;
        for (name, text) in flows {
            std::fs::write(folder.join("flows").join(format!("{name}.toml")), text)?;
        }
        let daemon = Self::begin(folder)?;
        daemon.await_running(flows.len())?;
        Ok(daemon)
    }

    fn begin(folder: &Path) -> Result<Self> {
        let program = std::env::current_exe()?.with_file_name("millstream");
        let mut command = Command::new(program);
        command.current_dir(folder).arg("daemon").env("MILLSTREAM__ADMIN__ADDRESS", "off");
        command.env("MILLSTREAM__LOG__LEVEL", "error").stdin(Stdio::null()).stderr(Stdio::null());
        Ok(Self { child: command.spawn().doing(|| "starting the daemon")?, folder: folder.to_owned() })
    }

    /// Waits until so many flows run.
    fn await_running(&self, flows: usize) -> Result<()> {
        let begin = Instant::now();
        loop {
            let running = self.get("/api/v1/flows?state=running").ok();
            let running = running.and_then(|page| Some(page["items"].as_array()?.len()));
            match running {
                Some(running) if running == flows => return Ok(()),
                _ if begin.elapsed() > Duration::from_secs(120) => return Err(Error::new("the flows do not run")),
                _ => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Result<(u16, Value)> {
        let mut stream = UnixStream::connect(self.folder.join("admin.sock"))?;
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
        );
        stream.write_all((head + body).as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| Error::new("the daemon has not answered"))?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Ok((status.unwrap_or_default(), serde_json::from_str(body).unwrap_or_default()))
    }

    fn get(&self, path: &str) -> Result<Value> {
        Ok(self.ask("GET", path, "", "")?.1)
    }

    /// How many rows the inputs of a flow have read.
    fn read(&self, flow: &str) -> Result<u64> {
        Ok(self.get(&format!("/api/v1/flows/{flow}"))?["rows"]["read"].as_u64().unwrap_or_default())
    }

    /// How long processors have worked for it.
    fn cpu(&self) -> Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let behind_name = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
        let ticks = behind_name.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok());
        Ok(Duration::from_millis(ticks.sum::<u64>() * 10))
    }

    fn memory(&self) -> Result<f64> {
        place::number(&self.get("/api/v1/system")?, "/memory_bytes")
    }

    /// Stops it as a service manager does, and says how long that took.
    fn stop(mut self) -> Result<Duration> {
        let begin = Instant::now();
        if let Some(pid) = Pid::from_raw(self.child.id() as i32) {
            kill_process(pid, Signal::TERM).map_err(std::io::Error::from)?;
        }
        self.child.wait()?;
        Ok(begin.elapsed())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It has ended, unless something has failed on the way.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Rows without an end, features, a model that learns, and files.
fn learning(seed: usize) -> String {
    format!(
        r#"
[flow]
epoch = {{ interval = "100ms" }}
[checkpoint]
interval = "1s"
[input.rows]
type = "generate"
rate = "20000/s"
columns = {{ n = "row", x = "random_normal()", y = "random_normal()" }}
[processor.features]
type = "sql"
from = "rows"
query = "SELECT n, x, y, x * {seed} AS z, x + y > 0 AS label FROM rows"
[processor.learn]
type = "train"
from = "features"
model = "signs"
features = ["x", "y"]
label = "label"
estimator = {{ type = "logistic_regression" }}
[output.kept]
type = "file"
from = "learn"
path = "out/"
format = "parquet"
if_exists = "append"
rows = 1000000
"#
    )
}

/// How long a flow stands still when its text is changed: the longest time in which its input has read nothing.
fn changes() -> Result<Vec<Measurement>> {
    let daemon = Daemon::start(&place::empty_folder("daemon_changes")?, &[])?;
    let put = |number: usize, condition: &str| {
        let headers = format!("content-type: application/toml\r\nprefer: wait=60\r\n{condition}\r\n");
        let (status, answer) = daemon.ask("PUT", "/api/v1/flows/busy", &headers, &learning(number))?;
        if status / 100 == 2 { Ok(answer) } else { Err(Error::new(format!("the change was refused: {answer}"))) }
    };
    put(0, "if-none-match: *")?;
    let (mut pauses, mut wholes) = (Vec::new(), Vec::new());
    for number in 1..=CHANGES {
        let (watched, whole) = std::thread::scope(|scope| {
            let watch = scope.spawn(|| longest_pause(&daemon));
            let begin = Instant::now();
            put(number, &format!("if-match: \"{number}\""))?;
            let whole = begin.elapsed();
            let watched = watch.join().map_err(|_| Error::new("watching a flow failed"))?;
            Ok::<_, Error>((watched?, whole))
        })?;
        pauses.push(watched.as_secs_f64() * 1e3);
        wholes.push(whole.as_secs_f64() * 1e3);
    }
    daemon.stop()?;
    let measure = |name: &str, value, goal| Measurement::new(format!("daemon: {name}"), "ms", value, goal);
    Ok(vec![
        measure(
            "a flow that learns is changed: its input stands still, p50 of 100",
            quantile(pauses.clone(), 0.5),
            Goal::Shown,
        ),
        measure(
            "a flow that learns is changed: its input stands still, p99 of 100",
            quantile(pauses, 0.99),
            Goal::AtMost(200.0),
        ),
        measure("from asking for a change until its first checkpoint, p99 of 100", quantile(wholes, 0.99), Goal::Shown),
    ])
}

/// The longest time within a second in which a flow has read nothing.
fn longest_pause(daemon: &Daemon) -> Result<Duration> {
    let begin = Instant::now();
    let (mut last, mut since, mut longest) = (daemon.read("busy")?, Instant::now(), Duration::ZERO);
    while begin.elapsed() < Duration::from_secs(1) || since.elapsed() > longest {
        let read = daemon.read("busy")?;
        if read > last {
            longest = longest.max(since.elapsed());
            (last, since) = (read, Instant::now());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(longest)
}

/// How soon the API answers beside flows that take all cores.
fn beside_busy_flows() -> Result<Vec<Measurement>> {
    let cores = std::thread::available_parallelism()?.get();
    let busy = r#"
[input.rows]
type = "generate"
columns = { n = "row", x = "random_normal()" }
[processor.more]
type = "sql"
from = "rows"
query = "SELECT n, exp(x) * sin(x) + ln(abs(x) + 1) AS y FROM rows"
[output.gone]
type = "drop"
from = "more"
"#;
    let flows: Vec<_> = (0..=cores).map(|number| (format!("busy{number}"), busy.to_owned())).collect();
    let daemon = Daemon::start(&place::empty_folder("daemon_busy")?, &flows)?;
    let (count, a_second) = REQUESTS;
    let begin = Instant::now();
    let mut times = Vec::new();
    for number in 0..count {
        let due = begin + Duration::from_secs(1) * number / a_second;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let asked = Instant::now();
        daemon.get("/api/v1/flows/busy0/stats")?;
        times.push(asked.elapsed().as_secs_f64() * 1e3);
    }
    daemon.stop()?;
    let p99 = quantile(times, 0.99);
    let name = "daemon: API at 200 requests/s beside flows that take all cores, p99";
    Ok(vec![Measurement::new(name, "ms", p99, Goal::AtMost(50.0))])
}

/// What flows cost that have nothing to do, and how soon they run and stop.
fn idle() -> Result<Vec<Measurement>> {
    let idle = |number: usize| {
        format!(
            r#"
[input.rows]
type = "file"
path = "../in/{number}.ndjson"
schema = {{ id = "int64" }}
follow = true
on_error = "fail"
[processor.a]
type = "sql"
from = "rows"
query = "SELECT id + 1 AS id FROM rows"
[processor.b]
type = "sql"
from = "a"
query = "SELECT id + 1 AS id FROM a"
[processor.c]
type = "sql"
from = "b"
query = "SELECT id + 1 AS id FROM b"
[output.kept]
type = "file"
from = "c"
path = "out/{number}/"
if_exists = "append"
rows = 1000
format = "ndjson"
"#
        )
    };
    let flows: Vec<_> = (0..IDLE).map(|number| (format!("idle{number}"), idle(number))).collect();
    let one = Daemon::start(&place::empty_folder("daemon_one")?, &flows[..1])?;
    let of_one = one.memory()?;
    one.stop()?;
    let folder = place::empty_folder("daemon_idle")?;
    let daemon = Daemon::start(&folder, &flows)?;
    // They have just begun.
    std::thread::sleep(LOOK);
    let before = daemon.cpu()?;
    std::thread::sleep(LOOK);
    let cpu = (daemon.cpu()? - before).as_secs_f64() / LOOK.as_secs_f64() * 100.0;
    let memory = daemon.memory()?;
    let stopped = daemon.stop()?;
    let begin = Instant::now();
    let again = Daemon::begin(&folder)?;
    again.await_running(flows.len())?;
    let ready = begin.elapsed();
    again.stop()?;
    let measure = |name: &str, unit, value, goal| Measurement::new(format!("daemon: {name}"), unit, value, goal);
    Ok(vec![
        measure("memory with one flow of 5 nodes that has nothing to do", "MiB", of_one / MIB, Goal::AtMost(60.0)),
        measure("memory with 50 of them", "MiB", memory / MIB, Goal::AtMost(200.0)),
        measure("50 of them: of a core", "%", cpu, Goal::AtMost(2.0)),
        measure("from start until 50 flows run again", "s", ready.as_secs_f64(), Goal::AtMost(3.0)),
        measure("from SIGTERM to the end with 50 flows", "s", stopped.as_secs_f64(), Goal::AtMost(5.0)),
    ])
}
