//! The inputs themselves: from the log into the flow.

use std::collections::VecDeque;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use millstream_core::{
    Collector, Error, Figures, Home, Input, Parts, Positions, Progress, Report, Result, ResultExt as _, State,
};
use millstream_formats::{MessageReader, Rows};
use millstream_store::{Access, Files as _, LocalFiles, Log, LogOptions, LogReader, Record};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tempfile::TempDir;

use super::asking::{Asking, Shared};

/// The log, in the folder of the node.
const LOG: &str = "log";

/// The file beside the log that says that a checkpoint has covered rows of it, so that its beginning may be gone.
const COVERED: &str = "covered";

/// How large a file of the log becomes at most; only whole ones can be removed.
const SEGMENT_BYTES: u64 = 16 << 20;

/// The one partition.
const PARTITION: &str = "";

/// The piece of state that holds what is kept.
const KEPT: &str = "poll";

/// What a checkpoint keeps.
#[derive(Serialize, Deserialize)]
struct Kept<P> {
    /// Where the run has begun, for one that has had no rows.
    begin: u64,
    place: P,
}

/// Has a service asked for pages, and reads their records.
pub struct Polling<A: Asking> {
    node: Arc<str>,
    source: Arc<A>,
    reader: Box<dyn MessageReader>,
    batch_rows: usize,
    /// The first row to read.
    position: u64,
    is_resumed: bool,
    shared: Arc<Shared<A::Place>>,
    decoding: Option<Decoding>,
    running: Option<Running>,
}

/// A page whose records are being read.
struct Decoding {
    /// The position of the first one.
    first: u64,
    records: VecDeque<String>,
}

/// What there is between `open` and the end.
struct Running {
    reader: LogReader,
    /// Unless rows of a run before are gone through again.
    live: Option<Live>,
}

struct Live {
    /// Polls, as long as somebody wants rows.
    polling: Option<Pin<Box<dyn Future<Output = Result<()>> + Send>>>,
    log: Arc<Log>,
    home: PathBuf,
    /// Where the log is if nothing has to outlive the run.
    temporary: Option<TempDir>,
    /// Whether it is written down that a checkpoint has covered rows.
    is_covered: bool,
    /// Whether it has said that there is nothing more.
    has_caught_up: bool,
}

impl<A: Asking> Polling<A> {
    pub fn new(node: Arc<str>, source: Arc<A>, reader: Box<dyn MessageReader>, batch_rows: usize) -> Self {
        let shared = Arc::new(Shared::new());
        Self { node, source, reader, batch_rows, position: 0, is_resumed: false, shared, decoding: None, running: None }
    }

    /// Opens the log, and learns from it how far polling has come.
    fn open_log(&mut self, home: &Path, is_covered: bool) -> Result<Arc<Log>> {
        let max_bytes = self.source.max_log();
        let options = LogOptions { segment_bytes: SEGMENT_BYTES.min(max_bytes / 4), max_bytes };
        let log = Arc::new(Log::open(Arc::new(LocalFiles), &home.join(LOG), options)?);
        let mut place = self.shared.place();
        if !self.is_resumed {
            // What a run has left that got to no checkpoint counts. One that is reset asks for everything again.
            self.position = if is_covered { log.end() } else { log.oldest() };
            *A::end(&mut place) = self.position;
        }
        let mut pages = log.read(*A::end(&mut place))?;
        while let Some(Record { number, rows, payload, .. }) = pages.try_next()? {
            self.source.learn(&page::<A>(&payload)?, number + u64::from(rows), &mut place)?;
        }
        drop(place);
        Ok(log)
    }

    /// Pushes rows of the page that is being read. Returns false if there are no more.
    fn decode(&mut self, out: &mut Collector) -> Result<bool> {
        let Some(Decoding { first, records }) = &mut self.decoding else { return Ok(false) };
        let count = records.len().min(self.batch_rows);
        let taken: Vec<_> = records.drain(..count).collect();
        let start = *first;
        *first += count as u64;
        if records.is_empty() {
            self.decoding = None;
        }
        let messages: Vec<_> = taken.iter().map(|record| Some(record.as_bytes())).collect();
        let (mut read, mut rows) = (Rows::default(), Rows::default());
        self.reader.decode(&messages, &mut read)?;
        rows.append(read, start);
        rows.send(&self.node, &PARTITION.into(), out);
        Ok(true)
    }

    /// Begins to read a page, of which the flow may have some rows already.
    fn begin(&mut self, record: &Record) -> Result<()> {
        let mut records: VecDeque<_> = A::records(page::<A>(&record.payload)?).into();
        let had = self.position.saturating_sub(record.number).min(records.len() as u64);
        records.drain(..had as usize);
        if !records.is_empty() {
            self.decoding = Some(Decoding { first: record.number + had, records });
        }
        Ok(())
    }
}

/// A page, as it is in the log.
fn page<A: Asking>(payload: &[u8]) -> Result<A::Page> {
    postcard::from_bytes(payload).map_err(|_| Error::new("a record of the log is none of this input"))
}

impl Running {
    /// The next page. None if there is none, whether or not there may be one later.
    async fn next(&mut self) -> Result<Option<Record>> {
        loop {
            if let Some(record) = self.reader.try_next()? {
                if let Some(Live { temporary: Some(_), log, .. }) = &self.live {
                    log.trim(record.number)?;
                }
                return Ok(Some(record));
            }
            let Some(live) = &mut self.live else { return Ok(None) };
            let Some(polling) = &mut live.polling else {
                if live.has_caught_up {
                    std::future::pending::<()>().await;
                }
                live.has_caught_up = true;
                return Ok(None);
            };
            tokio::select! {
                record = self.reader.next() => return record.map(Some),
                polled = polling => {
                    live.polling = None;
                    polled?;
                }
            }
        }
    }
}

#[async_trait]
impl<A: Asking> Input for Polling<A> {
    async fn open(&mut self, home: &Home) -> Result<()> {
        if let Home::Replay(folder) = home {
            let folder = folder.as_ref().ok_or_else(needs_a_folder)?;
            let reader = LogReader::of_folder(Arc::new(LocalFiles), &folder.join(LOG), self.position)?;
            self.running = Some(Running { reader, live: None });
            return Ok(());
        }
        let temporary = match home {
            Home::Nowhere => Some(tempfile::tempdir().doing(|| "making a folder for pages")?),
            _ => None,
        };
        let home = temporary.as_ref().map(TempDir::path).or(home.folder()).ok_or_else(needs_a_folder)?.to_owned();
        let covered = home.join(COVERED);
        let is_covered = LocalFiles.exists(&covered).doing(|| format!("looking for `{}`", covered.display()))?;
        let log = self.open_log(&home, is_covered)?;
        let reader = log.read(self.position)?;
        let polling = self.source.clone().poll(log.clone(), self.shared.clone());
        let polling: Pin<Box<dyn Future<Output = Result<()>> + Send>> = Box::pin(polling);
        let live = Live { polling: Some(polling), log, home, temporary, is_covered, has_caught_up: false };
        self.running = Some(Running { reader, live: Some(live) });
        Ok(())
    }

    async fn next(&mut self, out: &mut Collector) -> Result<Progress> {
        while !self.decode(out)? {
            let running = self.running.as_mut().ok_or_else(|| Error::new("the input is not open"))?;
            match running.next().await? {
                Some(record) => self.begin(&record)?,
                None if running.live.is_some() => return Ok(Progress::CaughtUp),
                None => return Ok(Progress::End),
            }
        }
        Ok(Progress::More)
    }

    fn snapshot(&mut self, _: &Positions) -> Result<Parts> {
        let mut parts = Parts::default();
        parts.put(KEPT, &Kept { begin: self.position, place: self.shared.place().clone() })?;
        Ok(parts)
    }

    fn restore(&mut self, positions: &Positions, state: &State) -> Result<()> {
        let kept: Kept<A::Place> = state.get(KEPT)?;
        self.position = positions.get(PARTITION).copied().unwrap_or(kept.begin);
        *self.shared.place() = kept.place;
        self.is_resumed = true;
        Ok(())
    }

    async fn checkpoint_completed(&mut self, newest: &Positions, oldest: &Positions) -> Result<()> {
        let Some(live) = self.running.as_mut().and_then(|running| running.live.as_mut()) else { return Ok(()) };
        live.note_covered()?;
        // As long as there is room, rows can be gone through again from every checkpoint that is kept.
        let covered = if live.log.bytes() > self.source.max_log() / 4 { newest } else { oldest };
        covered.get(PARTITION).map_or(Ok(()), |position| live.log.trim(*position))
    }

    fn report(&self) -> Option<Report> {
        let waiting = self.running.as_ref()?.live.as_ref()?.log.bytes();
        let mut values = vec![("log_bytes", json!(waiting))];
        values.extend(self.source.report());
        values.extend(self.shared.trouble().map(|trouble| ("trouble", json!(trouble))));
        Some(Report::Figures(Figures { title: "pages".to_owned(), values }))
    }
}

impl Live {
    /// Writes down that a checkpoint has covered rows, before any of them is trimmed away.
    fn note_covered(&mut self) -> Result<()> {
        if !self.is_covered {
            let path = self.home.join(COVERED);
            let created =
                LocalFiles.create_new(&path, Access::Private).and_then(|_| LocalFiles.sync_folder(&self.home));
            created.doing(|| format!("creating `{}`", path.display()))?;
            self.is_covered = true;
        }
        Ok(())
    }
}

fn needs_a_folder() -> Error {
    Error::new(
        "what is asked for is kept in a log, and so it needs a state on this machine: `--state DIR` with a folder, not a URL",
    )
}
