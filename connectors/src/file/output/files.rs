//! The files that an output writes, from its claim to what it stages.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use millstream_core::{
    Barrier, Batch, Collector, Committer, Epoch, Home, Output, PriorOutput, Result, ResultExt, Run, Snapshot, State,
    Then,
};
use millstream_store::crash;

use super::IfExists;
use super::begin::{NextFile, exists};
use super::kept::{COLUMNS, Columns, PROGRESS, Progress, columns};
use super::open_files::{Limits, OpenFiles};
use super::partition::Partitioning;
use crate::file::claim::{Claim, Claimed};
use crate::file::disk::{create_folder, remove, resolve, sync_folder};
use crate::file::hidden;
use crate::file::ledger::{Ledger, Published};
use crate::file::publish::{Publisher, STAGED};
use crate::file::target::{Base, Target};

/// The output itself.
pub struct Files {
    pub(super) target: Target,
    /// What paths in the state are relative to.
    pub(super) base: Base,
    pub(super) if_exists: IfExists,
    /// The files that are being written, and those that are whole.
    pub(super) files: OpenFiles,
    /// What outlives the run.
    pub(super) progress: Progress,
    /// The ledgers of other states, which go when the first files of this flow are published, as somebody has said they may.
    pub(super) others: Vec<PathBuf>,
    /// Whether the files that the run before has begun may have other columns.
    pub(super) has_other_columns: bool,
    /// Keeps other runs away, from the start to the end.
    pub(super) claim: Option<Arc<Claim>>,
    pub(super) claimed: Claimed,
    /// The epoch that rows belong to now.
    pub(super) epoch: Epoch,
    /// How many publications this run has staged.
    pub(super) publications: u64,
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
            files: OpenFiles::new(target.options(), schema, limits, partitioning),
            base: target.base(),
            target,
            if_exists,
            progress: Progress::default(),
            others: Vec::new(),
            has_other_columns: false,
            claim: None,
            claimed: Claimed::default(),
            epoch: Epoch::default().next(),
            publications: 0,
        }
    }

    /// The ledger of what the flow has published, if it keeps state.
    pub(super) fn ledger(&self) -> Option<PathBuf> {
        self.files.is_durable().then(|| hidden::ledger(&self.target.place(), &self.files.run))
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
        self.has_other_columns = !state.has(COLUMNS) || state.get::<Columns>(COLUMNS)? != columns(&self.files.schema);
        self.base.extend(self.progress.paths_mut());
        Ok(())
    }

    async fn open(&mut self, _: &Home, run: &Run) -> Result<()> {
        self.files.run = run.clone();
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
        let Self { files, target, if_exists, progress, epoch, .. } = self;
        let is_divided = files.partitioning.is_some();
        let options = files.options.clone();
        let schema = files.schema.clone();
        let mut begin =
            NextFile { target, if_exists: *if_exists, progress, epoch: *epoch, is_divided, options, schema };
        files.write(batch.rows, &mut |folder, number| begin.begin(folder, number))
    }

    fn barrier(&mut self, epoch: Epoch) {
        self.epoch = epoch.next();
        self.files.end_epoch();
    }

    async fn stage(&mut self, barrier: Barrier) -> Result<Snapshot> {
        let end = Barrier { then: Then::End, ..barrier };
        // Without state there is one checkpoint, at the end.
        let files = self.pause(if self.files.is_durable() { barrier } else { end })?;
        crash::point("output-staged");
        let folders = self.folders();
        let mut snapshot = Snapshot::default();
        if !self.files.finished.is_empty() || barrier.then != Then::Continue {
            snapshot.staged.put(STAGED, &self.publication(barrier))?;
        }
        snapshot.state.put(COLUMNS, &columns(&self.files.schema))?;
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
        if self.files.is_durable() {
            return;
        }
        // The next run removes what can't be removed now.
        self.files.abandon().iter().for_each(|part| _ = remove(part));
        self.claim = None;
    }
}
