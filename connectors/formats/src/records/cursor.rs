//! The place in a record up to which it has been read.

use crate::refusal::{Read, Refusal};

/// What is left of the bytes of a record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// The bytes that have not been read.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.bytes.is_empty()
    }

    #[inline]
    pub(crate) fn byte(&mut self) -> Read<u8> {
        let (first, rest) = self.bytes.split_first().ok_or_else(cut_off)?;
        self.bytes = rest;
        Ok(*first)
    }

    /// So many bytes.
    #[inline]
    pub(crate) fn take(&mut self, length: usize) -> Read<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(length).ok_or_else(cut_off)?;
        self.bytes = rest;
        Ok(taken)
    }

    #[inline]
    pub(crate) fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        let (taken, rest) = self.bytes.split_first_chunk().ok_or_else(cut_off)?;
        self.bytes = rest;
        Ok(*taken)
    }

    /// A number in base 128, its low digits first.
    #[inline]
    pub(crate) fn varint(&mut self) -> Read<u64> {
        match self.bytes {
            [first @ 0..=0x7f, rest @ ..] => {
                self.bytes = rest;
                Ok(u64::from(*first))
            }
            _ => self.long_varint(),
        }
    }

    /// One of several bytes: those of one that ends within eight are put together at once.
    fn long_varint(&mut self) -> Read<u64> {
        let Some(word) = self.bytes.first_chunk().map(|bytes| u64::from_le_bytes(*bytes)) else {
            return self.varint_by_bytes();
        };
        // The last byte is the first one whose highest bit is not set.
        let ends = !word & 0x8080_8080_8080_8080;
        if ends == 0 {
            return self.varint_by_bytes();
        }
        let bits = ends.trailing_zeros() + 1;
        let word = word & (u64::MAX >> (u64::BITS - bits)) & 0x7f7f_7f7f_7f7f_7f7f;
        // Of each two neighbours, the upper one moves next to the lower one: bytes, pairs, and fours.
        let word = word & 0x007f_007f_007f_007f | (word & 0x7f00_7f00_7f00_7f00) >> 1;
        let word = word & 0x0000_3fff_0000_3fff | (word & 0x3fff_0000_3fff_0000) >> 2;
        let word = word & 0x0fff_ffff | (word & 0x0fff_ffff_0000_0000) >> 4;
        self.bytes = &self.bytes[bits as usize / 8..];
        Ok(word)
    }

    fn varint_by_bytes(&mut self) -> Read<u64> {
        let mut number = 0;
        for (index, byte) in self.bytes.iter().take(10).enumerate() {
            // Of the last one, only the first bit has a place.
            if index == 9 && *byte > 1 {
                break;
            }
            number |= u64::from(byte & 0x7f) << (7 * index);
            if *byte < 0x80 {
                self.bytes = self.bytes.get(index + 1..).unwrap_or_default();
                return Ok(number);
            }
        }
        Err(if self.bytes.len() < 10 { cut_off() } else { Refusal::malformed("a number is longer than 64 bits") })
    }

    /// A number of which the sign is the lowest bit.
    #[inline]
    pub(crate) fn zigzag(&mut self) -> Read<i64> {
        self.varint().map(unzigzag)
    }
}

/// A number, as it is without its sign in the lowest bit.
#[inline]
pub(crate) fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

#[cold]
fn cut_off() -> Box<Refusal> {
    Refusal::malformed("it ends in the midst of a value")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn varint(bytes: &[u8]) -> Result<(u64, usize), String> {
        let mut cursor = Cursor::new(bytes);
        let number = cursor.varint().map_err(|refusal| refusal.to_string())?;
        Ok((number, cursor.rest().len()))
    }

    #[test]
    fn numbers_have_at_most_64_bits() {
        assert_eq!(varint(&[0x7f, 1]), Ok((127, 1)));
        assert_eq!(varint(&[0xac, 0x02]), Ok((300, 0)));
        assert_eq!(varint(&[0xac, 0x02, 1, 2, 3, 4, 5, 6, 7]), Ok((300, 7)));
        assert_eq!(varint(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]), Ok((u64::MAX, 0)));
        let long = "a number is longer than 64 bits";
        assert_eq!(varint(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]), Err(long.to_owned()));
        assert_eq!(varint(&[0x80; 20]), Err(long.to_owned()));
        assert_eq!(varint(&[0x80; 3]), Err("it ends in the midst of a value".to_owned()));
        assert_eq!(varint(&[]), Err("it ends in the midst of a value".to_owned()));
    }

    #[test]
    fn numbers_of_any_length_are_read_whatever_follows() {
        for shift in 0..64 {
            for number in [1_u64 << shift, u64::MAX >> shift, 0x5a5a_5a5a_5a5a_5a5a >> shift] {
                let (mut bytes, mut left) = (Vec::new(), number);
                while left > 0x7f {
                    bytes.push(left as u8 | 0x80);
                    left >>= 7;
                }
                bytes.push(left as u8);
                for more in 0..9 {
                    let followed = [&bytes[..], &vec![0xff; more]].concat();
                    assert_eq!(varint(&followed), Ok((number, more)), "{number}");
                }
            }
        }
    }

    #[test]
    fn signs_are_in_the_lowest_bit() {
        assert_eq!([0, 1, 2, 3, u64::MAX - 1, u64::MAX].map(unzigzag), [0, -1, 1, -2, i64::MAX, i64::MIN]);
    }
}
