//! Reads JSON token by token, as strictly as RFC 8259 has it.

use crate::refusal::{Read, Refusal};

/// How deep objects and arrays may be nested: they are read by recursion.
pub(crate) const MAX_DEPTH: usize = 512;

/// A place in a document.
pub(crate) struct Scanner<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    /// Takes the texts that have escapes; reused from document to document.
    unescaped: &'a mut String,
}

/// A value that is no object and no array.
pub(crate) enum Scalar<'t> {
    Null,
    Boolean(bool),
    Number(Number<'t>),
    Text(&'t str),
}

impl<'t> Scalar<'t> {
    /// What stands for the value: a text without its quotes and escapes.
    pub(crate) fn text(&self) -> &'t str {
        match self {
            Self::Null => "null",
            Self::Boolean(true) => "true",
            Self::Boolean(false) => "false",
            Self::Number(number) => number.text,
            Self::Text(text) => text,
        }
    }
}

/// A number, as it is written.
pub(crate) struct Number<'t> {
    pub(crate) text: &'t str,
    negative: bool,
    /// All digits of the number as one integer, unless they are too many or an exponent is behind them.
    digits: Option<u64>,
    /// How many of the digits are behind the point.
    fraction: usize,
}

impl Number<'_> {
    /// The number, if it is written as an integer that has room.
    pub(crate) fn integer(&self) -> Option<i64> {
        let digits = self.digits.filter(|_| self.fraction == 0)?;
        let magnitude = i64::try_from(digits).ok()?;
        Some(if self.negative { -magnitude } else { magnitude })
    }

    /// Whether the number is negative, its digits as an integer, and how many of them are behind the point; `None` where there are many of
    /// them, or an exponent.
    pub(crate) fn parts(&self) -> Option<(bool, u64, usize)> {
        Some((self.negative, self.digits?, self.fraction))
    }
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(text: &'a str, unescaped: &'a mut String) -> Self {
        Self { text, at: 0, depth: 0, unescaped }
    }

    /// Passes over spaces and tells the byte behind them: 0 at the end, which is no token either.
    #[inline]
    pub(crate) fn peek(&mut self) -> u8 {
        let bytes = self.text.as_bytes();
        loop {
            match bytes.get(self.at) {
                Some(b' ' | b'\t' | b'\n' | b'\r') => self.at += 1,
                Some(byte) => return *byte,
                None => return 0,
            }
        }
    }

    /// Checks that nothing but spaces is left.
    pub(crate) fn end(&mut self) -> Read<()> {
        self.peek();
        if self.at == self.text.len() { Ok(()) } else { Err(Refusal::malformed("expected one object on the line")) }
    }

    /// How many objects and arrays are open.
    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    /// Passes over the bracket that opens an object or array. Returns whether there is something in it.
    #[inline]
    pub(crate) fn open(&mut self, close: u8) -> Read<bool> {
        self.at += 1;
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Refusal::malformed(format!("nested deeper than {MAX_DEPTH} levels")));
        }
        Ok(self.peek() != close || self.close())
    }

    /// Passes over what follows an item of an object or array: a comma, behind which is another, or the bracket that closes it.
    #[inline]
    pub(crate) fn another(&mut self, close: u8) -> Read<bool> {
        match self.peek() {
            b',' => {
                self.at += 1;
                Ok(true)
            }
            byte if byte == close => Ok(self.close()),
            _ => Err(self.unexpected(if close == b'}' { "`,` or `}`" } else { "`,` or `]`" })),
        }
    }

    /// Passes over the bracket that closes an object or array, so that there is no more in it.
    fn close(&mut self) -> bool {
        self.at += 1;
        self.depth -= 1;
        false
    }

    /// Passes over a text, if it is the next thing.
    #[inline]
    pub(crate) fn take(&mut self, text: &str) -> bool {
        let is_next = self.text.as_bytes()[self.at..].starts_with(text.as_bytes());
        self.at += if is_next { text.len() } else { 0 };
        is_next
    }

    /// Passes over a key; gives it as it is written, with its quotes, and what it stands for.
    pub(crate) fn key(&mut self) -> Read<(&str, &str)> {
        if self.peek() != b'"' {
            return Err(self.unexpected("a key in quotes"));
        }
        let (start, text) = (self.at, self.text);
        let end = self.skip_string()?;
        let raw = &text[start..end];
        let key = if raw.contains('\\') { self.unescaped.as_str() } else { &raw[1..raw.len() - 1] };
        Ok((raw, key))
    }

    /// Passes over the colon between a key and its value.
    #[inline]
    pub(crate) fn colon(&mut self) -> Read<()> {
        if self.peek() != b':' {
            return Err(self.unexpected("`:`"));
        }
        self.at += 1;
        Ok(())
    }

    /// Passes over any value, and gives it as it is written.
    pub(crate) fn raw(&mut self) -> Read<&'a str> {
        self.peek();
        let (start, text) = (self.at, self.text);
        self.skip()?;
        Ok(&text[start..self.at])
    }

    /// Passes over any value.
    pub(crate) fn skip(&mut self) -> Read<()> {
        match self.peek() {
            b'"' => self.skip_string().map(|_| ()),
            b'{' => {
                let mut has_more = self.open(b'}')?;
                while has_more {
                    self.key()?;
                    self.colon()?;
                    self.skip()?;
                    has_more = self.another(b'}')?;
                }
                Ok(())
            }
            b'[' => {
                let mut has_more = self.open(b']')?;
                while has_more {
                    self.skip()?;
                    has_more = self.another(b']')?;
                }
                Ok(())
            }
            _ => self.scalar().map(|_| ()),
        }
    }

    /// Reads a value that is no object and no array.
    #[inline]
    pub(crate) fn scalar(&mut self) -> Read<Scalar<'_>> {
        match self.peek() {
            b'"' => self.string().map(Scalar::Text),
            b'-' | b'0'..=b'9' => self.number().map(Scalar::Number),
            b't' if self.take("true") => Ok(Scalar::Boolean(true)),
            b'f' if self.take("false") => Ok(Scalar::Boolean(false)),
            b'n' if self.take("null") => Ok(Scalar::Null),
            _ => Err(self.unexpected("a value")),
        }
    }

    /// Reads a text, of which the first quote is next.
    #[inline]
    fn string(&mut self) -> Read<&str> {
        let start = self.at + 1;
        let end = plain_end(self.text.as_bytes(), start);
        if self.text.as_bytes().get(end) == Some(&b'"') {
            self.at = end + 1;
            return Ok(&self.text[start..end]);
        }
        self.unescape(start, end)?;
        Ok(self.unescaped)
    }

    /// Passes over a text, of which the first quote is next. Returns where it ends.
    fn skip_string(&mut self) -> Read<usize> {
        self.string()?;
        Ok(self.at)
    }

    /// Reads a text that is not as it is written: up to `end` there is no escape.
    #[cold]
    fn unescape(&mut self, mut start: usize, mut end: usize) -> Read<()> {
        self.unescaped.clear();
        loop {
            self.unescaped.push_str(&self.text[start..end]);
            self.at = end;
            match self.text.as_bytes().get(end) {
                Some(b'"') => {
                    self.at = end + 1;
                    return Ok(());
                }
                Some(b'\\') => start = self.escape()?,
                Some(_) => return Err(self.fault("a control character in a text has to be escaped")),
                None => return Err(self.unexpected("`\"`")),
            }
            end = plain_end(self.text.as_bytes(), start);
        }
    }

    /// Unescapes what begins with a backslash. Returns where that ends.
    fn escape(&mut self) -> Read<usize> {
        let (character, length) = match self.text.as_bytes().get(self.at + 1) {
            Some(character @ (b'"' | b'\\' | b'/')) => (char::from(*character), 2),
            Some(b'b') => ('\u{8}', 2),
            Some(b'f') => ('\u{c}', 2),
            Some(b'n') => ('\n', 2),
            Some(b'r') => ('\r', 2),
            Some(b't') => ('\t', 2),
            Some(b'u') => self.code_point().ok_or_else(|| self.fault("an escape stands for no character"))?,
            Some(_) => return Err(self.fault("there is no such escape")),
            None => return Err(self.unexpected("an escape")),
        };
        self.unescaped.push(character);
        Ok(self.at + length)
    }

    /// The character of `\u00e4`, or of two such escapes, and how long they are.
    fn code_point(&self) -> Option<(char, usize)> {
        let unit = |at: usize| {
            let digits = self.text.get(at..at + 6)?.strip_prefix("\\u")?;
            let is_hexadecimal = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
            u32::from_str_radix(digits, 16).ok().filter(|_| is_hexadecimal)
        };
        match unit(self.at)? {
            high @ 0xd800..=0xdbff => {
                let low = unit(self.at + 6).filter(|low| (0xdc00..=0xdfff).contains(low))?;
                Some((char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00))?, 12))
            }
            other => Some((char::from_u32(other)?, 6)),
        }
    }

    #[inline]
    fn number(&mut self) -> Read<Number<'a>> {
        let (bytes, start) = (self.text.as_bytes(), self.at);
        let negative = bytes[start] == b'-';
        self.at += usize::from(negative);
        let leads_with_zero = bytes.get(self.at) == Some(&b'0');
        let mut digits = 0;
        let whole = self.digits(&mut digits)?;
        if leads_with_zero && whole > 1 {
            return Err(self.fault("a number begins with a zero that does not count"));
        }
        let mut fraction = 0;
        if self.take(".") {
            fraction = self.digits(&mut digits)?;
        }
        let has_exponent = matches!(bytes.get(self.at), Some(b'e' | b'E'));
        if has_exponent {
            self.at += 1;
            self.at += usize::from(matches!(bytes.get(self.at), Some(b'+' | b'-')));
            self.digits(&mut 0)?;
        }
        /// So many digits have room in 64 bits.
        const SHORT: usize = 19;
        let digits = (whole + fraction <= SHORT && !has_exponent).then_some(digits);
        Ok(Number { text: &self.text[start..self.at], negative, digits, fraction })
    }

    /// Passes over digits, at least one, and adds them to a number. Returns how many they are.
    #[inline]
    fn digits(&mut self, number: &mut u64) -> Read<usize> {
        let start = self.at;
        while let Some(digit @ b'0'..=b'9') = self.text.as_bytes().get(self.at) {
            *number = number.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
            self.at += 1;
        }
        if self.at == start { Err(self.unexpected("a digit")) } else { Ok(self.at - start) }
    }

    /// Says that something else was expected here.
    #[cold]
    pub(crate) fn unexpected(&self, expected: &str) -> Box<Refusal> {
        match self.text[self.at..].chars().next() {
            None => Refusal::malformed("the object is not closed"),
            Some(found) => self.fault(&format!("expected {expected} instead of `{}`", found.escape_debug())),
        }
    }

    #[cold]
    fn fault(&self, what: &str) -> Box<Refusal> {
        Refusal::malformed(format!("{what}, at byte {}", self.at + 1))
    }
}

/// Whether a text is a JSON value, and nothing else.
pub(crate) fn is_json(text: &str) -> bool {
    let mut unescaped = String::new();
    let mut json = Scanner::new(text, &mut unescaped);
    json.skip().and_then(|()| json.end()).is_ok()
}

/// Where the first byte from `start` on is that does not stand for itself in a text: a quote, a backslash, a control character; or the end.
#[inline]
fn plain_end(bytes: &[u8], start: usize) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const TOPS: u64 = ONES << 7;
    let mut at = start;
    // Eight bytes at once. A bit at the top of a byte says that it is below the number that was subtracted, and of these the
    // lowest is right; see "Bit Twiddling Hacks" by Sean Anderson.
    while let Some(eight) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let eight = u64::from_le_bytes(*eight);
        let below = |bytes: u64, number: u64| bytes.wrapping_sub(ONES * number) & !bytes;
        let control = below(eight, 0x20);
        let quote = below(eight ^ (ONES * u64::from(b'"')), 1);
        let backslash = below(eight ^ (ONES * u64::from(b'\\')), 1);
        let special = (control | quote | backslash) & TOPS;
        if special != 0 {
            return at + special.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let is_special = |byte: &u8| matches!(byte, 0..0x20 | b'"' | b'\\');
    bytes.get(at..).and_then(|rest| rest.iter().position(is_special)).map_or(bytes.len(), |length| at + length)
}
