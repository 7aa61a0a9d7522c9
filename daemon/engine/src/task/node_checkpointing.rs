//! A node's part in checkpoints.

use std::collections::VecDeque;
use std::sync::Arc;

use millstream_core::{Barrier, Epoch, EventTime, Home, Run, Snapshot};
use millstream_store::crash;

use super::{CaughtUp, Ports};
use crate::align::Inputs;
use crate::checkpoint::{FanIn, FanInEvent, NodeEntry, NodePhase, NodeResume, Point, Recorded, ReplayEvents, Reporter};
use crate::plan::NodeIndex;
use crate::quarantine::Alone;

/// How a node hands over its state, and where it goes on.
pub struct NodeCheckpointing {
    /// The way to the coordinator.
    pub reporter: Reporter,
    /// The node.
    pub node: NodeIndex,
    /// Where each of its edges leads from.
    pub edges: Vec<String>,
    /// Where it goes on, if the flow is resumed.
    pub resume: Option<NodeResume>,
    /// The last barrier before that.
    pub passed: Epoch,
    /// What it has decided when it was run before, if that is gone through again.
    pub steps: ReplayEvents,
    /// What it was told by others then, if it may be told something else now.
    pub told: Option<Recorded>,
    /// Whether the flow keeps state.
    pub durable: bool,
    /// Whether it is written down what time decides.
    pub records: bool,
    /// Where it keeps what outlives the run.
    pub home: Home,
    /// Which run this is.
    pub run: Run,
    /// Rows of an input that go in batches of their own.
    pub alone: Alone,
    /// Whom inputs tell that they have nothing more.
    pub caught_up: Arc<CaughtUp>,
    /// Whether the node goes on as it was: it is open, has its state, and knows what has ended.
    pub goes_on: bool,
}

impl NodeCheckpointing {
    /// Whether a checkpoint is taken at a barrier that this node has come to.
    pub fn wanted(&self, epoch: Epoch) -> Option<Barrier> {
        self.reporter.schedule().wanted(self.node, epoch)
    }

    /// Whether a barrier is the last of this run, so that the task ends there.
    pub fn is_last(&self, epoch: Epoch) -> bool {
        self.reporter.schedule().ends_at(epoch)
    }

    /// Whether the node had come to its end when the flow was interrupted.
    pub fn had_ended(&self) -> bool {
        self.resume.as_ref().is_some_and(|resume| resume.entry.phase == NodePhase::Ended)
    }

    /// How far its event time had come for the inputs that advance with it, if the flow was interrupted.
    pub fn had_come(&self) -> Option<EventTime> {
        self.resume.as_ref().and_then(|resume| resume.entry.watermarks.as_ref()?.come)
    }

    /// What was known of the node's edges when the flow was interrupted.
    pub fn fan_in(&self) -> Option<&FanIn> {
        self.resume.as_ref()?.entry.fan_in.as_ref()
    }

    /// Hands over a processor's or output's snapshot at a barrier.
    pub fn report(&self, barrier: Barrier, ports: &Ports, inputs: &mut Inputs, snapshot: Snapshot) {
        let fan_in = inputs.state(&self.edges);
        self.send(Point::Barrier(barrier), ports, Some(fan_in), inputs.recorder(), snapshot);
    }

    /// Hands over the last snapshot.
    pub fn report_end(&self, ports: &Ports, inputs: &mut Inputs, snapshot: Snapshot) {
        self.send(Point::End(inputs.epoch()), ports, None, inputs.recorder(), snapshot);
    }

    fn send(
        &self,
        point: Point,
        ports: &Ports,
        fan_in: Option<FanIn>,
        recorder: VecDeque<FanInEvent>,
        snapshot: Snapshot,
    ) {
        let entry =
            NodeEntry { phase: point.phase(), fan_in, counters: ports.stats().counters(), ..NodeEntry::default() };
        self.reporter.report(self.node, point, entry, snapshot, ReplayEvents::Order(recorder));
        crash::point("snapshot-taken");
    }
}
