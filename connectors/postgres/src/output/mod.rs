//! The output `postgres`: its settings, and what they come to.
//!
//! * `copy`: rows in the binary form of `COPY`.
//! * `target`: the table, what it takes, and the tables beside it.
//! * `statements`: what is said to write rows that have been copied.
//! * `session`: transactions with a mark of how far they have come.

mod copy;
mod session;
mod statements;
mod target;

use millstream_core::{Kind, OutputPlan, OutputSettings, PlanContext, Probe, Problem, Problems, Result, Stream};
use millstream_database::{OutputJob, TableSettings};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::client::{CONNECTION, ConnectionSettings, Server};
use crate::names::Table;

pub use copy::check_type;

/// Writes rows to a table of PostgreSQL.
///
/// ```toml
/// [output.totals]
/// type = "postgres"
/// from = "sums"
/// address = "db.example.com"
/// user = "millstream"
/// password = "${POSTGRES_PASSWORD}"
/// database = "shop"
/// table = "totals"
/// key = ["customer"]
/// on_error = { dead_letter = "out/refused" }
/// ```
///
/// A row goes into the columns of its columns' names, each value as PostgreSQL casts it to the column's type: a `utf8` may go into a `uuid`, a `jsonb`
/// or an `ENUM`, and lists go into arrays. With `key`, the columns of a unique key of the table, it takes the place of the row that has the same key (`ON
/// CONFLICT`); without, it is another row. With `op`, a column says what is done: `d` or `delete` deletes the row with the same key, and all else
/// writes it, so that what comes from `postgres_changes` or `mysql_changes` keeps a table as another one is.
///
/// With `--state`, each row counts exactly once through any crash of the flow or the server: rows are kept beside the state until a checkpoint has
/// decided that they count, and are written in transactions then, each of which also notes in the table `progress_table` how far it has come. A
/// flow that goes on asks there what is still to be written, and a process that was thought dead finds that another has taken over. What one
/// checkpoint has decided is written in transactions of at most `transaction_rows` rows and `transaction_bytes` bytes, one after the other. While the server
/// is away, commits wait. Without `--state`, a flow that ends writes its rows at its end; one that does not writes them as they come, at least once.
///
/// Rows are copied in binary into the table itself where there is no `key`, it is no view, and its columns have the types of the rows'. Otherwise they
/// are copied into a temporary table, and from there into the table by one statement for thousands of them. Of several rows with the same key
/// that come together, the last one counts.
///
/// Rows that the table can't take are refused before that as far as the table says so: nulls where it has none, texts that are too long, whole
/// numbers that are too large, texts with a zero byte, times that PostgreSQL does not have. `on_error` says what becomes of them. What only shows when
/// they are written, such as a foreign key that is missing, a row that is there already or a text that is no `uuid`, goes to `refused_table` in the same
/// transaction, or stops the flow.
///
/// The user needs `SELECT`, `INSERT`, `UPDATE` and `DELETE`, `TEMPORARY` on the database, and `CREATE` on the schema where a table is missing that is to be
/// created.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct PostgresOutputSettings {
    #[serde(flatten)]
    connection: ConnectionSettings,
    #[serde(flatten)]
    table: TableSettings,
}

impl Kind for PostgresOutputSettings {
    const NAME: &'static str = "postgres";
    const ALSO_CALLED: &'static [&'static str] = &["postgresql", "jdbc", "put_database_record", "postgres_sink"];
    const CONNECTION: Option<&'static str> = CONNECTION;
    const EXAMPLE: &'static str = r#"
address = "127.0.0.1:5432"
user = "millstream"
password = "${POSTGRES_PASSWORD}"
database = "shop"
table = "totals"
key = ["customer"]
"#;
    const FREE_SETTINGS: &'static [&'static str] = &[
        "address",
        "user",
        "password",
        "tls",
        "connect_timeout",
        "create_table",
        "refused_table",
        "transaction_rows",
        "transaction_bytes",
    ];
}

/// A table that is written to, and the tables beside it.
pub struct PostgresTable {
    pub server: Server,
    pub table: Table,
    pub progress: Table,
    pub refused: Option<Table>,
    pub job: OutputJob,
}

fn table(written: &str, setting: &str) -> Result<Table, Problem> {
    Table::new(written).map_err(|problem| problem.at([setting]))
}

impl OutputSettings for PostgresOutputSettings {
    fn check(&self, context: &PlanContext) -> Result<(), Problems> {
        self.connection.server(context)?;
        table(&self.table.table, "table")?;
        Ok(())
    }

    fn plan(&self, context: &PlanContext, input: &Stream) -> Result<OutputPlan, Problems> {
        let refused = self.table.refused_table.as_ref().map(|name| table(name, "refused_table")).transpose()?;
        let table = PostgresTable {
            job: self.table.job(input, check_type)?,
            server: self.connection.server(context)?,
            table: table(&self.table.table, "table")?,
            progress: table(&self.table.progress_table, "progress_table")?,
            refused,
        };
        let place = format!("table {} of {}", table.table.written(), table.server.address());
        Ok(self.table.plan(table, place))
    }

    fn probe(&self, context: &PlanContext) -> Option<Probe> {
        let server = self.connection.server(context).ok()?;
        let table = table(&self.table.table, "table").ok().filter(|_| !self.table.creates());
        Some(Box::pin(async move {
            let (connection, version) = server.look().await?;
            if let Some(table) = &table {
                table.columns(&connection).await?;
            }
            Ok(format!("PostgreSQL {version} at `{}`", server.address()))
        }))
    }
}
