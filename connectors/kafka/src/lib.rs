//! Inputs and outputs of Kafka, over librdkafka.
//!
//! * `client`: how brokers are reached, and what of it goes wrong.
//! * `sasl`: who connects.
//! * `native`: the calls of librdkafka that rdkafka has no safe ones for. There is no other `unsafe` code.
//! * `tokens`: by which brokers know who connects, if they want some.
//! * `topics`: which topics and partitions there are, and where they begin and end.
//! * `part`: which parts of messages have formats.
//! * `registry`: where the schemas of messages are.
//! * `input`: the input `kafka`.
//! * `output`: the output `kafka`.

#[doc(hidden)]
pub mod bare;
mod client;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod conformance;
mod input;
mod native;
mod output;
mod part;
mod registry;
mod sasl;
#[cfg(all(test, feature = "tls"))]
#[allow(clippy::unwrap_used)]
mod security_tests;
mod tokens;
mod topics;

use millstream_core::NodeTypes;

/// Adds every input and output of this crate, and the connection that they share.
pub fn register(registry: &mut NodeTypes) {
    registry.connection::<client::ConnectionSettings>();
    registry.input::<input::KafkaInputSettings>();
    registry.output::<output::KafkaOutputSettings>();
}
