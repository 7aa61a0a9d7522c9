//! Object stores: S3 and what speaks its protocol, Google Cloud Storage, Azure Blob Storage, folders, and files on web servers.
//!
//! * `connection`: the connection `objects`, its settings and what they come to.
//! * `input`: the input `objects`, which finds objects and reads each once.
//! * `output`: the output `objects`, which uploads what it writes and makes it visible when a checkpoint has decided.
//!
//! Outputs whose objects count only when something else says so, such as the log of a table, find here what it takes to write them:
//! [`ObjectsConnection`], [`ObjectsWriter`], [`ObjectsCommitter`].

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod conformance;
mod connection;
mod input;
mod output;

use millstream_core::NodeTypes;

pub use connection::{CONNECTION, ObjectsConnection, look};
pub use output::{Bytes, Job, OPEN_PARTITIONS, ObjectsCommitter, ObjectsWriter, StagedObject, verify};

/// Adds every node of this crate, and the connection that they share.
pub fn register(registry: &mut NodeTypes) {
    registry.connection::<connection::ObjectsConnection>();
    registry.input::<input::ObjectsInput>();
    registry.output::<output::ObjectsOutput>();
}
