//! A plan as a picture: Mermaid, or lines of text.

use std::fmt::Write as _;

use millstream_core::{FAILED, MAIN, PortRole, Role};

use crate::plan::{InputPort, Plan, PlannedEdge};

/// A Mermaid flow chart, which many viewers of Markdown draw.
pub fn mermaid(plan: &Plan) -> String {
    let mut text = String::from("flowchart LR\n");
    for node in &plan.nodes {
        let (open, close) = match node.role() {
            Role::Input => ("[(", ")]"),
            Role::Processor => ("[", "]"),
            Role::Output => ("[/", "/]"),
        };
        let _ = writeln!(text, "    {0}{open}\"{0}<br/><i>{1}</i>\"{close}", node.name, node.kind);
    }
    for edge in &plan.edges {
        let (from, to) = (&plan.nodes[edge.from.0].name, &plan.nodes[edge.to.0].name);
        let arrow = if input_port(plan, edge).role == PortRole::Versions { "-.->" } else { "-->" };
        match label(plan, edge) {
            Some(label) => _ = writeln!(text, "    {from} {arrow}|{label}| {to}"),
            None => _ = writeln!(text, "    {from} {arrow} {to}"),
        }
    }
    text
}

/// One line a node, with those that read from it.
pub fn text(plan: &Plan) -> String {
    let width =
        |of: fn(&crate::plan::PlannedNode) -> &str| plan.nodes.iter().map(|node| of(node).len()).max().unwrap_or(0);
    let (names, kinds) = (width(|node| &node.name), width(|node| node.kind));
    let mut text = String::new();
    for node in &plan.nodes {
        let in_port_order = node.ports.iter().flat_map(|port| &port.edges).map(|edge| &plan.edges[*edge]);
        let readers = in_port_order.map(|edge| {
            let to = &plan.nodes[edge.to.0].name;
            label(plan, edge).map_or_else(|| to.clone(), |label| format!("{label}: {to}"))
        });
        let readers = readers.collect::<Vec<_>>().join(" · ");
        let line = format!(
            "{:<9} {:<names$}  {:<kinds$}  {}{readers}",
            node.role().name(),
            node.name,
            node.kind,
            if readers.is_empty() { "" } else { "→ " }
        );
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// The port at either end, where it isn't the main one.
fn label(plan: &Plan, edge: &PlannedEdge) -> Option<String> {
    let from = plan.nodes[edge.from.0].ports[edge.from.1].name.as_str();
    let to = input_port(plan, edge).name.as_str();
    match (from == MAIN, to == "from" || to == from) {
        (true, true) => None,
        (true, false) => Some(to.to_owned()),
        (false, true) => Some(from.to_owned()),
        (false, false) => Some(format!("{from} → {to}")),
    }
}

fn input_port<'p>(plan: &'p Plan, edge: &PlannedEdge) -> &'p InputPort {
    &plan.nodes[edge.to.0].inputs[edge.to.1]
}

/// Whether a port is worth showing: one that carries rows somewhere, or that nobody reads though one could expect it.
pub(crate) fn is_shown(port: &crate::plan::OutputPort) -> bool {
    port.name != FAILED || !port.edges.is_empty()
}
