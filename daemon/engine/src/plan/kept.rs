//! What nodes have kept, as far as it counts when their flow is planned.

use std::collections::BTreeMap;

use millstream_core::{NodeKind, State};

use super::Shape;
use crate::file::Node;

/// The small parts of the states that nodes are resumed from, with what these depend on.
#[derive(Clone, Debug, Default)]
pub struct KeptStates {
    nodes: BTreeMap<String, (Shape, State)>,
    /// The nodes that start from scratch.
    resets: Vec<String>,
}

impl KeptStates {
    /// The states of nodes, by their names. The nodes in `resets` start from scratch, and have none.
    pub(crate) fn new(nodes: BTreeMap<String, (Shape, State)>, resets: Vec<String>) -> Self {
        Self { nodes, resets }
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
