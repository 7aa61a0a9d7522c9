//! The spool: where an output that reaches its target by network keeps rows from the moment they are written until the target
//! has them.
//!
//! A target that is far away can't be asked at a barrier whether it would take rows, and what a checkpoint has decided must not be
//! lost though the target is down for hours. So the output has three things to do, and the spool does the rest:
//!
//! 1. In [`write`](millstream_core::Output::write) it refuses what the target can't take, and gives the rest to [`Spool::write`].
//! 2. In [`stage`](millstream_core::Output::stage) it calls [`Spool::stage`]. The files are made durable before the checkpoint is.
//! 3. Its committer asks the target how many rows of the stage it has, and sends those that [`Spooled::parts`] gives behind them. What is in a
//!    part belongs in one transaction, together with a mark of how far the stage has come. In
//!    [`committed`](millstream_core::Committer::committed) it calls [`Spooled::remove`].
//!
//! Rows are kept as Arrow, compressed, not as the target's bytes: that is smaller, and turning them into bytes is done in one place.
//!
//! Where they lie depends on the state of the flow. With a state in a local folder, they are files in the node's own folder, whose
//! names say which run has written them. With a state elsewhere, such as in S3, they are part of what is staged. Without a state,
//! nothing has to outlive the run: they are in files that have no name, which are gone with the process.

mod mark;
mod pauses;
mod segment;
mod spool;
mod spooled;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod transactions;
mod unnamed;

pub use mark::{Mark, Standing};
pub use pauses::{Pauses, begin};
pub use spool::Spool;
pub use spooled::{PartLimits, PartReader, Piece, Spooled};
pub use transactions::TransactionSettings;
pub use unnamed::Unnamed;
