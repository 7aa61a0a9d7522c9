//! Rows that have been read and are still to be decoded, so that several threads can decode what one reads.

use std::fmt;

use millstream_core::{Result, ResultExt};

use crate::lines::LineCount;
use crate::spare::SpareText;
use crate::window::{MAX_ROW_BYTES, Window};
use crate::{BatchReader, ReaderPosition, Rows};

/// A part of a text ends early when it is this long: several are in memory at a time.
const MAX_PART_BYTES: usize = 8 << 20;

/// Some rows of a source that follow each other. Decoding them needs nothing but this.
pub struct Part {
    /// The place before the rows.
    pub before: ReaderPosition,
    /// The place behind them.
    pub after: ReaderPosition,
    rows: Work,
}

enum Work {
    Done(Rows),
    Left(Box<dyn FnOnce() -> Result<Rows> + Send>),
}

impl Part {
    /// Rows that `decode` makes.
    pub(crate) fn new(
        before: ReaderPosition,
        after: ReaderPosition,
        decode: impl FnOnce() -> Result<Rows> + Send + 'static,
    ) -> Self {
        Self { before, after, rows: Work::Left(Box::new(decode)) }
    }

    /// The next batch of a reader, decoded at once; `None` at the end.
    ///
    /// # Errors
    /// Those of [`BatchReader::next`].
    pub fn decoded<R: BatchReader + ?Sized>(reader: &mut R) -> Result<Option<Self>> {
        let (before, mut rows) = (reader.position(), Rows::default());
        let has_rows = reader.next(&mut rows)?;
        Ok(has_rows.then(|| Self { before, after: reader.position(), rows: Work::Done(rows) }))
    }

    /// Whether the rows are decoded.
    pub fn is_decoded(&self) -> bool {
        matches!(self.rows, Work::Done(_))
    }

    /// The rows.
    ///
    /// # Errors
    /// If the source is corrupt.
    pub fn decode(self) -> Result<Rows> {
        match self.rows {
            Work::Done(rows) => Ok(rows),
            Work::Left(decode) => decode(),
        }
    }

    /// Says in errors where the rows are.
    pub(crate) fn of(self, name: &str) -> Self {
        match self.rows {
            Work::Done(_) => self,
            Work::Left(decode) => {
                let name = name.to_owned();
                Self::new(self.before, self.after, move || decode().doing(|| name))
            }
        }
    }
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Part").field("before", &self.before).field("after", &self.after).finish_non_exhaustive()
    }
}

/// What begins at a place in a text, by a look at where it ends.
pub(crate) enum Lookahead {
    /// A row that has so many bytes.
    Row(usize),
    /// So many bytes that are no row.
    Nothing(usize),
    /// Something that is not whole.
    Incomplete,
    /// Something of which only the reader can tell what it is.
    Unclear,
}

/// The text of some rows, how many they are, and the lines before it.
pub(crate) struct RowsText {
    pub text: SpareText,
    pub rows: u64,
    pub lines: LineCount,
}

/// Takes the text of the next rows out of the window, at most a batch. `look_ahead` says what begins at a place, and gets the text and
/// whether nothing follows it. `None` if it is unclear what comes first, which is to be read in the usual way.
pub(crate) fn split_off(
    window: &mut Window,
    batch_rows: usize,
    mut look_ahead: impl FnMut(&[u8], usize, bool) -> Lookahead,
) -> Result<Option<RowsText>> {
    // How many bytes the window had when what comes next was not whole.
    let (mut seen, mut rows, mut tried) = (0, 0, 0);
    while rows < batch_rows && seen < MAX_PART_BYTES && !window.is_passing() {
        let (text, has_ended) = (window.bytes(), window.ended());
        // Not again with every piece that is read.
        let has_more = window.lines().len() > tried || text.len() - seen >= 2 * tried.saturating_sub(seen);
        let is_worth_a_try = seen < text.len() && (has_ended || has_more);
        let next = if is_worth_a_try { look_ahead(text, seen, has_ended) } else { Lookahead::Incomplete };
        if is_worth_a_try && matches!(next, Lookahead::Incomplete) {
            tried = text.len();
        }
        match next {
            Lookahead::Row(length) if length <= MAX_ROW_BYTES => (seen, rows) = (seen + length, rows + 1),
            Lookahead::Nothing(length) if length <= MAX_ROW_BYTES => seen += length,
            Lookahead::Incomplete if !has_ended && text.len() - seen <= MAX_ROW_BYTES => window.fill()?,
            _ => break,
        }
    }
    if rows == 0 {
        return Ok(None);
    }
    let (text, lines) = window.split_off(seen);
    Ok(Some(RowsText { text, rows: rows as u64, lines }))
}

/// All rows that a reader has.
pub(crate) fn read_all(mut reader: impl BatchReader) -> Result<Rows> {
    let mut rows = Rows::default();
    while reader.next(&mut rows)? {}
    Ok(rows)
}
