//! What a server sends, in columns as the flow declares them.

use arrow::datatypes::{DataType, Field};
use chrono::NaiveDate;
use millstream_core::{Encoding, Problem, type_name, with_article};
use millstream_database::{Cell, limits, parse_decimal};
use mysql_async::Value;
use mysql_async::consts::ColumnType;
use serde_json::json;

/// Refuses a type that no column of a server has a value for.
pub fn check_type(field: &Field) -> Result<(), Problem> {
    match field.data_type() {
        DataType::List(_) | DataType::Struct(_) => {
            let name = type_name(field.data_type());
            let problem = Problem::new(format!("no column of MySQL is a `{name}`"));
            Err(problem.help("declare JSON as `utf8`, or as `json`"))
        }
        _ => Ok(()),
    }
}

/// What a value is in a column of this type, or why it has no place there. `kind` is the type of the column where it comes from.
pub fn cell<'a>(value: &'a Value, kind: ColumnType, field: &Field) -> Result<Cell<'a>, String> {
    let wrong = || {
        let wanted = with_article(&type_name(field.data_type()));
        format!("column `{}`: {} is not {wanted}", field.name(), written(value))
    };
    if *value == Value::NULL {
        return if field.is_nullable() { Ok(Cell::Null) } else { Err(format!("column `{}` is null", field.name())) };
    }
    let found = match field.data_type() {
        DataType::Boolean => whole(value, kind).filter(|number| (0..=1).contains(number)).map(Cell::Whole),
        DataType::Float32 | DataType::Float64 => float(value).map(Cell::Float),
        DataType::Decimal128(precision, scale) => {
            decimal(value, kind, *precision, u32::from(scale.unsigned_abs())).map(Cell::Whole)
        }
        DataType::Utf8 => text(value, kind).map(Cell::Bytes),
        DataType::Binary => bytes(value).map(Cell::Bytes),
        DataType::Date32 => date(value).map(Cell::Whole),
        DataType::Timestamp(..) => timestamp(value).map(Cell::Whole),
        DataType::Time64(_) => time(value).map(Cell::Whole),
        integer => {
            let (least, most) = limits(integer).ok_or_else(wrong)?;
            whole(value, kind).filter(|number| (least..=most).contains(number)).map(Cell::Whole)
        }
    };
    found.ok_or_else(wrong)
}

fn whole(value: &Value, kind: ColumnType) -> Option<i128> {
    match value {
        Value::Int(number) => Some((*number).into()),
        Value::UInt(number) => Some((*number).into()),
        // Bits come as bytes, the most significant one first.
        Value::Bytes(bytes) if kind == ColumnType::MYSQL_TYPE_BIT && bytes.len() <= 8 => {
            Some(bytes.iter().fold(0, |number, byte| number << 8 | i128::from(*byte)))
        }
        // Sums are decimals.
        Value::Bytes(_) if is_decimal(kind) || kind == ColumnType::MYSQL_TYPE_YEAR => decimal(value, kind, 38, 0),
        _ => None,
    }
}

fn is_decimal(kind: ColumnType) -> bool {
    matches!(kind, ColumnType::MYSQL_TYPE_NEWDECIMAL | ColumnType::MYSQL_TYPE_DECIMAL)
}

fn float(value: &Value) -> Option<f64> {
    match value {
        Value::Float(number) => Some(f64::from(*number)),
        Value::Double(number) => Some(*number),
        Value::Int(number) => Some(*number as f64),
        Value::UInt(number) => Some(*number as f64),
        Value::Bytes(text) => std::str::from_utf8(text).ok()?.parse().ok(),
        _ => None,
    }
}

/// A number that has so many digits, of which so many behind the point; others have to be zeros.
fn decimal(value: &Value, kind: ColumnType, precision: u8, scale: u32) -> Option<i128> {
    let unscaled = match value {
        Value::Int(number) => i128::from(*number).checked_mul(10_i128.checked_pow(scale)?)?,
        Value::UInt(number) => i128::from(*number).checked_mul(10_i128.checked_pow(scale)?)?,
        Value::Bytes(text) if is_decimal(kind) || kind == ColumnType::MYSQL_TYPE_YEAR => parse_decimal(text, scale)?,
        _ => return None,
    };
    (unscaled.unsigned_abs() < 10_u128.checked_pow(precision.into())?).then_some(unscaled)
}

fn text(value: &Value, kind: ColumnType) -> Option<&[u8]> {
    match value {
        Value::Bytes(bytes) if kind != ColumnType::MYSQL_TYPE_BIT => {
            std::str::from_utf8(bytes).is_ok().then_some(bytes.as_slice())
        }
        _ => None,
    }
}

fn bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::Bytes(bytes) => Some(bytes),
        _ => None,
    }
}

/// Days since 1970. Dates with a 0 for what is not known are none.
fn days(year: u16, month: u8, day: u8) -> Option<i128> {
    let date = NaiveDate::from_ymd_opt(year.into(), month.into(), day.into())?;
    Some(date.signed_duration_since(NaiveDate::default()).num_days().into())
}

fn date(value: &Value) -> Option<i128> {
    match *value {
        Value::Date(year, month, day, 0, 0, 0, 0) => days(year, month, day),
        _ => None,
    }
}

fn timestamp(value: &Value) -> Option<i128> {
    match *value {
        Value::Date(year, month, day, hours, minutes, seconds, micros) => {
            Some(days(year, month, day)? * 86_400_000_000 + clock(hours.into(), minutes, seconds, micros))
        }
        _ => None,
    }
}

fn time(value: &Value) -> Option<i128> {
    match *value {
        Value::Time(false, days, hours, minutes, seconds, micros) => {
            let hours = days.checked_mul(24)?.checked_add(hours.into())?;
            (hours < 24).then(|| clock(hours, minutes, seconds, micros))
        }
        _ => None,
    }
}

fn clock(hours: u32, minutes: u8, seconds: u8, micros: u32) -> i128 {
    ((i128::from(hours) * 60 + i128::from(minutes)) * 60 + i128::from(seconds)) * 1_000_000 + i128::from(micros)
}

/// A value for people.
fn written(value: &Value) -> String {
    const MOST: usize = 100;
    match value {
        Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) if text.chars().count() > MOST => format!("\"{}…\"", text.chars().take(MOST).collect::<String>()),
            Ok(text) => format!("\"{text}\""),
            Err(_) => format!("a value of {} bytes", bytes.len()),
        },
        // It has quotes.
        Value::Date(..) | Value::Time(..) => value.as_sql(true).trim_matches('\'').to_owned(),
        value => value.as_sql(true),
    }
}

/// A row that is refused, as a JSON object.
pub fn row_as_json<'a>(row: impl Iterator<Item = (&'a str, &'a Value)>) -> (String, Encoding) {
    let value = |value: &Value| match value {
        Value::NULL => serde_json::Value::Null,
        Value::Int(number) => json!(number),
        Value::UInt(number) => json!(number),
        Value::Float(number) => json!(number),
        Value::Double(number) => json!(number),
        Value::Bytes(bytes) => json!(String::from_utf8_lossy(bytes)),
        other => json!(written(other)),
    };
    let object: serde_json::Map<_, _> = row.map(|(name, of)| (name.to_owned(), value(of))).collect();
    (serde_json::Value::Object(object).to_string(), Encoding::Json)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use millstream_core::ColumnType as Declared;

    fn found(value: &Value, kind: ColumnType, declared: &str) -> Result<i128, String> {
        let field = Declared::parse(declared).unwrap().field("c");
        cell(value, kind, &field).map(|cell| match cell {
            Cell::Whole(number) => number,
            other => panic!("{other:?}"),
        })
    }

    fn text_of(text: &str) -> Value {
        Value::Bytes(text.as_bytes().to_vec())
    }

    #[test]
    fn decimals_are_exact() {
        let decimal = |text: &str, declared: &str| found(&text_of(text), ColumnType::MYSQL_TYPE_NEWDECIMAL, declared);
        assert_eq!(decimal("-12.50", "decimal(10,2)"), Ok(-1250));
        assert_eq!(decimal("12.5", "decimal(10,2)"), Ok(1250));
        assert_eq!(decimal("12.5000", "decimal(10,2)"), Ok(1250));
        assert_eq!(decimal("7", "int64"), Ok(7));
        assert_eq!(
            decimal("12.505", "decimal(10,2)"),
            Err("column `c`: \"12.505\" is not a `decimal(10,2)`".to_owned())
        );
        assert!(decimal("123.45", "decimal(4,2)").is_err(), "five digits");
        assert!(decimal("7.5", "int64").is_err());
    }

    #[test]
    fn numbers_have_limits() {
        let whole = |number: i64, declared: &str| found(&Value::Int(number), ColumnType::MYSQL_TYPE_LONG, declared);
        assert_eq!((whole(-128, "int8"), whole(255, "uint8"), whole(1, "boolean")), (Ok(-128), Ok(255), Ok(1)));
        assert_eq!(whole(128, "int8"), Err("column `c`: 128 is not an `int8`".to_owned()));
        assert!(whole(2, "boolean").is_err() && whole(-1, "uint64").is_err());
        assert_eq!(found(&Value::Bytes(vec![1, 0]), ColumnType::MYSQL_TYPE_BIT, "uint16"), Ok(256));
    }

    #[test]
    fn dates_without_a_day_are_none() {
        let kind = ColumnType::MYSQL_TYPE_DATETIME;
        let at = |value: Value, declared: &str| found(&value, kind, declared);
        assert_eq!(at(Value::Date(1970, 1, 2, 0, 0, 0, 0), "date"), Ok(1));
        assert_eq!(at(Value::Date(1969, 12, 31, 23, 59, 59, 1), "timestamp"), Ok(-999_999));
        assert_eq!(
            at(Value::Date(0, 0, 0, 0, 0, 0, 0), "date"),
            Err("column `c`: 0000-00-00 is not a `date`".to_owned())
        );
        assert!(at(Value::Date(1970, 1, 2, 1, 0, 0, 0), "date").is_err(), "it has a time");
        assert_eq!(at(Value::Time(false, 0, 1, 0, 0, 0), "time"), Ok(3_600_000_000));
        assert!(
            at(Value::Time(true, 0, 1, 0, 0, 0), "time").is_err()
                && at(Value::Time(false, 1, 0, 0, 0, 0), "time").is_err()
        );
    }
}
