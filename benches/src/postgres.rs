//! What flows write to PostgreSQL, read of its changes and look up in a second, with the server on the same machine.

use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use futures::SinkExt as _;
use millstream_core::{Error, Result, ResultExt as _};
use millstream_testkit::Postgres;

use crate::flow;
use crate::measurement::{Goal, Measurement, median};

/// The flow and the bare copy take turns so often; the medians count.
const TURNS: usize = 3;

/// How many rows are written.
const WRITTEN: u64 = 500_000;

/// How many rows change.
const CHANGED: u64 = 1_000_000;

/// How many rows are looked up, of which one in ten is not remembered.
const LOOKED_UP: u64 = 4_000_000;

/// Rows a second: written, beside a bare copy; changed; and looked up.
pub fn run() -> Result<Vec<Measurement>> {
    let postgres = Postgres::run();
    let [ours, bare] = written(&postgres)?;
    let name = "rows of 5 columns → the output `postgres`; beside a bare `COPY`";
    Ok(vec![
        Measurement::new(name, "rows/s", ours, Goal::Times(0.8)).beside(bare),
        Measurement::new(
            "inserted rows → the input `postgres_changes`",
            "rows/s",
            changed(&postgres)?,
            Goal::AtLeast(1e5),
        ),
        Measurement::new(
            "`postgres_lookup` with 90% of the keys remembered",
            "rows/s",
            looked_up(&postgres)?,
            Goal::AtLeast(1e6),
        ),
    ])
}

const TABLE: &str = "DROP TABLE IF EXISTS written;\n\
    CREATE TABLE written (id bigint PRIMARY KEY, n bigint, ratio double precision, name varchar(40), at timestamptz)";

fn settings(postgres: &Postgres, node: &str) -> Vec<String> {
    vec![format!("{node}.address={}", postgres.address())]
}

/// The median of the rows a second of both.
fn written(postgres: &Postgres) -> Result<[f64; 2]> {
    let mut figures = [Vec::new(), Vec::new()];
    for _ in 0..TURNS {
        postgres.say(TABLE);
        let begin = Instant::now();
        let sets = [settings(postgres, "output.table"), vec![format!("input.numbers.rows={WRITTEN}")]].concat();
        flow::rows_committed("postgres_output.toml", &sets, 2, "table")?;
        figures[0].push(WRITTEN as f64 / begin.elapsed().as_secs_f64());
        count(postgres, "written", WRITTEN)?;
        postgres.say(TABLE);
        let begin = Instant::now();
        postgres.with(async |client| copy_bare(client).await).doing(|| "copying rows")?;
        figures[1].push(WRITTEN as f64 / begin.elapsed().as_secs_f64());
        count(postgres, "written", WRITTEN)?;
    }
    Ok(figures.map(median))
}

fn count(postgres: &Postgres, table: &str, wanted: u64) -> Result<()> {
    let found = postgres.rows(&format!("SELECT count(*) FROM {table}"));
    if found == [wanted.to_string()] { Ok(()) } else { Err(Error::new(format!("{found:?} rows instead of {wanted}"))) }
}

/// The same rows as the flow's, in one transaction.
async fn copy_bare(client: &tokio_postgres::Client) -> Result<(), tokio_postgres::Error> {
    let mut sink = pin!(client.copy_in("COPY written FROM STDIN BINARY").await?);
    let mut rows = BytesMut::from(&b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0"[..]);
    for id in 0..WRITTEN {
        rows.extend_from_slice(&5_i16.to_be_bytes());
        let name = format!("customer number {}", id % 5000);
        // The microseconds from 2000 to 31 January 2026.
        let values: [&[u8]; 5] = [
            &(id as i64).to_be_bytes(),
            &((id % 1000) as i64).to_be_bytes(),
            &(id as f64 * 0.25).to_be_bytes(),
            name.as_bytes(),
            &823_132_800_000_000_i64.to_be_bytes(),
        ];
        for value in values {
            rows.extend_from_slice(&(value.len() as i32).to_be_bytes());
            rows.extend_from_slice(value);
        }
        if rows.len() > 1 << 18 {
            sink.send(rows.split().freeze()).await?;
        }
    }
    rows.extend_from_slice(&(-1_i16).to_be_bytes());
    sink.send(rows.freeze()).await?;
    sink.finish().await.map(drop)
}

/// The rows a second of one transaction, from its commit on.
fn changed(postgres: &Postgres) -> Result<f64> {
    postgres.say(
        "DROP TABLE IF EXISTS changed;\n\
         CREATE TABLE changed (id bigint PRIMARY KEY, n int, ratio double precision, name varchar(40), at timestamptz);\n\
         ALTER TABLE changed REPLICA IDENTITY FULL",
    );
    let runtime = flow::runtime(2)?;
    let running = flow::start(flow::plan("postgres_changes.toml", &settings(postgres, "input.shop"))?, &runtime)?;
    let stats = running.stats();
    let node =
        stats.nodes.iter().find(|node| node.name == "gone").ok_or_else(|| Error::new("there is no such node"))?;
    let wait = |rows: u64| -> Result<()> {
        let begin = Instant::now();
        while node.rows_in.load(Ordering::Relaxed) < rows {
            if begin.elapsed() > Duration::from_secs(120) {
                return Err(Error::new(format!("{} of {rows} rows have come", node.rows_in.load(Ordering::Relaxed))));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    };
    // It follows the log when its slot is in use.
    postgres.await_number("SELECT count(*) FROM pg_replication_slots WHERE active", 1);
    postgres.say(&format!(
        "INSERT INTO changed SELECT id, id % 10, id * 0.25, 'customer number ' || id % 10, '2026-01-31' FROM generate_series(1, {CHANGED}) AS id"
    ));
    let begin = Instant::now();
    wait(CHANGED)?;
    let seconds = begin.elapsed().as_secs_f64();
    running.stopper().stop();
    flow::done(runtime.block_on(running.join()))?;
    Ok(CHANGED as f64 / seconds)
}

/// The rows a second that get columns of a table.
fn looked_up(postgres: &Postgres) -> Result<f64> {
    let sets = [settings(postgres, "processor.named"), vec![format!("input.numbers.rows={LOOKED_UP}")]].concat();
    let mut figures = Vec::new();
    for _ in 0..TURNS {
        let begin = Instant::now();
        let rows = flow::rows_into("postgres_lookup.toml", &sets, 2, "gone")?;
        if rows != LOOKED_UP {
            return Err(Error::new(format!("{rows} rows came instead of {LOOKED_UP}")));
        }
        figures.push(LOOKED_UP as f64 / begin.elapsed().as_secs_f64());
    }
    Ok(median(figures))
}
