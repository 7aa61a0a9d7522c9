//! The input `mysql_query`: its settings, and what they come to.

mod table;

use millstream_core::{InputPlan, InputSettings, Kind, PlanContext, Probe, Problem, Problems, Result, SchemaSource};
use millstream_database::{QuerySettings, Relation};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::client::{CONNECTION, ConnectionSettings};
use crate::columns::ask;
use crate::probe::{Needs, probe};
use crate::value::check_type;
use table::MysqlTable;

/// Reads a table of MySQL or MariaDB, or what a query gives.
///
/// ```toml
/// [input.orders]
/// type = "mysql_query"
/// address = "db.example.com"
/// user = "millstream"
/// password = "${MYSQL_PASSWORD}"
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
/// noticed, and of several changes between two readings only the last: `mysql_changes` has them all.
///
/// How far it has come is part of the flow's state, and what it has read is kept in the state's folder until a checkpoint covers it: with
/// `--state`, rows count exactly once through any crash of the flow or the server, and `millstream replay` has the same rows although the
/// table has changed. A server that is away is waited for as long as it takes; only at the beginning the input gives up after 30 seconds.
///
/// Values have to fit the types in `schema`; a row with one that does not leaves by the port `failed`. `TIMESTAMP`s come in UTC, and `DATETIME`s are
/// taken for UTC. Texts, `ENUM`s, `SET`s and JSON are `utf8`; `BIT`s and `TINYINT(1)` may be `boolean`.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct MysqlQuerySettings {
    #[serde(flatten)]
    connection: ConnectionSettings,
    #[serde(flatten)]
    query: QuerySettings,
}

impl Kind for MysqlQuerySettings {
    const NAME: &'static str = "mysql_query";
    const ALSO_CALLED: &'static [&'static str] = &["mariadb_query", "mysql_table", "jdbc", "query_database_table"];
    const CONNECTION: Option<&'static str> = CONNECTION;
    const EXAMPLE: &'static str = r#"
address = "127.0.0.1:3306"
user = "millstream"
password = "${MYSQL_PASSWORD}"
database = "shop"
table = "orders"
schema = { id = "int64", amount = "decimal(10,2)?" }
key = ["id"]
"#;
    const KEEPS_LOG: bool = true;
}

impl MysqlQuerySettings {
    /// What is read.
    fn table(&self, context: &PlanContext) -> Result<MysqlTable, Problem> {
        Ok(MysqlTable {
            server: self.connection.server(context)?,
            relation: self.query.relation(|name| self.connection.table(name))?,
        })
    }
}

impl InputSettings for MysqlQuerySettings {
    fn plan(&self, context: &PlanContext) -> Result<InputPlan, Problems> {
        self.query.plan(context, check_type, || self.table(context))
    }

    fn probe(&self, context: &PlanContext) -> Option<Probe> {
        let MysqlTable { server, relation } = self.table(context).ok()?;
        let columns = self.query.job(context).ok()?.schema;
        let needs = match relation {
            Relation::Table(table) => Needs { tables: vec![(table, Some(columns))], ..Needs::default() },
            Relation::Query(query) => Needs { query: Some(query), ..Needs::default() },
        };
        Some(probe(server, needs))
    }

    fn schema_sources(&self, context: &PlanContext) -> Vec<SchemaSource> {
        let Ok(table) = self.table(context) else { return Vec::new() };
        self.query.schema_sources(|| ask(table.server.clone(), table.from()))
    }

    fn pauses(&self) -> bool {
        self.query.pauses()
    }
}
