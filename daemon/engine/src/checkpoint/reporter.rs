//! How nodes tell the coordinator where they are: at which barriers, with what state, and how far inputs have come.

use std::sync::Arc;

use millstream_core::{Barrier, Epoch, Positions, Snapshot};
use tokio::sync::{Notify, mpsc, watch};

use super::lineage::LineageTracker;
use super::manifest::{NodeEntry, NodePhase};
use super::replay_log::ReplayEvents;
use super::schedule::Schedule;
use crate::plan::NodeIndex;

/// The barriers of the durable checkpoints.
#[derive(Clone, Copy, Debug, Default)]
pub struct CompletedCheckpoints {
    /// The newest.
    pub newest: Epoch,
    /// The oldest that is kept.
    pub oldest: Epoch,
}

/// Where a node is of which a report tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// The node is at a barrier.
    Barrier(Barrier),
    /// The node has come to its end, which lies in this epoch: it has had its part in the barriers before.
    End(Epoch),
}

impl Point {
    /// The epoch in which the node is there.
    pub(super) fn epoch(self) -> Epoch {
        match self {
            Self::Barrier(barrier) => barrier.epoch,
            Self::End(epoch) => epoch,
        }
    }

    pub(super) fn is_end(self) -> bool {
        matches!(self, Self::End(_))
    }

    /// Whether a node that is there has ended.
    pub fn phase(self) -> NodePhase {
        if self.is_end() { NodePhase::Ended } else { NodePhase::Running }
    }

    /// Whether what is said there holds at a barrier: also at those behind the end, but at none before it.
    pub(super) fn holds_at(self, barrier: Epoch) -> bool {
        match self {
            Self::Barrier(at) => at.epoch == barrier,
            Self::End(epoch) => epoch <= barrier,
        }
    }
}

/// What a node hands over.
pub(super) struct Report {
    pub node: NodeIndex,
    pub point: Point,
    pub entry: NodeEntry,
    pub snapshot: Snapshot,
    pub events: ReplayEvents,
}

/// The ways of nodes to the coordinator.
#[derive(Clone)]
pub struct Reporter {
    pub(super) schedule: Arc<Schedule>,
    pub(super) reports: mpsc::UnboundedSender<Report>,
    pub(super) completed: watch::Receiver<CompletedCheckpoints>,
    pub(super) tracker: Arc<LineageTracker>,
    pub(super) hurry: Arc<Notify>,
}

impl Reporter {
    /// The schedule of checkpoints.
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// An input has come to a barrier: rows before `positions` belong to the epoch that ends here, or one before.
    pub fn pass(&self, node: NodeIndex, epoch: Epoch, positions: &Positions) {
        self.tracker.pass(node, epoch, positions);
    }

    /// A node that makes a model has come to a barrier. Whether it has made a version there.
    pub fn learned(&self, node: NodeIndex, epoch: Epoch, has_made_version: bool) {
        self.tracker.learned(node, epoch, has_made_version);
    }

    /// A node hands over its snapshot at a barrier, or at its end.
    pub fn report(&self, node: NodeIndex, point: Point, entry: NodeEntry, snapshot: Snapshot, events: ReplayEvents) {
        if let Point::End(epoch) = point {
            self.tracker.end(node, epoch, &entry.positions);
        }
        // Nobody listens any more if the flow has failed.
        let _ = self.reports.send(Report { node, point, entry, snapshot, events });
    }

    /// A node has much in memory that a checkpoint would take: the next one should not wait for its time.
    pub fn hurry(&self) {
        self.hurry.notify_one();
    }

    /// The durable checkpoints, as they come and go.
    pub fn completed_checkpoints(&self) -> watch::Receiver<CompletedCheckpoints> {
        self.completed.clone()
    }
}
