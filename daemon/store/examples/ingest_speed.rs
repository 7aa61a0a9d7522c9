//! How fast rows become durable in the ingest log, beside how fast the disk syncs.
//!
//! `cargo run --release -p millstream-store --example ingest_speed -- [FOLDER]`: in a folder of the disk that is meant,
//! by default the current one.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use millstream_core::Result;
use millstream_store::{Files, LocalFiles, Log, LogOptions};

/// How long each way is measured.
const TIME: Duration = Duration::from_secs(5);

const ROW: usize = 1024;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    let parent = std::env::args().nth(1).unwrap_or_else(|| ".".to_owned());
    let folder = Path::new(&parent).join(format!("ingest_speed.{}", std::process::id()));
    std::fs::create_dir(&folder)?;
    let measured = measure_all(&folder).await;
    std::fs::remove_dir_all(&folder)?;
    measured
}

#[allow(clippy::print_stdout)]
async fn measure_all(folder: &Path) -> Result<()> {
    for bytes in [ROW, 64 * ROW, 1024 * ROW] {
        let syncs = syncs(&folder.join(format!("sync{bytes}")), bytes)?;
        println!("disk: {syncs:>8.0} syncs/s of {:>5} KiB", bytes >> 10);
    }
    for (tasks, rows) in [(1, 1), (16, 1), (256, 1), (512, 1), (1, 100), (16, 100), (4, 1000)] {
        let (speed, latency) = appends(&folder.join(format!("log{tasks}x{rows}")), tasks, rows).await?;
        println!(
            "log:  {speed:>8.0} rows/s, {tasks:>3} clients, {rows:>4} rows of 1 KiB in a request, {latency:>6.2?} each"
        );
    }
    Ok(())
}

/// How often a second a file can be appended to and synced.
fn syncs(path: &Path, bytes: usize) -> Result<f64> {
    let mut file = LocalFiles.create_new(path)?;
    let (bytes, start, mut count) = (vec![b'x'; bytes], Instant::now(), 0.0);
    while start.elapsed() < TIME / 2 {
        file.append(&bytes)?;
        file.sync()?;
        count += 1.0;
    }
    Ok(count / start.elapsed().as_secs_f64())
}

/// How many rows a second become durable, and how long a request takes.
async fn appends(folder: &Path, tasks: u64, rows: u32) -> Result<(f64, Duration)> {
    let options = LogOptions { segment_bytes: 64 << 20, max_bytes: 8 << 30 };
    let log = Arc::new(Log::open(Arc::new(LocalFiles), folder, options)?);
    let (start, requests): (_, Arc<AtomicU64>) = (Instant::now(), Arc::default());
    let clients: Vec<_> =
        (0..tasks).map(|_| tokio::spawn(client(log.clone(), rows, start, requests.clone()))).collect();
    for client in clients {
        client.await.map_err(|error| millstream_core::Error::new(error.to_string()))??;
    }
    let requests = requests.load(Ordering::Relaxed);
    let took = start.elapsed();
    let speed = (requests * u64::from(rows)) as f64 / took.as_secs_f64();
    Ok((speed, took.mul_f64(tasks as f64 / requests as f64)))
}

/// Appends one request after the other, and counts them.
async fn client(log: Arc<Log>, rows: u32, start: Instant, requests: Arc<AtomicU64>) -> Result<()> {
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
