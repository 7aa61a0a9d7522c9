//! The types of columns that nobody declared, from a sample of their values.

use arrow::datatypes::{DataType, Field, Fields, Float64Type};
use indexmap::IndexMap;
use millstream_core::{ColumnType, Columns};

use crate::json::{Scalar, Scanner};
use crate::refusal::{Read, Refusal};
use crate::text::{Moments, boolean, float, is_timestamp};

/// How deep inferred types are nested.
const MAX_INFERRED_DEPTH: usize = 128;

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
            _ if begins_as_number && float::<Float64Type>(text).is_some() => Self::of_number(text),
            "NaN" | "nan" | "inf" | "-inf" => Self::Float,
            _ if boolean(text).is_some() => Self::Boolean,
            _ if is_timestamp(text, moments) => Self::Timestamp,
            _ => Self::Text,
        }
    }

    /// What a JSON document looks like; an error if the reader would reject it whatever the types are.
    pub(crate) fn of_json(text: &str, moments: &Moments) -> Read<Self> {
        let mut unescaped = String::new();
        let mut json = Scanner::new(text, &mut unescaped);
        let kind = Self::read(&mut json, moments)?;
        json.end()?;
        Ok(kind)
    }

    fn read(json: &mut Scanner, moments: &Moments) -> Read<Self> {
        match json.peek() {
            // Where types are nested deeper, no other program could read them.
            b'{' | b'[' if json.depth() == MAX_INFERRED_DEPTH => Err(json.unexpected("less depth")),
            b'{' => Self::read_object(json, moments),
            b'[' => {
                let mut item = Self::Nothing;
                let mut has_more = json.open(b']')?;
                while has_more {
                    item = item.and(Self::read(json, moments)?);
                    has_more = json.another(b']')?;
                }
                Ok(Self::List(Box::new(item)))
            }
            _ => Ok(Self::of_scalar(&json.scalar()?, moments)),
        }
    }

    fn read_object(json: &mut Scanner, moments: &Moments) -> Read<Self> {
        let mut fields = IndexMap::new();
        let mut has_more = json.open(b'}')?;
        while has_more {
            let key = json.key()?.1.to_owned();
            json.colon()?;
            if fields.insert(key, Self::read(json, moments)?).is_some() {
                return Err(Refusal::malformed("a key is there twice"));
            }
            has_more = json.another(b'}')?;
        }
        Ok(Self::Struct(fields))
    }

    fn of_scalar(value: &Scalar, moments: &Moments) -> Self {
        match value {
            Scalar::Null => Self::Nothing,
            Scalar::Boolean(_) => Self::Boolean,
            Scalar::Number(number) => Self::of_number(number.text),
            Scalar::Text(text) if is_timestamp(text, moments) => Self::Timestamp,
            Scalar::Text(_) => Self::Text,
        }
    }

    /// A number of which no digit may be lost: one that is too large is a text.
    fn of_number(text: &str) -> Self {
        match text {
            _ if text.parse::<i64>().is_ok() => Self::Integer,
            _ if is_whole_number(text) || float::<Float64Type>(text).is_none() => Self::Text,
            _ => Self::Float,
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
    let column = |(name, kind): (String, Inferred)| (name, ColumnType::new(kind.data_type(), true));
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
        let timezone = Some(crate::text::parse_timezone("Europe/Berlin").expect("a time zone"));
        let berlin = Moments { timezone, ..Moments::default() };
        assert_eq!(Inferred::of_text("2026-01-31T12:00:00", &berlin), Inferred::Timestamp);
    }

    #[test]
    fn json_values_keep_the_order_of_their_fields() {
        let rows = [r#"{"b": [1, 2.5], "a": null}"#, r#"{"a": {"y": 1}, "c": [], "b": null}"#, r#"{"a": {"x": "t"}}"#];
        let kinds = rows.iter().map(|row| Inferred::of_json(row, &Moments::default()).expect(row));
        let kind = kinds.fold(Inferred::Nothing, Inferred::and);
        let expected = "{ b = list<float64?>?, a = { y = int64?, x = utf8? }?, c = list<utf8?>? }";
        assert_eq!(type_name(&kind.data_type()), expected);
    }

    #[test]
    fn numbers_that_would_lose_digits_are_texts() {
        let kind = |text: &str| type_name(&Inferred::of_number(text).data_type()).into_owned();
        let numbers = [
            "1",
            "-9223372036854775808",
            "9223372036854775808",
            "123456789012345678901234567890",
            "1.0",
            "1e9",
            "1e999",
        ];
        assert_eq!(numbers.map(kind), ["int64", "int64", "utf8", "utf8", "float64", "float64", "utf8"]);
        assert_eq!(of_texts(&["1e999"]), "utf8");
        assert_eq!(of_texts(&["-1e400", "1.5"]), "utf8");
    }

    #[test]
    fn documents_that_are_refused_say_nothing() {
        for text in [r#"{"a": 05}"#, r#"{"a": 1, "a": 2}"#, r#"{"a": 1,}"#, r#"{"a": 1} x"#, &"[".repeat(100_000)] {
            assert!(Inferred::of_json(text, &Moments::default()).is_err(), "{text}");
        }
    }
}
