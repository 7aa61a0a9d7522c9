//! What nodes are built from: so it is known which of those that run can take the place of those of another plan of their flow.

use std::collections::{BTreeMap, BTreeSet};

use millstream_core::FilesRead;
use serde_json::json;

use super::columns::{Draft, context};
use super::shape::short_hash;
use super::wiring::Wired;
use super::{Plan, PlanOptions};
use crate::file::{Body, FlowFile};

/// What the nodes of a plan are built from, by their names.
#[derive(Clone, Debug, Default)]
pub struct Identities {
    nodes: BTreeMap<String, String>,
    files: FilesRead,
}

impl Identities {
    /// The names of the nodes that are built from the same in both. None, if something else is in a file now that this plan was made from: it
    /// is not known which nodes are made of it.
    pub fn common(&self, other: &Self) -> BTreeSet<String> {
        if self.files.have_changed() {
            return BTreeSet::new();
        }
        let is_same = |(node, identity): &(&String, &String)| other.nodes.get(*node) == Some(identity);
        self.nodes.iter().filter(is_same).map(|(node, _)| node.clone()).collect()
    }
}

impl Plan {
    /// What its nodes are built from.
    pub fn identities(&self) -> Identities {
        let known = self.nodes.iter().filter_map(|node| Some((node.name.clone(), node.identity.clone()?)));
        Identities { nodes: known.collect(), files: self.files.clone() }
    }
}

/// What a node of a flow file is built from: its settings, which have the values of secrets and of its connection, where it stands, and
/// the columns that come and go. What only the engine does with its rows is none of it.
pub(super) fn of_node(file: &FlowFile, wired: &Wired<'_>, draft: &Draft, options: &PlanOptions<'_>) -> String {
    let place = context(file, &wired.node.name, options);
    let reads: Vec<_> = wired.inputs.iter().flat_map(|port| &port.reads).collect();
    let inputs: Vec<_> = draft.inputs.iter().map(|port| (&port.name, &port.schema)).collect();
    let ports: Vec<_> =
        draft.ports.iter().map(|port| (&port.name, port.canonical.schema(), &port.event_time)).collect();
    let of_input = match &wired.node.body {
        Body::Input { common, .. } => Some((common.batch_rows, &common.event_time)),
        Body::Processor { .. } | Body::Output { .. } => None,
    };
    short_hash(&json!({
        "type": wired.node.kind,
        "settings": wired.node.table,
        "place": [json!(place.flow_folder), json!(place.work_folder), json!(place.registry)],
        "columns": format!("{reads:?} {inputs:?} {ports:?} {of_input:?} {}", draft.is_live),
    }))
}

/// What the output of dead letters is built from.
pub(super) fn of_dead_letters(file: &FlowFile, name: &str, path: &str, options: &PlanOptions<'_>) -> String {
    short_hash(&json!([path, context(file, name, options).work_folder]))
}
