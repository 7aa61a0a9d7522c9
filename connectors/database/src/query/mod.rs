//! Inputs that read a table, or what a query gives, page by page: the settings that they share, and what they come to.

mod reader;

use std::time::Duration as Span;

use arrow::datatypes::{DataType, SchemaRef};
use millstream_core::{
    AskSchema, ByteSize, Columns, Duration, InputPlan, PlanContext, Problem, Problems, Result, SchemaSource,
    require_column,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::CheckType;
use crate::journal::{Journal, JournalOptions};
use reader::QueryReader;
pub use reader::{PageWriter, QueryTable};

/// What is read, and in which order.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct QuerySettings {
    /// The table: `"orders"`, or of another database or schema `"archive.orders"`.
    pub table: Option<String>,
    /// In place of a table, a query whose rows are read: `"SELECT id, amount FROM orders WHERE amount > 100"`. Every page asks for it, with
    /// conditions on `key` and `cursor` around it, so that it should be one that the server can begin in the middle.
    query: Option<String>,
    /// The columns and their types: `{ id = "int64", amount = "decimal(10,2)?" }`. Others of the table are not read. Without it they are those that
    /// `millstream check FLOW --connect --lock` has found, and written into `FLOW.lock`.
    schema: Option<Columns>,
    /// The columns that tell each row from every other, such as the primary key: `["id"]`. None of them may be null.
    key: Vec<String>,
    /// A column that grows with each change, such as the time of the last one or a number that counts up. Rows in which it is null are not
    /// read.
    cursor: Option<String>,
    /// With `cursor`: how often to look for rows that are new, `"10s"`. If nothing is said, each run ends behind the rows that are there.
    every: Option<Duration>,
    /// With a `cursor` that is a time: how old rows have to be to be read, by default `"5s"`. A transaction writes the time at which a statement
    /// began, and is seen when it commits; it is missed if that takes longer. As `timestamp.delay.interval.ms` in Kafka Connect.
    #[serde(default = "delay")]
    delay: Duration,
    /// How many rows a page has at most, by default 10,000.
    #[serde(default = "page_rows")]
    page_rows: u32,
    /// How many bytes of rows may wait in the state's folder until a checkpoint covers them, by default `"1GiB"`. As long as half of it is
    /// free, the rows behind the oldest checkpoint that is kept stay, for replays.
    #[serde(default = "max_log")]
    max_log: ByteSize,
}

/// The setting that declares the columns.
const SCHEMA: &str = "schema";

fn delay() -> Duration {
    Duration(Span::from_secs(5))
}

fn page_rows() -> u32 {
    10_000
}

fn max_log() -> ByteSize {
    ByteSize(1 << 30)
}

/// What is read: a table, or what a query gives.
pub enum Relation<T> {
    /// A table.
    Table(T),
    /// A query, without a semicolon at its end.
    Query(String),
}

/// Which rows are read, and in which order.
pub struct QueryJob {
    /// The columns of the flow.
    pub schema: SchemaRef,
    /// The columns that say how far it has come.
    pub order: Vec<String>,
    /// Those that tell a row from every other.
    pub key: Vec<String>,
    /// Whether the first column of the order grows with each change. Rows in which it is null are not read.
    pub is_incremental: bool,
    /// How often to look for new rows.
    pub every: Option<Span>,
    /// How old rows have to be, if they have a time.
    pub delay: Option<Span>,
    /// How many rows a page has at most.
    pub page_rows: u32,
    /// How many rows a batch has at most.
    pub batch_rows: usize,
    /// Whether rows may be told apart by the order only if the flow is right.
    pub is_doubted: bool,
}

impl QueryJob {
    /// The columns that are asked for: those of the flow, and then those of the order that are not among them.
    pub fn columns(&self) -> Vec<&str> {
        let declared = self.schema.fields().iter().map(|field| field.name().as_str());
        let others = self.order.iter().map(String::as_str).filter(|name| self.schema.field_with_name(name).is_err());
        declared.chain(others).collect()
    }

    /// The places of the columns of the order among those that are asked for.
    pub fn order_places(&self) -> Vec<usize> {
        let columns = self.columns();
        let place = |name: &String| columns.iter().position(|column| column == name).unwrap_or_default();
        self.order.iter().map(place).collect()
    }
}

impl QuerySettings {
    /// What is read; `named` makes a table of a name.
    ///
    /// # Errors
    /// If there is no one thing to read.
    pub fn relation<T>(&self, named: impl FnOnce(&str) -> Result<T, Problem>) -> Result<Relation<T>, Problem> {
        match (&self.table, &self.query) {
            (Some(table), None) => Ok(Relation::Table(named(table)?)),
            (None, Some(query)) => {
                let query = query.trim().trim_end_matches(';').trim_end();
                if query.is_empty() || query.contains(';') {
                    let problem = Problem::new("it has to be one query").at(["query"]);
                    return Err(problem.help("such as `SELECT id, amount FROM orders`"));
                }
                Ok(Relation::Query(query.to_owned()))
            }
            (Some(_), Some(_)) => Err(Problem::new("`table` and `query` exclude each other").at(["query"])),
            (None, None) => Err(Problem::new("`table` is missing, or `query`").help("such as `table = \"orders\"`")),
        }
    }

    /// What is read, in words.
    fn source(&self) -> String {
        match &self.table {
            Some(table) => format!("the table `{table}`"),
            None => "the query".to_owned(),
        }
    }

    /// What knows the columns, if they are not said.
    pub fn schema_sources(&self, ask: impl FnOnce() -> AskSchema) -> Vec<SchemaSource> {
        match &self.schema {
            Some(_) => Vec::new(),
            None => vec![SchemaSource { setting: SCHEMA.to_owned(), name: self.source(), ask: ask() }],
        }
    }

    /// Which rows are read, and in which order.
    ///
    /// # Errors
    /// If nothing says the columns.
    pub fn job(&self, context: &PlanContext) -> Result<QueryJob, Problem> {
        let schema = context.locked.columns(self.schema.as_ref(), SCHEMA, &self.source())?.schema();
        let is_time = |name: &String| {
            schema.field_with_name(name).is_ok_and(|field| matches!(field.data_type(), DataType::Timestamp(..)))
        };
        let delay = self.cursor.as_ref().filter(|cursor| is_time(cursor)).map(|_| self.delay.0);
        Ok(QueryJob {
            order: self.cursor.iter().chain(&self.key).cloned().collect(),
            key: self.key.clone(),
            is_incremental: self.cursor.is_some(),
            every: self.every.map(|every| every.0.max(Span::from_millis(10))),
            delay,
            page_rows: self.page_rows,
            batch_rows: context.batch_rows,
            is_doubted: self.query.is_some(),
            schema,
        })
    }

    fn check_columns(&self, schema: &SchemaRef, check_type: CheckType) -> Result<(), Problems> {
        let mut problems = Problems::new();
        for field in schema.fields() {
            problems.extend(check_type(field).map_err(|problem| problem.at(["schema", field.name().as_str()])).err());
        }
        if schema.fields().is_empty() {
            problems.push(Problem::new("there is no column").at(["schema"]));
        }
        if self.key.is_empty() {
            problems.push(Problem::new("there is no column").at(["key"]).help("name those of the primary key"));
        }
        let is_float = |name: &str| {
            schema
                .field_with_name(name)
                .is_ok_and(|field| matches!(field.data_type(), DataType::Float32 | DataType::Float64))
        };
        if let Some(name) = self.key.iter().find(|name| is_float(name)) {
            let problem = Problem::new(format!("`{name}` is a float, which can't be found again exactly")).at(["key"]);
            problems.push(problem.help("take columns of another type"));
        }
        match &self.cursor {
            None if self.every.is_some() => {
                let problem = Problem::new("without `cursor`, the rows are read once").at(["every"]);
                problems.push(problem.help("name the column that grows with each change as `cursor`"));
            }
            None => {}
            Some(cursor) => {
                problems.extend(require_column(cursor, schema).map_err(|problem| problem.at(["cursor"])).err());
                if is_float(cursor) {
                    problems.push(
                        Problem::new(format!("`{cursor}` is a float, which can't be found again exactly"))
                            .at(["cursor"]),
                    );
                }
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    /// The plan of an input.
    ///
    /// # Errors
    /// If columns are missing, or of types that a table does not have.
    pub fn plan<T: QueryTable>(
        &self,
        context: &PlanContext,
        check_type: CheckType,
        table: impl FnOnce() -> Result<T, Problem>,
    ) -> Result<InputPlan, Problems> {
        let job = self.job(context)?;
        let schema = job.schema.clone();
        self.check_columns(&schema, check_type)?;
        if self.page_rows == 0 {
            return Err(Problem::new("a page has one row at least").at(["page_rows"]).into());
        }
        let options = JournalOptions {
            source: context.node.as_str().into(),
            schemas: vec![schema.clone()],
            batch_rows: context.batch_rows,
            max_log: self.max_log.0.max(1 << 20) as u64,
        };
        let reader = QueryReader::new(job, table()?);
        let (finite, continues) = (self.cursor.is_none(), self.pauses());
        let plan = InputPlan::new(schema, move || Ok(Journal::new(options, reader)));
        Ok(InputPlan { finite, continues, ..plan })
    }

    /// Whether it ends behind the rows that are there, and goes on with others in the next run.
    pub fn pauses(&self) -> bool {
        self.cursor.is_some() && self.every.is_none()
    }
}
