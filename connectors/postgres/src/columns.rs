//! The columns that a table or a query has, as a flow would declare them.

use std::collections::HashMap;

use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, TimeUnit};
use millstream_core::{AskSchema, ColumnType, Columns, Error, Result, timestamp};
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use crate::client::{Server, failed};
use crate::names::Table;

/// What is asked for columns.
pub enum Relation {
    /// A table.
    Table(Table),
    /// A table, of whose columns those don't count that the log of changes does not have, since the server computes them.
    LoggedTable(Table),
    /// What SQL writes so behind `FROM`. It does not say where there may be nulls.
    Query(String),
}

/// Asks a server for columns.
pub fn ask(server: Server, relation: Relation) -> AskSchema {
    Box::pin(async move {
        let connection = server.connect().await?;
        Ok(columns(&connection, &relation).await?.into())
    })
}

async fn columns(client: &Client, relation: &Relation) -> Result<Columns> {
    let (from, attributes) = match relation {
        Relation::Query(from) => (from.clone(), None),
        Relation::Table(table) | Relation::LoggedTable(table) => {
            (table.quoted(), Some(attributes(client, table).await?))
        }
    };
    let statement = client.prepare(&format!("SELECT * FROM {from} LIMIT 0")).await;
    let statement = statement.map_err(|error| failed("asking for the columns", error))?;
    let is_logged = matches!(relation, Relation::LoggedTable(_));
    let mut columns = Vec::new();
    for column in statement.columns() {
        let attribute = attributes.as_ref().and_then(|attributes| attributes.get(column.name()));
        if is_logged && attribute.is_some_and(|attribute| attribute.is_generated) {
            continue;
        }
        let nullable = attribute.is_none_or(|attribute| attribute.takes_null);
        columns.push((column.name().to_owned(), column_type(column.type_(), column.type_modifier(), nullable)));
    }
    if columns.is_empty() { Err(Error::new("there is no column")) } else { Ok(Columns(columns)) }
}

/// What only the catalogue says of a column.
struct Attribute {
    takes_null: bool,
    is_generated: bool,
}

/// Those of a table, by the names of its columns.
async fn attributes(client: &Client, table: &Table) -> Result<HashMap<String, Attribute>> {
    let sql = "SELECT a.attname::text, NOT a.attnotnull, a.attgenerated <> '' FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid \
               JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1::text AND c.relname = $2::text AND a.attnum > 0 \
               AND NOT a.attisdropped";
    let found = client.query(sql, &[&table.schema, &table.name]).await;
    let found = found.map_err(|error| failed(format!("looking for the table {}", table.quoted()), error))?;
    let attribute = |row: &tokio_postgres::Row| {
        (row.get::<_, String>(0), Attribute { takes_null: row.get(1), is_generated: row.get(2) })
    };
    Ok(found.iter().map(attribute).collect())
}

/// The type in which every value of a column has a place, but for times that are infinite. What has no other is a text.
fn column_type(of: &Type, modifier: i32, nullable: bool) -> ColumnType {
    let data_type = match *of {
        Type::BOOL => DataType::Boolean,
        Type::INT2 => DataType::Int16,
        Type::INT4 => DataType::Int32,
        Type::INT8 => DataType::Int64,
        Type::FLOAT4 => DataType::Float32,
        Type::FLOAT8 => DataType::Float64,
        Type::NUMERIC => decimal(modifier),
        Type::BYTEA => DataType::Binary,
        Type::DATE => DataType::Date32,
        Type::TIME => DataType::Time64(TimeUnit::Microsecond),
        Type::TIMESTAMP | Type::TIMESTAMPTZ => timestamp(),
        _ => DataType::Utf8,
    };
    let is_json = matches!(*of, Type::JSON | Type::JSONB);
    ColumnType { is_json, ..ColumnType::new(data_type, nullable) }
}

/// A decimal, or the text of one that may have any number of digits, more than there are, or fewer than none behind the point.
fn decimal(modifier: i32) -> DataType {
    let size = modifier - 4;
    let (precision, scale) = (u8::try_from(size >> 16), i8::try_from(size & 0x7ff));
    match (precision, scale) {
        (Ok(precision @ 1..=DECIMAL128_MAX_PRECISION), Ok(scale)) if size > 0 && scale as u8 <= precision => {
            DataType::Decimal128(precision, scale)
        }
        _ => DataType::Utf8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_a_place() {
        let numeric = |precision: i32, scale: i32| (precision << 16 | scale & 0x7ff) + 4;
        for (of, modifier, expected) in [
            (Type::NUMERIC, numeric(10, 2), "decimal(10,2)"),
            (Type::NUMERIC, numeric(38, 38), "decimal(38,38)"),
            (Type::NUMERIC, numeric(39, 0), "utf8"),
            (Type::NUMERIC, numeric(2, 4), "utf8"),
            (Type::NUMERIC, numeric(5, -2), "utf8"),
            (Type::NUMERIC, -1, "utf8"),
            (Type::INT2, -1, "int16"),
            (Type::TIMESTAMPTZ, -1, "timestamp"),
            (Type::TIMETZ, -1, "utf8"),
            (Type::JSONB, -1, "json"),
            (Type::UUID, -1, "utf8"),
            (Type::TEXT_ARRAY, -1, "utf8"),
        ] {
            assert_eq!(column_type(&of, modifier, false).to_string(), expected, "{of} {modifier}");
        }
        assert_eq!(column_type(&Type::DATE, -1, true).to_string(), "date?");
    }
}
