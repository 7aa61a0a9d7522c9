//! Values of Avro's binary encoding, as JSON.

use arrow::datatypes::TimeUnit;

use super::read::{blocks, boolean, branch, decimal, int, sized, symbol, text, too_deep};
use super::schema::{AvroSchema, Logical, NamedKind, Node};
use crate::records::{Budget, Cursor, JsonText, MAX_DEPTH, Scalar, micros, uuid_text};
use crate::refusal::{Read, Refusal};

/// What an item counts, besides its text.
const ITEM: usize = 16;

/// Appends the text of a value. A union is the value that it has, without the name of its type.
pub(super) fn write(
    schema: &AvroSchema,
    node: &Node,
    bytes: &mut Cursor,
    out: &mut Vec<u8>,
    budget: &mut Budget,
    depth: usize,
) -> Read<()> {
    if depth > MAX_DEPTH {
        return Err(too_deep());
    }
    let scalar = match node {
        Node::Null => {
            JsonText(out).raw("null");
            return Ok(());
        }
        Node::Boolean => Scalar::Boolean(boolean(bytes)?),
        Node::Int => Scalar::Integer(int(bytes)?.into()),
        Node::Long => Scalar::Integer(bytes.zigzag()?),
        Node::Float => Scalar::Float(f32::from_le_bytes(bytes.array()?)),
        Node::Double => Scalar::Double(f64::from_le_bytes(bytes.array()?)),
        Node::Bytes => Scalar::Bytes(sized(bytes)?),
        Node::String => Scalar::Text(text(bytes)?),
        Node::Logical(logical, node) => return write_logical(schema, *logical, node, bytes, out),
        Node::Union(branches) => {
            let branch = branch(branches, bytes)?;
            return write(schema, branch, bytes, out, budget, depth + 1);
        }
        Node::Array(item) => {
            let mut is_first = true;
            JsonText(out).raw("[");
            blocks(bytes, |bytes| {
                budget.take(ITEM)?;
                JsonText(out).comma(&mut is_first);
                write(schema, item, bytes, out, budget, depth + 1)
            })?;
            JsonText(out).raw("]");
            return Ok(());
        }
        Node::Map(value) => {
            let mut is_first = true;
            JsonText(out).raw("{");
            blocks(bytes, |bytes| {
                budget.take(ITEM)?;
                JsonText(out).comma(&mut is_first);
                JsonText(out).text(text(bytes)?);
                JsonText(out).raw(":");
                write(schema, value, bytes, out, budget, depth + 1)
            })?;
            JsonText(out).raw("}");
            return Ok(());
        }
        Node::Named(index) => match &schema.named(*index).kind {
            NamedKind::Enum(symbols) => Scalar::Text(symbol(symbols, bytes)?),
            NamedKind::Fixed(size) => Scalar::Bytes(bytes.take(*size)?),
            NamedKind::Record(fields) => {
                let mut is_first = true;
                JsonText(out).raw("{");
                for field in fields {
                    budget.take(ITEM + field.name.len())?;
                    JsonText(out).comma(&mut is_first);
                    JsonText(out).text(&field.name);
                    JsonText(out).raw(":");
                    write(schema, &field.node, bytes, out, budget, depth + 1)?;
                }
                JsonText(out).raw("}");
                return Ok(());
            }
        },
    };
    JsonText(out).scalar(scalar);
    Ok(())
}

fn write_logical(
    schema: &AvroSchema,
    logical: Logical,
    node: &Node,
    bytes: &mut Cursor,
    out: &mut Vec<u8>,
) -> Read<()> {
    let fixed = match node {
        Node::Named(index) => match schema.named(*index).kind {
            NamedKind::Fixed(size) => Some(size),
            _ => None,
        },
        _ => None,
    };
    let scalar = match logical {
        Logical::Decimal(_, scale) => decimal(bytes, scale, fixed)?,
        Logical::Uuid if fixed.is_some() => {
            let mut uuid = Vec::new();
            uuid_text(&bytes.array()?, &mut uuid);
            JsonText(out).text(&String::from_utf8_lossy(&uuid));
            return Ok(());
        }
        Logical::Uuid => Scalar::Text(text(bytes)?),
        Logical::Date => Scalar::Date(int(bytes)?),
        Logical::Time(TimeUnit::Millisecond) => Scalar::Time(i64::from(int(bytes)?) * 1000),
        Logical::Time(_) => Scalar::Time(bytes.zigzag()?),
        Logical::Timestamp(unit) => {
            let number = bytes.zigzag()?;
            // One that is out of range is shown as it is.
            micros(number, unit).map_or(Scalar::Integer(number), Scalar::Timestamp)
        }
    };
    JsonText(out).scalar(scalar);
    Ok(())
}

/// The text of a whole record, to show one that was refused.
pub(super) fn of_record(schema: &AvroSchema, bytes: &[u8]) -> Option<String> {
    let (mut out, mut budget) = (Vec::new(), Budget::of_record());
    let written: Result<(), Box<Refusal>> =
        write(schema, &schema.root, &mut Cursor::new(bytes), &mut out, &mut budget, 0);
    written.ok().and_then(|()| String::from_utf8(out).ok())
}
