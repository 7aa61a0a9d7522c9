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
    let statements = Statements::new(of, target, rows)?;
    let mut refused = Vec::new();
    for range in statements.ranges() {
        // Halves of what is refused, until it is one row.
        let mut left = vec![range];
        while let Some(range) = left.pop() {
            let Err(error) = connection.query_drop(statements.sql(range.clone())).await else { continue };
            match &error {
                mysql_async::Error::Server(of) if OF_ROWS.contains(&of.code) => match range.len() {
                    0 | 1 => refused.push((range.start, of.message.clone())),
                    rows => {
                        let middle = range.start + rows / 2;
                        left.push(middle..range.end);
                        left.push(range.start..middle);
                    }
                },
                _ => return Err(failed(format!("writing to {}", of.table.quoted()), error)),
            }
        }
    }
    Ok(refused)
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
}

impl<'a> Statements<'a> {
    fn new(of: &'a MysqlTable, target: &'a Target, rows: &'a RecordBatch) -> Result<Self> {
        let list = |names: &mut dyn Iterator<Item = &str>| names.map(quoted).collect::<Vec<_>>().join(", ");
        let (job, table) = (&of.job, of.table.quoted());
        let insert = format!("INSERT INTO {table} ({}) VALUES ", list(&mut job.names.iter().map(String::as_str)));
        let key = list(&mut job.key.iter().map(|index| job.schema.field(*index).name().as_str()));
        let delete = format!("DELETE FROM {table} WHERE ({key}) IN (");
        let (values, keys) = (RowWriter::new(rows, &job.columns)?, RowWriter::new(rows, &job.key)?);
        Ok(Self { rows, job, target, values, keys, insert, update: update(job, target), delete })
    }

    /// Rows that are done at once: those of one kind that follow each other, as many as a statement takes.
    fn ranges(&self) -> Vec<Range<usize>> {
        let mut ranges = Vec::new();
        let (mut start, mut bytes, mut written) = (0, 0, String::new());
        for row in 0..self.rows.num_rows() {
            written.clear();
            self.values.write(row, &mut written);
            let is_other = row > start && self.job.is_delete(self.rows, row) != self.job.is_delete(self.rows, start);
            let is_full = row - start == STATEMENT_ROWS || bytes + written.len() > self.target.statement_bytes;
            if row > start && (is_other || is_full) {
                ranges.push(start..row);
                (start, bytes) = (row, 0);
            }
            bytes += written.len();
        }
        if start < self.rows.num_rows() {
            ranges.push(start..self.rows.num_rows());
        }
        ranges
    }

    fn sql(&self, range: Range<usize>) -> String {
        let (begin, writer, end) = if self.job.is_delete(self.rows, range.start) {
            (&self.delete, &self.keys, ")")
        } else {
            (&self.insert, &self.values, self.update.as_str())
        };
        let mut sql = begin.clone();
        for row in range.clone() {
            if row > range.start {
                sql.push(',');
            }
            writer.write(row, &mut sql);
        }
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
