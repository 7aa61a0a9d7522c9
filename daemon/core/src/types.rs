//! The type language of flow files: `float64?`, `timestamp(ms)`, `list<utf8>`, `{ a = int64, b = utf8? }`.

mod names;

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::str::FromStr;
use std::sync::Arc;

use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use schemars::{JsonSchema, Schema as JsonSchemaValue, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use names::unknown_type;

/// The time zone of canonical timestamps.
pub(crate) const UTC: &str = "UTC";

/// The type of a column as a flow file declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnType {
    /// The canonical type.
    pub data_type: DataType,
    /// Whether the value may be missing.
    pub nullable: bool,
    /// The unit in which integers stand for timestamps: `timestamp(ms)`.
    pub unit: Option<TimeUnit>,
    /// Whether texts are JSON, in which any value is kept as it is written: `json`.
    pub is_json: bool,
}

/// Declared columns, in order: `schema = { id = "utf8", amount = "float64?" }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns(pub Vec<(String, ColumnType)>);

impl Columns {
    /// The columns as an Arrow schema.
    pub fn schema(&self) -> SchemaRef {
        let fields = self.0.iter().map(|(name, column)| column.field(name)).collect::<Vec<_>>();
        Arc::new(Schema::new(fields))
    }
}

impl ColumnType {
    /// A column of an Arrow type.
    pub fn new(data_type: DataType, nullable: bool) -> Self {
        Self { data_type, nullable, unit: None, is_json: false }
    }

    /// A column of this type.
    pub fn field(&self, name: &str) -> Field {
        Field::new(name, self.data_type.clone(), self.nullable)
    }

    /// Reads a type; the error says what was wrong and what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parser = Parser { rest: text.trim() };
        let column = parser.column()?;
        match parser.rest.trim_start() {
            "" => Ok(column),
            rest => Err(format!("unexpected `{rest}` after the type")),
        }
    }
}

impl FromStr for ColumnType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text)
    }
}

impl fmt::Display for ColumnType {
    /// As a flow file declares it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.unit {
            _ if self.is_json => f.write_str(JSON)?,
            None => f.write_str(&type_name(&self.data_type))?,
            Some(TimeUnit::Second) => f.write_str("timestamp(s)")?,
            Some(TimeUnit::Millisecond) => f.write_str("timestamp(ms)")?,
            Some(TimeUnit::Microsecond) => f.write_str("timestamp(us)")?,
            Some(TimeUnit::Nanosecond) => f.write_str("timestamp(ns)")?,
        }
        f.write_str(if self.nullable { "?" } else { "" })
    }
}

/// The name of a type in the type language. Types that it has no word for get Arrow's.
pub fn type_name(data_type: &DataType) -> Cow<'static, str> {
    let simple = SIMPLE.iter().find(|(_, known)| known == data_type);
    if let Some((name, _)) = simple {
        return Cow::Borrowed(name);
    }
    let composed = match data_type {
        DataType::Decimal128(precision, scale) => format!("decimal({precision},{scale})"),
        DataType::Timestamp(TimeUnit::Microsecond, _) => "timestamp".to_owned(),
        DataType::List(item) => format!("list<{}>", field_type_name(item)),
        DataType::Struct(fields) => {
            let mut text = String::from("{ ");
            for (index, field) in fields.iter().enumerate() {
                let comma = if index > 0 { ", " } else { "" };
                let _ = write!(text, "{comma}{} = {}", field.name(), field_type_name(field));
            }
            text + " }"
        }
        other => other.to_string(),
    };
    Cow::Owned(composed)
}

/// The name of a type with its article, as in "`x` is not an `int64`".
pub fn with_article(type_name: &str) -> String {
    let article = if type_name.starts_with("int") { "an" } else { "a" };
    format!("{article} `{type_name}`")
}

fn field_type_name(field: &Field) -> String {
    let question = if field.is_nullable() { "?" } else { "" };
    format!("{}{question}", type_name(field.data_type()))
}

const JSON: &str = "json";

const SIMPLE: &[(&str, DataType)] = &[
    ("boolean", DataType::Boolean),
    ("int8", DataType::Int8),
    ("int16", DataType::Int16),
    ("int32", DataType::Int32),
    ("int64", DataType::Int64),
    ("uint8", DataType::UInt8),
    ("uint16", DataType::UInt16),
    ("uint32", DataType::UInt32),
    ("uint64", DataType::UInt64),
    ("float32", DataType::Float32),
    ("float64", DataType::Float64),
    ("utf8", DataType::Utf8),
    ("binary", DataType::Binary),
    ("date", DataType::Date32),
    ("time", DataType::Time64(TimeUnit::Microsecond)),
];

/// The canonical timestamp: microseconds, UTC.
pub fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into()))
}

/// Reads types from the left; `rest` is what is still unread.
struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    fn column(&mut self) -> Result<ColumnType, String> {
        self.space();
        let column = if self.take("{") { ColumnType::new(self.structure()?, false) } else { self.named()? };
        Ok(ColumnType { nullable: self.take("?"), ..column })
    }

    fn named(&mut self) -> Result<ColumnType, String> {
        let word = self.word();
        let is_json = word == JSON;
        let (data_type, unit) = match word.as_str() {
            JSON => (DataType::Utf8, None),
            "timestamp" => (timestamp(), self.unit()?),
            "decimal" => (self.decimal()?, None),
            "list" => (self.list()?, None),
            word => match SIMPLE.iter().find(|(name, _)| *name == word) {
                Some((_, data_type)) => (data_type.clone(), None),
                None => return Err(unknown_type(word)),
            },
        };
        Ok(ColumnType { data_type, nullable: false, unit, is_json })
    }

    fn unit(&mut self) -> Result<Option<TimeUnit>, String> {
        if !self.take("(") {
            return Ok(None);
        }
        let unit = match self.word().as_str() {
            "s" => TimeUnit::Second,
            "ms" => TimeUnit::Millisecond,
            "us" => TimeUnit::Microsecond,
            "ns" => TimeUnit::Nanosecond,
            other => return Err(format!("`{other}` is not a unit of time; there are `s`, `ms`, `us`, `ns`")),
        };
        self.expect(")")?;
        Ok(Some(unit))
    }

    fn decimal(&mut self) -> Result<DataType, String> {
        if !self.take("(") {
            let advice = "say how many digits there are, and how many of them behind the point: `decimal(12,2)`";
            return Err(format!("`decimal` needs a size; {advice}"));
        }
        let precision: u8 = self.number()?;
        self.expect(",")?;
        let scale: i8 = self.number()?;
        self.expect(")")?;
        let widest = DECIMAL128_MAX_PRECISION;
        if precision == 0 || precision > widest || scale < 0 || scale as u8 > precision {
            return Err(format!(
                "`decimal({precision},{scale})` must have 1 to {widest} digits, of which 0 to {precision} behind the point"
            ));
        }
        Ok(DataType::Decimal128(precision, scale))
    }

    fn list(&mut self) -> Result<DataType, String> {
        if !self.take("<") {
            return Err("`list` needs the type of its items: `list<utf8>`".to_owned());
        }
        let item = self.inner("item")?;
        self.expect(">")?;
        Ok(DataType::List(Arc::new(item)))
    }

    fn structure(&mut self) -> Result<DataType, String> {
        let mut fields = Vec::new();
        loop {
            self.space();
            if self.take("}") {
                return Ok(DataType::Struct(Fields::from(fields)));
            }
            let name = self.word();
            if name.is_empty() {
                return Err("expected a field's name or `}`".to_owned());
            }
            self.expect("=")?;
            fields.push(self.inner(&name)?);
            if !self.take(",") {
                self.expect("}")?;
                return Ok(DataType::Struct(Fields::from(fields)));
            }
        }
    }

    /// A column inside of another type.
    fn inner(&mut self, name: &str) -> Result<Field, String> {
        let column = self.column()?;
        match column {
            ColumnType { unit: Some(_), .. } => Err(
                "a timestamp inside of a list or struct can't be an integer: declare it as `int64`, and convert it \
                            with `sql`"
                    .to_owned(),
            ),
            ColumnType { is_json: true, .. } => {
                Err("`json` can't be inside of a list or struct: declare the whole column as `json`".to_owned())
            }
            column => Ok(column.field(name)),
        }
    }

    fn word(&mut self) -> String {
        self.space();
        let end = self.rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word.to_owned()
    }

    fn number<T: std::str::FromStr>(&mut self) -> Result<T, String> {
        let word = self.word();
        word.parse().map_err(|_| format!("expected a number instead of `{word}`"))
    }

    fn space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, token: &str) -> bool {
        self.space();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, token: &str) -> Result<(), String> {
        if self.take(token) {
            return Ok(());
        }
        if self.rest.is_empty() {
            Err(format!("expected `{token}` at the end"))
        } else {
            Err(format!("expected `{token}` before `{}`", self.rest))
        }
    }
}

impl<'de> Deserialize<'de> for ColumnType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

impl JsonSchema for ColumnType {
    fn schema_name() -> Cow<'static, str> {
        "ColumnType".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> JsonSchemaValue {
        json_schema!({
            "type": "string",
            "description": "A type: boolean, int8 to int64, uint8 to uint64, float32, float64, decimal(p,s), utf8, \
                json, binary, date, time, timestamp, list<T>, { name = T }; `?` behind it allows null.",
            "examples": ["float64?"],
        })
    }
}

impl<'de> Deserialize<'de> for Columns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Columns;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a table of column names and types")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Columns, A::Error> {
                let mut columns = Vec::new();
                while let Some(column) = map.next_entry()? {
                    columns.push(column);
                }
                Ok(Columns(columns))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

impl JsonSchema for Columns {
    fn schema_name() -> Cow<'static, str> {
        "Columns".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> JsonSchemaValue {
        let column = generator.subschema_for::<ColumnType>();
        json_schema!({ "type": "object", "additionalProperties": column })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(text: &str) -> String {
        ColumnType::parse(text).expect(text).to_string()
    }

    #[test]
    fn every_type_reads_back_as_it_was_written() {
        for text in [
            "boolean",
            "int8?",
            "uint64",
            "float32",
            "float64?",
            "decimal(10,2)",
            "utf8",
            "binary?",
            "date",
            "time",
            "timestamp?",
            "timestamp(ms)?",
            "json?",
            "list<utf8?>",
            "{ a = int64, b = list<{ c = date }>? }?",
        ] {
            assert_eq!(round_trip(text), text);
        }
    }

    #[test]
    fn timestamps_may_name_the_unit_of_integers() {
        let column = ColumnType::parse("timestamp(ms)?").expect("a type");
        assert_eq!(column.unit, Some(TimeUnit::Millisecond));
        assert!(column.nullable);
    }

    #[test]
    fn json_is_a_text() {
        let column = ColumnType::parse("json?").expect("a type");
        assert!(column.is_json && column.nullable && !ColumnType::parse("utf8").expect("a type").is_json);
        assert_eq!(column.data_type, DataType::Utf8);
    }

    #[test]
    fn errors_say_what_would_be_right() {
        let error = |text| ColumnType::parse(text).expect_err(text);
        assert_eq!(error("flaot64"), "there is no type `flaot64`; did you mean `float64`?");
        assert_eq!(error("timestamp(min)"), "`min` is not a unit of time; there are `s`, `ms`, `us`, `ns`");
        assert_eq!(error("list<utf8"), "expected `>` at the end");
        assert_eq!(error("list"), "`list` needs the type of its items: `list<utf8>`");
        assert!(error("decimal").ends_with("how many of them behind the point: `decimal(12,2)`"));
        assert_eq!(error("String"), "there is no type `String`; it is called `utf8` here");
        assert_eq!(error("list<datetime>"), "there is no type `datetime`; it is called `timestamp` here");
        assert!(error("list<json>").starts_with("`json` can't be inside of a list"));
        assert_eq!(error("int64 x"), "unexpected `x` after the type");
        assert!(error("decimal(50,2)").contains("1 to 38 digits"));
        assert!(error("list<timestamp(s)>").starts_with("a timestamp inside of a list"));
        assert!(error("{ at = timestamp(ms)? }").starts_with("a timestamp inside of a list"));
        assert_eq!(error("{ = int64 }"), "expected a field's name or `}`");
    }
}
