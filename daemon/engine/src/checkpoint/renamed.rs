//! Flows that share a place for their states, and whether one that begins is one of them under another name.

use std::collections::{BTreeMap, BTreeSet};

use millstream_core::Result;
use millstream_store::Store;

use super::checkpoint_store::CheckpointStore;
use super::manifest::Manifest;
use crate::plan::Plan;

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

/// What is to be said of a flow without any checkpoint, if flows of other names with the same nodes have some in its place: it
/// may have been renamed.
pub fn warning(plan: &Plan, checkpoint_store: &CheckpointStore) -> Result<Option<String>> {
    if !checkpoint_store.numbers()?.is_empty() {
        return Ok(None);
    }
    let others = flows(checkpoint_store.store())?.into_iter().filter(|other| *other != plan.flow);
    // What can't be read can't be resumed, either.
    let newest = |other: &String| checkpoint_store.of(other).latest().ok().flatten();
    let others: Vec<String> =
        others.filter(|other| newest(other).is_some_and(|(manifest, _)| has_nodes_of(&manifest, plan))).collect();
    let Some(first) = others.first() else { return Ok(None) };
    let names: Vec<String> = others.iter().map(|other| format!("`{other}`")).collect();
    Ok(Some(format!(
        "flow `{}` begins from scratch: `{}` has no state of it, but that of {}, with the same nodes; if it was renamed, \
         `[flow] name = \"{first}\"` resumes it from there",
        plan.flow,
        checkpoint_store.location(),
        names.join(", ")
    )))
}

fn has_nodes_of(manifest: &Manifest, plan: &Plan) -> bool {
    let kept: BTreeMap<&str, &str> =
        manifest.nodes.iter().map(|(node, entry)| (node.as_str(), entry.kind.as_str())).collect();
    let planned = plan.nodes.iter().map(|node| (node.name.as_str(), node.kind)).collect();
    !kept.is_empty() && kept == planned
}
