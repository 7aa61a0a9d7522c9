//! Opens sources for reading.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;

use arrow::datatypes::SchemaRef;
use millstream_core::{Columns, Error, Result, ResultExt};
use serde::{Deserialize, Serialize};

use crate::csv::CsvReader;
use crate::json::{JsonReader, NdjsonReader};
use crate::window::{Window, decode, decompress};
use crate::{Compression, CsvOptions, Format, Moments, Rows, TextEncoding, ipc, parquet};

/// Reads a source batch by batch.
pub trait BatchReader: Send {
    /// The columns of the batches, in canonical types.
    fn schema(&self) -> &SchemaRef;

    /// Adds the next rows to `out`: at most `batch_rows` good and bad ones. Returns false at the end, with no rows; if
    /// the source may grow ([`Pace::Growing`]), whenever there are no more rows for now.
    ///
    /// # Errors
    /// Where the source can't be read further: it is cut off, corrupt, or has another schema than was planned.
    fn next(&mut self, out: &mut Rows) -> Result<bool>;

    /// The place behind the rows that were handed out last.
    fn mark(&self) -> Mark;

    /// Continues at a mark that another reader of the same source gave. To be called before the first `next`.
    ///
    /// # Errors
    /// Where the source has become shorter.
    fn go_to(&mut self, mark: Mark) -> Result<()>;

    /// Says that a source that might have grown won't: a last row without a line break counts.
    fn end(&mut self) {}
}

/// A place between two rows of a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The position of the next row.
    pub position: u64,
    /// Text formats: how many bytes lie before the next row, decompressed.
    pub offset: u64,
}

/// When a reader of a text format hands out rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pace {
    /// Rows are handed out when a batch is full, or the source has ended.
    #[default]
    Full,
    /// Rows are handed out as soon as a read has brought some: for streams, whose reads wait for more to come.
    Eager,
    /// Rows are handed out when a batch is full, or the source has no more bytes for now: for files that grow, whose reads don't wait. The
    /// end of the bytes is not the end of the source, and a row counts when its line break is there.
    Growing,
}

/// How to read a source.
#[derive(Clone, Debug)]
pub struct ReadOptions {
    /// The format of the source.
    pub format: Format,
    /// How the bytes of a text format are compressed.
    pub compression: Option<Compression>,
    /// The columns of the source: declared, or found by [`crate::inspect`].
    pub columns: Columns,
    /// The columns that are wanted, where not all are. They keep the order of `columns`.
    pub wanted: Option<BTreeSet<String>>,
    /// How many rows a batch has at most.
    pub batch_rows: usize,
    /// How texts stand for dates and timestamps.
    pub moments: Moments,
    /// How CSV is written.
    pub csv: CsvOptions,
    /// When rows are handed out.
    pub pace: Pace,
}

impl ReadOptions {
    /// The columns that the batches will have.
    pub fn schema(&self) -> SchemaRef {
        self.wanted_columns().schema()
    }

    fn wanted_columns(&self) -> Columns {
        let is_wanted = |name: &String| self.wanted.as_ref().is_none_or(|wanted| wanted.contains(name));
        Columns(self.columns.0.iter().filter(|(name, _)| is_wanted(name)).cloned().collect())
    }

    /// Opens a file for reading. Errors name it.
    pub fn open(&self, path: &Path) -> Result<Box<dyn BatchReader>> {
        let file = File::open(path).doing(|| format!("reading `{}`", path.display()))?;
        self.open_file(file, path)
    }

    /// Reads a file that was opened at a path, by which errors call it.
    pub fn open_file(&self, file: File, path: &Path) -> Result<Box<dyn BatchReader>> {
        let named = || format!("reading `{}`", path.display());
        let reader = match self.format {
            Format::Csv | Format::Ndjson | Format::Json if self.compression.is_none() => self.read_seekable(file),
            Format::Csv | Format::Ndjson | Format::Json => self.read(file),
            Format::Parquet => parquet::open(file, self.schema(), self.batch_rows),
            Format::Arrow => ipc::open(file, self.schema(), self.batch_rows),
        };
        let reader = reader.doing(named)?;
        Ok(Box::new(Named { reader, name: named() }))
    }

    /// Reads a stream of a text format.
    pub fn read(&self, source: impl Read + Send + 'static) -> Result<Box<dyn BatchReader>> {
        let source = decode(decompress(source, self.compression)?, self.csv.encoding);
        self.read_window(Window::new(source, self.pace))
    }

    /// Reads a text format that is not compressed, in a source in which reading can continue at any place.
    pub fn read_seekable(&self, source: impl Read + Seek + Send + 'static) -> Result<Box<dyn BatchReader>> {
        match self.csv.encoding {
            TextEncoding::Utf8 => self.read_window(Window::seekable(Box::new(source), self.pace)),
            // The places are those of the text, and not those of its bytes.
            other => self.read_window(Window::new(decode(Box::new(source), other), self.pace)),
        }
    }

    fn read_window(&self, window: Window) -> Result<Box<dyn BatchReader>> {
        let wanted = self.wanted_columns();
        match self.format {
            Format::Csv => {
                let csv = self.csv.clone();
                Ok(Box::new(CsvReader::new(window, &self.columns, &wanted, &self.moments, self.batch_rows, csv)?))
            }
            Format::Ndjson => Ok(Box::new(NdjsonReader::new(window, &wanted, &self.moments, self.batch_rows))),
            Format::Json => Ok(Box::new(JsonReader::new(window, &wanted, &self.moments, self.batch_rows))),
            other => Err(Error::new(format!("{} can only be read from files", other.name()))),
        }
    }
}

/// Says in errors which file it was.
struct Named {
    reader: Box<dyn BatchReader>,
    name: String,
}

impl BatchReader for Named {
    fn schema(&self) -> &SchemaRef {
        self.reader.schema()
    }

    fn next(&mut self, out: &mut Rows) -> Result<bool> {
        self.reader.next(out).doing(|| &self.name)
    }

    fn mark(&self) -> Mark {
        self.reader.mark()
    }

    fn go_to(&mut self, mark: Mark) -> Result<()> {
        self.reader.go_to(mark).doing(|| &self.name)
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
