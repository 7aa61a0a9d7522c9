//! The input `mysql_query`: its settings, and what they come to.

mod reader;

use std::time::Duration as Span;

use arrow::datatypes::{DataType, SchemaRef};
use millstream_core::{
    ByteSize, Columns, Duration, InputPlan, InputSettings, Kind, PlanContext, Probe, Problem, Problems, Result,
    require_column,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::client::{CONNECTION, ConnectionSettings};
use crate::journal::{Journal, JournalOptions};
use crate::probe::{Needs, probe};
use crate::value::check_type;
use reader::{QueryReader, Relation};

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
    /// The table: `"orders"`, or of another database `"archive.orders"`.
    table: Option<String>,
    /// In place of a table, a query whose rows are read: `"SELECT id, amount FROM orders WHERE amount > 100"`. Every page asks for it, with
    /// conditions on `key` and `cursor` around it, so that it should be one that the server can begin in the middle.
    query: Option<String>,
    /// The columns and their types: `{ id = "int64", amount = "decimal(10,2)?" }`. Others of the table are not read.
    schema: Columns,
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

fn delay() -> Duration {
    Duration(Span::from_secs(5))
}

fn page_rows() -> u32 {
    10_000
}

fn max_log() -> ByteSize {
    ByteSize(1 << 30)
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
    fn relation(&self) -> Result<Relation, Problem> {
        match (&self.table, &self.query) {
            (Some(table), None) => Ok(Relation::Table(self.connection.table(table)?)),
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

    /// What reads the rows.
    pub(crate) fn reader(&self, context: &PlanContext) -> Result<QueryReader, Problem> {
        let schema = self.schema.schema();
        let is_time = |name: &String| {
            schema.field_with_name(name).is_ok_and(|field| matches!(field.data_type(), DataType::Timestamp(..)))
        };
        let delay = self.cursor.as_ref().filter(|cursor| is_time(cursor)).map(|_| self.delay.0);
        Ok(QueryReader {
            server: self.connection.server(context)?,
            relation: self.relation()?,
            schema,
            order: self.cursor.iter().chain(&self.key).cloned().collect(),
            key: self.key.clone(),
            is_incremental: self.cursor.is_some(),
            every: self.every.map(|every| every.0.max(Span::from_millis(10))),
            delay,
            page_rows: self.page_rows,
            batch_rows: context.batch_rows,
            after: Vec::new(),
            connection: None,
        })
    }

    fn check_columns(&self, schema: &SchemaRef) -> Result<(), Problems> {
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
}

impl InputSettings for MysqlQuerySettings {
    fn plan(&self, context: &PlanContext) -> Result<InputPlan, Problems> {
        let schema = self.schema.schema();
        self.check_columns(&schema)?;
        if self.page_rows == 0 {
            return Err(Problem::new("a page has one row at least").at(["page_rows"]).into());
        }
        let options = JournalOptions {
            source: context.node.as_str().into(),
            schemas: vec![schema.clone()],
            batch_rows: context.batch_rows,
            max_log: self.max_log.0.max(1 << 20) as u64,
        };
        let reader = self.reader(context)?;
        let (finite, continues) = (self.cursor.is_none(), self.pauses());
        let plan = InputPlan::new(schema, move || Ok(Journal::new(options, reader)));
        Ok(InputPlan { finite, continues, ..plan })
    }

    fn probe(&self, context: &PlanContext) -> Option<Probe> {
        let needs = match self.relation().ok()? {
            Relation::Table(table) => Needs { tables: vec![(table, Some(self.schema.schema()))], ..Needs::default() },
            Relation::Query(query) => Needs { query: Some(query), ..Needs::default() },
        };
        Some(probe(self.connection.server(context).ok()?, needs))
    }

    fn pauses(&self) -> bool {
        self.cursor.is_some() && self.every.is_none()
    }
}
