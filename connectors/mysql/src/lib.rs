//! Inputs, outputs and look-ups of MySQL and MariaDB.
//!
//! * `client`: how a server is reached, and what of it goes wrong.
//! * `names`: identifiers, and which tables and columns there are.
//! * `columns`: the columns that a table or a query has, as a flow would declare them.
//! * `value`: what a server sends becomes columns, as the flow declares them.
//! * `literal`: values as SQL writes them.
//! * `query`: the input `mysql_query`.
//! * `changes`: the input `mysql_changes`.
//! * `output`: the output `mysql`.
//! * `lookup`: the processor `mysql_lookup`.
//! * `probe`: what `check --connect` looks at.

mod changes;
mod client;
mod columns;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod conformance;
mod literal;
mod lookup;
mod names;
mod output;
mod probe;
mod query;
mod value;

use millstream_core::NodeTypes;

/// Adds every node of this crate, and the connection that they share.
pub fn register(registry: &mut NodeTypes) {
    registry.connection::<client::ConnectionSettings>();
    registry.input::<query::MysqlQuerySettings>();
    registry.input::<changes::MysqlChangesSettings>();
    registry.processor::<lookup::MysqlLookupSettings>();
    registry.output::<output::MysqlOutputSettings>();
}
