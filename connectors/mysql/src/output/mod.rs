//! The output `mysql`: its settings, and what they come to.
//!
//! * `rows`: rows as SQL writes them.
//! * `target`: the table, what it takes, and the tables beside it.
//! * `apply`: statements for rows, and which of them the table refuses.
//! * `committer`: what checkpoints have decided, in transactions with a mark of how far they have come.
//! * `writer`: the output, which spools rows until then.

mod apply;
mod committer;
mod rows;
mod target;
mod writer;

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use millstream_core::{
    ByteSize, Delivery as Delivers, Kind, Output, OutputPlan, OutputSettings, PlanContext, Probe, Problem, Problems,
    Step, Stream, Uses, require_column, type_name,
};
use millstream_spool::PartLimits;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::client::{CONNECTION, ConnectionSettings, Server};
use crate::names::Table;
use crate::probe::{Needs, probe};
use writer::MysqlOutput;

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
    /// The table: `"totals"`, or of another database `"reports.totals"`.
    table: String,
    /// The columns of a unique key of the table, none of which may be null. A row takes the place of the one with the same key.
    #[serde(default)]
    key: Vec<String>,
    /// A `utf8` column that says what to do: where it is `d` or `delete` the row with this key is deleted. It is not written itself.
    op: Option<String>,
    /// Whether the table is created if it is missing, with columns that fit those of the rows, and `key` as its primary key.
    #[serde(default)]
    create_table: bool,
    /// A table for rows that the server refuses when they are written, with the reason; it is created if it is missing. Without it, such a row stops
    /// the flow.
    refused_table: Option<String>,
    /// The table that notes how far outputs have come, one for all flows. It is created if it is missing.
    #[serde(default = "progress_table")]
    progress_table: String,
    /// How often a row is delivered: `"exactly_once"`, or `"at_least_once"`, which is sooner, as rows are written as they come, and those since the
    /// last checkpoint once more after a crash.
    #[serde(default)]
    delivery: Delivery,
    /// How many rows a transaction has at most.
    #[serde(default = "transaction_rows")]
    #[schemars(range(min = 1))]
    transaction_rows: u64,
    /// How many bytes of rows, as they are in memory, a transaction has at most.
    #[serde(default = "transaction_bytes")]
    #[schemars(extend("default" = "64MiB"))]
    transaction_bytes: ByteSize,
}

/// How often a row is delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// Once.
    #[default]
    ExactlyOnce,
    /// Once or more.
    AtLeastOnce,
}

fn progress_table() -> String {
    "millstream_epochs".to_owned()
}

fn transaction_rows() -> u64 {
    PartLimits::default().rows
}

fn transaction_bytes() -> ByteSize {
    ByteSize(PartLimits::default().bytes as usize)
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

/// What an output does, as its settings say.
pub struct Job {
    pub server: Server,
    pub table: Table,
    pub progress: Table,
    pub refused: Option<Table>,
    pub creates: bool,
    /// The columns that are written, as places among those that arrive; and their names.
    pub columns: Vec<usize>,
    pub names: Vec<String>,
    /// Those of the key, as places among those that arrive.
    pub key: Vec<usize>,
    pub op: Option<usize>,
    pub schema: arrow::datatypes::SchemaRef,
    pub delivery: Delivery,
    pub parts: PartLimits,
    /// Whether the flow does not end by itself.
    pub is_live: bool,
}

impl MysqlOutputSettings {
    fn table(&self, written: &str, setting: &str) -> Result<Table, Problem> {
        Table::new(written, self.connection.database()).map_err(|problem| problem.at([setting]))
    }

    fn check_columns(&self, schema: &Schema) -> Problems {
        let mut problems = Problems::new();
        for (index, name) in self.key.iter().enumerate() {
            if let Err(problem) = require_column(name, schema) {
                problems.push(problem.at([Step::from("key"), Step::from(index)]));
            }
        }
        if let Some(op) = &self.op {
            match require_column(op, schema) {
                Ok(field) if *field.data_type() == DataType::Utf8 => {}
                Ok(field) => {
                    let problem =
                        Problem::new(format!("column `{op}` is `{}` and not utf8", type_name(field.data_type())));
                    problems.push(problem.at(["op"]));
                }
                Err(problem) => problems.push(problem.at(["op"])),
            }
            if self.key.is_empty() {
                let problem = Problem::new("rows that are deleted are found by `key`, which is missing").at(["op"]);
                problems.push(problem.help("name the columns of a unique key of the table"));
            }
        }
        if self.create_table && self.key.is_empty() && self.op.is_some() {
            problems.push(Problem::new("a table is created with `key` as its primary key").at(["create_table"]));
        }
        let written = schema.fields().iter().filter(|field| self.op.as_ref() != Some(field.name()));
        problems.extend(written.filter_map(|field| rows::check_type(field).err()));
        problems
    }

    fn job(&self, context: &PlanContext, input: &Stream) -> Result<Job, Problems> {
        let schema = &input.schema;
        let problems = self.check_columns(schema);
        if !problems.is_empty() {
            return Err(problems);
        }
        let op = self.op.as_ref().and_then(|op| schema.index_of(op).ok());
        let columns: Vec<usize> = (0..schema.fields().len()).filter(|index| Some(*index) != op).collect();
        if columns.is_empty() {
            return Err(Problem::new("there is no column to write").into());
        }
        let refused = self.refused_table.as_ref().map(|table| self.table(table, "refused_table")).transpose()?;
        Ok(Job {
            server: self.connection.server(context)?,
            table: self.table(&self.table, "table")?,
            progress: self.table(&self.progress_table, "progress_table")?,
            refused,
            creates: self.create_table,
            names: columns.iter().map(|index| schema.field(*index).name().clone()).collect(),
            columns,
            key: self.key.iter().filter_map(|name| schema.index_of(name).ok()).collect(),
            op,
            schema: schema.clone(),
            delivery: self.delivery,
            parts: PartLimits { rows: self.transaction_rows, bytes: self.transaction_bytes.0 as u64 },
            is_live: input.is_live,
        })
    }
}

impl OutputSettings for MysqlOutputSettings {
    fn check(&self, context: &PlanContext) -> Result<(), Problems> {
        self.connection.server(context)?;
        self.table(&self.table, "table")?;
        Ok(())
    }

    fn plan(&self, context: &PlanContext, input: &Stream) -> Result<OutputPlan, Problems> {
        let job = Arc::new(self.job(context, input)?);
        let place = format!("table {} of {}", job.table.quoted().replace('`', ""), job.server.address());
        let delivery = match self.delivery {
            Delivery::ExactlyOnce => Delivers::ExactlyOnce,
            Delivery::AtLeastOnce => Delivers::AtLeastOnce,
        };
        Ok(OutputPlan {
            uses: Uses::all(),
            delivery,
            exclusive: None,
            writes: None,
            place: Some(place),
            takes_other_columns: true,
            fails: true,
            build: Box::new(move || Ok(Box::new(MysqlOutput::new(job)) as Box<dyn Output>)),
        })
    }

    fn probe(&self, context: &PlanContext) -> Option<Probe> {
        let table = self.table(&self.table, "table").ok()?;
        let tables = if self.create_table { Vec::new() } else { vec![(table, None)] };
        Some(probe(self.connection.server(context).ok()?, Needs { tables, ..Needs::default() }))
    }
}
