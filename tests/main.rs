//! End-to-end tests with the real binary.
#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs)]
#![allow(
    clippy::disallowed_methods,
    reason = "the binary is another process, whose files are looked at until something is there"
)]

mod access_log;
mod admin;
mod beginning;
mod bits;
mod broken;
mod browser;
mod changes;
mod clock;
mod commands;
#[cfg(feature = "kafka")]
mod connections;
mod console;
mod crashes;
mod daemon;
mod daemons;
#[cfg(any(feature = "mysql", feature = "postgres"))]
mod databases;
#[cfg(all(feature = "delta", feature = "mysql"))]
mod delta;
mod doors;
mod endurance;
mod faults;
mod forecast;
mod function;
#[cfg(feature = "git")]
mod git;
mod hostile;
#[cfg(feature = "http")]
mod http;
#[cfg(feature = "http")]
mod http_output;
#[cfg(feature = "kafka")]
mod kafka;
#[cfg(feature = "kafka")]
mod kafka_output;
mod labels;
mod leaks;
#[cfg(all(feature = "kafka", feature = "mysql"))]
mod library;
mod live;
#[cfg(any(feature = "kafka", feature = "mysql", feature = "postgres"))]
mod lock;
mod lsp;
mod millstream;
#[cfg(feature = "mongodb")]
mod mongodb;
#[cfg(feature = "mqtt")]
mod mqtt;
#[cfg(feature = "mysql")]
mod mysql;
#[cfg(feature = "nats")]
mod nats;
#[cfg(feature = "objects")]
mod objects;
mod parquet;
#[cfg(feature = "postgres")]
mod postgres;
mod quickstart;
mod reference;
#[cfg(feature = "kafka")]
mod registry;
mod respond;
mod s3;
mod secrets;
mod serving;
mod signals;
#[cfg(any(
    feature = "git",
    feature = "kafka",
    feature = "mqtt",
    feature = "mysql",
    feature = "nats",
    feature = "postgres",
    feature = "syslog"
))]
mod site;
mod steering;
#[cfg(feature = "syslog")]
mod syslog;
mod time;
mod tokens;
mod unions;
#[cfg(feature = "http")]
mod web;
