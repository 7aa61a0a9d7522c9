//! End-to-end tests with the real binary.
#![allow(clippy::unwrap_used, missing_docs)]

mod beginning;
mod bits;
mod broken;
mod commands;
mod crashes;
mod endurance;
mod hostile;
#[cfg(feature = "kafka")]
mod kafka;
mod leaks;
mod live;
mod millstream;
mod quickstart;
mod reference;
mod s3;
mod signals;
mod time;
mod unions;
