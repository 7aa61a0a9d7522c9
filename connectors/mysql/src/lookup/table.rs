//! The table in which rows are looked up.

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use millstream_core::Result;
use millstream_database::{Answer, Cell, LookupTable};
use mysql_async::consts::ColumnType;
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Value};

use crate::client::{Server, failed};
use crate::names::{Table, quoted, require_columns};
use crate::output::RowWriter;
use crate::value::cell;

/// A table, and the columns of it that make the key.
pub struct MysqlTable {
    pub server: Server,
    pub table: Table,
    pub columns: Vec<String>,
}

impl MysqlTable {
    fn sql(&self, keys: &RecordBatch, added: &SchemaRef) -> Result<String> {
        let list = |names: &mut dyn Iterator<Item = &str>| names.map(quoted).collect::<Vec<_>>().join(", ");
        let key = list(&mut self.columns.iter().map(String::as_str));
        let added = list(&mut added.fields().iter().map(|field| field.name().as_str()));
        let mut sql = format!("SELECT {key}, {added} FROM {} WHERE ({key}) IN (", self.table.quoted());
        let all: Vec<usize> = (0..keys.num_columns()).collect();
        let writer = RowWriter::new(keys, &all)?;
        for row in 0..keys.num_rows() {
            if row > 0 {
                sql.push(',');
            }
            writer.write(row, &mut sql);
        }
        sql.push(')');
        Ok(sql)
    }
}

fn cells<'a>(values: &'a [Value], kinds: &[ColumnType], schema: &SchemaRef) -> Result<Vec<Cell<'a>>, String> {
    values.iter().zip(kinds).zip(schema.fields()).map(|((value, kind), field)| cell(value, *kind, field)).collect()
}

#[async_trait]
impl LookupTable for MysqlTable {
    type Connection = Conn;

    fn name(&self) -> &str {
        &self.table.name
    }

    async fn connect(&self, added: &SchemaRef) -> Result<Conn> {
        let mut connection = self.server.connect().await?;
        let there = self.table.columns(&mut connection).await?;
        let of = format!("the table `{}`", self.table.name);
        require_columns(added, &there, &of)?;
        let key = self.columns.iter().map(|name| Field::new(name, DataType::Null, true));
        require_columns(&Schema::new(key.collect::<Vec<_>>()), &there, &of)?;
        Ok(connection)
    }

    async fn ask(&self, connection: &mut Conn, keys: &RecordBatch, answer: &mut Answer<'_>) -> Result<()> {
        let doing = |error| failed(format!("looking up rows of {}", self.table.quoted()), error);
        let (key, added) = (answer.key(), answer.added());
        let mut result = connection.exec_iter(self.sql(keys, added)?, ()).await.map_err(doing)?;
        while let Some(row) = result.next().await.map_err(doing)? {
            let kinds: Vec<ColumnType> = row.columns_ref().iter().map(mysql_async::Column::column_type).collect();
            let values = row.unwrap();
            let (of_key, of_added) = values.split_at(self.columns.len().min(values.len()));
            let (key_kinds, added_kinds) = kinds.split_at(of_key.len());
            answer.take(cells(of_key, key_kinds, key), cells(of_added, added_kinds, added));
        }
        result.drop_result().await.map_err(doing)
    }
}
