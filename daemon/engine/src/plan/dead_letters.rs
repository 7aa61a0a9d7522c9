//! `on_error = { dead_letter = PATH }`: an output of JSON lines that reads the refused rows nobody else reads.

use std::collections::BTreeMap;

use millstream_core::{FAILED, Parsed, Problem, Registry, Role, Stream, failed_schema};

use super::columns::context;
use super::{InputPort, Plan, PlanOptions, PlannedBody, PlannedNode};
use crate::file::{Diagnostics, FlowFile, OnError};

/// The nodes whose refused rows go to a folder, by folder.
pub struct DeadLetters(BTreeMap<String, Vec<usize>>);

impl DeadLetters {
    /// Finds the nodes that may refuse rows which nobody reads.
    pub fn collect(plan: &Plan) -> Self {
        let mut folders: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (place, node) in plan.nodes.iter().enumerate() {
            let is_unread = node.ports.iter().any(|port| port.name == FAILED && port.edges.is_empty());
            if let (OnError::DeadLetter(path), true) = (&node.on_error, is_unread) {
                folders.entry(path.clone()).or_default().push(place);
            }
        }
        Self(folders)
    }

    /// Adds an output for every folder.
    pub fn add_to(self, plan: &mut Plan, file: &FlowFile, options: &PlanOptions<'_>) -> Result<(), Diagnostics> {
        for (path, nodes) in self.0 {
            let name = unused_name(plan);
            let node = output(&name, &path, file, options).map_err(|problem| file.diagnose_flow(problem.into()))?;
            let to = (plan.nodes.len(), 0);
            plan.nodes.push(node);
            for place in nodes {
                plan.connect(place, FAILED, to);
            }
        }
        Ok(())
    }
}

fn unused_name(plan: &Plan) -> String {
    let names = std::iter::once("dead_letter".to_owned()).chain((2..).map(|number| format!("dead_letter_{number}")));
    let mut unused = names.filter(|name| plan.node(name).is_none());
    unused.next().unwrap_or_default()
}

fn output(name: &str, path: &str, file: &FlowFile, options: &PlanOptions<'_>) -> Result<PlannedNode, Problem> {
    let at = |problem: Problem| Problem { at: vec!["on_error".into()], within: None, ..problem };
    let settings = file_output(options.registry, path).map_err(at)?;
    let input = Stream { port: "from".into(), node: name.to_owned(), schema: failed_schema() };
    let planned = settings.plan(&context(file, name, options), &input);
    let planned = planned.map_err(|problems| at(problems.into_iter().next().unwrap_or_else(|| Problem::new(path))))?;
    Ok(PlannedNode {
        name: name.to_owned(),
        kind: "file",
        inputs: vec![InputPort { name: input.port, schema: input.schema }],
        ports: Vec::new(),
        stages: Vec::new(),
        always: Vec::new(),
        on_error: OnError::Fail,
        max_failed: None,
        body: PlannedBody::Output { delivery: planned.delivery, build: planned.build },
    })
}

/// The settings of an output of type `file`, which is all that the engine knows of it.
fn file_output(registry: &Registry, path: &str) -> Result<Box<dyn millstream_core::OutputSettings>, Problem> {
    let table = serde_json::json!({ "path": path, "format": "ndjson" });
    let kind = registry.find(Role::Output, "file").ok_or_else(|| {
        Problem::new("a dead letter needs an output of type `file`, which this build does not have")
    })?;
    match kind.parse(table) {
        Ok(Parsed::Output(settings)) => Ok(settings),
        Ok(_) => Err(Problem::new("`file` is no output")),
        Err(error) => Err(Problem::new(error.to_string())),
    }
}
