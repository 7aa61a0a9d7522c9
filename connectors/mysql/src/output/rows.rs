//! Rows as SQL writes them.

use std::fmt::Write as _;

use arrow::array::{Array, AsArray as _, RecordBatch};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Field, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use chrono::{DateTime, Datelike as _, Days, NaiveDate, NaiveTime};
use millstream_core::{Error, Problem, Result, type_name};

use crate::literal;

/// Refuses a column that no table has a place for.
pub fn check_type(field: &Field) -> Result<(), Problem> {
    match field.data_type() {
        DataType::List(_) | DataType::Struct(_) => {
            let message =
                format!("column `{}` is a `{}`, which MySQL does not have", field.name(), type_name(field.data_type()));
            Err(Problem::new(message).help("leave it out with an `sql` node, or turn it into text"))
        }
        _ => Ok(()),
    }
}

/// What column a table gets that is created.
pub fn declared(field: &Field, is_key: bool) -> String {
    let kind = match field.data_type() {
        DataType::Boolean => "BOOLEAN".to_owned(),
        DataType::Int8 => "TINYINT".to_owned(),
        DataType::Int16 => "SMALLINT".to_owned(),
        DataType::Int32 => "INT".to_owned(),
        DataType::Int64 => "BIGINT".to_owned(),
        DataType::UInt8 => "TINYINT UNSIGNED".to_owned(),
        DataType::UInt16 => "SMALLINT UNSIGNED".to_owned(),
        DataType::UInt32 => "INT UNSIGNED".to_owned(),
        DataType::UInt64 => "BIGINT UNSIGNED".to_owned(),
        DataType::Float32 => "FLOAT".to_owned(),
        DataType::Float64 => "DOUBLE".to_owned(),
        DataType::Decimal128(precision, scale) => format!("DECIMAL({precision},{scale})"),
        DataType::Date32 => "DATE".to_owned(),
        DataType::Time64(_) => "TIME(6)".to_owned(),
        DataType::Timestamp(..) => "DATETIME(6)".to_owned(),
        // No index takes texts of any length.
        DataType::Binary if is_key => "VARBINARY(255)".to_owned(),
        DataType::Binary => "LONGBLOB".to_owned(),
        _ if is_key => "VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin".to_owned(),
        _ => "LONGTEXT CHARACTER SET utf8mb4".to_owned(),
    };
    format!("{kind}{}", if field.is_nullable() && !is_key { "" } else { " NOT NULL" })
}

/// Writes the value of a column in a row.
type Write<'a> = Box<dyn Fn(usize, &mut String) + Send + Sync + 'a>;

/// Writes rows of a batch.
pub struct RowWriter<'a> {
    columns: Vec<Write<'a>>,
}

impl<'a> RowWriter<'a> {
    /// For these columns of a batch.
    pub fn new(rows: &'a RecordBatch, columns: &[usize]) -> Result<Self> {
        let columns = columns.iter().map(|index| column(rows.column(*index).as_ref())).collect::<Result<_>>()?;
        Ok(Self { columns })
    }

    /// Appends a row of a list.
    pub fn write_next(&self, follows: bool, row: usize, into: &mut String) {
        if follows {
            into.push(',');
        }
        self.write(row, into);
    }

    /// Appends a row: `(1,'a',NULL)`.
    pub fn write(&self, row: usize, into: &mut String) {
        into.push('(');
        for (index, column) in self.columns.iter().enumerate() {
            if index > 0 {
                into.push(',');
            }
            column(row, into);
        }
        into.push(')');
    }
}

macro_rules! number {
    ($array:expr, $type:ty) => {{
        let values = $array.as_primitive::<$type>();
        boxed(values, move |row, into| {
            let _ = write!(into, "{}", values.value(row));
        })
    }};
}

fn boxed<'a>(array: &'a dyn Array, value: impl Fn(usize, &mut String) + Send + Sync + 'a) -> Write<'a> {
    Box::new(move |row, into| if array.is_null(row) { into.push_str("NULL") } else { value(row, into) })
}

fn column(array: &dyn Array) -> Result<Write<'_>> {
    Ok(match array.data_type() {
        DataType::Boolean => {
            let values = array.as_boolean();
            boxed(values, move |row, into| into.push(if values.value(row) { '1' } else { '0' }))
        }
        DataType::Int8 => number!(array, Int8Type),
        DataType::Int16 => number!(array, Int16Type),
        DataType::Int32 => number!(array, Int32Type),
        DataType::Int64 => number!(array, Int64Type),
        DataType::UInt8 => number!(array, UInt8Type),
        DataType::UInt16 => number!(array, UInt16Type),
        DataType::UInt32 => number!(array, UInt32Type),
        DataType::UInt64 => number!(array, UInt64Type),
        DataType::Float32 => {
            let values = array.as_primitive::<Float32Type>();
            boxed(values, move |row, into| {
                let _ = write!(into, "{:e}", values.value(row));
            })
        }
        DataType::Float64 => {
            let values = array.as_primitive::<Float64Type>();
            boxed(values, move |row, into| {
                let _ = write!(into, "{:e}", values.value(row));
            })
        }
        DataType::Decimal128(..) => {
            let values = array.as_primitive::<Decimal128Type>();
            boxed(values, move |row, into| into.push_str(&values.value_as_string(row)))
        }
        DataType::Utf8 => {
            let values = array.as_string::<i32>();
            boxed(values, move |row, into| literal::text(values.value(row), into))
        }
        DataType::Binary => {
            let values = array.as_binary::<i32>();
            boxed(values, move |row, into| literal::binary(values.value(row), into))
        }
        DataType::Date32 => {
            let values = array.as_primitive::<Date32Type>();
            boxed(values, move |row, into| {
                let _ = write!(into, "'{}'", date(values.value(row)).unwrap_or_default());
            })
        }
        DataType::Time64(_) => {
            let values = array.as_primitive::<Time64MicrosecondType>();
            boxed(values, move |row, into| {
                let _ = write!(into, "'{}'", time(values.value(row)).unwrap_or_default());
            })
        }
        DataType::Timestamp(..) => {
            let values = array.as_primitive::<TimestampMicrosecondType>();
            boxed(values, move |row, into| {
                let at = timestamp(values.value(row)).unwrap_or_default().naive_utc();
                let _ = write!(into, "'{at}'");
            })
        }
        other => return Err(Error::new(format!("MySQL has no `{}`", type_name(other)))),
    })
}

fn date(days: i32) -> Option<NaiveDate> {
    let epoch = NaiveDate::default();
    let days64 = Days::new(u64::from(days.unsigned_abs()));
    let date = if days < 0 { epoch.checked_sub_days(days64) } else { epoch.checked_add_days(days64) };
    date.filter(|date| (0..=9999).contains(&date.year()))
}

fn time(micros: i64) -> Option<NaiveTime> {
    let (seconds, micros) = (u32::try_from(micros.div_euclid(1_000_000)).ok()?, micros.rem_euclid(1_000_000) as u32);
    NaiveTime::from_num_seconds_from_midnight_opt(seconds, micros * 1000)
}

fn timestamp(micros: i64) -> Option<DateTime<chrono::Utc>> {
    DateTime::from_timestamp_micros(micros).filter(|at| (0..=9999).contains(&at.year()))
}

/// What MySQL has no value for in a row: which column, and why.
pub fn unwritable(array: &dyn Array, row: usize) -> Option<&'static str> {
    if array.is_null(row) {
        return None;
    }
    let (is_wrong, why) = match array.data_type() {
        DataType::Float32 => (
            !array.as_primitive::<Float32Type>().value(row).is_finite(),
            "is no finite number, and MySQL has no others",
        ),
        DataType::Float64 => (
            !array.as_primitive::<Float64Type>().value(row).is_finite(),
            "is no finite number, and MySQL has no others",
        ),
        DataType::Date32 => {
            (date(array.as_primitive::<Date32Type>().value(row)).is_none(), "is no date between the years 0 and 9999")
        }
        DataType::Timestamp(..) => (
            timestamp(array.as_primitive::<TimestampMicrosecondType>().value(row)).is_none(),
            "is no time between the years 0 and 9999",
        ),
        DataType::Time64(_) => {
            (time(array.as_primitive::<Time64MicrosecondType>().value(row)).is_none(), "is no time of a day")
        }
        _ => return None,
    };
    is_wrong.then_some(why)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use millstream_testkit::table;

    use super::*;

    #[test]
    fn a_row_is_a_list_of_literals() {
        let rows = table(
            "b:boolean i:int64 f:float64 d:decimal(5,2) t:utf8? y:date m:time a:timestamp\n\
             true -3 1.5 1.50 O'H\\ 2026-01-31 12:30:00.5 2026-01-31T12:00:00.000001Z\n\
             false 0 1e300 0.00 null 1969-12-31 00:00:00 1969-12-31T23:59:59Z",
        );
        let all: Vec<usize> = (0..rows.num_columns()).collect();
        let writer = RowWriter::new(&rows, &all).unwrap();
        let mut text = String::new();
        writer.write(0, &mut text);
        writer.write(1, &mut text);
        assert_eq!(
            text,
            "(1,-3,1.5e0,1.50,'O''H\\','2026-01-31','12:30:00.500','2026-01-31 12:00:00.000001')\
             (0,0,1e300,0.00,NULL,'1969-12-31','00:00:00','1969-12-31 23:59:59')"
        );
    }

    #[test]
    fn what_mysql_has_no_value_for() {
        let rows = table("f:float64\nNaN\n1");
        assert!(unwritable(rows.column(0).as_ref(), 0).is_some());
        assert!(unwritable(rows.column(0).as_ref(), 1).is_none());
    }
}
