//! NDJSON: one JSON object a line.

use arrow::datatypes::SchemaRef;
use millstream_core::{Columns, Result};

use super::decoder::JsonDecoder;
use crate::part::{Lookahead, read_all, split_off};
use crate::reader::{BatchReader, ReaderPosition};
use crate::text::Moments;
use crate::window::{MAX_BATCH_BYTES, MAX_ROW_BYTES, Window};
use crate::{BadRow, Part, Rows};

/// Reads NDJSON. Blank lines are skipped and count no position.
pub(crate) struct NdjsonReader {
    window: Window,
    form: Form,
    decoder: JsonDecoder,
    position: u64,
}

/// A source's columns, and how its rows are decoded to them; every part of the source has a copy.
#[derive(Clone)]
struct Form {
    columns: Columns,
    moments: Moments,
    batch_rows: usize,
}

/// Lines that were decoded.
#[derive(Default)]
struct Lines {
    /// How many bytes of the window the lines are.
    bytes: usize,
    /// The rows that were rejected, and where they begin.
    failed: Vec<BadRow>,
    starts: Vec<(u64, usize)>,
}

impl NdjsonReader {
    pub(crate) fn new(window: Window, columns: Columns, moments: &Moments, batch_rows: usize) -> Self {
        Self::at(0, window, Form { columns, moments: moments.clone(), batch_rows })
    }

    fn at(position: u64, window: Window, form: Form) -> Self {
        let decoder = JsonDecoder::new(&form.columns, &form.moments, form.batch_rows);
        Self { window, form, decoder, position }
    }

    /// Decodes lines until a batch is full. Returns whether more may follow at once.
    fn decode(&mut self, lines: &mut Lines) -> Result<bool> {
        let mut is_dry = false;
        loop {
            self.decode_window(lines);
            if self.decoder.is_full() || lines.bytes > MAX_BATCH_BYTES || self.window.has_long_line(lines.bytes) {
                return Ok(true);
            }
            if self.window.ended() || is_dry || (self.window.eager() && self.decoder.taken() > 0) {
                return Ok(false);
            }
            self.window.fill()?;
            is_dry = self.window.dry();
        }
    }

    /// Decodes the lines that are there, up to one that is too long.
    fn decode_window(&mut self, lines: &mut Lines) {
        let text = self.window.lines();
        while lines.bytes < text.len() && !self.decoder.is_full() {
            let start = lines.bytes;
            let length = memchr::memchr(b'\n', &text[start..]).map_or(text.len() - start, |length| length + 1);
            if length > MAX_ROW_BYTES {
                return;
            }
            lines.bytes += length;
            let line = text[start..start + length].trim_ascii();
            if line.is_empty() {
                continue;
            }
            if let Some(bad) = self.decoder.push(line, self.position) {
                lines.failed.push(bad);
                lines.starts.push((self.position, start));
            }
            self.position += 1;
        }
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

impl BatchReader for NdjsonReader {
    fn schema(&self) -> &SchemaRef {
        self.decoder.schema()
    }

    fn next(&mut self, out: &mut Rows) -> Result<bool> {
        loop {
            if let Some(has_ended) = self.window.pass_long_line(self.position, out)? {
                self.position += u64::from(has_ended);
                return Ok(has_ended);
            }
            let mut lines = Lines::default();
            let has_more = self.decode(&mut lines)?;
            let has_rows = self.decoder.taken() > 0;
            let Lines { bytes, mut failed, starts } = lines;
            let start_of = |position| starts[starts.partition_point(|(row, _)| *row < position)].1;
            self.window.number_lines(&mut failed, start_of)?;
            self.window.consume(bytes);
            out.failed.append(&mut failed);
            self.decoder.flush(out)?;
            if has_rows || !has_more {
                return Ok(has_rows);
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
