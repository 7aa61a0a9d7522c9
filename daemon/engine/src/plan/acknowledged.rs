//! Rows of live inputs that are of no use, and would end every run: of those that senders were told to be taken, the flow has to
//! say what becomes of them; of others it should.

use millstream_core::{FAILED, Problem};

use super::wiring::{Wired, Wiring};
use super::{NodeIndex, Plan, PlannedBody};
use crate::file::{Body, Diagnostics, FlowFile};

impl Plan {
    /// Refuses a flow that would fail at a row which nobody sends again, without having been told to. It would fail in every
    /// run, since that row is the next one each time.
    pub(super) fn check_acknowledged(&self, file: &FlowFile, wiring: &Wiring<'_>) -> Result<(), Diagnostics> {
        if file.flow.on_error.is_some() {
            return Ok(());
        }
        let mut diagnostics = Diagnostics::default();
        let sources = self.sources_of_nodes();
        for (input, node) in self.nodes.iter().enumerate() {
            if !matches!(node.body, PlannedBody::Input { acknowledges: true, .. }) {
                continue;
            }
            let is_silent = |index: &NodeIndex| {
                sources[*index].contains(&input) && self.refuses_unread(*index) && !says(&wiring.nodes[*index])
            };
            let silent: Vec<_> =
                (0..wiring.nodes.len()).filter(is_silent).map(|index| &self.nodes[index].name).collect();
            if !silent.is_empty() {
                diagnostics.extend(file.diagnose(&node.name, problem(&silent).into()));
            }
        }
        if diagnostics.is_empty() { Ok(()) } else { Err(diagnostics) }
    }

    /// Warns where a flow would fail at a row of a file that grows, and again whenever it is resumed, without having been told to.
    pub(super) fn warn_of_rejected(&mut self, file: &FlowFile, wiring: &Wiring<'_>, are_followed: &[bool]) {
        if file.flow.on_error.is_some() {
            return;
        }
        for (input, wired) in wiring.nodes.iter().enumerate() {
            if are_followed[input] && self.refuses_unread(input) && !says(wired) {
                self.warnings.push(format!(
                    "input `{}` is live, and does not say what becomes of rows that can't be read: the first one ends the flow, \
                     and so does every run that resumes it; `on_error = {{ dead_letter = \"FOLDER\" }}` keeps them and goes on, \
                     `\"drop\"` counts and drops them, `\"fail\"` says that it is meant so",
                    wired.node.name
                ));
            }
        }
    }

    /// Whether a node may refuse rows that nobody reads.
    fn refuses_unread(&self, index: NodeIndex) -> bool {
        self.nodes[index].ports.iter().any(|port| port.name == FAILED && port.edges.is_empty())
    }
}

/// Whether a node itself says what becomes of the rows that it refuses.
pub(super) fn says(wired: &Wired<'_>) -> bool {
    match &wired.node.body {
        Body::Input { common, .. } => common.on_error.is_some(),
        Body::Processor { common, .. } => common.on_error.is_some(),
        Body::Output { common, .. } => common.on_error.is_some(),
    }
}

fn problem(silent: &[&String]) -> Problem {
    let names: Vec<_> = silent.iter().map(|name| format!("`{name}`")).collect();
    Problem::new(format!(
        "those who send rows are told that they are taken, and don't send them again: one that {} can't use would end the flow, \
         in every run",
        names.join(" or ")
    ))
    .help(
        "say what becomes of such rows, with `on_error` in `[flow]` or of each node: `{ dead_letter = \"FOLDER\" }` keeps \
         them, `\"drop\"` counts and drops them, `\"fail\"` ends the flow",
    )
}
