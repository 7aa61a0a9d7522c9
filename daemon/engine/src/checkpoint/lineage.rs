//! Which rows a model has learned of: those up to where its inputs are, but for what it has missed, or has had before.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::manifest::Manifest;
use crate::plan::{Plan, PlannedNode};

/// How far each partition of an input has been read.
type Positions = BTreeMap<String, u64>;

/// What the positions of a model's inputs don't say, since it or they have started from scratch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// By input: where it was when the model began. Without it, at the first row.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub since: BTreeMap<String, Positions>,
    /// By input: what the model has learned of it before it was read from the first row again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub earlier: BTreeMap<String, Vec<Stretch>>,
}

/// Rows of an input: those behind `from`, and before `to`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    /// The first of each partition; 0 where it is not named.
    pub from: Positions,
    /// Those behind the last.
    pub to: Positions,
}

impl Past {
    /// Adds it to the lineage of a version.
    pub fn add_to(&self, lineage: &mut Value) {
        if !self.since.is_empty() {
            lineage["since"] = json!(self.since);
        }
        if !self.earlier.is_empty() {
            lineage["earlier"] = json!(self.earlier);
        }
    }

    /// The model begins, behind what has been read of an input.
    fn begin_behind(&mut self, input: &str, to: Positions) {
        if !to.is_empty() {
            self.since.insert(input.to_owned(), to);
        }
    }

    /// An input is read from its first row again.
    fn read_again(&mut self, input: &str, to: Positions) {
        let from = self.since.remove(input).unwrap_or_default();
        if from != to {
            self.earlier.entry(input.to_owned()).or_default().push(Stretch { from, to });
        }
    }
}

/// Whether a node makes a model.
pub fn trains(node: &PlannedNode) -> bool {
    node.ports.iter().any(|port| port.name == "model")
}

/// Notes of every model what it will miss of its inputs, or has had before, when these nodes start from scratch.
pub fn note(manifest: &mut Manifest, plan: &Plan, scratch: &BTreeSet<String>) {
    let sources = plan.sources_of_nodes();
    for (node, sources) in plan.nodes.iter().zip(sources).filter(|(node, _)| trains(node)) {
        let begins = scratch.contains(&node.name) || !manifest.nodes.contains_key(&node.name);
        let mut past = manifest.past.remove(&node.name).filter(|_| !begins).unwrap_or_default();
        for input in sources.into_iter().map(|input| &plan.nodes[input].name) {
            let to = manifest.nodes.get(input).map(|entry| entry.positions.clone()).unwrap_or_default();
            match (begins, scratch.contains(input)) {
                (true, false) => past.begin_behind(input, to),
                (false, true) => past.read_again(input, to),
                (true, true) | (false, false) => {}
            }
        }
        if past != Past::default() {
            manifest.past.insert(node.name.clone(), past);
        }
    }
}
