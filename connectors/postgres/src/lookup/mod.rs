//! The processor `postgres_lookup`: its settings, and what they come to.

mod table;

use millstream_core::{
    Kind, PlanContext, Probe, Problems, ProcessorPlan, ProcessorSettings, Result, SchemaSource, Stream,
};
use millstream_database::LookupSettings;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::client::{CONNECTION, ConnectionSettings};
use crate::columns::{Relation, ask};
use crate::value::check_type;
use table::{PostgresTable, check_key_type};

/// Adds columns of a table of PostgreSQL to rows.
///
/// ```toml
/// [processor.with_customer]
/// type = "postgres_lookup"
/// from = "orders"
/// address = "db.example.com"
/// user = "millstream"
/// password = "${POSTGRES_PASSWORD}"
/// database = "shop"
/// table = "customers"
/// on = { customer = "id" }
/// schema = { name = "utf8?", tier = "utf8?" }
/// ```
///
/// The rows of a batch are asked about together, each key once, and what was found is remembered for `cache_time`, also that there is no such row.
/// Rows keep their order. Keys are compared as they are, texts by their bytes; null is not looked for. A key that several rows of the table have is a
/// mistake, and its row leaves by the port `failed`; so does one whose values don't fit the types in `schema`, and one whose key is none in the
/// table, such as a text that is no `uuid`.
///
/// The table may change while the flow runs, so that what was found is noted where a replay needs it. A server that is away is waited for.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct PostgresLookupSettings {
    #[serde(flatten)]
    connection: ConnectionSettings,
    /// The table: `"customers"`, or of another schema `"crm.customers"`.
    table: String,
    #[serde(flatten)]
    lookup: LookupSettings,
}

impl Kind for PostgresLookupSettings {
    const NAME: &'static str = "postgres_lookup";
    const ALSO_CALLED: &'static [&'static str] = &["postgresql_lookup", "lookup_record", "jdbc_lookup", "async_lookup"];
    const CONNECTION: Option<&'static str> = CONNECTION;
    const ASKS: bool = true;
    const EXAMPLE: &'static str = r#"
address = "127.0.0.1:5432"
user = "millstream"
password = "${POSTGRES_PASSWORD}"
database = "shop"
table = "customers"
on = { customer = "id" }
schema = { name = "utf8?" }
"#;
}

impl PostgresLookupSettings {
    fn table(&self, context: &PlanContext) -> Result<PostgresTable, Problems> {
        Ok(PostgresTable {
            server: self.connection.server(context)?,
            table: self.connection.table(&self.table)?,
            columns: self.lookup.columns(),
        })
    }
}

impl ProcessorSettings for PostgresLookupSettings {
    fn plan(&self, context: &PlanContext, inputs: &[Stream]) -> Result<ProcessorPlan, Problems> {
        let added = self.lookup.added(&self.table, context)?;
        self.lookup.plan(self.table(context)?, added, inputs, check_key_type, check_type)
    }

    fn probe(&self, context: &PlanContext) -> Option<Probe> {
        let (table, added) = (self.table(context).ok()?, self.lookup.added(&self.table, context).ok()?);
        Some(Box::pin(async move { table.look(&added).await }))
    }

    fn schema_sources(&self, context: &PlanContext) -> Vec<SchemaSource> {
        let Ok(PostgresTable { server, table, .. }) = self.table(context) else { return Vec::new() };
        self.lookup.schema_sources(&self.table, || ask(server, Relation::Table(table)))
    }
}
