//! Nodes that keep rows while there is no room behind them: whether any wait there, and what may not be behind them.

use std::collections::BTreeSet;

use millstream_core::Problem;

use super::{NodeIndex, Plan, PlannedBody, PlannedNode};
use crate::file::{Diagnostics, FlowFile};

impl Plan {
    /// Sees which of these nodes keep rows, and lets them wait until those behind them read.
    ///
    /// # Errors
    /// If rows would be predicted by what became known while they waited.
    pub(super) fn plan_buffers(&mut self, file: &FlowFile) -> Result<(), Diagnostics> {
        for (node, sources) in self.sources_of_nodes().into_iter().enumerate() {
            let is_live = sources.into_iter().any(|input| self.is_endless(input));
            let PlannedNode { name, body, .. } = &mut self.nodes[node];
            let PlannedBody::Processor { buffering: Some(buffering), .. } = body else { continue };
            buffering.is_live = is_live;
            if !is_live {
                self.warnings.push(format!(
                    "rows pass `{name}` at once: where all inputs end nothing waits, since when it leaves would depend on time"
                ));
            }
        }
        self.gate_buffers();
        self.check_predicted(file)
    }

    /// Whether an input goes on as long as its flow does.
    fn is_endless(&self, input: NodeIndex) -> bool {
        matches!(self.nodes[input].body, PlannedBody::Input { finite: false, pauses: false, .. })
    }

    /// Lets those that have kept rows wait where a node behind them reads others first: what lies on an edge that is not read would be
    /// in no checkpoint.
    fn gate_buffers(&mut self) {
        let kept = self.buffers_before();
        for node in 0..self.nodes.len() {
            for stage in 1..self.nodes[node].stages.len() {
                let edges = self.nodes[node].stages[stage].edges.iter();
                let buffers: BTreeSet<NodeIndex> =
                    edges.flat_map(|edge| &kept[self.edges[*edge].from.0]).copied().collect();
                self.nodes[node].stages[stage].gates.extend(buffers);
            }
        }
    }

    /// The nodes of this kind through which the rows of each node come, with itself.
    fn buffers_before(&self) -> Vec<BTreeSet<NodeIndex>> {
        let mut of_nodes: Vec<BTreeSet<NodeIndex>> = Vec::with_capacity(self.nodes.len());
        for (index, node) in self.nodes.iter().enumerate() {
            let edges = self.edges.iter().filter(|edge| edge.to.0 == index);
            let before = edges.flat_map(|edge| &of_nodes[edge.from.0]).copied();
            of_nodes.push(before.chain(node.buffering().map(|_| index)).collect());
        }
        of_nodes
    }

    /// Refuses nodes that predict rows which have waited by a model of this flow, which has learned meanwhile. Where the same node has put
    /// the rows that are learned and those that are predicted into one order, none is predicted by a later one.
    fn check_predicted(&self, file: &FlowFile) -> Result<(), Diagnostics> {
        let is_input = |node: &PlannedNode| matches!(node.body, PlannedBody::Input { .. });
        let origins = self.sources_of_rows(|node| is_input(node) || node.keeps_rows());
        let mut diagnostics = Diagnostics::default();
        for (index, node) in self.nodes.iter().enumerate() {
            for edge in &node.always {
                let (predicted, learned) = (&origins[index], &origins[self.edges[*edge].from.0]);
                let keeps_order =
                    |origin: &NodeIndex| self.nodes[*origin].buffering().is_some_and(|buffering| buffering.keeps_order);
                let are_in_order = predicted == learned && predicted.len() == 1 && predicted.iter().all(keeps_order);
                let buffer = predicted.iter().find(|origin| self.nodes[**origin].keeps_rows());
                if let Some(buffer) = buffer.filter(|_| !are_in_order) {
                    let problem = may_know_the_future(&self.nodes[*buffer].name);
                    diagnostics.extend(file.diagnose(&node.name, problem.into()));
                }
            }
        }
        if diagnostics.is_empty() { Ok(()) } else { Err(diagnostics) }
    }
}

fn may_know_the_future(buffer: &str) -> Problem {
    Problem::new(format!("rows that wait in `{buffer}` would be predicted by a model that has learned later ones meanwhile"))
        .help(format!(
            "let `{buffer}` read from this node instead, or let it keep the order of all rows that are learned and predicted, before they \
             part"
        ))
        .at(["from"])
}
