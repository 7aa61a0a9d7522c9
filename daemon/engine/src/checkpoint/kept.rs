//! What nodes have kept, as far as it counts when their flow is planned.

use std::collections::BTreeMap;
use std::path::Path;

use millstream_core::{NodeKind, Result, State};

use super::checkpoint_store::CheckpointStore;
use super::flow_checkpoints::ResumeOptions;
use super::manifest::{Manifest, NodeEntry};
use crate::file::Node;
use crate::plan::Shape;

/// The small parts of the states that nodes are resumed from, with what these depend on.
#[derive(Clone, Debug, Default)]
pub struct KeptStates {
    nodes: BTreeMap<String, (Shape, State)>,
    /// The nodes that start from scratch.
    resets: Vec<String>,
}

impl KeptStates {
    /// Those of the newest checkpoint of a flow at a location. What can't be read is left out: whoever opens the state
    /// afterwards says so.
    pub fn at(location: &str, flow: &str, options: &ResumeOptions) -> Self {
        let newest = || -> Result<Self> {
            let store = millstream_store::open(location, Path::new(""))?;
            let newest = CheckpointStore::new(store.into(), flow, location).latest()?;
            Ok(newest.map(|(manifest, _)| Self::new(manifest, options)).unwrap_or_default())
        };
        newest().unwrap_or_default()
    }

    fn new(manifest: Manifest, options: &ResumeOptions) -> Self {
        let nodes = manifest.nodes.into_iter().map(|(node, entry)| (node, small_parts(entry))).collect();
        Self { nodes, resets: options.resets.clone() }
    }

    /// What a node has kept under this or its former name, if it has the settings that it had then, and does not start from
    /// scratch.
    pub(crate) fn of(&self, node: &Node, kind: &NodeKind) -> State {
        let former = || node.renamed_from().and_then(|name| self.nodes.get(name));
        let kept = self.nodes.get(&node.name).or_else(former).filter(|_| !self.resets.contains(&node.name));
        let fitting = kept.filter(|(shape, _)| shape.has_settings(kind, &node.table));
        fitting.map(|(_, state)| state.clone()).unwrap_or_default()
    }
}

fn small_parts(entry: NodeEntry) -> (Shape, State) {
    let small = entry.state.into_iter().filter_map(|(name, piece)| Some((name, piece.inline_bytes().ok()??)));
    (entry.shape, State::new(small))
}
