//! Tables of Delta Lake, in folders and object stores.
//!
//! * `output`: the output `delta`, its settings and what they come to.
//! * `columns`: which columns a table has, and whether those of a flow fit.
//! * `place`: where a table is, and whether there is one.
//! * `table`: the log of a table, which says what is in it.
//! * `engine`: what reads and writes logs.
//! * `statistics`: what the log says about the values in a file.
//! * `writer`: rows become data files, as objects do, and a transaction of the log when a checkpoint has decided.

mod columns;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod conformance;
mod engine;
mod output;
mod place;
mod statistics;
mod table;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod writer;

use millstream_core::NodeTypes;

/// Adds every node of this crate. The connection that they take settings from is that of objects.
pub fn register(registry: &mut NodeTypes) {
    registry.output::<output::DeltaOutput>();
}
