//! The JSON Schema of rows that are written as objects.

use arrow::datatypes::{DataType, Field, Schema};
use serde_json::{Map, Value, json};

/// The schema of rows. Columns that may be null may be left out.
pub(super) fn schema_of(title: &str, schema: &Schema) -> Value {
    let mut whole = object(schema.fields().iter().map(|field| &**field));
    whole["$schema"] = "http://json-schema.org/draft-07/schema#".into();
    whole["title"] = title.into();
    whole
}

fn object<'a>(fields: impl Iterator<Item = &'a Field> + Clone) -> Value {
    let properties = fields.clone().map(|field| (field.name().clone(), value(field.data_type(), field.is_nullable())));
    let required: Vec<_> = fields.filter(|field| !field.is_nullable()).map(Field::name).collect();
    json!({ "type": "object", "properties": properties.collect::<Map<_, _>>(), "required": required })
}

fn value(data_type: &DataType, nullable: bool) -> Value {
    let mut schema = match data_type {
        DataType::Boolean => json!({ "type": "boolean" }),
        kind if kind.is_integer() => json!({ "type": "integer" }),
        // One that is not finite becomes null.
        DataType::Float32 | DataType::Float64 => return json!({ "type": ["number", "null"] }),
        DataType::Decimal128(_, _) => json!({ "type": "number" }),
        DataType::Date32 => json!({ "type": "string", "format": "date" }),
        DataType::Timestamp(_, _) => json!({ "type": "string", "format": "date-time" }),
        DataType::List(item) => json!({ "type": "array", "items": value(item.data_type(), item.is_nullable()) }),
        DataType::Struct(fields) => object(fields.iter().map(|field| &**field)),
        _ => json!({ "type": "string" }),
    };
    if nullable {
        schema["type"] = json!([schema["type"], "null"]);
    }
    schema
}
