//! Input and output of MQTT 3.1.1.
//!
//! * `connection`: how a broker is reached, and what of it goes wrong.
//! * `input`: the input `mqtt`; `receiver` takes messages for it, and `contents` is what is kept of them.
//! * `output`: the output `mqtt`; `publisher` is what it sends with.

mod connection;
mod contents;
mod input;
mod output;
mod publisher;
mod receiver;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod topic;

use millstream_core::NodeTypes;

/// Adds the input and the output, and the connection that they share.
pub fn register(registry: &mut NodeTypes) {
    registry.connection::<connection::ConnectionSettings>();
    registry.input::<input::MqttInputSettings>();
    registry.output::<output::MqttOutputSettings>();
}
