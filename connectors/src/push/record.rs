//! What is taken, as a record of the log: a key, and bytes.

use super::contents::Contents;
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
    pub fn new(key: Option<&Key>, bytes: Vec<u8>, contents: &dyn Contents) -> Result<Self, Refused> {
        let payload = [&packed(key)[..], &bytes].concat();
        let rows = contents.count(bytes)?;
        let rows = u32::try_from(rows).map_err(|_| Refused::Unreadable { row: None, why: "too many rows".into() })?;
        let fingerprint = key.map_or(0, |_| fingerprint(&payload));
        Ok(Self { payload, rows, fingerprint })
    }
}

/// What a record is known by, so that other bytes with the same key are noticed.
pub fn fingerprint(payload: &[u8]) -> u64 {
    blake3::hash(payload).as_bytes().first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
}

/// The key, as a record begins: its length in a byte, and its text.
fn packed(key: Option<&Key>) -> Vec<u8> {
    let key = key.map(Key::as_str).unwrap_or_default();
    [&[key.len() as u8], key.as_bytes()].concat()
}

/// The key and the bytes of a record. None if it is no such record.
pub fn unpack(payload: &[u8]) -> Option<(Option<Key>, &[u8])> {
    let (length, rest) = payload.split_first()?;
    let (key, bytes) = rest.split_at_checked(usize::from(*length))?;
    Some((Key::new(std::str::from_utf8(key).ok()?), bytes))
}
