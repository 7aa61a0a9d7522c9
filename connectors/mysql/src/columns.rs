//! The columns that a table or a query has, as a flow would declare them.

use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, TimeUnit};
use millstream_core::{AskSchema, ColumnType, Columns, Error, Result, timestamp};
use mysql_async::consts::{ColumnFlags, ColumnType as Kind};
use mysql_async::prelude::Queryable as _;
use mysql_async::{Column, Conn};

use crate::client::{Server, failed};

/// The character set of what is no text.
const BINARY: u16 = 63;

/// Asks a server for the columns of what SQL writes so behind `FROM`.
pub fn ask(server: Server, from: String) -> AskSchema {
    Box::pin(async move {
        let mut connection = server.connect().await?;
        let found = columns(&mut connection, &from).await;
        // Whatever it says to that, it has been asked.
        let _ = connection.disconnect().await;
        Ok(found?.into())
    })
}

async fn columns(connection: &mut Conn, from: &str) -> Result<Columns> {
    let statement = connection.prep(format!("SELECT * FROM {from} LIMIT 0")).await;
    let statement = statement.map_err(|error| failed("asking for the columns", error))?;
    let column = |column: &Column| (column.name_str().into_owned(), column_type(column));
    let columns: Vec<_> = statement.columns().iter().map(column).collect();
    if columns.is_empty() { Err(Error::new("there is no column")) } else { Ok(Columns(columns)) }
}

/// The type in which every value of a column has a place, but for dates that are none and times beyond a day.
fn column_type(column: &Column) -> ColumnType {
    let is_unsigned = column.flags().contains(ColumnFlags::UNSIGNED_FLAG);
    let integer = |signed: DataType, unsigned: DataType| if is_unsigned { unsigned } else { signed };
    let data_type = match column.column_type() {
        Kind::MYSQL_TYPE_TINY => integer(DataType::Int8, DataType::UInt8),
        Kind::MYSQL_TYPE_SHORT | Kind::MYSQL_TYPE_YEAR => integer(DataType::Int16, DataType::UInt16),
        Kind::MYSQL_TYPE_INT24 | Kind::MYSQL_TYPE_LONG => integer(DataType::Int32, DataType::UInt32),
        Kind::MYSQL_TYPE_LONGLONG => integer(DataType::Int64, DataType::UInt64),
        Kind::MYSQL_TYPE_FLOAT => DataType::Float32,
        Kind::MYSQL_TYPE_DOUBLE => DataType::Float64,
        Kind::MYSQL_TYPE_DECIMAL | Kind::MYSQL_TYPE_NEWDECIMAL => decimal(column, is_unsigned),
        Kind::MYSQL_TYPE_BIT if column.column_length() == 1 => DataType::Boolean,
        Kind::MYSQL_TYPE_BIT => DataType::UInt64,
        Kind::MYSQL_TYPE_DATE | Kind::MYSQL_TYPE_NEWDATE => DataType::Date32,
        Kind::MYSQL_TYPE_TIME | Kind::MYSQL_TYPE_TIME2 => DataType::Time64(TimeUnit::Microsecond),
        Kind::MYSQL_TYPE_DATETIME
        | Kind::MYSQL_TYPE_DATETIME2
        | Kind::MYSQL_TYPE_TIMESTAMP
        | Kind::MYSQL_TYPE_TIMESTAMP2 => timestamp(),
        Kind::MYSQL_TYPE_GEOMETRY | Kind::MYSQL_TYPE_VECTOR => DataType::Binary,
        Kind::MYSQL_TYPE_JSON | Kind::MYSQL_TYPE_NULL => DataType::Utf8,
        _ if column.character_set() == BINARY => DataType::Binary,
        _ => DataType::Utf8,
    };
    let is_json = column.column_type() == Kind::MYSQL_TYPE_JSON;
    ColumnType { is_json, ..ColumnType::new(data_type, !column.flags().contains(ColumnFlags::NOT_NULL_FLAG)) }
}

/// A decimal, or the text of one that has more digits than there are. Its length counts a sign and a point.
fn decimal(column: &Column, is_unsigned: bool) -> DataType {
    let scale = column.decimals();
    let others = u32::from(scale > 0) + u32::from(!is_unsigned);
    let precision = u8::try_from(column.column_length().saturating_sub(others)).unwrap_or(u8::MAX);
    match i8::try_from(scale) {
        Ok(digits) if (1..=DECIMAL128_MAX_PRECISION).contains(&precision) && scale <= precision => {
            DataType::Decimal128(precision, digits)
        }
        _ => DataType::Utf8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The type of a column, as a flow declares it.
    fn found(kind: Kind, flags: ColumnFlags, length: u32, decimals: u8, character_set: u16) -> String {
        let column = Column::new(kind).with_flags(flags).with_column_length(length).with_decimals(decimals);
        column_type(&column.with_character_set(character_set)).to_string()
    }

    #[test]
    fn every_type_has_a_place() {
        use Kind::{
            MYSQL_TYPE_BIT, MYSQL_TYPE_BLOB, MYSQL_TYPE_DATETIME, MYSQL_TYPE_JSON, MYSQL_TYPE_LONG,
            MYSQL_TYPE_NEWDECIMAL, MYSQL_TYPE_STRING, MYSQL_TYPE_TINY,
        };
        let (none, unsigned) = (ColumnFlags::NOT_NULL_FLAG, ColumnFlags::NOT_NULL_FLAG | ColumnFlags::UNSIGNED_FLAG);
        for (found, expected) in [
            (found(MYSQL_TYPE_TINY, none, 1, 0, BINARY), "int8"),
            (found(MYSQL_TYPE_LONG, unsigned, 10, 0, BINARY), "uint32"),
            (found(MYSQL_TYPE_LONG, ColumnFlags::empty(), 11, 0, BINARY), "int32?"),
            (found(MYSQL_TYPE_NEWDECIMAL, none, 12, 2, BINARY), "decimal(10,2)"),
            (found(MYSQL_TYPE_NEWDECIMAL, unsigned, 10, 0, BINARY), "decimal(10,0)"),
            (found(MYSQL_TYPE_NEWDECIMAL, none, 67, 30, BINARY), "utf8"),
            (found(MYSQL_TYPE_BIT, unsigned, 1, 0, BINARY), "boolean"),
            (found(MYSQL_TYPE_BIT, unsigned, 9, 0, BINARY), "uint64"),
            (found(MYSQL_TYPE_DATETIME, ColumnFlags::empty(), 26, 6, BINARY), "timestamp?"),
            (found(MYSQL_TYPE_JSON, none, u32::MAX, 0, BINARY), "json"),
            (found(MYSQL_TYPE_STRING, none, 40, 0, 45), "utf8"),
            (found(MYSQL_TYPE_BLOB, none, 65535, 0, BINARY), "binary"),
        ] {
            assert_eq!(found, expected);
        }
    }
}
