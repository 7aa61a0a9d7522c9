//! The loops that the engine owns: one task a node.

mod advance;
mod answers;
mod buffering;
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
mod pace;
mod ports;
mod processor;
mod replay;
mod requests;
mod watermark_generator;

pub use caught_up::CaughtUp;
pub use epoch_policy::EpochPolicy;
pub use input::{InputAtWork, InputRest, run_input};
pub use node_checkpointing::NodeCheckpointing;
pub use output::run_output;
pub use ports::Ports;
pub use processor::{Manner, run_processor};
pub use watermark_generator::WatermarkGenerator;

use millstream_core::Error;

use crate::edge::Closed;
use crate::phase::{Phase, reached};

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
