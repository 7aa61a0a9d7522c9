//! The wire format of Protobuf: fields with their numbers, one behind the other.

use crate::records::{Cursor, MAX_DEPTH};
use crate::refusal::{Read, Refusal};

/// What a field has on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Payload<'a> {
    Varint(u64),
    Fixed64([u8; 8]),
    /// Bytes behind their number, or the fields of a group.
    Bytes(&'a [u8]),
    Fixed32([u8; 4]),
}

pub(super) const VARINT: u64 = 0;
pub(super) const FIXED64: u64 = 1;
pub(super) const LENGTH_DELIMITED: u64 = 2;
pub(super) const GROUP: u64 = 3;
pub(super) const GROUP_END: u64 = 4;
pub(super) const FIXED32: u64 = 5;

/// Goes through the fields of a message.
pub(super) fn fields<'a>(bytes: &'a [u8], mut field: impl FnMut(u32, Payload<'a>) -> Read<()>) -> Read<()> {
    let mut cursor = Cursor::new(bytes);
    while !cursor.is_at_end() {
        let (number, wire_type) = tag(&mut cursor)?;
        let payload = payload(&mut cursor, number, wire_type)?;
        field(number, payload)?;
    }
    Ok(())
}

/// The number of the next field, and how its value is written.
#[inline]
fn tag(cursor: &mut Cursor) -> Read<(u32, u64)> {
    let tag = cursor.varint()?;
    match u32::try_from(tag >> 3) {
        Ok(number @ 1..=0x1fff_ffff) => Ok((number, tag & 7)),
        _ => Err(Refusal::malformed(format!("{} is no number of a field", tag >> 3))),
    }
}

#[inline]
fn payload<'a>(cursor: &mut Cursor<'a>, number: u32, wire_type: u64) -> Read<Payload<'a>> {
    match wire_type {
        VARINT => cursor.varint().map(Payload::Varint),
        FIXED64 => cursor.array().map(Payload::Fixed64),
        LENGTH_DELIMITED => delimited(cursor).map(Payload::Bytes),
        GROUP => group(cursor, number).map(Payload::Bytes),
        FIXED32 => cursor.array().map(Payload::Fixed32),
        GROUP_END => Err(Refusal::malformed("a group ends that was not begun")),
        other => Err(Refusal::malformed(format!("a field is of the kind {other}, which there is not"))),
    }
}

fn delimited<'a>(cursor: &mut Cursor<'a>) -> Read<&'a [u8]> {
    let length = usize::try_from(cursor.varint()?).unwrap_or(usize::MAX);
    cursor.take(length)
}

/// The fields of a group, up to its end.
fn group<'a>(cursor: &mut Cursor<'a>, number: u32) -> Read<&'a [u8]> {
    let whole = cursor.rest();
    let mut open = vec![number];
    loop {
        let end = whole.len() - cursor.rest().len();
        let (number, wire_type) = tag(cursor)?;
        match wire_type {
            GROUP if open.len() == MAX_DEPTH => return Err(too_deep()),
            GROUP => open.push(number),
            GROUP_END if open.pop() != Some(number) => return Err(Refusal::malformed("a group ends as another one")),
            GROUP_END if open.is_empty() => return Ok(&whole[..end]),
            GROUP_END => {}
            other => _ = payload(cursor, number, other)?,
        }
    }
}

#[cold]
pub(super) fn too_deep() -> Box<Refusal> {
    Refusal::malformed(format!("messages lie in each other more than {MAX_DEPTH} deep"))
}
