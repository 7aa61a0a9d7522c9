//! The files that an output writes, from its claim to what it stages.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use millstream_core::{
    Barrier, Batch, Collector, Committer, Epoch, Home, Output, PriorOutput, Result, ResultExt, Run, Snapshot, State,
    Then,
};
use millstream_formats::WriteOptions;
use millstream_store::crash;
use tokio::time::Instant;

use super::IfExists;
use super::begin::exists;
use super::kept::{COLUMNS, Columns, PROGRESS, Progress, columns};
use super::partition::Partitioning;
use crate::file::claim::{Claim, Claimed};
use crate::file::disk::{create_folder, remove, resolve, sync_folder};
use crate::file::hidden;
use crate::file::ledger::{Ledger, Published};
use crate::file::publish::{Publisher, STAGED};
use crate::file::staging::{FinishedFile, Staged, Unfinished};
use crate::file::target::{Base, Target};

/// When a file of a folder is whole.
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

/// The output itself.
pub struct Files {
    pub(super) target: Target,
    /// What paths in the state are relative to.
    pub(super) base: Base,
    pub(super) options: WriteOptions,
    pub(super) schema: SchemaRef,
    pub(super) if_exists: IfExists,
    pub(super) limits: Limits,
    /// How rows are divided among folders, if they are.
    pub(super) partitioning: Option<Partitioning>,
    /// How many files were begun in this epoch, by their folders, where rows are divided.
    pub(super) begun: HashMap<PathBuf, u32>,
    /// How many rows were divided.
    pub(super) divided: u64,
    /// What outlives the run.
    pub(super) progress: Progress,
    /// The ledgers of other states, which go when the first files of this flow are published, as somebody has said they may.
    pub(super) others: Vec<PathBuf>,
    /// Whether the files that the run before has begun may have other columns.
    pub(super) has_other_columns: bool,
    /// Keeps other runs away, from the start to the end.
    pub(super) claim: Option<Arc<Claim>>,
    pub(super) claimed: Claimed,
    /// The files that are being written, by their folders below that of the output.
    pub(super) open: BTreeMap<PathBuf, Open>,
    /// The files that are whole, and not handed over yet.
    pub(super) finished: Vec<FinishedFile>,
    /// The epoch that rows belong to now.
    pub(super) epoch: Epoch,
    pub(super) run: Run,
    /// How many publications this run has staged.
    pub(super) publications: u64,
}

/// A file that is being written, and since when.
pub(super) struct Open {
    pub(super) staged: Staged,
    since: Instant,
    /// How old it was then.
    age: Duration,
    /// The number of its last row among those that were divided.
    pub(super) used: u64,
}

impl Open {
    /// A file that is begun, or gone on with, when it is so old.
    pub(super) fn new(staged: Staged, age: Duration, used: u64) -> Self {
        Self { staged, since: Instant::now(), age, used }
    }

    /// How old it is.
    pub(super) fn age(&self) -> Duration {
        self.age + self.since.elapsed()
    }

    /// Writes down everything; see [`Staged::pause`].
    #[expect(clippy::disallowed_methods, reason = "a file is as old in the next run as the clock of the machine says")]
    pub(super) fn pause(&mut self) -> Result<(Unfinished, fs::File)> {
        let now = SystemTime::now();
        self.staged.pause(now.checked_sub(self.age()).unwrap_or(now))
    }
}

impl Files {
    /// Files with these columns.
    pub fn new(
        target: Target,
        schema: SchemaRef,
        if_exists: IfExists,
        limits: Limits,
        partitioning: Option<Partitioning>,
    ) -> Self {
        Self {
            options: target.options(),
            base: target.base(),
            target,
            schema,
            if_exists,
            limits,
            partitioning,
            begun: HashMap::new(),
            divided: 0,
            progress: Progress::default(),
            others: Vec::new(),
            has_other_columns: false,
            claim: None,
            claimed: Claimed::default(),
            open: BTreeMap::new(),
            finished: Vec::new(),
            epoch: Epoch::default().next(),
            run: Run::default(),
            publications: 0,
        }
    }

    /// Whether a run after a crash goes on with what this one has begun.
    pub(super) fn is_durable(&self) -> bool {
        self.run.generation > 0
    }

    /// Ends a file that is open.
    pub(super) fn finish(&mut self, folder: &Path) -> Result<()> {
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

    /// The ledger of what the flow has published, if it keeps state.
    pub(super) fn ledger(&self) -> Option<PathBuf> {
        self.is_durable().then(|| hidden::ledger(&self.target.place(), &self.run))
    }

    /// Writes rows that belong into one folder.
    pub(super) fn write_to(&mut self, folder: &Path, mut rows: RecordBatch) -> Result<()> {
        while rows.num_rows() > 0 {
            if !self.open.contains_key(folder) {
                self.start(folder)?;
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
}

#[async_trait]
impl Output for Files {
    fn claim(&mut self) -> Result<()> {
        if self.target.folder.is_none() {
            self.target.path = resolve(&self.target.path)?;
        }
        let claim = Claim::of_existing(hidden::lock(&self.target.place()), &self.target.path)?.map(Arc::new);
        claim.iter().for_each(|claim| self.claimed.set(claim));
        self.claim = claim;
        Ok(())
    }

    fn begin(&mut self, former: PriorOutput, run: &Run) -> Result<()> {
        if self.target.folder.is_none() {
            self.target.path = resolve(&self.target.path)?;
        }
        self.progress.keeps_published = former == PriorOutput::Stays;
        self.check_former(former, run)
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        self.progress = state.get(PROGRESS)?;
        self.has_other_columns = !state.has(COLUMNS) || state.get::<Columns>(COLUMNS)? != columns(&self.schema);
        self.base.extend(self.progress.paths_mut());
        Ok(())
    }

    async fn open(&mut self, _: &Home, run: &Run) -> Result<()> {
        self.run = run.clone();
        if self.if_exists == IfExists::Fail && self.progress.number == 0 {
            // Something may have come since it was looked whether the flow could begin.
            self.target.existing()?.first().map_or(Ok(()), |file| Err(exists(file)))?;
        }
        if self.target.folder.is_none() {
            self.target.path = resolve(&self.target.path)?;
        }
        // Before the lock, which would create it.
        self.progress.check_there(&self.base, run)?;
        create_folder(self.target.folder())?;
        if self.claim.is_none() {
            let claim = Arc::new(Claim::take(hidden::lock(&self.target.place()), &self.target.path)?);
            self.claimed.set(&claim);
            self.claim = Some(claim);
        }
        self.claimed.start_writing();
        self.clean()?;
        self.ledger().map_or(Ok(()), |ledger| Ledger::create(&ledger))?;
        if self.progress.number == 0 { self.begin_files() } else { self.go_on() }
    }

    async fn write(&mut self, batch: Batch, _: &mut Collector) -> Result<()> {
        let Some(partitioning) = &mut self.partitioning else { return self.write_to(Path::new(""), batch.rows) };
        let (rows, folders) = partitioning.split(&batch.rows)?;
        self.divide(&rows, &folders)
    }

    fn barrier(&mut self, epoch: Epoch) {
        self.epoch = epoch.next();
        self.begun.clear();
    }

    async fn stage(&mut self, barrier: Barrier) -> Result<Snapshot> {
        let end = Barrier { then: Then::End, ..barrier };
        // Without state there is one checkpoint, at the end.
        let files = self.pause(if self.is_durable() { barrier } else { end })?;
        crash::point("output-staged");
        let folders = self.folders();
        let mut snapshot = Snapshot::default();
        if !self.finished.is_empty() || barrier.then != Then::Continue {
            snapshot.staged.put(STAGED, &self.publication(barrier))?;
        }
        snapshot.state.put(COLUMNS, &columns(&self.schema))?;
        // A disk takes its time to make durable what came since the last checkpoint, in which rows must not wait.
        let place = self.target.folder().to_owned();
        let mut progress = Progress { folder: self.base.0.clone(), ledger: self.ledger(), ..self.progress.clone() };
        self.base.shorten(progress.paths_mut());
        snapshot.state.put_after(PROGRESS, progress, move || {
            let synced = files.iter().try_for_each(fs::File::sync_all);
            synced.doing(|| format!("writing to `{}`", place.display()))?;
            folders.iter().try_for_each(|folder| sync_folder(folder))
        });
        Ok(snapshot)
    }

    fn committer(&mut self) -> Option<Box<dyn Committer>> {
        let (base, claimed) = (self.base.clone(), self.claimed.clone());
        let (work_folder, place) = (self.target.work_folder.clone(), self.target.place());
        Some(Box::new(Publisher { base, work_folder, place, claimed, published: Published::default() }))
    }

    async fn abort(&mut self) {
        if self.is_durable() {
            return;
        }
        // The next run removes what can't be removed now.
        let open = std::mem::take(&mut self.open);
        let parts = open.values().map(|open| &open.staged.part).chain(self.finished.iter().map(|whole| &whole.part));
        parts.for_each(|part| _ = remove(part));
        self.claim = None;
    }
}
