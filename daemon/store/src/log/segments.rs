//! What the writer of a log and its readers share: which segments there are, and how far they are durable.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use millstream_core::{Error, Result, ResultExt};
use tokio::sync::watch;

use super::record::{START, Salt};
use crate::files::is_missing;
use crate::{Files, crash};

/// The path of the segment of `folder` that begins with this number.
pub fn path(folder: &Path, first: u64) -> PathBuf {
    folder.join(format!("{first:020}.log"))
}

/// The first number of the segment of a file of that name.
pub fn number_of(name: &str) -> Option<u64> {
    name.strip_suffix(".log").filter(|digits| digits.len() == 20)?.parse().ok()
}

/// The segments of a log.
#[derive(Debug)]
pub struct Segments {
    pub files: Arc<dyn Files>,
    pub folder: PathBuf,
    /// By the number of their first record, how many bytes of records they have.
    by_number: Mutex<BTreeMap<u64, u64>>,
    /// The number behind the last durable record.
    end: watch::Sender<u64>,
    /// How many bytes the segments have, and the records that wait to be written.
    bytes: AtomicU64,
    /// Where some of the records begin, by their numbers: as those have passed them who look for single ones.
    known: Mutex<BTreeMap<u64, Known>>,
}

/// Where a record begins.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// The first number of its segment.
    pub first: u64,
    /// That of its segment.
    pub salt: Salt,
    /// The place in the segment.
    pub place: u64,
}

/// How many bytes lie between records of which it is known where they begin.
const STRIDE: u64 = 32 << 10;

impl Segments {
    /// The segments that are in a folder: numbers, and bytes. All before `end` is durable.
    pub fn new(files: Arc<dyn Files>, folder: PathBuf, by_number: BTreeMap<u64, u64>, end: u64) -> Self {
        let bytes = AtomicU64::new(by_number.values().sum());
        Self {
            files,
            folder,
            by_number: Mutex::new(by_number),
            end: watch::Sender::new(end),
            bytes,
            known: Mutex::default(),
        }
    }

    fn by_number(&self) -> MutexGuard<'_, BTreeMap<u64, u64>> {
        self.by_number.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The path of the segment that begins with this number.
    pub fn path(&self, first: u64) -> PathBuf {
        path(&self.folder, first)
    }

    /// The number behind the last durable record.
    pub fn end(&self) -> u64 {
        *self.end.borrow()
    }

    /// Tells when records have become durable.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.end.subscribe()
    }

    /// How many bytes there are, with those that wait to be written.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Counts bytes that are to be written, if there are `most` then. Else returns false.
    pub fn reserve(&self, bytes: u64, most: u64) -> bool {
        let fits = |now: u64| now.checked_add(bytes).filter(|sum| *sum <= most);
        self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    /// Bytes that were reserved were not written.
    pub fn release(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// There is a new, empty segment.
    pub fn begun(&self, first: u64) {
        self.by_number().insert(first, 0);
    }

    /// The segment that begins with `first` has more durable bytes, up to record `end`.
    pub fn grown(&self, first: u64, bytes: u64, end: u64) {
        *self.by_number().entry(first).or_default() += bytes;
        self.end.send_replace(end);
    }

    /// Another process has written more: these are the segments now, and all before `end` is durable.
    pub fn replaced(&self, by_number: BTreeMap<u64, u64>, end: u64) {
        *self.by_number() = by_number;
        self.end.send_replace(end);
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<u64, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last record up to `number` in its segment of which it is known where it begins.
    pub fn near(&self, number: u64) -> Option<(u64, Known)> {
        let first = self.holding(number).ok()?;
        self.known().range(first..=number).next_back().map(|(number, known)| (*number, *known))
    }

    /// Notes where a record begins, unless that is known of one shortly before.
    pub fn passed(&self, number: u64, here: Known) {
        let mut known = self.known();
        let before = known.range(here.first..=number).next_back().map_or(0, |(_, before)| before.place);
        if here.place >= before + STRIDE {
            known.insert(number, here);
        }
    }

    /// The first number of the segment in which a record is.
    pub fn holding(&self, number: u64) -> Result<u64> {
        let first = self.by_number().range(..=number).next_back().map(|(first, _)| *first);
        first.ok_or_else(|| self.gone(number))
    }

    /// A record that was trimmed away.
    pub fn gone(&self, number: u64) -> Error {
        let folder = self.folder.display();
        Error::new(format!(
            "record {number} is no longer in the log `{folder}`; an older checkpoint was restored, or the log's first files were \
             removed"
        ))
    }

    /// The first number of the first segment.
    pub fn oldest(&self) -> u64 {
        self.by_number().first_key_value().map_or(0, |(first, _)| *first)
    }

    /// The first number of the segment behind the one that begins with `first`.
    pub fn behind(&self, first: u64) -> Option<u64> {
        self.by_number().range(first + 1..).next().map(|(next, _)| *next)
    }

    /// How many bytes of the segment that begins with `first` are durable.
    pub fn length(&self, first: u64) -> u64 {
        START as u64 + self.by_number().get(&first).copied().unwrap_or(0)
    }

    /// Whether a segment begins with this number.
    pub fn begins(&self, number: u64) -> bool {
        self.by_number().contains_key(&number)
    }

    /// Removes the segments of which no record from `number` on is needed.
    pub fn trim(&self, number: u64) -> Result<()> {
        let Ok(keep) = self.holding(number.min(self.end())) else { return Ok(()) };
        loop {
            let oldest = self.by_number().range(..keep).next().map(|(first, bytes)| (*first, *bytes));
            let Some((first, bytes)) = oldest else { return Ok(()) };
            crash::point("log-trim");
            let path = self.path(first);
            self.remove(&path).doing(|| format!("removing `{}`", path.display()))?;
            self.by_number().remove(&first);
            self.release(bytes);
            self.known().retain(|number, _| *number >= keep);
        }
    }

    /// Removes a segment, for good: if a crash brought it back without the one behind it, that one would seem to be lost.
    fn remove(&self, path: &Path) -> io::Result<()> {
        match self.files.remove(path) {
            Err(error) if !is_missing(&error) => Err(error),
            _ => self.files.sync_folder(&self.folder),
        }
    }
}
