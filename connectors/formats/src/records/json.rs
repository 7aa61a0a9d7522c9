//! Values as JSON, where a column takes any.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::scalar::Scalar;

/// Writes tokens of JSON.
pub(crate) struct JsonText<'a>(pub(crate) &'a mut Vec<u8>);

impl JsonText<'_> {
    pub(crate) fn raw(&mut self, token: &str) {
        self.0.extend_from_slice(token.as_bytes());
    }

    /// A text in its quotes.
    pub(crate) fn text(&mut self, text: &str) {
        // A vector takes everything.
        let _ = serde_json::to_writer(&mut *self.0, text);
    }

    /// A comma, unless it is the first one.
    pub(crate) fn comma(&mut self, is_first: &mut bool) {
        if !std::mem::take(is_first) {
            self.raw(",");
        }
    }

    /// A value: numbers are numbers, bytes that are no text are base64, and a float that is no number of JSON is null.
    pub(crate) fn scalar(&mut self, value: Scalar) {
        match value {
            Scalar::Text(text) => self.text(text),
            Scalar::Bytes(bytes) => self.text(&STANDARD.encode(bytes)),
            Scalar::Float(value) if !value.is_finite() => self.raw("null"),
            Scalar::Double(value) if !value.is_finite() => self.raw("null"),
            Scalar::Date(_) | Scalar::Time(_) | Scalar::Timestamp(_) => {
                self.raw("\"");
                value.write_text(self.0);
                self.raw("\"");
            }
            _ => _ = value.write_text(self.0),
        }
    }
}

/// A UUID, as it is mostly written.
pub(crate) fn uuid_text(bytes: &[u8; 16], out: &mut Vec<u8>) {
    for (index, byte) in bytes.iter().enumerate() {
        let hyphen = if [4, 6, 8, 10].contains(&index) { "-" } else { "" };
        // A vector takes everything.
        let _ = write!(out, "{hyphen}{byte:02x}");
    }
}
