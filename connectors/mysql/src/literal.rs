//! Values as SQL writes them. Sessions take a backslash for itself (`NO_BACKSLASH_ESCAPES`), so that only quotes need care.

use mysql_async::Value;
use mysql_async::consts::ColumnType;

use crate::names::quoted;

/// A text.
pub fn text(value: &str, into: &mut String) {
    into.push('\'');
    for (index, piece) in value.split('\'').enumerate() {
        if index > 0 {
            into.push_str("''");
        }
        into.push_str(piece);
    }
    into.push('\'');
}

/// Bytes.
pub fn binary(value: &[u8], into: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    into.push_str("x'");
    for byte in value {
        into.push(char::from(DIGITS[usize::from(byte >> 4)]));
        into.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    into.push('\'');
}

/// A value that a server has sent, so that it is found again. None if it can't be compared exactly.
pub fn of_value(value: &Value, kind: ColumnType) -> Option<String> {
    let mut literal = String::new();
    match value {
        Value::NULL | Value::Float(_) | Value::Double(_) => return None,
        Value::Bytes(bytes) if matches!(kind, ColumnType::MYSQL_TYPE_NEWDECIMAL | ColumnType::MYSQL_TYPE_YEAR) => {
            literal.push_str(std::str::from_utf8(bytes).ok()?);
        }
        Value::Bytes(bytes) if kind == ColumnType::MYSQL_TYPE_BIT => {
            binary(bytes, &mut literal);
            literal.push_str("+0");
        }
        Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(of) => text(of, &mut literal),
            Err(_) => binary(bytes, &mut literal),
        },
        // Numbers, and dates and times in quotes.
        other => literal.push_str(&other.as_sql(true)),
    }
    Some(literal)
}

/// The condition that a row lies behind one of which these are the values, in the order of some columns. It is written so that a server can
/// begin there in an index.
pub fn behind(order: &[String], after: &[String]) -> Option<String> {
    let (first, least) = (order.first()?, after.first()?);
    let mut equal = String::new();
    let mut ways = Vec::new();
    for (name, value) in order.iter().zip(after) {
        let name = quoted(name);
        ways.push(format!("{equal}{name} > {value}"));
        equal.push_str(&format!("{name} = {value} AND "));
    }
    Some(format!("{} >= {least} AND (({}))", quoted(first), ways.join(") OR (")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_doubled_and_backslashes_left() {
        let of = |value: &[u8]| of_value(&Value::Bytes(value.to_vec()), ColumnType::MYSQL_TYPE_VAR_STRING).unwrap();
        assert_eq!(of(b"O'Hara\\' or 1"), "'O''Hara\\'' or 1'");
        assert_eq!(of(b"\xff\x00"), "x'ff00'");
        assert_eq!(of_value(&Value::Int(-3), ColumnType::MYSQL_TYPE_LONG).unwrap(), "-3");
        let at = Value::Date(2026, 1, 31, 12, 0, 0, 5);
        assert_eq!(of_value(&at, ColumnType::MYSQL_TYPE_DATETIME).unwrap(), "'2026-01-31 12:00:00.000005'");
        assert_eq!(of_value(&Value::NULL, ColumnType::MYSQL_TYPE_LONG), None);
    }
}
