//! What is taken, as a record of the log: the format unless it is the input's own, a key, and bytes of the format.

use millstream_formats::{BadRow, Decoder, Rows};

use super::formats::{Decoders, FormatTag};
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
    /// Packs bytes whose rows can be read. They are read as the flow will read them, so that there is only one way to count them.
    pub fn new(key: Option<&Key>, tag: FormatTag, bytes: Vec<u8>, decoders: &Decoders) -> Result<Self, Refused> {
        let decoder = decoders.of(tag).map_err(Refused::Format)?;
        if decoder.format.is_utf8() && std::str::from_utf8(&bytes).is_err() {
            return Err(Refused::NoText);
        }
        let payload = [&packed(tag, key)[..], &bytes].concat();
        let rows = count(bytes, decoder)?;
        let rows = u32::try_from(rows).map_err(|_| Refused::Unreadable { row: None, why: "too many rows".into() })?;
        let fingerprint = key.map_or(0, |_| fingerprint(&payload));
        Ok(Self { payload, rows, fingerprint })
    }
}

/// How many rows bytes are, all of which can be read.
fn count(bytes: Vec<u8>, decoder: &Decoder) -> Result<usize, Refused> {
    let wrong = |error: millstream_core::Error| Refused::Unreadable { row: None, why: error.to_string() };
    let small = small(decoder, decoder.format.most_rows(&bytes));
    let mut reader = small.read_body(bytes).map_err(wrong)?;
    let (mut rows, mut bad, mut first) = (0, 0, None);
    let mut read = Rows::default();
    while reader.next(&mut read).map_err(wrong)? {
        let read = std::mem::take(&mut read);
        (rows, bad) = (rows + read.len(), bad + read.failed.len());
        first = first.or_else(|| read.failed.into_iter().min_by_key(|row| row.position));
    }
    first.map_or(Ok(rows), |first| Err(bad_rows(first, bad, rows)))
}

/// Rows that can't be read, of so many. None of them is taken: who sends them has them still, and can mend them.
fn bad_rows(first: BadRow, bad: usize, rows: usize) -> Refused {
    let BadRow { position, error, .. } = first;
    let others = if bad > 1 { format!(", as {} others of {rows} can't", bad - 1) } else { String::new() };
    let why = format!("row {position}, counted from 0, can't be read{others}: {error}; none was taken");
    Refused::Unreadable { row: Some(position), why }
}

/// What reads so few rows: memory is taken for as many as there may be.
pub fn small(decoder: &Decoder, rows: usize) -> Decoder {
    Decoder { batch_rows: decoder.batch_rows.min(rows.max(1)), ..decoder.clone() }
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
