//! What all readers of sources have in common.

use arrow::datatypes::SchemaRef;
use millstream_core::{Error, Result, ResultExt};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Part, Rows};

/// Reads a source batch by batch.
pub trait BatchReader: Send {
    /// The columns of the batches, in canonical types.
    fn schema(&self) -> &SchemaRef;

    /// Adds the next rows to `out`: at most `batch_rows` good and bad ones. Returns false at the end, with no rows; if
    /// the source may grow ([`ReadMode::Tailing`](crate::ReadMode::Tailing)), whenever there are no more rows for now.
    ///
    /// # Errors
    /// Where the source can't be read further: it is cut off, corrupt, or has another schema than was planned.
    fn next(&mut self, out: &mut Rows) -> Result<bool>;

    /// Splits off the next rows, at most `batch_rows` of text, to be decoded apart from those behind them; `None` at the end. For sources
    /// that don't grow. Rows that can't be told from others without decoding them come decoded.
    ///
    /// # Errors
    /// As those of `next`.
    fn split_off(&mut self) -> Result<Option<Part>> {
        Part::decoded(self)
    }

    /// The place behind the rows that were handed out or split off last.
    fn position(&self) -> ReaderPosition;

    /// Continues at a position that another reader of the same source gave. To be called before the first `next`.
    ///
    /// # Errors
    /// Where the source has become shorter.
    fn go_to(&mut self, start: ReaderPosition) -> Result<()>;

    /// How many groups of rows the source has, if its format has such that need not be read. Asked for before the first `next`.
    fn row_groups(&self) -> Option<RowGroups> {
        None
    }

    /// Says that a source that might have grown won't: a last row without a line break counts.
    fn end(&mut self) {}
}

/// A place between two rows of a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReaderPosition {
    /// The position of the next row.
    pub position: u64,
    /// Text formats: how many bytes lie before the next row, decompressed.
    pub offset: u64,
}

/// How many groups of rows are read of sources, and how many are not, since a look at what is known of them shows that no row is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowGroups {
    /// Those that are read.
    pub read: u64,
    /// The others.
    pub skipped: u64,
}

impl RowGroups {
    /// Those of one more source.
    pub fn add(&mut self, other: Self) {
        (self.read, self.skipped) = (self.read + other.read, self.skipped + other.skipped);
    }

    /// What an input reports of them. None if no source has any.
    pub fn figures(self) -> Vec<(&'static str, Value)> {
        if self == Self::default() {
            return Vec::new();
        }
        vec![("row_groups_read", self.read.into()), ("row_groups_skipped", self.skipped.into())]
    }
}

/// Says in errors which file it was.
pub(crate) struct Named {
    pub reader: Box<dyn BatchReader>,
    pub name: String,
}

impl BatchReader for Named {
    fn schema(&self) -> &SchemaRef {
        self.reader.schema()
    }

    fn next(&mut self, out: &mut Rows) -> Result<bool> {
        self.reader.next(out).doing(|| &self.name)
    }

    fn split_off(&mut self) -> Result<Option<Part>> {
        let part = self.reader.split_off().doing(|| &self.name)?;
        Ok(part.map(|part| part.of(&self.name)))
    }

    fn position(&self) -> ReaderPosition {
        self.reader.position()
    }

    fn go_to(&mut self, start: ReaderPosition) -> Result<()> {
        self.reader.go_to(start).doing(|| &self.name)
    }

    fn row_groups(&self) -> Option<RowGroups> {
        self.reader.row_groups()
    }

    fn end(&mut self) {
        self.reader.end();
    }
}

/// Runs Arrow's readers of binary files, some of which panic on corrupt ones.
pub(crate) fn guarded<T>(read: impl FnOnce() -> Result<T>) -> Result<T> {
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(read));
    caught.unwrap_or_else(|_| Err(Error::new("the file is corrupt")))
}
