//! Processors that look rows up in a table: the settings that they share, and what they come to.

mod asker;
mod cache;

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use indexmap::IndexMap;
use millstream_core::{
    AskSchema, Columns, Duration, PlanContext, PortPlan, Problem, Problems, ProcessorPlan, Result, SchemaSource, Step,
    Stream, Uses, asking, require_column,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::CheckType;
pub use asker::{Answer, LookupTable};
use asker::{Lookup, LookupJob};

/// What is looked up, and how long it is remembered.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct LookupSettings {
    /// The columns that must be equal: `["code"]`, or `{ customer = "id" }` where they have other names in the table. Together they are a unique key of
    /// the table, and should have an index.
    on: On,
    /// The columns of the table that are added, and their types: `{ name = "utf8?" }`. With a `?` behind its type one is null where there is no row.
    /// Without it they are all but the key, as `millstream check FLOW --connect --lock` has found them and written them into `FLOW.lock`.
    schema: Option<Columns>,
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

/// The setting that declares the columns.
const SCHEMA: &str = "schema";

/// A table, in words.
fn source(table: &str) -> String {
    format!("the table `{table}`")
}

fn cache_time() -> Duration {
    Duration(std::time::Duration::from_secs(60))
}

fn cache_rows() -> usize {
    100_000
}

impl LookupSettings {
    /// The columns that must be equal, of rows and of the table.
    fn pairs(&self) -> Vec<(String, String)> {
        match &self.on {
            On::Same(names) => names.iter().map(|name| (name.clone(), name.clone())).collect(),
            On::Named(names) => names.iter().map(|(one, other)| (one.clone(), other.clone())).collect(),
        }
    }

    fn check(&self, from: &Schema, added: &Schema, check_key_type: CheckType, check_type: CheckType) -> Problems {
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

    /// The columns of the table that make the key.
    pub fn columns(&self) -> Vec<String> {
        self.pairs().into_iter().map(|(_, column)| column).collect()
    }

    /// What knows the columns of a table, if those that are added are not said.
    pub fn schema_sources(&self, table: &str, ask: impl FnOnce() -> AskSchema) -> Vec<SchemaSource> {
        match &self.schema {
            Some(_) => Vec::new(),
            None => vec![SchemaSource { setting: SCHEMA.to_owned(), name: source(table), ask: ask() }],
        }
    }

    /// The columns that are added: those that are declared, or all of the table but the key.
    ///
    /// # Errors
    /// If nothing says the columns.
    pub fn added(&self, table: &str, context: &PlanContext) -> Result<SchemaRef, Problem> {
        if let Some(declared) = &self.schema {
            return Ok(declared.schema());
        }
        let (mut columns, key) = (context.locked.columns(None, SCHEMA, &source(table))?, self.columns());
        columns.0.retain(|(name, _)| !key.contains(name));
        for (_, column) in &mut columns.0 {
            column.nullable |= self.missing == Missing::Null;
        }
        Ok(columns.schema())
    }

    /// The plan of a node that looks up rows of a table, and adds these columns.
    ///
    /// # Errors
    /// If columns are missing, or of types that a key can't have or a table does not have.
    pub fn plan<T: LookupTable>(
        &self,
        table: T,
        added: SchemaRef,
        inputs: &[Stream],
        check_key_type: CheckType,
        check_type: CheckType,
    ) -> Result<ProcessorPlan, Problems> {
        let [from] = inputs else { return Err(Problem::new("a lookup needs `from`").into()) };
        let problems = self.check(&from.schema, &added, check_key_type, check_type);
        if !problems.is_empty() {
            return Err(problems);
        }
        let fields: Vec<Arc<Field>> = from.schema.fields().iter().chain(added.fields()).cloned().collect();
        let schema = Arc::new(Schema::new(fields));
        let pairs = self.pairs();
        let key = pairs.iter().filter_map(|(name, _)| from.schema.field_with_name(name).ok().cloned());
        let job = LookupJob {
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
            build: Box::new(move || Ok(asking(Lookup::new(job, table)?))),
        })
    }
}
