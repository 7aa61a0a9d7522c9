//! Appends numbers as records have them.

/// Appends a number in base 128, its low digits first.
#[inline]
pub(crate) fn put_varint(number: u64, out: &mut Vec<u8>) {
    let mut rest = number;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Appends a number of which the sign is the lowest bit.
#[inline]
pub(crate) fn put_zigzag(number: i64, out: &mut Vec<u8>) {
    put_varint((number << 1 ^ number >> 63) as u64, out);
}
