//! Texts in other encodings than UTF-8, as UTF-8.
//!
//! These few are what old programs, spreadsheets and Windows write; crates that know forty bring tables of half a megabyte.

use std::io::{ErrorKind, Read, Result};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How letters are written as bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum TextEncoding {
    /// UTF-8.
    #[default]
    #[serde(rename = "utf-8")]
    Utf8,
    /// ISO 8859-1, also known as latin-1: western European languages.
    #[serde(rename = "latin-1")]
    Latin1,
    /// Latin-1 with more letters, as Windows writes it.
    #[serde(rename = "windows-1252")]
    Windows1252,
    /// UTF-16, the lower byte first unless a byte order mark says otherwise.
    #[serde(rename = "utf-16")]
    Utf16,
}

/// What Windows-1252 has in place of the control characters 0x80 to 0x9f. Five of them it leaves as they are.
const WINDOWS: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}', '‘', '’',
    '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

/// How many bytes are read at once.
const CHUNK: usize = 1 << 14;

/// A text whose encoding is called as web servers call it. None if that is not known. What is no text in it becomes replacement characters.
pub fn text_of(label: &str, bytes: &[u8]) -> Option<String> {
    let encoding = match label.to_ascii_lowercase().as_str() {
        "utf-8" | "utf8" | "us-ascii" | "ascii" => TextEncoding::Utf8,
        // Web browsers read these two as one.
        "iso-8859-1" | "latin1" | "latin-1" | "windows-1252" | "cp1252" => TextEncoding::Windows1252,
        "utf-16" | "utf-16le" => TextEncoding::Utf16,
        _ => return None,
    };
    let mut text = Vec::new();
    Decoder::new(bytes, encoding).read_to_end(&mut text).ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

/// Reads text of another encoding as UTF-8. What is no text in that encoding becomes bytes that are none in UTF-8 either, so
/// that its row is rejected.
pub(crate) struct Decoder<R> {
    source: R,
    encoding: TextEncoding,
    /// UTF-16: whether the upper byte comes first, once it is known.
    is_big: Option<bool>,
    /// Bytes that were read and are no whole character.
    rest: Vec<u8>,
    text: Vec<u8>,
    /// How much of the text was handed out.
    given: usize,
}

impl<R: Read> Decoder<R> {
    pub(crate) fn new(source: R, encoding: TextEncoding) -> Self {
        Self { source, encoding, is_big: None, rest: Vec::new(), text: Vec::new(), given: 0 }
    }

    /// Decodes more of the source. Returns false at its end.
    fn fill(&mut self) -> Result<bool> {
        self.given = 0;
        self.text.clear();
        let mut chunk = [0; CHUNK];
        let read = loop {
            match self.source.read(&mut chunk) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        self.rest.extend_from_slice(&chunk[..read]);
        match self.encoding {
            TextEncoding::Utf8 => self.text.append(&mut self.rest),
            TextEncoding::Latin1 => self.letters(char::from),
            TextEncoding::Windows1252 => self.letters(|byte| match byte {
                0x80..=0x9f => WINDOWS[usize::from(byte - 0x80)],
                other => char::from(other),
            }),
            TextEncoding::Utf16 => self.units(read == 0),
        }
        Ok(read > 0 || !self.text.is_empty())
    }

    fn letters(&mut self, letter: impl Fn(u8) -> char) {
        for byte in self.rest.drain(..) {
            self.text.extend_from_slice(letter(byte).encode_utf8(&mut [0; 4]).as_bytes());
        }
    }

    fn units(&mut self, is_end: bool) {
        if self.rest.len() >= 2 && self.is_big.is_none() {
            self.is_big = Some(self.rest.starts_with(&[0xfe, 0xff]));
        }
        let is_big = self.is_big.unwrap_or(false);
        let unit = |pair: &[u8]| if is_big { [pair[0], pair[1]] } else { [pair[1], pair[0]] };
        let mut units: Vec<u16> = self.rest.chunks_exact(2).map(|pair| u16::from_be_bytes(unit(pair))).collect();
        // The second half of a character may be still to come.
        if !is_end && units.last().is_some_and(|unit| (0xd800..0xdc00).contains(unit)) {
            units.pop();
        }
        for character in char::decode_utf16(units.iter().copied()) {
            match character {
                Ok(character) => self.text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
                Err(_) => self.text.push(NO_CHARACTER),
            }
        }
        self.rest.drain(..2 * units.len());
        if is_end && !self.rest.is_empty() {
            self.rest.clear();
            self.text.push(NO_CHARACTER);
        }
    }
}

/// A byte that no text in UTF-8 has.
const NO_CHARACTER: u8 = 0xff;

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        while self.given == self.text.len() {
            if !self.fill()? {
                return Ok(0);
            }
        }
        let count = buffer.len().min(self.text.len() - self.given);
        buffer[..count].copy_from_slice(&self.text[self.given..][..count]);
        self.given += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives a byte at a time.
    struct Dripping<'a>(&'a [u8]);

    impl Read for Dripping<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
            let most = buffer.len().min(1);
            self.0.read(&mut buffer[..most])
        }
    }

    fn decode(bytes: &[u8], encoding: TextEncoding) -> Vec<u8> {
        let (mut whole, mut dripping) = (Vec::new(), Vec::new());
        Decoder::new(bytes, encoding).read_to_end(&mut whole).expect("reads");
        Decoder::new(Dripping(bytes), encoding).read_to_end(&mut dripping).expect("reads");
        assert_eq!(whole, dripping);
        whole
    }

    #[test]
    fn other_encodings_become_utf8() {
        assert_eq!(decode(b"\xe4\x80", TextEncoding::Latin1), "ä\u{80}".as_bytes());
        assert_eq!(decode(b"\xe4\x80\x9f", TextEncoding::Windows1252), "ä€Ÿ".as_bytes());
        let text = "\u{feff}aä€\u{1F600}\n".repeat(10_000);
        let units = || text.encode_utf16();
        let little: Vec<u8> = units().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = units().flat_map(u16::to_be_bytes).collect();
        assert_eq!(decode(&little, TextEncoding::Utf16), text.as_bytes());
        assert_eq!(decode(&big, TextEncoding::Utf16), text.as_bytes());
        assert_eq!(decode(&little[2..8], TextEncoding::Utf16), "aä€".as_bytes());
    }

    #[test]
    fn what_is_no_text_is_none_afterwards() {
        assert_eq!(decode(b"a\0\0\xd8b\0", TextEncoding::Utf16), b"a\xffb");
        assert_eq!(decode(b"a\0b", TextEncoding::Utf16), b"a\xff");
        assert_eq!(decode(b"a\0\0\xd8", TextEncoding::Utf16), b"a\xff");
    }
}
