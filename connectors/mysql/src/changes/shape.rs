//! Rows of the binary log, as the map of their table says which columns they have.

use std::io;

use arrow::datatypes::SchemaRef;
use chrono::{DateTime, Datelike as _, Timelike as _};
use millstream_core::{Error, Result, ResultExt as _, known_names};
use mysql_async::Value;
use mysql_async::binlog::events::{OptionalMetaExtractor, OptionalMetadataField, TableMapEvent};
use mysql_async::binlog::value::BinlogValue;
use mysql_async::consts::ColumnType;
use mysql_common::collations::{Collation, CollationId};
use mysql_common::io::ParseBuf;
use serde::Serialize as _;

use super::values::Values;

/// The columns of a table, as a stretch of the log has them.
#[derive(Debug)]
pub struct Shape {
    columns: Vec<Column>,
    /// For each column of the flow, which one it is.
    wanted: Vec<Option<usize>>,
}

/// A column of a table.
#[derive(Debug)]
struct Column {
    kind: ColumnType,
    metadata: Vec<u8>,
    is_unsigned: bool,
    text: Text,
    /// The words of an `ENUM` or a `SET`.
    words: Vec<String>,
    is_wanted: bool,
}

/// How bytes stand for text.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Text {
    /// They don't, or they are UTF-8.
    Plain,
    /// They don't, and those of a `BINARY` column lack zeros at their end.
    Binary,
    Latin1,
    /// In a character set that is not known here.
    Other(String),
}

/// What becomes of a column that is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    Fails,
    IsNull,
}

fn broken(error: impl std::fmt::Display) -> Error {
    Error::new(format!("reading the columns of a table in the binary log: {error}"))
}

impl Shape {
    /// The columns of a table.
    ///
    /// # Errors
    /// If the log does not say their names, or one that the flow declares is not there.
    pub fn new(map: &TableMapEvent<'_>, schema: &SchemaRef, missing: Missing) -> Result<Self> {
        let extractor = OptionalMetaExtractor::new(map.iter_optional_meta()).map_err(broken)?;
        let names = extractor.iter_column_name().map(|name| name.map(|name| name.name().into_owned()));
        let names = names.collect::<io::Result<Vec<String>>>().map_err(broken)?;
        let count = map.columns_count() as usize;
        if names.len() != count {
            return Err(Error::new(format!(
                "the binary log does not say what the columns of `{}` are called; `SET GLOBAL binlog_row_metadata = 'FULL'` is needed before rows \
                 change, and `--reset` of the node for those that have",
                map.table_name()
            )));
        }
        let wanted: Vec<Option<usize>> = schema
            .fields()
            .iter()
            .map(|field| names.iter().position(|name| name.eq_ignore_ascii_case(field.name())))
            .collect();
        if let (Missing::Fails, Some(place)) = (missing, wanted.iter().position(Option::is_none)) {
            let name = schema.field(place).name();
            return Err(Error::new(format!(
                "the table `{}` has no column `{name}` any more; {}. With `on_schema_change = \"ignore\"` it is null",
                map.table_name(),
                known_names(name, names.iter().map(String::as_str))
            )));
        }
        let mut signs = extractor.iter_signedness();
        let mut charsets = extractor.iter_charset();
        let (mut enums, mut sets) = words(map)?;
        let mut columns = Vec::with_capacity(count);
        for index in 0..count {
            let kind = map.get_column_type(index).map_err(broken)?.ok_or_else(|| broken("a column has no type"))?;
            let metadata = map.get_column_metadata(index).unwrap_or_default().to_vec();
            let is_unsigned = kind.is_numeric_type() && signs.next().unwrap_or_default();
            let text = match kind.is_character_type().then(|| charsets.next()).flatten() {
                Some(charset) => Text::of(charset.map_err(broken)?, kind),
                None => Text::Plain,
            };
            let words = match kind {
                ColumnType::MYSQL_TYPE_ENUM => enums.next().unwrap_or_default(),
                ColumnType::MYSQL_TYPE_SET => sets.next().unwrap_or_default(),
                _ => Vec::new(),
            };
            let is_wanted = wanted.contains(&Some(index));
            columns.push(Column { kind, metadata, is_unsigned, text, words, is_wanted });
        }
        Ok(Self { columns, wanted })
    }

    /// Reads a row: the values of the columns that the flow declares, with their types, or why one can't be read.
    pub fn read<'a>(&'a self, data: &mut ParseBuf<'a>) -> Result<Values> {
        let doing = || "reading a row of the binary log";
        let cut = || Error::new("reading a row of the binary log: it is cut off");
        let nulls = data.checked_eat(self.columns.len().div_ceil(8)).ok_or_else(cut)?;
        let mut values: Vec<Option<Result<Value, String>>> = Vec::with_capacity(self.columns.len());
        for (index, column) in self.columns.iter().enumerate() {
            if nulls.get(index / 8).is_some_and(|bits| bits >> (index % 8) & 1 == 1) {
                values.push(Some(Ok(Value::NULL)));
                continue;
            }
            let context = (column.kind, column.metadata.as_slice(), column.is_unsigned, false);
            let value: BinlogValue<'_> = data.parse(context).doing(doing)?;
            values.push(column.is_wanted.then(|| column.value(value)));
        }
        let value = |place: &Option<usize>| match place {
            Some(index) => (values[*index].take().unwrap_or(Ok(Value::NULL)), self.columns[*index].kind),
            None => (Ok(Value::NULL), ColumnType::MYSQL_TYPE_NULL),
        };
        Ok(Values(self.wanted.iter().map(value).collect()))
    }
}

/// The words of each `ENUM`, and of each `SET`.
#[expect(clippy::type_complexity, reason = "two lists of lists")]
fn words(map: &TableMapEvent<'_>) -> Result<(std::vec::IntoIter<Vec<String>>, std::vec::IntoIter<Vec<String>>)> {
    let (mut enums, mut sets) = (Vec::new(), Vec::new());
    for field in map.iter_optional_meta() {
        match field.map_err(broken)? {
            OptionalMetadataField::EnumStrValue(all) => {
                for of in all.iter_values() {
                    let of = of.map_err(broken)?;
                    enums.push(of.values().iter().map(|word| word.value().into_owned()).collect());
                }
            }
            OptionalMetadataField::SetStrValue(all) => {
                for of in all.iter_values() {
                    let of = of.map_err(broken)?;
                    sets.push(of.values().iter().map(|word| word.value().into_owned()).collect());
                }
            }
            _ => {}
        }
    }
    Ok((enums.into_iter(), sets.into_iter()))
}

impl Text {
    fn of(collation: u16, kind: ColumnType) -> Self {
        // Those that MariaDB has added for utf8mb3 and utf8mb4.
        if (2048..2560).contains(&collation) {
            return Self::Plain;
        }
        let collation = Collation::resolve(CollationId::from(collation));
        match collation.charset() {
            "binary" if kind == ColumnType::MYSQL_TYPE_STRING => Self::Binary,
            "binary" | "utf8mb4" | "utf8mb3" | "utf8" | "ascii" => Self::Plain,
            "latin1" => Self::Latin1,
            other => Self::Other(other.to_owned()),
        }
    }
}

impl Column {
    /// A value as a query would give it.
    fn value(&self, value: BinlogValue<'_>) -> Result<Value, String> {
        let value = match value {
            BinlogValue::Value(value) => value,
            BinlogValue::Jsonb(json) => {
                let json =
                    serde_json::Value::try_from(json).map_err(|error| format!("JSON that can't be read: {error}"))?;
                return Ok(Value::Bytes(json_text(&json)));
            }
            BinlogValue::JsonDiff(_) => {
                return Err("a part of JSON, which `binlog_row_value_options` must not allow".to_owned());
            }
        };
        match (self.kind, value) {
            (ColumnType::MYSQL_TYPE_TIMESTAMP2 | ColumnType::MYSQL_TYPE_TIMESTAMP, value) => timestamp(&value),
            (ColumnType::MYSQL_TYPE_ENUM, Value::Int(number)) => {
                // 0 stands for a word that was none.
                let word = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
                Ok(Value::Bytes(word.and_then(|place| self.words.get(place)).cloned().unwrap_or_default().into_bytes()))
            }
            (ColumnType::MYSQL_TYPE_SET, Value::Bytes(bits)) => {
                let is_in = |place: usize| bits.get(place / 8).is_some_and(|byte| byte >> (place % 8) & 1 == 1);
                let words = self.words.iter().enumerate().filter(|(place, _)| is_in(*place));
                Ok(Value::Bytes(words.map(|(_, word)| word.as_str()).collect::<Vec<_>>().join(",").into_bytes()))
            }
            (_, Value::Bytes(bytes)) => self.text(bytes).map(Value::Bytes),
            (_, value) => Ok(value),
        }
    }

    fn text(&self, mut bytes: Vec<u8>) -> Result<Vec<u8>, String> {
        match &self.text {
            Text::Plain => Ok(bytes),
            Text::Binary => {
                let length = match self.metadata.as_slice() {
                    [high, low, ..] => usize::from(*low) | usize::from((high & 0x30) ^ 0x30) << 4,
                    _ => 0,
                };
                bytes.resize(bytes.len().max(length), 0);
                Ok(bytes)
            }
            _ if bytes.is_ascii() => Ok(bytes),
            Text::Latin1 => Ok(bytes.iter().map(|byte| latin1(*byte)).collect::<String>().into_bytes()),
            Text::Other(name) => Err(format!(
                "a text in the character set {name}, which the binary log has as it is stored; `utf8mb4` can be read"
            )),
        }
    }
}

/// A letter of what MySQL calls latin1, which is Windows' code page 1252.
fn latin1(byte: u8) -> char {
    const SPECIAL: [char; 32] = [
        '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}', '‘',
        '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
    ];
    match byte {
        0x80..=0x9f => SPECIAL[usize::from(byte - 0x80)],
        byte => char::from(byte),
    }
}

/// A time that the log has in seconds since 1970.
fn timestamp(value: &Value) -> Result<Value, String> {
    let wrong = || "a time that can't be read".to_owned();
    let (seconds, micros) = match value {
        Value::Int(seconds) => (*seconds, 0),
        Value::Bytes(text) => {
            let text = std::str::from_utf8(text).map_err(|_| wrong())?;
            let (seconds, micros) = text.split_once('.').unwrap_or((text, "0"));
            (seconds.parse().map_err(|_| wrong())?, micros.parse().map_err(|_| wrong())?)
        }
        _ => return Err(wrong()),
    };
    if (seconds, micros) == (0, 0) {
        return Ok(Value::Date(0, 0, 0, 0, 0, 0, 0));
    }
    let at = DateTime::from_timestamp(seconds, 0).ok_or_else(wrong)?;
    let year = u16::try_from(at.year()).map_err(|_| wrong())?;
    let [month, day, hour, minute, second] =
        [at.month(), at.day(), at.hour(), at.minute(), at.second()].map(|part| part as u8);
    Ok(Value::Date(year, month, day, hour, minute, second, micros))
}

/// JSON as a query gives it, with a space behind each comma and colon.
fn json_text(json: &serde_json::Value) -> Vec<u8> {
    struct Spaced;
    impl serde_json::ser::Formatter for Spaced {
        fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
            if first { Ok(()) } else { writer.write_all(b", ") }
        }
        fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
            if first { Ok(()) } else { writer.write_all(b", ") }
        }
        fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
            writer.write_all(b": ")
        }
    }
    let mut text = Vec::new();
    // Writing to memory does not fail.
    let _ = json.serialize(&mut serde_json::Serializer::with_formatter(&mut text, Spaced));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_a_query() {
        let at = |text: &str| timestamp(&Value::Bytes(text.as_bytes().to_vec()));
        assert_eq!(at("1769860800.000005"), Ok(Value::Date(2026, 1, 31, 12, 0, 0, 5)));
        assert_eq!(at("0"), Ok(Value::Date(0, 0, 0, 0, 0, 0, 0)));
        assert!(at("x").is_err());
    }

    #[test]
    fn json_is_spaced_as_a_query_gives_it() {
        let json = serde_json::json!({ "a": [1, { "b": null }], "c": "d,e:f" });
        assert_eq!(String::from_utf8_lossy(&json_text(&json)), r#"{"a": [1, {"b": null}], "c": "d,e:f"}"#);
    }

    #[test]
    fn latin1_is_that_of_windows() {
        assert_eq!([0x41, 0x80, 0xe4].map(latin1), ['A', '€', 'ä']);
    }
}
