//! The input side: from the log into the flow.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use millstream_core::{
    Collector, Epoch, Error, Held, Home, Input, InputPlan, Intake, Parts, Positions, Problem, Progress, Report, Result,
    ResultExt, State,
};
use millstream_formats::Rows;
use millstream_store::{Access, Files, Log, LogOptions, LogReader, Record};
use tokio::sync::watch;

use super::contents::{Contents, ReadRecords};
use super::desk::{Desk, Replies};
use super::ingest::Ingest;
use super::keys::{Answered, Remember, SharedKeys, now};
use super::record::{Unpacked, fingerprint, unpack};
use super::{LOG, PushNode, Receiver};

/// How large a file of the log becomes at most; only whole ones can be removed.
const SEGMENT_BYTES: u64 = 16 << 20;

/// The piece of state that holds the keys of what came before a position.
const KEYS: &str = "answered";

/// The file beside the log that says that a checkpoint has covered rows of it, so that its beginning may be gone.
const COVERED: &str = "covered";

/// The one partition.
const PARTITION: &str = "";

/// How much is kept.
pub(super) struct Limits {
    /// How many bytes the log has at most.
    pub max_log: u64,
    /// For how long keys are known.
    pub remember: Remember,
}

/// An input whose rows are pushed.
pub struct PushInput {
    /// The type of the node.
    kind: &'static str,
    source: Arc<str>,
    contents: Arc<dyn Contents>,
    reader: Box<dyn ReadRecords>,
    /// How many bytes may come at once.
    largest: usize,
    max_log: u64,
    receiver: Box<dyn Receiver>,
    /// Where the log is.
    files: Arc<dyn Files>,
    /// The first row to read.
    position: u64,
    /// Whether a run before has taken rows.
    is_resumed: bool,
    keys: SharedKeys,
    /// Why nothing is taken, if nothing is.
    held: watch::Sender<Option<Held>>,
    decoding: Option<Decoding>,
    running: Option<Running>,
    waiting: Option<Waiting>,
}

/// Those who wait for answers.
struct Waiting {
    desk: Desk,
    replies: Replies,
    /// The columns, of which the last has the position of each row.
    schema: SchemaRef,
}

/// What there is between `open` and the end.
struct Running {
    reader: LogReader,
    /// Unless rows of a run before are gone through again.
    live: Option<Live>,
}

/// What takes new rows. What receives them goes first, and with it the other users of the log.
struct Live {
    _receiving: Box<dyn Send>,
    log: Arc<Log>,
    home: PathBuf,
    /// Whether it is written down that a checkpoint has covered rows.
    is_covered: bool,
}

/// A record whose rows are being read.
struct Decoding {
    first: u64,
    /// How many are left.
    rows: usize,
}

impl PushInput {
    pub(super) fn new(
        node: PushNode,
        source: Arc<str>,
        contents: Arc<dyn Contents>,
        limits: Limits,
        files: Arc<dyn Files>,
    ) -> Self {
        let PushNode { kind, largest, receiver } = node;
        Self {
            kind,
            source,
            reader: contents.reader(),
            contents,
            largest,
            max_log: limits.max_log,
            receiver,
            files,
            position: 0,
            is_resumed: false,
            keys: SharedKeys::new(limits.remember),
            held: watch::Sender::new(None),
            decoding: None,
            running: None,
            waiting: None,
        }
    }

    /// The same, if those who send rows wait at a desk for what the flow makes of them. A column of this name behind the others has the
    /// position of each row, which an answer has to name.
    ///
    /// # Errors
    /// If there is such a column already.
    pub fn answered(self, column: &str, desk: Desk, replies: Replies) -> Result<Self, Problem> {
        let schema = self.contents.schema();
        if schema.field_with_name(column).is_ok() {
            let problem = Problem::new(format!("the rows have a column `{column}` already"));
            return Err(problem
                .help("`column` gives the one with their positions another name")
                .at(["respond", "column"]));
        }
        let position = Arc::new(Field::new(column, DataType::Int64, false));
        let fields = schema.fields().iter().cloned().chain([position]);
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        Ok(Self { waiting: Some(Waiting { desk, replies, schema }), ..self })
    }

    /// The columns that come.
    pub fn schema(&self) -> SchemaRef {
        self.waiting.as_ref().map_or_else(|| self.contents.schema(), |waiting| waiting.schema.clone())
    }

    /// The plan of a node that is this input.
    pub fn plan(self) -> InputPlan {
        let is_answered = self.waiting.is_some();
        InputPlan { finite: false, acknowledges: true, is_answered, ..InputPlan::new(self.schema(), move || Ok(self)) }
    }

    /// Opens the log of a run before, to go through its rows again.
    fn open_again(&mut self, folder: &Path) -> Result<()> {
        let reader = LogReader::of_folder(self.files.clone(), &folder.join(LOG), self.position)?;
        self.running = Some(Running { reader, live: None });
        Ok(())
    }

    fn open_log(&self, folder: &Path) -> Result<Arc<Log>> {
        if self.is_resumed && !self.files.exists(folder).doing(|| format!("looking for `{}`", folder.display()))? {
            return Err(is_missing(folder, self.position));
        }
        let options = LogOptions { segment_bytes: SEGMENT_BYTES.min(self.max_log / 4), max_bytes: self.max_log };
        Ok(Arc::new(Log::open(self.files.clone(), folder, options)?))
    }

    /// Learns the keys of the records that are not covered by the snapshot.
    fn remember_all(&self, mut reader: LogReader) -> Result<()> {
        while let Some(record) = reader.try_next()? {
            self.remember(&record)?;
        }
        Ok(())
    }

    /// Remembers the key of a record, and returns its rows as they came. A snapshot that covers a record must know its key,
    /// so that it is not left to the thread that answers.
    fn remember<'a>(&self, record: &'a Record) -> Result<Unpacked<'a>> {
        let number = record.number;
        let unpacked = unpack(&record.payload);
        let unpacked =
            unpacked.ok_or_else(|| Error::new(format!("record {number} of the log is none of this input")))?;
        if let Some(key) = &unpacked.key {
            let fingerprint = fingerprint(&record.payload);
            self.keys.lock().answered(key, Answered { first: number, rows: record.rows, fingerprint }, now());
        }
        Ok(unpacked)
    }

    /// Begins to read the rows of a record.
    fn begin(&mut self, record: &Record) -> Result<()> {
        let Unpacked { tag, bytes, .. } = self.remember(record)?;
        let rows = record.rows as usize;
        self.reader.begin(tag, bytes, rows).doing(|| format!("reading what was pushed at {}", record.number))?;
        self.decoding = Some(Decoding { first: record.number, rows });
        // Of a record that a run before has begun, nobody knows all answers.
        if let Some(waiting) = self.waiting.as_ref().filter(|_| self.position <= record.number) {
            waiting.desk.read(record.number, rows);
        }
        Ok(())
    }

    /// Adds rows of the record that is being read. Returns false if there are no more.
    fn decode(&mut self, rows: &mut Rows) -> Result<bool> {
        let Some(decoding) = &mut self.decoding else { return Ok(false) };
        let first = decoding.first;
        let mut read = Rows::default();
        if !self.reader.next(&mut read).doing(|| format!("reading what was pushed at {first}"))? {
            let left = std::mem::take(&mut self.decoding).map_or(0, |decoding| decoding.rows);
            return if left == 0 { Ok(false) } else { Err(miscounted(first)) };
        }
        decoding.rows = decoding.rows.checked_sub(read.len()).ok_or_else(|| miscounted(first))?;
        // The flow may go on in the middle of a record.
        read.drop_before(self.position.saturating_sub(first));
        rows.append(read, first);
        Ok(true)
    }

    /// How far it had come there.
    fn position_in(&self, positions: &Positions) -> u64 {
        positions.get(PARTITION).copied().unwrap_or(self.position)
    }

    /// Why it can't run here.
    fn needs_a_folder(&self, home: &Home) -> Error {
        let why = format!("`{}` acknowledges rows only when they are durable", self.kind);
        Error::new(if *home == Home::Nowhere {
            format!("{why}, and so needs `millstream run --state DIR`")
        } else {
            format!("{why}, and so needs a state on this machine: `--state DIR` with a folder, not a URL")
        })
    }
}

#[async_trait]
impl Input for PushInput {
    async fn open(&mut self, home: &Home) -> Result<()> {
        if let Home::Replay(folder) = home {
            return self.open_again(folder.as_deref().ok_or_else(|| self.needs_a_folder(home))?);
        }
        let home = home.folder().ok_or_else(|| self.needs_a_folder(home))?;
        let log = self.open_log(&home.join(LOG))?;
        let covered = home.join(COVERED);
        let is_covered = self.files.exists(&covered).doing(|| format!("looking for `{}`", covered.display()))?;
        if !self.is_resumed && is_covered {
            // It begins from scratch, with what is left.
            self.position = log.oldest();
        }
        self.remember_all(log.read(self.position)?)?;
        let reader = log.read(self.position)?;
        if let Some(waiting) = &self.waiting {
            waiting.desk.open(waiting.replies, self.position);
        }
        let (contents, held) = (self.contents.clone(), self.held.subscribe());
        let ingest = Ingest::new(contents, self.keys.clone(), log.clone(), home, self.largest, held);
        let live = Live { _receiving: self.receiver.start(ingest).await?, log, home: home.to_owned(), is_covered };
        self.running = Some(Running { reader, live: Some(live) });
        Ok(())
    }

    async fn next(&mut self, out: &mut Collector) -> Result<Progress> {
        let mut rows = Rows::default();
        // Waits only while it has no rows, so that none is lost if it is dropped there.
        while rows.len() < self.contents.batch_rows() {
            if self.decode(&mut rows)? {
                continue;
            }
            let running = self.running.as_mut().ok_or_else(|| Error::new("the input is not open"))?;
            let record = if rows.is_empty() && running.live.is_some() {
                running.reader.next().await?
            } else {
                match running.reader.try_next()? {
                    Some(record) => record,
                    None => break,
                }
            };
            self.begin(&record)?;
        }
        let progress = if rows.is_empty() { Progress::End } else { Progress::More };
        rows.join_neighbours(self.contents.batch_rows())?;
        rows.cut(self.contents.batch_rows());
        if let Some(waiting) = &self.waiting {
            waiting.add_positions(&mut rows)?;
        }
        rows.send(&self.source, &PARTITION.into(), out);
        Ok(progress)
    }

    fn barrier(&mut self, epoch: Epoch, positions: &Positions) {
        if let Some(waiting) = &self.waiting {
            waiting.desk.barrier(epoch, self.position_in(positions));
        }
    }

    fn snapshot(&mut self, positions: &Positions) -> Result<Parts> {
        let position = self.position_in(positions);
        let mut parts = Parts::default();
        parts.put_later(KEYS, self.keys.lock().before(position));
        Ok(parts)
    }

    fn restore(&mut self, positions: &Positions, state: &State) -> Result<()> {
        self.is_resumed = true;
        self.position = positions.get(PARTITION).copied().unwrap_or(0);
        self.keys.lock().restore(state.get(KEYS)?);
        Ok(())
    }

    async fn checkpoint_completed(&mut self, newest: &Positions, oldest: &Positions) -> Result<()> {
        let Some(live) = self.running.as_mut().and_then(|running| running.live.as_mut()) else { return Ok(()) };
        live.note_covered(&*self.files)?;
        let log = &live.log;
        // As long as there is room, rows can be gone through again from every checkpoint that is kept.
        let covered = if log.bytes() > self.max_log / 2 { newest } else { oldest };
        covered.get(PARTITION).map_or(Ok(()), |position| log.trim(*position))
    }

    fn hold(&mut self, held: Option<&Held>) {
        self.held.send_replace(held.cloned());
    }

    fn intake(&self) -> Option<Arc<dyn Intake>> {
        self.receiver.intake()
    }

    fn report(&self) -> Option<Report> {
        self.receiver.report()
    }
}

impl Waiting {
    /// Adds to each row its position.
    fn add_positions(&self, rows: &mut Rows) -> Result<()> {
        for (start, batch) in &mut rows.batches {
            let positions = *start as i64..(*start + batch.num_rows() as u64) as i64;
            let column: ArrayRef = Arc::new(Int64Array::from_iter_values(positions));
            let columns = batch.columns().iter().cloned().chain([column]);
            *batch = RecordBatch::try_new(self.schema.clone(), columns.collect())?;
        }
        Ok(())
    }
}

impl Live {
    /// Writes down that a checkpoint has covered rows, before any of them is trimmed away.
    fn note_covered(&mut self, files: &dyn Files) -> Result<()> {
        if self.is_covered {
            return Ok(());
        }
        let path = self.home.join(COVERED);
        files
            .create_new(&path, Access::Private)
            .and_then(|_| files.sync_folder(&self.home))
            .doing(|| format!("creating `{}`", path.display()))?;
        self.is_covered = true;
        Ok(())
    }
}

/// Why it can't be resumed, when the flow has all rows before `position`. Only the log says how many came behind them.
fn is_missing(log: &Path, position: u64) -> Error {
    let taken = match position {
        0 => "no row is in the flow yet".to_owned(),
        position => format!("rows 0 to {} are in the flow, and are not lost", position - 1),
    };
    Error::new(format!(
        "the log `{}` is missing, and with it rows that were acknowledged from {position} on, if there were any ({taken}): put it \
         back from a copy; `--reset` of the node resumes without these rows, which are lost then",
        log.display()
    ))
}

fn miscounted(first: u64) -> Error {
    Error::new(format!(
        "what was pushed at {first} has other rows than when it was taken: the settings of `format` were changed meanwhile"
    ))
}
