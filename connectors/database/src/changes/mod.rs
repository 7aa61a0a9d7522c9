//! Inputs that read the changes of tables from a server's log: the settings that they share, and what becomes of changes.

mod gathered;
mod port;
mod watch;

use indexmap::IndexMap;
use millstream_core::{
    AskSchema, ByteSize, Columns, InputPlan, PlanContext, PortPlan, PortTime, Problem, Problems, Result, SchemaSource,
    Step, port_name_problem, require_column,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::CheckType;
use crate::journal::{Journal, JournalOptions, Source};
pub use gathered::{ChunkRows, Gathered};
pub use port::{At, ChangedRow, Metadata, Op, PortColumns};
pub use watch::Watch;

/// Whose changes are read, and how.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct ChangesSettings {
    /// The tables, by the names of their ports.
    #[schemars(with = "std::collections::BTreeMap<String, ChangedTable>")]
    tables: IndexMap<String, ChangedTable>,
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
struct ChangedTable {
    /// The table, if it is not called as the port: `"Orders"`, or of another database or schema `"archive.orders"`.
    table: Option<String>,
    /// The columns and their types: `{ id = "int64", amount = "decimal(10,2)?" }`. The columns of the key have to be among them. Without it they are those
    /// that `millstream check FLOW --connect --lock` has found, and written into `FLOW.lock`.
    schema: Option<Columns>,
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

fn chunk_rows() -> u32 {
    8192
}

fn max_log() -> ByteSize {
    ByteSize(1 << 30)
}

/// A table whose changes are read.
pub struct TableJob<T> {
    /// The name of its port.
    pub port: String,
    /// The table.
    pub table: T,
    /// The columns of the port.
    pub columns: PortColumns,
    /// The columns that tell its rows apart, if they are not those of the primary key.
    pub key: Option<Vec<String>>,
}

impl ChangedTable {
    /// The table as the flow names it.
    fn name<'a>(&'a self, port: &'a str) -> &'a str {
        self.table.as_deref().unwrap_or(port)
    }
}

/// The setting that declares the columns of a port.
fn setting(port: &str) -> String {
    format!("tables.{port}.schema")
}

/// A table, in words.
fn source(table: &str) -> String {
    format!("the table `{table}`")
}

impl ChangesSettings {
    fn table<T>(
        &self,
        context: &PlanContext,
        port: &str,
        settings: &ChangedTable,
        named: impl Fn(&str) -> Result<T, Problem>,
        check_type: CheckType,
    ) -> Result<TableJob<T>, Problems> {
        let under = |problem: Problem| problem.under(port).under("tables");
        if let Some(problem) = port_name_problem(port) {
            let help = "name the port, and the table by `table = \"…\"`";
            return Err(problem.help(help).at([Step::from("tables"), Step::Name(port.to_owned())]).into());
        }
        let name = settings.name(port);
        let table = named(name).map_err(|problem| under(problem.at(["table"])))?;
        let row = context.locked.columns(settings.schema.as_ref(), &setting(port), &source(name))?.schema();
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
            match require_column(name, &row) {
                Ok(field) if can_be_key(field.data_type()) => {}
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

    /// The tables; `named` makes one of its name.
    ///
    /// # Errors
    /// If there is none, or what is said of them does not fit together.
    pub fn tables<T: PartialEq>(
        &self,
        context: &PlanContext,
        named: impl Fn(&str) -> Result<T, Problem>,
        check_type: CheckType,
    ) -> Result<Vec<TableJob<T>>, Problems> {
        let mut problems = Problems::new();
        let mut tables = Vec::new();
        for (port, settings) in &self.tables {
            match self.table(context, port, settings, &named, check_type) {
                Ok(table) => tables.push(table),
                Err(found) => problems.extend(found),
            }
        }
        if self.tables.is_empty() {
            let problem = Problem::new("there is no table").at(["tables"]);
            problems.push(problem.help("such as `tables.orders.schema = { id = \"int64\" }`"));
        }
        for (index, one) in tables.iter().enumerate() {
            if let Some(other) = tables[..index].iter().find(|other| other.table == one.table) {
                let problem = Problem::new(format!("`{}` reads the same table", other.port));
                problems.push(problem.at([Step::from("tables"), Step::Name(one.port.clone())]));
            }
        }
        if self.chunk_rows == 0 {
            problems.push(Problem::new("there is one row at least").at(["chunk_rows"]));
        }
        if problems.is_empty() { Ok(tables) } else { Err(problems) }
    }

    /// What knows the columns of tables of which they are not said; `ask` asks the one of a name.
    pub fn schema_sources(&self, ask: impl Fn(&str) -> Result<AskSchema, Problem>) -> Vec<SchemaSource> {
        let open = self.tables.iter().filter(|(_, settings)| settings.schema.is_none());
        let sources = open.filter_map(|(port, settings)| {
            let name = settings.name(port);
            // What no table can be called, is said of the plan.
            Some(SchemaSource { setting: setting(port), name: source(name), ask: ask(name).ok()? })
        });
        sources.collect()
    }

    /// Whether the rows are read first that the tables have.
    pub fn has_snapshot(&self) -> bool {
        self.start == Start::Snapshot
    }

    /// Whether the flow fails when tables change.
    pub fn fails_on_change(&self) -> bool {
        self.on_schema_change == OnSchemaChange::Fail
    }

    /// How many rows of a table are read at once.
    pub fn chunk_rows(&self) -> u32 {
        self.chunk_rows
    }

    /// The plan of an input over these tables, which are read by a source.
    pub fn plan<T>(&self, context: &PlanContext, tables: &[TableJob<T>], source: impl Source) -> InputPlan {
        let schemas: Vec<_> = tables.iter().map(|table| table.columns.schema.clone()).collect();
        let port = |table: &TableJob<T>| {
            PortPlan::new(&table.port, table.columns.schema.clone()).with_event_time(PortTime::Inherited)
        };
        let ports = tables.iter().map(port).collect();
        let options = JournalOptions {
            source: context.node.as_str().into(),
            schemas: schemas.clone(),
            batch_rows: context.batch_rows,
            max_log: self.max_log.0.max(1 << 20) as u64,
        };
        let plan = InputPlan::new(schemas[0].clone(), move || Ok(Journal::new(options, source)));
        InputPlan { ports, finite: false, ..plan }
    }
}

/// Whether a type can be part of a key that is compared.
pub fn can_be_key(data_type: &arrow::datatypes::DataType) -> bool {
    use arrow::datatypes::DataType::{Float32, Float64};
    !matches!(data_type, Float32 | Float64)
}
