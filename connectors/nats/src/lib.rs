//! Input and output of NATS JetStream.
//!
//! * `client`: how servers are reached, and what of it goes wrong.
//! * `input`: the input `nats`; `reader` reads a stream for it.
//! * `output`: the output `nats`; `committer` sends what checkpoints have decided, and `progress` is how it knows what is in the stream.

mod client;
mod committer;
mod input;
mod output;
mod progress;
mod reader;
mod subject;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use millstream_core::NodeTypes;

/// Adds the input and the output, and the connection that they share.
pub fn register(registry: &mut NodeTypes) {
    registry.connection::<client::ConnectionSettings>();
    registry.input::<input::NatsInputSettings>();
    registry.output::<output::NatsOutputSettings>();
}
