//! The input `postgres_changes`: its settings, and what they come to.
//!
//! * `slot`: what a server needs so that it keeps its log until it was read.
//! * `wire`: the connection over which it sends its log.
//! * `decode`: the messages of the log.
//! * `follower`: what they mean.
//! * `snapshot`: the rows that tables have.
//! * `reader`: both together.
//! * `place`: where in the log something is.

mod decode;
mod follower;
mod place;
mod reader;
mod slot;
mod snapshot;
mod wire;

use std::time::Duration as Span;

use millstream_core::{Duration, InputPlan, InputSettings, Kind, PlanContext, Probe, Problem, Problems, SchemaSource};
use millstream_database::ChangesSettings;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::client::{CONNECTION, ConnectionSettings};
use crate::columns::{Relation, ask};
use crate::names::Table;
use crate::value::check_type;
use reader::{ChangesReader, Job};

pub use wire::Wire;

/// Reads the changes of tables of PostgreSQL from its log, by logical replication, and first the rows that the tables have.
///
/// ```toml
/// [input.shop]
/// type = "postgres_changes"
/// address = "db.example.com"
/// user = "millstream"
/// password = "${POSTGRES_PASSWORD}"
/// database = "shop"
/// tables.orders.schema = { id = "int64", customer = "int64", amount = "decimal(10,2)?" }
/// tables.customers.schema = { id = "int64", name = "utf8" }
///
/// [output.orders]
/// from = "shop.orders"
/// ```
///
/// Each table has a port of its name, and all ports together are in the order in which transactions were committed. A row has the declared columns as
/// they are behind the change, or for one that was deleted as they were before; the column `op`, which is `c` for a row that was created, `u`
/// updated, `d` deleted, and `r` for one that was read from the table at the beginning; and `ts`, when that was. A row whose key is changed is
/// deleted, and created with the new one.
///
/// The tables are read without a lock, a few thousand rows at a time in the order of their keys, while changes go on: a row that changes before it
/// is read comes as its changes, and not as `r`, or as `r` with what it has become. Whoever keeps the last row of each key has the table. How
/// far tables and log have been read is part of the flow's state, and what has been read is kept in the state's folder until a checkpoint
/// covers it: with `--state`, rows count exactly once through any crash of the flow or the server. A server that is away is waited for as
/// long as it takes.
///
/// The server (version 14 or newer, the main one) has to run with `wal_level = logical`, and the tables need whole rows in the log: `ALTER TABLE orders REPLICA
/// IDENTITY FULL`. The input makes a publication of the tables, unless there is one, and a slot, by which the server keeps its log until a
/// checkpoint covers what was read of it. **Who does not run the flow any more has to drop the slot** (`SELECT pg_drop_replication_slot('…')`), or
/// the server keeps its log for ever. Without `--state` the slot ends with the run, which a connection that is lost ends. The user needs `REPLICATION`,
/// `SELECT` on the tables, and to make the publication `CREATE` on the database and to own the tables.
///
/// What the log does not say stops the flow, with what to do: a slot that is gone, a table that was emptied by `TRUNCATE`, rows that are not whole. Values have
/// to fit the types in `schema`, as with `postgres_query`; a row with one that does not leaves by the port `failed`. Columns that are not declared may
/// come and go.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct PostgresChangesSettings {
    #[serde(flatten)]
    connection: ConnectionSettings,
    #[serde(flatten)]
    changes: ChangesSettings,
    /// The slot by which the server knows how far its log was read; no two flows may have the same. By default `millstream_`, and behind it the names of flow
    /// and node. One that is there already when the flow begins is dropped, and made anew.
    slot: Option<String>,
    /// The publication that says which tables are meant, by default called as the slot. It is made if it is missing.
    publication: Option<String>,
    /// How often the server is asked whether it is there while nothing changes, and told how far its log need not be kept, by default `"10s"`. If it
    /// says nothing for three times as long, the connection is made anew.
    #[serde(default = "heartbeat")]
    heartbeat: Duration,
}

fn heartbeat() -> Duration {
    Duration(Span::from_secs(10))
}

impl Kind for PostgresChangesSettings {
    const NAME: &'static str = "postgres_changes";
    const ALSO_CALLED: &'static [&'static str] =
        &["postgres_cdc", "postgresql_changes", "postgres-cdc", "debezium", "logical_replication", "wal"];
    const CONNECTION: Option<&'static str> = CONNECTION;
    const EXAMPLE: &'static str = r#"
address = "127.0.0.1:5432"
user = "millstream"
password = "${POSTGRES_PASSWORD}"
database = "shop"
tables.orders.schema = { id = "int64", amount = "decimal(10,2)?" }
tables.customers.schema = { id = "int64", name = "utf8" }
"#;
    const KEEPS_LOG: bool = true;
}

/// The longest name that a slot has.
const SLOT_BYTES: usize = 63;

/// A name for a slot that the names of flow and node give. A long one is cut off, and told apart by a number.
fn slot_name(flow: &str, node: &str) -> String {
    let allowed = |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '_' };
    let name: String = format!("millstream_{flow}_{node}").chars().map(allowed).collect();
    if name.len() <= SLOT_BYTES {
        return name;
    }
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("{}_{hash:08x}", &name[..SLOT_BYTES - 9])
}

fn check_slot(slot: &str) -> Result<(), Problem> {
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if !slot.is_empty() && slot.len() <= SLOT_BYTES && slot.bytes().all(is_allowed) {
        return Ok(());
    }
    let problem = Problem::new(format!("no slot can be called `{slot}`")).at(["slot"]);
    Err(problem.help("write at most 63 small letters, digits and `_`"))
}

impl PostgresChangesSettings {
    fn job(&self, context: &PlanContext) -> Result<Job, Problems> {
        let tables = self.changes.tables(context, Table::new, check_type)?;
        let slot = self.slot.clone().unwrap_or_else(|| slot_name(&context.flow, &context.node));
        check_slot(&slot)?;
        let publication = self.publication.clone().unwrap_or_else(|| slot.clone());
        if publication.is_empty() || publication.len() > SLOT_BYTES || publication.contains('\0') {
            return Err(Problem::new("no publication can be called that").at(["publication"]).into());
        }
        Ok(Job {
            server: self.connection.server(context)?,
            tables,
            slot,
            owns_publication: self.publication.is_none(),
            publication,
            has_snapshot: self.changes.has_snapshot(),
            fails_on_change: self.changes.fails_on_change(),
            heartbeat: self.heartbeat.0.clamp(Span::from_millis(100), Span::from_secs(3600)),
            chunk_rows: self.changes.chunk_rows(),
            batch_rows: context.batch_rows,
        })
    }
}

impl InputSettings for PostgresChangesSettings {
    fn plan(&self, context: &PlanContext) -> Result<InputPlan, Problems> {
        let reader = ChangesReader::new(self.job(context)?);
        let job = reader.job();
        Ok(self.changes.plan(context, &job.tables, reader))
    }

    fn probe(&self, context: &PlanContext) -> Option<Probe> {
        let job = self.job(context).ok()?;
        Some(Box::pin(async move { reader::look(&job).await }))
    }

    fn schema_sources(&self, context: &PlanContext) -> Vec<SchemaSource> {
        let Ok(server) = self.connection.server(context) else { return Vec::new() };
        self.changes.schema_sources(|name| Ok(ask(server.clone(), Relation::LoggedTable(Table::new(name)?))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_have_names() {
        assert_eq!(slot_name("My-Flow", "shop"), "millstream_my_flow_shop");
        let long = slot_name(&"x".repeat(100), "shop");
        assert!(check_slot(&long).is_ok() && long != slot_name(&"x".repeat(100), "shops"), "{long}");
        assert!(check_slot("Shop").is_err() && check_slot("").is_err());
    }
}
