//! Hashes and tokens of values, which nobody can reproduce without the key.

use std::fmt;
use std::sync::Arc;

use arrow::array::builder::StringBuilder;
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::DataType;
use hmac::{Hmac, KeyInit, Mac};
use millstream_core::{Result, canonical_floats};
use sha2::Sha256;

/// The letters and digits of tokens, five bits each: those of Crockford's base 32, in small letters.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

const HEXADECIMAL: &[u8; 16] = b"0123456789abcdef";

/// HMAC-SHA-256 (RFC 2104) with a key.
#[derive(Clone)]
pub(super) struct Keyed(Hmac<Sha256>);

impl fmt::Debug for Keyed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }
}

impl Keyed {
    pub(super) fn new(key: &[u8]) -> Self {
        Self(Hmac::new_from_slice(key).expect("a key of any length will do"))
    }

    /// The hash of each value, in hexadecimal.
    pub(super) fn hashes(&self, column: &ArrayRef) -> Result<ArrayRef> {
        self.texts(column, 64, |hash, text| {
            text.extend(
                hash.iter().flat_map(|byte| [byte >> 4, byte & 15].map(|digit| HEXADECIMAL[usize::from(digit)])),
            );
        })
    }

    /// The token of each value.
    pub(super) fn tokens(&self, column: &ArrayRef, length: usize, prefix: &str) -> Result<ArrayRef> {
        self.texts(column, prefix.len() + length, |hash, text| {
            text.extend_from_slice(prefix.as_bytes());
            let (mut bits, mut count) = (0_u32, 0);
            let mut bytes = hash.iter();
            for _ in 0..length {
                if count < 5 {
                    bits = (bits << 8) | u32::from(*bytes.next().unwrap_or(&0));
                    count += 8;
                }
                count -= 5;
                text.push(ALPHABET[(bits >> count) as usize & 31]);
            }
        })
    }

    /// What `write` makes of the hash of each value, in texts of so many bytes.
    fn texts(&self, column: &ArrayRef, bytes: usize, write: impl Fn(&[u8; 32], &mut Vec<u8>)) -> Result<ArrayRef> {
        let mut texts = StringBuilder::with_capacity(column.len(), column.len() * bytes);
        let mut text = Vec::with_capacity(bytes);
        let mut append = |value: Option<&[u8]>| {
            let Some(value) = value else { return texts.append_null() };
            text.clear();
            write(&self.0.clone().chain_update(value).finalize().into_bytes().into(), &mut text);
            // Only the prefix, which is a text, and ASCII.
            texts.append_value(std::str::from_utf8(&text).unwrap_or_default());
        };
        match column.data_type() {
            DataType::Binary => column.as_binary::<i32>().iter().for_each(append),
            _ => {
                let options = CastOptions { safe: false, ..CastOptions::default() };
                let values = cast_with_options(&canonical_floats(column), &DataType::Utf8, &options)?;
                values.as_string::<i32>().iter().for_each(|value| append(value.map(str::as_bytes)));
            }
        }
        Ok(Arc::new(texts.finish()))
    }
}
