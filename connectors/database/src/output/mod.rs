//! Outputs that write to a table: the settings that they share, and what they come to.
//!
//! * `committer`: what checkpoints have decided, in transactions with a mark of how far they have come.
//! * `writer`: the output, which spools rows until then.

mod committer;
mod writer;

use std::sync::Arc;

use arrow::array::{Array as _, AsArray as _, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use millstream_core::{
    CommitContext, Delivery, OutputPlan, Problem, Problems, Result, Step, Stream, require_column, type_name,
};
use millstream_spool::{PartLimits, TransactionSettings};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::CheckType;
pub use committer::{Mark, PartRows};
use writer::TableOutput;

/// What is written to a table, and how.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct TableSettings {
    /// The table: `"totals"`, or of another database or schema `"reports.totals"`.
    pub table: String,
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
    pub refused_table: Option<String>,
    /// The table that notes how far outputs have come, one for all flows. It is created if it is missing.
    #[serde(default = "progress_table")]
    pub progress_table: String,
    /// How often a row is delivered: `"exactly_once"`, or `"at_least_once"`, which is sooner, as rows are written as they come, and those since the
    /// last checkpoint once more after a crash.
    #[serde(default)]
    delivery: Delivery,
    #[serde(flatten)]
    transactions: TransactionSettings,
}

fn progress_table() -> String {
    "millstream_epochs".to_owned()
}

/// What is written to a table, as the settings and the columns that arrive say.
#[derive(Debug)]
pub struct OutputJob {
    /// Whether the table is created if it is missing.
    pub creates: bool,
    /// The columns that are written, as places among those that arrive.
    pub columns: Vec<usize>,
    /// Their names.
    pub names: Vec<String>,
    /// Those of the key, as places among those that arrive.
    pub key: Vec<usize>,
    /// The column that says what is done.
    pub op: Option<usize>,
    /// The columns that arrive.
    pub schema: SchemaRef,
    /// How often a row is delivered.
    pub delivery: Delivery,
    /// How large transactions are.
    pub parts: PartLimits,
    /// Whether the flow does not end by itself.
    pub is_live: bool,
}

impl OutputJob {
    /// The names of the columns of the key.
    pub fn key_names(&self) -> Vec<String> {
        self.key.iter().map(|index| self.schema.field(*index).name().clone()).collect()
    }

    /// Whether a row is to be deleted.
    pub fn is_delete(&self, rows: &RecordBatch, row: usize) -> bool {
        let op = self.op.map(|index| rows.column(index).as_string::<i32>());
        op.is_some_and(|op| op.is_valid(row) && matches!(op.value(row), "d" | "delete"))
    }

    /// Why a row can't be deleted, if that can't be.
    pub fn refusal_of_delete(&self, rows: &RecordBatch, row: usize) -> Option<String> {
        let null = self.key.iter().find(|index| rows.column(**index).is_null(row))?;
        Some(format!("column `{}` is null, by which the row to delete is found", self.schema.field(*null).name()))
    }
}

/// A row that was refused, and why.
pub type Refusal = (usize, String);

/// A table that rows are written to.
#[async_trait]
pub trait OutputTable: Send + Sync + 'static {
    /// A connection, and what is known of the table.
    type Session: Session;

    /// What a table is of, for people.
    const PRODUCT: &'static str;
    /// The crash points behind the rows of a transaction, and behind its end.
    const CRASH_POINTS: [&'static str; 2];

    /// What is written.
    fn job(&self) -> &OutputJob;

    /// The table, as statements call it.
    fn name(&self) -> String;

    /// The table of marks, as statements call it.
    fn progress(&self) -> String;

    /// Whether there is a table for rows that the server refuses.
    fn keeps_refused(&self) -> bool;

    /// Connects, and prepares what is needed: tables that may be created, and what is known of the others. At the beginning of a flow, the server
    /// is waited for, but not for ever.
    async fn connect(table: &Arc<Self>, is_beginning: bool) -> Result<Self::Session>;

    /// Why the table does not take rows, as far as that is known before they are written: for each row.
    fn refusals(&self, limits: &<Self::Session as Session>::Limits, rows: &RecordBatch) -> Vec<Option<String>>;
}

/// A connection over which rows are written in transactions.
#[async_trait]
pub trait Session: Send + Sync + 'static {
    /// What is known of the table.
    type Limits: Clone + Send + Sync;

    /// What is known of the table.
    fn limits(&self) -> Self::Limits;

    /// Begins a transaction.
    async fn begin(&mut self) -> Result<()>;

    /// Ends it, with all that it has done.
    async fn commit(&mut self) -> Result<()>;

    /// Ends it, with nothing of it.
    async fn roll_back(&mut self) -> Result<()>;

    /// The mark of an output, if there is one, which is locked until the transaction ends.
    async fn lock_mark(&mut self, of: &CommitContext) -> Result<Option<Mark>>;

    /// Makes a first mark, outside of a transaction, unless there is one.
    async fn make_mark(&mut self, of: &CommitContext) -> Result<()>;

    /// Writes the mark that is locked.
    async fn write_mark(&mut self, of: &CommitContext, mark: Mark) -> Result<()>;

    /// Removes the mark, which nobody will ask for.
    async fn remove_mark(&mut self, of: &CommitContext) -> Result<()>;

    /// Writes all rows of the transaction that is open at once, if the table takes them so. Whether they are there; if it does not take one of them, or
    /// takes none so, none is.
    ///
    /// # Errors
    /// If something else goes wrong, or the rows can't be read.
    async fn write_at_once(&mut self, _rows: &mut PartRows<'_>) -> Result<bool> {
        Ok(false)
    }

    /// Writes rows in the transaction that is open. Returns those that the table refuses, whenever they are written.
    ///
    /// # Errors
    /// If something else goes wrong, such as a deadlock, by which the whole transaction is undone.
    async fn write(&mut self, rows: &RecordBatch) -> Result<Vec<Refusal>>;

    /// Writes a refused row to the table for such.
    async fn keep_refused(&mut self, of: &CommitContext, row: &str, why: &str) -> Result<()>;
}

impl TableSettings {
    /// Whether the table is created if it is missing.
    pub fn creates(&self) -> bool {
        self.create_table
    }

    fn check_columns(&self, schema: &Schema, check_type: CheckType) -> Problems {
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
        let is_written = |field: &&Arc<Field>| self.op.as_ref() != Some(field.name());
        problems.extend(schema.fields().iter().filter(is_written).filter_map(|field| check_type(field).err()));
        problems
    }

    /// What is written.
    ///
    /// # Errors
    /// If columns are missing, or of types that a table does not have.
    pub fn job(&self, input: &Stream, check_type: CheckType) -> Result<OutputJob, Problems> {
        let schema = &input.schema;
        let problems = self.check_columns(schema, check_type);
        if !problems.is_empty() {
            return Err(problems);
        }
        let op = self.op.as_ref().and_then(|op| schema.index_of(op).ok());
        let columns: Vec<usize> = (0..schema.fields().len()).filter(|index| Some(*index) != op).collect();
        if columns.is_empty() {
            return Err(Problem::new("there is no column to write").into());
        }
        Ok(OutputJob {
            creates: self.create_table,
            names: columns.iter().map(|index| schema.field(*index).name().clone()).collect(),
            columns,
            key: self.key.iter().filter_map(|name| schema.index_of(name).ok()).collect(),
            op,
            schema: schema.clone(),
            delivery: self.delivery,
            parts: self.transactions.limits(),
            is_live: input.is_live,
        })
    }

    /// The plan of an output that writes to a table; `place` is how people call that.
    pub fn plan(&self, table: impl OutputTable, place: String) -> OutputPlan {
        OutputPlan::to_place(place, self.delivery, TableOutput::new(Arc::new(table)))
    }
}
