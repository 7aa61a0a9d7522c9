//! What flows write to PostgreSQL, read of its changes and look up in a second, beside a bare `COPY`.

use std::pin::pin;

use bytes::BytesMut;
use futures::SinkExt as _;
use millstream_core::{Result, ResultExt as _};
use millstream_testkit::Postgres;

use crate::databases::{CHANGED, Database, WRITTEN, changed, looked_up, written};
use crate::measurement::{Goal, Measurement};

/// Measures the rows a second that are written, that change, and that are looked up.
pub fn run() -> Result<Vec<Measurement>> {
    let postgres = Postgres::run();
    let [ours, bare] = written(&postgres)?;
    let name = "rows of 5 columns → the output `postgres`; beside a bare `COPY`";
    let output = Measurement::new(name, "rows/s", ours, Goal::Times(0.8)).beside(bare);
    let name = "inserted rows → the input `postgres_changes`";
    let changes = Measurement::new(name, "rows/s", changed(&postgres)?, Goal::AtLeast(1e5));
    let name = "`postgres_lookup` with 90% of the keys remembered";
    let lookup = Measurement::new(name, "rows/s", looked_up(&postgres)?, Goal::AtLeast(1e6));
    Ok(vec![output, changes, lookup])
}

impl Database for Postgres {
    const NODES: &'static str = "postgres";

    const WRITTEN: &'static str = "DROP TABLE IF EXISTS written;\n\
        CREATE TABLE written (id bigint PRIMARY KEY, n bigint, ratio double precision, name varchar(40), at timestamptz)";

    const CHANGED: &'static str = "DROP TABLE IF EXISTS changed;\n\
        CREATE TABLE changed (id bigint PRIMARY KEY, n int, ratio double precision, name varchar(40), at timestamptz);\n\
        ALTER TABLE changed REPLICA IDENTITY FULL";

    fn address(&self) -> &str {
        Postgres::address(self)
    }

    fn say(&self, statements: &str) {
        Postgres::say(self, statements);
    }

    fn rows(&self, query: &str) -> Vec<String> {
        Postgres::rows(self, query)
    }

    fn write_bare(&self) -> Result<()> {
        self.with(async |client| copy_bare(client).await).doing(|| "copying rows")
    }

    fn await_follower(&self, _: &dyn Fn() -> u64) {
        // It follows the log when its slot is in use.
        self.await_number("SELECT count(*) FROM pg_replication_slots WHERE active", 1);
    }

    fn insert(&self) -> String {
        format!(
            "INSERT INTO changed SELECT id, id % 10, id * 0.25, 'customer number ' || id % 10, '2026-01-31' FROM generate_series(1, {CHANGED}) AS id"
        )
    }
}

/// Copies the rows that the flow writes, in one transaction.
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
