//! The newest checkpoint of a flow, and whether it is the last.

use millstream_core::Then;

use super::manifest::Manifest;

/// The newest checkpoint of a flow.
pub struct LatestCheckpoint {
    /// What it has.
    pub manifest: Manifest,
    /// The checksum of that as it is written.
    pub checksum: String,
    /// Whether everything that it had staged is visible.
    pub is_visible: bool,
}

impl LatestCheckpoint {
    /// Whether there is nothing left to do.
    pub fn is_done(&self) -> bool {
        self.is_visible && has_ended(&self.manifest)
    }
}

/// Whether all inputs had come to their end.
pub fn has_ended(manifest: &Manifest) -> bool {
    manifest.then == name(Then::End)
}

/// The word for it in manifests.
pub fn name(then: Then) -> &'static str {
    match then {
        Then::Continue => "continue",
        Then::Stop => "stop",
        Then::End => "end",
    }
}
