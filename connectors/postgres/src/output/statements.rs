//! What is said to write rows: they are copied into the table itself where nothing has to become of them on the way, or into a temporary table, and
//! written from there.
//!
//! The columns of the temporary table are called by their places: `n`, the number of the row; `is_delete`, if a column says what is
//! done; and `c0`, `c1` and so on.

use std::ops::Range;

use super::PostgresTable;
use super::copy::{native, written};
use super::target::Target;
use crate::names::list;

/// The temporary table of a session.
const ROWS: &str = "pg_temp.millstream_rows";

/// The statements of a session.
pub struct Statements {
    /// Copies rows into the table itself, if that is possible.
    pub copy_directly: Option<String>,
    /// Makes the temporary table.
    pub create: String,
    pub copy: String,
    pub empty: String,
    /// What comes before and behind the condition of which rows are meant.
    delete: Option<[String; 2]>,
    insert: [String; 2],
}

impl Statements {
    pub fn new(of: &PostgresTable, target: &Target) -> Self {
        let job = &of.job;
        let kinds = job.columns.iter().map(|index| native(job.schema.field(*index).data_type()));
        let kinds: Vec<String> = kinds.flatten().map(|kind| written(&kind)).collect();
        let columns: String = kinds.iter().enumerate().map(|(place, kind)| format!(", c{place} {kind}")).collect();
        let copy_directly = target.takes_copies.then(|| {
            let columns = list(job.names.iter().map(String::as_str));
            format!("COPY {} ({columns}) FROM STDIN BINARY", of.table.quoted())
        });
        let is_delete = if job.op.is_some() { ", is_delete bool" } else { "" };
        Self {
            copy_directly,
            create: format!(
                "CREATE TEMPORARY TABLE millstream_rows (n int4{is_delete}{columns}) ON COMMIT DELETE ROWS"
            ),
            copy: format!("COPY {ROWS} FROM STDIN BINARY"),
            empty: format!("TRUNCATE {ROWS}"),
            delete: job.op.map(|_| delete(of, target)),
            insert: if job.key.is_empty() { insert(of, target) } else { upsert(of, target) },
        }
    }

    /// Writes the copied rows of these numbers, in a transaction within the transaction.
    pub fn write(&self, range: &Range<usize>) -> String {
        let which = format!("n >= {} AND n < {}", range.start, range.end);
        let statement = |[before, behind]: &[String; 2]| format!("{before}{which}{behind}; ");
        let delete = self.delete.as_ref().map_or_else(String::new, statement);
        format!("{BEGIN}; {delete}{}{END}", statement(&self.insert))
    }
}

/// Begins a transaction within the transaction, so that what is written can be taken back.
pub const BEGIN: &str = "SAVEPOINT millstream";

/// Ends it.
pub const END: &str = "RELEASE millstream";

/// Takes back what was written since it was begun.
pub const TAKE_BACK: &str = "ROLLBACK TO millstream; RELEASE millstream";

/// The value of a column, of the type that it has in the table.
fn value(target: &Target, place: usize) -> String {
    format!("c{place}::{}", target.kinds[place])
}

fn values(of: &PostgresTable, target: &Target) -> Vec<String> {
    (0..of.job.columns.len()).map(|place| value(target, place)).collect()
}

/// The places of the columns of the key among those that are written, and their names.
fn key(of: &PostgresTable) -> Vec<(usize, String)> {
    let place = |index: &usize| of.job.columns.iter().position(|column| column == index);
    of.job.key.iter().filter_map(place).zip(of.job.key_names()).collect()
}

fn insert(of: &PostgresTable, target: &Target) -> [String; 2] {
    let columns = list(of.job.names.iter().map(String::as_str));
    let before = format!(
        "INSERT INTO {} ({columns}) SELECT {} FROM {ROWS} WHERE ",
        of.table.quoted(),
        values(of, target).join(", ")
    );
    [before, " ORDER BY n".to_owned()]
}

/// Of the rows with the same key, only the last is meant.
fn upsert(of: &PostgresTable, target: &Target) -> [String; 2] {
    let (job, key) = (&of.job, key(of));
    let values: Vec<_> =
        values(of, target).iter().enumerate().map(|(place, value)| format!("{value} AS v{place}")).collect();
    let keys: Vec<_> = key.iter().map(|(place, _)| value(target, *place)).collect();
    let keys = keys.join(", ");
    let (is_delete, stays) = if job.op.is_some() { ("is_delete, ", " WHERE NOT is_delete") } else { ("", "") };
    let all: Vec<_> = (0..job.columns.len()).map(|place| format!("v{place}")).collect();
    let before = format!(
        "INSERT INTO {} ({}) SELECT {} FROM (SELECT DISTINCT ON ({keys}) {is_delete}{} FROM {ROWS} WHERE ",
        of.table.quoted(),
        list(job.names.iter().map(String::as_str)),
        all.join(", "),
        values.join(", ")
    );
    let others: Vec<_> = job.names.iter().filter(|name| key.iter().all(|(_, key)| key != *name)).collect();
    let action = if others.is_empty() {
        // A row that is nothing but a key stays as it is.
        "NOTHING".to_owned()
    } else {
        let columns = list(others.iter().map(|name| name.as_str()));
        let new: Vec<_> = others.iter().map(|name| format!("EXCLUDED.{}", list([name.as_str()]))).collect();
        let new = new.join(", ");
        if others.len() == 1 {
            format!("UPDATE SET {columns} = {new}")
        } else {
            format!("UPDATE SET ({columns}) = ROW({new})")
        }
    };
    let conflict = list(key.iter().map(|(_, name)| name.as_str()));
    let behind = format!(" ORDER BY {keys}, n DESC) AS last{stays} ON CONFLICT ({conflict}) DO {action}");
    [before, behind]
}

/// Deletes the rows whose key has a last row that says so.
fn delete(of: &PostgresTable, target: &Target) -> [String; 2] {
    let key = key(of);
    let keys: Vec<_> = key.iter().map(|(place, _)| value(target, *place)).collect();
    let keys = keys.join(", ");
    let named: Vec<_> = key.iter().map(|(place, _)| format!("{} AS k{place}", value(target, *place))).collect();
    let same: Vec<_> = key.iter().map(|(place, name)| format!("t.{} = last.k{place}", list([name.as_str()]))).collect();
    let before = format!(
        "DELETE FROM {} AS t USING (SELECT DISTINCT ON ({keys}) is_delete, {} FROM {ROWS} WHERE ",
        of.table.quoted(),
        named.join(", ")
    );
    let behind = format!(" ORDER BY {keys}, n DESC) AS last WHERE last.is_delete AND {}", same.join(" AND "));
    [before, behind]
}
