//! The processor `mysql_lookup`: its settings, and what they come to.

mod table;

use millstream_core::{
    Kind, PlanContext, Probe, Problems, ProcessorPlan, ProcessorSettings, Result, SchemaSource, Stream,
};
use millstream_database::LookupSettings;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::client::{CONNECTION, ConnectionSettings};
use crate::columns::ask;
use crate::output::check_type as check_key_type;
use crate::probe::{Needs, probe};
use crate::value::check_type;
use table::MysqlTable;

/// Adds columns of a table of MySQL or MariaDB to rows.
///
/// ```toml
/// [processor.with_customer]
/// type = "mysql_lookup"
/// from = "orders"
/// address = "db.example.com"
/// user = "millstream"
/// password = "${MYSQL_PASSWORD}"
/// database = "shop"
/// table = "customers"
/// on = { customer = "id" }
/// schema = { name = "utf8?", tier = "utf8?" }
/// ```
///
/// The rows of a batch are asked about together, each key once, and what was found is remembered for `cache_time`, also that there is no such row.
/// Rows keep their order. Keys are compared as they are, texts by their bytes; null is not looked for. A key that several rows of the table have is a
/// mistake, and its row leaves by the port `failed`; so does one whose values don't fit the types in `schema`.
///
/// The table may change while the flow runs, so that what was found is noted where a replay needs it. A server that is away is waited for.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct MysqlLookupSettings {
    #[serde(flatten)]
    connection: ConnectionSettings,
    /// The table: `"customers"`, or of another database `"crm.customers"`.
    table: String,
    #[serde(flatten)]
    lookup: LookupSettings,
}

impl Kind for MysqlLookupSettings {
    const NAME: &'static str = "mysql_lookup";
    const ALSO_CALLED: &'static [&'static str] = &["mariadb_lookup", "lookup_record", "jdbc_lookup", "async_lookup"];
    const CONNECTION: Option<&'static str> = CONNECTION;
    const ASKS: bool = true;
    const EXAMPLE: &'static str = r#"
address = "127.0.0.1:3306"
user = "millstream"
password = "${MYSQL_PASSWORD}"
database = "shop"
table = "customers"
on = { customer = "id" }
schema = { name = "utf8?" }
"#;
}

impl ProcessorSettings for MysqlLookupSettings {
    fn plan(&self, context: &PlanContext, inputs: &[Stream]) -> Result<ProcessorPlan, Problems> {
        let table = MysqlTable {
            server: self.connection.server(context)?,
            table: self.connection.table(&self.table)?,
            columns: self.lookup.columns(),
        };
        let added = self.lookup.added(&self.table, context)?;
        self.lookup.plan(table, added, inputs, check_key_type, check_type)
    }

    fn probe(&self, context: &PlanContext) -> Option<Probe> {
        let table = self.connection.table(&self.table).ok()?;
        let added = self.lookup.added(&self.table, context).ok()?;
        let needs = Needs { tables: vec![(table, Some(added))], ..Needs::default() };
        Some(probe(self.connection.server(context).ok()?, needs))
    }

    fn schema_sources(&self, context: &PlanContext) -> Vec<SchemaSource> {
        let (server, table) = (self.connection.server(context), self.connection.table(&self.table));
        let (Ok(server), Ok(table)) = (server, table) else { return Vec::new() };
        self.lookup.schema_sources(&self.table, || ask(server, table.quoted()))
    }
}
