//! The input of syslog, over UDP, TCP and TLS.
//!
//! * `input`: the input `syslog`, its settings and what they come to.
//! * `receiver`: takes messages; `framing` finds them in a stream of bytes.
//! * `message`: what is in a message, as RFC 5424 and RFC 3164 have it.
//! * `contents`: messages as the log keeps them, and as rows.

mod contents;
mod framing;
mod input;
mod message;
mod receiver;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use millstream_core::NodeTypes;

/// Adds the input.
pub fn register(registry: &mut NodeTypes) {
    registry.input::<input::SyslogInput>();
}
