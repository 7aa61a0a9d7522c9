//! A flow goes on in place of another, behind a barrier that all tasks of that one have come to: nodes that are built from the same go on as
//! they are, with all that they have open; the others are built anew, and restored from what they have handed over there.
//!
//! No row is on an edge at that barrier. It is a checkpoint of the former flow, which goes on from there if anything goes wrong, until the
//! first checkpoint of the new one decides that it counts.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use millstream_store::crash;
use tokio::time::Instant;

use super::{Finished, FlowError, ReadyFlow, RunMode};
use crate::checkpoint::{Legacy, NodeLegacy, ResumeOptions, StartPoint};
use crate::plan::{Identities, Plan, PlannedBody};
use crate::task::{InputAtWork, InputRest};

/// What a flow leaves to the one that goes on in its place.
pub struct HandedOver {
    nodes: BTreeMap<String, Finished>,
    identities: Identities,
    legacy: Legacy,
}

/// A flow that could not go on in place of another, which still can, unless it is none.
#[derive(Debug)]
pub struct NotTakenOver {
    /// Why.
    pub error: FlowError,
    /// What the other one goes on from.
    pub back: Option<Box<HandedOver>>,
}

/// What a node goes on from as it was.
pub(super) struct GoesOn {
    pub rest: Option<InputRest>,
    pub legacy: NodeLegacy,
}

impl HandedOver {
    /// Of the nodes that a flow has given back, those that can go on as they are.
    pub(super) fn new(nodes: BTreeMap<String, Finished>, identities: Identities, legacy: Legacy) -> Self {
        Self { nodes, identities, legacy }
    }

    /// When the first input of the flow has stopped.
    pub fn stopped(&self) -> Instant {
        self.legacy.reached
    }

    /// Lets a flow go on from here. Nodes that do not go on as they are, are built, if that has not been done, and restored: that may wait for
    /// files and for the network.
    ///
    /// # Errors
    /// If a state would be lost, or a node can't be restored. Then the former flow can go on.
    pub fn go_on(mut self, mut plan: Plan, options: &ResumeOptions) -> Result<ReadyFlow, NotTakenOver> {
        let mut kept = self.identities.common(&plan.identities());
        kept.retain(|node| self.nodes.contains_key(node));
        let prepared = match self.restore_others(&mut plan, &kept, options) {
            Ok(prepared) => prepared,
            Err(error) => return Err(NotTakenOver { error, back: Some(Box::new(self)) }),
        };
        crash::point("change-restored");
        let mut go_on = BTreeMap::new();
        for (index, node) in plan.nodes.iter_mut().enumerate().filter(|(_, node)| kept.contains(&node.name)) {
            let (Some(finished), Some(legacy)) = (self.nodes.remove(&node.name), self.legacy.nodes.remove(&node.name))
            else {
                continue;
            };
            go_on.insert(index, GoesOn { rest: node.body.put_in(finished), legacy });
        }
        let Self { legacy, .. } = self;
        ReadyFlow::going_on(plan, prepared, go_on, &legacy).map_err(|error| NotTakenOver { error, back: None })
    }

    /// Restores the nodes that do not go on as they are. What is left of those is dropped first, since they may have to themselves what the
    /// new ones need.
    fn restore_others(
        &mut self,
        plan: &mut Plan,
        kept: &BTreeSet<String>,
        options: &ResumeOptions,
    ) -> Result<(RunMode, StartPoint), FlowError> {
        let checkpoints = self.legacy.checkpoints(plan, kept, options)?;
        self.nodes.retain(|node, _| kept.contains(node));
        self.legacy.drop_others(kept);
        let mut effects = RunMode::Keep(checkpoints);
        let start_point = effects.prepare_all(plan, kept)?;
        Ok((effects, start_point))
    }
}

impl PlannedBody {
    /// Has a node go on as it was. What an input has read and not sent.
    fn put_in(&mut self, finished: Finished) -> Option<InputRest> {
        match (self, finished) {
            (Self::Input { build, .. }, Finished::Input(InputAtWork { input, rest })) => {
                *build = Box::new(|| Ok(input));
                rest
            }
            (Self::Processor { build, .. }, Finished::Processor(processor)) => {
                *build = Box::new(|| Ok(processor));
                None
            }
            (Self::Output { build, .. }, Finished::Output(output)) => {
                *build = Box::new(|| Ok(output));
                None
            }
            // What is built from the same is the same.
            _ => None,
        }
    }
}

impl fmt::Debug for HandedOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandedOver").field("nodes", &self.nodes.keys()).finish_non_exhaustive()
    }
}

impl fmt::Display for NotTakenOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for NotTakenOver {}
