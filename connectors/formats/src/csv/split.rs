//! Splits CSV into records, after RFC 4180: where the cells are, and where a quote is not closed.
//!
//! It is not left to `csv-core`, which says neither where a quote was opened nor whether it was closed, takes anything behind
//! a closing quote for a part of the cell, and passes over blank lines in silence.

use std::ops::Range;

use memchr::{memchr, memchr_iter, memchr2, memchr3};

use crate::part::Lookahead;

/// How much a cell in quotes may hold: more is most likely a quote that was never closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FieldLimit {
    /// How many bytes the cell may have.
    pub bytes: usize,
    /// How many line breaks the cell may have.
    pub lines: usize,
}

impl Default for FieldLimit {
    fn default() -> Self {
        Self { bytes: 1 << 20, lines: 1000 }
    }
}

/// How records are written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Splitter {
    pub delimiter: u8,
    /// What a line begins with that is no record.
    pub comment: Option<u8>,
    pub limit: FieldLimit,
    /// Whether a line without anything is a record with one empty cell, instead of none.
    pub blank_is_record: bool,
}

/// Where cells are.
#[derive(Debug, Default)]
pub(crate) struct Cells {
    places: Vec<CellPlace>,
    /// The text of cells that are not written as they are, because they contain quotes.
    unquoted: Vec<u8>,
}

/// Where a cell is. There are so many of them that they have to be small; texts are much shorter than 2 GiB.
#[derive(Clone, Copy, Debug)]
struct CellPlace {
    start: u32,
    /// With the highest bit set if the cell lies in `unquoted` rather than in the text.
    end: u32,
}

impl CellPlace {
    const UNQUOTED: u32 = 1 << 31;

    fn new(start: usize, end: usize) -> Self {
        debug_assert!(end < Self::UNQUOTED as usize);
        Self { start: start as u32, end: end as u32 }
    }

    fn is_unquoted(self) -> bool {
        self.end & Self::UNQUOTED != 0
    }

    fn range(self) -> Range<usize> {
        self.start as usize..(self.end & !Self::UNQUOTED) as usize
    }
}

/// What begins at a place in the text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Split {
    /// A record that has so many bytes, with its line break.
    Record(usize),
    /// A line of so many bytes that is no record.
    Nothing(usize),
    /// A record that can't be split: its first so many bytes, to the end of the line that is to blame, and why.
    Broken(usize, String),
    /// A record that goes on behind the text.
    Incomplete,
}

/// Where a cell in quotes ends.
enum Quoted {
    /// The cell ends behind its closing quote.
    Closed(usize),
    /// The cell ends nowhere, and this says why.
    Broken(String),
    Incomplete,
}

/// Where cells without quotes end.
enum Plain {
    /// At the end of the line.
    Ended(usize),
    /// Before a cell with quotes, which begins here.
    Quote(usize),
    /// Not in the text: the last one begins here.
    Open(usize),
}

impl Cells {
    /// How many cells there are.
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// Forgets the cells from number `len` on.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.places.truncate(len);
        if len == 0 {
            self.unquoted.clear();
        }
    }

    /// With room for so many.
    pub(crate) fn with_room(len: usize) -> Self {
        Self { places: Vec::with_capacity(len), unquoted: Vec::new() }
    }

    /// Keeps only the records that are to be kept; all have `width` cells.
    pub(crate) fn retain(&mut self, width: usize, is_kept: &[bool]) {
        let mut index = 0;
        self.places.retain(|_| {
            index += 1;
            is_kept[(index - 1) / width]
        });
    }

    /// The bytes of a cell, out of the text that was split.
    pub(crate) fn get<'a>(&'a self, index: usize, text: &'a [u8]) -> &'a [u8] {
        let place = self.places[index];
        if place.is_unquoted() { &self.unquoted[place.range()] } else { &text[place.range()] }
    }

    /// A cell, out of a text all of which is valid.
    pub(crate) fn get_text<'a>(&'a self, index: usize, text: &'a str) -> &'a str {
        let place = self.places[index];
        if place.is_unquoted() {
            std::str::from_utf8(&self.unquoted[place.range()]).unwrap_or_default()
        } else {
            &text[place.range()]
        }
    }

    fn push(&mut self, start: usize, end: usize) {
        self.places.push(CellPlace::new(start, end));
    }

    /// Adds a cell whose quotes are written twice.
    fn push_unquoted(&mut self, mut cell: &[u8]) {
        let start = self.unquoted.len();
        while let Some(quote) = memchr(b'"', cell) {
            self.unquoted.extend_from_slice(&cell[..=quote]);
            cell = &cell[quote + 2..];
        }
        self.unquoted.extend_from_slice(cell);
        let CellPlace { start, end } = CellPlace::new(start, self.unquoted.len());
        self.places.push(CellPlace { start, end: end | CellPlace::UNQUOTED });
    }
}

impl Splitter {
    /// Splits off the record that begins at `start`, and adds its cells. `is_end` says that nothing follows the text. What
    /// comes out is the same wherever a text is cut.
    pub(crate) fn split(&self, text: &[u8], start: usize, is_end: bool, cells: &mut Cells) -> Split {
        if let Some(line) = self.nothing(text, start, is_end) {
            return line;
        }
        let kept = cells.len();
        let split = self.record(text, start, is_end, cells);
        if !matches!(split, Split::Record(_)) {
            cells.truncate(kept);
        }
        split
    }

    /// Says whether a record begins at `start`, and how long it is. Cells are looked at only where there are quotes; `scratch` is for them.
    pub(crate) fn look_ahead(&self, text: &[u8], start: usize, is_end: bool, scratch: &mut Cells) -> Lookahead {
        let split = match (self.nothing(text, start, is_end), memchr3(b'"', b'\n', b'\r', &text[start..])) {
            (Some(nothing), _) => nothing,
            (None, Some(length)) if text[start + length] == b'"' => {
                let split = self.record(text, start, is_end, scratch);
                scratch.truncate(0);
                split
            }
            (None, _) => line_end(text, start, is_end).map_or(Split::Incomplete, |end| Split::Record(end - start)),
        };
        match split {
            Split::Record(length) => Lookahead::Row(length),
            Split::Nothing(length) => Lookahead::Nothing(length),
            Split::Incomplete => Lookahead::Incomplete,
            // Why it can't be split depends on what follows.
            Split::Broken(..) => Lookahead::Unclear,
        }
    }

    /// A line that is no record.
    fn nothing(&self, text: &[u8], start: usize, is_end: bool) -> Option<Split> {
        let first = text.get(start)?;
        let is_blank = matches!(first, b'\n' | b'\r') && !self.blank_is_record;
        (is_blank || Some(*first) == self.comment).then(|| Self::line(text, start, is_end))
    }

    /// The line that begins at `start`, as one that is no record.
    pub(crate) fn line(text: &[u8], start: usize, is_end: bool) -> Split {
        line_end(text, start, is_end).map_or(Split::Incomplete, |end| Split::Nothing(end - start))
    }

    fn record(&self, text: &[u8], start: usize, is_end: bool, cells: &mut Cells) -> Split {
        let mut at = start;
        loop {
            let end = if text.get(at) == Some(&b'"') {
                match self.quoted(text, at, is_end, cells) {
                    Quoted::Closed(end) => end,
                    Quoted::Incomplete => return Split::Incomplete,
                    Quoted::Broken(why) => {
                        // The line in which the quote was opened may not be whole yet.
                        let end = line_end(text, at, is_end);
                        return end.map_or(Split::Incomplete, |end| Split::Broken(end - start, why));
                    }
                }
            } else {
                match self.plain(text, at, cells) {
                    Plain::Quote(quote) => {
                        at = quote;
                        continue;
                    }
                    Plain::Ended(end) => end,
                    Plain::Open(begun) if is_end => {
                        cells.push(begun, text.len());
                        text.len()
                    }
                    Plain::Open(_) => return Split::Incomplete,
                }
            };
            if text.get(end) == Some(&self.delimiter) {
                at = end + 1;
                continue;
            }
            return line_end(text, end, is_end).map_or(Split::Incomplete, |end| Split::Record(end - start));
        }
    }

    /// The cells without quotes from `at` on, up to the end of the line or to one with quotes. They are short, so that eight bytes are looked at together
    /// rather than one cell after the other.
    fn plain(&self, text: &[u8], at: usize, cells: &mut Cells) -> Plain {
        let needles = [self.delimiter, b'\n', b'\r'].map(|byte| u64::from_le_bytes([byte; 8]));
        let (mut begun, mut seen) = (at, at);
        while let Some(bytes) = text.get(seen..).and_then(<[u8]>::first_chunk) {
            let word = u64::from_le_bytes(*bytes);
            let mut found = needles.iter().fold(0, |found, needle| found | zero_bytes(word ^ needle));
            while found != 0 {
                let end = seen + found.trailing_zeros() as usize / 8;
                cells.push(begun, end);
                if text[end] != self.delimiter {
                    return Plain::Ended(end);
                }
                begun = end + 1;
                if text.get(begun) == Some(&b'"') {
                    return Plain::Quote(begun);
                }
                found &= found - 1;
            }
            seen += 8;
        }
        for (end, byte) in text.iter().enumerate().skip(seen) {
            if *byte == self.delimiter {
                cells.push(begun, end);
                begun = end + 1;
                if text.get(begun) == Some(&b'"') {
                    return Plain::Quote(begun);
                }
            } else if matches!(byte, b'\n' | b'\r') {
                cells.push(begun, end);
                return Plain::Ended(end);
            }
        }
        Plain::Open(begun)
    }

    /// The cell whose quote is opened at `start`.
    fn quoted(&self, text: &[u8], start: usize, is_end: bool, cells: &mut Cells) -> Quoted {
        let (start, mut from, mut has_quotes) = (start + 1, start + 1, false);
        loop {
            let quote = memchr(b'"', &text[from..]).map(|length| from + length);
            let cell = &text[start..quote.unwrap_or(text.len())];
            if let Some(why) = self.exceeded(cell) {
                return Quoted::Broken(why);
            }
            let Some(end) = quote else {
                return if is_end { Quoted::Broken("a quote is not closed".to_owned()) } else { Quoted::Incomplete };
            };
            match text.get(end + 1) {
                None if !is_end => return Quoted::Incomplete,
                Some(b'"') => (from, has_quotes) = (end + 2, true),
                Some(byte) if *byte != self.delimiter && !matches!(byte, b'\n' | b'\r') => {
                    return Quoted::Broken("a quote is closed in the middle of a field, or not at all".to_owned());
                }
                _ => {
                    if has_quotes {
                        cells.push_unquoted(cell)
                    } else {
                        cells.push(start, end)
                    }
                    return Quoted::Closed(end + 1);
                }
            }
        }
    }

    /// Why a cell is too long, if it is.
    fn exceeded(&self, cell: &[u8]) -> Option<String> {
        let FieldLimit { bytes, lines } = self.limit;
        let is_exceeded = cell.len() > bytes || (cell.len() > lines && memchr_iter(b'\n', cell).count() > lines);
        is_exceeded.then(|| {
            format!("a quote is not closed within {bytes} bytes and {lines} line breaks, the setting `max_field`")
        })
    }
}

/// The highest bit of each byte that is 0.
fn zero_bytes(word: u64) -> u64 {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    !(((word & LOW) + LOW) | word | LOW)
}

/// The end of the line in which `start` is, behind its break; `None` if that is not there yet.
fn line_end(text: &[u8], start: usize, is_end: bool) -> Option<usize> {
    let Some(length) = memchr2(b'\n', b'\r', &text[start..]) else { return is_end.then_some(text.len()) };
    let end = start + length + 1;
    match (text[end - 1], text.get(end)) {
        (b'\r', Some(b'\n')) => Some(end + 1),
        (b'\r', None) if !is_end => None,
        _ => Some(end),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: FieldLimit = FieldLimit { bytes: 20, lines: 2 };

    /// The cells of each record in brackets, and lines that are to blame in angle brackets. However the text is cut, the
    /// beginning of what is split must be the same.
    fn split(text: &str, blank_is_record: bool) -> String {
        let splitter = Splitter { delimiter: b',', comment: Some(b'#'), limit: LIMIT, blank_is_record };
        let whole = pieces(&splitter, text.as_bytes(), true);
        for end in 0..text.len() {
            let part = pieces(&splitter, &text.as_bytes()[..end], false);
            assert!(whole.starts_with(&part), "{text:?} to {end}: {part}, {whole}");
        }
        whole
    }

    fn pieces(splitter: &Splitter, text: &[u8], is_end: bool) -> String {
        let (mut start, mut out) = (0, String::new());
        while start < text.len() {
            let mut cells = Cells::default();
            let length = match splitter.split(text, start, is_end, &mut cells) {
                Split::Record(length) => {
                    let cells = (0..cells.len()).map(|index| String::from_utf8_lossy(cells.get(index, text)));
                    out += &format!("[{}]", cells.collect::<Vec<_>>().join("|"));
                    length
                }
                Split::Broken(length, _) => {
                    out += &format!("<{}>", String::from_utf8_lossy(&text[start..start + length]).trim_end());
                    length
                }
                Split::Nothing(length) => length,
                Split::Incomplete => break,
            };
            start += length;
        }
        out
    }

    #[test]
    fn records_and_their_cells() {
        assert_eq!(split("a,b\r\n,\n\"x\",\"y\"\"\"\rz", false), "[a|b][|][x|y\"][z]");
        assert_eq!(split("a\n\n\r\nb\n\n", false), "[a][b]");
        assert_eq!(split("a\n\n\r\nb\n\n", true), "[a][][][b][]");
        assert_eq!(split("a\"b,\" \"\n \"c\"\n", false), "[a\"b| ][ \"c\"]");
        assert_eq!(split("\"1\n2\r\n3\",4\n", false), "[1\n2\r\n3|4]");
        assert_eq!(split("#x,\"\n1,2\n#\n3,#4\n#", false), "[1|2][3|#4]");
        assert_eq!(split("\"\",\"\"\"\"\n,", false), "[|\"][|]");
    }

    #[test]
    fn cells_of_any_length_are_found() {
        for length in 0..20 {
            let cell = "x".repeat(length);
            let quoted = format!("\"{}\"", &cell[..length.min(18)]);
            let text = format!("{cell},é{cell},,{cell}\r\n{cell},{quoted},{cell},\n");
            let expected = format!("[{cell}|é{cell}||{cell}][{cell}|{}|{cell}|]", quoted.trim_matches('"'));
            assert_eq!(split(&text, true), expected);
        }
    }

    #[test]
    fn a_quote_that_is_not_closed_costs_its_line_only() {
        assert_eq!(split("a,\"b\nc,d\ne,f", false), "<a,\"b>[c|d][e|f]");
        assert_eq!(split("a,\"b\nc,\"d\"\n", false), "<a,\"b>[c|d]");
        assert_eq!(split("\"a\nb\",\"c\nd\n", false), "<\"a\nb\",\"c>[d]");
        assert_eq!(split("\"a\"b\nc\n", false), "<\"a\"b>[c]");
    }

    #[test]
    fn cells_have_a_limit() {
        assert_eq!(split("\"1\n2\n3\"\n", false), "[1\n2\n3]");
        assert_eq!(split("\"1\n2\n3\n4\"\n", false), "<\"1>[2][3][4\"]");
        assert_eq!(split(&format!("\"{}\"", "x".repeat(20)), false), format!("[{}]", "x".repeat(20)));
        let long = format!("\"{}\"\nb\n", "x".repeat(21));
        assert_eq!(split(&long, false), format!("<{}>[b]", &long[..23]));
    }
}
