//! Statements for rows, and which rows the table refuses.

use std::ops::Range;

use arrow::array::RecordBatch;
use millstream_core::Result;
use millstream_database::{OutputJob, Refusal};
use mysql_async::Conn;
use mysql_async::prelude::Queryable as _;

use super::MysqlTable;
use super::rows::RowWriter;
use super::target::Target;
use crate::client::failed;
use crate::names::quoted;

/// How many rows a statement has at most: with more, none is faster.
const STATEMENT_ROWS: usize = 1000;

/// What a server says of a row that it does not take, whenever it is asked.
const OF_ROWS: &[u16] = &[
    1048, 1364, // a null, or nothing, where there has to be a value
    1062, 1169, 1557, 1586, // a row with this key is there already
    1216, 1217, 1451, 1452, // a foreign key
    1264, 1265, 1292, 1366, 1367, 1406, 1411, 1416, 1441, 1690, // a value that does not fit
    1526, 1748, // no partition for it
    1644, // a trigger has said so
    3140, 3141, 3143, 3156, 3903, // JSON that is none
    3819, 4025, 4038, // a condition that has to hold
];

/// Writes rows in the transaction that is open. Returns those that the table refuses.
///
/// # Errors
/// If something else goes wrong, such as a deadlock, by which the whole transaction is undone.
pub async fn apply(
    of: &MysqlTable,
    target: &Target,
    connection: &mut Conn,
    rows: &RecordBatch,
) -> Result<Vec<Refusal>> {
    let mut statements = Statements::new(of, target, rows)?;
    let mut refused = Vec::new();
    let mut next = statements.next();
    while let Some(Statement { range, sql }) = next {
        // While the server is busy with one, the next is made.
        let (done, following) = tokio::join!(connection.query_drop(sql), async { statements.next() });
        next = following;
        let Err(error) = done else { continue };
        let why = of_row(of, error)?;
        refused.extend(refuse(of, &statements, connection, range, why).await?);
    }
    Ok(refused)
}

/// Writes rows of which the table refuses one, by halves of what is refused until it is one row. Returns those that are.
async fn refuse(
    of: &MysqlTable,
    statements: &Statements<'_>,
    connection: &mut Conn,
    range: Range<usize>,
    why: String,
) -> Result<Vec<Refusal>> {
    let mut refused = Vec::new();
    let mut left = vec![(range, Some(why))];
    while let Some((range, known)) = left.pop() {
        let why = match known {
            Some(why) => why,
            None => match connection.query_drop(statements.sql(&range)).await {
                Ok(()) => continue,
                Err(error) => of_row(of, error)?,
            },
        };
        if range.len() <= 1 {
            refused.push((range.start, why));
        } else {
            let middle = range.start + range.len() / 2;
            left.push((middle..range.end, None));
            left.push((range.start..middle, None));
        }
    }
    Ok(refused)
}

/// Why the table does not take a row.
///
/// # Errors
/// If something else is wrong.
fn of_row(of: &MysqlTable, error: mysql_async::Error) -> Result<String> {
    match error {
        mysql_async::Error::Server(said) if OF_ROWS.contains(&said.code) => Ok(said.message),
        error => Err(failed(format!("writing to {}", of.table.quoted()), error)),
    }
}

/// A statement for these rows.
struct Statement {
    range: Range<usize>,
    sql: String,
}

/// The statements for a batch.
struct Statements<'a> {
    rows: &'a RecordBatch,
    job: &'a OutputJob,
    target: &'a Target,
    values: RowWriter<'a>,
    keys: RowWriter<'a>,
    insert: String,
    update: String,
    delete: String,
    /// The row that comes next.
    next: usize,
    /// How much the longest statement so far has.
    room: usize,
}

impl<'a> Statements<'a> {
    fn new(of: &'a MysqlTable, target: &'a Target, rows: &'a RecordBatch) -> Result<Self> {
        let list = |names: &mut dyn Iterator<Item = &str>| names.map(quoted).collect::<Vec<_>>().join(", ");
        let (job, table) = (&of.job, of.table.quoted());
        let insert = format!("INSERT INTO {table} ({}) VALUES ", list(&mut job.names.iter().map(String::as_str)));
        let key = list(&mut job.key.iter().map(|index| job.schema.field(*index).name().as_str()));
        let delete = format!("DELETE FROM {table} WHERE ({key}) IN (");
        let (values, keys) = (RowWriter::new(rows, &job.columns)?, RowWriter::new(rows, &job.key)?);
        Ok(Self { rows, job, target, values, keys, insert, update: update(job, target), delete, next: 0, room: 0 })
    }

    /// What is done at once: rows of one kind that follow each other, as many as a statement takes.
    fn next(&mut self) -> Option<Statement> {
        let start = self.next;
        let is_delete = |row| self.job.is_delete(self.rows, row);
        let kind = (start < self.rows.num_rows()).then(|| is_delete(start))?;
        let (mut sql, writer, end) = self.begin(kind);
        let most = sql.len() + self.target.statement_bytes;
        let mut row = start;
        while row < self.rows.num_rows() && row - start < STATEMENT_ROWS && is_delete(row) == kind {
            let before = sql.len();
            writer.write_next(row > start, row, &mut sql);
            if row > start && sql.len() > most {
                sql.truncate(before);
                break;
            }
            row += 1;
        }
        sql.push_str(end);
        self.next = row;
        self.room = self.room.max(sql.len());
        Some(Statement { range: start..row, sql })
    }

    /// The beginning of a statement for rows of a kind, what writes them, and its end.
    fn begin(&self, is_delete: bool) -> (String, &RowWriter<'a>, &str) {
        let (begin, writer, end) = if is_delete {
            (&self.delete, &self.keys, ")")
        } else {
            (&self.insert, &self.values, self.update.as_str())
        };
        let mut sql = String::with_capacity(self.room);
        sql.push_str(begin);
        (sql, writer, end)
    }

    /// The statement for some of the rows that are done at once.
    fn sql(&self, range: &Range<usize>) -> String {
        let (mut sql, writer, end) = self.begin(self.job.is_delete(self.rows, range.start));
        range.clone().for_each(|row| writer.write_next(row > range.start, row, &mut sql));
        sql.push_str(end);
        sql
    }
}

/// What becomes of a row that has the key of one that is written.
fn update(job: &OutputJob, target: &Target) -> String {
    if job.key.is_empty() {
        return String::new();
    }
    let others = job.columns.iter().filter(|index| !job.key.contains(index));
    let mut names: Vec<_> = others.map(|index| quoted(job.schema.field(*index).name())).collect();
    // A row that is nothing but a key stays as it is.
    if names.is_empty() {
        names.extend(job.key.first().map(|index| quoted(job.schema.field(*index).name())));
    }
    let (alias, new): (&str, fn(&String) -> String) = if target.is_mariadb {
        ("", |name| format!("{name} = VALUES({name})"))
    } else {
        (" AS millstream_new", |name| format!("{name} = millstream_new.{name}"))
    };
    format!("{alias} ON DUPLICATE KEY UPDATE {}", names.iter().map(new).collect::<Vec<_>>().join(", "))
}
