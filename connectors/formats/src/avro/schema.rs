//! Schemas of Avro: parsed, with the columns that they stand for and their fingerprint.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Field as ArrowField, Fields, TimeUnit};
use millstream_core::{ColumnType, Columns};
use serde_json::{Map, Value};

/// A schema: the type of what is written, and all types that have names.
#[derive(Clone, Debug)]
pub(crate) struct AvroSchema {
    pub root: Node,
    named: Vec<Named>,
    fingerprint: u64,
}

/// A type.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Array(Box<Node>),
    Map(Box<Node>),
    Union(Vec<Node>),
    /// A type that has a name: its place among them.
    Named(usize),
    /// A type that stands for another kind of value than it has.
    Logical(Logical, Box<Node>),
}

/// What values of a type stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Logical {
    /// With how many digits there are, and how many of them behind the point.
    Decimal(u8, i8),
    Uuid,
    Date,
    Time(TimeUnit),
    Timestamp(TimeUnit),
}

/// A type that has a name.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub name: String,
    pub kind: NamedKind,
}

#[derive(Clone, Debug)]
pub(crate) enum NamedKind {
    Record(Vec<Field>),
    Enum(Arc<[String]>),
    Fixed(usize),
}

/// A field of a record.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub name: String,
    pub aliases: Vec<String>,
    pub node: Node,
    pub default: Option<Value>,
}

/// The column of messages that are no records, such as keys.
pub(super) const VALUE: &str = "value";

impl AvroSchema {
    /// Parses a schema.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        Self::parse_with(&[], text)
    }

    /// Parses a schema that names types of others, which may name each other in any order.
    pub(crate) fn parse_with(others: &[String], text: &str) -> Result<Self, String> {
        let (mut parser, mut left) = (Parser::default(), others.iter().collect::<Vec<_>>());
        while !left.is_empty() {
            let before = left.len();
            left.retain(|other| {
                let mut further = parser.clone();
                let parsed = further.text(other).is_ok();
                if parsed {
                    parser = further;
                }
                !parsed
            });
            if left.len() == before {
                parser.text(left[0])?;
            }
        }
        let root = parser.text(text)?;
        let named = parser.named.into_iter().map(|named| named.ok_or("a type has no end")).collect::<Result<_, _>>()?;
        let mut schema = Self { root, named, fingerprint: 0 };
        schema.fingerprint = rabin(schema.canonical_form().as_bytes());
        Ok(schema)
    }

    /// A type that has a name.
    pub(crate) fn named(&self, index: usize) -> &Named {
        &self.named[index]
    }

    /// By which single objects name their schema: CRC-64-AVRO of the canonical form.
    pub(crate) fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// The fields of the root, if that is a record.
    pub(crate) fn fields(&self) -> Option<&[Field]> {
        self.record(&self.root)
    }

    /// The fields of a type, if that is a record.
    pub(crate) fn record(&self, node: &Node) -> Option<&[Field]> {
        match node {
            Node::Named(index) => match &self.named(*index).kind {
                NamedKind::Record(fields) => Some(fields),
                _ => None,
            },
            _ => None,
        }
    }

    /// The columns that records of the schema have.
    pub(crate) fn columns(&self) -> Columns {
        match self.fields() {
            Some(fields) => {
                let column = |field: &Field| (field.name.clone(), self.column_of(&field.node));
                Columns(fields.iter().map(column).collect())
            }
            None => Columns(vec![(VALUE.to_owned(), self.column(&self.root, &mut Vec::new()))]),
        }
    }

    /// The column for values of a type.
    pub(crate) fn column_of(&self, node: &Node) -> ColumnType {
        let root = match self.root {
            Node::Named(root) => Some(root),
            _ => None,
        };
        self.column(node, &mut Vec::from_iter(root))
    }

    /// The column for values of a type that lies within `open` ones. What contains itself, and what may be of several types, is JSON.
    fn column(&self, node: &Node, open: &mut Vec<usize>) -> ColumnType {
        let of = |data_type| ColumnType::new(data_type, false);
        match node {
            Node::Null => ColumnType::new(DataType::Utf8, true),
            Node::Boolean => of(DataType::Boolean),
            Node::Int => of(DataType::Int32),
            Node::Long => of(DataType::Int64),
            Node::Float => of(DataType::Float32),
            Node::Double => of(DataType::Float64),
            Node::Bytes => of(DataType::Binary),
            Node::String => of(DataType::Utf8),
            Node::Logical(logical, _) => of(logical.data_type()),
            Node::Array(item) => {
                let item = self.column(item, open);
                of(DataType::List(Arc::new(item.field("item"))))
            }
            Node::Map(value) => {
                let value = self.column(value, open);
                let fields = [ArrowField::new("key", DataType::Utf8, false), value.field("value")];
                let entry = ArrowField::new("item", DataType::Struct(Fields::from_iter(fields)), false);
                of(DataType::List(Arc::new(entry)))
            }
            Node::Union(branches) => {
                let nullable = branches.contains(&Node::Null);
                let mut others = branches.iter().filter(|branch| **branch != Node::Null);
                match (others.next(), others.next()) {
                    (None, _) => ColumnType::new(DataType::Utf8, true),
                    (Some(only), None) => {
                        let column = self.column(only, open);
                        ColumnType { nullable: nullable || column.nullable, ..column }
                    }
                    _ => ColumnType { is_json: true, ..ColumnType::new(DataType::Utf8, nullable) },
                }
            }
            Node::Named(index) if open.contains(index) => ColumnType { is_json: true, ..of(DataType::Utf8) },
            Node::Named(index) => match &self.named(*index).kind {
                NamedKind::Enum(_) => of(DataType::Utf8),
                NamedKind::Fixed(_) => of(DataType::Binary),
                NamedKind::Record(fields) => {
                    open.push(*index);
                    let fields = fields.iter().map(|field| self.column(&field.node, open).field(&field.name));
                    let fields = fields.collect::<Fields>();
                    open.pop();
                    of(DataType::Struct(fields))
                }
            },
        }
    }

    /// The schema without what readers don't need, in the one way to write it.
    pub(crate) fn canonical_form(&self) -> String {
        let mut out = String::new();
        self.write_canonical(&self.root, &mut vec![false; self.named.len()], &mut out);
        out
    }

    fn write_canonical(&self, node: &Node, written: &mut [bool], out: &mut String) {
        let quoted = |text: &str| Value::from(text).to_string();
        match node {
            Node::Null => *out += "\"null\"",
            Node::Boolean => *out += "\"boolean\"",
            Node::Int => *out += "\"int\"",
            Node::Long => *out += "\"long\"",
            Node::Float => *out += "\"float\"",
            Node::Double => *out += "\"double\"",
            Node::Bytes => *out += "\"bytes\"",
            Node::String => *out += "\"string\"",
            Node::Logical(_, node) => self.write_canonical(node, written, out),
            Node::Array(item) => {
                *out += r#"{"type":"array","items":"#;
                self.write_canonical(item, written, out);
                *out += "}";
            }
            Node::Map(value) => {
                *out += r#"{"type":"map","values":"#;
                self.write_canonical(value, written, out);
                *out += "}";
            }
            Node::Union(branches) => {
                for (index, branch) in branches.iter().enumerate() {
                    *out += if index == 0 { "[" } else { "," };
                    self.write_canonical(branch, written, out);
                }
                *out += if branches.is_empty() { "[]" } else { "]" };
            }
            Node::Named(index) => {
                let Named { name, kind } = self.named(*index);
                if std::mem::replace(&mut written[*index], true) {
                    *out += &quoted(name);
                    return;
                }
                *out += &format!(r#"{{"name":{},"type":"#, quoted(name));
                match kind {
                    NamedKind::Fixed(size) => *out += &format!(r#""fixed","size":{size}}}"#),
                    NamedKind::Enum(symbols) => {
                        let symbols: Vec<_> = symbols.iter().map(|symbol| quoted(symbol)).collect();
                        *out += &format!(r#""enum","symbols":[{}]}}"#, symbols.join(","));
                    }
                    NamedKind::Record(fields) => {
                        *out += r#""record","fields":["#;
                        for (index, field) in fields.iter().enumerate() {
                            let comma = if index > 0 { "," } else { "" };
                            *out += &format!(r#"{comma}{{"name":{},"type":"#, quoted(&field.name));
                            self.write_canonical(&field.node, written, out);
                            *out += "}";
                        }
                        *out += "]}";
                    }
                }
            }
        }
    }

    /// What a type is called in messages.
    pub(crate) fn name(&self, node: &Node) -> String {
        match node {
            Node::Null => "null".to_owned(),
            Node::Boolean => "boolean".to_owned(),
            Node::Int => "int".to_owned(),
            Node::Long => "long".to_owned(),
            Node::Float => "float".to_owned(),
            Node::Double => "double".to_owned(),
            Node::Bytes => "bytes".to_owned(),
            Node::String => "string".to_owned(),
            Node::Array(item) => format!("array of {}", self.name(item)),
            Node::Map(value) => format!("map of {}", self.name(value)),
            Node::Union(branches) => {
                let names: Vec<_> = branches.iter().map(|branch| self.name(branch)).collect();
                format!("union of {}", names.join(", "))
            }
            Node::Named(index) => {
                let Named { name, kind } = self.named(*index);
                let kind = match kind {
                    NamedKind::Record(_) => "record",
                    NamedKind::Enum(_) => "enum",
                    NamedKind::Fixed(_) => "fixed",
                };
                format!("{kind} {name}")
            }
            Node::Logical(logical, node) => format!("{} ({})", self.name(node), logical.name()),
        }
    }
}

impl Logical {
    fn data_type(self) -> DataType {
        match self {
            Self::Decimal(precision, scale) => DataType::Decimal128(precision, scale),
            Self::Uuid => DataType::Utf8,
            Self::Date => DataType::Date32,
            Self::Time(_) => DataType::Time64(TimeUnit::Microsecond),
            Self::Timestamp(_) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Decimal(..) => "decimal",
            Self::Uuid => "uuid",
            Self::Date => "date",
            Self::Time(_) => "time",
            Self::Timestamp(_) => "timestamp",
        }
    }

    /// What a table of the schema says beside its type. None, as Avro asks, where it makes no sense.
    fn of(table: &Map<String, Value>, node: &Node, fixed: Option<usize>) -> Option<Self> {
        let number = |key: &str| table.get(key).and_then(Value::as_u64);
        let unit = |name: &str| match name.rsplit_once('-')?.1 {
            "millis" => Some(TimeUnit::Millisecond),
            "micros" => Some(TimeUnit::Microsecond),
            "nanos" => Some(TimeUnit::Nanosecond),
            _ => None,
        };
        let name = table.get("logicalType")?.as_str()?;
        match (name, node) {
            ("decimal", Node::Bytes | Node::Named(_)) if *node == Node::Bytes || fixed.is_some() => {
                let precision = u8::try_from(number("precision")?).ok()?;
                let scale = i8::try_from(number("scale").unwrap_or(0)).ok()?;
                let is_known = (1..=DECIMAL128_MAX_PRECISION).contains(&precision) && scale as u8 <= precision;
                is_known.then_some(Self::Decimal(precision, scale))
            }
            ("uuid", Node::String) => Some(Self::Uuid),
            ("uuid", Node::Named(_)) if fixed == Some(16) => Some(Self::Uuid),
            ("date", Node::Int) => Some(Self::Date),
            ("time-millis", Node::Int) | ("time-micros", Node::Long) => Some(Self::Time(unit(name)?)),
            (
                "timestamp-millis"
                | "timestamp-micros"
                | "timestamp-nanos"
                | "local-timestamp-millis"
                | "local-timestamp-micros"
                | "local-timestamp-nanos",
                Node::Long,
            ) => Some(Self::Timestamp(unit(name)?)),
            _ => None,
        }
    }
}

/// Reads schemas that are written as JSON.
#[derive(Clone, Default)]
struct Parser {
    /// None while a type is being read.
    named: Vec<Option<Named>>,
    places: HashMap<String, usize>,
}

impl Parser {
    fn text(&mut self, text: &str) -> Result<Node, String> {
        let value = serde_json::from_str(text).map_err(|error| format!("it is no JSON: {error}"))?;
        self.node(&value, "")
    }

    fn node(&mut self, value: &Value, namespace: &str) -> Result<Node, String> {
        match value {
            Value::String(name) => self.reference(name, namespace),
            Value::Array(branches) => {
                let branches = branches.iter().map(|branch| self.node(branch, namespace));
                Ok(Node::Union(branches.collect::<Result<_, _>>()?))
            }
            Value::Object(table) => self.table(table, namespace),
            other => Err(format!("`{other}` is no type")),
        }
    }

    fn reference(&self, name: &str, namespace: &str) -> Result<Node, String> {
        Ok(match name {
            "null" => Node::Null,
            "boolean" => Node::Boolean,
            "int" => Node::Int,
            "long" => Node::Long,
            "float" => Node::Float,
            "double" => Node::Double,
            "bytes" => Node::Bytes,
            "string" => Node::String,
            name => {
                let place = self.places.get(&full_name(name, namespace)).or_else(|| self.places.get(name));
                Node::Named(*place.ok_or_else(|| format!("there is no type `{name}`"))?)
            }
        })
    }

    fn table(&mut self, table: &Map<String, Value>, namespace: &str) -> Result<Node, String> {
        let kind = table.get("type").ok_or("a type has no `type`")?;
        let Value::String(kind) = kind else { return self.node(kind, namespace) };
        let part = |key: &str| table.get(key).ok_or_else(|| format!("`{kind}` has no `{key}`"));
        let node = match kind.as_str() {
            "array" => Node::Array(Box::new(self.node(part("items")?, namespace)?)),
            "map" => Node::Map(Box::new(self.node(part("values")?, namespace)?)),
            "record" | "error" | "enum" | "fixed" => self.definition(kind, table, namespace)?,
            name => self.reference(name, namespace)?,
        };
        let fixed = match node {
            Node::Named(index) => match self.named.get(index) {
                Some(Some(Named { kind: NamedKind::Fixed(size), .. })) => Some(*size),
                _ => None,
            },
            _ => None,
        };
        Ok(match Logical::of(table, &node, fixed) {
            Some(logical) => Node::Logical(logical, Box::new(node)),
            None => node,
        })
    }

    fn definition(&mut self, kind: &str, table: &Map<String, Value>, namespace: &str) -> Result<Node, String> {
        let text = |key: &str| table.get(key).and_then(Value::as_str);
        let name = text("name").ok_or_else(|| format!("a type `{kind}` has no `name`"))?;
        let namespace = text("namespace").unwrap_or(namespace);
        let name = full_name(name, namespace);
        let namespace = name.rsplit_once('.').map_or("", |(namespace, _)| namespace).to_owned();
        let place = self.named.len();
        if self.places.insert(name.clone(), place).is_some() {
            return Err(format!("there are two types `{name}`"));
        }
        self.named.push(None);
        let list =
            |key: &str| table.get(key).and_then(Value::as_array).ok_or_else(|| format!("`{name}` has no list `{key}`"));
        let kind = match kind {
            "enum" => {
                let symbol = |symbol: &Value| symbol.as_str().map(str::to_owned).ok_or("a symbol is no text");
                NamedKind::Enum(list("symbols")?.iter().map(symbol).collect::<Result<_, _>>()?)
            }
            "fixed" => {
                let size = table.get("size").and_then(Value::as_u64).and_then(|size| usize::try_from(size).ok());
                NamedKind::Fixed(size.ok_or_else(|| format!("`{name}` has no `size`"))?)
            }
            _ => {
                let fields = list("fields")?.iter().map(|field| self.field(field, &namespace));
                NamedKind::Record(fields.collect::<Result<_, _>>()?)
            }
        };
        if let NamedKind::Record(fields) = &kind {
            let names: Vec<_> = fields.iter().map(|field| field.name.clone()).collect();
            if let Some(twice) = crate::columns::repeated(&names) {
                return Err(format!("`{name}` has two fields `{twice}`"));
            }
        }
        self.named[place] = Some(Named { name, kind });
        Ok(Node::Named(place))
    }

    fn field(&mut self, field: &Value, namespace: &str) -> Result<Field, String> {
        let name = field.get("name").and_then(Value::as_str).ok_or("a field has no `name`")?;
        let node = field.get("type").ok_or_else(|| format!("field `{name}` has no `type`"))?;
        let node = self.node(node, namespace).map_err(|error| format!("field `{name}`: {error}"))?;
        let aliases = field.get("aliases").and_then(Value::as_array);
        let aliases = aliases.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
        Ok(Field { name: name.to_owned(), aliases, node, default: field.get("default").cloned() })
    }
}

fn full_name(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") }
}

/// CRC-64-AVRO.
fn rabin(bytes: &[u8]) -> u64 {
    const EMPTY: u64 = 0xc15d_213a_a4d7_a795;
    bytes.iter().fold(EMPTY, |print, byte| {
        let mut low = (print ^ u64::from(*byte)) & 0xff;
        for _ in 0..8 {
            low = (low >> 1) ^ (EMPTY & (low & 1).wrapping_neg());
        }
        (print >> 8) ^ low
    })
}
