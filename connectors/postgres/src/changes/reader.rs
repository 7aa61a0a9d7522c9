//! Reads tables and the log together, and hands on what comes as pages.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt as _;
use millstream_core::{Error, ErrorClass, Result, ResultExt as _};
use millstream_database::{Covers, Gathered, Pages, Source, Status, Watch};
use millstream_spool::{Pauses, begin};
use tokio::time::{Instant, timeout_at};

use super::follower::{Change, Follower};
use super::place::{Place, Progress, SnapshotProgress};
use super::slot::{check_identities, check_server, check_slot, drop_slot, prepare_publication};
use super::snapshot::{Chunk, ChunkOf};
use super::wire::{Sent, Wire};
use crate::client::{Connection, Server};
use crate::names::{Table, names};

/// How often the server is asked how far it has come, while a chunk waits for that.
const IMPATIENCE: Duration = Duration::from_millis(50);

/// What is read.
pub struct Job {
    pub server: Server,
    pub tables: Vec<TableJob>,
    pub slot: String,
    pub publication: String,
    /// Whether the flow has made it.
    pub owns_publication: bool,
    pub has_snapshot: bool,
    pub fails_on_change: bool,
    pub heartbeat: Duration,
    pub chunk_rows: u32,
    pub batch_rows: usize,
}

/// A table that is read.
pub type TableJob = millstream_database::TableJob<Table>;

/// Reads tables and the log.
pub struct ChangesReader {
    job: Arc<Job>,
    /// The key of each table.
    keys: Vec<Vec<String>>,
    progress: Progress,
    /// The connection with a slot that ends with it.
    temporary: Option<Wire>,
    is_temporary: bool,
    /// The number of this reader in the process.
    number: u64,
    watch: Arc<Watch>,
    /// How far the log need not be kept.
    covered: Arc<AtomicU64>,
}

/// Looks whether a server has what is needed.
pub async fn look(job: &Job) -> Result<String> {
    let (connection, version) = job.server.look().await?;
    check_server(&connection).await?;
    check_identities(&connection, job).await?;
    let count = job.tables.len();
    for table in &job.tables {
        table.table.require_columns(&connection, &names(&table.columns.row)).await?;
    }
    let tables = if count == 1 { "table" } else { "tables" };
    Ok(format!("{count} {tables} of PostgreSQL {version} at `{}`", job.server.address()))
}

impl ChangesReader {
    pub fn new(job: Job) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        Self {
            number: COUNT.fetch_add(1, Ordering::Relaxed),
            job: Arc::new(job),
            keys: Vec::new(),
            progress: Progress::default(),
            temporary: None,
            is_temporary: false,
            watch: Arc::default(),
            covered: Arc::default(),
        }
    }

    /// What is read.
    pub fn job(&self) -> Arc<Job> {
        self.job.clone()
    }

    fn table_names(&self) -> Vec<String> {
        self.job.tables.iter().map(|table| format!("{}={}", table.port, table.table.quoted())).collect()
    }

    /// Checks the server and its tables. Returns their keys.
    async fn look(&self, connection: &Connection, reads_tables: bool, begins: bool) -> Result<Vec<Vec<String>>> {
        check_server(connection).await?;
        let mut keys = Vec::new();
        for TableJob { table, columns, key, .. } in &self.job.tables {
            // A column that is gone is null in what is still to be read of the log.
            if self.job.fails_on_change || reads_tables {
                table.require_columns(connection, &names(&columns.row)).await?;
            }
            keys.push(match key {
                Some(key) => {
                    table.require_unique(connection, key).await?;
                    key.clone()
                }
                None => table.primary_key(connection, &columns.row).await?,
            });
        }
        check_identities(connection, &self.job).await?;
        prepare_publication(connection, &self.job, begins).await?;
        Ok(keys)
    }

    /// Makes the slot. Returns where the log begins then.
    async fn make_slot(&mut self, connection: &Connection) -> Result<Place> {
        let job = self.job.clone();
        // One without state has a name of its own, since several may run.
        let slot = self.slot();
        // It may be a moment until the server has noticed that who has used it is gone.
        begin(|| drop_slot(connection, &slot)).await?;
        let mut wire = begin(|| job.server.wire()).await?;
        let place = wire.make_slot(&slot, self.is_temporary).await.doing(|| format!("making the slot `{slot}`"))?;
        self.temporary = self.is_temporary.then_some(wire);
        Ok(place)
    }

    fn slot(&self) -> String {
        if self.is_temporary {
            format!("millstream_{}_{}", std::process::id(), self.number)
        } else {
            self.job.slot.clone()
        }
    }

    /// The connection over which the log comes.
    async fn wire(&mut self) -> Result<Wire> {
        let slot = self.slot();
        let mut wire = match self.temporary.take() {
            Some(wire) => wire,
            None if self.is_temporary => {
                return Err(Error::new(
                    "the connection was lost, and with it the place in the log; with `--state`, the flow would go on",
                ));
            }
            None => self.job.server.wire().await?,
        };
        let begun = wire.begin(&slot, &self.job.publication, self.progress.place).await;
        begun.doing(|| format!("asking for the log behind {}", self.progress.place))?;
        Ok(wire)
    }

    /// Follows the log from where it was read, until something goes wrong.
    async fn follow(&mut self, pages: &mut Pages, pauses: &mut Pauses) -> Result<()> {
        let mut wire = self.wire().await?;
        let mut queries = None;
        let mut work = Work::new(self);
        let mut heard = Instant::now();
        let mut due = Instant::now();
        loop {
            if self.progress.snapshot.is_some() && work.chunk.is_none() && !work.follower.is_within() {
                work.chunk = self.read_chunk(&mut queries).await?;
                due = Instant::now();
            }
            if work.is_chunk_due() {
                work.flush(self, pages).await?;
                work.flush_chunk(self, pages).await?;
                continue;
            }
            if Instant::now() >= due {
                wire.confirm(self.covered(), true).await?;
                due = Instant::now() + if work.chunk.is_some() { IMPATIENCE } else { self.job.heartbeat };
            }
            let sent = match wire.next().now_or_never() {
                Some(sent) => sent?,
                None => {
                    if !work.follower.is_within() && work.has_come(self) {
                        work.flush(self, pages).await?;
                    }
                    match timeout_at(due, wire.next()).await {
                        Ok(sent) => sent?,
                        Err(_) if heard.elapsed() > self.job.heartbeat * 3 => {
                            let silence = heard.elapsed().as_secs_f64();
                            return Err(Error::transient(format!("the server has said nothing for {silence:.1} s")));
                        }
                        Err(_) => continue,
                    }
                }
            };
            heard = Instant::now();
            pauses.end();
            match sent {
                Sent::Message(message) => {
                    work.take(&message).doing(|| format!("reading the log behind {}", work.follower.committed()))?;
                    self.note_begun(&mut work.follower);
                }
                Sent::Alive { end, wants_answer } => {
                    work.follower.has_come_to(end);
                    if wants_answer {
                        wire.confirm(self.covered(), false).await?;
                    }
                }
            }
            if work.changes.is_full() {
                work.flush(self, pages).await?;
            }
        }
    }

    /// How far the log need not be kept. Never further than a checkpoint has covered.
    fn covered(&self) -> Place {
        Place(self.covered.load(Ordering::Relaxed))
    }

    /// Takes note of which transactions have come, as long as tables are read.
    fn note_begun(&mut self, follower: &mut Follower) {
        let begun = follower.take_begun();
        if let Some(snapshot) = &mut self.progress.snapshot {
            snapshot.begun.extend(begun);
        }
    }

    /// Reads the next chunk of the tables. None if they have been read.
    async fn read_chunk(&mut self, queries: &mut Option<Connection>) -> Result<Option<Chunk>> {
        let Some(SnapshotProgress { tables, after, begun }) = &mut self.progress.snapshot else { return Ok(None) };
        let (Some(job), Some(key)) = (self.job.tables.get(*tables), self.keys.get(*tables)) else {
            self.progress.snapshot = None;
            *queries = None;
            return Ok(None);
        };
        let connection = match queries.take() {
            Some(connection) => connection,
            None => self.job.server.connect().await?,
        };
        let of = ChunkOf { table: *tables, job, key, after, rows: self.job.chunk_rows, begun };
        let chunk = of.read(&connection).await?;
        // What is seen once is seen by all who come later.
        begun.clear();
        *queries = Some(connection);
        Ok(Some(chunk))
    }

    fn kept(&self) -> Result<Vec<u8>> {
        postcard::to_allocvec(&self.progress).doing(|| "keeping how far the log was read")
    }
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
    fn new(reader: &ChangesReader) -> Self {
        let Progress { place, rows, .. } = &reader.progress;
        let tables = reader.job.tables.iter().map(|table| &table.columns).zip(reader.keys.iter().map(Vec::as_slice));
        Self {
            follower: Follower::new(reader.job.clone(), *place),
            skip: *rows,
            changes: Gathered::new(tables, reader.job.batch_rows),
            chunk: None,
        }
    }

    fn take(&mut self, message: &[u8]) -> Result<()> {
        let Self { follower, skip, changes, chunk } = self;
        let was_within = follower.is_within();
        follower.take(message, |change, number| {
            if number <= *skip {
                return;
            }
            let Change { table, op, row, before, at } = change;
            if let Some(chunk) = chunk.as_mut().filter(|chunk| chunk.table == table) {
                chunk.rows.remove(&row);
                before.iter().for_each(|before| chunk.rows.remove(before));
            }
            changes.take(table, op, &row, before.as_ref(), at);
        })?;
        // The transaction has ended of which rows were taken before.
        if was_within && !follower.is_within() {
            *skip = 0;
        }
        Ok(())
    }

    /// Whether the log was read further than was said.
    fn has_come(&self, reader: &ChangesReader) -> bool {
        !self.changes.is_empty() || self.follower.committed() != reader.progress.place
    }

    /// Whether all that has changed until the chunk was read has come.
    fn is_chunk_due(&self) -> bool {
        let due = |chunk: &Chunk| !self.follower.is_within() && self.follower.committed() >= chunk.high;
        self.chunk.as_ref().is_some_and(due)
    }

    /// Hands on what has come.
    async fn flush(&mut self, reader: &mut ChangesReader, pages: &mut Pages) -> Result<()> {
        reader.progress.place = self.follower.committed();
        reader.progress.rows = self.follower.rows().max(self.skip);
        let page = self.changes.page(reader.kept()?)?;
        reader.watch.pass(page.count, &reader.progress.place);
        pages.push(page).await
    }

    /// Hands on the rows of the chunk that have not changed since.
    async fn flush_chunk(&mut self, reader: &mut ChangesReader, pages: &mut Pages) -> Result<()> {
        let Some(chunk) = self.chunk.take() else { return Ok(()) };
        let begun = reader.progress.snapshot.take().map(|snapshot| snapshot.begun).unwrap_or_default();
        let next = if chunk.is_last {
            SnapshotProgress { tables: chunk.table + 1, after: Vec::new(), begun }
        } else {
            SnapshotProgress { tables: chunk.table, after: chunk.after, begun }
        };
        reader.progress.snapshot = (next.tables < reader.job.tables.len()).then_some(next);
        let page = chunk.rows.page(reader.kept()?)?;
        reader.watch.pass(page.count, &reader.progress.place);
        pages.push(page).await
    }
}

#[async_trait]
impl Source for ChangesReader {
    async fn open(&mut self, after: Option<&[u8]>, is_kept: bool) -> Result<Vec<u8>> {
        let kept: Option<Progress> =
            after.map(|after| postcard::from_bytes(after).doing(|| "reading how far the log was read")).transpose()?;
        self.is_temporary = !is_kept;
        let reads_tables = kept.as_ref().map_or(self.job.has_snapshot, |kept| kept.snapshot.is_some());
        let connection = self.job.server.begin().await?;
        self.keys = self.look(&connection, reads_tables, kept.is_none()).await?;
        let tables = self.table_names();
        self.progress = match kept {
            Some(kept) => {
                check_slot(&connection, &self.job.slot, kept.place).await?;
                kept
            }
            None => {
                let place = self.make_slot(&connection).await?;
                let snapshot = self.job.has_snapshot.then(SnapshotProgress::default);
                Progress { tables: tables.clone(), place, rows: 0, snapshot }
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
            // The server may have removed what it had, or be another one.
            if !self.is_temporary
                && let Ok(connection) = self.job.server.connect().await
            {
                check_slot(&connection, &self.job.slot, self.progress.place).await.or_else(only_permanent)?;
            }
        }
    }

    fn covers(&self) -> Option<Covers> {
        let covered = self.covered.clone();
        Some(Arc::new(move |after| {
            if let Ok(progress) = postcard::from_bytes::<Progress>(after) {
                covered.fetch_max(progress.place.0, Ordering::Relaxed);
            }
        }))
    }

    fn status(&self) -> Status {
        self.watch.status("log of PostgreSQL")
    }
}

/// What may be over in a while is found out again.
fn only_permanent(error: Error) -> Result<()> {
    if error.class() == ErrorClass::Transient { Ok(()) } else { Err(error) }
}
