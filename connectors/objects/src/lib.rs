//! Object stores: S3 and what speaks its protocol, Google Cloud Storage, Azure Blob Storage, folders, and files on web servers.
//!
//! * `connection`: the connection `objects`, its settings and what they come to.
//! * `input`: the input `objects`, which finds objects and reads each once.
//! * `output`: the output `objects`, which uploads what it writes and makes it visible when a checkpoint has decided.

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod conformance;
mod connection;
mod input;
mod output;

use millstream_core::NodeTypes;

/// Adds every node of this crate, and the connection that they share.
pub fn register(registry: &mut NodeTypes) {
    registry.connection::<connection::ObjectsConnection>();
    registry.input::<input::ObjectsInput>();
    registry.output::<output::ObjectsOutput>();
}
