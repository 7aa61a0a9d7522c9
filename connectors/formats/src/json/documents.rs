//! JSON that is not one object a line: arrays of objects, and objects that take several lines.
//!
//! Objects are found by their brackets. Between them there may be spaces, a comma and the brackets of arrays. A comma with nothing
//! before it stands where an object is missing, and is refused as one.

use std::ops::Range;

use arrow::datatypes::SchemaRef;
use millstream_core::{Columns, Result};

use super::decoder::JsonDecoder;
use crate::reader::{BatchReader, ReaderPosition};
use crate::text::Moments;
use crate::window::{MAX_BATCH_BYTES, MAX_ROW_BYTES, Window};
use crate::{BadRow, Rows};

/// Finds objects in a text.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    /// Where the object begins that has not ended; `None` between objects.
    start: Option<usize>,
    /// How far the text has been gone through.
    at: usize,
    /// How many of the object's brackets are open.
    depth: usize,
    in_string: bool,
    is_escaped: bool,
    /// The last byte of the object that is no space.
    last: u8,
    /// How many brackets of arrays are open around objects.
    arrays: usize,
    /// Whether something has come that a comma can stand behind.
    may_separate: bool,
}

impl Objects {
    /// Where the next object is, or something that stands in its place; `None` if it is not whole in the text. It does not
    /// matter how the text is cut.
    pub(crate) fn next(&mut self, text: &[u8], is_end: bool) -> Option<Range<usize>> {
        while let Some(byte) = text.get(self.at).copied() {
            let Some(start) = self.start else {
                if byte == b',' && !self.may_separate {
                    self.at += 1;
                    return Some(self.end(self.at - 1));
                }
                self.begin(byte);
                continue;
            };
            if self.ends_before(byte, text[self.at - 1]) {
                return Some(self.end(start));
            }
            self.at += 1;
            if self.ends_with(byte) {
                return Some(self.end(start));
            }
        }
        self.start.filter(|_| is_end).map(|start| self.end(start))
    }

    /// Goes past a byte between objects.
    fn begin(&mut self, byte: u8) {
        match byte {
            b'[' => (self.arrays, self.may_separate) = (self.arrays + 1, false),
            b']' => (self.arrays, self.may_separate) = (self.arrays.saturating_sub(1), true),
            b',' => self.may_separate = false,
            space if space.is_ascii_whitespace() => {}
            first => {
                (self.start, self.depth, self.in_string, self.is_escaped) = (Some(self.at), 0, false, false);
                self.depth = usize::from(first == b'{');
                (self.in_string, self.last) = (first == b'"', first);
            }
        }
        self.at += 1;
    }

    /// Whether what has begun can't go on with this byte. An object that is not closed must not take the ones behind it along: a
    /// line that begins with a bracket is the next one, unless a value is expected there.
    fn ends_before(&self, byte: u8, before: u8) -> bool {
        match self.depth {
            0 if self.in_string => byte == b'\n',
            0 => matches!(byte, b',' | b'[' | b']' | b'{') || byte.is_ascii_whitespace(),
            _ => byte == b'{' && before == b'\n' && !matches!(self.last, b':' | b',' | b'['),
        }
    }

    /// Goes past a byte of an object. Returns whether that ends the object: the last bracket, or a line break in a string.
    fn ends_with(&mut self, byte: u8) -> bool {
        match byte {
            b'\n' if self.in_string => return true,
            _ if self.is_escaped => self.is_escaped = false,
            b'\\' if self.in_string => self.is_escaped = true,
            b'"' => self.in_string = !self.in_string,
            _ if self.in_string => {}
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' if self.depth <= 1 => return self.depth == 1,
            b'}' | b']' => self.depth -= 1,
            _ => {}
        }
        if !byte.is_ascii_whitespace() {
            self.last = byte;
        }
        false
    }

    fn end(&mut self, start: usize) -> Range<usize> {
        (self.start, self.may_separate) = (None, true);
        start..self.at
    }

    /// Takes note that the beginning of the text is gone.
    fn consume(&mut self, bytes: usize) {
        self.at -= bytes;
        self.start = self.start.map(|start| start - bytes);
    }
}

/// The objects of a source.
pub(crate) struct Documents {
    window: Window,
    objects: Objects,
    /// Whether the window begins with an object that is too long.
    is_long: bool,
}

impl Documents {
    pub(crate) fn new(window: Window) -> Self {
        Self { window, objects: Objects::default(), is_long: false }
    }

    /// Finds at most so many objects. None if there are no more for now, or the next one is too long.
    pub(crate) fn find(&mut self, most: usize) -> Result<Vec<Range<usize>>> {
        let mut found: Vec<Range<usize>> = Vec::new();
        while found.len() < most && found.last().is_none_or(|last| last.end < MAX_BATCH_BYTES) {
            match self.objects.next(self.window.bytes(), self.window.ended()) {
                Some(object) if object.len() > MAX_ROW_BYTES => {
                    self.objects.at = object.start;
                    self.is_long = found.is_empty();
                    break;
                }
                Some(object) => {
                    found.push(object);
                    continue;
                }
                None => {}
            }
            let begun = self.objects.start.unwrap_or(self.objects.at);
            self.is_long = found.is_empty() && self.window.bytes().len() - begun > MAX_ROW_BYTES;
            let waits = self.window.eager() && !found.is_empty();
            if self.is_long || waits || self.window.ended() || self.window.bytes().len() - begun > MAX_ROW_BYTES {
                break;
            }
            self.window.fill()?;
            if self.window.dry() && !self.window.ended() {
                break;
            }
        }
        Ok(found)
    }

    /// The text of an object.
    pub(crate) fn text(&self, object: &Range<usize>) -> &[u8] {
        &self.window.bytes()[object.clone()]
    }

    /// Gives up the first bytes of the window.
    pub(crate) fn consume(&mut self, bytes: usize) {
        self.window.consume(bytes);
        self.objects.consume(bytes);
    }

    /// Passes over the first line of an object that is too long, see [`Window::pass_line`]; `None` if it is not.
    pub(crate) fn pass_long(&mut self, position: u64, out: &mut Rows) -> Result<Option<bool>> {
        if !self.is_long && !self.window.is_passing() {
            return Ok(None);
        }
        self.window.consume(self.objects.start.unwrap_or(self.objects.at));
        self.objects = Objects { arrays: self.objects.arrays, may_separate: true, ..Objects::default() };
        self.is_long = false;
        self.window.pass_line(position, out).map(Some)
    }

    /// Whether the source has ended in an array that was not closed. Asked once.
    fn is_cut_off(&mut self) -> bool {
        self.window.ended() && std::mem::take(&mut self.objects.arrays) > 0
    }

    fn go_to(&mut self, offset: u64) -> Result<()> {
        // Only its beginning says whether the source is an array.
        let is_array = offset > 0 && self.first()? == Some(b'[');
        // What was read before ended behind an object, or what stood in its place.
        self.objects = Objects { arrays: usize::from(is_array), may_separate: offset > 0, ..Objects::default() };
        self.window.go_to(offset)
    }

    /// The first byte that is no space.
    fn first(&mut self) -> Result<Option<u8>> {
        loop {
            let first = self.window.bytes().iter().find(|byte| !byte.is_ascii_whitespace());
            if first.is_some() || self.window.dry() {
                return Ok(first.copied());
            }
            self.window.fill()?;
        }
    }
}

/// Reads JSON that is not one object a line.
pub(crate) struct JsonReader {
    documents: Documents,
    decoder: JsonDecoder,
    batch_rows: usize,
    position: u64,
}

impl JsonReader {
    pub(crate) fn new(window: Window, columns: &Columns, moments: &Moments, batch_rows: usize) -> Self {
        let decoder = JsonDecoder::new(columns, moments, batch_rows);
        Self { documents: Documents::new(window), decoder, batch_rows, position: 0 }
    }

    /// Hands out what comes instead of objects. Returns false if there is nothing.
    fn end_or_pass(&mut self, out: &mut Rows) -> Result<bool> {
        let has_row = match self.documents.pass_long(self.position, out)? {
            Some(has_ended) => has_ended,
            None if self.documents.is_cut_off() => {
                let error = "the array is not closed: rows may be missing behind it";
                out.failed.push(BadRow::new(self.position, error, b""));
                true
            }
            None => false,
        };
        self.position += u64::from(has_row);
        Ok(has_row)
    }
}

impl BatchReader for JsonReader {
    fn schema(&self) -> &SchemaRef {
        self.decoder.schema()
    }

    fn next(&mut self, out: &mut Rows) -> Result<bool> {
        if self.documents.window.is_passing() {
            return self.end_or_pass(out);
        }
        let found = self.documents.find(self.batch_rows)?;
        let Some(last) = found.last() else { return self.end_or_pass(out) };
        let texts: Vec<_> = found.iter().map(|object| self.documents.text(object)).collect();
        let (first, failed) = (self.position, out.failed.len());
        self.decoder.decode(&texts, first, out)?;
        let start_of = |position: u64| found[(position - first) as usize].start;
        self.documents.window.number_lines(&mut out.failed[failed..], start_of)?;
        self.position += found.len() as u64;
        self.documents.consume(last.end);
        Ok(true)
    }

    fn position(&self) -> ReaderPosition {
        ReaderPosition { position: self.position, offset: self.documents.window.offset() }
    }

    fn go_to(&mut self, start: ReaderPosition) -> Result<()> {
        self.position = start.position;
        self.documents.go_to(start.offset)
    }

    fn end(&mut self) {
        self.documents.window.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The objects of a text, which are the same however it is cut.
    fn objects(text: &str) -> Vec<&str> {
        let mut whole = Objects::default();
        let found: Vec<_> = std::iter::from_fn(|| whole.next(text.as_bytes(), true)).collect();
        let mut cut = Objects::default();
        let pieces = (0..=text.len()).flat_map(|end| {
            let text = &text.as_bytes()[..end];
            std::iter::from_fn(|| cut.next(text, end == whole.at)).collect::<Vec<_>>()
        });
        assert_eq!(pieces.collect::<Vec<_>>(), found, "{text}");
        found.into_iter().map(|object| &text[object]).collect()
    }

    #[test]
    fn objects_are_found_by_their_brackets() {
        assert_eq!(objects(r#"[{"a": 1}, {"a": "}]\\\"{"}]"#), [r#"{"a": 1}"#, r#"{"a": "}]\\\"{"}"#]);
        assert_eq!(objects("{\n  \"a\": [\n{},\n{}\n]\n}\n{\"a\": 2}"), ["{\n  \"a\": [\n{},\n{}\n]\n}", "{\"a\": 2}"]);
        assert_eq!(objects(" [ ] \n[]"), [""; 0]);
        assert_eq!(objects("[1, \"x, y\" null\ttrue]"), ["1", "\"x, y\"", "null", "true"]);
    }

    #[test]
    fn a_comma_where_an_object_is_missing_stands_for_it() {
        assert_eq!(objects("[{},,{}]"), ["{}", ",", "{}"]);
        assert_eq!(objects(",{}, ,\n,{}"), [",", "{}", ",", "{}"]);
        assert_eq!(objects("[,{}][{}],[{}]"), [",", "{}", "{}", "{}"]);
        assert_eq!(objects("[[{}],[{}],1,2]"), ["{}", "{}", "1", "2"]);
    }

    #[test]
    fn what_is_not_closed_ends_with_its_line() {
        assert_eq!(objects("{\"a\": 1\n{\"a\": 2}\n"), ["{\"a\": 1\n", "{\"a\": 2}"]);
        assert_eq!(objects("{\"a\": \"x\n{\"a\": 2}\n"), ["{\"a\": \"x\n", "{\"a\": 2}"]);
        assert_eq!(objects("oops{\"a\": 1}}\n{\"a\""), ["oops", "{\"a\": 1}", "}", "{\"a\""]);
    }
}
