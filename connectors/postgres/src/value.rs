//! What a server sends, in columns as the flow declares them. All comes as text, by queries as in the log of changes, in the forms that
//! [`SESSION`](crate::client::SESSION) asks for.

use arrow::datatypes::{DataType, Field, SchemaRef};
use chrono::NaiveDate;
use millstream_core::{Encoding, Problem, Result, type_name, with_article};
use millstream_database::{Cell, limits, parse_decimal};
use serde_json::json;

/// Refuses a type that no column of a server has a value for.
pub fn check_type(field: &Field) -> Result<(), Problem> {
    match field.data_type() {
        DataType::List(_) | DataType::Struct(_) => {
            let name = type_name(field.data_type());
            let problem = Problem::new(format!("a column of PostgreSQL can't be read as a `{name}`"));
            Err(problem.help("declare arrays as `utf8`, and JSON as `utf8` or as `json`"))
        }
        _ => Ok(()),
    }
}

/// What a value is in a column of the flow, or why it has no place there.
pub fn cell<'a>(value: Option<&'a str>, field: &Field) -> Result<Cell<'a>, String> {
    let Some(text) = value else {
        return if field.is_nullable() { Ok(Cell::Null) } else { Err(format!("column `{}` is null", field.name())) };
    };
    let found = match field.data_type() {
        DataType::Boolean => truth(text).map(Cell::Whole),
        DataType::Float32 | DataType::Float64 => text.parse().ok().map(Cell::Float),
        DataType::Decimal128(precision, scale) => decimal(text, *precision, *scale).map(Cell::Whole),
        DataType::Utf8 => Some(Cell::Bytes(text.as_bytes())),
        DataType::Binary => digits(text).map(Cell::Hex),
        DataType::Date32 => date(text).map(Cell::Whole),
        DataType::Timestamp(..) => timestamp(text).map(Cell::Whole),
        DataType::Time64(_) => time(text).filter(|micros| *micros < DAY).map(Cell::Whole),
        integer => limits(integer).and_then(|(least, most)| {
            let number = parse_decimal(text.as_bytes(), 0)?;
            (least..=most).contains(&number).then_some(Cell::Whole(number))
        }),
    };
    found.ok_or_else(|| {
        let wanted = with_article(&type_name(field.data_type()));
        format!("column `{}`: {} is not {wanted}", field.name(), shortened(text))
    })
}

/// The values of a row, in columns of the flow.
pub fn cells<'a>(
    values: impl IntoIterator<Item = Option<&'a str>>,
    schema: &SchemaRef,
) -> Result<Vec<Cell<'a>>, String> {
    values.into_iter().zip(schema.fields()).map(|(value, field)| cell(value, field)).collect()
}

/// The microseconds of a day.
const DAY: i128 = 86_400_000_000;

fn truth(text: &str) -> Option<i128> {
    match text {
        "t" | "true" => Some(1),
        "f" | "false" => Some(0),
        _ => None,
    }
}

/// A number that has so many digits, of which so many behind the point; others have to be zeros.
fn decimal(text: &str, precision: u8, scale: i8) -> Option<i128> {
    let unscaled = parse_decimal(text.as_bytes(), u32::from(scale.unsigned_abs()))?;
    (unscaled.unsigned_abs() < 10_u128.checked_pow(precision.into())?).then_some(unscaled)
}

/// The digits of bytes: `\x00ff`.
fn digits(text: &str) -> Option<&[u8]> {
    let digits = text.strip_prefix("\\x")?.as_bytes();
    (digits.len().is_multiple_of(2) && digits.iter().all(u8::is_ascii_hexdigit)).then_some(digits)
}

/// A date as days since 1970. Years before Christ have it behind them.
fn date(text: &str) -> Option<i128> {
    let (text, is_before_christ) = text.strip_suffix(" BC").map_or((text, false), |text| (text, true));
    let mut parts = text.splitn(3, '-');
    let mut part = || number(parts.next()?);
    let (year, month, day) = (i32::try_from(part()?).ok()?, part()?, part()?);
    let year = if is_before_christ { 1 - year } else { year };
    let date = NaiveDate::from_ymd_opt(year, month, day)?;
    Some(date.signed_duration_since(NaiveDate::default()).num_days().into())
}

/// A time of a day in microseconds: `12:30:00.5`.
fn time(text: &str) -> Option<i128> {
    let (clock, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let mut parts = clock.splitn(3, ':');
    let mut part = || number(parts.next()?).map(i128::from);
    let (hours, minutes, seconds) = (part()?, part()?, part()?);
    if hours > 24 || minutes > 59 || seconds > 60 || fraction.len() > 6 {
        return None;
    }
    let micros = i128::from(number(fraction)?) * 10_i128.pow(6 - fraction.len() as u32);
    Some(((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + micros)
}

/// A time in microseconds since 1970: `2026-01-31 12:00:00.5`, or with a zone behind it, `+01`, `-03:30` or `+01:02:03`.
fn timestamp(text: &str) -> Option<i128> {
    let (text, era) = text.strip_suffix(" BC").map_or((text, ""), |text| (text, " BC"));
    let (day, clock) = text.split_once(' ')?;
    let (clock, east) = match clock.find(['+', '-']) {
        Some(place) => (&clock[..place], zone(&clock[place..])?),
        None => (clock, 0),
    };
    let day = if era.is_empty() { date(day)? } else { date(&format!("{day}{era}"))? };
    let micros = day * DAY + time(clock)? - east * 1_000_000;
    i64::try_from(micros).ok().map(i128::from)
}

/// How many seconds a zone lies to the east.
fn zone(text: &str) -> Option<i128> {
    let (is_west, text) = text.strip_prefix('-').map_or_else(|| (false, &text[1..]), |text| (true, text));
    let mut parts = text.split(':').map(number);
    let mut part = || parts.next().map_or(Some(0), |part| part.map(i128::from));
    let seconds = (part()? * 60 + part()?) * 60 + part()?;
    Some(if is_west { -seconds } else { seconds })
}

/// A number of digits alone.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// A value for people.
fn shortened(text: &str) -> String {
    const MOST: usize = 100;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("\"{}…\"", &text[..end]),
        None => format!("\"{text}\""),
    }
}

/// A row that is refused, as a JSON object.
pub fn row_as_json<'a>(row: impl Iterator<Item = (&'a str, Option<&'a str>)>) -> (String, Encoding) {
    let object: serde_json::Map<_, _> = row.map(|(name, value)| (name.to_owned(), json!(value))).collect();
    (serde_json::Value::Object(object).to_string(), Encoding::Json)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use millstream_core::ColumnType;

    use super::*;

    fn found(text: &str, declared: &str) -> Result<i128, String> {
        let field = ColumnType::parse(declared).unwrap().field("c");
        cell(Some(text), &field).map(|cell| match cell {
            Cell::Whole(number) => number,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn numbers_have_limits() {
        assert_eq!((found("-128", "int8"), found("255", "uint8"), found("t", "boolean")), (Ok(-128), Ok(255), Ok(1)));
        assert_eq!(found("7.00", "int64"), Ok(7));
        assert_eq!(found("128", "int8"), Err("column `c`: \"128\" is not an `int8`".to_owned()));
        assert!(found("7.5", "int64").is_err() && found("-1", "uint64").is_err() && found("NaN", "int64").is_err());
        assert_eq!(found("-12.50", "decimal(10,2)"), Ok(-1250));
        assert!(found("123.45", "decimal(4,2)").is_err() && found("NaN", "decimal(4,2)").is_err());
    }

    #[test]
    fn times_are_read_to_the_microsecond() {
        assert_eq!(found("1970-01-02", "date"), Ok(1));
        assert_eq!(found("0001-12-31 BC", "date"), Ok(-719_163));
        assert_eq!(found("12:30:00.5", "time"), Ok(45_000_500_000));
        assert_eq!(found("1969-12-31 23:59:59.000001", "timestamp"), Ok(-999_999));
        assert_eq!(found("1970-01-01 00:30:00+01", "timestamp"), Ok(-1_800_000_000));
        assert_eq!(found("1970-01-01 00:00:00-03:30", "timestamp"), Ok(12_600_000_000));
        for (wrong, declared) in [
            ("infinity", "date"),
            ("-infinity", "timestamp"),
            ("2026-02-30", "date"),
            ("2026-01-01", "timestamp"),
            ("24:00:00", "time"),
            ("12:30:00+01", "time"),
            ("294276-12-31 23:59:59", "date"),
            ("2026-01-01 1", "timestamp"),
            ("2026-01-01 +", "timestamp"),
            ("", "timestamp"),
        ] {
            assert!(found(wrong, declared).is_err(), "{wrong} as {declared}");
        }
    }

    #[test]
    fn bytes_are_digits() {
        let field = ColumnType::parse("binary").unwrap().field("c");
        assert_eq!(cell(Some("\\x00fF"), &field), Ok(Cell::Hex(b"00fF")));
        for wrong in ["00ff", "\\x0", "\\x0g", ""] {
            assert!(cell(Some(wrong), &field).is_err(), "{wrong}");
        }
        let long = "ä".repeat(101);
        assert_eq!(shortened(&long), format!("\"{}…\"", "ä".repeat(100)));
    }
}
