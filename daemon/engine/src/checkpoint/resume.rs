//! Where a flow goes on: its newest checkpoint, and the manifest by which a process becomes its owner.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;

use chrono::{DateTime, SecondsFormat, Utc};
use millstream_core::{Epoch, Error, Result, Role, State, Then};

use super::checkpoint_store::CheckpointStore;
use super::coordinator::Watcher;
use super::fit;
use super::latest::{LatestCheckpoint, has_ended, name};
use super::lineage;
use super::manifest::{Manifest, NodeEntry, Piece};
use super::options::ResumeOptions;
use super::owner::{self, draw_incarnation};
use super::pieces::Pieces;
use super::replay_log::ReplayLog;
use super::revisions::{self, RevisionStart};
use crate::plan::Plan;
use crate::quarantine::{PoisonedRow, Quarantine};
use crate::stats::ResumedCheckpoint;

/// The last manifest.
pub struct LastManifest {
    /// What it has.
    pub manifest: Manifest,
    /// None of one that this process is still to write, to take the flow over.
    pub checksum: Option<String>,
    /// Whether all that it had staged was visible before this process came.
    pub is_visible: bool,
    /// The states of nodes that start from scratch.
    pub forgotten: BTreeMap<String, BTreeMap<String, Piece>>,
    /// The one before it, from which the flow goes on.
    pub resumed: Option<ResumedCheckpoint>,
}

/// Where a flow begins or goes on.
#[derive(Debug, Default)]
pub struct StartPoint {
    /// The last barrier before it.
    pub epoch: Epoch,
    /// Where the nodes were.
    pub nodes: BTreeMap<String, NodeResume>,
    /// What time has decided about what follows, if that is gone through again.
    pub replay_log: ReplayLog,
    /// Where that is kept.
    pub store: Option<CheckpointStore>,
    /// Rows that nodes do without.
    pub quarantine: Quarantine,
}

impl StartPoint {
    /// Behind a checkpoint.
    pub fn behind(checkpoint_store: &CheckpointStore, manifest: Manifest) -> Result<Self> {
        let resume = |(node, entry): (String, NodeEntry)| {
            let pieces = checkpoint_store.pieces(&entry.state);
            (node, NodeResume::new(entry, pieces))
        };
        let nodes = manifest.nodes.into_iter().map(resume).collect();
        let quarantine = Quarantine { rows: manifest.set_aside, suspects: None };
        Ok(Self { epoch: manifest.epoch, nodes, quarantine, ..Self::default() })
    }

    /// Where a flow went on from another text, which this is the plan of; `nodes` is where its nodes were there.
    pub fn of_revision(start: &RevisionStart, mut nodes: BTreeMap<String, NodeResume>, plan: &Plan) -> Self {
        fit::rename_resumed(&mut nodes, plan);
        forget(&mut nodes, &start.resets, |node| &mut node.entry);
        Self { epoch: start.epoch, nodes, ..Self::default() }
    }

    /// What a node was told by others in what is gone through again.
    ///
    /// # Errors
    /// If that is not recorded.
    pub fn told(&self, node: &str) -> Result<Recorded> {
        let store = self.store.clone().ok_or_else(|| Error::new("it is not recorded what others have told it"))?;
        let answers = self.replay_log.answers.get(node).cloned().unwrap_or_default();
        Ok(Recorded { store, answers, until: self.replay_log.epoch })
    }
}

/// What a node was told, and where it is kept.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Where.
    pub store: CheckpointStore,
    /// What, from one checkpoint to the next.
    pub answers: VecDeque<BTreeMap<String, Piece>>,
    /// The last epoch of which it is known.
    pub until: Epoch,
}

/// What it takes to do again what was done before.
pub struct Replay {
    /// Where it begins.
    pub start_point: StartPoint,
    /// The barrier at which it ends, if that is not the end of all rows. Then [`Outcome::replayed`](crate::run::Outcome::replayed) is where
    /// the nodes are there.
    pub until: Option<Epoch>,
    /// The folder with the folders of nodes, if the state is local.
    pub homes: Option<PathBuf>,
    /// Looks at what nodes stage.
    pub watch: Watcher,
}

impl std::fmt::Debug for Replay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replay").field("start_point", &self.start_point).finish_non_exhaustive()
    }
}

/// A node as a resumed flow finds it.
#[derive(Debug)]
pub struct NodeResume {
    /// Where it was.
    pub entry: NodeEntry,
    /// Its state, until the node has it.
    pub state: State,
    /// What that consists of.
    pub pieces: Pieces,
}

impl NodeResume {
    /// A node that was here, and had this state.
    pub fn new(entry: NodeEntry, pieces: Pieces) -> Self {
        Self { entry, state: pieces.state(), pieces }
    }
}

/// The manifest by which a process becomes the owner, or the last one of a flow that has come to its end.
pub fn next(checkpoint_store: &CheckpointStore, plan: &Plan, options: &ResumeOptions) -> Result<LastManifest> {
    let before = look(checkpoint_store, plan)?;
    let options = &before.as_ref().map_or_else(|| options.clone(), |found| options.behind(&found.manifest));
    let mut scratch = fit::from_scratch(plan, options);
    if let Some(found) = &before {
        let problems = fit::problems(found, plan, options);
        if !problems.is_empty() {
            return Err(fit::refusal(&problems));
        }
        if found.is_done() {
            return Ok(LastManifest {
                manifest: found.manifest.clone(),
                checksum: Some(found.checksum.clone()),
                is_visible: true,
                forgotten: BTreeMap::new(),
                resumed: resumed(&found.manifest),
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
    let resumed = before.as_ref().and_then(|(manifest, _)| resumed(manifest));
    let manifest = own(plan, before, &scratch, options)?;
    Ok(LastManifest { manifest, checksum: None, is_visible: false, forgotten, resumed })
}

/// What is to be said of a checkpoint that is gone on from. Nothing if its time can't be read.
fn resumed(manifest: &Manifest) -> Option<ResumedCheckpoint> {
    let written = DateTime::parse_from_rfc3339(&manifest.created).ok()?.into();
    Some(ResumedCheckpoint { number: manifest.number, bytes: manifest.bytes(), written })
}

/// The manifest that a flow goes on with which takes the place of another behind its last checkpoint, in the same process: that checkpoint's
/// own, as it counts for the nodes that there are now. Those in `kept` go on as they are.
pub fn behind(
    mut found: LatestCheckpoint,
    plan: &Plan,
    kept: &BTreeSet<String>,
    options: &ResumeOptions,
) -> Result<LastManifest> {
    fit::rename_nodes(&mut found.manifest, plan);
    let problems = fit::problems(&found, plan, options);
    if !problems.is_empty() {
        return Err(fit::refusal(&problems));
    }
    let scratch: BTreeSet<String> = fit::from_scratch(plan, options).difference(kept).cloned().collect();
    let forgotten = found.manifest.nodes.iter().filter(|(node, _)| scratch.contains(*node));
    let forgotten = forgotten.map(|(node, entry)| (node.clone(), entry.state.clone())).collect();
    let (number, checksum, resumed) = (found.manifest.number, found.checksum.clone(), resumed(&found.manifest));
    let next = own(plan, Some((found.manifest, found.checksum)), &scratch, options)?;
    // What nodes stage from here on is told by the number from what those have staged before that they take the place of.
    let manifest = Manifest { number, generation: number, ..next };
    Ok(LastManifest { manifest, checksum: Some(checksum), is_visible: false, forgotten, resumed })
}

/// The newest checkpoint, in which nodes have the names that they have now.
pub fn look(checkpoint_store: &CheckpointStore, plan: &Plan) -> Result<Option<LatestCheckpoint>> {
    let Some((mut manifest, checksum)) = checkpoint_store.latest()? else { return Ok(None) };
    let committed = checkpoint_store.committed()?;
    let is_visible = committed >= Some(manifest.number);
    fit::rename_nodes(&mut manifest, plan);
    if !has_ended(&manifest) {
        forget_visible(&mut manifest, plan, committed);
    }
    Ok(Some(LatestCheckpoint { manifest, checksum, is_visible }))
}

/// What checkpoints up to this number have decided is visible, and files that had a part in it may be in use for what follows.
/// Models are published once more, which changes nothing and tells their nodes the numbers of the versions.
fn forget_visible(manifest: &mut Manifest, plan: &Plan, committed: Option<u64>) {
    let publishes = |name: &str| plan.node(name).is_some_and(|node| node.role() != Role::Output);
    let others = manifest.nodes.iter_mut().filter(|(name, _)| !publishes(name));
    others.for_each(|(_, node)| node.pending.retain(|stage| Some(stage.checkpoint) > committed));
}

/// The manifest that makes this process the owner. The nodes in `scratch` start from scratch.
fn own(
    plan: &Plan,
    before: Option<(Manifest, String)>,
    scratch: &BTreeSet<String>,
    options: &ResumeOptions,
) -> Result<Manifest> {
    let (parent, mut manifest) = match before {
        Some((manifest, checksum)) => (Some(checksum), manifest),
        None => (None, begin(plan)?),
    };
    lineage::note(&mut manifest, plan, scratch);
    forget(&mut manifest.nodes, scratch, |entry| entry);
    if manifest.then == name(Then::Stop) {
        manifest.then = name(Then::Continue).to_owned();
    }
    let number = manifest.number + 1;
    set_aside(&mut manifest, number, plan, &options.quarantine);
    note_revision(&mut manifest, plan, options);
    Ok(Manifest {
        number,
        generation: number,
        owner: owner::name(),
        created: now(),
        parent,
        fingerprint: options.fingerprint.clone(),
        revision: options.revision,
        ..manifest
    })
}

/// Has nodes start from scratch.
fn forget<T>(nodes: &mut BTreeMap<String, T>, scratch: &BTreeSet<String>, entry: impl Fn(&mut T) -> &mut NodeEntry) {
    nodes.retain(|node, _| !scratch.contains(node));
    for fan_in in nodes.values_mut().filter_map(|node| entry(node).fan_in.as_mut()) {
        // What starts from scratch has not ended, either.
        fan_in.edges.retain(|edge| !edge.from.split('.').next().is_some_and(|node| scratch.contains(node)));
    }
}

/// Notes the text that the flow goes on from behind this manifest.
fn note_revision(manifest: &mut Manifest, plan: &Plan, options: &ResumeOptions) {
    let Some(revision) = options.revision.filter(|_| plan.makes_models()) else { return };
    let (checkpoint, epoch, resets) = (manifest.number, manifest.epoch, options.resets.iter().cloned().collect());
    revisions::note(&mut manifest.revisions, RevisionStart { revision, checkpoint, epoch, resets });
}

/// Notes the rows that nodes do without from now on.
fn set_aside(manifest: &mut Manifest, number: u64, plan: &Plan, quarantine: &Quarantine) {
    let mut known = Quarantine { rows: std::mem::take(&mut manifest.set_aside), suspects: None };
    for row in &quarantine.rows {
        if !known.has(row) {
            let error = plan.secrets.hide(&row.error).into_owned();
            known.rows.push(PoisonedRow { error, checkpoint: number, ..row.clone() });
        }
    }
    manifest.set_aside = known.rows;
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
        revision: None,
        epoch: Epoch::default(),
        then: name(Then::Continue).to_owned(),
        replay_log: None,
        nodes: BTreeMap::new(),
        resets: BTreeMap::new(),
        set_aside: Vec::new(),
        revisions: Vec::new(),
    })
}

/// The time in RFC 3339.
pub fn now() -> String {
    Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true)
}
