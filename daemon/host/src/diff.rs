//! In what two texts of a flow differ, node by node. Only names of settings are told, so that no secret is.

use std::collections::BTreeSet;

use millstream_core::Role;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

/// What becomes of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// It stays as it is, and keeps its state.
    Same,
    /// Its settings change; it keeps its state.
    Changed,
    /// It is new, and begins without a state.
    Added,
    /// It goes, and so does its state.
    Removed,
}

/// What becomes of a node with another text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeChange {
    /// The node.
    pub node: String,
    /// What becomes of it.
    pub effect: Effect,
    /// The settings that differ.
    pub settings: Vec<String>,
}

/// In what two texts differ.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FlowDiff {
    /// What becomes of each node, those of the new text first.
    pub nodes: Vec<NodeChange>,
    /// The tables besides nodes that differ, such as `checkpoint`.
    pub others: Vec<String>,
}

impl FlowDiff {
    /// In what a text differs from the one before, or from nothing. A text that is no TOML is taken for an empty one.
    pub fn between(former: &str, text: &str) -> Self {
        let (former, text): (Table, Table) = (parse(former), parse(text));
        let (before, now) = (nodes(&former), nodes(&text));
        let find = |name: &str| before.iter().find(|(known, _)| *known == name).map(|(_, node)| *node);
        let mut changes: Vec<_> = now.iter().map(|(name, node)| change(name, find(name), node)).collect();
        let is_gone = |name: &&str| !now.iter().any(|(known, _)| known == name);
        changes.extend(before.iter().map(|(name, _)| *name).filter(is_gone).map(|name| NodeChange {
            node: name.to_owned(),
            effect: Effect::Removed,
            settings: Vec::new(),
        }));
        let is_other = |key: &&String| !Role::ALL.iter().any(|role| role.name() == key.as_str());
        let others = differing(&former, &text).into_iter().filter(|key| is_other(&key)).collect();
        Self { nodes: changes, others }
    }
}

fn parse(text: &str) -> Table {
    text.parse().unwrap_or_default()
}

/// The nodes of a flow, with the tables of their settings.
fn nodes(flow: &Table) -> Vec<(&str, &Table)> {
    let of_role = |role: &Role| flow.get(role.name()).and_then(Value::as_table);
    let tables = Role::ALL.iter().filter_map(of_role).flatten();
    tables.filter_map(|(name, node)| Some((name.as_str(), node.as_table()?))).collect()
}

fn change(name: &str, former: Option<&Table>, node: &Table) -> NodeChange {
    let (effect, settings) = match former.map(|former| differing(former, node)) {
        None => (Effect::Added, Vec::new()),
        Some(settings) if settings.is_empty() => (Effect::Same, settings),
        Some(settings) => (Effect::Changed, settings),
    };
    NodeChange { node: name.to_owned(), effect, settings }
}

/// The keys of two tables whose values differ.
fn differing(one: &Table, other: &Table) -> Vec<String> {
    let keys: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    keys.into_iter().filter(|key| one.get(*key) != other.get(*key)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_that_stay_change_come_and_go_are_told() {
        let before =
            "input.a = { type = 'x', rate = 1 }\ninput.b = { type = 'x' }\noutput.c = { type = 'y', from = 'a' }";
        let now = "checkpoint.keep = 3\ninput.a = { type = 'x', rate = 2, rows = 3 }\nprocessor.d = { type = 'z', from = 'a' }\n\
                   output.c = { type = 'y', from = 'a' }";
        let diff = FlowDiff::between(before, now);
        let told: Vec<_> =
            diff.nodes.iter().map(|one| (one.node.as_str(), one.effect, one.settings.join(" "))).collect();
        let none = String::new;
        assert_eq!(
            told,
            [
                ("a", Effect::Changed, "rate rows".to_owned()),
                ("d", Effect::Added, none()),
                ("c", Effect::Same, none()),
                ("b", Effect::Removed, none())
            ]
        );
        assert_eq!(diff.others, ["checkpoint"]);
        assert!(FlowDiff::between("", "no toml").nodes.is_empty());
    }
}
