//! Which rows a model has learned of: those up to where its inputs were, but for what it has missed, or has had before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use millstream_core::{Epoch, Role};
use serde_json::{Value, json};

use super::lineage_resets::{LineageResets, Positions};
use super::manifest::Manifest;
use crate::plan::{NodeIndex, Plan, PlannedNode};

/// How far inputs had come at the barriers at which versions of models were made, until a checkpoint covers those.
#[derive(Debug)]
pub struct LineageTracker {
    inputs: BTreeSet<NodeIndex>,
    barriers: Mutex<Barriers>,
}

/// How far inputs had come at a barrier. One that is not named had not begun, or had ended.
type AtBarrier = BTreeMap<NodeIndex, millstream_core::Positions>;

#[derive(Debug, Default)]
struct Barriers {
    /// The nodes that make models and have not ended, and the last barriers that they have come to.
    learners: BTreeMap<NodeIndex, Epoch>,
    /// The barriers that some of these are still to come to.
    ahead: BTreeMap<Epoch, AtBarrier>,
    /// Barriers at which versions were made, also if some nodes are still to come there.
    made: BTreeSet<Epoch>,
    /// The others of these.
    kept: BTreeMap<Epoch, AtBarrier>,
    /// The inputs that have ended: in which epoch, and how far they came.
    ended: BTreeMap<NodeIndex, (Epoch, Positions)>,
}

impl LineageTracker {
    /// Of the inputs of a flow that goes on behind the barrier `passed`.
    pub fn of(plan: &Plan, passed: Epoch) -> Self {
        let indices = |is_one: fn(&PlannedNode) -> bool| {
            let nodes = plan.nodes.iter().enumerate();
            nodes.filter(move |(_, node)| is_one(node)).map(|(index, _)| index)
        };
        let learners = indices(PlannedNode::makes_model).map(|index| (index, passed)).collect();
        let inputs = indices(|node| node.role() == Role::Input).collect();
        Self { inputs, barriers: Mutex::new(Barriers { learners, ..Barriers::default() }) }
    }

    /// An input has come to a barrier, where rows before `positions` lie before it.
    pub fn pass(&self, input: NodeIndex, epoch: Epoch, positions: &millstream_core::Positions) {
        let mut barriers = self.lock();
        // Those who learn of it come to the barrier behind it.
        if !barriers.is_passed(epoch) {
            barriers.ahead.entry(epoch).or_default().insert(input, positions.clone());
        }
    }

    /// A node that makes a model has come to a barrier. Whether it has made a version there.
    pub fn learned(&self, node: NodeIndex, epoch: Epoch, has_made_version: bool) {
        let mut barriers = self.lock();
        if has_made_version {
            barriers.made.insert(epoch);
        }
        barriers.learners.insert(node, epoch);
        barriers.forget();
    }

    /// A node has come to its end in an epoch; an input that has had the rows before `positions`.
    pub fn end(&self, node: NodeIndex, epoch: Epoch, positions: &Positions) {
        let mut barriers = self.lock();
        if self.inputs.contains(&node) {
            barriers.ended.insert(node, (epoch, positions.clone()));
        }
        barriers.learners.remove(&node);
        barriers.forget();
    }

    /// A checkpoint is decided that has the versions up to a barrier.
    pub fn checkpoint_completed(&self, epoch: Epoch) {
        let mut barriers = self.lock();
        barriers.made = barriers.made.split_off(&epoch.next());
        barriers.kept = barriers.kept.split_off(&epoch.next());
    }

    /// How far an input had come at a barrier at which a version was made; one that had ended before, how far it came at all.
    /// None if it had not begun.
    pub fn at(&self, input: NodeIndex, epoch: Epoch) -> Option<Value> {
        let barriers = self.lock();
        if let Some((_, positions)) = barriers.ended.get(&input).filter(|(end, _)| *end <= epoch) {
            return Some(json!(positions));
        }
        let barrier = barriers.kept.get(&epoch).or_else(|| barriers.ahead.get(&epoch))?;
        let positions = barrier.get(&input)?.iter();
        Some(positions.map(|(partition, next)| (partition.to_string(), Value::from(*next))).collect())
    }

    fn lock(&self) -> MutexGuard<'_, Barriers> {
        self.barriers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Barriers {
    /// Forgets the barriers that nobody is still to come to, but for those with versions.
    fn forget(&mut self) {
        while let Some(epoch) = self.ahead.keys().next().copied().filter(|epoch| self.is_passed(*epoch)) {
            let inputs = self.ahead.remove(&epoch).unwrap_or_default();
            if self.made.contains(&epoch) {
                self.kept.insert(epoch, inputs);
            }
        }
    }

    /// Whether nobody is still to come to a barrier.
    fn is_passed(&self, epoch: Epoch) -> bool {
        self.learners.values().all(|passed| epoch <= *passed)
    }
}

/// Notes of every model what it will miss of its inputs, or has had before, when these nodes start from scratch.
pub fn note(manifest: &mut Manifest, plan: &Plan, scratch: &BTreeSet<String>) {
    let sources = plan.sources_of_nodes();
    for (node, sources) in plan.nodes.iter().zip(sources).filter(|(node, _)| node.makes_model()) {
        let begins = scratch.contains(&node.name) || !manifest.nodes.contains_key(&node.name);
        let mut resets = manifest.resets.remove(&node.name).filter(|_| !begins).unwrap_or_default();
        for input in sources.into_iter().map(|input| &plan.nodes[input].name) {
            let to = manifest.nodes.get(input).map(|entry| entry.positions.clone()).unwrap_or_default();
            match (begins, scratch.contains(input)) {
                (true, false) => resets.begin_behind(input, to),
                (false, true) => resets.read_again(input, to),
                (true, true) | (false, false) => {}
            }
        }
        if resets != LineageResets::default() {
            manifest.resets.insert(node.name.clone(), resets);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::running::plan;

    fn read(tracker: &LineageTracker, input: NodeIndex, epoch: u64, next: u64) {
        tracker.pass(input, Epoch(epoch), &[("".into(), next)].into());
    }

    #[test]
    fn only_the_borders_with_versions_are_remembered_and_those_that_are_still_to_come() {
        let plan = plan(
            r#"
            input.a = { type = "count", rows = 5 }
            input.b = { type = "count", rows = 5 }
            processor.both = { type = "merge", from = ["a", "b"] }
            processor.taught = { type = "teach", from = "both", model = "m" }
            output.c = { type = "file", from = "taught", path = "tracker" }
            "#,
        );
        let [a, b, learner] = ["a", "b", "taught"].map(|name| {
            let index = plan.nodes.iter().position(|node| node.name == name);
            index.expect("it is there")
        });
        let tracker = LineageTracker::of(&plan, Epoch(0));
        for epoch in 1..=1000 {
            read(&tracker, a, epoch, 10 * epoch);
            tracker.learned(learner, Epoch(epoch - 1), epoch == 500);
        }
        let known = |tracker: &LineageTracker| {
            let barriers = tracker.lock();
            barriers.ahead.len() + barriers.kept.len()
        };
        assert_eq!(known(&tracker), 2);
        assert_eq!(tracker.at(a, Epoch(499)), Some(json!({ "": 4990 })));
        assert_eq!(tracker.at(b, Epoch(499)), None, "it has not begun");
        tracker.end(a, Epoch(1001), &[(String::new(), 10_003)].into());
        tracker.learned(learner, Epoch(1000), true);
        assert_eq!(tracker.at(a, Epoch(1000)), Some(json!({ "": 10_000 })), "it ends behind that barrier");
        read(&tracker, b, 1000, 3);
        assert_eq!(tracker.at(a, Epoch(1000)), Some(json!({ "": 10_000 })), "whoever else comes late");
        tracker.checkpoint_completed(Epoch(1000));
        assert_eq!(known(&tracker), 0);
        read(&tracker, b, 1001, 7);
        tracker.learned(learner, Epoch(1001), true);
        assert_eq!(tracker.at(a, Epoch(1001)), Some(json!({ "": 10_003 })));
        assert_eq!(tracker.at(b, Epoch(1001)), Some(json!({ "": 7 })));
    }
}
