//! The table in which rows are looked up.

use arrow::array::{Array as _, AsArray as _, RecordBatch};
use arrow::datatypes::{DataType, Field, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use async_trait::async_trait;
use millstream_core::{Problem, Result, type_name};
use millstream_database::{Answer, LookupTable};
use tokio_postgres::{SimpleQueryMessage, SimpleQueryRow};

use crate::client::{Connection, Server, failed};
use crate::names::{Table, list, literal, names};
use crate::value::cells;

/// A table, and the columns of it that make the key.
pub struct PostgresTable {
    pub server: Server,
    pub table: Table,
    pub columns: Vec<String>,
}

/// Refuses a column that no key of a table is compared with.
pub fn check_key_type(field: &Field) -> Result<(), Problem> {
    match field.data_type() {
        DataType::List(_) | DataType::Struct(_) => {
            Err(Problem::new(format!("`{}` is a `{}`, which is no key", field.name(), type_name(field.data_type()))))
        }
        _ => Ok(()),
    }
}

/// The values of a column, each as SQL writes it. Numbers are numbers, and everything else a text, which the server takes for a value of the type of
/// what it is compared with.
fn literals(keys: &RecordBatch, column: usize) -> Result<Vec<String>> {
    let array = keys.column(column);
    if let Some(values) = array.as_binary_opt::<i32>() {
        let digits = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        return Ok((0..array.len()).map(|row| format!("'\\x{}'", digits(values.value(row)))).collect());
    }
    let format = ArrayFormatter::try_new(array.as_ref(), &FormatOptions::default())?;
    let is_number = array.data_type().is_numeric();
    let value = |row: usize| {
        let text = format.value(row).to_string();
        if is_number { text } else { literal(&text) }
    };
    Ok((0..array.len()).map(value).collect())
}

impl PostgresTable {
    fn sql(&self, keys: &RecordBatch, added: &SchemaRef) -> Result<String> {
        let key = list(self.columns.iter().map(String::as_str));
        let added = list(names(added));
        let columns = (0..keys.num_columns()).map(|column| literals(keys, column)).collect::<Result<Vec<_>>>()?;
        let row = |row: usize| columns.iter().map(|column| column[row].as_str()).collect::<Vec<_>>().join(",");
        let rows: Vec<String> = (0..keys.num_rows()).map(row).collect();
        let (left, rows) = match columns.len() {
            1 => (key.clone(), rows.join(",")),
            _ => (format!("({key})"), rows.iter().map(|row| format!("({row})")).collect::<Vec<_>>().join(",")),
        };
        Ok(format!("SELECT {key}, {added} FROM {} WHERE {left} IN ({rows})", self.table.quoted()))
    }

    /// Looks whether the columns are there.
    pub async fn look(&self, added: &SchemaRef) -> Result<String> {
        let (connection, version) = self.server.look().await?;
        self.check(&connection, added).await?;
        Ok(format!("PostgreSQL {version} at `{}`", self.server.address()))
    }

    async fn check(&self, connection: &Connection, added: &SchemaRef) -> Result<()> {
        let all: Vec<&str> = self.columns.iter().map(String::as_str).chain(names(added)).collect();
        self.table.require_columns(connection, &all).await
    }

    /// Asks for the rows of keys. If one of them is none in the table, the reason is in place of them.
    async fn select(
        &self,
        connection: &Connection,
        keys: &RecordBatch,
        added: &SchemaRef,
    ) -> Result<Result<Vec<SimpleQueryRow>, String>> {
        match connection.simple_query(&self.sql(keys, added)?).await {
            Ok(messages) => {
                let rows = messages.into_iter().filter_map(|message| match message {
                    SimpleQueryMessage::Row(row) => Some(row),
                    _ => None,
                });
                Ok(Ok(rows.collect()))
            }
            Err(error) => match error.as_db_error() {
                // A value that the column's type does not have.
                Some(of) if of.code().code().starts_with("22") => Ok(Err(of.message().to_owned())),
                _ => Err(failed(format!("looking up rows of {}", self.table.quoted()), error)),
            },
        }
    }
}

#[async_trait]
impl LookupTable for PostgresTable {
    type Connection = Connection;

    fn name(&self) -> &str {
        &self.table.name
    }

    async fn connect(&self, added: &SchemaRef) -> Result<Connection> {
        let connection = self.server.connect().await?;
        self.check(&connection, added).await?;
        Ok(connection)
    }

    async fn ask(&self, connection: &mut Connection, keys: &RecordBatch, answer: &mut Answer<'_>) -> Result<()> {
        let (key, added) = (answer.key(), answer.added());
        // Halves of what can't be asked for, until it is one key.
        let all = 0..keys.num_rows();
        let mut left = vec![all];
        while let Some(range) = left.pop() {
            match self.select(connection, &keys.slice(range.start, range.len()), added).await? {
                Ok(rows) => {
                    for row in rows {
                        let values: Vec<Option<&str>> = (0..row.len()).map(|index| row.get(index)).collect();
                        let (of_key, of_added) = values.split_at(self.columns.len().min(values.len()));
                        answer.take(cells(of_key.iter().copied(), key), cells(of_added.iter().copied(), added));
                    }
                }
                Err(why) if range.len() <= 1 => answer.refuse(range.start, why),
                Err(_) => {
                    let middle = range.start + range.len() / 2;
                    left.push(middle..range.end);
                    left.push(range.start..middle);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use millstream_testkit::{context, parse, table};

    use crate::lookup::PostgresLookupSettings;

    #[test]
    fn keys_are_asked_for_together() {
        let sql = |on: &str, keys: &str| {
            let settings: PostgresLookupSettings = parse(&format!(
                "address = 'db'\nuser = 'u'\ndatabase = 'd'\ntable = 't'\non = {on}\nschema = {{ name = 'utf8?' }}"
            ));
            settings
                .table(&context())
                .unwrap()
                .sql(&table(keys), &settings.lookup.added("t", &context()).unwrap())
                .unwrap()
        };
        assert_eq!(
            sql("['id']", "id:int64\n1\n-2"),
            "SELECT \"id\", \"name\" FROM \"public\".\"t\" WHERE \"id\" IN (1,-2)"
        );
        assert_eq!(
            sql("['a', 'b', 'c']", "a:utf8 b:decimal(5,2) c:timestamp\nO'H 1.50 2026-01-31T12:00:00.5Z"),
            "SELECT \"a\", \"b\", \"c\", \"name\" FROM \"public\".\"t\" WHERE (\"a\", \"b\", \"c\") IN (('O''H',1.50,'2026-01-31T12:00:00.500Z'))"
        );
    }
}
