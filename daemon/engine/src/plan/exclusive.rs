//! Outputs that would write to the same thing, or to what an input of their flow reads.

use std::collections::HashMap;

use millstream_core::Problem;

use super::acknowledged::says;
use super::columns::{Draft, NodePlan};
use super::wiring::Wiring;
use super::{Plan, PlannedBody, PlannedNode};
use crate::file::{Diagnostics, FlowFile};

/// Refuses the second of two outputs that both need one thing for themselves.
pub fn check(file: &FlowFile, wiring: &Wiring<'_>, drafts: &[Draft]) -> Result<(), Diagnostics> {
    let mut diagnostics = Diagnostics::default();
    let mut owners: HashMap<&str, &str> = HashMap::new();
    for (wired, draft) in wiring.nodes.iter().zip(drafts) {
        let NodePlan::Output(plan) = &draft.plan else { continue };
        let Some(exclusive) = &plan.exclusive else { continue };
        let name = wired.node.name.as_str();
        if let Some(owner) = owners.insert(&exclusive.what, name) {
            let problem = Problem::new(format!("output `{owner}` writes to `{}` already", exclusive.what))
                .help("let one output read both streams, or give each a place of its own")
                .at([exclusive.setting]);
            diagnostics.extend(file.diagnose(name, problem.into()));
        }
    }
    if diagnostics.is_empty() { Ok(()) } else { Err(diagnostics) }
}

impl Plan {
    /// Refuses outputs that write what an input of the flow reads: it would be replaced, or the flow would read its own rows.
    pub(super) fn check_written(&self, file: &FlowFile, wiring: &Wiring<'_>) -> Result<(), Diagnostics> {
        let mut diagnostics = Diagnostics::default();
        for (index, node) in self.nodes.iter().enumerate() {
            let PlannedBody::Output { writes: Some(writes), .. } = &node.body else { continue };
            let is_reader = |node: &&PlannedNode| matches!(&node.body, PlannedBody::Input { reads: Some(reads), .. } if reads(&writes.path));
            let Some(input) = self.nodes.iter().find(is_reader) else { continue };
            let problem =
                Problem::new(format!("input `{}` reads what is written here: `{}`", input.name, writes.path.display()))
                    .help("write to a place that no input of the flow reads, such as a folder of its own");
            // Dead letters are written for a node, which the flow may have said of all nodes.
            let rejecting = self.edges.iter().find(|edge| node.hidden && edge.to.0 == index).map(|edge| edge.from.0);
            diagnostics.extend(match rejecting.and_then(|index| wiring.nodes.get(index)) {
                None => file.diagnose(&node.name, problem.at([writes.setting]).into()),
                Some(wired) if says(wired) => file.diagnose(&wired.node.name, problem.at(["on_error"]).into()),
                Some(_) => file.diagnose_flow(problem.at(["on_error"]).into()),
            });
        }
        if diagnostics.is_empty() { Ok(()) } else { Err(diagnostics) }
    }
}
