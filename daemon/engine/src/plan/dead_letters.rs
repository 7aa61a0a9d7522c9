//! `on_error = { dead_letter = PATH }`: for each node that may refuse rows, an output of JSON lines into that folder.
//!
//! Each node has an output of its own, so that the rejected rows of different nodes, which come at different times, need
//! no common order.

use millstream_core::{FAILED, PortRole, Problem, Stream, failed_schema};

use super::columns::context;
use super::{InputPort, NeedsState, Plan, PlanOptions, PlannedBody, PlannedNode, Shape, identity};
use crate::file::{Diagnostics, FlowFile, Node, OnError};

/// What the names of these outputs begin with, before that of the node.
pub const DEAD_LETTERS: &str = "dead_letter_";

impl Plan {
    /// Adds an output for every node that may reject rows which nobody reads.
    pub(super) fn add_dead_letters(&mut self, file: &FlowFile, options: &PlanOptions<'_>) -> Result<(), Diagnostics> {
        for index in 0..self.nodes.len() {
            let node = &self.nodes[index];
            let is_unread = node.ports.iter().any(|port| port.name == FAILED && port.edges.is_empty());
            let (OnError::DeadLetter(path), true) = (&node.on_error, is_unread) else { continue };
            let name = |node: &str| format!("{DEAD_LETTERS}{node}");
            let renamed_from = node.renamed_from.as_deref().map(name);
            let output = output(&name(&node.name), path, file, options);
            let is_said_there = file.node(&node.name).is_some_and(Node::says_on_error);
            let diagnose = |problem: Problem| {
                if is_said_there {
                    file.diagnose(&node.name, problem.into())
                } else {
                    file.diagnose_flow(problem.into())
                }
            };
            let output = output.map_err(diagnose)?;
            self.nodes.push(PlannedNode { renamed_from, ..output });
            self.connect(index, FAILED, (self.nodes.len() - 1, 0));
        }
        Ok(())
    }
}

fn output(name: &str, path: &str, file: &FlowFile, options: &PlanOptions<'_>) -> Result<PlannedNode, Problem> {
    let at = |problem: Problem| Problem { at: vec!["on_error".into()], within: None, ..problem };
    if path.contains("://") {
        let problem = Problem::new(format!("dead letters are kept in a folder, and `{path}` is an address"));
        let help = "name a folder of this machine; to send rejected rows elsewhere, let an output read the port `failed` of the node";
        return Err(at(problem.help(help)));
    }
    let (kind, settings) = options.registry.dead_letter_output(path).map_err(at)?;
    let input = Stream {
        port: "from".into(),
        node: name.to_owned(),
        schema: failed_schema(),
        event_time: None,
        is_live: false,
    };
    let planned = settings.plan(&context(file, name, options), &input);
    let planned = planned.map_err(|problems| at(problems.into_iter().next().unwrap_or_else(|| Problem::new(path))))?;
    Ok(PlannedNode {
        name: name.to_owned(),
        kind,
        inputs: vec![InputPort { name: input.port, role: PortRole::Rows, schema: input.schema }],
        ports: Vec::new(),
        stages: Vec::new(),
        always: Vec::new(),
        shape: Shape::default(),
        identity: Some(identity::of_dead_letters(file, name, path, options)),
        renamed_from: None,
        hidden: true,
        is_remote: false,
        needs_state: NeedsState::No,
        keeps_log: false,
        on_error: OnError::Fail,
        max_failed: None,
        body: PlannedBody::Output {
            delivery: planned.delivery,
            writes: planned.writes,
            place: planned.place,
            takes_other_columns: planned.takes_other_columns,
            build: planned.build,
        },
    })
}
