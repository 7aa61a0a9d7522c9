//! The log of requests: which rows were predicted, and what became of them, durable before anybody is answered.
//!
//! Each row that is predicted is written into the log of a folder with its features, and its number there is its id. Whoever learns what became of it
//! sends a label by that id; the row is written once more, with the label, which is one row for the flow that learns from it. So a flow reads
//! rows as any input gives them, and neither it nor this process has to remember those whose labels are still to come.
//!
//! The process that serves owns the folder. Flows read it, perhaps in other processes, and leave marks in it that say how far they have come
//! ([`millstream_store::LogMark`]); what all of them have taken, and is too old to be labelled, is trimmed away.

mod ids;
mod label;
mod learn;
mod lines;
mod record;

use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arrow::array::{ArrayRef, RecordBatch};
use millstream_core::{Error, Result, ResultExt as _};
use millstream_store::{LocalFiles, Log, LogMarks, LogOptions, Mark};

use crate::served::Served;

pub use ids::{Ids, Names};
pub use learn::{Learned, Sent};
#[cfg(test)]
pub use record::pack;
pub use record::{Head, Kind, Labelled, unpack};

/// How large a file of the log becomes at most; only whole ones can be removed.
const SEGMENT_BYTES: u64 = 16 << 20;

/// How often it is looked what can be removed.
const TIDY: Duration = Duration::from_secs(5);

/// What bounds a log.
#[derive(Clone, Copy, Debug)]
pub struct LogLimits {
    /// How many bytes it may take.
    pub bytes: u64,
    /// How long a label may come after its prediction.
    pub labels_within: Duration,
}

/// The log of requests.
pub struct RequestLog {
    log: Log,
    folder: PathBuf,
    names: Names,
    limits: LogLimits,
    labelled: LabelledRows,
    /// Whether somebody has taken the folder away, or put another log in its place.
    is_gone: AtomicBool,
}

/// By the numbers of the rows that have a label, what it is known by; none while it is being written.
#[derive(Clone, Default)]
struct LabelledRows(Arc<Mutex<BTreeMap<u64, Option<u64>>>>);

impl LabelledRows {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Option<u64>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that rows have got their labels, or have not.
    fn written(&self, of: &[(u64, u64)], is_durable: bool) {
        let mut labelled = self.lock();
        for (number, label) in of {
            if is_durable {
                labelled.insert(*number, Some(*label));
            } else {
                labelled.remove(number);
            }
        }
    }
}

impl RequestLog {
    /// Opens the log in a folder, which is created if need be, for nobody else to read.
    ///
    /// # Errors
    /// If another process has it open, it is damaged, or the folder has files of others in it.
    pub fn open(folder: &Path, limits: LogLimits) -> Result<Arc<Self>> {
        check_folder(folder)?;
        // First, so that a folder with anything of a log in it has a name.
        Names::begin(folder)?;
        let segment_bytes = SEGMENT_BYTES.min(limits.bytes / 8);
        let log = Log::open(Arc::new(LocalFiles), folder, LogOptions { segment_bytes, max_bytes: limits.bytes })?;
        let names = Names::of(folder)?;
        let labelled = LabelledRows::default();
        let mut reader = log.read(log.oldest())?;
        while let Some(found) = reader.try_next()? {
            let (head, _) = unpack(&found.payload).doing(|| format!("opening the log `{}`", folder.display()))?;
            if let Kind::Labelled { of } = head.kind {
                labelled.lock().extend(of.into_iter().map(|of| (of.number, Some(of.label))));
            }
        }
        let (folder, is_gone) = (folder.to_owned(), AtomicBool::new(false));
        Ok(Arc::new(Self { log, folder, names, limits, labelled, is_gone }))
    }

    /// Writes rows that were predicted. Returns their ids when they are durable.
    ///
    /// # Errors
    /// If they can't be written, for instance since the log is full.
    pub async fn predicted(&self, served: &Served, rows: &RecordBatch, predicted: &[ArrayRef]) -> Result<Ids> {
        self.check_there()?;
        let schema = rows.schema();
        let features = schema.fields().iter().map(|field| field.name().as_str()).zip(rows.columns());
        // A feature may have the name of one of them, and no key is there twice.
        let outputs = served.outputs.iter().map(|output| output.name.as_str()).zip(predicted);
        let outputs = outputs.filter(|(name, _)| schema.column_with_name(name).is_none());
        let lines = lines::lines(features.chain(outputs), rows.num_rows())?;
        let kind = Kind::Predicted { version: served.version };
        let payload = record::pack(&Head { model: served.model.clone(), at: now(), kind }, &lines)?;
        let count = u32::try_from(rows.num_rows()).doing(|| "writing the log of requests")?;
        let first = self.log.append(payload, count).await?;
        Ok(self.names.ids(first, rows.num_rows()))
    }

    /// Removes what nobody needs, again and again, for as long as it is awaited.
    pub async fn keep_tidy(self: Arc<Self>) {
        loop {
            tokio::time::sleep(TIDY).await;
            let log = self.clone();
            match tokio::task::spawn_blocking(move || log.tidy()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!("the log of requests can't be looked after: {error}"),
                // It was reported when it happened.
                Err(_) => return,
            }
        }
    }

    /// Removes what nobody needs: files of which all that read the log have taken everything, and that are too old to be labelled, or in the way of what is new.
    ///
    /// # Errors
    /// If the log or a mark can't be read, or a file not be removed.
    pub fn tidy(&self) -> Result<()> {
        if Names::read(&self.folder)?.is_none_or(|names| names.log() != self.names.log()) {
            self.is_gone.store(true, Ordering::Relaxed);
        }
        self.check_there()?;
        // What nobody has read yet stays: whoever has sent a label was told that it will be learned.
        let Some(Mark { needed, wanted }) = LogMarks::read(&LocalFiles, &self.folder)?.least() else { return Ok(()) };
        let mut finder = self.log.finder();
        while let Some(second) = self.log.second() {
            let is_crowded = self.log.bytes() > self.limits.bytes / 2;
            if second > if is_crowded { wanted.max(needed) } else { needed } {
                break;
            }
            let newer = finder.find(second)?.map(|record| unpack(&record.payload).map(|(head, _)| head.at));
            if !is_crowded && newer.transpose()?.is_none_or(|at| !self.is_late(at)) {
                break;
            }
            self.log.trim(second)?;
        }
        let oldest = self.log.oldest();
        let mut labelled = self.labelled.lock();
        *labelled = labelled.split_off(&oldest);
        Ok(())
    }

    /// Refuses to write what nobody would find.
    fn check_there(&self) -> Result<()> {
        if !self.is_gone.load(Ordering::Relaxed) {
            return Ok(());
        }
        let folder = self.folder.display();
        Err(Error::new(format!(
            "the log of requests is gone from `{folder}`; start the server again for another one to begin"
        )))
    }

    /// How many bytes it takes.
    pub fn bytes(&self) -> u64 {
        self.log.bytes()
    }

    /// Whether what came at a time is too old to be labelled.
    fn is_late(&self, at: i64) -> bool {
        let age = now().saturating_sub(at);
        u128::try_from(age).is_ok_and(|age| age > self.limits.labels_within.as_micros())
    }
}

impl fmt::Debug for RequestLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestLog").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// Refuses a folder that is no log, and no empty one in which one could begin. Flows may have left their marks already.
fn check_folder(folder: &Path) -> Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.doing(|| format!("opening the log `{}`", folder.display()))?,
    };
    let names: Vec<_> = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    let is_ours = |name: &str| name == "readers" || name.starts_with('.');
    match names.iter().find(|name| !is_ours(name)) {
        Some(other) if !folder.join(ids::FILE).is_file() => {
            let folder = folder.display();
            let problem = format!("`{folder}` has `{other}` in it, and is no log of requests");
            Err(Error::new(format!("{problem}; name a folder that is empty or not there")))
        }
        _ => Ok(()),
    }
}

/// What time it is, in microseconds since 1970.
#[expect(clippy::disallowed_methods, reason = "when rows are predicted and labelled is a time of the world")]
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
