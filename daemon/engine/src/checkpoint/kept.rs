//! What nodes have kept, as it is found when their flow is planned.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use millstream_core::{Result, State};

use super::checkpoint_store::CheckpointStore;
use super::manifest::{Manifest, NodeEntry};
use super::options::ResumeOptions;
use super::resume::NodeResume;
use crate::plan::{KeptStates, Shape};

/// The states of the newest checkpoint of a flow at a location. What can't be read is left out: whoever opens the state
/// afterwards says so.
pub fn kept_states(location: &str, flow: &str, options: &ResumeOptions) -> KeptStates {
    let newest = || -> Result<KeptStates> {
        let store = millstream_store::open(location, Path::new(""))?;
        let newest = CheckpointStore::new(store.into(), flow, location).latest()?;
        Ok(newest.map(|(manifest, _)| of_manifest(manifest, options)).unwrap_or_default())
    };
    newest().unwrap_or_default()
}

/// The same, of nodes that are gone on from where they were.
pub fn kept_behind(nodes: &BTreeMap<String, NodeResume>, resets: &BTreeSet<String>) -> KeptStates {
    let kept = |(name, node): (&String, &NodeResume)| (name.clone(), (node.entry.shape.clone(), node.pieces.state()));
    KeptStates::new(nodes.iter().map(kept).collect(), resets.iter().cloned().collect())
}

fn of_manifest(manifest: Manifest, options: &ResumeOptions) -> KeptStates {
    let resets = options.behind(&manifest).resets;
    let nodes = manifest.nodes.into_iter().map(|(node, entry)| (node, small_parts(entry))).collect();
    KeptStates::new(nodes, resets)
}

fn small_parts(entry: NodeEntry) -> (Shape, State) {
    let small = entry.state.into_iter().filter_map(|(name, piece)| Some((name, piece.inline_bytes().ok()??)));
    (entry.shape, State::new(small))
}
