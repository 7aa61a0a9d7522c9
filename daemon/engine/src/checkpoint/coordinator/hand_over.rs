//! A flow hands its nodes over to one that goes on in its place.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millstream_core::{Epoch, Error, PendingCommit, Result, Run, Then};
use millstream_store::crash;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::{Conclusion, Coordinator};
use crate::checkpoint::commits::Queue;
use crate::checkpoint::flow_checkpoints::FlowCheckpoints;
use crate::checkpoint::manifest::NodeEntry;
use crate::checkpoint::options::ResumeOptions;
use crate::phase::Phase;
use crate::plan::{NodeIndex, Plan};
use crate::retry::LAST_PATIENCE;

/// What a coordinator leaves to the one of the flow that goes on in place of its own.
pub struct Legacy {
    /// Where the flow was handed over.
    pub(in crate::checkpoint) epoch: Epoch,
    /// When the first input came there.
    pub reached: Instant,
    /// The nodes, by name.
    pub nodes: BTreeMap<String, NodeLegacy>,
    checkpoints: FlowCheckpoints,
    marked: u64,
    retries: Arc<watch::Sender<bool>>,
}

/// What is left of a node.
pub struct NodeLegacy {
    /// Where it was.
    pub(in crate::checkpoint) entry: NodeEntry,
    run: Run,
    commits: Queue,
    retrying: Option<String>,
    unmarked: Vec<PendingCommit>,
}

impl std::fmt::Debug for Legacy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Legacy").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

impl Legacy {
    /// The checkpoints of a flow that goes on with the nodes in `kept` as they are.
    ///
    /// # Errors
    /// If the state of another node can't be used, by name.
    pub fn checkpoints(
        &self,
        plan: &Plan,
        kept: &BTreeSet<String>,
        options: &ResumeOptions,
    ) -> Result<FlowCheckpoints> {
        let entries = self.nodes.iter().map(|(name, node)| (name.clone(), node.entry.clone())).collect();
        self.checkpoints.go_on(plan, entries, kept, options)
    }

    /// Drops the committers of the nodes that do not go on as they are. They have nothing left to commit.
    pub fn drop_others(&mut self, kept: &BTreeSet<String>) {
        let others = self.nodes.iter_mut().filter(|(node, _)| !kept.contains(*node));
        others.for_each(|(_, node)| node.commits = Queue::default());
    }
}

impl Coordinator {
    /// Goes on where another coordinator was.
    pub fn inherit(&mut self, legacy: &Legacy) {
        (self.has_inherited, self.marked) = (true, legacy.marked);
        self.commits.go_on(legacy.retries.clone());
    }

    /// Goes on with what a node has to commit, which goes on as it was.
    pub fn inherit_node(&mut self, node: NodeIndex, legacy: NodeLegacy) {
        let NodeLegacy { run, commits, retrying, unmarked, .. } = legacy;
        self.nodes[node].run = Some(run);
        self.commits.set_queue(node, commits, retrying);
        self.unmarked.extend(unmarked.into_iter().map(|stage| (node, stage)));
    }

    /// The flow is handed over. What nodes have to commit that do not go on as they are becomes visible before; that of the others need
    /// not.
    pub(super) async fn hand_over(mut self, keeps: &BTreeSet<NodeIndex>) -> Conclusion {
        crash::point("change-border");
        self.phase.send_modify(|phase| *phase = (*phase).max(Phase::Stopped));
        let names: BTreeSet<String> = keeps.iter().map(|node| self.nodes[*node].name.clone()).collect();
        let drained = timeout(LAST_PATIENCE, self.drain_nodes(|node| !names.contains(&node.name))).await;
        let failure = match drained {
            Ok(Ok(())) => None,
            Ok(Err(failure)) => Some(failure),
            Err(_) => Some(
                Error::transient("what it has written does not become visible in time, so that it can't be changed")
                    .into(),
            ),
        };
        if failure.is_some() {
            self.phase.send_modify(|phase| *phase = Phase::Failing);
            self.commits.give_up().await;
            return Conclusion { failure, ..Conclusion::default() };
        }
        Conclusion { last: Some(Then::Stop), legacy: self.legacy(), ..Conclusion::default() }
    }

    fn legacy(&mut self) -> Option<Legacy> {
        let checkpoints = self.checkpoints.clone()?;
        let (queues, retries) = self.commits.hand_over();
        let mut unmarked: Vec<Vec<PendingCommit>> = self.nodes.iter().map(|_| Vec::new()).collect();
        std::mem::take(&mut self.unmarked).into_iter().for_each(|(node, stage)| unmarked[node].push(stage));
        let nodes = std::mem::take(&mut self.nodes).into_iter().zip(queues).zip(unmarked).zip(&self.stats.nodes);
        let nodes = nodes.map(|(((node, commits), unmarked), stats)| {
            let run = node.run.unwrap_or_else(|| checkpoints.run());
            (node.name, NodeLegacy { entry: node.entry, run, commits, retrying: stats.retrying(), unmarked })
        });
        let nodes = nodes.collect();
        let reached = self.schedule.border_reached().unwrap_or_else(Instant::now);
        Some(Legacy { epoch: self.last, reached, nodes, checkpoints, marked: self.marked, retries })
    }
}
