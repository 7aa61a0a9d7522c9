//! What whoever runs a flow wants of its state.

use std::collections::BTreeMap;

use super::manifest::Manifest;
use crate::quarantine::Quarantine;

/// How a flow keeps its state.
#[derive(Clone, Debug, Default)]
pub struct ResumeOptions {
    /// What the bits of results depend on: the build, the kind of machine.
    pub fingerprint: BTreeMap<String, String>,
    /// Whether to go on although the fingerprint is another one.
    pub allow_drift: bool,
    /// Whether to keep state although an input can't be read again.
    pub allow_loss: bool,
    /// Which of the texts of the flow this is, where somebody counts them. Checkpoints say it.
    pub revision: Option<u64>,
    /// Nodes that start from scratch.
    pub resets: Vec<String>,
    /// Whether outputs may remove what was published at their places: those among these nodes, or if there are none, all that
    /// begin.
    pub remove_published: bool,
    /// Rows that nodes do without from now on, and those among which such a row is to be found.
    pub quarantine: Quarantine,
}

impl ResumeOptions {
    /// What is still to be done behind a checkpoint. One of the same revision says that its nodes have started from scratch.
    pub(super) fn behind(&self, manifest: &Manifest) -> Self {
        let is_done = self.revision.is_some() && self.revision == manifest.revision;
        let resets = if is_done { Vec::new() } else { self.resets.clone() };
        Self { resets, ..self.clone() }
    }
}
