//! Edges, the order in which each node reads them, and the inputs that wait for others.

use std::collections::{BTreeSet, HashMap};

use millstream_core::{Buffering, FAILED, InputPlan, MAIN, Order, OutputPlan, PortRole, Problem, Role};

use super::columns::{Draft, NodePlan};
use super::shape::Shape;
use super::waits::Waits;
use super::wiring::{Wired, Wiring};
use super::{
    NeedsState, NodeIndex, Plan, PlanOptions, PlannedBody, PlannedBuffering, PlannedEdge, PlannedNode, PlannedRequests,
    identity, is_remote,
};
use crate::align::ReadOrder;
use crate::edge::Limits;
use crate::file::{Body, Diagnostics, FlowFile, Interval, RequestSettings};

/// Edges of a node that are read at the same time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedStage {
    /// The edges.
    pub edges: Vec<usize>,
    /// How their rows are ordered.
    pub read_order: ReadOrder,
    /// The inputs that may start when the stage does, and the nodes that may give rows then which they have kept.
    pub gates: Vec<usize>,
}

impl PlannedStage {
    /// Whether rows of several edges are taken as they come, so that runs may differ.
    pub fn is_by_arrival(&self) -> bool {
        self.edges.len() > 1 && self.read_order == ReadOrder::Arrival
    }
}

/// Puts a plan together from nodes whose columns are known.
pub fn assemble(
    file: &FlowFile,
    wiring: Wiring<'_>,
    drafts: Vec<Draft>,
    options: &PlanOptions<'_>,
) -> Result<Plan, Diagnostics> {
    let orders: Vec<Order> = wiring.nodes.iter().map(order).collect();
    let warnings = file.warnings.iter().cloned().chain(warnings_of_inputs(&wiring, &drafts)).collect();
    let are_followed: Vec<bool> = drafts.iter().map(is_followed).collect();
    let mut plan = Plan {
        flow: file.flow.name.clone(),
        description: file.flow.description.clone(),
        nodes: wiring.nodes.iter().zip(drafts).map(|(wired, draft)| planned(file, wired, draft, options)).collect(),
        edges: Vec::new(),
        limits: Limits { rows: file.flow.edge.rows, bytes: file.flow.edge.bytes.0 },
        epoch_rows: file.flow.epoch.rows_for(wiring.nodes.iter().filter_map(barrier_rows)),
        epoch_interval: file.flow.epoch.interval.0,
        // What is wrong with it has been said when the file was read.
        checkpoints: file.checkpoint.how_often().unwrap_or(Interval::Never),
        keep_checkpoints: file.checkpoint.keep,
        replay_log_retention: file.checkpoint.replay_log,
        budget: file.limits,
        time_groups: Vec::new(),
        warnings,
        secrets: file.secrets().clone(),
        files: file.files.clone(),
    };
    plan.connect_all(&wiring);
    plan.check_acknowledged(file, &wiring)?;
    plan.warn_of_rejected(file, &wiring, &are_followed);
    plan.add_dead_letters(file, options)?;
    plan.check_written(file, &wiring)?;
    let mut waits = plan.stage_all(file, &orders)?;
    plan.group_by_time(&mut waits);
    plan.plan_buffers(file)?;
    plan.set_gates();
    plan.warn_of_unread_ports();
    plan.warn_of_recomputed_times();
    Ok(plan)
}

fn order(wired: &Wired<'_>) -> Order {
    match &wired.node.body {
        Body::Processor { settings, .. } => settings.order(),
        Body::Input { .. } | Body::Output { .. } => Order::Automatic,
    }
}

/// Whether it is an input that reads what others go on to write, and would read it again.
fn is_followed(draft: &Draft) -> bool {
    matches!(&draft.plan, NodePlan::Input(plan) if !plan.finite && plan.replayable && plan.interleaved && !plan.acknowledges)
}

/// What inputs say of what they read.
fn warnings_of_inputs(wiring: &Wiring<'_>, drafts: &[Draft]) -> Vec<String> {
    let of = |(wired, draft): (&Wired<'_>, &Draft)| match &draft.plan {
        NodePlan::Input(plan) => {
            plan.left_out.iter().map(|column| format!("input `{}`: {column}", wired.node.name)).collect()
        }
        NodePlan::Processor(_) | NodePlan::Output(_) => Vec::new(),
    };
    wiring.nodes.iter().zip(drafts).flat_map(of).collect()
}

fn barrier_rows(wired: &Wired<'_>) -> Option<u64> {
    match &wired.node.body {
        Body::Processor { settings, .. } => settings.barrier_rows(),
        Body::Input { .. } | Body::Output { .. } => None,
    }
}

/// How a processor asks others, if it does.
fn requests(wired: &Wired<'_>) -> Option<PlannedRequests> {
    let Body::Processor { common, settings } = &wired.node.body else { return None };
    let answers_may_differ = settings.answers_may_differ();
    let planned = |requests: RequestSettings| {
        let RequestSettings { in_flight, timeout } = requests;
        PlannedRequests { in_flight, timeout: timeout.0, answers_may_differ }
    };
    common.requests.map(planned)
}

/// How a processor keeps rows, if it does. What is around it is still to be seen.
fn buffering(wired: &Wired<'_>) -> Option<PlannedBuffering> {
    let Body::Processor { settings, .. } = &wired.node.body else { return None };
    let planned =
        |buffering: Buffering| PlannedBuffering { is_live: false, keeps_order: buffering.keeps_order, gate: 0 };
    settings.buffering().map(planned)
}

fn planned(file: &FlowFile, wired: &Wired<'_>, draft: Draft, options: &PlanOptions<'_>) -> PlannedNode {
    let (on_error, max_failed) = match &wired.node.body {
        Body::Input { common, .. } => (common.on_error.clone(), common.max_failed),
        Body::Processor { common, .. } => (common.on_error.clone(), common.max_failed),
        Body::Output { common, .. } => (common.on_error.clone(), common.max_failed),
    };
    let identity = identity::of_node(file, wired, &draft, options);
    let continues = matches!(&draft.plan, NodePlan::Input(InputPlan { continues: true, .. }));
    let body = match draft.plan {
        NodePlan::Input(plan) => PlannedBody::Input {
            finite: plan.finite,
            pauses: matches!(&wired.node.body, Body::Input { settings, .. } if settings.pauses()),
            replayable: plan.replayable,
            acknowledges: plan.acknowledges,
            rows: plan.rows,
            event_time: draft.event_time,
            gate: 0,
            reads: plan.reads,
            endpoint: plan.endpoint,
            build: plan.build,
        },
        NodePlan::Processor(plan) => {
            PlannedBody::Processor { requests: requests(wired), buffering: buffering(wired), build: plan.build }
        }
        NodePlan::Output(OutputPlan { delivery, writes, place, takes_other_columns, build, .. }) => {
            PlannedBody::Output { delivery, writes, place, takes_other_columns, build }
        }
    };
    let kind = options.registry.find(wired.node.role(), wired.node.kind);
    let shape = kind.map(|kind| Shape::new(kind, &wired.node.table, &draft.inputs, &draft.uses)).unwrap_or_default();
    PlannedNode {
        name: wired.node.name.clone(),
        hidden: false,
        is_remote: is_remote(wired.node, file, options),
        needs_state: match kind {
            Some(kind) if kind.needs_state => NeedsState::Here,
            _ if continues => NeedsState::Anywhere,
            _ => NeedsState::No,
        },
        keeps_log: kind.is_some_and(|kind| kind.keeps_log),
        renamed_from: wired.node.renamed_from().map(str::to_owned),
        kind: wired.node.kind,
        shape,
        identity: Some(identity),
        inputs: draft.inputs,
        ports: draft.ports,
        stages: Vec::new(),
        always: Vec::new(),
        on_error: on_error.or_else(|| file.flow.on_error.clone()).unwrap_or_default(),
        max_failed: max_failed.or(file.flow.max_failed),
        body,
    }
}

impl Plan {
    /// Lays an edge for each stream that a node reads.
    fn connect_all(&mut self, wiring: &Wiring<'_>) {
        let names: HashMap<&str, NodeIndex> =
            wiring.nodes.iter().enumerate().map(|(index, wired)| (wired.node.name.as_str(), index)).collect();
        for (to, wired) in wiring.nodes.iter().enumerate() {
            for (input, port) in wired.inputs.iter().enumerate() {
                for reference in &port.reads {
                    let name = reference.port.as_deref().unwrap_or(MAIN);
                    self.connect(names[reference.node.as_str()], name, (to, input));
                }
            }
        }
    }

    /// Plans in which stages each node reads its edges, and which inputs wait for others.
    ///
    /// # Errors
    /// If inputs would wait for each other.
    fn stage_all(&mut self, file: &FlowFile, orders: &[Order]) -> Result<Waits, Diagnostics> {
        let sources = self.sources();
        let mut waits = Waits::default();
        for (index, order) in orders.iter().enumerate() {
            self.stage(index, *order, &sources, &mut waits)
                .map_err(|problem| file.diagnose(&self.nodes[index].name, problem.into()))?;
        }
        for index in orders.len()..self.nodes.len() {
            self.stage(index, Order::Automatic, &sources, &mut waits)
                .map_err(|problem| file.diagnose_flow(problem.into()))?;
        }
        if let Some((input, other)) = waits.cycle() {
            let (input, other) = (&self.nodes[input].name, &self.nodes[other].name);
            let problem = Problem::new(format!("inputs `{input}` and `{other}` would wait for each other"))
                    .help("one node reads one of them to its end first, and another node needs both at once, or the other one first; give that node's streams an output each, or read one of the inputs twice");
            return Err(file.diagnose(input, problem.into()));
        }
        Ok(waits)
    }

    /// Lays an edge from a port, which was found before, to an input port.
    pub(crate) fn connect(&mut self, from: NodeIndex, port: &str, to: (NodeIndex, usize)) {
        let edge = self.edges.len();
        let ports = &mut self.nodes[from].ports;
        if let Some(index) = ports.iter().position(|candidate| candidate.name == port) {
            ports[index].edges.push(edge);
            self.edges.push(PlannedEdge { from: (from, index), to });
        }
    }

    /// Decides in which order a node reads its edges.
    fn stage(&mut self, index: NodeIndex, order: Order, sources: &Sources, waits: &mut Waits) -> Result<(), Problem> {
        let node = &self.nodes[index];
        let port_edges = |port: usize| -> Vec<usize> {
            (0..self.edges.len()).filter(|edge| self.edges[*edge].to == (index, port)).collect()
        };
        let mut sides = Vec::new();
        let mut always = Vec::new();
        for (port, input) in node.inputs.iter().enumerate().skip(1) {
            match input.role {
                PortRole::Versions => always.extend(port_edges(port)),
                PortRole::Rows | PortRole::Side => sides.push(port_edges(port)),
            }
        }
        let stages = match order {
            Order::EventTime => vec![(port_edges(0).into_iter().chain(sides.concat()).collect(), ReadOrder::EventTime)],
            order => {
                let sides = sides.into_iter().map(|edges| (edges, ReadOrder::Arrival));
                sides.chain(self.main_stages(&port_edges(0), order, sources)).collect()
            }
        };
        let mut started: BTreeSet<NodeIndex> = BTreeSet::new();
        let mut planned = Vec::new();
        for (edges, read_order) in stages {
            let inputs: BTreeSet<NodeIndex> = edges.iter().flat_map(|edge| sources.of(*edge)).copied().collect();
            if let Some(both) = inputs.intersection(&started).next() {
                return Err(reads_itself(&self.nodes[*both].name, &self.nodes[index]));
            }
            let together = edges.iter().chain(&always).map(|edge| sources.of(*edge));
            waits.couple(&together.collect::<Vec<_>>());
            inputs.iter().for_each(|input| waits.after(*input, &started));
            let gates = if started.is_empty() { Vec::new() } else { inputs.iter().copied().collect() };
            started.extend(inputs);
            planned.push(PlannedStage { edges, read_order, gates });
        }
        self.nodes[index].stages = planned;
        self.nodes[index].always = always;
        Ok(())
    }

    /// The stages of the main port.
    fn main_stages(&self, edges: &[usize], order: Order, sources: &Sources) -> Vec<(Vec<usize>, ReadOrder)> {
        if edges.is_empty() {
            return Vec::new();
        }
        let is_finite = edges.iter().flat_map(|edge| sources.of(*edge)).all(|input| self.is_finite_input(*input));
        match order {
            Order::Arrival => vec![(edges.to_vec(), ReadOrder::Arrival)],
            Order::EventTime => vec![(edges.to_vec(), ReadOrder::EventTime)],
            Order::RoundRobin { rows } => vec![(edges.to_vec(), ReadOrder::RoundRobin(rows))],
            Order::Automatic if !is_finite => vec![(edges.to_vec(), ReadOrder::Arrival)],
            Order::Automatic | Order::Sequence => {
                related(edges, sources).into_iter().map(|edges| (edges, ReadOrder::EpochByEpoch)).collect()
            }
        }
    }

    /// The inputs that the rows of each edge stem from. Nodes come after those that they read from.
    pub(super) fn sources(&self) -> Sources {
        let of_nodes = self.sources_of_nodes();
        Sources(self.edges.iter().map(|edge| of_nodes[edge.from.0].clone()).collect())
    }

    /// The inputs that the rows of each node stem from.
    pub(crate) fn sources_of_nodes(&self) -> Vec<BTreeSet<NodeIndex>> {
        let mut of_nodes: Vec<BTreeSet<NodeIndex>> = Vec::with_capacity(self.nodes.len());
        for (index, node) in self.nodes.iter().enumerate() {
            of_nodes.push(match node.body {
                PlannedBody::Input { .. } => BTreeSet::from([index]),
                _ => {
                    let edges = self.edges.iter().filter(|edge| edge.to.0 == index);
                    edges.flat_map(|edge| &of_nodes[edge.from.0]).copied().collect()
                }
            });
        }
        of_nodes
    }

    fn is_finite_input(&self, node: NodeIndex) -> bool {
        matches!(self.nodes[node].body, PlannedBody::Input { finite: true, .. })
    }

    fn set_gates(&mut self) {
        let gates: Vec<usize> =
            self.nodes.iter().flat_map(|node| &node.stages).flat_map(|stage| &stage.gates).copied().collect();
        for index in gates {
            match &mut self.nodes[index].body {
                PlannedBody::Input { gate, .. } => *gate += 1,
                PlannedBody::Processor { buffering: Some(buffering), .. } => buffering.gate += 1,
                PlannedBody::Processor { .. } | PlannedBody::Output { .. } => {}
            }
        }
    }

    fn warn_of_unread_ports(&mut self) {
        for node in &self.nodes {
            let unread = node.ports.iter().filter(|port| port.edges.is_empty() && port.role == PortRole::Rows);
            // Rejected rows go where `on_error` says.
            for port in unread.filter(|port| port.name != FAILED) {
                // What a node gives that trains a model are its versions, which go to the registry.
                let is_end = port.name == MAIN && node.makes_model();
                if !is_end {
                    let name = port_name(node, &port.name);
                    self.warnings.push(format!("nobody reads `{name}`: its rows are counted and dropped"));
                }
            }
        }
    }

    /// Rows are late, and windows end, by the watermark, which knows the times that the input has read.
    fn warn_of_recomputed_times(&mut self) {
        let sources = self.sources();
        for node in &self.nodes {
            for port in node.ports.iter().filter(|port| port.has_other_time) {
                let is_of_input = |edge: usize| {
                    sources.of(edge).iter().any(|input| self.nodes[*input].ports[0].event_time == port.event_time)
                };
                let is_misled =
                    |edge: &usize| self.nodes[self.edges[*edge].to.0].role() == Role::Processor && is_of_input(*edge);
                if let (Some(time), true) = (&port.event_time, port.edges.iter().any(is_misled)) {
                    self.warnings.push(format!(
                        "`{}` computes the event time `{time}` anew, but which rows are late is told by that of the input: \
                         give what it computes another name, or say it at the input (`event_time.expression`)",
                        port_name(node, &port.name)
                    ));
                }
            }
        }
    }
}

/// The inputs that the rows of each edge stem from.
pub(super) struct Sources(Vec<BTreeSet<NodeIndex>>);

impl Sources {
    pub(super) fn of(&self, edge: usize) -> &BTreeSet<NodeIndex> {
        &self.0[edge]
    }
}

/// Groups edges that stem from a common input, in the order of their first edge.
fn related(edges: &[usize], sources: &Sources) -> Vec<Vec<usize>> {
    let mut groups: Vec<(Vec<usize>, BTreeSet<NodeIndex>)> = Vec::new();
    for edge in edges {
        let inputs = sources.of(*edge).clone();
        let (mut related, others): (Vec<_>, Vec<_>) =
            groups.into_iter().partition(|(_, group)| !group.is_disjoint(&inputs));
        let mut group = (Vec::new(), inputs);
        for (edges, inputs) in related.drain(..) {
            group.0.extend(edges);
            group.1.extend(inputs);
        }
        group.0.push(*edge);
        groups = others;
        groups.push(group);
        groups.sort_by_key(|(edges, _)| edges[0]);
    }
    groups.into_iter().map(|(edges, _)| edges).collect()
}

fn port_name(node: &PlannedNode, port: &str) -> String {
    if port == MAIN { node.name.clone() } else { format!("{}.{port}", node.name) }
}

fn reads_itself(input: &str, node: &PlannedNode) -> Problem {
    let port = node.inputs.get(1).map_or("from", |port| &port.name);
    Problem::new(format!(
        "input `{input}` is behind both `from` and `{port}`, so neither could be read to its end first"
    ))
    .help("read the data twice, by two inputs")
    .at([port])
}
