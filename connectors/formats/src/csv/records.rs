//! Splits the bytes of a source into the records of CSV, a batch's worth at a time.

use std::ops::Range;

use millstream_core::{Error, Result, ResultExt};

use super::CsvOptions;
use super::split::{Cells, Split, Splitter};
use crate::Rows;
use crate::columns::repeated;
use crate::part::{RowsText, split_off};
use crate::window::{MAX_ROW_BYTES, Window};

/// Splits bytes into records, and keeps those of a batch.
pub(crate) struct Records {
    pub(crate) window: Window,
    splitter: Splitter,
    /// How many lines are to be passed over before anything else.
    skip: usize,
    /// How many bytes of the window are split.
    pub(crate) seen: usize,
    /// How many bytes the window had when the next record was not whole in it.
    tried: usize,
    pub(crate) cells: Cells,
}

/// What was split off: where its text is in the window.
pub(crate) enum Piece {
    /// A record, whose cells are kept.
    Record(Range<usize>),
    /// A record that can't be split, and why.
    Broken(Range<usize>, String),
    /// Something that is too long. It is left in the window.
    TooLong,
}

impl Records {
    pub(crate) fn new(window: Window, options: &CsvOptions) -> Self {
        let CsvOptions { delimiter, comment, max_field: limit, skip_lines, .. } = *options;
        let splitter = Splitter { delimiter, comment, limit, blank_is_record: false };
        Self { window, splitter, skip: skip_lines, seen: 0, tried: 0, cells: Cells::default() }
    }

    /// Splits a text that begins behind the lines that are passed over.
    pub(crate) fn behind_skipped(window: Window, options: &CsvOptions) -> Self {
        Self { skip: 0, ..Self::new(window, options) }
    }

    /// Reads the first record, which holds the names of the columns.
    pub(crate) fn header(&mut self) -> Result<Option<Vec<String>>> {
        match self.next(true)? {
            None => return Ok(None),
            Some(Piece::Record(_)) => {}
            Some(Piece::Broken(_, why)) => return Err(Error::new(format!("the header can't be read: {why}"))),
            Some(Piece::TooLong) => return Err(Error::new("the header can't be read: it is too long")),
        }
        let cells = (0..self.len()).map(|index| String::from_utf8(self.cell_bytes(index).to_vec()));
        let names = cells.collect::<Result<Vec<_>, _>>().doing(|| "reading the header")?;
        self.clear();
        match repeated(&names) {
            Some(name) => Err(Error::new(format!("the header has the name `{name}` twice"))),
            None => Ok(Some(names)),
        }
    }

    /// Says how many cells a record has. If it is one, a blank line is a record, too: that is how others write null.
    pub(crate) fn set_width(&mut self, width: usize) {
        self.splitter.blank_is_record = width == 1;
    }

    /// Splits off what comes next. `None` at the end; where it is not whole yet; and where it would have to be waited for,
    /// unless that `may_wait`.
    pub(crate) fn next(&mut self, may_wait: bool) -> Result<Option<Piece>> {
        loop {
            if self.window.is_passing() {
                return Ok(Some(Piece::TooLong));
            }
            if self.is_worth_a_try() {
                let (text, start, ended) = (self.window.bytes(), self.seen, self.window.ended());
                let kept = self.cells.len();
                let split = match self.skip {
                    0 => self.splitter.split(text, start, ended, &mut self.cells),
                    _ => Splitter::line(text, start, ended),
                };
                match split {
                    Split::Record(length) | Split::Broken(length, _) | Split::Nothing(length)
                        if length > MAX_ROW_BYTES =>
                    {
                        self.cells.truncate(kept);
                        return Ok(Some(Piece::TooLong));
                    }
                    Split::Record(length) => return Ok(Some(Piece::Record(self.pass(length)))),
                    Split::Broken(length, why) => return Ok(Some(Piece::Broken(self.pass(length), why))),
                    Split::Nothing(length) => {
                        self.skip = self.skip.saturating_sub(1);
                        self.pass(length);
                    }
                    Split::Incomplete => self.tried = text.len(),
                }
                continue;
            }
            if self.window.is_too_long(self.seen) {
                return Ok(Some(Piece::TooLong));
            }
            if self.window.ended() || (self.window.eager() && !may_wait) {
                return Ok(None);
            }
            self.window.fill()?;
            if self.window.dry() && !self.window.ended() {
                return Ok(None);
            }
        }
    }

    /// Whether a record may be whole. One that was not before is split again when a line has ended since, or its text has
    /// doubled: not with every byte that comes.
    fn is_worth_a_try(&self) -> bool {
        let length = self.window.bytes().len();
        let has_more = self.window.lines().len() > self.tried || length - self.seen >= 2 * (self.tried - self.seen);
        length > self.seen && (self.window.ended() || length > self.tried && has_more)
    }

    /// Passes over a line that is too long, see [`Window::pass_line`]. Nothing must be kept.
    pub(crate) fn pass_line(&mut self, position: u64, out: &mut Rows) -> Result<bool> {
        self.tried = 0;
        self.window.pass_line(position, out)
    }

    fn pass(&mut self, length: usize) -> Range<usize> {
        let start = self.seen;
        self.seen += length;
        self.tried = self.seen;
        start..self.seen
    }

    /// Splits off the text of some records. Nothing must be kept.
    pub(crate) fn split_off(&mut self, batch_rows: usize) -> Result<Option<RowsText>> {
        if self.skip > 0 {
            return Ok(None);
        }
        self.tried = 0;
        let (splitter, mut scratch) = (self.splitter, Cells::default());
        split_off(&mut self.window, batch_rows, |text, start, is_end| {
            splitter.look_ahead(text, start, is_end, &mut scratch)
        })
    }

    /// The text of a record, without the line break at its end.
    pub(crate) fn text(&self, record: &Range<usize>) -> &[u8] {
        let text = &self.window.bytes()[record.clone()];
        let end = text.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n')).map_or(0, |last| last + 1);
        &text[..end]
    }

    /// The text of all records.
    pub(crate) fn all_text(&self) -> &[u8] {
        &self.window.bytes()[..self.seen]
    }

    pub(crate) fn cell_bytes(&self, index: usize) -> &[u8] {
        self.cells.get(index, self.all_text())
    }

    /// How many cells are kept.
    pub(crate) fn len(&self) -> usize {
        self.cells.len()
    }

    /// Continues behind so many bytes of the source.
    pub(crate) fn go_to(&mut self, offset: u64) -> Result<()> {
        self.tried = 0;
        self.skip = if offset > 0 { 0 } else { self.skip };
        self.window.go_to(offset)
    }

    /// Forgets all that was kept, and its text.
    pub(crate) fn clear(&mut self) {
        self.cells.truncate(0);
        self.window.consume(self.seen);
        self.tried -= self.seen;
        self.seen = 0;
    }
}
