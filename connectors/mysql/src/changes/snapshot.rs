//! Reads tables a chunk at a time while they change, each chunk at known places of the binary log.

use millstream_core::{Error, Result, ResultExt as _};
use millstream_database::{At, ChunkRows};
use mysql_async::consts::ColumnType;
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Row, Value};

use super::checks::Product;
use super::place::Place;
use super::reader::TableJob;
use super::values::Values;
use crate::client::failed;
use crate::literal;
use crate::names::quoted;

/// Rows of a table, as they were at one place of the log.
///
/// Every transaction up to `low` is in the rows, and none behind `high`. Of those between, nobody knows; but all that they change comes from
/// the log, so that the rows that they change are taken out of these.
pub struct Chunk {
    pub table: usize,
    pub low: Place,
    pub high: Place,
    pub rows: ChunkRows,
    /// The key of the last row, as SQL writes it.
    pub after: Vec<String>,
    /// Whether there are no more.
    pub is_last: bool,
}

/// What is to be read.
pub struct ChunkOf<'a> {
    pub table: usize,
    pub job: &'a TableJob,
    pub key: &'a [String],
    pub after: &'a [String],
    pub rows: u32,
}

fn doing(of: &ChunkOf<'_>) -> impl Fn(mysql_async::Error) -> Error {
    let table = of.job.table.quoted();
    move |error| failed(format!("reading {table}"), error)
}

impl ChunkOf<'_> {
    /// Reads the rows.
    pub async fn read(&self, connection: &mut Conn, product: Product) -> Result<Chunk> {
        match product {
            Product::MySql => {
                let low = log_status(connection).await?;
                let mut chunk = self.select(connection, low).await?;
                chunk.high = log_status(connection).await?;
                Ok(chunk)
            }
            Product::MariaDb => {
                for statement in [
                    "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
                    "START TRANSACTION WITH CONSISTENT SNAPSHOT",
                ] {
                    connection.query_drop(statement).await.map_err(doing(self))?;
                }
                let place = snapshot_place(connection).await?;
                let chunk = self.select(connection, place).await?;
                connection.query_drop("COMMIT").await.map_err(doing(self))?;
                Ok(chunk)
            }
        }
    }

    fn sql(&self) -> String {
        let list = |names: &mut dyn Iterator<Item = &str>| names.map(quoted).collect::<Vec<_>>().join(", ");
        let fields = self.job.columns.row.fields();
        let columns = list(&mut fields.iter().map(|field| field.name().as_str()));
        let order = list(&mut self.key.iter().map(String::as_str));
        let condition = literal::behind(self.key, self.after);
        let condition = condition.map_or_else(String::new, |condition| format!(" WHERE {condition}"));
        format!("SELECT {columns} FROM {}{condition} ORDER BY {order} LIMIT {}", self.job.table.quoted(), self.rows)
    }

    async fn select(&self, connection: &mut Conn, place: Place) -> Result<Chunk> {
        let now: Option<i64> = connection
            .query_first("SELECT CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED)")
            .await
            .map_err(doing(self))?;
        let at = place.to_string();
        let at = At { micros: now.unwrap_or_default(), position: &at };
        let key = self.job.columns.places(self.key);
        let mut rows = ChunkRows::new(self.table, &self.job.columns, self.key);
        let mut last: Vec<(Value, ColumnType)> = Vec::new();
        let mut result = connection.exec_iter(self.sql(), ()).await.map_err(doing(self))?;
        while let Some(row) = result.next().await.map_err(doing(self))? {
            let values = values_of(row);
            rows.push(&values, at);
            let value = |index: &usize| {
                let (value, kind) = values.0.get(*index)?;
                Some((value.as_ref().ok()?.clone(), *kind))
            };
            last = key.iter().filter_map(value).collect();
        }
        result.drop_result().await.map_err(doing(self))?;
        let after: Option<Vec<_>> = last.iter().map(|(value, kind)| literal::of_value(value, *kind)).collect();
        let after = after
            .ok_or_else(|| Error::new(format!("a key of {} can't be compared exactly", self.job.table.quoted())))?;
        let (low, high, is_last) = (place.clone(), place, rows.len() < self.rows);
        Ok(Chunk { table: self.table, low, high, rows, after, is_last })
    }
}

fn values_of(row: Row) -> Values {
    let columns = row.columns();
    let kinds = columns.iter().map(mysql_async::Column::column_type);
    let kinds: Vec<_> = kinds.collect();
    Values(row.unwrap().into_iter().map(Ok).zip(kinds).collect())
}

/// The end of the log and of all transactions at one moment.
async fn log_status(connection: &mut Conn) -> Result<Place> {
    let sql = "SELECT JSON_UNQUOTE(JSON_EXTRACT(local, '$.binary_log_file')), CAST(JSON_EXTRACT(local, '$.binary_log_position') AS UNSIGNED) \
               FROM performance_schema.log_status";
    let doing = "asking where the binary log was when rows were read (it needs `GRANT BACKUP_ADMIN ON *.* TO …`, or `start = \"latest\"`)";
    let found: Option<(String, u64)> = connection.query_first(sql).await.map_err(|error| failed(doing, error))?;
    let (file, position) = found.ok_or_else(|| Error::new(format!("{doing}: there is no answer")))?;
    Ok(Place { file, position })
}

/// The place in the log of what the open transaction sees.
async fn snapshot_place(connection: &mut Conn) -> Result<Place> {
    let doing = || "asking where the binary log was when rows were read";
    let found: Vec<(String, String)> = connection
        .query("SHOW STATUS WHERE variable_name IN ('binlog_snapshot_file', 'binlog_snapshot_position')")
        .await
        .map_err(|error| failed(doing(), error))?;
    let get =
        |name: &str| found.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone());
    let file = get("binlog_snapshot_file").filter(|file| !file.is_empty());
    let (file, position) = file.zip(get("binlog_snapshot_position")).ok_or_else(|| {
        Error::new(format!("{}: the server does not say it; it has to be MariaDB with `--log-bin`", doing()))
    })?;
    Ok(Place { file, position: position.parse().doing(doing)? })
}
