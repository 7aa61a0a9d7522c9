//! The input `postgres_query`: its settings, and what they come to.

mod table;

use millstream_core::{InputPlan, InputSettings, Kind, PlanContext, Probe, Problem, Problems, Result, SchemaSource};
use millstream_database::{QuerySettings, Relation};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::client::{CONNECTION, ConnectionSettings};
use crate::columns::{self, ask};
use crate::value::check_type;
use table::PostgresTable;

/// Reads a table of PostgreSQL, or what a query gives.
///
/// ```toml
/// [input.orders]
/// type = "postgres_query"
/// address = "db.example.com"
/// user = "millstream"
/// password = "${POSTGRES_PASSWORD}"
/// database = "shop"
/// table = "orders"
/// schema = { id = "int64", amount = "decimal(10,2)", updated_at = "timestamp" }
/// key = ["id"]
/// cursor = "updated_at"
/// every = "10s"
/// ```
///
/// Rows are read in the order of `key`, page by page, each page as the table is then; no page holds a lock. With that alone, the input ends
/// behind the last row. With `cursor`, a column that grows with each change such as the time of the last one, it reads the rows that are new or
/// have changed: again and again if `every` says so, or in each run those that have come since the one before. Rows that are deleted are not
/// noticed, and of several changes between two readings only the last: `postgres_changes` has them all.
///
/// How far it has come is part of the flow's state, and what it has read is kept in the state's folder until a checkpoint covers it: with
/// `--state`, rows count exactly once through any crash of the flow or the server, and `millstream replay` has the same rows although the
/// table has changed. A server that is away is waited for as long as it takes; only at the beginning the input gives up after 30 seconds.
///
/// Values have to fit the types in `schema`; a row with one that does not leaves by the port `failed`. A `timestamp` without a time zone is taken for
/// UTC. Everything can be read as `utf8`, in the form that the server gives it: a `uuid`, an `ENUM`, an array (`{1,2}`), an `interval`, JSON.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct PostgresQuerySettings {
    #[serde(flatten)]
    connection: ConnectionSettings,
    #[serde(flatten)]
    query: QuerySettings,
}

impl Kind for PostgresQuerySettings {
    const NAME: &'static str = "postgres_query";
    const ALSO_CALLED: &'static [&'static str] =
        &["postgresql_query", "postgres_table", "jdbc", "query_database_table"];
    const CONNECTION: Option<&'static str> = CONNECTION;
    const EXAMPLE: &'static str = r#"
address = "127.0.0.1:5432"
user = "millstream"
password = "${POSTGRES_PASSWORD}"
database = "shop"
table = "orders"
schema = { id = "int64", amount = "decimal(10,2)?" }
key = ["id"]
"#;
    const KEEPS_LOG: bool = true;
}

impl PostgresQuerySettings {
    /// What is read.
    fn table(&self, context: &PlanContext) -> Result<PostgresTable, Problem> {
        Ok(PostgresTable {
            server: self.connection.server(context)?,
            relation: self.query.relation(|name| self.connection.table(name))?,
        })
    }
}

impl InputSettings for PostgresQuerySettings {
    fn plan(&self, context: &PlanContext) -> Result<InputPlan, Problems> {
        self.query.plan(context, check_type, || self.table(context))
    }

    fn pauses(&self) -> bool {
        self.query.pauses()
    }

    fn probe(&self, context: &PlanContext) -> Option<Probe> {
        let (table, job) = (self.table(context).ok()?, self.query.job(context).ok()?);
        Some(Box::pin(async move { table.look(&job).await }))
    }

    fn schema_sources(&self, context: &PlanContext) -> Vec<SchemaSource> {
        let Ok(PostgresTable { server, relation }) = self.table(context) else { return Vec::new() };
        let relation = match relation {
            Relation::Table(table) => columns::Relation::Table(table),
            Relation::Query(query) => columns::Relation::Query(table::subquery(&query)),
        };
        self.query.schema_sources(|| ask(server, relation))
    }
}
