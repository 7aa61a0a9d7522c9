//! A node, as the coordinator knows it.

use std::collections::VecDeque;

use millstream_core::{Barrier, Run, Snapshot};

use crate::checkpoint::manifest::{NodeEntry, NodePhase};
use crate::checkpoint::pieces::Pieces;
use crate::checkpoint::replay_log::ReplayEvents;
use crate::checkpoint::reporter::Report;
use crate::plan::{Plan, PlannedNode};

/// What the coordinator knows of a node.
pub(super) struct Node {
    pub(super) name: String,
    /// An input that may still wait for others.
    pub(super) may_wait: bool,
    /// The inputs that its rows stem from.
    pub(super) sources: Vec<usize>,
    /// As it was at the last checkpoint.
    pub(super) entry: NodeEntry,
    pub(super) reports: VecDeque<Report>,
    /// In which run it was opened, if it goes on as it was.
    pub(super) run: Option<Run>,
    /// Its state, where somebody needs it without its being written.
    pub(super) pieces: Pieces,
}

impl Node {
    pub(super) fn has_ended(&self) -> bool {
        let is_last = self.reports.front().is_some_and(|report| report.point.is_end());
        is_last || self.reports.is_empty() && self.entry.phase == NodePhase::Ended
    }

    /// Whether it is known what the node was at a barrier.
    pub(super) fn is_ready_for(&self, barrier: Barrier) -> bool {
        match self.reports.front() {
            // An input that tells first of something behind the barrier has waited there.
            Some(report) => {
                report.point.holds_at(barrier.epoch) || self.may_wait && report.point.epoch() > barrier.epoch
            }
            // Nodes that wait for it have come to the barrier, so if it had begun before, it would have reported.
            None => self.entry.phase == NodePhase::Ended || self.may_wait,
        }
    }

    /// What the node has handed over for a checkpoint. Nothing if it has ended before, or waits: then it is where it was.
    pub(super) fn take_report(&mut self, barrier: Barrier) -> Option<(Snapshot, ReplayEvents)> {
        let report = self.reports.pop_front_if(|report| report.point.holds_at(barrier.epoch))?;
        let (role, kind, shape) = (self.entry.role, self.entry.kind.clone(), self.entry.shape.clone());
        let (state, pending) = (std::mem::take(&mut self.entry.state), std::mem::take(&mut self.entry.pending));
        self.entry = NodeEntry { role, kind, shape, state, pending, ..report.entry };
        // An input that has once begun reports from now on.
        self.may_wait = false;
        Some((report.snapshot, report.events))
    }
}

/// The nodes of a plan, of which nothing has been heard.
pub(super) fn nodes(plan: &Plan) -> Vec<Node> {
    let nodes = plan.nodes.iter().zip(plan.sources_of_nodes()).map(|(node, sources)| Node {
        name: node.name.clone(),
        may_wait: node.may_wait(),
        sources: sources.into_iter().collect(),
        entry: first_entry(node),
        reports: VecDeque::new(),
        run: None,
        pieces: Pieces::default(),
    });
    nodes.collect()
}

/// A node at the beginning.
fn first_entry(node: &PlannedNode) -> NodeEntry {
    let phase = if node.may_wait() { NodePhase::Waiting } else { NodePhase::default() };
    NodeEntry {
        role: node.role(),
        kind: node.kind.to_owned(),
        shape: node.shape.clone(),
        phase,
        ..NodeEntry::default()
    }
}
