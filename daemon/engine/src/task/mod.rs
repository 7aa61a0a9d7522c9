//! The loops that the engine owns: one task a node.

mod advance;
mod answers;
mod caught_up;
mod concurrent;
mod derive;
mod epoch_policy;
mod epoch_writer;
mod input;
mod input_batch;
mod lanes;
mod node_checkpointing;
mod output;
mod ports;
mod processor;
mod replay;
mod requests;
mod watermark_generator;

pub use caught_up::CaughtUp;
pub use epoch_policy::EpochPolicy;
pub use input::run_input;
pub use node_checkpointing::NodeCheckpointing;
pub use output::run_output;
pub use ports::Ports;
pub use processor::run_processor;
pub use watermark_generator::WatermarkGenerator;

use millstream_core::Error;
use tokio::sync::watch;

use crate::edge::Closed;

/// Why a task ended before its end.
#[derive(Debug)]
pub enum Stop {
    /// The node failed.
    Failed(Error),
    /// A neighbour ended early, or the flow is being torn down. Somebody else has the cause.
    Closed,
    /// The barrier was reached at which the flow is to stop.
    AtBarrier,
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<Closed> for Stop {
    fn from(_: Closed) -> Self {
        Self::Closed
    }
}

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
