//! Reads tables and the binary log together, and hands on what comes as pages.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::{FutureExt as _, StreamExt as _};
use millstream_core::{Error, ErrorClass, Result, ResultExt as _};
use millstream_database::{Gathered, Pages, Source, Status, Watch, can_be_key};
use millstream_spool::Pauses;
use mysql_async::binlog::events::{Event, RotateEvent};
use mysql_async::prelude::Queryable as _;
use mysql_async::{BinlogStream, BinlogStreamRequest, Conn};
use tokio::time::timeout;

use super::checks::{Product, check, files, identity, newest};
use super::gtids::Gtids;
use super::place::{Place, Progress, Reached, SnapshotProgress};
use super::shape::Missing;
use super::snapshot::{Chunk, ChunkOf};
use super::stream::{Change, Follower};
use crate::client::{Server, failed};
use crate::names::{Table, require_columns};

/// After so many events without a row it is said how far the log was read.
const SILENT_EVENTS: u32 = 4096;

/// How often a server says how far its log has been read that is asked for what is behind transactions: it is known by that alone if it has no more.
const BY_GTIDS: Duration = Duration::from_millis(250);

/// Has the client's library decode what the server has sent, which panics at some damages.
pub fn guarded<T>(decode: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(decode)).unwrap_or_else(|_| Err(damaged()))
}

/// The next event.
async fn next(stream: &mut BinlogStream) -> Result<Option<Result<Event, mysql_async::Error>>> {
    AssertUnwindSafe(stream.next()).catch_unwind().await.map_err(|_| damaged())
}

fn damaged() -> Error {
    Error::new("an event of the binary log is damaged")
}

/// What is read.
pub struct Job {
    pub server: Server,
    pub tables: Vec<TableJob>,
    pub has_snapshot: bool,
    pub missing: Missing,
    pub server_id: u32,
    pub heartbeat: Duration,
    pub chunk_rows: u32,
    pub batch_rows: usize,
}

/// A table that is read.
pub type TableJob = millstream_database::TableJob<Table>;

/// Reads tables and the log.
pub struct ChangesReader {
    job: Arc<Job>,
    product: Product,
    /// The key of each table.
    keys: Vec<Vec<String>>,
    progress: Progress,
    watch: Arc<Watch>,
}

impl ChangesReader {
    pub fn new(job: Job) -> Self {
        let (product, keys, progress) = (Product::MySql, Vec::new(), Progress::default());
        Self { job: Arc::new(job), product, keys, progress, watch: Arc::default() }
    }

    /// What is read.
    pub fn job(&self) -> Arc<Job> {
        self.job.clone()
    }

    fn table_names(&self) -> Vec<String> {
        self.job.tables.iter().map(|table| format!("{}={}", table.port, table.table.quoted())).collect()
    }

    /// Checks the server and its tables. Returns what it is, and the keys.
    async fn look(&self, connection: &mut Conn, reads_tables: bool) -> Result<(Product, Vec<Vec<String>>)> {
        let product = check(connection).await?;
        let mut keys = Vec::new();
        for TableJob { table, columns, key, .. } in &self.job.tables {
            let there = table.columns(connection).await?;
            // A column that is gone is null in what is still to be read of the log.
            if self.job.missing == Missing::Fails || reads_tables {
                require_columns(&columns.row, &there, &format!("the table `{}`", table.name))?;
            }
            keys.push(match key {
                Some(key) => {
                    table.require_unique(connection, key).await?;
                    key.clone()
                }
                None => table.primary_key(connection, &columns.row, can_be_key).await?,
            });
        }
        Ok((product, keys))
    }

    /// Follows the log from where it was read, until something goes wrong.
    async fn follow(&mut self, pages: &mut Pages, pauses: &mut Pauses) -> Result<()> {
        let (mut stream, follower) = self.stream().await?;
        let mut queries = None;
        let mut work = Work::new(self, follower);
        let mut silent = 0;
        loop {
            if self.progress.snapshot.is_some() && work.chunk.is_none() && !work.follower.is_within() {
                work.chunk = self.read_chunk(&mut queries, work.follower.server()).await?;
            }
            if work.is_chunk_due() {
                work.flush(self, pages).await?;
                work.flush_chunk(self, pages).await?;
                continue;
            }
            let event = match next(&mut stream).now_or_never() {
                Some(event) => event?,
                None => {
                    if !work.follower.is_within() && work.has_come(self) {
                        work.flush(self, pages).await?;
                        silent = 0;
                    }
                    self.next_in_time(&mut stream).await?
                }
            };
            let event = event.ok_or_else(|| Error::transient("the server has ended the binary log"))?;
            let event = event.map_err(|error| of_log(error, &self.progress.reached.place))?;
            pauses.end();
            guarded(|| work.take(&event))?;
            silent += 1;
            if work.changes.is_full() || silent > SILENT_EVENTS && !work.follower.is_within() && work.has_come(self) {
                work.flush(self, pages).await?;
                silent = 0;
            }
        }
    }

    /// The next event, of a server that says at times that it is there.
    async fn next_in_time(&self, stream: &mut BinlogStream) -> Result<Option<Result<Event, mysql_async::Error>>> {
        let silence = self.job.heartbeat * 3;
        let late = |_| Error::transient(format!("the server has said nothing for {} s", silence.as_secs_f64()));
        timeout(silence, next(stream)).await.map_err(late)?
    }

    /// The log behind what was read of it.
    async fn stream(&self) -> Result<(BinlogStream, Follower)> {
        let mut connection = self.job.server.connect().await?;
        let doing = |error| failed("asking for the binary log", error);
        let server = identity(&mut connection, self.product).await?;
        let reached = self.progress.reached.clone();
        let is_by_gtids = server != reached.server;
        let heartbeat = if is_by_gtids { self.job.heartbeat.min(BY_GTIDS) } else { self.job.heartbeat }.as_nanos();
        // Whoever can do less of MariaDB is not told the numbers of transactions.
        connection
            .query_drop(format!(
                "SET @master_heartbeat_period = {heartbeat}, @source_heartbeat_period = {heartbeat}, \
                 @master_binlog_checksum = 'ALL', @source_binlog_checksum = 'ALL', @mariadb_slave_capability = 4"
            ))
            .await
            .map_err(doing)?;
        if is_by_gtids {
            return self.stream_by_gtids(connection, server, reached).await;
        }
        let Place { file, position } = &reached.place;
        let request = BinlogStreamRequest::new(self.job.server_id).with_filename(file.as_bytes()).with_pos(*position);
        let stream = connection.get_binlog_stream(request).await.map_err(doing)?;
        Ok((stream, Follower::new(self.job.clone(), reached)))
    }

    /// The log of a server behind the transactions that have been read: one that has taken the place of another, or at the very beginning.
    async fn stream_by_gtids(
        &self,
        mut connection: Conn,
        server: String,
        reached: Reached,
    ) -> Result<(BinlogStream, Follower)> {
        let (known, gtids) = (&reached.server, &reached.gtids);
        let doing = |error| failed("asking for the binary log behind transactions", error);
        let files = files(&mut connection).await?;
        let request = BinlogStreamRequest::new(self.job.server_id);
        let request = match gtids {
            Gtids::Unknown => {
                return Err(Error::new(format!(
                    "the server is another one, {server}, than the one whose binary log was read, {known}, which did not number its transactions; \
                 `--reset` of the node begins with the tables anew"
                )));
            }
            Gtids::MariaDb(_) => {
                let state = format!("SET @slave_connect_state = '{gtids}'");
                connection.query_drop(state).await.map_err(doing)?;
                request
            }
            Gtids::MySql(_) => {
                let has_all =
                    connection.exec_first("SELECT GTID_SUBSET(?, @@gtid_executed)", (gtids.to_string(),)).await;
                // It would not mind that it never had some of them.
                if has_all.map_err(doing)? != Some(true) {
                    return Err(lacking(&server, &reached, "it has not done all of them"));
                }
                request.with_gtid().with_gtid_set(gtids.sids()?)
            }
        };
        let mut stream = connection.get_binlog_stream(request).await.map_err(doing)?;
        let first = self.next_in_time(&mut stream).await?;
        let first = first.ok_or_else(|| Error::transient("the server has ended the binary log"))?;
        let first = first.map_err(|error| of_another(error, &server, &reached))?;
        let place = guarded(|| beginning(&first, &files))?;
        if !known.is_empty() {
            tracing::info!("server {server} has taken the place of {known}: its binary log is read behind {gtids}");
        }
        Ok((stream, Follower::elsewhere(self.job.clone(), server, place, reached)))
    }

    /// Reads the next chunk of the tables. None if they have been read.
    async fn read_chunk(&mut self, queries: &mut Option<Conn>, server: &str) -> Result<Option<Chunk>> {
        let Some(SnapshotProgress { tables, after }) = &self.progress.snapshot else { return Ok(None) };
        let (Some(job), Some(key)) = (self.job.tables.get(*tables), self.keys.get(*tables)) else {
            self.progress.snapshot = None;
            *queries = None;
            return Ok(None);
        };
        let mut connection = match queries.take() {
            Some(connection) => connection,
            None => self.job.server.connect().await?,
        };
        if identity(&mut connection, self.product).await? != server {
            return Err(Error::transient("another server answers than the one whose binary log is read"));
        }
        let of = ChunkOf { table: *tables, job, key, after, rows: self.job.chunk_rows };
        let chunk = of.read(&mut connection, self.product).await?;
        *queries = Some(connection);
        Ok(Some(chunk))
    }
}

/// What was asked of the log, and went wrong.
fn of_log(error: mysql_async::Error, place: &Place) -> Error {
    match &error {
        mysql_async::Error::Server(of) if of.message.contains("same server_uuid/server_id") => Error::new(
            "another program reads the server's binary log under the number of this one; give the node a `server_id` that nobody else has",
        ),
        mysql_async::Error::Server(of) if of.code == 1236 => Error::new(format!(
            "the server does not give its binary log from {place} on: {}; if it was deleted, `--reset` of the node begins with the tables anew",
            of.message
        )),
        _ => failed("reading the binary log", error),
    }
}

/// The same of a server that has taken the place of another.
fn of_another(error: mysql_async::Error, server: &str, reached: &Reached) -> Error {
    match &error {
        mysql_async::Error::Server(of) if of.code == 1236 => lacking(server, reached, &of.message),
        _ => failed("reading the binary log behind transactions", error),
    }
}

/// A server has taken the place of another without its transactions.
fn lacking(server: &str, Reached { server: known, gtids, .. }: &Reached, why: &str) -> Error {
    Error::new(format!(
        "server {server} has taken the place of {known}, and does not have what follows the transactions {gtids}: {why}; if it stays in its \
         place, `--reset` of the node begins with the tables anew"
    ))
}

/// The beginning of the file of which a stream's first event says that it is read.
fn beginning(event: &Event, files: &[String]) -> Result<Place> {
    let rotate = event.read_event::<RotateEvent<'_>>().doing(|| "reading where the binary log begins")?;
    // The name may have a checksum of four bytes behind it.
    let name = rotate.name_raw();
    let is_it = |file: &&String| name.strip_prefix(file.as_bytes()).is_some_and(|rest| matches!(rest.len(), 0 | 4));
    let file = files.iter().filter(is_it).max_by_key(|file| file.len());
    let file = file.ok_or_else(|| Error::transient("the binary log begins with a file that was not there before"))?;
    Ok(Place { file: file.clone(), position: 4 })
}

/// What has come since the last page.
struct Work {
    follower: Follower,
    /// How many rows of the first transaction were taken before.
    skip: u64,
    changes: Gathered,
    chunk: Option<Chunk>,
}

impl Work {
    fn new(reader: &ChangesReader, follower: Follower) -> Self {
        let tables = reader.job.tables.iter().map(|table| &table.columns).zip(reader.keys.iter().map(Vec::as_slice));
        Self {
            follower,
            skip: reader.progress.rows,
            changes: Gathered::new(tables, reader.job.batch_rows),
            chunk: None,
        }
    }

    fn take(&mut self, event: &mysql_async::binlog::events::Event) -> Result<()> {
        let Self { follower, skip, changes, chunk } = self;
        let was_within = follower.is_within();
        follower.take(event, |change, number| {
            if number <= *skip {
                return Ok(());
            }
            let Change { table, op, row, before, at, place } = change;
            if let Some(chunk) = chunk.as_mut().filter(|chunk| chunk.table == table && *place > chunk.low) {
                chunk.rows.remove(&row);
                before.iter().for_each(|before| chunk.rows.remove(before));
            }
            changes.take(table, op, &row, before.as_ref(), at);
            Ok(())
        })?;
        // The transaction has ended of which rows were taken before.
        if was_within && !follower.is_within() {
            *skip = 0;
        }
        Ok(())
    }

    /// Whether the log was read further than was said.
    fn has_come(&self, reader: &ChangesReader) -> bool {
        !self.changes.is_empty() || *self.follower.committed() != reader.progress.reached
    }

    /// Whether all that has changed until the chunk was read has come.
    fn is_chunk_due(&self) -> bool {
        let is_past = |place: &Place| self.follower.is_at_home() && self.follower.committed().place >= *place;
        let due = |chunk: &Chunk| !self.follower.is_within() && is_past(&chunk.high);
        self.chunk.as_ref().is_some_and(due)
    }

    /// Hands on what has come.
    async fn flush(&mut self, reader: &mut ChangesReader, pages: &mut Pages) -> Result<()> {
        reader.progress.reached.clone_from(self.follower.committed());
        reader.progress.rows = self.follower.rows().max(self.skip);
        let page = self.changes.page(reader.kept()?)?;
        reader.watch.pass(page.count, &reader.progress.reached.place);
        pages.push(page).await
    }

    /// Hands on the rows of the chunk that have not changed since.
    async fn flush_chunk(&mut self, reader: &mut ChangesReader, pages: &mut Pages) -> Result<()> {
        let Some(chunk) = self.chunk.take() else { return Ok(()) };
        let next = if chunk.is_last {
            SnapshotProgress { tables: chunk.table + 1, after: Vec::new() }
        } else {
            SnapshotProgress { tables: chunk.table, after: chunk.after }
        };
        reader.progress.snapshot = (next.tables < reader.job.tables.len()).then_some(next);
        let page = chunk.rows.page(reader.kept()?)?;
        reader.watch.pass(page.count, &reader.progress.reached.place);
        pages.push(page).await
    }
}

impl ChangesReader {
    fn kept(&self) -> Result<Vec<u8>> {
        postcard::to_allocvec(&self.progress).doing(|| "keeping how far the binary log was read")
    }
}

#[async_trait]
impl Source for ChangesReader {
    async fn open(&mut self, after: Option<&[u8]>, _: bool) -> Result<Vec<u8>> {
        let kept: Option<Progress> = after
            .map(|after| postcard::from_bytes(after).doing(|| "reading how far the binary log was read"))
            .transpose()?;
        let reads_tables = kept.as_ref().map_or(self.job.has_snapshot, |kept| kept.snapshot.is_some());
        let mut connection = self.job.server.begin().await?;
        (self.product, self.keys) = self.look(&mut connection, reads_tables).await?;
        let tables = self.table_names();
        self.progress = match kept {
            Some(kept) => kept,
            None => {
                let snapshot = self.job.has_snapshot.then(SnapshotProgress::default);
                let reached = newest(&mut connection, self.product).await?;
                Progress { tables: tables.clone(), reached, rows: 0, snapshot }
            }
        };
        if self.progress.tables != tables {
            return Err(Error::new(
                "`tables` are others than those whose changes were read; `--reset` of the node begins with them anew, and another node can read \
                 what is new",
            ));
        }
        self.kept()
    }

    async fn run(&mut self, pages: &mut Pages) -> Result<()> {
        let mut pauses = Pauses::told(self.watch.disturbance());
        loop {
            match self.follow(pages, &mut pauses).await {
                Err(error) if error.class() == ErrorClass::Transient => pauses.wait(&error).await,
                ended => return ended,
            }
        }
    }

    fn status(&self) -> Status {
        self.watch.status("binary log of MySQL")
    }
}
