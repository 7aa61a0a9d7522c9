//! Values of Avro's binary encoding, into columns.

use arrow::datatypes::TimeUnit;

use super::json;
use super::plan::{FieldPlan, RecordPlan, Step};
use super::schema::{AvroSchema, NamedKind, Node};
use crate::records::{Budget, Column, Cursor, MAX_DEPTH, Record, Scalar, uuid_text};
use crate::refusal::{Read, Refusal};

/// The least that an item counts that is skipped.
const SKIPPED: usize = 16;

/// Reads a record of a schema.
pub(super) fn record(
    plan: &RecordPlan,
    schema: &AvroSchema,
    bytes: &mut Cursor,
    record: &mut Record,
    budget: &mut Budget,
) -> Read<()> {
    for field in &plan.fields {
        match field {
            FieldPlan::Skip(node) => skip(schema, node, bytes, budget, 0)?,
            FieldPlan::Read(index, step) => {
                let column = record.column(*index)?;
                value(step, schema, bytes, column, budget).map_err(|refusal| refusal.within(column.name()))?;
            }
        }
    }
    for (index, default, step) in &plan.defaults {
        let column = record.column(*index)?;
        value(step, schema, &mut Cursor::new(default), column, budget)
            .map_err(|refusal| refusal.within(column.name()))?;
    }
    Ok(())
}

fn value(step: &Step, schema: &AvroSchema, bytes: &mut Cursor, column: &mut Column, budget: &mut Budget) -> Read<()> {
    match step {
        Step::Null => column.miss(),
        Step::Boolean => column.push(Scalar::Boolean(boolean(bytes)?)),
        Step::Int => column.push(Scalar::Integer(int(bytes)?.into())),
        Step::Long => column.push_integer(bytes.zigzag()?),
        Step::Float => column.push(Scalar::Float(f32::from_le_bytes(bytes.array()?))),
        Step::Double => column.push_double(f64::from_le_bytes(bytes.array()?)),
        Step::Bytes => column.push(Scalar::Bytes(sized(bytes)?)),
        Step::String => column.push(Scalar::Text(text(bytes)?)),
        Step::Enum(symbols) => column.push(Scalar::Text(symbol(symbols, bytes)?)),
        Step::Fixed(size) => column.push(Scalar::Bytes(bytes.take(*size)?)),
        Step::Decimal(scale, size) => column.push(decimal(bytes, *scale, *size)?),
        Step::Uuid => {
            let uuid = bytes.array()?;
            column.push_text(|out| {
                uuid_text(&uuid, out);
                Ok(())
            })
        }
        Step::Date => column.push(Scalar::Date(int(bytes)?)),
        Step::TimeMillis => time(column, i64::from(int(bytes)?) * 1000),
        Step::TimeMicros => time(column, bytes.zigzag()?),
        Step::Timestamp(unit) => column.push_timestamp(timestamp(bytes, *unit)?),
        Step::Array(item) => {
            let mut index = 0;
            blocks(bytes, |bytes| {
                let column = column.next_item(budget)?;
                let read = value(item, schema, bytes, column, budget);
                index += 1;
                read.map_err(|refusal| refusal.within(&format!("[{}]", index - 1)))
            })?;
            column.end_list()
        }
        Step::Map(of) => {
            blocks(bytes, |bytes| {
                let key = text(bytes)?;
                column.next_item(budget)?.push_record(|entry| {
                    entry.column(0)?.push(Scalar::Text(key))?;
                    let column = entry.column(1)?;
                    value(of, schema, bytes, column, budget).map_err(|refusal| refusal.within(&format!("[{key:?}]")))
                })
            })?;
            column.end_list()
        }
        Step::Record(plan) => column.push_record(|fields| record(plan, schema, bytes, fields, budget)),
        Step::Union(branches) => {
            let branch = bytes.zigzag()?;
            let step = usize::try_from(branch).ok().and_then(|branch| branches.get(branch));
            value(step.ok_or_else(|| no_branch(branch))?, schema, bytes, column, budget)
        }
        Step::Json(node) => column.push_text(|out| json::write(schema, node, bytes, out, budget, 0)),
        Step::Refused(why) => Err(Refusal::value(why)),
    }
}

/// Goes through the items of an array or map, which come in blocks.
pub(super) fn blocks<'a>(bytes: &mut Cursor<'a>, mut item: impl FnMut(&mut Cursor<'a>) -> Read<()>) -> Read<()> {
    loop {
        let count = bytes.zigzag()?;
        if count == 0 {
            return Ok(());
        }
        if count < 0 {
            // How many bytes the block has, for those who skip it.
            bytes.zigzag()?;
        }
        for _ in 0..count.unsigned_abs() {
            item(bytes)?;
        }
    }
}

/// Passes over a value.
pub(super) fn skip(
    schema: &AvroSchema,
    node: &Node,
    bytes: &mut Cursor,
    budget: &mut Budget,
    depth: usize,
) -> Read<()> {
    if depth > MAX_DEPTH {
        return Err(too_deep());
    }
    match node {
        Node::Null => {}
        Node::Boolean => _ = boolean(bytes)?,
        Node::Int | Node::Long => _ = bytes.zigzag()?,
        Node::Float => _ = bytes.take(4)?,
        Node::Double => _ = bytes.take(8)?,
        Node::Bytes | Node::String => _ = sized(bytes)?,
        Node::Logical(_, node) => return skip(schema, node, bytes, budget, depth),
        Node::Array(node) => blocks(bytes, |bytes| {
            budget.take(SKIPPED)?;
            skip(schema, node, bytes, budget, depth + 1)
        })?,
        Node::Map(node) => blocks(bytes, |bytes| {
            sized(bytes)?;
            skip(schema, node, bytes, budget, depth + 1)
        })?,
        Node::Union(branches) => {
            let branch = branch(branches, bytes)?;
            return skip(schema, branch, bytes, budget, depth + 1);
        }
        Node::Named(index) => match &schema.named(*index).kind {
            NamedKind::Enum(symbols) => _ = symbol(symbols, bytes)?,
            NamedKind::Fixed(size) => _ = bytes.take(*size)?,
            NamedKind::Record(fields) => {
                fields.iter().try_for_each(|field| skip(schema, &field.node, bytes, budget, depth + 1))?;
            }
        },
    }
    Ok(())
}

pub(super) fn too_deep() -> Box<Refusal> {
    Refusal::malformed(format!("values lie in each other more than {MAX_DEPTH} deep"))
}

fn no_branch(branch: i64) -> Box<Refusal> {
    Refusal::malformed(format!("a union has no type of the number {branch}"))
}

/// The type of a union that a value has.
pub(super) fn branch<'n>(branches: &'n [Node], bytes: &mut Cursor) -> Read<&'n Node> {
    let branch = bytes.zigzag()?;
    let found = usize::try_from(branch).ok().and_then(|branch| branches.get(branch));
    found.ok_or_else(|| no_branch(branch))
}

pub(super) fn boolean(bytes: &mut Cursor) -> Read<bool> {
    match bytes.byte()? {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(Refusal::malformed(format!("{other} is no boolean"))),
    }
}

pub(super) fn int(bytes: &mut Cursor) -> Read<i32> {
    let number = bytes.zigzag()?;
    i32::try_from(number).map_err(|_| Refusal::malformed(format!("{number} is no int of 32 bits")))
}

/// Bytes behind their number.
pub(super) fn sized<'a>(bytes: &mut Cursor<'a>) -> Read<&'a [u8]> {
    let length = bytes.zigzag()?;
    let length = usize::try_from(length).map_err(|_| Refusal::malformed(format!("{length} is no length")))?;
    bytes.take(length)
}

pub(super) fn text<'a>(bytes: &mut Cursor<'a>) -> Read<&'a str> {
    std::str::from_utf8(sized(bytes)?).map_err(|_| Refusal::value(": its text is no valid UTF-8"))
}

pub(super) fn symbol<'s>(symbols: &'s [String], bytes: &mut Cursor) -> Read<&'s str> {
    let number = bytes.zigzag()?;
    let symbol = usize::try_from(number).ok().and_then(|number| symbols.get(number));
    symbol
        .map(String::as_str)
        .ok_or_else(|| Refusal::malformed(format!("an enum has no symbol of the number {number}")))
}

/// A decimal, whose digits are a number in base 256, its high digits first.
pub(super) fn decimal(bytes: &mut Cursor, scale: i8, size: Option<usize>) -> Read<Scalar<'static>> {
    let digits = match size {
        Some(size) => bytes.take(size)?,
        None => sized(bytes)?,
    };
    let negative = digits.first().is_some_and(|first| *first >= 0x80);
    let fill = if negative { 0xff } else { 0 };
    let significant = digits.iter().position(|digit| *digit != fill).map_or(&digits[..0], |first| &digits[first..]);
    if significant.len() > 16 {
        return Err(Refusal::value(": a decimal has more than 38 digits"));
    }
    let mut whole = [fill; 16];
    whole[16 - significant.len()..].copy_from_slice(significant);
    let number = i128::from_be_bytes(whole);
    if (number < 0) != negative {
        return Err(Refusal::value(": a decimal has more than 38 digits"));
    }
    Ok(Scalar::Decimal(number, scale))
}

fn timestamp(bytes: &mut Cursor, unit: TimeUnit) -> Read<i64> {
    let number = bytes.zigzag()?;
    let out_of_range = || Refusal::value(format!(": the timestamp {number} is out of range, which is 292,000 years"));
    crate::records::micros(number, unit).ok_or_else(out_of_range)
}

fn time(column: &mut Column, micros: i64) -> Read<()> {
    if !(0..millstream_core::DAY_MICROS).contains(&micros) {
        return Err(Refusal::value(format!(": {micros} microseconds are no time of day")));
    }
    column.push(Scalar::Time(micros))
}
