//! End-to-end tests with the real binary.
#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs)]
#![allow(
    clippy::disallowed_methods,
    reason = "the binary is another process, whose files are looked at until something is there"
)]

mod access_log;
mod beginning;
mod bits;
mod broken;
mod commands;
#[cfg(feature = "kafka")]
mod connections;
mod crashes;
mod endurance;
mod hostile;
#[cfg(feature = "http")]
mod http;
#[cfg(feature = "kafka")]
mod kafka;
#[cfg(feature = "kafka")]
mod kafka_output;
mod leaks;
mod live;
mod millstream;
#[cfg(feature = "mysql")]
mod mysql;
mod quickstart;
mod reference;
#[cfg(feature = "kafka")]
mod registry;
mod s3;
mod secrets;
mod signals;
mod time;
mod unions;
