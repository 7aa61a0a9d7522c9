//! Types of messages, as `protoc --descriptor_set_out` writes them: they are messages of Protobuf themselves.

use std::collections::HashMap;
use std::sync::Arc;

use super::wire::{Payload, fields};
use crate::records::MAX_DEPTH;
use crate::refusal::{Read, Refusal};

/// All types of a set of files.
#[derive(Debug, Default)]
pub(crate) struct Descriptors {
    files: Vec<FileType>,
    messages: Vec<MessageType>,
    enums: Vec<Arc<EnumType>>,
    places: HashMap<String, Place>,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Message(usize),
    Enum(usize),
}

/// A file of types.
#[derive(Debug)]
pub(crate) struct FileType {
    pub name: String,
    /// The names of those that it imports.
    pub imports: Vec<String>,
    /// The message that it is itself.
    pub bytes: Vec<u8>,
}

/// A type of messages.
#[derive(Debug)]
pub(crate) struct MessageType {
    /// With its package: `shop.Payment`.
    pub name: String,
    pub fields: Vec<FieldType>,
    /// Whether it is a key and a value of a map.
    pub is_map_entry: bool,
    /// The place of its file.
    pub file: usize,
    /// Which of the types of its file it is, and of those within that.
    pub path: Vec<u64>,
}

/// A field of messages.
#[derive(Clone, Debug)]
pub(crate) struct FieldType {
    pub name: String,
    pub number: u32,
    pub kind: FieldKind,
    pub repeated: bool,
    /// Whether a message says that it has a value; otherwise it is 0 or empty if there is none.
    pub presence: bool,
    pub required: bool,
    /// Whether it is a message that is written as a group: between two numbers, and not behind its length.
    pub is_group: bool,
    /// The group of fields of which one has a value.
    pub oneof: Option<u32>,
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FieldKind {
    Scalar(ScalarType),
    Enum(usize),
    Message(usize),
}

/// A type that is no enum and no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScalarType {
    Double,
    Float,
    Int64,
    UInt64,
    Int32,
    Fixed64,
    Fixed32,
    Bool,
    String,
    Bytes,
    UInt32,
    SFixed32,
    SFixed64,
    SInt32,
    SInt64,
}

/// A type of names for numbers.
#[derive(Debug)]
pub(crate) struct EnumType {
    pub name: String,
    /// The names by their numbers, of which the first one counts that has a number.
    pub values: Vec<(i32, String)>,
    /// The numbers of all names.
    numbers: HashMap<String, i32>,
}

impl EnumType {
    /// The name of a number.
    pub(crate) fn value(&self, number: i32) -> Option<&str> {
        let place = self.values.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        self.values.get(place).map(|(_, name)| name.as_str())
    }

    /// The number of a name, which may also be the digits of one that has no name.
    pub(crate) fn number(&self, name: &str) -> Option<i32> {
        self.numbers.get(name).copied().or_else(|| name.parse().ok())
    }
}

/// A field as its file has it, whose type is still a name.
#[derive(Default)]
struct RawField {
    name: String,
    number: u32,
    label: u64,
    kind: u64,
    type_name: String,
    oneof: Option<u32>,
    is_optional: bool,
    presence: Option<u64>,
    encoding: Option<u64>,
}

struct RawMessage {
    name: String,
    fields: Vec<RawField>,
    is_map_entry: bool,
    presence: Presence,
    /// How messages are written, if the file says it.
    encoding: Option<u64>,
    file: usize,
    path: Vec<u64>,
}

/// Whether fields say that they have a value, if nothing more is said.
#[derive(Clone, Copy)]
enum Presence {
    Explicit,
    Implicit,
}

const REPEATED: u64 = 3;
const REQUIRED: u64 = 2;

/// Features of editions.
const EXPLICIT: u64 = 1;
const IMPLICIT: u64 = 2;
const LEGACY_REQUIRED: u64 = 3;
const DELIMITED: u64 = 2;

/// The numbers of features.
const FIELD_PRESENCE: u32 = 1;
const MESSAGE_ENCODING: u32 = 5;

/// The number of a group among the types of fields.
const GROUP: u64 = 10;

impl Descriptors {
    /// Parses a set of files.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let mut found = Self::default();
        let mut raw = Vec::new();
        found.set(bytes, &mut raw).map_err(|refusal| refusal.to_string())?;
        for RawMessage { name, fields, is_map_entry, presence, encoding, file, path } in raw {
            let fields = fields.iter().map(|field| {
                let made = found.field(field, presence, encoding);
                made.map_err(|error| format!("field `{}` of `{name}`: {error}", field.name))
            });
            let fields = fields.collect::<Result<Vec<_>, _>>()?;
            found.messages.push(MessageType { name, fields, is_map_entry, file, path });
        }
        Ok(found)
    }

    fn set(&mut self, bytes: &[u8], raw: &mut Vec<RawMessage>) -> Read<()> {
        fields(bytes, |number, payload| match (number, payload) {
            (1, Payload::Bytes(file)) => self.file(file, raw),
            _ => Ok(()),
        })
    }

    fn file(&mut self, bytes: &[u8], raw: &mut Vec<RawMessage>) -> Read<()> {
        let (mut package, mut syntax, mut feature, mut encoding) = (String::new(), String::new(), None, None);
        let mut own = FileType { name: String::new(), imports: Vec::new(), bytes: bytes.to_vec() };
        let (mut messages, mut enums) = (Vec::new(), Vec::new());
        fields(bytes, |number, payload| {
            match (number, payload) {
                (1, Payload::Bytes(name)) => own.name = text(name),
                (2, Payload::Bytes(name)) => package = text(name),
                (3, Payload::Bytes(name)) => own.imports.push(text(name)),
                (4, Payload::Bytes(message)) => messages.push(message),
                (5, Payload::Bytes(values)) => enums.push(values),
                (8, Payload::Bytes(options)) => {
                    feature = feature_in(options, 50, FIELD_PRESENCE)?;
                    encoding = feature_in(options, 50, MESSAGE_ENCODING)?;
                }
                (12, Payload::Bytes(name)) => syntax = text(name),
                _ => {}
            }
            Ok(())
        })?;
        let presence = match (syntax.as_str(), feature) {
            ("proto3", _) | (_, Some(IMPLICIT)) => Presence::Implicit,
            _ => Presence::Explicit,
        };
        for values in enums {
            self.enumeration(values, &package)?;
        }
        for (index, message) in (0..).zip(messages) {
            self.message(message, &package, (presence, encoding), vec![index], raw)?;
        }
        self.files.push(own);
        Ok(())
    }

    fn message(
        &mut self,
        bytes: &[u8],
        scope: &str,
        features: (Presence, Option<u64>),
        path: Vec<u64>,
        raw: &mut Vec<RawMessage>,
    ) -> Read<()> {
        if path.len() > MAX_DEPTH {
            return Err(Refusal::malformed("its types lie in each other too deep"));
        }
        let file = self.files.len();
        let (name, fields_of, (presence, encoding)) = (String::new(), Vec::new(), features);
        let mut message =
            RawMessage { name, fields: fields_of, is_map_entry: false, presence, encoding, file, path: path.clone() };
        let (mut nested, mut enums) = (Vec::new(), Vec::new());
        fields(bytes, |number, payload| {
            match (number, payload) {
                (1, Payload::Bytes(name)) => message.name = full_name(scope, &text(name)),
                (2, Payload::Bytes(field)) => message.fields.push(raw_field(field)?),
                (3, Payload::Bytes(inner)) => nested.push(inner),
                (4, Payload::Bytes(values)) => enums.push(values),
                (7, Payload::Bytes(options)) => fields(options, |number, payload| {
                    if let (7, Payload::Varint(is_entry)) = (number, payload) {
                        message.is_map_entry = is_entry != 0;
                    }
                    Ok(())
                })?,
                _ => {}
            }
            Ok(())
        })?;
        let name = message.name.clone();
        self.places.insert(name.clone(), Place::Message(raw.len()));
        raw.push(message);
        for values in enums {
            self.enumeration(values, &name)?;
        }
        for (index, inner) in (0..).zip(nested) {
            self.message(inner, &name, features, [&path[..], &[index]].concat(), raw)?;
        }
        Ok(())
    }

    fn enumeration(&mut self, bytes: &[u8], scope: &str) -> Read<()> {
        let (mut name, mut values) = (String::new(), Vec::new());
        fields(bytes, |number, payload| {
            match (number, payload) {
                (1, Payload::Bytes(own)) => name = full_name(scope, &text(own)),
                (2, Payload::Bytes(value)) => {
                    let (mut name, mut number) = (String::new(), 0);
                    fields(value, |field, payload| {
                        match (field, payload) {
                            (1, Payload::Bytes(own)) => name = text(own),
                            (2, Payload::Varint(own)) => number = own as i32,
                            _ => {}
                        }
                        Ok(())
                    })?;
                    values.push((number, name));
                }
                _ => {}
            }
            Ok(())
        })?;
        let numbers = values.iter().map(|(number, name)| (name.clone(), *number)).collect();
        // The order of those with the same number stays.
        values.sort_by_key(|(number, _)| *number);
        values.dedup_by_key(|(number, _)| *number);
        self.places.insert(name.clone(), Place::Enum(self.enums.len()));
        self.enums.push(Arc::new(EnumType { name, values, numbers }));
        Ok(())
    }

    fn field(&self, raw: &RawField, presence: Presence, encoding: Option<u64>) -> Result<FieldType, String> {
        let kind = match raw.kind {
            // A group is a message in another encoding.
            GROUP | 11 | 14 => {
                let name = raw.type_name.trim_start_matches('.');
                match self.places.get(name) {
                    Some(Place::Message(place)) => FieldKind::Message(*place),
                    Some(Place::Enum(place)) => FieldKind::Enum(*place),
                    None => {
                        return Err(format!(
                            "there is no type `{name}` in the set; `protoc --include_imports` puts all there"
                        ));
                    }
                }
            }
            kind => {
                FieldKind::Scalar(ScalarType::of(kind).ok_or_else(|| format!("there is no type of the number {kind}"))?)
            }
        };
        let repeated = raw.label == REPEATED;
        let required = raw.label == REQUIRED || raw.presence == Some(LEGACY_REQUIRED);
        let explicit = match (raw.presence, presence) {
            (Some(EXPLICIT), _) => true,
            (Some(IMPLICIT), _) => false,
            (_, presence) => matches!(presence, Presence::Explicit),
        };
        let has_presence = matches!(kind, FieldKind::Message(_)) || raw.oneof.is_some() || explicit || required;
        Ok(FieldType {
            name: raw.name.clone(),
            number: raw.number,
            kind,
            repeated,
            presence: has_presence && !repeated,
            required,
            is_group: raw.kind == GROUP || raw.encoding.or(encoding) == Some(DELIMITED),
            // One that is optional is in a group of its own.
            oneof: raw.oneof.filter(|_| !raw.is_optional),
        })
    }

    /// The place of a type of messages.
    pub(crate) fn find(&self, name: &str) -> Option<usize> {
        match self.places.get(name)? {
            Place::Message(place) => Some(*place),
            Place::Enum(_) => None,
        }
    }

    /// The names of all types of messages, but for those of maps.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.messages.iter().filter(|message| !message.is_map_entry).map(|message| message.name.as_str())
    }

    /// The file of a type of messages.
    pub(crate) fn file_of(&self, message: usize) -> &FileType {
        &self.files[self.messages[message].file]
    }

    /// The file of this name.
    pub(crate) fn find_file(&self, name: &str) -> Option<&FileType> {
        self.files.iter().find(|file| file.name == name)
    }

    pub(crate) fn message_type(&self, place: usize) -> &MessageType {
        &self.messages[place]
    }

    pub(crate) fn enum_type(&self, place: usize) -> &Arc<EnumType> {
        &self.enums[place]
    }
}

impl ScalarType {
    fn of(number: u64) -> Option<Self> {
        Some(match number {
            1 => Self::Double,
            2 => Self::Float,
            3 => Self::Int64,
            4 => Self::UInt64,
            5 => Self::Int32,
            6 => Self::Fixed64,
            7 => Self::Fixed32,
            8 => Self::Bool,
            9 => Self::String,
            12 => Self::Bytes,
            13 => Self::UInt32,
            15 => Self::SFixed32,
            16 => Self::SFixed64,
            17 => Self::SInt32,
            18 => Self::SInt64,
            _ => return None,
        })
    }
}

fn raw_field(bytes: &[u8]) -> Read<RawField> {
    let mut field = RawField::default();
    fields(bytes, |number, payload| {
        match (number, payload) {
            (1, Payload::Bytes(name)) => field.name = text(name),
            (3, Payload::Varint(number)) => field.number = number as u32,
            (4, Payload::Varint(label)) => field.label = label,
            (5, Payload::Varint(kind)) => field.kind = kind,
            (6, Payload::Bytes(name)) => field.type_name = text(name),
            (8, Payload::Bytes(options)) => {
                field.presence = feature_in(options, 21, FIELD_PRESENCE)?;
                field.encoding = feature_in(options, 21, MESSAGE_ENCODING)?;
            }
            (9, Payload::Varint(oneof)) => field.oneof = Some(oneof as u32),
            (17, Payload::Varint(is_optional)) => field.is_optional = is_optional != 0,
            _ => {}
        }
        Ok(())
    })?;
    Ok(field)
}

/// A feature in options, of which the features are a field.
fn feature_in(options: &[u8], features: u32, feature: u32) -> Read<Option<u64>> {
    let mut found = None;
    fields(options, |number, payload| match payload {
        Payload::Bytes(features_of) if number == features => fields(features_of, |number, payload| {
            if let (true, Payload::Varint(value)) = (number == feature, payload) {
                found = Some(value);
            }
            Ok(())
        }),
        _ => Ok(()),
    })?;
    Ok(found)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn full_name(scope: &str, name: &str) -> String {
    if scope.is_empty() { name.to_owned() } else { format!("{scope}.{name}") }
}
