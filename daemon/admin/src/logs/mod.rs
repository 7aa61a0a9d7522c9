//! What becomes of events that are logged, besides that they are written down.
//!
//! * [`Levels`]: what is logged at all, which can be changed for a while.
//! * [`Repeats`]: what comes again and again is said once and then counted.
//! * [`FlowLogs`]: the last lines and errors of each flow, for those who ask.
//!
//! The layers go over a registry in the order in which they are named here, with what writes before the last one.

mod kept;
mod levels;
mod repeats;
mod seen;

pub use kept::{ErrorLine, FlowLogs, KeepLines, LogLine};
pub use levels::{LevelName, Levels, LevelsNow};
pub use repeats::{REPEATED, Repeats};
