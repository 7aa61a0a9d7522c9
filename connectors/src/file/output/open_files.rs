//! The files that are being written, one in each folder: which rows go to which, and when one is whole.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use millstream_core::{Barrier, Result, Run, Then};
use millstream_formats::WriteOptions;
use tokio::time::Instant;

use super::partition::{Partitioning, shares};
use crate::file::disk::remove;
use crate::file::staging::{FinishedFile, Staged, Unfinished};

/// When a file of a folder is whole.
#[derive(Clone, Debug)]
pub struct Limits {
    /// It has at most so many rows.
    pub rows: usize,
    /// It is ended when it has so many bytes.
    pub bytes: u64,
    /// It is ended at the first checkpoint after this time.
    pub time: Option<Duration>,
    /// So many are open at once.
    pub open: usize,
}

/// How a file begins.
pub struct Beginning {
    /// Where it will be.
    pub path: PathBuf,
    /// How it is written.
    pub options: WriteOptions,
    /// The file whose bytes come first.
    pub append_to: Option<PathBuf>,
}

/// Says how the next file in a folder begins, which has this number among those of the folder and the epoch.
pub type Begin<'a> = dyn FnMut(&Path, u32) -> Result<Beginning> + Send + 'a;

/// The files that are being written.
pub struct OpenFiles {
    /// How they are written.
    pub options: WriteOptions,
    /// Their columns.
    pub schema: SchemaRef,
    /// When they are whole.
    pub limits: Limits,
    /// How rows are divided among folders, if they are.
    pub partitioning: Option<Partitioning>,
    /// How many files were begun in this epoch, by their folders.
    begun: HashMap<PathBuf, u32>,
    /// How many rows were divided.
    divided: u64,
    /// By their folders below that of the output.
    pub(super) open: BTreeMap<PathBuf, Open>,
    /// The files that are whole, and not handed over yet.
    pub finished: Vec<FinishedFile>,
    /// The run that writes them.
    pub run: Run,
}

/// A file that is being written, and since when.
pub(super) struct Open {
    pub staged: Staged,
    since: Instant,
    /// How old it was then.
    age: Duration,
    /// The number of its last row among those that were divided.
    pub used: u64,
}

impl Open {
    /// A file that is begun, or gone on with, when it is so old.
    fn new(staged: Staged, age: Duration, used: u64) -> Self {
        Self { staged, since: Instant::now(), age, used }
    }

    /// How old it is.
    fn age(&self) -> Duration {
        self.age + self.since.elapsed()
    }

    /// Writes down everything; see [`Staged::pause`].
    #[expect(clippy::disallowed_methods, reason = "a file is as old in the next run as the clock of the machine says")]
    fn pause(&mut self) -> Result<(Unfinished, fs::File)> {
        let now = SystemTime::now();
        self.staged.pause(now.checked_sub(self.age()).unwrap_or(now))
    }
}

impl OpenFiles {
    /// None yet.
    pub fn new(options: WriteOptions, schema: SchemaRef, limits: Limits, partitioning: Option<Partitioning>) -> Self {
        Self {
            options,
            schema,
            limits,
            partitioning,
            begun: HashMap::new(),
            divided: 0,
            open: BTreeMap::new(),
            finished: Vec::new(),
            run: Run::default(),
        }
    }

    /// Whether a run after a crash goes on with what this one has begun.
    pub fn is_durable(&self) -> bool {
        self.run.generation > 0
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Begins a file in a folder.
    pub fn begin(&mut self, folder: &Path, begin: &mut Begin<'_>) -> Result<()> {
        let number = self.begun.entry(folder.to_owned()).or_default();
        *number += 1;
        let Beginning { path, options, append_to } = begin(folder, *number)?;
        let staged = Staged::start(path, options, &self.schema, append_to.as_deref(), &self.run)?;
        self.open.insert(folder.to_owned(), Open::new(staged, Duration::ZERO, 0));
        Ok(())
    }

    /// Writes rows, in the folders that they belong into.
    pub fn write(&mut self, rows: RecordBatch, begin: &mut Begin<'_>) -> Result<()> {
        let Some(partitioning) = &mut self.partitioning else { return self.write_to(Path::new(""), rows, begin) };
        let (rows, folders) = partitioning.split(&rows)?;
        self.divide(&rows, &folders, begin)
    }

    /// Writes rows that belong into one folder.
    fn write_to(&mut self, folder: &Path, mut rows: RecordBatch, begin: &mut Begin<'_>) -> Result<()> {
        while rows.num_rows() > 0 {
            if !self.open.contains_key(folder) {
                self.begin(folder, begin)?;
            }
            let Some(Open { staged, .. }) = self.open.get_mut(folder) else { continue };
            let written = staged.write(&rows, self.limits.rows - staged.rows)?;
            let is_full = staged.rows >= self.limits.rows;
            if is_full || (self.limits.bytes < u64::MAX && staged.bytes()? >= self.limits.bytes) {
                self.finish(folder)?;
            }
            rows = rows.slice(written, rows.num_rows() - written);
        }
        Ok(())
    }

    /// Writes rows that are divided among folders, as if one came after the other.
    fn divide(&mut self, rows: &RecordBatch, folders: &[Arc<Path>], begin: &mut Begin<'_>) -> Result<()> {
        let mut first = 0;
        while first < folders.len() {
            let count = self.room(&folders[first..]);
            for share in shares(&rows.slice(first, count), &folders[first..first + count])? {
                self.write_to(&share.folder, share.rows, begin)?;
                if let Some(open) = self.open.get_mut(&*share.folder) {
                    open.used = self.divided + share.last as u64 + 1;
                }
            }
            self.divided += count as u64;
            first += count;
            if first < folders.len() && self.open.len() >= self.limits.open {
                let longest = self.open.iter().min_by_key(|(_, open)| open.used).map(|(folder, _)| folder.clone());
                longest.map_or(Ok(()), |folder| self.finish(&folder))?;
            }
        }
        Ok(())
    }

    /// How many rows can be written before one needs a file more than may be open.
    fn room(&self, folders: &[Arc<Path>]) -> usize {
        let mut more: HashSet<&Path> = HashSet::new();
        for (row, folder) in folders.iter().enumerate() {
            let is_new = !self.open.contains_key(&**folder) && more.insert(folder);
            if is_new && self.open.len() + more.len() > self.limits.open {
                return row;
            }
        }
        folders.len()
    }

    /// Ends a file that is open.
    pub fn finish(&mut self, folder: &Path) -> Result<()> {
        if let Some(open) = self.open.remove(folder) {
            let part = open.staged.part.clone();
            match open.staged.finish() {
                Ok(whole) => self.finished.push(whole),
                // A run that goes on from the last checkpoint needs what that has left there.
                Err(error) if self.is_durable() => return Err(error),
                Err(error) => return remove(&part).and(Err(error)),
            }
        }
        Ok(())
    }

    /// An epoch has ended: numbers begin again.
    pub fn end_epoch(&mut self) {
        self.begun.clear();
    }

    /// Ends the files that are whole at a barrier, and writes down those that are gone on with: what it takes to do so, and the files
    /// that are still to be made durable. Those that are whole are gone on with as well where `goes_on` says so.
    pub fn pause(&mut self, barrier: Barrier, goes_on: bool) -> Result<(Vec<Unfinished>, Vec<fs::File>)> {
        let whole = self.whole_at(barrier);
        let mut open: Vec<_> = self.open.iter_mut().filter(|(folder, _)| goes_on || !whole.contains(folder)).collect();
        // In this order, a run that goes on knows which was without rows for longest.
        open.sort_by_key(|(_, open)| open.used);
        let paused = open.into_iter().map(|(_, open)| open.pause()).collect::<Result<Vec<_>>>()?;
        whole.iter().try_for_each(|folder| self.finish(folder))?;
        Ok(paused.into_iter().unzip())
    }

    /// The folders of the files that are whole at a barrier: of all at the last one, else of those that have been open for too long.
    fn whole_at(&self, barrier: Barrier) -> Vec<PathBuf> {
        let is_due = |open: &Open| self.limits.time.is_some_and(|time| open.age() >= time);
        let is_whole = |open: &Open| barrier.then != Then::Continue || is_due(open);
        self.open.iter().filter(|(_, open)| is_whole(open)).map(|(folder, _)| folder.clone()).collect()
    }

    /// Goes on with a file that a run before has begun, in a folder; or ends it, if its columns are others now.
    #[expect(clippy::disallowed_methods, reason = "the ages of files are told by the clock of the machine")]
    pub fn go_on(&mut self, folder: PathBuf, unfinished: Unfinished, is_whole: bool) -> Result<()> {
        let age = SystemTime::now().duration_since(unfinished.begun).unwrap_or_default();
        if is_whole {
            self.finished.push(Staged::end(unfinished, self.options.clone(), &self.schema, &self.run)?);
            return Ok(());
        }
        let staged = Staged::go_on(unfinished, self.options.clone(), &self.schema, &self.run)?;
        self.divided += 1;
        self.open.insert(folder, Open::new(staged, age, self.divided));
        Ok(())
    }

    /// Where the files are that are open.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.open.values().map(|open| open.staged.path.as_path())
    }

    /// Lets all files go, those that are open and those that are whole: their paths until then.
    pub fn abandon(&mut self) -> Vec<PathBuf> {
        let open = std::mem::take(&mut self.open).into_values().map(|open| open.staged.part);
        open.chain(std::mem::take(&mut self.finished).into_iter().map(|whole| whole.part)).collect()
    }
}
