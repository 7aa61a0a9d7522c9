//! Keeps the state of a flow: takes the flow over from the run before, and writes its checkpoints.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use millstream_core::{Barrier, Epoch, Error, Home, PriorOutput, Result, ResultExt, Run, Snapshot, State};
use millstream_store::{LocalStore, crash};

use super::checkpoint_store::CheckpointStore;
use super::failure::Failure;
use super::fit;
use super::latest::{LatestCheckpoint, has_ended, name};
use super::lineage_resets::LineageResets;
use super::manifest::{Manifest, NodeEntry, PendingStage, Piece};
use super::options::ResumeOptions;
use super::owner::{self, Lock};
use super::renamed;
use super::replay_log::ReplayLog;
use super::resume::{LastManifest, StartPoint, behind, look, next, now};
use crate::file::{Interval, ReplayLogRetention};
use crate::plan::{NodeIndex, Plan};
use crate::stats::ResumedCheckpoint;

/// Keeps the state of a flow.
#[derive(Clone)]
pub struct FlowCheckpoints {
    checkpoint_store: CheckpointStore,
    /// The folder with the folders of nodes.
    homes: Option<PathBuf>,
    interval: Interval,
    keep: usize,
    replay_log_retention: ReplayLogRetention,
    options: Arc<ResumeOptions>,
    _lock: Option<Arc<Lock>>,
    last: Arc<Mutex<LastManifest>>,
}

impl FlowCheckpoints {
    /// Opens the state of a flow at a location, or begins one: a local folder, or the URL of a store.
    ///
    /// # Errors
    /// For the reasons of [`FlowCheckpoints::open_folder`] or [`FlowCheckpoints::open`].
    pub fn open_at(plan: &Plan, location: &str, options: &ResumeOptions) -> Result<Self> {
        if let Some(folder) = millstream_store::local_folder(location) {
            return Self::open_folder(plan, folder, options);
        }
        let store = millstream_store::open(location, Path::new(""))?;
        Self::open(plan, CheckpointStore::new(store.into(), &plan.flow, location), options)
    }

    /// Opens the state of a flow in a local folder, or begins one. It is in `FOLDER/FLOW`.
    ///
    /// # Errors
    /// If another process runs the flow, and for the reasons of [`FlowCheckpoints::open`].
    pub fn open_folder(plan: &Plan, folder: &Path, options: &ResumeOptions) -> Result<Self> {
        let own = folder.join(&plan.flow);
        let homes = homes(folder, &plan.flow);
        let lock = Lock::take(&own, &plan.flow)?;
        let checkpoint_store =
            CheckpointStore::new(Arc::new(LocalStore::private(folder)), &plan.flow, folder.display().to_string());
        let checkpoints = Self::open(plan, checkpoint_store, options)?;
        Ok(Self { homes: Some(homes), _lock: Some(Arc::new(lock)), ..checkpoints })
    }

    /// Opens the state of a flow, or begins one. Nothing is written before [`FlowCheckpoints::take_over`].
    ///
    /// # Errors
    /// If the last checkpoint is damaged, or does not fit the flow; if a node with state
    /// is gone or has changed.
    pub fn open(plan: &Plan, checkpoint_store: CheckpointStore, options: &ResumeOptions) -> Result<Self> {
        crash::point("recovery-begins");
        let unreplayable = fit::unreplayable(plan, options);
        if !unreplayable.is_empty() {
            return Err(fit::refusal(&unreplayable));
        }
        let last = Arc::new(Mutex::new(next(&checkpoint_store, plan, options)?));
        Ok(Self {
            checkpoint_store,
            homes: None,
            interval: plan.checkpoints,
            keep: plan.keep_checkpoints,
            replay_log_retention: plan.replay_log_retention,
            options: Arc::new(options.clone()),
            _lock: None,
            last,
        })
    }

    /// What is kept at a location, without the right to go on from it: whether nodes could be asked.
    ///
    /// # Errors
    /// For the reasons of [`FlowCheckpoints::open`].
    pub fn look_at(plan: &Plan, location: &str, options: &ResumeOptions) -> Result<Self> {
        let store = millstream_store::open(location, Path::new(""))?;
        Self::open(plan, CheckpointStore::new(store.into(), &plan.flow, location), options)
    }

    /// Where the flow goes on, if nobody writes another checkpoint before [`FlowCheckpoints::take_over`].
    ///
    /// # Errors
    /// If the state can't be read.
    pub fn start_point(&self) -> Result<StartPoint> {
        let mut start_point = StartPoint::behind(&self.checkpoint_store, self.lock().manifest.clone())?;
        start_point.quarantine.suspects = self.options.quarantine.suspects.clone();
        Ok(start_point)
    }

    /// Becomes the owner of the flow: creates the next manifest. A former owner notices that at its next checkpoint, and
    /// gives up; so whatever may keep this process from going on should have been tried before, which includes reading the
    /// [`FlowCheckpoints::start_point`]. Returns whether it has: if the former owner has written another checkpoint meanwhile, that is where
    /// the flow goes on, and it has to be prepared again.
    ///
    /// # Errors
    /// If the manifest can't be written, or the folders of renamed nodes can't be moved; or for the reasons of [`FlowCheckpoints::open`],
    /// if there is another checkpoint.
    pub fn take_over(&self, plan: &Plan) -> Result<bool> {
        let mut last = self.lock();
        if last.checksum.is_some() {
            return Ok(true);
        }
        let Some(checksum) = self.checkpoint_store.put(&last.manifest)? else {
            *last = next(&self.checkpoint_store, plan, &self.options)?;
            return Ok(false);
        };
        last.checksum = Some(checksum);
        crash::point("recovery-taken-over");
        // Before, the names of nodes were those that a former owner, or the flow without its renames, goes on with.
        self.homes.as_ref().map_or(Ok(()), |homes| rename_homes(homes, plan))?;
        Ok(true)
    }

    /// The same, of a flow that goes on in place of this one, behind its last checkpoint: its nodes were as in `entries` there, and those in
    /// `kept` go on as they are. Nothing is written before its first checkpoint, which decides that the flow has changed.
    ///
    /// # Errors
    /// If the state of another node can't be used.
    pub(super) fn go_on(
        &self,
        plan: &Plan,
        entries: BTreeMap<String, NodeEntry>,
        kept: &BTreeSet<String>,
        options: &ResumeOptions,
    ) -> Result<Self> {
        let unreplayable = fit::unreplayable(plan, options);
        if !unreplayable.is_empty() {
            return Err(fit::refusal(&unreplayable));
        }
        let (manifest, checksum) = {
            let last = self.lock();
            (Manifest { nodes: entries, ..last.manifest.clone() }, last.checksum.clone().unwrap_or_default())
        };
        let last = behind(LatestCheckpoint { manifest, checksum, is_visible: false }, plan, kept, options)?;
        Ok(Self {
            checkpoint_store: self.checkpoint_store.clone(),
            homes: self.homes.clone(),
            interval: plan.checkpoints,
            keep: plan.keep_checkpoints,
            replay_log_retention: plan.replay_log_retention,
            options: Arc::new(options.clone()),
            _lock: self._lock.clone(),
            last: Arc::new(Mutex::new(last)),
        })
    }

    /// Why the flow can't be taken over: its owner has written a checkpoint that is newer than the one which was prepared.
    pub fn outrun(&self) -> Error {
        Error::new(format!(
            "{} runs this flow, and writes checkpoints faster than this process can read them; stop it first, or let it take \
             fewer of them (`[checkpoint] interval`)",
            owner(&self.checkpoint_store)
        ))
    }

    /// All that [`FlowCheckpoints::open_at`] would refuse, without touching anything.
    ///
    /// # Errors
    /// If the last checkpoint can't be read.
    pub fn check_at(plan: &Plan, location: &str, options: &ResumeOptions) -> Result<Vec<String>> {
        let store = millstream_store::open(location, Path::new(""))?;
        Self::check(plan, &CheckpointStore::new(store.into(), &plan.flow, location), options)
    }

    /// All that [`FlowCheckpoints::open`] would refuse, without touching anything.
    ///
    /// # Errors
    /// If the last checkpoint can't be read.
    pub fn check(plan: &Plan, checkpoint_store: &CheckpointStore, options: &ResumeOptions) -> Result<Vec<String>> {
        let mut problems = fit::unreplayable(plan, options);
        if let Some(found) = look(checkpoint_store, plan)? {
            problems.extend(fit::problems(&found, plan, options));
        }
        Ok(problems)
    }

    /// What the resets that were asked for lose, or let count twice, at a location.
    ///
    /// # Errors
    /// If the last checkpoint can't be read.
    pub fn losses_at(plan: &Plan, location: &str, options: &ResumeOptions) -> Result<Vec<String>> {
        let store = millstream_store::open(location, Path::new(""))?;
        Self::losses(plan, &CheckpointStore::new(store.into(), &plan.flow, location), options)
    }

    /// The same, of checkpoints.
    ///
    /// # Errors
    /// If the last one can't be read.
    pub fn losses(plan: &Plan, checkpoint_store: &CheckpointStore, options: &ResumeOptions) -> Result<Vec<String>> {
        let found = look(checkpoint_store, plan)?;
        Ok(found.map(|found| fit::losses(&found, plan, options)).unwrap_or_default())
    }

    /// What is to be said of a flow that begins from scratch at a location, where it may be kept under another name.
    ///
    /// # Errors
    /// If what is there can't be read.
    pub fn warning_at(plan: &Plan, location: &str) -> Result<Option<String>> {
        let store = millstream_store::open(location, Path::new(""))?;
        renamed::warning(plan, &CheckpointStore::new(store.into(), &plan.flow, location))
    }

    /// The same, of the location that was opened.
    ///
    /// # Errors
    /// If what is there can't be read.
    pub fn warning(&self, plan: &Plan) -> Result<Option<String>> {
        renamed::warning(plan, &self.checkpoint_store)
    }

    /// Whether there is nothing left to do.
    pub fn is_done(&self) -> bool {
        has_ended(&self.lock().manifest)
    }

    /// Whether all that the last run had staged was visible when this one took the flow over.
    pub fn is_visible(&self) -> bool {
        self.lock().is_visible
    }

    /// The states of nodes that begin from scratch.
    pub fn forgotten(&self) -> BTreeMap<String, BTreeMap<String, Piece>> {
        self.lock().forgotten.clone()
    }

    /// Which run of the flow this is.
    pub fn run(&self) -> Run {
        let last = self.lock();
        Run { incarnation: last.manifest.incarnation.clone(), generation: last.manifest.generation }
    }

    /// The number of the last checkpoint.
    pub fn number(&self) -> u64 {
        self.lock().manifest.number
    }

    /// What is known of the checkpoint that the flow goes on from, if it does not begin.
    pub fn resumed(&self) -> Option<ResumedCheckpoint> {
        self.lock().resumed
    }

    /// The number of the checkpoint that is written next.
    pub fn next_number(&self) -> u64 {
        self.number() + 1
    }

    /// How often checkpoints are taken.
    pub fn interval(&self) -> Interval {
        self.interval
    }

    /// What the positions of a model's inputs don't say of what it has learned.
    pub fn resets(&self, node: &str) -> LineageResets {
        self.lock().manifest.resets.get(node).cloned().unwrap_or_default()
    }

    /// Where the checkpoints are.
    pub fn store(&self) -> &CheckpointStore {
        &self.checkpoint_store
    }

    /// Where a node keeps what outlives the run: in a folder, if the state is local.
    pub fn home(&self, node: &str) -> Home {
        self.homes.as_ref().map_or(Home::Elsewhere, |homes| Home::Folder(homes.join(node)))
    }

    /// What becomes of what is at the place of an output, if it begins.
    pub fn former(&self, node: &str) -> PriorOutput {
        let ResumeOptions { remove_published, resets, .. } = &*self.options;
        match () {
            () if *remove_published && (resets.is_empty() || resets.iter().any(|reset| reset == node)) => {
                PriorOutput::MayGo
            }
            () if self.lock().manifest.epoch > Epoch::default() => PriorOutput::Stays,
            () => PriorOutput::Ended,
        }
    }

    /// Writes a checkpoint: blobs, then the manifest. Returns what was staged, by node, and puts the pieces of all nodes
    /// into `entries`.
    ///
    /// # Errors
    /// If it can't be written, or if somebody else has taken the flow over.
    pub fn write(
        &self,
        barrier: Barrier,
        entries: &mut [(String, NodeEntry)],
        mut snapshots: Vec<Option<Snapshot>>,
        mut replay_log: ReplayLog,
    ) -> Result<Vec<State>, Failure> {
        let number = self.next_number();
        for (node, ((name, _), snapshot)) in entries.iter().zip(&mut snapshots).enumerate() {
            let answers = snapshot.as_mut().map(|snapshot| std::mem::take(&mut snapshot.answers)).unwrap_or_default();
            if !answers.is_empty() {
                let pieces =
                    self.checkpoint_store.keep_answers(number, &answers.into_state().map_err(Failure::of(node))?)?;
                replay_log.answers.insert(name.clone(), [pieces].into());
            }
        }
        let written =
            entries.iter_mut().zip(snapshots).enumerate().map(|(node, ((_, entry), snapshot))| match snapshot {
                Some(snapshot) => self.write_pieces(number, barrier.epoch, node, entry, snapshot),
                // What a node has handed over that has ended long ago, or waits, stays as it is.
                None => Ok(State::default()),
            });
        let staged = written.collect::<Result<Vec<_>, Failure>>()?;
        let mut last = self.lock();
        let previous = last.manifest.replay_log;
        let decided = (!replay_log.is_empty()).then_some(number);
        if decided.is_some() {
            self.checkpoint_store.put_replay_log(number, &ReplayLog { previous, ..replay_log })?;
            crash::point("replay-log-written");
        }
        let manifest = Manifest {
            replay_log: decided.or(previous),
            number,
            owner: owner::name(),
            created: now(),
            parent: last.checksum.clone(),
            epoch: barrier.epoch,
            then: name(barrier.then).to_owned(),
            nodes: entries.iter().cloned().collect(),
            ..last.manifest.clone()
        };
        crash::point("before-manifest");
        let checksum = self.checkpoint_store.put(&manifest)?.ok_or_else(|| taken_over(&self.checkpoint_store))?;
        crash::point("after-manifest");
        let checksum = Some(checksum);
        *last = LastManifest { manifest, checksum, is_visible: false, forgotten: BTreeMap::new(), resumed: None };
        Ok(staged)
    }

    /// Writes what a node has handed over, and puts the pieces into its entry. Returns what it has staged.
    ///
    /// One piece of the state after the other is made and written, so that it is never in memory whole.
    fn write_pieces(
        &self,
        number: u64,
        epoch: Epoch,
        node: NodeIndex,
        entry: &mut NodeEntry,
        snapshot: Snapshot,
    ) -> Result<State, Failure> {
        let before = std::mem::take(&mut entry.state);
        // To make a piece is the work of the node, which may have to make files durable; to keep it is not.
        let mut unkept = false;
        let write = |name: &str, bytes: Vec<u8>| {
            self.checkpoint_store.keep(number, &bytes, before.get(name)).inspect_err(|_| unkept = true)
        };
        let written = snapshot.state.write(|name| before.get(name).cloned(), write);
        entry.state = written.map_err(|error| if unkept { error.into() } else { Failure::of(node)(error) })?;
        let staged = snapshot.staged.into_state().map_err(Failure::of(node))?;
        if !staged.is_empty() {
            let piece =
                |(name, bytes): (&str, &[u8])| Ok((name.to_owned(), self.checkpoint_store.keep(number, bytes, None)?));
            let pieces = staged.parts().map(piece).collect::<Result<_>>()?;
            entry.pending.push(PendingStage { checkpoint: number, epoch, pieces });
        }
        Ok(staged)
    }

    /// Writes down that everything is visible that checkpoints up to this one have decided.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn mark_committed(&self, number: u64) -> Result<()> {
        self.checkpoint_store.mark_committed(number)?;
        crash::point("marked-committed");
        Ok(())
    }

    /// Removes the checkpoints that are too old. Returns the barrier of the oldest one that is kept.
    ///
    /// # Errors
    /// If they can't be removed.
    pub fn remove_old(&self) -> Result<Epoch> {
        let oldest = self.checkpoint_store.collect(self.number(), self.keep)?;
        if self.replay_log_retention == ReplayLogRetention::Kept {
            self.checkpoint_store.trim_replay_logs()?;
        }
        crash::point("collected");
        Ok(oldest)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, LastManifest> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for FlowCheckpoints {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FlowCheckpoints").field("checkpoint_store", &self.checkpoint_store).finish_non_exhaustive()
    }
}

/// The folder with the folders of the nodes of a flow, by the local folder with its state.
pub fn homes(folder: &Path, flow: &str) -> PathBuf {
    folder.join(flow).join("nodes")
}

/// Gives the folders of nodes the names that the nodes have now.
fn rename_homes(homes: &Path, plan: &Plan) -> Result<()> {
    for (before, now) in plan.renames() {
        let (before, now) = (homes.join(before), homes.join(now));
        if before.exists() && !now.exists() {
            std::fs::rename(&before, &now).doing(|| format!("moving `{}` to `{}`", before.display(), now.display()))?;
        }
    }
    Ok(())
}

/// Who has written the newest checkpoint, in words.
fn owner(checkpoint_store: &CheckpointStore) -> String {
    let newest = checkpoint_store.latest().ok().flatten();
    newest.map_or_else(|| "another process".to_owned(), |(manifest, _)| manifest.owner)
}

fn taken_over(checkpoint_store: &CheckpointStore) -> Error {
    let owner = owner(checkpoint_store);
    Error::new(format!("{owner} has taken this flow over; nothing more of this run counts"))
}
