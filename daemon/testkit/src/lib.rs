//! What tests are written with: tables as text, nodes driven by hand, checks that every node must pass.
//!
//! Everything here panics on bad input, as tests want it.
#![allow(clippy::unwrap_used)]

mod conformance;
mod drive;
mod hostile;
#[cfg(feature = "kafka")]
mod kafka;
mod late;
#[cfg(feature = "mqtt")]
mod mqtt;
#[cfg(feature = "mysql")]
mod mysql;
#[cfg(feature = "nats")]
mod nats;
mod patience;
mod port;
#[cfg(feature = "postgres")]
mod postgres;
mod proxy;
mod random;
mod services;
mod small_nodes;
mod state;
mod table;

pub use conformance::{
    Excuse, Given, InputSamples, Lacks, OutputSamples, Sample, Source, Target, check_examples, check_inputs,
    check_outputs, check_processors,
};
pub use drive::{Driven, Timing, batch, context, drive, drive_at, drive_in_time, parse, stream};
pub use hostile::Hostile;
#[cfg(feature = "kafka")]
pub use kafka::{Kafka, Received, Sent};
pub use late::{commit_late, stages};
#[cfg(feature = "mqtt")]
pub use mqtt::{Mqtt, Subscriber};
#[cfg(feature = "mysql")]
pub use mysql::Mysql;
#[cfg(feature = "nats")]
pub use nats::Nats;
pub use patience::await_progress;
pub use port::free_port;
#[cfg(feature = "postgres")]
pub use postgres::Postgres;
pub use proxy::{Fault, Proxy};
pub use random::Random;
pub use services::Services;
pub use small_nodes::{committed, opened, small_nodes};
pub use state::{in_one_piece, restore_damaged, state_after, state_in_time};
pub use table::{rows_as_text, schema, table};
