//! Inputs and outputs: where rows enter and leave flows.
//!
//! Others that write files to begin with, or read ones in the end, find here what that takes: [`OpenFiles`], [`Partitioning`],
//! [`DecodeQueue`].

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod conformance;
mod dead_letters;
mod decode_queue;
mod drop;
mod file;
mod http_listen;
pub mod push;
mod respond;
mod stdin;
mod stdout;

use millstream_core::NodeTypes;

pub use decode_queue::DecodeQueue;
pub use file::{
    Base, Begin, Beginning, Digest, FinishedFile, Limits, OpenFiles, Partitioning, Unfinished, owner as hidden_owner,
    value_in_name,
};

/// Adds every input and output of this crate.
pub fn register(registry: &mut NodeTypes) {
    registry.input::<file::FileInput>();
    registry.input::<stdin::StdinInput>();
    registry.input::<http_listen::HttpListenInput>();
    registry.input::<dead_letters::DeadLettersInput>();
    registry.output::<file::FileOutput>().dead_letters::<file::FileOutput>(file::dead_letters);
    registry.output::<stdout::StdoutOutput>();
    registry.output::<drop::DropOutput>();
    registry.output::<respond::RespondOutput>();
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use millstream_core::Role;

    use super::*;

    #[test]
    fn every_example_is_accepted() {
        let mut registry = NodeTypes::default();
        register(&mut registry);
        millstream_testkit::check_examples(&registry);
        assert!(registry.find(Role::Input, "file").is_some());
        assert!(registry.find(Role::Output, "drop").is_some());
    }
}
