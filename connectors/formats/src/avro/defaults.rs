//! The values of fields that a schema has and records lack: JSON in the schema, encoded as a record would have it.

use serde_json::Value;

use super::schema::{AvroSchema, NamedKind, Node};
use super::write::{put_bytes, put_long};

/// Encodes a default value of a type.
pub(super) fn encode(schema: &AvroSchema, node: &Node, value: &Value) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    put(schema, node, value, &mut out)?;
    Ok(out)
}

fn put(schema: &AvroSchema, node: &Node, value: &Value, out: &mut Vec<u8>) -> Result<(), String> {
    let misfit = || format!("`{value}` is no {}", schema.name(node));
    match node {
        Node::Null if value.is_null() => {}
        Node::Null => return Err(misfit()),
        Node::Boolean => out.push(value.as_bool().ok_or_else(misfit)?.into()),
        Node::Int | Node::Long => put_long(value.as_i64().ok_or_else(misfit)?, out),
        Node::Float => out.extend_from_slice(&(value.as_f64().ok_or_else(misfit)? as f32).to_le_bytes()),
        Node::Double => out.extend_from_slice(&value.as_f64().ok_or_else(misfit)?.to_le_bytes()),
        Node::Bytes => put_bytes(&latin(value).ok_or_else(misfit)?, out),
        Node::String => put_bytes(value.as_str().ok_or_else(misfit)?.as_bytes(), out),
        Node::Logical(_, node) => return put(schema, node, value, out),
        // The default of a union is of its first type; newer schemas may have any of them.
        Node::Union(branches) => {
            let encoded = branches.iter().enumerate().find_map(|(index, branch)| {
                let mut bytes = Vec::new();
                put_long(index as i64, &mut bytes);
                put(schema, branch, value, &mut bytes).ok().map(|()| bytes)
            });
            out.extend(encoded.ok_or_else(misfit)?);
        }
        Node::Array(item) => {
            for value in value.as_array().ok_or_else(misfit)? {
                put_long(1, out);
                put(schema, item, value, out)?;
            }
            put_long(0, out);
        }
        Node::Map(node) => {
            for (key, value) in value.as_object().ok_or_else(misfit)? {
                put_long(1, out);
                put_bytes(key.as_bytes(), out);
                put(schema, node, value, out)?;
            }
            put_long(0, out);
        }
        Node::Named(index) => match &schema.named(*index).kind {
            NamedKind::Enum(symbols) => {
                let place = symbols.iter().position(|symbol| value.as_str() == Some(symbol));
                put_long(place.ok_or_else(misfit)? as i64, out);
            }
            NamedKind::Fixed(size) => {
                let bytes = latin(value).filter(|bytes| bytes.len() == *size).ok_or_else(misfit)?;
                out.extend_from_slice(&bytes);
            }
            NamedKind::Record(fields) => {
                let table = value.as_object().ok_or_else(misfit)?;
                for field in fields {
                    let value = table.get(&field.name).or(field.default.as_ref()).ok_or_else(misfit)?;
                    put(schema, &field.node, value, out)?;
                }
            }
        },
    }
    Ok(())
}

/// Bytes, which are written as the letters that have their numbers.
fn latin(value: &Value) -> Option<Vec<u8>> {
    value.as_str()?.chars().map(|letter| u8::try_from(u32::from(letter)).ok()).collect()
}
