//! Messages of Protobuf field by field: to change one without losing what isn't known of it.

use millstream_core::{Error, Result};

/// A field of a message.
pub(super) struct Field<'a> {
    pub number: u64,
    /// All its bytes, with its number.
    pub whole: &'a [u8],
    /// Those of its content, if it has a length: of messages, texts and bytes.
    pub content: Option<&'a [u8]>,
}

/// The fields of a message, in their order.
pub(super) fn fields(mut rest: &[u8]) -> Result<Vec<Field<'_>>> {
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let field = first(rest).ok_or_else(|| Error::new("the file is damaged: a field of it ends too soon"))?;
        rest = &rest[field.whole.len()..];
        fields.push(field);
    }
    Ok(fields)
}

/// The first field.
fn first(bytes: &[u8]) -> Option<Field<'_>> {
    let (tag, start) = varint(bytes, 0)?;
    let (end, content) = match tag & 7 {
        0 => (varint(bytes, start)?.1, None),
        1 => (start + 8, None),
        2 => {
            let (length, start) = varint(bytes, start)?;
            let end = start.checked_add(usize::try_from(length).ok()?)?;
            (end, Some(bytes.get(start..end)?))
        }
        5 => (start + 4, None),
        _ => return None,
    };
    Some(Field { number: tag >> 3, whole: bytes.get(..end)?, content })
}

/// A number, and where the next begins.
fn varint(bytes: &[u8], start: usize) -> Option<(u64, usize)> {
    let mut value = 0;
    for (index, byte) in bytes.get(start..)?.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f).checked_shl(7 * index as u32)?;
        if byte & 0x80 == 0 {
            return Some((value, start + index + 1));
        }
    }
    None
}

/// Appends a field that has a length.
pub(super) fn put(number: u64, content: &[u8], into: &mut Vec<u8>) {
    put_varint(number << 3 | 2, into);
    put_varint(content.len() as u64, into);
    into.extend_from_slice(content);
}

fn put_varint(mut value: u64, into: &mut Vec<u8>) {
    while value >= 0x80 {
        into.push(value as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}
