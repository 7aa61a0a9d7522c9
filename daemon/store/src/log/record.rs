//! How records lie in a segment.
//!
//! A segment begins with [`MAGIC`] and a random number, from which its checksums start, so that neither a payload nor what
//! another file has left on the disk is taken for a record. A record is its payload behind a header of 28 bytes, whose
//! numbers are little-endian: the length of the payload, the checksum of all that follows, the record's number, the number
//! up to which all was durable when it was written, and how many numbers it takes.

use std::hash::{BuildHasher, RandomState};
use std::ops::Range;

/// What a segment begins with.
const MAGIC: [u8; 4] = *b"MSL1";

/// How long the beginning of a segment is.
pub const START: usize = 8;

/// How long the header of a record is.
pub const HEADER: usize = 28;

/// How long a payload may be.
pub const MAX_PAYLOAD: usize = 1 << 30;

/// What was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its number: that of its first row.
    pub number: u64,
    /// How many rows it has, so that the next record's number is so much higher.
    pub rows: u32,
    /// Its bytes.
    pub payload: Vec<u8>,
}

impl Record {
    /// The number of the record behind it.
    pub fn end(&self) -> u64 {
        self.number + u64::from(self.rows)
    }
}

/// The random number of a segment, or of another file that is made like one.
#[derive(Clone, Copy, Debug)]
pub struct Salt(u32);

impl Salt {
    /// The beginning of a new segment.
    pub fn start_segment() -> (Self, Vec<u8>) {
        Self::start(MAGIC)
    }

    /// That of a segment that begins like this.
    pub fn of(segment: &[u8]) -> Option<Self> {
        Self::behind(MAGIC, segment)
    }

    /// The beginning of a new file.
    pub fn start(magic: [u8; 4]) -> (Self, Vec<u8>) {
        let salt = RandomState::new().hash_one(0) as u32;
        (Self(salt), [magic, salt.to_le_bytes()].concat())
    }

    /// That of a file that begins like this.
    pub fn behind(magic: [u8; 4], file: &[u8]) -> Option<Self> {
        let salt = file.strip_prefix(&magic)?.first_chunk()?;
        Some(Self(u32::from_le_bytes(*salt)))
    }

    /// The checksum of some bytes of the file.
    pub fn checksum(self, bytes: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new_with_initial(self.0);
        hasher.update(bytes);
        hasher.finalize()
    }
}

/// A record in a segment's bytes.
#[derive(Debug, PartialEq, Eq)]
pub struct Header {
    pub number: u64,
    pub durable: u64,
    pub rows: u32,
    length: usize,
}

/// What some bytes begin with.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A record, which takes up so many bytes.
    Record(Header, usize),
    /// Perhaps a record, if there are so many bytes.
    Short(usize),
    /// No record.
    Bad,
}

impl Header {
    /// Where its payload is, counted from where it begins.
    pub fn payload(&self) -> Range<usize> {
        HEADER..HEADER + self.length
    }

    /// The number of the record behind it.
    pub fn end(&self) -> u64 {
        self.number.saturating_add(u64::from(self.rows))
    }

    fn read(bytes: &[u8; HEADER]) -> Self {
        let number =
            |range: Range<usize>| bytes[range].iter().rev().fold(0, |number, byte| (number << 8) | u64::from(*byte));
        Self {
            length: number(0..4) as usize,
            number: number(8..16),
            durable: number(16..24),
            rows: number(24..28) as u32,
        }
    }

    /// Whether it looks like one that was written, before anything is calculated.
    fn is_plausible(&self) -> bool {
        self.length <= MAX_PAYLOAD && self.rows > 0 && self.durable <= self.number
    }
}

/// Looks for a record where `bytes` begin.
pub fn parse(bytes: &[u8], salt: Salt) -> Parsed {
    let Some(header) = bytes.first_chunk() else { return Parsed::Short(HEADER) };
    let checksum = [header[4], header[5], header[6], header[7]];
    let header = Header::read(header);
    let end = HEADER + header.length;
    match bytes.get(8..end) {
        _ if !header.is_plausible() => Parsed::Bad,
        None => Parsed::Short(end),
        Some(summed) if salt.checksum(summed) == u32::from_le_bytes(checksum) => Parsed::Record(header, end),
        Some(_) => Parsed::Bad,
    }
}

/// Appends a record to the bytes of a segment.
pub fn encode(payload: &[u8], rows: u32, number: u64, durable: u64, salt: Salt, into: &mut Vec<u8>) {
    let start = into.len();
    into.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    into.extend_from_slice(&[0; 4]);
    into.extend_from_slice(&number.to_le_bytes());
    into.extend_from_slice(&durable.to_le_bytes());
    into.extend_from_slice(&rows.to_le_bytes());
    into.extend_from_slice(payload);
    let checksum = salt.checksum(&into[start + 8..]);
    into[start + 4..start + 8].copy_from_slice(&checksum.to_le_bytes());
}

/// The records that a segment begins with.
#[derive(Debug, PartialEq, Eq)]
pub struct Whole {
    /// How many bytes they take up.
    pub bytes: usize,
    /// The number behind them.
    pub end: u64,
    /// Whether what follows them was durable once, and so is damaged rather than torn by a crash.
    pub damaged: bool,
}

/// Finds out how much of a segment is whole. `first` is the number of its first record.
pub fn whole(segment: &[u8], first: u64, salt: Salt) -> Whole {
    let (mut bytes, mut end) = (START, first);
    while let Parsed::Record(header, length) = parse(&segment[bytes..], salt) {
        if header.number != end {
            break;
        }
        (bytes, end) = (bytes + length, header.end());
    }
    // A record that was written when the one that is missing was durable.
    let later =
        |place: usize| matches!(parse(&segment[place..], salt), Parsed::Record(header, _) if header.durable > end);
    let damaged = (bytes..segment.len()).any(later);
    Whole { bytes, end, damaged }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A segment of records of one row from number 5: groups of two, each written when the one before was durable.
    fn segment() -> (Salt, Vec<u8>, Vec<usize>) {
        let (salt, mut bytes) = Salt::start_segment();
        let mut ends = Vec::new();
        for number in 5..9 {
            encode(&[number as u8; 30], 1, number, 5 + (number - 5) / 2 * 2, salt, &mut bytes);
            ends.push(bytes.len());
        }
        (salt, bytes, ends)
    }

    #[test]
    fn records_are_read_as_they_were_written() {
        let (salt, bytes, ends) = segment();
        let Parsed::Record(header, length) = parse(&bytes[ends[1]..], salt) else { panic!("no record") };
        assert_eq!((header.number, header.durable, header.rows, header.end()), (7, 7, 1, 8));
        assert_eq!(bytes[ends[1]..][header.payload()], [7; 30]);
        assert_eq!(ends[1] + length, ends[2]);
        assert_eq!(whole(&bytes, 5, salt), Whole { bytes: bytes.len(), end: 9, damaged: false });
        assert_eq!(Salt::of(&bytes).unwrap().0, salt.0);
    }

    #[test]
    fn a_torn_tail_is_told_from_damage() {
        let (salt, bytes, ends) = segment();
        for place in START..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 1;
            let record = ends.iter().filter(|end| **end <= place).count();
            let start = if record == 0 { START } else { ends[record - 1] };
            let found = whole(&changed, 5, salt);
            assert_eq!(found, Whole { bytes: start, end: 5 + record as u64, damaged: record < 2 }, "byte {place}");
            let torn = whole(&bytes[..place], 5, salt);
            assert_eq!(torn, Whole { bytes: start, end: 5 + record as u64, damaged: false });
        }
    }

    #[test]
    fn a_record_of_another_segment_is_none() {
        let (_, bytes, _) = segment();
        assert_eq!(parse(&bytes[START..], Salt::start_segment().0), Parsed::Bad);
        assert_eq!(parse(&[0; 100], Salt(0)), Parsed::Bad);
    }
}
