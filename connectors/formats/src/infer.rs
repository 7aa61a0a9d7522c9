//! The types of columns that nobody declared, from a sample of their values.

use arrow::compute::kernels::cast_utils::Parser;
use arrow::datatypes::{DataType, Field, Fields, Float64Type};
use indexmap::IndexMap;
use millstream_core::{ColumnType, Columns};
use serde_json::Value;

use crate::text::{Moments, boolean, is_timestamp};

/// What the values of a column have in common so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Inferred {
    /// Only nulls.
    #[default]
    Nothing,
    Boolean,
    Integer,
    Float,
    Timestamp,
    Text,
    List(Box<Self>),
    /// Fields in the order in which they appeared.
    Struct(IndexMap<String, Self>),
}

impl Inferred {
    /// What a CSV cell looks like.
    pub(crate) fn of_text(text: &str, moments: &Moments) -> Self {
        let begins_as_number = text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.'));
        match text {
            _ if is_identifier(text) => Self::Text,
            _ if text.parse::<i64>().is_ok() => Self::Integer,
            _ if is_whole_number(text) => Self::Text,
            _ if begins_as_number && Float64Type::parse(text).is_some() => Self::Float,
            "NaN" | "nan" | "inf" | "-inf" => Self::Float,
            _ if boolean(text).is_some() => Self::Boolean,
            _ if is_timestamp(text, moments) => Self::Timestamp,
            _ => Self::Text,
        }
    }

    /// What a JSON value looks like.
    pub(crate) fn of_json(value: &Value, moments: &Moments) -> Self {
        match value {
            Value::Null => Self::Nothing,
            Value::Bool(_) => Self::Boolean,
            Value::Number(number) if number.is_i64() => Self::Integer,
            Value::Number(number) if number.is_u64() => Self::Text,
            Value::Number(_) => Self::Float,
            Value::String(text) if is_timestamp(text, moments) => Self::Timestamp,
            Value::String(_) => Self::Text,
            Value::Array(items) => {
                let items = items.iter().map(|item| Self::of_json(item, moments));
                Self::List(Box::new(items.fold(Self::Nothing, Self::and)))
            }
            Value::Object(fields) => {
                let fields = fields.iter().map(|(name, value)| (name.clone(), Self::of_json(value, moments)));
                Self::Struct(fields.collect())
            }
        }
    }

    /// What takes both kinds of values; in the worst case it is text.
    pub(crate) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nothing, other) | (other, Self::Nothing) => other,
            (Self::Integer, Self::Float) | (Self::Float, Self::Integer) => Self::Float,
            (Self::List(one), Self::List(two)) => Self::List(Box::new(one.and(*two))),
            (Self::Struct(one), Self::Struct(two)) => Self::Struct(merge(one, two)),
            (one, two) if one == two => one,
            _ => Self::Text,
        }
    }

    fn data_type(self) -> DataType {
        match self {
            Self::Nothing | Self::Text => DataType::Utf8,
            Self::Boolean => DataType::Boolean,
            Self::Integer => DataType::Int64,
            Self::Float => DataType::Float64,
            Self::Timestamp => ColumnType::parse("timestamp").map_or(DataType::Utf8, |timestamp| timestamp.data_type),
            Self::List(item) => DataType::new_list(item.data_type(), true),
            Self::Struct(fields) => {
                let fields = fields.into_iter().map(|(name, field)| Field::new(name, field.data_type(), true));
                DataType::Struct(fields.collect::<Fields>())
            }
        }
    }
}

/// A number that would lose something if it were read as one: a zero in front, as of post codes, or the sign of a phone number.
fn is_identifier(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text).as_bytes();
    matches!(digits, [b'+', ..] | [b'0', b'0'..=b'9', ..])
}

/// Digits that are too many for an integer, and would lose some as a float.
fn is_whole_number(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

fn merge(mut one: IndexMap<String, Inferred>, two: IndexMap<String, Inferred>) -> IndexMap<String, Inferred> {
    for (name, kind) in two {
        let known = one.entry(name).or_default();
        *known = std::mem::take(known).and(kind);
    }
    one
}

/// Inferred columns may always be missing.
pub(crate) fn columns(inferred: impl IntoIterator<Item = (String, Inferred)>) -> Columns {
    let column = |(name, kind): (String, Inferred)| {
        (name, ColumnType { data_type: kind.data_type(), nullable: true, unit: None })
    };
    Columns(inferred.into_iter().map(column).collect())
}

#[cfg(test)]
mod tests {
    use millstream_core::type_name;

    use super::*;

    fn of_texts(cells: &[&str]) -> String {
        let kinds = cells.iter().map(|cell| Inferred::of_text(cell, &Moments::default()));
        type_name(&kinds.fold(Inferred::Nothing, Inferred::and).data_type()).into_owned()
    }

    #[test]
    fn text_that_looks_like_something() {
        assert_eq!(of_texts(&["1", "-2"]), "int64");
        assert_eq!(of_texts(&["1", "2.5"]), "float64");
        assert_eq!(of_texts(&["1e3", "NaN", ".5"]), "float64");
        assert_eq!(of_texts(&["true", "False"]), "boolean");
        assert_eq!(of_texts(&["true", "1"]), "utf8");
        assert_eq!(of_texts(&["99999999999999999999"]), "utf8");
        assert_eq!(of_texts(&["01234", "56789"]), "utf8");
        assert_eq!(of_texts(&["+4917612345678"]), "utf8");
        assert_eq!(of_texts(&["0", "-0.5", "0.25"]), "float64");
        assert_eq!(of_texts(&["-05"]), "utf8");
        assert_eq!(of_texts(&["2026-01-31T12:00:00Z", "2026-01-31 12:00:00.5+01:00"]), "timestamp");
        assert_eq!(of_texts(&["2026-01-31T12:00:00"]), "utf8");
        assert_eq!(of_texts(&["2026-01-31"]), "utf8");
        assert_eq!(of_texts(&["Nan", "Inf"]), "utf8");
        assert_eq!(of_texts(&[]), "utf8");
        let timezone = Some(crate::parse_timezone("Europe/Berlin").expect("a time zone"));
        let berlin = Moments { timezone, ..Moments::default() };
        assert_eq!(Inferred::of_text("2026-01-31T12:00:00", &berlin), Inferred::Timestamp);
    }

    #[test]
    fn json_values_keep_the_order_of_their_fields() {
        let rows = [r#"{"b": [1, 2.5], "a": null}"#, r#"{"a": {"y": 1}, "c": [], "b": null}"#, r#"{"a": {"x": "t"}}"#];
        let kinds =
            rows.iter().map(|row| Inferred::of_json(&serde_json::from_str(row).expect(row), &Moments::default()));
        let kind = kinds.fold(Inferred::Nothing, Inferred::and);
        let expected = "{ b = list<float64?>?, a = { y = int64?, x = utf8? }?, c = list<utf8?>? }";
        assert_eq!(type_name(&kind.data_type()), expected);
    }
}
