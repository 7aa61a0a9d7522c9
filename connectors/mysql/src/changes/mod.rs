//! The input `mysql_changes`: its settings, and what they come to.

mod checks;
mod gtids;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod hostile;
mod place;
mod reader;
mod shape;
mod snapshot;
mod stream;
mod values;

use std::time::Duration as Span;

use millstream_core::{Duration, InputPlan, InputSettings, Kind, PlanContext, Probe, Problem, Problems, SchemaSource};
use millstream_database::ChangesSettings;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::client::{CONNECTION, ConnectionSettings};
use crate::columns::ask;
use crate::names::Table;
use crate::probe::{Needs, probe};
use crate::value::check_type;
pub use checks::check as check_log;
use reader::{ChangesReader, Job};
use shape::Missing;

/// Reads the changes of tables of MySQL or MariaDB from the binary log, and first the rows that the tables have.
///
/// ```toml
/// [input.shop]
/// type = "mysql_changes"
/// address = "db.example.com"
/// user = "millstream"
/// password = "${MYSQL_PASSWORD}"
/// database = "shop"
/// tables.orders.schema = { id = "int64", customer = "int64", amount = "decimal(10,2)?" }
/// tables.customers.schema = { id = "int64", name = "utf8" }
///
/// [output.orders]
/// from = "shop.orders"
/// ```
///
/// Each table has a port of its name, and all ports together are in the order of the transactions. A row has the declared columns as they are
/// behind the change, or for one that was deleted as they were before; the column `op`, which is `c` for a row that was created, `u` updated, `d`
/// deleted, and `r` for one that was read from the table at the beginning; and `ts`, when that was. A row whose key is changed is deleted, and
/// created with the new one.
///
/// The tables are read without a lock, a few thousand rows at a time in the order of their keys, while changes go on: a row that changes before it
/// is read comes as its changes, and not as `r`, or as `r` with what it has become. Whoever keeps the last row of each key has the table. How
/// far tables and log have been read is part of the flow's state, and what has been read is kept in the state's folder until a checkpoint
/// covers it: with `--state`, rows count exactly once through any crash of the flow or the server. A server that is away is waited for as
/// long as it takes.
///
/// The server has to write a binary log with whole rows and the names of columns: `binlog_format = ROW`, `binlog_row_image = FULL`,
/// `binlog_row_metadata = FULL`, no `binlog_row_value_options`, and in MariaDB no `log_bin_compress`. The user needs `SELECT` on the tables, `REPLICATION
/// SLAVE` and `REPLICATION CLIENT`; to read the tables of MySQL also `BACKUP_ADMIN`; in MariaDB, `BINLOG MONITOR`. What the log does not say stops the
/// flow, with what to do: statements in place of rows, `XA` transactions, events that are not known, a log that was deleted before it was read.
///
/// Another server may take the place of the one that was read, at the same address: a replica that writes what it replicates into its own log, in
/// MySQL with `gtid_mode = ON`, in MariaDB with `log_slave_updates`. Its log is read behind the transactions that are known, by their numbers (GTIDs). A
/// server that has not all of them ends the flow, since something is lost then; so does another server where transactions have no numbers.
///
/// Values have to fit the types in `schema`, as with `mysql_query`; a row with one that does not leaves by the port `failed`. Columns that are not
/// declared may come and go.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct MysqlChangesSettings {
    #[serde(flatten)]
    connection: ConnectionSettings,
    #[serde(flatten)]
    changes: ChangesSettings,
    /// The number by which the server knows who reads its log. No two may have the same. By default it is made of the names of flow and
    /// node.
    server_id: Option<u32>,
    /// How often the server is to say that it is there while nothing changes, by default `"10s"`. If it says nothing for three times as long, the
    /// connection is made anew.
    #[serde(default = "heartbeat")]
    heartbeat: Duration,
}

fn heartbeat() -> Duration {
    Duration(Span::from_secs(10))
}

impl Kind for MysqlChangesSettings {
    const NAME: &'static str = "mysql_changes";
    const ALSO_CALLED: &'static [&'static str] =
        &["mysql_cdc", "mariadb_changes", "mysql-cdc", "debezium", "capture_change_mysql", "binlog"];
    const CONNECTION: Option<&'static str> = CONNECTION;
    const EXAMPLE: &'static str = r#"
address = "127.0.0.1:3306"
user = "millstream"
password = "${MYSQL_PASSWORD}"
database = "shop"
tables.orders.schema = { id = "int64", amount = "decimal(10,2)?" }
tables.customers.schema = { id = "int64", name = "utf8" }
"#;
    const KEEPS_LOG: bool = true;
}

impl MysqlChangesSettings {
    fn job(&self, context: &PlanContext) -> Result<Job, Problems> {
        let tables = self.changes.tables(context, |name| Table::new(name, self.connection.database()), check_type)?;
        if self.server_id == Some(0) {
            let problem = Problem::new("0 is no number of a server").at(["server_id"]);
            return Err(problem.help("take any other that nobody has").into());
        }
        Ok(Job {
            server: self.connection.server(context)?,
            tables,
            has_snapshot: self.changes.has_snapshot(),
            missing: if self.changes.fails_on_change() { Missing::Fails } else { Missing::IsNull },
            server_id: self.server_id.unwrap_or_else(|| server_id(&context.flow, &context.node)),
            heartbeat: self.heartbeat.0.clamp(Span::from_millis(100), Span::from_secs(3600)),
            chunk_rows: self.changes.chunk_rows(),
            batch_rows: context.batch_rows,
        })
    }
}

/// A number that the names of flow and node give, far above those that people give their servers.
fn server_id(flow: &str, node: &str) -> u32 {
    let hash = flow
        .bytes()
        .chain([0])
        .chain(node.bytes())
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash | 0x8000_0000
}

impl InputSettings for MysqlChangesSettings {
    fn plan(&self, context: &PlanContext) -> Result<InputPlan, Problems> {
        let reader = ChangesReader::new(self.job(context)?);
        let job = reader.job();
        Ok(self.changes.plan(context, &job.tables, reader))
    }

    fn probe(&self, context: &PlanContext) -> Option<Probe> {
        let job = self.job(context).ok()?;
        let tables = job.tables.iter().map(|table| (table.table.clone(), Some(table.columns.row.clone()))).collect();
        Some(probe(job.server, Needs { tables, log: true, ..Needs::default() }))
    }

    fn schema_sources(&self, context: &PlanContext) -> Vec<SchemaSource> {
        let Ok(server) = self.connection.server(context) else { return Vec::new() };
        let table = |name: &str| Table::new(name, self.connection.database());
        self.changes.schema_sources(|name| Ok(ask(server.clone(), table(name)?.quoted())))
    }
}
