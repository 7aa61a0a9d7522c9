//! Which inputs advance together in event time: those that meet where a node predicts by a model that another one trains.
//!
//! Where one of them has no event time, the flow is warned of.

use std::collections::BTreeSet;

use millstream_core::PortRole;

use super::waits::Waits;
use super::{NodeIndex, Plan, PlannedBody, PlannedNode};
use crate::align::ReadOrder;

/// Inputs that advance together in event time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedTimeGroup {
    /// The inputs, in the order of the plan.
    pub members: Vec<PlannedMember>,
    /// Whether all of them end by themselves, so that their epochs end at the same event times in every run.
    pub is_strict: bool,
}

/// An input of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedMember {
    /// The node.
    pub input: NodeIndex,
    /// Whether its rows are predicted by what is learned from others.
    pub is_predicted: bool,
    /// The members that it waits for, counted from 0.
    pub waits_for: Vec<usize>,
    /// The members that have to end before it begins.
    pub after: Vec<usize>,
}

/// The inputs on both sides of a model edge.
struct Crossing {
    /// The node that predicts.
    node: NodeIndex,
    /// The inputs whose rows it predicts.
    predicted: BTreeSet<NodeIndex>,
    /// The inputs that the model learns from.
    learned: BTreeSet<NodeIndex>,
    /// Whether the model's only version comes at the end.
    only_at_the_end: bool,
}

impl Crossing {
    /// An input that is learned from and another one that is predicted, unless the rows of one follow those of the other.
    fn pairs(&self, waits: &Waits) -> Vec<(NodeIndex, NodeIndex)> {
        let pairs = self.learned.iter().flat_map(|learned| self.predicted.iter().map(move |other| (*learned, *other)));
        let is_sequence = |a, b| waits.is_after(a, b) || waits.is_after(b, a) && self.predicted.contains(&a);
        pairs.filter(|(a, b)| a != b && !is_sequence(*a, *b)).collect()
    }

    /// Whether an input that is learned from is read to its end before one begins that is predicted.
    fn learns_first(&self, waits: &Waits) -> bool {
        self.pairs(waits).iter().any(|(learned, predicted)| waits.is_after(*predicted, *learned))
    }
}

impl Plan {
    /// Puts inputs into groups, and warns of those that can't be in one.
    pub(super) fn group_by_time(&mut self, waits: &mut Waits) {
        let crossings = self.crossings();
        let groups = self.time_groups(&crossings, waits);
        let mut with_groups = waits.clone();
        let mut gates = Vec::new();
        for group in &groups {
            gates.extend(self.shared_gates(group, &mut with_groups));
            group.couple(&mut with_groups);
        }
        let are_possible =
            with_groups.cycle().is_none() && !crossings.iter().any(|crossing| crossing.learns_first(waits));
        if are_possible {
            *waits = with_groups;
            for (node, stage, input) in gates {
                self.nodes[node].stages[stage].gates.push(input);
            }
            self.time_groups = groups;
        }
        for crossing in &crossings {
            self.warnings.extend(self.warning(crossing, waits, are_possible));
        }
    }

    /// Where nodes predict by models that are trained from other inputs than their own.
    fn crossings(&self) -> Vec<Crossing> {
        let rows = self.sources_of_rows(|node| matches!(node.body, PlannedBody::Input { .. }));
        let crossing = |(node, edge): (usize, usize)| {
            let (trainer, port) = self.edges[edge].from;
            let only_at_the_end = self.nodes[trainer].ports[port].only_at_the_end;
            Crossing { node, predicted: rows[node].clone(), learned: rows[trainer].clone(), only_at_the_end }
        };
        let edges = self.nodes.iter().enumerate();
        edges.flat_map(|(node, planned)| planned.always.iter().map(move |edge| (node, *edge))).map(crossing).collect()
    }

    /// The inputs, or other sources, that the rows of each node stem from: not those that are only looked up, or learned from.
    pub(super) fn sources_of_rows(&self, is_source: impl Fn(&PlannedNode) -> bool) -> Vec<BTreeSet<NodeIndex>> {
        let mut of_nodes: Vec<BTreeSet<NodeIndex>> = Vec::with_capacity(self.nodes.len());
        for (index, node) in self.nodes.iter().enumerate() {
            let is_timed = node.stages.iter().any(|stage| stage.read_order == ReadOrder::EventTime);
            let brings_rows = |port: usize| port == 0 || is_timed && node.inputs[port].role != PortRole::Versions;
            let edges = self.edges.iter().filter(|edge| edge.to.0 == index && brings_rows(edge.to.1));
            of_nodes.push(if is_source(node) {
                BTreeSet::from([index])
            } else {
                edges.flat_map(|edge| &of_nodes[edge.from.0]).copied().collect()
            });
        }
        of_nodes
    }

    /// The groups. An input is in one at most.
    fn time_groups(&self, crossings: &[Crossing], waits: &Waits) -> Vec<PlannedTimeGroup> {
        let mut groups: Vec<BTreeSet<NodeIndex>> = Vec::new();
        for crossing in crossings {
            let timed =
                crossing.predicted.union(&crossing.learned).copied().filter(|input| self.has_event_time(*input));
            let mut group: BTreeSet<NodeIndex> = timed.collect();
            groups.retain(|other| {
                let is_apart = other.is_disjoint(&group);
                if !is_apart {
                    group.extend(other);
                }
                is_apart
            });
            groups.push(group);
        }
        let groups = groups.into_iter().map(|group| self.time_group(&group, crossings, waits));
        groups.filter(|group| group.members.iter().any(|member| !member.waits_for.is_empty())).collect()
    }

    fn time_group(&self, inputs: &BTreeSet<NodeIndex>, crossings: &[Crossing], waits: &Waits) -> PlannedTimeGroup {
        let is_strict = inputs.iter().all(|input| self.is_strict_input(*input));
        // Of live inputs, none whose rows are predicted is held up.
        let waits_for = |a: usize, b: usize| {
            let only_learned = |crossing: &Crossing| {
                crossing.learned.contains(&a) && crossing.predicted.contains(&b) && !crossing.predicted.contains(&a)
            };
            a != b && (is_strict || crossings.iter().any(only_learned))
        };
        let indices = |wanted: &dyn Fn(usize) -> bool| {
            inputs.iter().enumerate().filter(|(_, input)| wanted(**input)).map(|(index, _)| index).collect()
        };
        let member = |input: &NodeIndex| PlannedMember {
            input: *input,
            is_predicted: crossings.iter().any(|crossing| crossing.predicted.contains(input)),
            waits_for: indices(&|other| waits_for(*input, other)),
            after: indices(&|other| waits.is_after(*input, other)),
        };
        PlannedTimeGroup { members: inputs.iter().map(member).collect(), is_strict }
    }

    /// The gates at which all of a group have to wait, since one of them does.
    fn shared_gates(&self, group: &PlannedTimeGroup, waits: &mut Waits) -> Vec<(usize, usize, usize)> {
        let members: BTreeSet<NodeIndex> = group.members.iter().map(|member| member.input).collect();
        let sources = self.sources();
        let mut gates = Vec::new();
        for (node, planned) in self.nodes.iter().enumerate() {
            let mut started = BTreeSet::new();
            for (index, stage) in planned.stages.iter().enumerate() {
                let is_held = stage.gates.iter().any(|input| members.contains(input));
                if is_held && members.is_disjoint(&started) {
                    for input in members.iter().filter(|input| !stage.gates.contains(input)) {
                        waits.wait_along(*input, &started);
                        gates.push((node, index, *input));
                    }
                }
                started.extend(stage.edges.iter().flat_map(|edge| sources.of(*edge)));
            }
        }
        gates
    }

    fn warning(&self, crossing: &Crossing, waits: &Waits, are_possible: bool) -> Option<String> {
        let quoted = |inputs: &BTreeSet<NodeIndex>| {
            let names: Vec<_> = inputs.iter().map(|input| format!("`{}`", self.nodes[*input].name)).collect();
            names.join(", ")
        };
        let pairs = crossing.pairs(waits);
        let learned: BTreeSet<NodeIndex> = pairs.iter().map(|(learned, _)| *learned).collect();
        let predicted: BTreeSet<NodeIndex> = pairs.iter().map(|(_, predicted)| *predicted).collect();
        let untimed: BTreeSet<NodeIndex> =
            learned.union(&predicted).copied().filter(|input| !self.has_event_time(*input)).collect();
        // Rows that have been put in one order before are learned and predicted in that order.
        if pairs.is_empty() || crossing.learned == crossing.predicted {
            return None;
        }
        let (node, learned, predicted) = (&self.nodes[crossing.node].name, quoted(&learned), quoted(&predicted));
        let start = format!("`{node}` predicts rows of {predicted} by a model that learns from {learned}");
        match (untimed.is_empty(), crossing.only_at_the_end) {
            // All that it learns comes before what it predicts, and was meant to.
            (false, true) => None,
            (false, false) => Some(format!(
                "{start}, and these inputs aren't in time order, so that a row may be predicted by what became known later; \
                 say `event_time` at {}",
                quoted(&untimed)
            )),
            (true, true) => Some(format!(
                "{start}, and whose only version comes at the end, so that rows are predicted by what became known later; \
                 `publish = {{ rows = 10000 }}` at the node that trains it lets versions come in time"
            )),
            (true, false) if !are_possible => Some(format!(
                "{start}, and these inputs can't advance together in event time, since one of them is read to its end before \
                 another begins, so that a row may be predicted by what became known later"
            )),
            (true, false) => None,
        }
    }

    fn has_event_time(&self, input: NodeIndex) -> bool {
        matches!(self.nodes[input].body, PlannedBody::Input { event_time: Some(_), .. })
    }

    fn is_strict_input(&self, input: NodeIndex) -> bool {
        matches!(self.nodes[input].body, PlannedBody::Input { finite: true, replayable: true, .. })
    }
}

impl PlannedTimeGroup {
    /// None of them comes to its end before those that it waits for have begun.
    fn couple(&self, waits: &mut Waits) {
        for member in &self.members {
            for other in member.waits_for.iter().map(|other| self.members[*other].input) {
                if !waits.is_after(other, member.input) && !waits.is_after(member.input, other) {
                    waits.with(member.input, other);
                }
            }
        }
    }
}
