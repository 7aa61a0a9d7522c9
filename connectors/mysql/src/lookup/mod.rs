//! The processor `mysql_lookup`: its settings, and what they come to.

mod asker;
mod cache;

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use indexmap::IndexMap;
use millstream_core::{
    Columns, Duration, Kind, PlanContext, PortPlan, Probe, Problem, Problems, ProcessorPlan, ProcessorSettings, Result,
    Step, Stream, Uses, asking, require_column,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::client::{CONNECTION, ConnectionSettings};
use crate::output::check_type as check_key_type;
use crate::probe::{Needs, probe};
use crate::value::check_type;
use asker::{Job, Lookup};

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
    /// The columns that must be equal: `["code"]`, or `{ customer = "id" }` where they have other names in the table. Together they are a unique key of
    /// the table, and should have an index.
    on: On,
    /// The columns of the table that are added, and their types: `{ name = "utf8?" }`. With a `?` behind its type one is null where there is no row.
    schema: Columns,
    /// What becomes of a row for which the table has none: its new columns are null, `"null"`, which is the default; or it leaves by the port
    /// `failed`, `"fail"`.
    #[serde(default)]
    missing: Missing,
    /// For how long what was found is remembered, by default `"1m"`; `"0s"` asks every time.
    #[serde(default = "cache_time")]
    cache_time: Duration,
    /// How many rows are remembered at most, by default 100,000.
    #[serde(default = "cache_rows")]
    cache_rows: usize,
}

/// Which columns must be equal.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
enum On {
    /// Columns of the same names.
    Same(Vec<String>),
    /// Columns of rows, and those of the table.
    Named(#[schemars(with = "std::collections::BTreeMap<String, String>")] IndexMap<String, String>),
}

/// What becomes of a row for which the table has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Missing {
    /// Its columns are null.
    #[default]
    Null,
    /// It fails.
    Fail,
}

fn cache_time() -> Duration {
    Duration(std::time::Duration::from_secs(60))
}

fn cache_rows() -> usize {
    100_000
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

impl MysqlLookupSettings {
    /// The columns that must be equal, of rows and of the table.
    fn pairs(&self) -> Vec<(String, String)> {
        match &self.on {
            On::Same(names) => names.iter().map(|name| (name.clone(), name.clone())).collect(),
            On::Named(names) => names.iter().map(|(one, other)| (one.clone(), other.clone())).collect(),
        }
    }

    fn check(&self, from: &Schema, added: &Schema) -> Problems {
        let mut problems = Problems::new();
        if self.pairs().is_empty() {
            problems.push(Problem::new("there is no column to look for").at(["on"]));
        }
        for (index, (name, _)) in self.pairs().iter().enumerate() {
            let step = match self.on {
                On::Same(_) => Step::from(index),
                On::Named(_) => Step::Name(name.clone()),
            };
            let at = |problem: Problem| problem.at([Step::from("on"), step.clone()]);
            match require_column(name, from) {
                Ok(field) if matches!(field.data_type(), DataType::Float32 | DataType::Float64) => {
                    problems.push(at(Problem::new(format!("`{name}` is a float, which can't be looked for exactly"))));
                }
                Ok(field) => problems.extend(check_key_type(field).map_err(at).err()),
                Err(problem) => problems.push(at(problem)),
            }
        }
        for field in added.fields() {
            let at = |problem: Problem| problem.at(["schema", field.name().as_str()]);
            problems.extend(check_type(field).map_err(at).err());
            if from.field_with_name(field.name()).is_ok() {
                let problem = Problem::new(format!("there is a column `{}` already", field.name()));
                problems.push(at(problem.help("rename it with an `sql` node before")));
            }
        }
        if added.fields().is_empty() {
            problems.push(Problem::new("there is no column").at(["schema"]));
        }
        if let (Missing::Null, Some(field)) = (self.missing, added.fields().iter().find(|field| !field.is_nullable())) {
            let problem = Problem::new(format!("`{}` would be null where the table has no row", field.name()));
            let help = "write a `?` behind its type, or `missing = \"fail\"`";
            problems.push(problem.help(help).at(["schema", field.name().as_str()]));
        }
        problems
    }
}

impl ProcessorSettings for MysqlLookupSettings {
    fn plan(&self, context: &PlanContext, inputs: &[Stream]) -> Result<ProcessorPlan, Problems> {
        let [from] = inputs else { return Err(Problem::new("a lookup needs `from`").into()) };
        let added = self.schema.schema();
        let problems = self.check(&from.schema, &added);
        if !problems.is_empty() {
            return Err(problems);
        }
        let fields: Vec<Arc<Field>> = from.schema.fields().iter().chain(added.fields()).cloned().collect();
        let schema = Arc::new(Schema::new(fields));
        let pairs = self.pairs();
        let key = pairs.iter().filter_map(|(name, _)| from.schema.field_with_name(name).ok().cloned());
        let job = Job {
            server: self.connection.server(context)?,
            table: self.connection.table(&self.table)?,
            columns: pairs.iter().map(|(_, column)| column.clone()).collect(),
            key: Arc::new(Schema::new(key.collect::<Vec<_>>())),
            added,
            schema: schema.clone(),
            fails: self.missing == Missing::Fail,
            cache_time: self.cache_time.0,
            cache_rows: self.cache_rows,
        };
        Ok(ProcessorPlan {
            ports: vec![PortPlan::main(schema)],
            uses: vec![Uses::passing_on(pairs.into_iter().map(|(name, _)| name))],
            fails: true,
            build: Box::new(move || Ok(asking(Lookup::new(job)?))),
        })
    }

    fn probe(&self, context: &PlanContext) -> Option<Probe> {
        let table = self.connection.table(&self.table).ok()?;
        let needs = Needs { tables: vec![(table, Some(self.schema.schema()))], ..Needs::default() };
        Some(probe(self.connection.server(context).ok()?, needs))
    }
}
