//! What a flow as a whole is doing, which all its tasks can wait for.

use tokio::sync::watch;

/// What the flow as a whole is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Inputs read.
    Running,
    /// Inputs have been told to end, or where the flow keeps state, to stop at a barrier; what was read is worked off.
    Draining,
    /// The barrier has been reached at which the flow stops. Inputs that have not begun won't.
    Stopped,
    /// A node failed; nothing more counts.
    Failing,
    /// It was told to stop before its end, and is not brought to a barrier: what came since its last checkpoint does not count;
    /// without state, nothing does.
    Abandoned,
}

/// Waits until the flow has come to a phase.
pub async fn reached(phase: &mut watch::Receiver<Phase>, wanted: Phase) {
    // An error means that the flow itself is gone, which is the last of all phases.
    let _ = phase.wait_for(|phase| *phase >= wanted).await;
}
