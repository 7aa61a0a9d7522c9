//! Messages in a stream of bytes, as RFC 6587 has found them in use: each behind its length, or each a line.

use schemars::JsonSchema;
use serde::Deserialize;

/// How messages follow each other on a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Framing {
    /// As the first byte of each says: a digit begins the length, all else a line.
    #[default]
    Auto,
    /// Each behind its length and a blank.
    Octets,
    /// Each is a line.
    Lines,
}

/// A message that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub bytes: Vec<u8>,
    /// Whether it is the beginning of one that was too long.
    pub is_cut: bool,
}

/// Why what comes can't be told apart.
pub const NO_LENGTH: &str = "a message does not begin with its length";

/// What a length has at most, in digits.
const DIGITS: usize = 10;

/// Finds messages.
pub struct Frames {
    framing: Framing,
    /// How many bytes a message has at most.
    longest: usize,
    buffer: Vec<u8>,
    /// How much of the message that is being found is still to be left out.
    skip: Skip,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Skip {
    Nothing,
    Bytes(usize),
    Line,
}

impl Frames {
    pub fn new(framing: Framing, longest: usize) -> Self {
        Self { framing, longest, buffer: Vec::new(), skip: Skip::Nothing }
    }

    /// Takes bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next message, if it is there.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, &'static str> {
        loop {
            if !self.leave_out() {
                return Ok(None);
            }
            // Between messages there may be line breaks.
            let breaks = self.buffer.iter().take_while(|byte| matches!(byte, b'\n' | b'\r')).count();
            self.buffer.drain(..breaks);
            let Some(first) = self.buffer.first() else { return Ok(None) };
            let is_counted = match self.framing {
                Framing::Auto => first.is_ascii_digit(),
                Framing::Octets => true,
                Framing::Lines => false,
            };
            let frame = if is_counted { self.counted()? } else { self.line() };
            match frame {
                Some(frame) if frame.bytes.is_empty() => {}
                frame => return Ok(frame),
            }
        }
    }

    /// What is left when nothing more comes: a line without an end, or a message that was cut off.
    pub fn finish(&mut self) -> Option<Frame> {
        if self.skip != Skip::Nothing || self.buffer.is_empty() {
            return None;
        }
        let is_counted =
            self.framing == Framing::Octets || self.framing == Framing::Auto && self.buffer[0].is_ascii_digit();
        let bytes = std::mem::take(&mut self.buffer);
        Some(Frame { bytes: trimmed(&bytes).to_vec(), is_cut: is_counted })
    }

    /// Leaves out what is to be. Returns whether that is done.
    fn leave_out(&mut self) -> bool {
        match self.skip {
            Skip::Nothing => return true,
            Skip::Bytes(left) => {
                let gone = left.min(self.buffer.len());
                self.buffer.drain(..gone);
                self.skip = if gone == left { Skip::Nothing } else { Skip::Bytes(left - gone) };
            }
            Skip::Line => match memchr::memchr(b'\n', &self.buffer) {
                Some(end) => {
                    self.buffer.drain(..=end);
                    self.skip = Skip::Nothing;
                }
                None => self.buffer.clear(),
            },
        }
        self.skip == Skip::Nothing
    }

    fn counted(&mut self) -> Result<Option<Frame>, &'static str> {
        let Some(blank) = self.buffer.iter().take(DIGITS + 1).position(|byte| *byte == b' ') else {
            let is_number = self.buffer.iter().take(DIGITS + 1).all(u8::is_ascii_digit);
            return if is_number && self.buffer.len() <= DIGITS { Ok(None) } else { Err(NO_LENGTH) };
        };
        let length = std::str::from_utf8(&self.buffer[..blank])
            .ok()
            .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let length: usize = length.and_then(|length| length.parse().ok()).ok_or(NO_LENGTH)?;
        let taken = length.min(self.longest);
        if self.buffer.len() < blank + 1 + taken {
            return Ok(None);
        }
        let bytes = trimmed(&self.buffer[blank + 1..blank + 1 + taken]).to_vec();
        self.buffer.drain(..blank + 1 + taken);
        if taken < length {
            self.skip = Skip::Bytes(length - taken);
        }
        Ok(Some(Frame { bytes, is_cut: taken < length }))
    }

    fn line(&mut self) -> Option<Frame> {
        match memchr::memchr(b'\n', &self.buffer[..self.buffer.len().min(self.longest + 1)]) {
            Some(end) => {
                let bytes = trimmed(&self.buffer[..end]).to_vec();
                self.buffer.drain(..=end);
                Some(Frame { bytes, is_cut: false })
            }
            None if self.buffer.len() > self.longest => {
                let bytes = self.buffer[..self.longest].to_vec();
                self.skip = Skip::Line;
                Some(Frame { bytes, is_cut: true })
            }
            None => None,
        }
    }
}

/// A message without what some put behind it: line breaks, and the letter of the number 0.
pub fn trimmed(message: &[u8]) -> &[u8] {
    let end = message.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r' | 0)).map_or(0, |last| last + 1);
    &message[..end]
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use millstream_testkit::Hostile;

    use super::*;
    use crate::message::parse;

    /// The messages of a text that comes in pieces of so many bytes.
    fn found(framing: Framing, text: &str, piece: usize) -> Result<Vec<String>, &'static str> {
        let mut frames = Frames::new(framing, 10);
        let mut found = Vec::new();
        for piece in text.as_bytes().chunks(piece) {
            frames.push(piece);
            while let Some(frame) = frames.next_frame()? {
                found.push(frame);
            }
        }
        found.extend(frames.finish());
        let text = |frame: Frame| {
            format!("{}{}", String::from_utf8(frame.bytes).unwrap(), if frame.is_cut { "…" } else { "" })
        };
        Ok(found.into_iter().map(text).collect())
    }

    #[test]
    fn messages_are_found_however_they_come() {
        for piece in [1, 3, 100] {
            let of = |framing, text| found(framing, text, piece).unwrap();
            assert_eq!(of(Framing::Auto, "5 <1>ab6 <1>a\nb<2>x\n\n<3>y\r\n"), ["<1>ab", "<1>a\nb", "<2>x", "<3>y"]);
            assert_eq!(of(Framing::Lines, "5 a\nb\0\n<2>x"), ["5 a", "b", "<2>x"]);
            assert_eq!(of(Framing::Octets, "3 abc\n2 de"), ["abc", "de"]);
            assert_eq!(of(Framing::Auto, "12 <1>456789012<2>x\n"), ["<1>4567890…", "<2>x"]);
            assert_eq!(of(Framing::Auto, "<1>4567890123456\n<2>x\n"), ["<1>4567890…", "<2>x"]);
            assert_eq!(of(Framing::Auto, "<1>4567890\n"), ["<1>4567890"]);
            assert_eq!(of(Framing::Octets, "9 abc"), ["9 abc…"]);
            assert!(found(Framing::Octets, "abc", piece).is_err());
            assert!(found(Framing::Octets, "99999999999 x", piece).is_err());
            assert!(found(Framing::Auto, "12x", piece).is_err() || piece == 1);
        }
    }
    /// Whatever comes, in whatever pieces, is messages, or no connection that says how long these are.
    #[test]
    fn hostile_bytes_are_messages() {
        let zone: arrow::array::timezone::Tz = "Europe/Berlin".parse().unwrap();
        let valid = [
            &b"71 <165>1 2003-10-11T22:14:15.003Z h a 42 ID47 [ex@1 iut=\"3\" say=\"a \\\" b\"] hi"[..],
            b"<34>Dec 31 23:59:59 mymachine su[230]: 'su root' failed\n<13>2026-01-31T12:00:00+01:00 host kernel: oops\n",
            b"<34>1 - - - - - - \xef\xbb\xbf\xc3\xbc\n999999999 x",
        ];
        Hostile::new(valid).attack(|bytes| {
            for framing in [Framing::Auto, Framing::Octets, Framing::Lines] {
                let mut frames = Frames::new(framing, 64);
                let mut found = Vec::new();
                for piece in bytes.chunks(7) {
                    frames.push(piece);
                    while let Ok(Some(frame)) = frames.next_frame() {
                        found.push(frame);
                    }
                }
                found.extend(frames.finish());
                for frame in found {
                    let text = String::from_utf8_lossy(&frame.bytes);
                    let parsed = parse(&text, 1_767_225_610_000_000, zone);
                    assert!(text.ends_with(parsed.message), "{text}");
                }
            }
        });
    }
}
