//! What the messages of a log mean: rows of tables that are read, and where transactions end.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use millstream_core::{Encoding, Error, Result, known_names};
use millstream_database::{At, Cell, ChangedRow, Op};

use super::decode::{Datum, Message, Relation, decode};
use super::place::Place;
use super::reader::Job;
use crate::names::names;
use crate::value::{cell, row_as_json};

/// Times of the log count from 2000: the microseconds since 1970 until then.
const EPOCH: i64 = 946_684_800_000_000;

/// A row of a table that is read.
pub struct Change<'a> {
    pub table: usize,
    pub op: Op,
    pub row: LogRow<'a>,
    pub before: Option<LogRow<'a>>,
    pub at: At<'a>,
}

/// The declared columns of a row.
pub struct LogRow<'a>(Vec<Option<&'a str>>);

impl<'a> LogRow<'a> {
    /// Of values in their order.
    pub fn new(values: Vec<Option<&'a str>>) -> Self {
        Self(values)
    }
}

impl ChangedRow for LogRow<'_> {
    fn cells(&self, schema: &SchemaRef) -> Result<Vec<Cell<'_>>, String> {
        self.0.iter().zip(schema.fields()).map(|(value, field)| cell(*value, field)).collect()
    }

    fn as_json(&self, schema: &Schema) -> (String, Encoding) {
        row_as_json(names(schema).into_iter().zip(self.0.iter().copied()))
    }

    fn has_same(&self, other: &Self, place: usize) -> bool {
        self.0.get(place) == other.0.get(place)
    }
}

/// A transaction that is under way.
struct Transaction {
    micros: i64,
    position: String,
}

/// A table that is read, as a stretch of the log has it.
struct Shape {
    table: usize,
    /// How many columns it has.
    count: usize,
    /// For each column of the flow, which one it is.
    wanted: Vec<Option<usize>>,
}

/// Follows a log, message by message.
pub struct Follower {
    job: Arc<Job>,
    /// Behind the last transaction.
    committed: Place,
    transaction: Option<Transaction>,
    /// How many rows of tables that are read have come behind `committed`.
    rows: u64,
    /// The tables that are read, by the numbers that messages have for them.
    shapes: HashMap<u32, Shape>,
    /// The numbers of the transactions that have begun since somebody took them.
    begun: Vec<u32>,
}

impl Follower {
    /// One that begins at a place.
    pub fn new(job: Arc<Job>, committed: Place) -> Self {
        Self { job, committed, transaction: None, rows: 0, shapes: HashMap::new(), begun: Vec::new() }
    }

    /// The place behind the last transaction.
    pub fn committed(&self) -> Place {
        self.committed
    }

    /// How many rows of the transaction behind it have come.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Whether a transaction is open.
    pub fn is_within(&self) -> bool {
        self.transaction.is_some()
    }

    /// The numbers of the transactions that have begun, which are taken out.
    pub fn take_begun(&mut self) -> std::vec::Drain<'_, u32> {
        self.begun.drain(..)
    }

    /// The server has sent all up to a place. Within a transaction, it means what came before that.
    pub fn has_come_to(&mut self, place: Place) {
        if self.transaction.is_none() {
            self.committed = self.committed.max(place);
        }
    }

    /// Takes a message, and hands on its row with its number in the transaction.
    pub fn take(&mut self, bytes: &[u8], change: impl FnOnce(Change<'_>, u64)) -> Result<()> {
        match decode(bytes)? {
            Message::Begin { commit, micros, xid } => {
                let position = Place(commit).to_string();
                self.transaction = Some(Transaction { micros: micros.saturating_add(EPOCH), position });
                self.rows = 0;
                self.begun.push(xid);
            }
            Message::Commit { end } => {
                self.transaction = None;
                self.rows = 0;
                self.committed = self.committed.max(Place(end));
            }
            Message::Relation(relation) => self.relation(&relation)?,
            Message::Insert { relation, row } => self.change(relation, Op::Create, &row, None, change)?,
            Message::Update { relation, before, row } => {
                self.change(relation, Op::Update, &row, before.as_deref(), change)?;
            }
            Message::Delete { relation, row } => self.change(relation, Op::Delete, &row, Some(&row), change)?,
            Message::Truncate(relations) => self.truncate(&relations)?,
            Message::Other => {}
        }
        Ok(())
    }

    fn relation(&mut self, relation: &Relation<'_>) -> Result<()> {
        let is_it = |table: &super::reader::TableJob| {
            table.table.schema == relation.schema && table.table.name == relation.name
        };
        let Some(table) = self.job.tables.iter().position(is_it) else {
            self.shapes.remove(&relation.number);
            return Ok(());
        };
        if relation.identity != b'f' {
            return Err(Error::new(format!(
                "rows of {0} before a change are not whole in the log; say `ALTER TABLE {0} REPLICA IDENTITY FULL`, and `--reset` of the node \
                 begins with the tables anew",
                self.job.tables[table].table.quoted()
            )));
        }
        let fields = self.job.tables[table].columns.row.fields();
        let place = |name: &str| relation.columns.iter().position(|column| *column == name);
        let wanted: Vec<_> = fields.iter().map(|field| place(field.name())).collect();
        if let (true, Some(missing)) = (self.job.fails_on_change, wanted.iter().position(Option::is_none)) {
            let name = fields[missing].name();
            return Err(Error::new(format!(
                "the table `{}` has no column `{name}` any more; {}. With `on_schema_change = \"ignore\"` it is null",
                relation.name,
                known_names(name, relation.columns.iter().copied())
            )));
        }
        // A table that is made again has another number.
        self.shapes.retain(|_, shape| shape.table != table);
        self.shapes.insert(relation.number, Shape { table, count: relation.columns.len(), wanted });
        Ok(())
    }

    fn change(
        &mut self,
        relation: u32,
        op: Op,
        row: &[Datum<'_>],
        before: Option<&[Datum<'_>]>,
        change: impl FnOnce(Change<'_>, u64),
    ) -> Result<()> {
        let Some(shape) = self.shapes.get(&relation) else { return Ok(()) };
        let Some(transaction) = &self.transaction else {
            return Err(Error::new("the log has a row that is in no transaction"));
        };
        let (row, before) = (shape.row(row, before)?, before.map(|before| shape.row(before, None)).transpose()?);
        let at = At { micros: transaction.micros, position: &transaction.position };
        self.rows += 1;
        change(Change { table: shape.table, op, row, before, at }, self.rows);
        Ok(())
    }

    fn truncate(&self, relations: &[u32]) -> Result<()> {
        let Some(shape) = relations.iter().find_map(|number| self.shapes.get(number)) else { return Ok(()) };
        if !self.job.fails_on_change {
            return Ok(());
        }
        let name = &self.job.tables[shape.table].table.name;
        Err(Error::new(format!(
            "the table `{name}` was emptied by `TRUNCATE`, and its rows go without a change for each; `--reset` of the node begins with the tables \
             anew, or `on_schema_change = \"ignore\"` goes on"
        )))
    }
}

impl Shape {
    /// The declared columns of a row. What was not sent, since it has not changed, is as it was before.
    fn row<'a>(&self, row: &[Datum<'a>], before: Option<&[Datum<'a>]>) -> Result<LogRow<'a>> {
        if row.len() != self.count {
            return Err(Error::new(format!("the log has a row of {} values for {} columns", row.len(), self.count)));
        }
        let value = |place: &Option<usize>| {
            let Some(place) = *place else { return Ok(None) };
            let former = || before.and_then(|before| before.get(place)).copied();
            let datum = match row[place] {
                Datum::Unchanged => former().unwrap_or(Datum::Unchanged),
                datum => datum,
            };
            match datum {
                Datum::Text(text) => Ok(Some(text)),
                Datum::Null => Ok(None),
                Datum::Unchanged => Err(Error::new(
                    "the log has a value that is not there, since it has not changed; the table needs `REPLICA IDENTITY FULL`",
                )),
            }
        };
        self.wanted.iter().map(value).collect::<Result<_>>().map(LogRow)
    }
}
