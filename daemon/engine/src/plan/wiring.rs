//! Which node reads from which, and the order in which nodes can be planned.

use std::collections::HashMap;

use millstream_core::{MODEL, NodeTypes, PortRole, Problem, Step, known_names};

use crate::file::{Body, Diagnostics, FlowFile, Node, Reference};

/// The nodes of a flow with what they read.
pub struct Wiring<'a> {
    /// In an order in which each node comes after those that it reads from.
    pub nodes: Vec<Wired<'a>>,
}

/// A node with what it reads.
pub struct Wired<'a> {
    /// The node as the file has it.
    pub node: &'a Node,
    /// Its input ports in order, `from` first. Inputs have none.
    pub inputs: Vec<WiredPort>,
}

/// An input port and what is read there.
pub struct WiredPort {
    /// `from`, the side input's key, or `model`.
    pub name: String,
    /// What arrives there.
    pub role: PortRole,
    /// What is read there; several make a union.
    pub reads: Vec<Reference>,
}

impl<'a> Wiring<'a> {
    /// Resolves model edges and orders the nodes.
    pub fn new(file: &'a FlowFile, registry: &NodeTypes) -> Result<Self, Diagnostics> {
        let mut diagnostics = Diagnostics::default();
        let mut nodes = Vec::with_capacity(file.nodes.len());
        let trained = trained_models(file, &mut diagnostics);
        for node in &file.nodes {
            match wire(node, file, registry, &trained) {
                Ok(inputs) => nodes.push(Wired { node, inputs }),
                Err(problem) => diagnostics.extend(file.diagnose(&node.name, problem.into())),
            }
        }
        match in_order(nodes) {
            Ok(nodes) if diagnostics.is_empty() => Ok(Self { nodes }),
            Ok(_) => Err(diagnostics),
            Err((node, cycle)) => {
                let problem = Problem::new(format!("rows would run in a cycle: {cycle}"))
                    .help("a node can't read, directly or through others, what it writes itself")
                    .at(["from"]);
                diagnostics.extend(file.diagnose(&node, problem.into()));
                Err(diagnostics)
            }
        }
    }
}

/// The nodes that train models, by model.
fn trained_models<'a>(file: &'a FlowFile, diagnostics: &mut Diagnostics) -> HashMap<&'a str, &'a Node> {
    let mut trained = HashMap::new();
    for node in &file.nodes {
        let Body::Processor { settings, .. } = &node.body else { continue };
        let Some(model) = settings.trains() else { continue };
        if let Some(other) = trained.insert(model, node) {
            let problem = Problem::new(format!("model `{model}` is trained by `{}` already", other.name))
                .help("give each `train` node a model of its own")
                .at([MODEL]);
            diagnostics.extend(file.diagnose(&node.name, problem.into()));
        }
    }
    trained
}

fn wire(
    node: &Node,
    file: &FlowFile,
    registry: &NodeTypes,
    trained: &HashMap<&str, &Node>,
) -> Result<Vec<WiredPort>, Problem> {
    let mut inputs = Vec::new();
    if !node.from().is_empty() {
        inputs.push(WiredPort { name: "from".into(), role: PortRole::Rows, reads: node.from().to_vec() });
    }
    if let Some(side) = node.side() {
        let key = registry.find(node.role(), node.kind).and_then(|kind| kind.side_input).unwrap_or("with");
        inputs.push(WiredPort { name: key.into(), role: PortRole::Rows, reads: vec![side.clone()] });
    }
    if let Some(model) = followed_model(node) {
        let trainer = trained.get(model).ok_or_else(|| untrained(model, file, trained))?;
        let reference = Reference { node: trainer.name.clone(), port: Some(MODEL.into()), at: vec![Step::from(MODEL)] };
        inputs.push(WiredPort { name: MODEL.into(), role: PortRole::Versions, reads: vec![reference] });
    }
    Ok(inputs)
}

fn followed_model(node: &Node) -> Option<&str> {
    match &node.body {
        Body::Processor { settings, .. } => settings.follows_model(),
        Body::Input { .. } | Body::Output { .. } => None,
    }
}

fn untrained(model: &str, file: &FlowFile, trained: &HashMap<&str, &Node>) -> Problem {
    if let Some(broken) = file.broken.first() {
        // It may be the one that trains the model.
        return Problem::unchecked(broken).at([MODEL]);
    }
    let mut models: Vec<_> = trained.keys().copied().collect();
    models.sort_unstable();
    let help = known_names(model, models);
    Problem::new(format!("no node of this flow trains a model `{model}`"))
        .help(format!("{help}; a model of the registry is written `{model}@champion`, `{model}@latest` or `{model}/1`"))
        .at([MODEL])
}

/// Sorts the nodes so that each comes after those it reads from, otherwise as in the file. The error is a cycle.
fn in_order(nodes: Vec<Wired<'_>>) -> Result<Vec<Wired<'_>>, (String, String)> {
    let mut waiting = nodes;
    let mut ordered: Vec<Wired<'_>> = Vec::with_capacity(waiting.len());
    while !waiting.is_empty() {
        let is_ready =
            |wired: &Wired<'_>| upstream(wired).all(|name| !waiting.iter().any(|other| other.node.name == name));
        let Some(place) = waiting.iter().position(is_ready) else {
            return Err(cycle(&waiting));
        };
        ordered.push(waiting.remove(place));
    }
    Ok(ordered)
}

fn upstream<'w>(wired: &'w Wired<'_>) -> impl Iterator<Item = &'w str> {
    wired.inputs.iter().flat_map(|port| &port.reads).map(|reference| reference.node.as_str())
}

/// Follows the references of nodes that can't be ordered until one comes again.
fn cycle(waiting: &[Wired<'_>]) -> (String, String) {
    let mut path: Vec<&str> = vec![&waiting[0].node.name];
    loop {
        let last = path[path.len() - 1];
        let wired = waiting.iter().find(|wired| wired.node.name == last);
        let next =
            wired.and_then(|wired| upstream(wired).find(|name| waiting.iter().any(|other| other.node.name == *name)));
        let Some(next) = next else {
            return (last.to_owned(), last.to_owned());
        };
        if let Some(start) = path.iter().position(|name| *name == next) {
            let mut names: Vec<_> = path[start..].iter().rev().map(|name| format!("`{name}`")).collect();
            names.push(names[0].clone());
            return (path[start].to_owned(), names.join(" → "));
        }
        path.push(next);
    }
}
