//! Keeps the state of a flow: takes the flow over from the run before, and writes its checkpoints.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{SecondsFormat, Utc};
use millstream_core::{Border, Epoch, Error, Home, Result, ResultExt, Role, Run, Snapshot, State, Then};
use millstream_store::{LocalStore, Store, crash};

use super::coordinator::Watcher;
use super::decisions::Decisions;
use super::fit;
use super::lineage::{self, Past};
use super::manifest::{Manifest, NodeEntry, Piece};
use super::owner::{self, Lock, draw_incarnation};
use super::schedule::Interval;
use super::vault::Vault;
use crate::file::KeptDecisions;
use crate::plan::Plan;

/// How a flow keeps its state.
#[derive(Clone, Default)]
pub struct KeeperOptions {
    /// What the bits of results depend on: the build, the kind of machine.
    pub fingerprint: BTreeMap<String, String>,
    /// Whether to go on although the fingerprint is another one.
    pub allow_drift: bool,
    /// Whether to keep state although an input can't be read again.
    pub allow_loss: bool,
    /// Nodes that start from scratch.
    pub resets: Vec<String>,
    /// Whether outputs among these may remove what they have published.
    pub remove_published: bool,
}

/// The newest checkpoint of a flow.
pub struct Found {
    /// What it has.
    pub manifest: Manifest,
    /// The checksum of that as it is written.
    pub checksum: String,
    /// Whether everything that it had staged is visible.
    pub is_visible: bool,
}

impl Found {
    /// Whether there is nothing left to do.
    pub fn is_done(&self) -> bool {
        self.is_visible && has_ended(&self.manifest)
    }
}

/// Keeps the state of a flow.
#[derive(Clone)]
pub struct Keeper {
    vault: Vault,
    /// The folder with the folders of nodes.
    homes: Option<PathBuf>,
    interval: Interval,
    keep: usize,
    keep_decisions: KeptDecisions,
    options: KeeperOptions,
    _lock: Option<Arc<Lock>>,
    last: Arc<Mutex<Last>>,
}

/// The last manifest.
struct Last {
    manifest: Manifest,
    /// None of one that this process is still to write, to take the flow over.
    checksum: Option<String>,
    /// Whether all that it had staged was visible before this process came.
    is_visible: bool,
    /// The states of nodes that start from scratch.
    forgotten: BTreeMap<String, BTreeMap<String, Piece>>,
}

/// Where a flow begins or goes on.
#[derive(Debug, Default)]
pub struct Beginning {
    /// The last border before it.
    pub epoch: Epoch,
    /// Where the nodes were.
    pub nodes: BTreeMap<String, NodeResume>,
    /// What time has decided about what follows, if that is gone through again.
    pub decisions: Decisions,
}

impl Beginning {
    /// Behind a checkpoint.
    pub fn behind(vault: &Vault, manifest: Manifest) -> Result<Self> {
        let resume = |(node, entry): (String, NodeEntry)| {
            let state = vault.state(&entry.state)?;
            Ok((node, NodeResume { entry, state }))
        };
        let nodes = manifest.nodes.into_iter().map(resume).collect::<Result<_>>()?;
        Ok(Self { epoch: manifest.epoch, nodes, decisions: Decisions::default() })
    }
}

/// What it takes to do again what was done before.
pub struct Replay {
    /// Where it begins.
    pub beginning: Beginning,
    /// The folder with the folders of nodes, if the state is local.
    pub homes: Option<PathBuf>,
    /// Looks at what nodes stage.
    pub watch: Watcher,
}

impl std::fmt::Debug for Replay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replay").field("beginning", &self.beginning).finish_non_exhaustive()
    }
}

/// A node as a resumed flow finds it.
#[derive(Debug)]
pub struct NodeResume {
    /// Where it was.
    pub entry: NodeEntry,
    /// Its state.
    pub state: State,
}

impl Keeper {
    /// Opens the state of a flow at a location, or begins one: a local folder, or the URL of a store.
    ///
    /// # Errors
    /// For the reasons of [`Keeper::open_folder`] or [`Keeper::open`].
    pub fn open_at(plan: &Plan, location: &str, options: &KeeperOptions) -> Result<Self> {
        if let Some(folder) = millstream_store::local_folder(location) {
            return Self::open_folder(plan, folder, options);
        }
        let store = millstream_store::open(location, Path::new(""))?;
        Self::open(plan, Vault::new(store.into(), &plan.flow, location), options)
    }

    /// Opens the state of a flow in a local folder, or begins one. It is in `FOLDER/FLOW`.
    ///
    /// # Errors
    /// If another process runs the flow, and for the reasons of [`Keeper::open`].
    pub fn open_folder(plan: &Plan, folder: &Path, options: &KeeperOptions) -> Result<Self> {
        let own = folder.join(&plan.flow);
        let homes = homes(folder, &plan.flow);
        let lock = Lock::take(&own, &plan.flow)?;
        let vault = Vault::new(Arc::new(LocalStore::private(folder)), &plan.flow, folder.display().to_string());
        let keeper = Self::open(plan, vault, options)?;
        Ok(Self { homes: Some(homes), _lock: Some(Arc::new(lock)), ..keeper })
    }

    /// Opens the state of a flow, or begins one. Nothing is written before [`Keeper::take_over`].
    ///
    /// # Errors
    /// If the last checkpoint is damaged, or does not fit the flow; if a node with state
    /// is gone or has changed.
    pub fn open(plan: &Plan, vault: Vault, options: &KeeperOptions) -> Result<Self> {
        crash::point("recovery-begins");
        let unreplayable = fit::unreplayable(plan, options);
        if !unreplayable.is_empty() {
            return Err(fit::refusal(&unreplayable));
        }
        let last = Arc::new(Mutex::new(next(&vault, plan, options)?));
        Ok(Self {
            vault,
            homes: None,
            interval: plan.checkpoints,
            keep: plan.keep_checkpoints,
            keep_decisions: plan.keep_decisions,
            options: options.clone(),
            _lock: None,
            last,
        })
    }

    /// Where the flow goes on, if nobody writes another checkpoint before [`Keeper::take_over`].
    ///
    /// # Errors
    /// If the state can't be read.
    pub fn beginning(&self) -> Result<Beginning> {
        Beginning::behind(&self.vault, self.lock().manifest.clone())
    }

    /// Becomes the owner of the flow: creates the next manifest. A former owner notices that at its next checkpoint, and
    /// gives up; so whatever may keep this process from going on should have been tried before, which includes reading what
    /// was `found`, the [`Keeper::beginning`]. Returns where it goes on.
    ///
    /// # Errors
    /// If the manifest can't be written, or if the former owner has written another checkpoint meanwhile, for the reasons of
    /// [`Keeper::open`] or because its state can't be read.
    pub fn take_over(&self, plan: &Plan, found: Beginning) -> Result<Beginning> {
        let mut last = self.lock();
        let mut beginning = Some(found);
        while last.checksum.is_none() {
            if let Some(checksum) = self.vault.put(&last.manifest)? {
                last.checksum = Some(checksum);
                crash::point("recovery-taken-over");
                // Before, the names of nodes were those that a former owner, or the flow without its renames, goes on with.
                self.homes.as_ref().map_or(Ok(()), |homes| rename_homes(homes, plan))?;
            } else {
                // The owner has written one more checkpoint meanwhile, which is the one to go on from.
                beginning = None;
                *last = next(&self.vault, plan, &self.options)?;
            }
        }
        beginning.map_or_else(|| Beginning::behind(&self.vault, last.manifest.clone()), Ok)
    }

    /// All that [`Keeper::open_at`] would refuse, without touching anything.
    ///
    /// # Errors
    /// If the last checkpoint can't be read.
    pub fn check_at(plan: &Plan, location: &str, options: &KeeperOptions) -> Result<Vec<String>> {
        let store = millstream_store::open(location, Path::new(""))?;
        Self::check(plan, &Vault::new(store.into(), &plan.flow, location), options)
    }

    /// All that [`Keeper::open`] would refuse, without touching anything.
    ///
    /// # Errors
    /// If the last checkpoint can't be read.
    pub fn check(plan: &Plan, vault: &Vault, options: &KeeperOptions) -> Result<Vec<String>> {
        let mut problems = fit::unreplayable(plan, options);
        if let Some(found) = look(vault, plan)? {
            problems.extend(fit::problems(&found, plan, options));
        }
        Ok(problems)
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

    /// The number of the checkpoint that is written next.
    pub fn next_number(&self) -> u64 {
        self.number() + 1
    }

    /// The border of the last checkpoint.
    pub fn epoch(&self) -> Epoch {
        self.lock().manifest.epoch
    }

    /// How often checkpoints are taken.
    pub fn interval(&self) -> Interval {
        self.interval
    }

    /// What the positions of a model's inputs don't say of what it has learned.
    pub fn past(&self, node: &str) -> Past {
        self.lock().manifest.past.get(node).cloned().unwrap_or_default()
    }

    /// The checkpoints.
    pub fn vault(&self) -> &Vault {
        &self.vault
    }

    /// Where a node keeps what outlives the run: in a folder, if the state is local.
    pub fn home(&self, node: &str) -> Home {
        self.homes.as_ref().map_or(Home::Elsewhere, |homes| Home::Folder(homes.join(node)))
    }

    /// Whether an output may remove what it has published.
    pub fn may_remove_published(&self, node: &str) -> bool {
        self.options.remove_published && self.options.resets.iter().any(|reset| reset == node)
    }

    /// Writes a checkpoint: blobs, then the manifest. Returns what was staged, by node, and puts the pieces of all nodes
    /// into `entries`.
    ///
    /// # Errors
    /// If it can't be written, or if somebody else has taken the flow over.
    pub fn write(
        &self,
        border: Border,
        entries: &mut [(String, NodeEntry)],
        snapshots: Vec<Option<Snapshot>>,
        decisions: Decisions,
    ) -> Result<Vec<State>> {
        let number = self.next_number();
        let mut staged = Vec::with_capacity(snapshots.len());
        for ((_, entry), snapshot) in entries.iter_mut().zip(snapshots) {
            // What a node has handed over that has ended long ago, or waits, stays as it is.
            let Some(snapshot) = snapshot else {
                staged.push(State::default());
                continue;
            };
            let state = snapshot.state.into_state()?;
            entry.state = self.pieces(number, &state, &entry.state)?;
            let effects = snapshot.staged.into_state()?;
            entry.staged = self.pieces(number, &effects, &BTreeMap::new())?;
            staged.push(effects);
        }
        let mut last = self.lock();
        let previous = last.manifest.decisions;
        let decided = (!decisions.is_empty()).then_some(number);
        if decided.is_some() {
            self.vault.put_decisions(number, &Decisions { previous, ..decisions })?;
            crash::point("decisions-written");
        }
        let manifest = Manifest {
            decisions: decided.or(previous),
            number,
            owner: owner::name(),
            created: now(),
            parent: last.checksum.clone(),
            epoch: border.epoch,
            then: name(border.then).to_owned(),
            nodes: entries.iter().cloned().collect(),
            ..last.manifest.clone()
        };
        crash::point("before-manifest");
        let checksum = self.vault.put(&manifest)?.ok_or_else(|| taken_over(&self.vault))?;
        crash::point("after-manifest");
        *last = Last { manifest, checksum: Some(checksum), is_visible: false, forgotten: BTreeMap::new() };
        Ok(staged)
    }

    fn pieces(
        &self,
        number: u64,
        state: &State,
        before: &BTreeMap<String, super::Piece>,
    ) -> Result<BTreeMap<String, super::Piece>> {
        let piece =
            |(name, bytes): (&str, &[u8])| Ok((name.to_owned(), self.vault.keep(number, bytes, before.get(name))?));
        state.parts().map(piece).collect()
    }

    /// Everything that the last checkpoint had staged is visible: remembers that, and removes what is too old. Returns the
    /// border of the oldest checkpoint that is kept.
    pub fn settled(&self) -> Result<Epoch> {
        let number = self.number();
        self.vault.mark_committed(number)?;
        crash::point("marked-committed");
        let oldest = self.vault.collect(number, self.keep)?;
        if self.keep_decisions == KeptDecisions::Kept {
            self.vault.trim_decisions()?;
        }
        crash::point("collected");
        Ok(oldest)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper").field("vault", &self.vault).finish_non_exhaustive()
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

/// The manifest by which a process becomes the owner, or the last one of a flow that has come to its end.
fn next(vault: &Vault, plan: &Plan, options: &KeeperOptions) -> Result<Last> {
    let before = look(vault, plan)?;
    let mut scratch = fit::from_scratch(plan, options);
    if let Some(found) = &before {
        let problems = fit::problems(found, plan, options);
        if !problems.is_empty() {
            return Err(fit::refusal(&problems));
        }
        if found.is_done() {
            return Ok(Last {
                manifest: found.manifest.clone(),
                checksum: Some(found.checksum.clone()),
                is_visible: true,
                forgotten: BTreeMap::new(),
            });
        }
        if has_ended(&found.manifest) {
            // All that is left to do is to make visible what was decided.
            scratch.clear();
        }
    }
    let before = before.map(|found| (found.manifest, found.checksum));
    let states = before.iter().flat_map(|(manifest, _)| &manifest.nodes);
    let forgotten = states.filter(|(node, _)| scratch.contains(*node));
    let forgotten = forgotten.map(|(node, entry)| (node.clone(), entry.state.clone())).collect();
    let manifest = own(plan, before, &scratch, options)?;
    Ok(Last { manifest, checksum: None, is_visible: false, forgotten })
}

/// The newest checkpoint, in which nodes have the names that they have now.
fn look(vault: &Vault, plan: &Plan) -> Result<Option<Found>> {
    let Some((mut manifest, checksum)) = vault.latest()? else { return Ok(None) };
    let is_visible = vault.committed()? >= Some(manifest.number);
    fit::rename_nodes(&mut manifest, plan);
    if is_visible && !has_ended(&manifest) {
        forget_visible(&mut manifest, plan);
    }
    Ok(Some(Found { manifest, checksum, is_visible }))
}

/// Whether all inputs had come to their end.
pub fn has_ended(manifest: &Manifest) -> bool {
    manifest.then == name(Then::End)
}

/// All that was staged is visible, and files that had a part in it may be in use for what follows. Models are published once
/// more, which changes nothing and tells their nodes the numbers of the versions.
fn forget_visible(manifest: &mut Manifest, plan: &Plan) {
    let publishes = |name: &str| plan.node(name).is_some_and(|node| node.role() != Role::Output);
    let others = manifest.nodes.iter_mut().filter(|(name, _)| !publishes(name));
    others.for_each(|(_, node)| node.staged.clear());
}

/// The manifest that makes this process the owner. The nodes in `scratch` start from scratch.
fn own(
    plan: &Plan,
    before: Option<(Manifest, String)>,
    scratch: &BTreeSet<String>,
    options: &KeeperOptions,
) -> Result<Manifest> {
    let (parent, mut manifest) = match before {
        Some((manifest, checksum)) => (Some(checksum), manifest),
        None => (None, begin(plan)?),
    };
    lineage::note(&mut manifest, plan, scratch);
    manifest.nodes.retain(|node, _| !scratch.contains(node));
    for fan_in in manifest.nodes.values_mut().filter_map(|node| node.fan_in.as_mut()) {
        // What starts from scratch has not ended, either.
        fan_in.edges.retain(|edge| !edge.from.split('.').next().is_some_and(|node| scratch.contains(node)));
    }
    if manifest.then == name(Then::Stop) {
        manifest.then = name(Then::Continue).to_owned();
    }
    let number = manifest.number + 1;
    Ok(Manifest {
        number,
        generation: number,
        owner: owner::name(),
        created: now(),
        parent,
        fingerprint: options.fingerprint.clone(),
        ..manifest
    })
}

/// A flow of which nothing has been read.
fn begin(plan: &Plan) -> Result<Manifest> {
    Ok(Manifest {
        flow: plan.flow.clone(),
        incarnation: draw_incarnation()?,
        number: 0,
        generation: 0,
        owner: String::new(),
        created: String::new(),
        parent: None,
        fingerprint: BTreeMap::new(),
        epoch: Epoch::default(),
        then: name(Then::Continue).to_owned(),
        decisions: None,
        nodes: BTreeMap::new(),
        past: BTreeMap::new(),
    })
}

fn taken_over(vault: &Vault) -> Error {
    let newest = vault.latest().ok().flatten();
    let owner = newest.map_or_else(|| "another process".to_owned(), |(manifest, _)| manifest.owner);
    Error::new(format!("{owner} has taken this flow over; nothing more of this run counts"))
}

fn now() -> String {
    Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// The word for it in manifests.
pub fn name(then: Then) -> &'static str {
    match then {
        Then::Continue => "continue",
        Then::Stop => "stop",
        Then::End => "end",
    }
}

/// The names of the flows of which a store has checkpoints, or marks of some that are gone.
pub fn flows(store: &dyn Store) -> Result<Vec<String>> {
    let keys = store.list("")?;
    let flow = |key: &String| {
        let (flow, rest) = key.split_once('/')?;
        (rest.starts_with("manifests/") || rest.starts_with("commits/")).then(|| flow.to_owned())
    };
    let names: BTreeSet<String> = keys.iter().filter_map(flow).collect();
    Ok(names.into_iter().collect())
}
