//! The output `mysql`: its settings, and what they come to.
//!
//! * `rows`: rows as SQL writes them.
//! * `target`: the table, what it takes, and the tables beside it.
//! * `apply`: statements for rows, and which of them the table refuses.
//! * `session`: transactions with a mark of how far they have come.

mod apply;
mod rows;
mod session;
mod target;

use millstream_core::{Kind, OutputPlan, OutputSettings, PlanContext, Probe, Problem, Problems, Stream};
use millstream_database::{OutputJob, TableSettings};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::client::{CONNECTION, ConnectionSettings, Server};
use crate::names::Table;
use crate::probe::{Needs, probe};

pub use rows::{RowWriter, check_type};

/// Writes rows to a table of MySQL or MariaDB.
///
/// ```toml
/// [output.totals]
/// type = "mysql"
/// from = "sums"
/// address = "db.example.com"
/// user = "millstream"
/// password = "${MYSQL_PASSWORD}"
/// database = "shop"
/// table = "totals"
/// key = ["customer"]
/// on_error = { dead_letter = "out/refused" }
/// ```
///
/// A row goes into the columns of its columns' names. With `key`, the columns of a unique key of the table, it takes the place of the row that has
/// the same key; without, it is another row. With `op`, a column says what is done: `d` or `delete` deletes the row with the same key, and all
/// else writes it, so that what comes from `mysql_changes` keeps a table as another one is.
///
/// With `--state`, each row counts exactly once through any crash of the flow or the server: rows are kept beside the state until a checkpoint has
/// decided that they count, and are written in transactions then, each of which also notes in the table `progress_table` how far it has come. A
/// flow that goes on asks there what is still to be written, and a process that was thought dead finds that another has taken over. What one
/// checkpoint has decided is written in transactions of at most `transaction_rows` rows and `transaction_bytes` bytes, one after the other. While the server
/// is away, commits wait. Without `--state`, a flow that ends writes its rows at its end; one that does not writes them as they come, at least once.
///
/// Rows that the table can't take are refused before that as far as the table says so: nulls where it has none, texts and bytes that are too long,
/// numbers and times that MySQL does not have. `on_error` says what becomes of them. What only shows when they are written, such as a foreign key that
/// is missing or a row that is there already, goes to `refused_table` in the same transaction, or stops the flow.
///
/// The user needs `SELECT`, `INSERT`, `UPDATE` and `DELETE`, and `CREATE` where a table is missing that is to be created.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct MysqlOutputSettings {
    #[serde(flatten)]
    connection: ConnectionSettings,
    #[serde(flatten)]
    table: TableSettings,
}

impl Kind for MysqlOutputSettings {
    const NAME: &'static str = "mysql";
    const ALSO_CALLED: &'static [&'static str] = &["mariadb", "jdbc", "put_database_record", "mysql_sink"];
    const CONNECTION: Option<&'static str> = CONNECTION;
    const EXAMPLE: &'static str = r#"
address = "127.0.0.1:3306"
user = "millstream"
password = "${MYSQL_PASSWORD}"
database = "shop"
table = "totals"
key = ["customer"]
"#;
    const FREE_SETTINGS: &'static [&'static str] =
        &["address", "user", "password", "tls", "create_table", "transaction_rows", "transaction_bytes"];
}

/// A table that is written to, and the tables beside it.
pub struct MysqlTable {
    pub server: Server,
    pub table: Table,
    pub progress: Table,
    pub refused: Option<Table>,
    pub job: OutputJob,
}

impl MysqlOutputSettings {
    fn table(&self, written: &str, setting: &str) -> Result<Table, Problem> {
        Table::new(written, self.connection.database()).map_err(|problem| problem.at([setting]))
    }
}

impl OutputSettings for MysqlOutputSettings {
    fn check(&self, context: &PlanContext) -> Result<(), Problems> {
        self.connection.server(context)?;
        self.table(&self.table.table, "table")?;
        Ok(())
    }

    fn plan(&self, context: &PlanContext, input: &Stream) -> Result<OutputPlan, Problems> {
        let refused = self.table.refused_table.as_ref().map(|table| self.table(table, "refused_table")).transpose()?;
        let table = MysqlTable {
            job: self.table.job(input, check_type)?,
            server: self.connection.server(context)?,
            table: self.table(&self.table.table, "table")?,
            progress: self.table(&self.table.progress_table, "progress_table")?,
            refused,
        };
        let place = format!("table {} of {}", table.table.quoted().replace('`', ""), table.server.address());
        Ok(self.table.plan(table, place))
    }

    fn probe(&self, context: &PlanContext) -> Option<Probe> {
        let table = self.table(&self.table.table, "table").ok()?;
        let tables = if self.table.creates() { Vec::new() } else { vec![(table, None)] };
        Some(probe(self.connection.server(context).ok()?, Needs { tables, ..Needs::default() }))
    }
}
