//! Inputs, outputs and look-ups of PostgreSQL.
//!
//! * `client`: how a server is reached, and what of it goes wrong.
//! * `names`: identifiers, and which tables and columns there are.
//! * `columns`: the columns that a table or a query has, as a flow would declare them.
//! * `value`: what a server sends becomes columns, as the flow declares them.
//! * `query`: the input `postgres_query`.
//! * `changes`: the input `postgres_changes`.
//! * `output`: the output `postgres`.
//! * `lookup`: the processor `postgres_lookup`.

mod changes;
mod client;
mod columns;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod conformance;
mod lookup;
mod names;
mod output;
mod query;
mod value;

use millstream_core::NodeTypes;

/// Adds every node of this crate, and the connection that they share.
pub fn register(registry: &mut NodeTypes) {
    registry.connection::<client::ConnectionSettings>();
    registry.input::<query::PostgresQuerySettings>();
    registry.input::<changes::PostgresChangesSettings>();
    registry.processor::<lookup::PostgresLookupSettings>();
    registry.output::<output::PostgresOutputSettings>();
}
