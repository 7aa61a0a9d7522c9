//! Reads tables a chunk at a time while they change.
//!
//! What a chunk's query sees is known exactly, as a set of transactions. All of these are before `high` in the log, and what they and others change
//! comes from the log, too: so as soon as the log was read up to there, the rows of the chunk that have not come of it meanwhile are those that the
//! table had.

use std::pin::pin;
use std::time::Duration;

use futures::TryStreamExt as _;
use millstream_core::{Error, Result};
use millstream_database::{At, ChunkRows};
use tokio::time::sleep;

use super::follower::LogRow;
use super::place::{Place, Sight};
use super::reader::TableJob;
use crate::client::{Connection, failed, rows_of};
use crate::names::{behind, list, names};

/// How often a chunk is read until all is seen in it that has come of the log, and the pause between.
const TRIES: u32 = 200;
const PAUSE: Duration = Duration::from_millis(20);

/// Rows of a table, as they were at one moment.
pub struct Chunk {
    pub table: usize,
    /// In the log, behind all transactions that were seen.
    pub high: Place,
    pub rows: ChunkRows,
    /// The key of the last row, as the server writes it.
    pub after: Vec<String>,
    /// Whether there are no more.
    pub is_last: bool,
}

/// What is to be read.
pub struct ChunkOf<'a> {
    pub table: usize,
    pub job: &'a TableJob,
    pub key: &'a [String],
    pub after: &'a [String],
    pub rows: u32,
    /// The transactions that have come of the log, and have to be seen: a server sends one a moment before others see it.
    pub begun: &'a [u32],
}

impl ChunkOf<'_> {
    /// Reads the rows.
    pub async fn read(&self, connection: &Connection) -> Result<Chunk> {
        for _ in 0..TRIES {
            if let Some(chunk) = self.try_read(connection).await? {
                return Ok(chunk);
            }
            sleep(PAUSE).await;
        }
        Err(Error::transient("the server has sent transactions that nobody can see yet; it waits for a copy of itself"))
    }

    async fn say(&self, connection: &Connection, statement: &str) -> Result<()> {
        connection.batch_execute(statement).await.map_err(|error| self.failed(error))
    }

    fn failed(&self, error: tokio_postgres::Error) -> Error {
        failed(format!("reading {}", self.job.table.quoted()), error)
    }

    /// Reads the rows, unless a transaction is not seen that has to be.
    async fn try_read(&self, connection: &Connection) -> Result<Option<Chunk>> {
        self.say(connection, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        let sql = "SELECT pg_current_snapshot()::text, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, \
                   pg_current_wal_insert_lsn()::text";
        let row = connection.query_one(sql, &[]).await.map_err(|error| self.failed(error))?;
        let sight: Sight = row.get::<_, String>(0).parse()?;
        if !self.begun.iter().all(|transaction| sight.sees(*transaction)) {
            self.say(connection, "ROLLBACK").await?;
            return Ok(None);
        }
        let (rows, after) = self.select(connection, At { micros: row.get(1), position: row.get(2) }).await?;
        self.say(connection, "COMMIT").await?;
        let is_last = rows.len() < self.rows;
        Ok(Some(Chunk { table: self.table, high: self.end(connection).await?, rows, after, is_last }))
    }

    fn sql(&self) -> String {
        let order = list(self.key.iter().map(String::as_str));
        let condition = behind(self.key, self.after);
        let condition = condition.map_or_else(String::new, |condition| format!(" WHERE {condition}"));
        format!(
            "SELECT {} FROM {}{condition} ORDER BY {order} LIMIT {}",
            list(names(&self.job.columns.row)),
            self.job.table.quoted(),
            self.rows
        )
    }

    /// The rows, and the key of the last one.
    async fn select(&self, connection: &Connection, at: At<'_>) -> Result<(ChunkRows, Vec<String>)> {
        let key = self.job.columns.places(self.key);
        let mut rows = ChunkRows::new(self.table, &self.job.columns, self.key);
        let mut after = Vec::new();
        let stream = connection.simple_query_raw(&self.sql()).await.map_err(|error| self.failed(error))?;
        let mut found = pin!(rows_of(stream));
        while let Some(row) = found.try_next().await.map_err(|error| self.failed(error))? {
            let values: Vec<_> = (0..row.len()).map(|index| row.get(index)).collect();
            let last = key.iter().map(|place| values.get(*place).copied().flatten().map(str::to_owned));
            after = last.collect::<Option<_>>().ok_or_else(|| {
                Error::new(format!(
                    "a key of {} is null; `key` has to be a unique key without nulls",
                    self.job.table.quoted()
                ))
            })?;
            rows.push(&LogRow::new(values), at);
        }
        Ok((rows, after))
    }

    /// A place in the log behind all that has happened. It is that of a message which is written for that, so that the log goes on until there.
    async fn end(&self, connection: &Connection) -> Result<Place> {
        let sql = "SELECT pg_logical_emit_message(true, 'millstream', '')::text";
        let row = connection.query_one(sql, &[]).await.map_err(|error| self.failed(error))?;
        row.get::<_, String>(0).parse()
    }
}
