//! What is taken, as a record of the log: the format unless it is the input's own, a key, and bytes of the format.

use super::contents::Contents;
use super::formats::FormatTag;
use super::keys::Key;
use super::refused::Refused;

/// A record of the log that is to be written.
pub struct Record {
    /// What the log keeps of it.
    pub payload: Vec<u8>,
    /// How many rows it has.
    pub rows: u32,
    /// What it is known by, if it has a key.
    pub fingerprint: u64,
}

impl Record {
    /// Packs bytes that are taken.
    pub fn new(key: Option<&Key>, tag: FormatTag, bytes: Vec<u8>, contents: &dyn Contents) -> Result<Self, Refused> {
        let payload = [&packed(tag, key)[..], &bytes].concat();
        let rows = contents.count(tag, bytes)?;
        let rows = u32::try_from(rows).map_err(|_| Refused::Unreadable { row: None, why: "too many rows".into() })?;
        let fingerprint = key.map_or(0, |_| fingerprint(&payload));
        Ok(Self { payload, rows, fingerprint })
    }
}

/// What a record is known by, so that other bytes with the same key are noticed.
pub fn fingerprint(payload: &[u8]) -> u64 {
    blake3::hash(payload).as_bytes().first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
}

/// As a record begins: the length of the key in a byte, and its text. Before that stands the format, if it is not the input's own, as if
/// it were a key of one character that no key has.
fn packed(tag: FormatTag, key: Option<&Key>) -> Vec<u8> {
    let key = key.map(Key::as_str).unwrap_or_default();
    let format = tag.number().map(|number| [1, number]);
    [format.as_ref().map_or(&[][..], |format| &format[..]), &[key.len() as u8], key.as_bytes()].concat()
}

/// What a record has.
pub struct Unpacked<'a> {
    pub tag: FormatTag,
    pub key: Option<Key>,
    pub bytes: &'a [u8],
}

/// What is in a record. None if it is no such record.
pub fn unpack(payload: &[u8]) -> Option<Unpacked<'_>> {
    let (tag, rest) = match payload {
        [1, number @ 1..0x20, rest @ ..] => (FormatTag::of_number(*number), rest),
        _ => (FormatTag::OWN, payload),
    };
    let (length, rest) = rest.split_first()?;
    let (key, bytes) = rest.split_at_checked(usize::from(*length))?;
    Some(Unpacked { tag, key: Key::new(std::str::from_utf8(key).ok()?), bytes })
}
