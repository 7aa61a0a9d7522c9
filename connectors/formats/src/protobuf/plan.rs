//! How messages of a type are read into columns, and which columns they have.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use millstream_core::{ColumnType, Columns, Problem, known_names, type_name};

use super::descriptors::{Descriptors, EnumType, FieldKind, FieldType, ScalarType};
use crate::records::ScalarKind;

/// How the fields of a message are read, in the order of their numbers.
#[derive(Debug)]
pub(super) struct MessagePlan {
    pub fields: Vec<FieldPlan>,
    /// The fields that every message has to have, and that are no columns.
    pub missing: Vec<String>,
}

/// How a field is read.
#[derive(Debug)]
pub(super) struct FieldPlan {
    pub number: u32,
    pub name: String,
    /// The place of its column.
    pub column: usize,
    pub occurs: Occurs,
    /// Whether it has no value where a message has none. Otherwise that is 0, or empty.
    pub presence: bool,
    /// Whether there is no message without it.
    pub required: bool,
    /// Whether a message is written as a group.
    pub is_group: bool,
    pub oneof: Option<u32>,
    pub step: Step,
}

/// How often a field may occur in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Occurs {
    /// Once; the last one counts.
    Once,
    /// As an item of a list.
    Repeated,
    /// As a key of a type, and a value.
    Map(ScalarType),
}

/// How a value is read into a column.
#[derive(Debug)]
pub(super) enum Step {
    Scalar(ScalarType),
    /// As its name.
    Enum(Arc<EnumType>),
    /// As its number.
    EnumNumber,
    Message(MessagePlan),
    Timestamp,
    /// In microseconds.
    Duration,
    /// The one field of a message, which is 0 or empty if it is not there.
    Wrapper(ScalarType),
    /// The text of a message of this type as JSON.
    Json(usize),
}

impl Step {
    /// Whether values are messages on the wire.
    pub(super) fn is_message(&self) -> bool {
        !matches!(self, Self::Scalar(_) | Self::Enum(_) | Self::EnumNumber)
    }
}

/// A type of messages that stands for something else than its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WellKnown {
    Timestamp,
    Duration,
    Wrapper(ScalarType),
    /// Any value of JSON: `Value`, `Struct` and `ListValue`.
    Json,
}

impl WellKnown {
    pub(super) fn of(name: &str) -> Option<Self> {
        Some(match name.strip_prefix("google.protobuf.")? {
            "Timestamp" => Self::Timestamp,
            "Duration" => Self::Duration,
            "DoubleValue" => Self::Wrapper(ScalarType::Double),
            "FloatValue" => Self::Wrapper(ScalarType::Float),
            "Int64Value" => Self::Wrapper(ScalarType::Int64),
            "UInt64Value" => Self::Wrapper(ScalarType::UInt64),
            "Int32Value" => Self::Wrapper(ScalarType::Int32),
            "UInt32Value" => Self::Wrapper(ScalarType::UInt32),
            "BoolValue" => Self::Wrapper(ScalarType::Bool),
            "StringValue" => Self::Wrapper(ScalarType::String),
            "BytesValue" => Self::Wrapper(ScalarType::Bytes),
            "Value" | "Struct" | "ListValue" => Self::Json,
            _ => return None,
        })
    }
}

impl ScalarType {
    /// What Protobuf calls it.
    pub(super) fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    pub(super) fn data_type(self) -> DataType {
        match self {
            Self::Double => DataType::Float64,
            Self::Float => DataType::Float32,
            Self::Int64 | Self::SInt64 | Self::SFixed64 => DataType::Int64,
            Self::UInt64 | Self::Fixed64 => DataType::UInt64,
            Self::Int32 | Self::SInt32 | Self::SFixed32 => DataType::Int32,
            Self::UInt32 | Self::Fixed32 => DataType::UInt32,
            Self::Bool => DataType::Boolean,
            Self::String => DataType::Utf8,
            Self::Bytes => DataType::Binary,
        }
    }

    fn kind(self) -> ScalarKind {
        match self {
            Self::Double | Self::Float => ScalarKind::Float,
            Self::Bool => ScalarKind::Boolean,
            Self::String => ScalarKind::Text,
            Self::Bytes => ScalarKind::Bytes,
            _ => ScalarKind::Integer,
        }
    }
}

impl Descriptors {
    /// The columns that messages of a type have.
    pub(super) fn columns(&self, message: usize) -> Columns {
        let fields = self.message_type(message).fields.iter();
        Columns(fields.map(|field| (field.name.clone(), self.column(field, &mut vec![message]))).collect())
    }

    /// The column of a field in messages that lie within `open` ones. What contains itself is JSON.
    fn column(&self, field: &FieldType, open: &mut Vec<usize>) -> ColumnType {
        if let Some([key, value]) = self.entry(field) {
            let fields = [self.column(key, open).field("key"), self.column(value, open).field("value")];
            // What is not there is 0 or empty.
            let fields = fields.map(|field| field.with_nullable(false));
            let entry = Field::new("item", DataType::Struct(Fields::from_iter(fields)), false);
            return ColumnType::new(DataType::List(Arc::new(entry)), false);
        }
        let (data_type, is_json) = match field.kind {
            FieldKind::Scalar(scalar) => (scalar.data_type(), false),
            FieldKind::Enum(_) => (DataType::Utf8, false),
            FieldKind::Message(message) => self.message_column(message, open),
        };
        if field.repeated {
            let item = Field::new("item", data_type, false);
            return ColumnType::new(DataType::List(Arc::new(item)), false);
        }
        let nullable = field.presence && !field.required;
        ColumnType { is_json, ..ColumnType::new(data_type, nullable) }
    }

    fn message_column(&self, message: usize, open: &mut Vec<usize>) -> (DataType, bool) {
        let found = self.message_type(message);
        match WellKnown::of(&found.name) {
            Some(WellKnown::Timestamp) => (DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
            Some(WellKnown::Duration) => (DataType::Int64, false),
            Some(WellKnown::Wrapper(scalar)) => (scalar.data_type(), false),
            Some(WellKnown::Json) => (DataType::Utf8, true),
            None if open.contains(&message) => (DataType::Utf8, true),
            None => {
                open.push(message);
                let fields = found.fields.iter().map(|field| self.column(field, open).field(&field.name));
                let fields = fields.collect::<Fields>();
                open.pop();
                (DataType::Struct(fields), false)
            }
        }
    }

    /// The key and the value, if the field is a map.
    pub(super) fn entry(&self, field: &FieldType) -> Option<[&FieldType; 2]> {
        let FieldKind::Message(message) = field.kind else { return None };
        let entry = self.message_type(message);
        match entry.fields.as_slice() {
            [key, value] if entry.is_map_entry && field.repeated => Some([key, value]),
            _ => None,
        }
    }

    /// What a field is called in messages to people.
    pub(super) fn kind_name(&self, field: &FieldType) -> String {
        let name = match field.kind {
            FieldKind::Scalar(scalar) => scalar.name(),
            FieldKind::Enum(place) => format!("enum {}", self.enum_type(place).name),
            FieldKind::Message(place) => self.message_type(place).name.clone(),
        };
        if field.repeated { format!("repeated {name}") } else { name }
    }

    /// How messages of a type are read into `columns`, of which only the `wanted` ones are there, in their order.
    pub(super) fn plan(&self, message: usize, columns: &Columns, wanted: &Columns) -> Result<MessagePlan, Problem> {
        let all: Vec<_> = columns.0.iter().map(|(name, column)| (name.as_str(), column.clone())).collect();
        let place = |name: &str| wanted.0.iter().position(|(column, _)| column == name);
        self.message_plan(message, &all, &place, "")
    }

    fn message_plan(
        &self,
        message: usize,
        columns: &[(&str, ColumnType)],
        place: &dyn Fn(&str) -> Option<usize>,
        path: &str,
    ) -> Result<MessagePlan, Problem> {
        let found = self.message_type(message);
        let mut fields = Vec::new();
        for (name, column) in columns {
            let path = if path.is_empty() { (*name).to_owned() } else { format!("{path}.{name}") };
            let Some(field) = found.fields.iter().find(|field| field.name == *name) else {
                let known = known_names(name, found.fields.iter().map(|field| field.name.as_str()));
                return Err(Problem::new(format!("`{}` has no field `{path}`", found.name)).help(known));
            };
            let Some(place) = place(name) else { continue };
            fields.push(self.field_plan(field, column, place, &path)?);
        }
        fields.sort_by_key(|field| field.number);
        let is_missing = |field: &&FieldType| field.required && columns.iter().all(|(name, _)| *name != field.name);
        let missing = found.fields.iter().filter(is_missing).map(|field| field.name.clone()).collect();
        Ok(MessagePlan { fields, missing })
    }

    fn field_plan(
        &self,
        field: &FieldType,
        column: &ColumnType,
        place: usize,
        path: &str,
    ) -> Result<FieldPlan, Problem> {
        let misfit = || {
            let (found, wanted) = (self.kind_name(field), type_name(&column.data_type));
            Problem::new(format!("column `{path}` is {wanted}, and the field is a {found}, which don't go together"))
        };
        let (occurs, column, of, path) = match (&column.data_type, self.entry(field)) {
            (DataType::List(item), Some([key, value])) => {
                let DataType::Struct(fields) = item.data_type() else { return Err(misfit()) };
                let [key_column, column] = &**fields else { return Err(misfit()) };
                let FieldKind::Scalar(key) = key.kind else { return Err(misfit()) };
                if !key.kind().fits(&column_of(key_column)) {
                    return Err(misfit());
                }
                (Occurs::Map(key), column_of(column), value, format!("{path}[].{}", column.name()))
            }
            (DataType::List(item), None) if field.repeated => {
                (Occurs::Repeated, column_of(item), field, format!("{path}[]"))
            }
            _ if field.repeated => return Err(misfit()),
            _ => (Occurs::Once, column.clone(), field, path.to_owned()),
        };
        let step = self.step(of, &column, &path)?.ok_or_else(misfit)?;
        Ok(FieldPlan {
            number: field.number,
            name: field.name.clone(),
            column: place,
            occurs,
            presence: field.presence,
            required: field.required,
            is_group: field.is_group,
            oneof: field.oneof,
            step,
        })
    }

    fn step(&self, field: &FieldType, column: &ColumnType, path: &str) -> Result<Option<Step>, Problem> {
        let data_type = &column.data_type;
        let message = match field.kind {
            FieldKind::Scalar(scalar) => return Ok(scalar.kind().fits(column).then_some(Step::Scalar(scalar))),
            FieldKind::Enum(_) if data_type.is_integer() => return Ok(Some(Step::EnumNumber)),
            FieldKind::Enum(place) => {
                return Ok(ScalarKind::Text.fits(column).then(|| Step::Enum(self.enum_type(place).clone())));
            }
            FieldKind::Message(message) => message,
        };
        let (kind, step) = match WellKnown::of(&self.message_type(message).name) {
            _ if column.is_json => return Ok(Some(Step::Json(message))),
            Some(WellKnown::Timestamp) => (ScalarKind::Timestamp, Step::Timestamp),
            Some(WellKnown::Duration) => (ScalarKind::Integer, Step::Duration),
            Some(WellKnown::Wrapper(scalar)) => (scalar.kind(), Step::Wrapper(scalar)),
            _ if *data_type == DataType::Utf8 => return Ok(Some(Step::Json(message))),
            _ => {
                let DataType::Struct(wanted) = data_type else { return Ok(None) };
                let columns: Vec<_> = wanted.iter().map(|field| (field.name().as_str(), column_of(field))).collect();
                let place = |name: &str| wanted.iter().position(|field| field.name() == name);
                return Ok(Some(Step::Message(self.message_plan(message, &columns, &place, path)?)));
            }
        };
        Ok(kind.fits(column).then_some(step))
    }
}

fn column_of(field: &Arc<Field>) -> ColumnType {
    ColumnType::new(field.data_type().clone(), field.is_nullable())
}
