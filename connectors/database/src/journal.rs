//! Rows that are asked for, and would be others if they were asked for again: they pass through a log.
//!
//! A [`Source`] asks for rows, page by page, and says with each page where the next one begins. Page and place are one record of a log in the
//! node's folder ([`millstream_store::Log`]), which is durable before any of its rows enters the flow: so a run that goes on after a crash has
//! the same rows, asks for none of them twice, and a replay has them, too. A flow without state keeps no log, since nothing goes on with it.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use arrow::array::{RecordBatch, new_null_array};
use arrow::datatypes::SchemaRef;
use arrow::ipc::CompressionType;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};
use async_trait::async_trait;
use millstream_core::{
    Batch, Collector, Encoding, Error, FailedRow, Home, Input, Parts, Positions, Progress, Report, Result,
    ResultExt as _, State, type_name,
};
use millstream_store::{Files, LocalFiles, Log, LogOptions, LogReader, NotAppended, Record};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::Instrument as _;

/// The log, in the folder of the node.
const LOG: &str = "log";

/// The piece of state that says where the source goes on.
const AFTER: &str = "after";

/// The one partition.
const PARTITION: &str = "";

/// How large a file of the log becomes at most; only whole ones can be removed.
const SEGMENT_BYTES: u64 = 16 << 20;

/// How many pages wait for the flow.
const PAGES: usize = 2;

/// How many snapshots may wait to become checkpoints.
const SNAPSHOTS: usize = 256;

/// How long checkpoints may take to make room in a log that is full.
const ROOM: std::time::Duration = std::time::Duration::from_secs(600);

/// Asks for rows.
#[async_trait]
pub trait Source: Send + 'static {
    /// Finds out whether it can begin, or go on behind a page. Returns where it is then, as pages say it. Without a state, what it has read is
    /// not kept, and no other run goes on with it.
    async fn open(&mut self, after: Option<&[u8]>, is_kept: bool) -> Result<Vec<u8>>;

    /// Asks for pages until there are no more, or nobody wants them any more.
    async fn run(&mut self, pages: &mut Pages) -> Result<()>;

    /// What wants to know where the source would go on from a checkpoint, as pages say it: it need not be asked for what lies before. Asked for before `run`.
    fn covers(&self) -> Option<Covers> {
        None
    }

    /// How it does. Asked before `run`, for a value that goes on to change.
    fn status(&self) -> Status {
        Arc::new(|| None)
    }
}

/// How a source does at the moment.
pub type Status = Arc<dyn Fn() -> Option<Report> + Send + Sync>;

/// Is told that all before a place is covered by a checkpoint, or taken by a flow that has none.
pub type Covers = Arc<dyn Fn(&[u8]) + Send + Sync>;

/// Rows that were asked for at once.
#[derive(Default)]
pub struct Page {
    /// How many rows there are, with those that are refused.
    pub count: u32,
    /// The rows by output port, each with its place in the page.
    pub rows: Vec<PortRows>,
    /// The rows that can't be read, each with its place.
    pub refused: Vec<Refused>,
    /// Where the source goes on.
    pub after: Vec<u8>,
}

/// The rows of a page that leave by one port, and their places in the page, which ascend.
#[derive(Clone)]
pub struct PortRows {
    /// The port.
    pub port: usize,
    /// The places.
    pub places: Vec<u32>,
    /// The rows.
    pub rows: RecordBatch,
}

/// A row that can't be read.
#[derive(Clone, Serialize, Deserialize)]
pub struct Refused {
    /// Its place in the page.
    pub place: u32,
    /// Why it can't be read.
    pub error: String,
    /// The row for people.
    pub row: String,
    /// How that is written.
    pub encoding: Encoding,
}

/// What a record of the log holds.
#[derive(Serialize, Deserialize)]
struct Written {
    rows: Vec<(usize, Vec<u32>, Vec<u8>)>,
    refused: Vec<Refused>,
    after: Vec<u8>,
}

impl Page {
    fn encode(&self) -> Result<Vec<u8>> {
        let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME))?;
        let mut rows = Vec::new();
        for PortRows { port, places, rows: of } in &self.rows {
            let mut writer = StreamWriter::try_new_with_options(Vec::new(), &of.schema(), options.clone())?;
            writer.write(of)?;
            rows.push((*port, places.clone(), writer.into_inner()?));
        }
        let written = Written { rows, refused: self.refused.clone(), after: self.after.clone() };
        postcard::to_allocvec(&written).doing(|| "keeping rows")
    }

    fn decode(record: &Record, schemas: &[SchemaRef]) -> Result<Self> {
        let doing = || format!("reading record {} of the log", record.number);
        let written: Written = postcard::from_bytes(&record.payload).doing(doing)?;
        let mut rows = Vec::new();
        for (port, places, bytes) in written.rows {
            let Some(schema) = schemas.get(port) else {
                return Err(Error::new(format!("{}: it has rows of a table that the flow reads no more", doing())));
            };
            for batch in StreamReader::try_new(bytes.as_slice(), None).doing(doing)? {
                let batch = adapt(&batch.doing(doing)?, schema).doing(doing)?;
                if batch.num_rows() != places.len() || places.iter().any(|place| *place >= record.rows) {
                    return Err(Error::new(format!("{}: it is damaged", doing())));
                }
                rows.push(PortRows { port, places: places.clone(), rows: batch });
            }
        }
        Ok(Self { count: record.rows, rows, refused: written.refused, after: written.after })
    }
}

/// Rows that were kept, in the columns that the flow has now.
fn adapt(rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    if rows.schema() == *schema {
        return Ok(rows.clone());
    }
    let column = |field: &Arc<arrow::datatypes::Field>| match rows.column_by_name(field.name()) {
        Some(column)
            if column.data_type() == field.data_type() && (field.is_nullable() || column.null_count() == 0) =>
        {
            Ok(column.clone())
        }
        None if field.is_nullable() => Ok(new_null_array(field.data_type(), rows.num_rows())),
        _ => Err(Error::new(format!(
            "its rows were read before `{}` was a `{}`; let the flow of before come to a checkpoint first, or begin the node again \
             with `--reset`",
            field.name(),
            type_name(field.data_type())
        ))),
    };
    let columns = schema.fields().iter().map(column).collect::<Result<_>>()?;
    Ok(RecordBatch::try_new(schema.clone(), columns)?)
}

/// What reaches the input.
enum Event {
    /// A page, and the position of its first row.
    Page(u64, Page),
    CaughtUp,
    End,
}

/// Takes the pages of a source.
pub struct Pages {
    events: mpsc::Sender<Result<Event>>,
    /// The input has it: when that is dropped, the log is free at once, for whoever goes on with it.
    log: Option<Weak<Log>>,
    max_log: u64,
    trimmed: Arc<Notify>,
    /// The position of the next page.
    next: u64,
}

impl Pages {
    /// Takes a page: returns when it is durable and the flow has room for it.
    pub async fn push(&mut self, page: Page) -> Result<()> {
        let first = self.next;
        // One that has no rows only says how far the source has come.
        if let (Some(log), true) = (&self.log, page.count > 0) {
            let payload = page.encode()?;
            self.make_room(log, payload.len() as u64).await?;
            let number = append(log, payload, page.count).await?;
            if number != first {
                return Err(Error::new(format!("the log goes on at {number} instead of {first}")));
            }
        }
        self.next += u64::from(page.count);
        self.send(Event::Page(first, page)).await
    }

    /// There are no more pages at the moment.
    pub async fn caught_up(&mut self) -> Result<()> {
        self.send(Event::CaughtUp).await
    }

    async fn send(&self, event: Event) -> Result<()> {
        self.events.send(Ok(event)).await.map_err(|_| Error::new("nobody takes rows any more"))
    }

    async fn make_room(&self, log: &Weak<Log>, bytes: u64) -> Result<()> {
        let is_full = || log.upgrade().is_some_and(|log| log.bytes() > 0 && log.bytes() + bytes > self.max_log);
        let room = async {
            while is_full() {
                self.trimmed.notified().await;
            }
        };
        let full = || {
            format!(
                "no checkpoint has covered the rows of the log, which has its {} bytes; raise `max_log`",
                self.max_log
            )
        };
        timeout(ROOM, room).await.map_err(|_| Error::new(full()))
    }
}

/// Appends a record. Returns its number when it is durable.
async fn append(log: &Weak<Log>, payload: Vec<u8>, rows: u32) -> Result<u64> {
    let closed = || Error::new("the log is closed");
    let (sender, written) = oneshot::channel();
    log.upgrade().ok_or_else(closed)?.append_then(payload, rows, move |number| drop(sender.send(number)));
    written.await.map_err(|_| closed())?.map_err(|NotAppended { error, .. }| error)
}

/// What the input is told of itself.
pub struct JournalOptions {
    /// The node.
    pub source: Arc<str>,
    /// The columns of each output port.
    pub schemas: Vec<SchemaRef>,
    /// How many rows a batch has at most.
    pub batch_rows: usize,
    /// How many bytes the log has at most.
    pub max_log: u64,
}

/// An input whose rows are asked for by a source.
pub struct Journal<S> {
    options: JournalOptions,
    /// Until it runs.
    asks: Option<S>,
    /// Where the first row is that is wanted.
    position: u64,
    is_resumed: bool,
    /// Where the source goes on behind positions, the last of which is the newest.
    marks: VecDeque<(u64, Vec<u8>)>,
    /// Of these, those that snapshots have which may become checkpoints.
    taken: VecDeque<(u64, Vec<u8>)>,
    running: Option<Running>,
}

/// What there is between `open` and the end.
struct Running {
    events: mpsc::Receiver<Result<Event>>,
    log: Option<Arc<Log>>,
    trimmed: Arc<Notify>,
    status: Status,
    covers: Option<Covers>,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<S: Source> Journal<S> {
    /// One that has not been opened.
    pub fn new(options: JournalOptions, source: S) -> Self {
        let (asks, marks) = (Some(source), VecDeque::new());
        Self { options, asks, position: 0, is_resumed: false, marks, taken: VecDeque::new(), running: None }
    }

    fn log_options(&self) -> LogOptions {
        let max_bytes = self.options.max_log;
        // A page may be a little too large for what is left.
        LogOptions { segment_bytes: SEGMENT_BYTES.min(max_bytes / 4), max_bytes: max_bytes.saturating_mul(2) }
    }

    /// Opens the log, and reads what of it the flow has not covered.
    fn open_log(&self, folder: &Path) -> Result<Arc<Log>> {
        let doing = || format!("opening the log `{}`", folder.display());
        let is_there = folder.try_exists().doing(doing)?;
        if self.is_resumed && !is_there && self.position > 0 {
            return Err(Error::new(format!(
                "the log `{}` is missing, in which the rows of before {} were; `--reset` of the node begins it again",
                folder.display(),
                self.position
            )));
        }
        // No checkpoint knows of what a run before has read.
        if !self.is_resumed && is_there {
            std::fs::remove_dir_all(folder).doing(doing)?;
        }
        Ok(Arc::new(Log::open(files(), folder, self.log_options())?))
    }

    /// Where the source goes on: behind the last page of the log, or where the state says.
    fn last_mark(&self, mut reader: LogReader) -> Result<(u64, Option<Vec<u8>>)> {
        let (mut next, mut after) = (self.position, self.marks.back().map(|(_, after)| after.clone()));
        while let Some(record) = reader.try_next()? {
            let page = Page::decode(&record, &self.options.schemas)?;
            (next, after) = (record.end(), Some(page.after));
        }
        Ok((next, after))
    }

    /// Goes through rows of a run before again.
    fn replay(&self, folder: Option<&Path>) -> Result<Running> {
        let missing = || Error::new("the rows of that run are not kept: its state is not in a local folder");
        let folder: PathBuf = folder.ok_or_else(missing)?.join(LOG);
        let reader = LogReader::of_folder(files(), &folder, self.position)?;
        let schemas = self.options.schemas.clone();
        let (send, events) = mpsc::channel(PAGES);
        let task = tokio::spawn(async move {
            let end = send_log(reader, &schemas, &send).await.map(|()| Event::End);
            let _ = send.send(end).await;
        });
        Ok(Running { events, log: None, trimmed: Arc::default(), status: Arc::new(|| None), covers: None, task })
    }

    async fn begin(&mut self, log: Option<Arc<Log>>) -> Result<Running> {
        let mut source = self.asks.take().ok_or_else(|| Error::new("the input was opened twice"))?;
        let old = log.as_ref().map(|log| log.read(self.position)).transpose()?;
        let known = match &log {
            Some(log) => self.last_mark(log.read(self.position)?)?,
            None => (self.position, self.marks.back().map(|(_, after)| after.clone())),
        };
        let (next, after) = known;
        let here = source.open(after.as_deref(), log.is_some()).await?;
        // Pages of the log say it themselves.
        if next == self.position {
            self.mark(next, here);
        }
        let (events, received) = mpsc::channel(PAGES);
        let (trimmed, schemas) = (Arc::new(Notify::new()), self.options.schemas.clone());
        let (status, covers) = (source.status(), source.covers());
        let max_log = self.options.max_log;
        let mut pages = Pages {
            events: events.clone(),
            log: log.as_ref().map(Arc::downgrade),
            max_log,
            trimmed: trimmed.clone(),
            next,
        };
        let follow = async move {
            let all = async {
                if let Some(old) = old {
                    send_log(old, &schemas, &events).await?;
                }
                source.run(&mut pages).await
            };
            let end = all.await.map(|()| Event::End);
            let _ = events.send(end).await;
        };
        let task = tokio::spawn(follow.in_current_span());
        Ok(Running { events: received, log, trimmed, status, covers, task })
    }

    /// Sends the rows of a page, in their order, and those that are refused.
    fn push(&mut self, first: u64, page: Page, out: &mut Collector) {
        let from = self.position.saturating_sub(first);
        let source = &self.options.source;
        for Refused { place, error, row, encoding } in page.refused {
            if u64::from(place) >= from {
                let (source, position) = (source.clone(), Some(first + u64::from(place)));
                out.fail(FailedRow { error, source, partition: PARTITION.into(), position, line: None, row, encoding });
            }
        }
        for (port, range) in runs(&page.rows, from, self.options.batch_rows) {
            let of = &page.rows[port];
            let (rows, places) = (of.rows.slice(range.start, range.len()), &of.places[range]);
            let positions = places.iter().map(|place| first + u64::from(*place));
            out.push(of.port, Batch::at(rows, source, &PARTITION.into(), positions));
        }
        let end = first + u64::from(page.count);
        self.position = self.position.max(end);
        self.mark(end, page.after);
    }

    /// Tells the source what a checkpoint covers. Of several snapshots at its position, at least the first is one.
    fn cover(&mut self, position: u64) {
        while self.taken.front().is_some_and(|(of, _)| *of < position) {
            self.taken.pop_front();
        }
        if self.taken.front().is_some_and(|(of, _)| *of == position)
            && let Some((_, after)) = self.taken.pop_front()
            && let Some(covers) = self.running.as_ref().and_then(|running| running.covers.as_ref())
        {
            covers(&after);
        }
    }

    /// Takes note of where the source goes on behind a position.
    fn mark(&mut self, position: u64, after: Vec<u8>) {
        match self.marks.back_mut() {
            Some((last, known)) if *last == position => *known = after,
            _ => self.marks.push_back((position, after)),
        }
    }
}

fn files() -> Arc<dyn Files> {
    Arc::new(LocalFiles)
}

async fn send_log(mut reader: LogReader, schemas: &[SchemaRef], events: &mpsc::Sender<Result<Event>>) -> Result<()> {
    while let Some(record) = reader.try_next()? {
        let page = Page::decode(&record, schemas)?;
        if events.send(Ok(Event::Page(record.number, page))).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// The stretches of rows that leave one after the other: which of the ports' rows, and which of them. Each has rows of one port, at most
/// so many, and none of another port lies between.
fn runs(ports: &[PortRows], from: u64, most: usize) -> Vec<(usize, std::ops::Range<usize>)> {
    let mut next: Vec<usize> =
        ports.iter().map(|of| of.places.partition_point(|place| u64::from(*place) < from)).collect();
    let mut runs = Vec::new();
    loop {
        let place = |port: usize| ports[port].places.get(next[port]).copied();
        let Some((first, port)) = (0..ports.len()).filter_map(|port| Some((place(port)?, port))).min() else { break };
        let others = (0..ports.len()).filter(|other| *other != port).filter_map(place).min();
        let places = &ports[port].places[next[port]..];
        let until = others.map_or(places.len(), |other| places.partition_point(|place| *place < other)).min(most);
        debug_assert!(places[0] == first);
        runs.push((port, next[port]..next[port] + until));
        next[port] += until;
    }
    runs
}

#[async_trait]
impl<S: Source> Input for Journal<S> {
    async fn open(&mut self, home: &Home) -> Result<()> {
        let running = match home {
            Home::Replay(folder) => self.replay(folder.as_deref())?,
            Home::Nowhere => self.begin(None).await?,
            Home::Folder(folder) => {
                let log = self.open_log(&folder.join(LOG))?;
                self.begin(Some(log)).await?
            }
            Home::Elsewhere => {
                return Err(Error::new(
                    "rows that are asked for are kept until a checkpoint covers them, and so it needs a state on this machine: \
                     `--state DIR` with a folder, not a URL",
                ));
            }
        };
        self.running = Some(running);
        Ok(())
    }

    async fn next(&mut self, out: &mut Collector) -> Result<Progress> {
        let running = self.running.as_mut().ok_or_else(|| Error::new("the input is not open"))?;
        match running.events.recv().await {
            Some(Ok(Event::Page(first, page))) => {
                if let (None, Some(covers)) = (&running.log, &running.covers) {
                    covers(&page.after);
                }
                self.push(first, page, out);
            }
            Some(Ok(Event::CaughtUp)) => return Ok(Progress::CaughtUp),
            Some(Ok(Event::End)) => return Ok(Progress::End),
            Some(Err(error)) => return Err(error),
            None => return Err(Error::new("what asks for rows has ended without a word")),
        }
        Ok(Progress::More)
    }

    fn snapshot(&mut self, positions: &Positions) -> Result<Parts> {
        let position = positions.get(PARTITION).copied();
        // Before its first row it has no position, and may have come somewhere nevertheless.
        let before = |(end, _): &&(u64, Vec<u8>)| position.is_none_or(|position| *end <= position);
        let mark = self.marks.iter().rev().find(before);
        let mut parts = Parts::default();
        parts.put(AFTER, &mark.map(|(_, after)| after))?;
        // With more of them than there are, one is covered a little later.
        if let (Some((_, after)), true) = (mark, self.taken.len() < SNAPSHOTS) {
            self.taken.push_back((position.unwrap_or(0), after.clone()));
        }
        Ok(parts)
    }

    fn restore(&mut self, positions: &Positions, state: &State) -> Result<()> {
        self.is_resumed = true;
        self.position = positions.get(PARTITION).copied().unwrap_or(0);
        let after: Option<Vec<u8>> = if state.has(AFTER) { state.get(AFTER)? } else { None };
        self.marks.extend(after.map(|after| (self.position, after)));
        Ok(())
    }

    async fn checkpoint_completed(&mut self, newest: &Positions, oldest: &Positions) -> Result<()> {
        self.cover(newest.get(PARTITION).copied().unwrap_or(0));
        let Some(position) = newest.get(PARTITION) else { return Ok(()) };
        while self.marks.get(1).is_some_and(|(end, _)| end <= position) {
            self.marks.pop_front();
        }
        let Some(Running { log: Some(log), trimmed, .. }) = &self.running else { return Ok(()) };
        // As long as there is room, rows can be gone through again from every checkpoint that is kept.
        let covered = if log.bytes() > self.options.max_log / 2 { newest } else { oldest };
        if let Some(position) = covered.get(PARTITION) {
            log.trim(*position)?;
        }
        trimmed.notify_one();
        Ok(())
    }

    fn report(&self) -> Option<Report> {
        self.running.as_ref().and_then(|running| (running.status)())
    }
}
