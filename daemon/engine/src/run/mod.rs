//! Runs a plan: builds the nodes, spawns a task for each, and decides at the end whether what they did counts.

mod hand_over;
mod outcome;
mod prepare;
mod running;
mod setup;

use std::fmt;

use millstream_core::{Output, Processor};

pub use hand_over::{HandedOver, NotTakenOver};
pub use outcome::{FlowControl, FlowError, Kept, Outcome, Status};
pub use prepare::{PreparedFlow, ReadyFlow, TakeOver};
pub use running::RunningFlow;

use crate::checkpoint::{FlowCheckpoints, Replay};
use crate::task::InputAtWork;

/// What becomes of a flow's effects and state.
#[derive(Debug)]
pub enum RunMode {
    /// Nothing outside the flow changes: for tests.
    None,
    /// Outputs and models are committed at the end.
    Commit {
        /// Whether outputs may also remove what flows with state have published at their places.
        remove_published: bool,
    },
    /// Outputs and models are committed at checkpoints, from which the flow can be resumed.
    Keep(FlowCheckpoints),
    /// Nothing outside the flow changes: what was done before is done again, and looked at.
    Replay(Replay),
}

/// A node that came to its end, or to the barrier at which the flow stops.
enum Finished {
    Input(InputAtWork),
    Processor(Box<dyn Processor>),
    Output(Box<dyn Output>),
}

impl fmt::Debug for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Finished")
    }
}
