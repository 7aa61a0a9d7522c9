//! Texts each line of which is a message.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use millstream_core::{Columns, Error, PlanContext, Problem, Result};

use crate::messages::{MakeReader, MessageFormat, MessageReader, always};
use crate::part::{Lookahead, read_all, split_off};
use crate::read::{Decoder, StreamFormat, wanted};
use crate::reader::{BatchReader, ReaderPosition};
use crate::window::{MAX_BATCH_BYTES, MAX_ROW_BYTES, Window};
use crate::{Part, Rows, TextEncoding};

/// A format of texts that are messages, or the lines of one text.
pub(crate) trait LineFormat: fmt::Debug + Send + Sync + 'static {
    /// Checks that there can be such columns.
    fn check_columns(&self, columns: &Columns) -> Result<(), Problem>;

    /// The columns that all texts have, if that can be told.
    fn columns(&self) -> Option<Columns>;

    /// Reads rows of these columns, so many in a batch.
    fn open(&self, columns: &Columns, batch_rows: usize) -> Box<dyn MessageReader>;
}

/// Messages that are such a text each.
#[derive(Debug)]
pub(crate) struct Messages<F>(pub F);

impl<F: LineFormat> MessageFormat for Messages<F> {
    fn check_columns(&self, columns: &Columns) -> Result<(), Problem> {
        self.0.check_columns(columns)
    }

    fn readers(self: Arc<Self>, columns: &Columns, context: &PlanContext) -> Result<MakeReader, Problem> {
        Ok(always(self, columns, context, Self::open))
    }
}

impl<F: LineFormat> Messages<F> {
    /// Reads messages that are rows of these columns.
    fn open(&self, columns: &Columns, context: &PlanContext) -> Box<dyn MessageReader> {
        self.0.open(&wanted(columns, context.columns.as_ref()), context.batch_rows)
    }
}

/// Sources whose lines are such a text each.
#[derive(Debug)]
pub(crate) struct Lines {
    pub format: Arc<dyn LineFormat>,
    pub encoding: TextEncoding,
}

impl StreamFormat for Lines {
    fn encoding(&self) -> TextEncoding {
        self.encoding
    }

    fn open(&self, window: Window, decoder: &Decoder) -> Result<Box<dyn BatchReader>> {
        let (format, columns, batch_rows) = (self.format.clone(), decoder.wanted_columns(), decoder.batch_rows);
        Ok(Box::new(LineReader::new(window, Form { format, columns, batch_rows, trims: false })))
    }

    fn infer(&self, _: Window, _: usize) -> Result<Columns> {
        self.format
            .columns()
            .ok_or_else(|| Error::new("the columns can't be told from the rows: declare them in `schema`"))
    }

    fn check_columns(&self, columns: &Columns) -> Result<(), Problem> {
        self.format.check_columns(columns)
    }
}

/// A source's columns, and how its lines are decoded to them; every part of the source has a copy.
#[derive(Clone)]
pub(crate) struct Form {
    pub format: Arc<dyn LineFormat>,
    pub columns: Columns,
    pub batch_rows: usize,
    /// Whether blanks around a row are none of it.
    pub trims: bool,
}

/// Reads lines. Blank ones are skipped and count no position.
pub(crate) struct LineReader {
    window: Window,
    form: Form,
    reader: Box<dyn MessageReader>,
    position: u64,
}

/// Lines that were found in the window.
#[derive(Default)]
struct Found {
    /// How many bytes of the window the lines are.
    bytes: usize,
    /// Where those are that are rows.
    rows: Vec<Range<usize>>,
}

impl LineReader {
    pub(crate) fn new(window: Window, form: Form) -> Self {
        Self::at(0, window, form)
    }

    fn at(position: u64, window: Window, form: Form) -> Self {
        let reader = form.format.open(&form.columns, form.batch_rows);
        Self { window, form, reader, position }
    }

    /// Finds lines until there are enough for a batch. Returns whether more may follow at once.
    fn find(&mut self, found: &mut Found) -> Result<bool> {
        let mut is_dry = false;
        loop {
            self.find_in_window(found);
            let is_full = found.rows.len() >= self.form.batch_rows || found.bytes > MAX_BATCH_BYTES;
            if is_full || self.window.has_long_line(found.bytes) {
                return Ok(true);
            }
            if self.window.ended() || is_dry || (self.window.eager() && !found.rows.is_empty()) {
                return Ok(false);
            }
            self.window.fill()?;
            is_dry = self.window.dry();
        }
    }

    /// Finds the lines that are there, up to one that is too long.
    fn find_in_window(&self, found: &mut Found) {
        let text = self.window.lines();
        while found.bytes < text.len() && found.rows.len() < self.form.batch_rows && found.bytes <= MAX_BATCH_BYTES {
            let start = found.bytes;
            let length = memchr::memchr(b'\n', &text[start..]).map_or(text.len() - start, |length| length + 1);
            if length > MAX_ROW_BYTES {
                return;
            }
            found.bytes += length;
            let row = self.form.row(&text[start..start + length]);
            if !row.is_empty() {
                found.rows.push(start + row.start..start + row.end);
            }
        }
    }

    /// Decodes lines of the window, and gives them up.
    fn decode(&mut self, found: &Found, out: &mut Rows) -> Result<()> {
        let text = self.window.bytes();
        let messages: Vec<_> = found.rows.iter().map(|row| text.get(row.clone())).collect();
        let mut rows = Rows::default();
        self.reader.decode(&messages, &mut rows)?;
        self.window.number_lines(&mut rows.failed, |message| found.rows[message as usize].start)?;
        rows.failed.iter_mut().for_each(|row| row.position += self.position);
        out.failed.append(&mut rows.failed);
        out.batches.extend(rows.batches.into_iter().map(|(start, rows)| (self.position + start, rows)));
        self.position += found.rows.len() as u64;
        self.window.consume(found.bytes);
        Ok(())
    }
}

impl Form {
    /// Where the row is in a line. Nowhere if the line is blank.
    fn row(&self, line: &[u8]) -> Range<usize> {
        let blanks = line.len() - line.trim_ascii_start().len();
        let trimmed = blanks..blanks + line[blanks..].trim_ascii_end().len();
        if self.trims || trimmed.is_empty() {
            return trimmed;
        }
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        0..line.strip_suffix(b"\r").unwrap_or(line).len()
    }
}

/// What begins at a place: a line.
fn line(text: &[u8], start: usize, is_end: bool) -> Lookahead {
    let text = &text[start..];
    let length = match memchr::memchr(b'\n', text) {
        Some(length) => length + 1,
        None if is_end => text.len(),
        None => return Lookahead::Incomplete,
    };
    if text[..length].trim_ascii_start().is_empty() { Lookahead::Nothing(length) } else { Lookahead::Row(length) }
}

impl BatchReader for LineReader {
    fn schema(&self) -> &SchemaRef {
        self.reader.schema()
    }

    fn next(&mut self, out: &mut Rows) -> Result<bool> {
        loop {
            if let Some(has_ended) = self.window.pass_long_line(self.position, out)? {
                self.position += u64::from(has_ended);
                return Ok(has_ended);
            }
            let mut found = Found::default();
            let has_more = self.find(&mut found)?;
            self.decode(&found, out)?;
            if !found.rows.is_empty() || !has_more {
                return Ok(!found.rows.is_empty());
            }
        }
    }

    fn split_off(&mut self) -> Result<Option<Part>> {
        let before = self.position();
        let Some(rows) = split_off(&mut self.window, self.form.batch_rows, line)? else { return Part::decoded(self) };
        self.position += rows.rows;
        let form = self.form.clone();
        let decode = move || read_all(Self::at(before.position, Window::whole(rows.text, rows.lines), form));
        Ok(Some(Part::new(before, self.position(), decode)))
    }

    fn position(&self) -> ReaderPosition {
        ReaderPosition { position: self.position, offset: self.window.offset() }
    }

    fn go_to(&mut self, start: ReaderPosition) -> Result<()> {
        self.position = start.position;
        self.window.go_to(start.offset)
    }

    fn end(&mut self) {
        self.window.end();
    }
}
