//! How fast rows become durable in the ingest log, and by HTTP; beside how fast the disk syncs.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use millstream_core::{Error, Result, ResultExt};
use millstream_store::{Access, Files, LocalFiles, Log, LogOptions};

use crate::measurement::{Goal, Measurement};
use crate::{flow, place};

/// How long each way is measured.
const TIME: Duration = Duration::from_secs(5);

const ROW: usize = 1024;

/// What is asked for, where the disk can do it.
const GOAL: f64 = 20_000.0;

/// Clients that send one request after the other.
#[derive(Clone, Copy)]
struct Clients {
    count: u64,
    rows_in_request: u32,
}

const IN_BATCHES: Clients = Clients { count: 16, rows_in_request: 100 };
const ONE_BY_ONE: Clients = Clients { count: 256, rows_in_request: 1 };

/// Rows per second.
pub fn run() -> Result<Vec<Measurement>> {
    let folder = place::empty_folder("ingest")?;
    // Clients that wait for one sync send together what the next one makes durable.
    let together = ROW * IN_BATCHES.count as usize * IN_BATCHES.rows_in_request as usize;
    let disk = syncs(&folder.join("disk"), together)? * (together / ROW) as f64;
    let goal = Goal::AtLeast(disk.min(GOAL));
    let threads = std::thread::available_parallelism()?.get();
    let log = |name: &str, clients| flow::runtime(threads)?.block_on(append(&folder.join(name), clients));
    let measure = |name: String, speed, goal| Measurement::new(format!("ingest: {name}"), "rows/s", speed, goal);
    Ok(vec![
        measure(format!("log, rows of 1 KiB, {IN_BATCHES}; beside the disk alone"), log("many", IN_BATCHES)?, goal)
            .beside(disk),
        measure(format!("log, rows of 1 KiB, {ONE_BY_ONE}"), log("single", ONE_BY_ONE)?, Goal::Shown),
        measure(format!("HTTP, rows of 1 KiB, {IN_BATCHES}"), post(&folder, IN_BATCHES)?, Goal::Shown),
    ])
}

impl std::fmt::Display for Clients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} clients, {} in a request", self.count, self.rows_in_request)
    }
}

/// How often a second a file can be appended to and synced.
fn syncs(path: &Path, bytes: usize) -> Result<f64> {
    let mut file = LocalFiles.create_new(path, Access::Shared)?;
    let (bytes, start, mut count) = (vec![b'x'; bytes], Instant::now(), 0.0);
    while start.elapsed() < TIME {
        file.append(&bytes)?;
        file.sync()?;
        count += 1.0;
    }
    let syncs = count / start.elapsed().as_secs_f64();
    std::fs::remove_file(path)?;
    Ok(syncs)
}

/// How many rows a second become durable in the log.
async fn append(folder: &Path, clients: Clients) -> Result<f64> {
    let options = LogOptions { segment_bytes: 64 << 20, max_bytes: 8 << 30 };
    let log = Arc::new(Log::open(Arc::new(LocalFiles), folder, options)?);
    let (start, requests): (_, Arc<AtomicU64>) = (Instant::now(), Arc::default());
    let tasks: Vec<_> = (0..clients.count)
        .map(|_| tokio::spawn(append_all(log.clone(), clients.rows_in_request, start, requests.clone())))
        .collect();
    for task in tasks {
        task.await.doing(|| "appending")??;
    }
    let rows = requests.load(Ordering::Relaxed) * u64::from(clients.rows_in_request);
    Ok(rows as f64 / start.elapsed().as_secs_f64())
}

/// Appends one request after the other, and counts them.
async fn append_all(log: Arc<Log>, rows: u32, start: Instant, requests: Arc<AtomicU64>) -> Result<()> {
    while start.elapsed() < TIME {
        let number = log.append(vec![b'x'; ROW * rows as usize], rows).await?;
        requests.fetch_add(1, Ordering::Relaxed);
        // As if a checkpoint came now and then.
        if number % 100_000 < u64::from(rows) {
            log.trim(number)?;
        }
    }
    Ok(())
}

/// How many rows a second the program takes by HTTP.
fn post(folder: &Path, clients: Clients) -> Result<f64> {
    // Free now, and so most likely a moment later.
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let sets = [format!("input.rows.address={address}")];
    let mut command = place::millstream_run(folder, &place::flow("listen.toml"), &sets)?;
    command.args(["--state", "state"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().doing(|| "starting the program")?;
    let speed = post_all(&address, clients);
    child.kill()?;
    child.wait()?;
    speed
}

fn post_all(address: &str, clients: Clients) -> Result<f64> {
    drop(connect(address)?);
    let row = format!("{{\"id\":1,\"text\":\"{}\"}}\n", "x".repeat(ROW - 19));
    let body = row.repeat(clients.rows_in_request as usize);
    let request = format!("POST / HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let start = Instant::now();
    let requests: u64 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..clients.count).map(|_| scope.spawn(|| send(address, &request, start))).collect();
        let ended =
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(Error::new("a client died"))));
        ended.sum::<Result<u64>>()
    })?;
    Ok((requests * u64::from(clients.rows_in_request)) as f64 / start.elapsed().as_secs_f64())
}

/// Connects as soon as the program listens.
pub fn connect(address: &str) -> Result<TcpStream> {
    let start = Instant::now();
    loop {
        match TcpStream::connect(address) {
            Err(_) if start.elapsed() < TIME => std::thread::sleep(Duration::from_millis(10)),
            connected => return connected.doing(|| "connecting to the program"),
        }
    }
}

/// Sends one request after the other over one connection, and counts them.
fn send(address: &str, request: &str, start: Instant) -> Result<u64> {
    let mut stream = BufReader::new(connect(address)?);
    stream.get_ref().set_nodelay(true)?;
    let mut requests = 0;
    while start.elapsed() < TIME {
        stream.get_mut().write_all(request.as_bytes())?;
        read_answer(&mut stream)?;
        requests += 1;
    }
    Ok(requests)
}

/// Reads the answer to a request, which must be a good one.
pub fn read_answer(stream: &mut BufReader<TcpStream>) -> Result<()> {
    read_body(stream).map(drop)
}

/// The body of such an answer.
pub fn read_body(stream: &mut BufReader<TcpStream>) -> Result<Vec<u8>> {
    let (mut head, mut length) = (String::new(), 0);
    while !head.ends_with("\r\n\r\n") {
        let before = head.len();
        stream.read_line(&mut head)?;
        let line = head[before..].to_ascii_lowercase();
        match line.strip_prefix("content-length:") {
            Some(value) => length = value.trim().parse().doing(|| "reading the length of an answer")?,
            None if line.is_empty() => return Err(Error::new("the program has hung up")),
            None => {}
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    if head.starts_with("HTTP/1.1 200") {
        Ok(body)
    } else {
        Err(Error::new(format!("{head}{}", String::from_utf8_lossy(&body))))
    }
}
