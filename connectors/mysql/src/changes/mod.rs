//! The input `mysql_changes`: its settings, and what they come to.

mod checks;
mod place;
mod port;
mod reader;
mod shape;
mod snapshot;
mod stream;

use std::time::Duration as Span;

use indexmap::IndexMap;
use millstream_core::{
    ByteSize, Columns, Duration, InputPlan, InputSettings, Kind, PlanContext, PortPlan, PortTime, Probe, Problem,
    Problems, Step, port_name_problem,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::client::{CONNECTION, ConnectionSettings};
use crate::journal::{Journal, JournalOptions};
use crate::names::Table;
use crate::probe::{Needs, probe};
use crate::value::check_type;
pub use checks::check as check_log;
use port::{Metadata, PortColumns};
use reader::{ChangesReader, Job, TableJob};
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
/// Values have to fit the types in `schema`, as with `mysql_query`; a row with one that does not leaves by the port `failed`. Columns that are not
/// declared may come and go.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct MysqlChangesSettings {
    #[serde(flatten)]
    connection: ConnectionSettings,
    /// The tables, by the names of their ports.
    #[schemars(with = "std::collections::BTreeMap<String, TableSettings>")]
    tables: IndexMap<String, TableSettings>,
    /// Where to begin: with the rows that the tables have, `"snapshot"`, which is the default, or with the next change, `"latest"`.
    #[serde(default)]
    start: Start,
    /// Columns that are not in the row, behind the others, by default `{ op = "op", ts = "ts" }`. There are also `before`, the row before the
    /// change, a struct whose columns may be null; and `position`, where in the log, a `utf8`.
    #[serde(default = "metadata")]
    #[schemars(with = "std::collections::BTreeMap<String, Metadata>")]
    metadata: IndexMap<String, Metadata>,
    /// What to do when a declared column is gone, or a table is emptied by `TRUNCATE` or dropped: the flow fails, which is the default, or it goes on, with
    /// nulls in the column's place, and without a word of rows that are gone.
    #[serde(default)]
    on_schema_change: OnSchemaChange,
    /// The number by which the server knows who reads its log. No two may have the same. By default it is made of the names of flow and
    /// node.
    server_id: Option<u32>,
    /// How often the server is to say that it is there while nothing changes, by default `"10s"`. If it says nothing for three times as long, the
    /// connection is made anew.
    #[serde(default = "heartbeat")]
    heartbeat: Duration,
    /// How many rows of a table are read at once, by default 8,192.
    #[serde(default = "chunk_rows")]
    chunk_rows: u32,
    /// How many bytes of rows may wait in the state's folder until a checkpoint covers them, by default `"1GiB"`. As long as half of it is
    /// free, the rows behind the oldest checkpoint that is kept stay, for replays.
    #[serde(default = "max_log")]
    max_log: ByteSize,
}

/// A table whose changes are read.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct TableSettings {
    /// The table, if it is not called as the port: `"Orders"`, or of another database `"archive.orders"`.
    table: Option<String>,
    /// The columns and their types: `{ id = "int64", amount = "decimal(10,2)?" }`. The columns of the key have to be among them.
    schema: Columns,
    /// The columns that tell each row from every other, if they are not those of the primary key.
    key: Option<Vec<String>>,
}

/// Where to begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Start {
    /// With the rows that the tables have.
    #[default]
    Snapshot,
    /// With the next change.
    Latest,
}

/// What to do when tables change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum OnSchemaChange {
    /// Fail.
    #[default]
    Fail,
    /// Go on.
    Ignore,
}

fn metadata() -> IndexMap<String, Metadata> {
    [("op".to_owned(), Metadata::Op), ("ts".to_owned(), Metadata::Ts)].into()
}

fn heartbeat() -> Duration {
    Duration(Span::from_secs(10))
}

fn chunk_rows() -> u32 {
    8192
}

fn max_log() -> ByteSize {
    ByteSize(1 << 30)
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
    fn table(&self, port: &str, settings: &TableSettings) -> Result<TableJob, Problems> {
        let under = |problem: Problem| problem.under(port).under("tables");
        if let Some(problem) = port_name_problem(port) {
            let help = "name the port, and the table by `table = \"…\"`";
            return Err(problem.help(help).at([Step::from("tables"), Step::Name(port.to_owned())]).into());
        }
        let table = Table::new(settings.table.as_deref().unwrap_or(port), self.connection.database())
            .map_err(|problem| under(problem.at(["table"])))?;
        let row = settings.schema.schema();
        let mut problems = Problems::new();
        for field in row.fields() {
            let checked = check_type(field).map_err(|problem| under(problem.at(["schema", field.name().as_str()])));
            problems.extend(checked.err());
            if self.metadata.contains_key(field.name()) {
                let problem = Problem::new(format!("there is a column `{}` in `metadata` already", field.name()));
                let help = "give the one in `metadata` another name: `metadata = { operation = \"op\" }`";
                problems.push(under(problem.help(help).at(["schema", field.name().as_str()])));
            }
        }
        for name in settings.key.iter().flatten() {
            match millstream_core::require_column(name, &row) {
                Ok(field) if shape::can_be_key(field.data_type()) => {}
                Ok(_) => {
                    let problem = Problem::new(format!("`{name}` is a float, which can't be found again exactly"));
                    problems.push(under(problem.at(["key"])));
                }
                Err(problem) => problems.push(under(problem.at(["key"]))),
            }
        }
        if row.fields().is_empty() {
            problems.push(under(Problem::new("there is no column").at(["schema"])));
        }
        if settings.key.as_ref().is_some_and(Vec::is_empty) {
            problems.push(under(Problem::new("there is no column").at(["key"])));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let metadata = self.metadata.iter().map(|(name, metadata)| (name.clone(), *metadata)).collect();
        Ok(TableJob {
            port: port.to_owned(),
            table,
            columns: PortColumns::new(row, metadata),
            key: settings.key.clone(),
        })
    }

    fn job(&self, context: &PlanContext) -> Result<Job, Problems> {
        let mut problems = Problems::new();
        let mut tables = Vec::new();
        for (port, settings) in &self.tables {
            match self.table(port, settings) {
                Ok(table) => tables.push(table),
                Err(found) => problems.extend(found),
            }
        }
        if self.tables.is_empty() {
            problems.push(
                Problem::new("there is no table")
                    .at(["tables"])
                    .help("such as `tables.orders.schema = { id = \"int64\" }`"),
            );
        }
        for (index, one) in tables.iter().enumerate() {
            if let Some(other) = tables[..index].iter().find(|other| other.table == one.table) {
                let problem = Problem::new(format!("`{}` reads the same table", other.port));
                problems.push(problem.at([Step::from("tables"), Step::Name(one.port.clone())]));
            }
        }
        if self.server_id == Some(0) {
            problems.push(
                Problem::new("0 is no number of a server").at(["server_id"]).help("take any other that nobody has"),
            );
        }
        if self.chunk_rows == 0 {
            problems.push(Problem::new("there is one row at least").at(["chunk_rows"]));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Job {
            server: self.connection.server(context)?,
            tables,
            has_snapshot: self.start == Start::Snapshot,
            missing: if self.on_schema_change == OnSchemaChange::Fail { Missing::Fails } else { Missing::IsNull },
            server_id: self.server_id.unwrap_or_else(|| server_id(&context.flow, &context.node)),
            heartbeat: self.heartbeat.0.clamp(Span::from_millis(100), Span::from_secs(3600)),
            chunk_rows: self.chunk_rows,
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
        let job = self.job(context)?;
        let schemas: Vec<_> = job.tables.iter().map(|table| table.columns.schema.clone()).collect();
        let port = |table: &TableJob| {
            PortPlan::new(&table.port, table.columns.schema.clone()).with_event_time(PortTime::Inherited)
        };
        let ports = job.tables.iter().map(port).collect();
        let options = JournalOptions {
            source: context.node.as_str().into(),
            schemas: schemas.clone(),
            batch_rows: context.batch_rows,
            max_log: self.max_log.0.max(1 << 20) as u64,
        };
        let reader = ChangesReader::new(job);
        let plan = InputPlan::new(schemas[0].clone(), move || Ok(Journal::new(options, reader)));
        Ok(InputPlan { ports, finite: false, ..plan })
    }

    fn probe(&self, context: &PlanContext) -> Option<Probe> {
        let job = self.job(context).ok()?;
        let tables = job.tables.iter().map(|table| (table.table.clone(), Some(table.columns.row.clone()))).collect();
        Some(probe(job.server, Needs { tables, log: true, ..Needs::default() }))
    }
}
