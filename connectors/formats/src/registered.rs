//! Messages that name their schemas, which a registry has: the framing of Confluent's serializers.
//!
//! A message begins with a 0 and the number of its schema; or a header has the number, or its unique id. Messages that are written begin
//! so; what the registry is told of them before is a [`WrittenSchema`].

use std::fmt;

use millstream_core::{ColumnType, Columns, Error, Result};
use serde::{Deserialize, Serialize};

use crate::SchemaChanges;

/// By which a message names its schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum SchemaId {
    /// The number of the schema in its registry.
    Number(u32),
    /// The id of the schema, which is unique among all registries.
    Guid([u8; 16]),
}

impl fmt::Display for SchemaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Guid(guid) => {
                let mut text = Vec::new();
                crate::records::uuid_text(guid, &mut text);
                f.write_str(&String::from_utf8_lossy(&text))
            }
        }
    }
}

/// A schema of a registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisteredSchema {
    /// The text of the schema.
    pub schema: String,
    /// The texts of the schemas that it names, and of those that these name.
    pub references: Vec<String>,
}

/// What kind of schema a registry is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemaKind {
    /// One of Avro.
    Avro,
    /// A file of Protobuf, which is told as the base64 of its descriptor.
    Protobuf,
    /// JSON Schema.
    Json,
}

impl SchemaKind {
    /// What registries call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avro => "AVRO",
            Self::Protobuf => "PROTOBUF",
            Self::Json => "JSON",
        }
    }
}

/// The schema of messages that are written, as a registry is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenSchema {
    /// Its kind.
    pub kind: SchemaKind,
    /// What the record, or the type of the messages, is called, with its namespace or package.
    pub name: String,
    /// The text.
    pub text: String,
    /// The files that are to be told before, each behind those that it imports itself.
    pub files: Vec<ImportedSchema>,
    /// The names of those that it imports.
    pub imports: Vec<String>,
    /// What stands behind the number of the schema in every message.
    pub behind: Vec<u8>,
}

/// A file that others import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportedSchema {
    /// By which name they do.
    pub name: String,
    /// The text.
    pub text: String,
    /// The names of those that it imports itself.
    pub imports: Vec<String>,
}

impl WrittenSchema {
    /// A schema that names no others.
    pub(crate) fn new(kind: SchemaKind, name: &str, text: String) -> Self {
        Self { kind, name: name.to_owned(), text, files: Vec::new(), imports: Vec::new(), behind: Vec::new() }
    }

    /// What its messages begin with when this is its number in the registry.
    pub fn prefix(&self, number: u32) -> Vec<u8> {
        [&[NUMBER][..], &number.to_be_bytes(), &self.behind].concat()
    }
}

/// What there is to say when the fields of a record are others than the columns.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Differences {
    /// Fields that are no column.
    pub unknown: Vec<String>,
    /// Columns that are no field.
    pub missing: Vec<String>,
    /// Columns of another type than the field's own.
    pub others: Vec<String>,
}

impl Differences {
    /// Those of what messages have and the columns.
    pub(crate) fn between(fields: &Columns, columns: &Columns) -> Self {
        let of =
            |columns: &Columns, name: &str| columns.0.iter().find(|(known, _)| known == name).map(|(_, of)| of.clone());
        let names = |all: &Columns, is_wanted: &dyn Fn(&str, &ColumnType) -> bool| -> Vec<String> {
            let wanted = all.0.iter().filter(|(name, column)| is_wanted(name, column));
            wanted.map(|(name, _)| name.clone()).collect()
        };
        Self {
            unknown: names(fields, &|name, _| of(columns, name).is_none()),
            missing: names(columns, &|name, _| of(fields, name).is_none()),
            others: names(columns, &|name, column| of(fields, name).is_some_and(|own| !same(&own, column))),
        }
    }

    /// In words, if there are some.
    fn words(&self) -> Option<String> {
        let list = |names: &[String]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let parts = [
            ("fields that are no columns", &self.unknown),
            ("columns that are no fields", &self.missing),
            ("other types", &self.others),
        ];
        let parts = parts.iter().filter(|(_, names)| !names.is_empty());
        let words: Vec<_> = parts.map(|(what, names)| format!("{what}: {}", list(names))).collect();
        (!words.is_empty()).then(|| words.join("; "))
    }
}

/// What there is to note of a schema whose fields are others than the columns, or whose messages can't be read at all.
///
/// # Errors
/// If that is not wanted.
pub(crate) fn judge(
    changes: SchemaChanges,
    id: SchemaId,
    found: Result<&Differences, &String>,
) -> Result<Option<String>> {
    let words = match found {
        Ok(differences) => differences.words(),
        Err(why) => Some(why.clone()),
    };
    let is_refused = match (changes, found) {
        (SchemaChanges::Evolve, _) => false,
        (SchemaChanges::Fail, _) => words.is_some(),
        (SchemaChanges::Coerce, Ok(found)) => !found.unknown.is_empty() || !found.missing.is_empty(),
        (SchemaChanges::Coerce, Err(_)) => true,
    };
    let note = words.map(|words| format!("the fields of schema {id} are others than the columns: {words}"));
    if is_refused {
        let why = note.unwrap_or_default();
        return Err(Error::new(format!("{why}; `schema_changes = \"evolve\"` goes on with such messages")));
    }
    Ok(note)
}

/// Whether a column is what the messages have, whatever the names of the only column of values that are no records.
pub(crate) fn same(own: &ColumnType, column: &ColumnType) -> bool {
    own.data_type == column.data_type && own.nullable == column.nullable || column.is_json && own.is_json
}

/// What is in a message, and its schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framed<'a> {
    /// Its schema.
    pub schema: SchemaId,
    /// What stands behind the schema in a header, if it was named there.
    pub(crate) behind: Option<&'a [u8]>,
    /// What stands behind the schema in the message, or the whole message if a header names the schema.
    pub value: &'a [u8],
}

/// What stands before the number of a schema, and before its unique id.
const NUMBER: u8 = 0;
const GUID: u8 = 1;

impl<'a> Framed<'a> {
    /// Takes a message apart. `header` is the value of the header that may name its schema.
    ///
    /// # Errors
    /// Why it names none.
    pub fn of(message: &'a [u8], header: Option<&'a [u8]>) -> Result<Self, &'static str> {
        let wrong = "the message names no schema: it should begin with a 0 and the number of one";
        if let Some(header) = header {
            let (schema, behind) = split(header).ok_or("its header names no schema")?;
            return Ok(Self { schema, behind: Some(behind), value: message });
        }
        match split(message) {
            Some((schema @ SchemaId::Number(_), value)) => Ok(Self { schema, behind: None, value }),
            _ => Err(wrong),
        }
    }
}

/// The schema that bytes begin with, and the rest.
fn split(bytes: &[u8]) -> Option<(SchemaId, &[u8])> {
    let (magic, bytes) = bytes.split_first()?;
    match *magic {
        NUMBER => {
            let (number, rest) = bytes.split_first_chunk()?;
            Some((SchemaId::Number(u32::from_be_bytes(*number)), rest))
        }
        GUID => {
            let (guid, rest) = bytes.split_first_chunk()?;
            Some((SchemaId::Guid(*guid), rest))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_or_its_header_names_the_schema() {
        let framed = Framed::of(b"\0\0\0\x01\x02rest", None);
        assert_eq!(framed, Ok(Framed { schema: SchemaId::Number(258), behind: None, value: b"rest" }));
        let header = [&[GUID][..], &[0xab; 16], b"\0"].concat();
        let framed = Framed::of(b"\0whole", Some(&header)).expect("the header names one");
        assert_eq!((framed.schema, framed.value), (SchemaId::Guid([0xab; 16]), &b"\0whole"[..]));
        assert_eq!(framed.schema.to_string(), "abababab-abab-abab-abab-abababababab");
        assert_eq!(Framed::of(b"\0whole", Some(b"\0\0\0\0\x07")).map(|framed| framed.schema), Ok(SchemaId::Number(7)));
        for message in [&b""[..], b"\0\0\0", b"{}", b"\x01aaaaaaaaaaaaaaaa"] {
            assert!(Framed::of(message, None).is_err());
        }
    }
}
