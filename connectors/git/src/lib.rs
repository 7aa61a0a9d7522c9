//! The input of Git repositories, over the command `git`.
//!
//! * `input`: the input `git`, its settings and what they come to.
//! * `repository`: what is asked of `git`, and how it is kept from doing anything else.
//! * `receiver`: looks for new commits, and keeps what they have changed.
//! * `contents`: files as the log keeps them, and as rows.

mod contents;
mod input;
mod receiver;
mod repository;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use millstream_core::NodeTypes;

/// Adds the input.
pub fn register(registry: &mut NodeTypes) {
    registry.input::<input::GitInput>();
}
