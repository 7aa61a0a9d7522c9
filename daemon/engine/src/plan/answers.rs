//! Inputs whose senders wait for answers, and the outputs that give these.

use std::collections::BTreeSet;

use millstream_core::{Answers, Problem, known_names};

use super::columns::{Draft, NodePlan};
use super::wiring::Wiring;
use crate::file::{Diagnostics, FlowFile};

/// Refuses an output that answers nobody, and an input whose senders would wait in vain. That no two outputs answer the same is said where outputs
/// need something for themselves.
pub fn check(file: &FlowFile, wiring: &Wiring<'_>, drafts: &[Draft]) -> Result<(), Diagnostics> {
    let nodes = || wiring.nodes.iter().map(|wired| wired.node.name.as_str()).zip(drafts);
    let answered = nodes().filter(|(_, draft)| matches!(&draft.plan, NodePlan::Input(plan) if plan.is_answered));
    let mut waiting: BTreeSet<&str> = answered.map(|(name, _)| name).collect();
    let inputs = waiting.clone();
    let mut diagnostics = Diagnostics::default();
    for (name, draft) in nodes() {
        let NodePlan::Output(plan) = &draft.plan else { continue };
        let Some(answers) = &plan.answers else { continue };
        waiting.remove(answers.input.as_str());
        if !inputs.contains(answers.input.as_str()) {
            diagnostics.extend(file.diagnose(name, nobody_waits(answers, &inputs).into()));
        }
    }
    for name in waiting {
        diagnostics.extend(file.diagnose(name, nobody_answers(name).into()));
    }
    if diagnostics.is_empty() { Ok(()) } else { Err(diagnostics) }
}

fn nobody_waits(answers: &Answers, inputs: &BTreeSet<&str>) -> Problem {
    let Answers { setting, input } = answers;
    let help = if inputs.is_empty() {
        "say at an input `http_listen` that its senders wait: `respond = {}`".to_owned()
    } else {
        known_names(input, inputs.iter().copied())
    };
    Problem::new(format!("`{input}` is no input whose senders wait for answers")).help(help).at([*setting])
}

fn nobody_answers(input: &str) -> Problem {
    Problem::new("no output answers those who wait here")
        .help(format!("add an output with `type = \"respond\"` and `to = \"{input}\"`"))
        .at(["respond"])
}
