//! Outputs that would write to the same thing.

use std::collections::HashMap;

use millstream_core::Problem;

use super::columns::{Draft, NodePlan};
use super::wiring::Wiring;
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
