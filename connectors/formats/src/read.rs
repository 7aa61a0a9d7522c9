//! What reads rows: a format with its settings, and a decoder for sources of certain columns.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::{Cursor, Read};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use millstream_core::{ColumnType, Columns, Error, LeftOut, PlanContext, Problem, Problems, Result, ResultExt};

use crate::filter::Filter;
use crate::kind::FormatKind;
use crate::pieces::carried;
use crate::reader::{BatchReader, Named};
use crate::setting::FORMAT;
use crate::window::{Seekable, Window, decode, decompress};
use crate::{Compression, TextEncoding};

/// A text format that is read as its settings say.
pub(crate) trait StreamFormat: fmt::Debug + Send + Sync {
    /// How letters are written as bytes.
    fn encoding(&self) -> TextEncoding;

    /// Reads rows of a source, of which the window has the text.
    fn open(&self, window: Window, decoder: &Decoder) -> Result<Box<dyn BatchReader>>;

    /// The columns of a source, by the first so many of its rows.
    fn infer(&self, window: Window, rows: usize) -> Result<Columns>;

    /// Where a source says what its columns are.
    fn columns_in(&self) -> ColumnsIn {
        ColumnsIn::Rows
    }

    /// Checks that there can be such columns.
    fn check_columns(&self, _columns: &Columns) -> Result<(), Problem> {
        Ok(())
    }

    /// Checks that the header of a source has every column that may not be null. Returns whether there is one.
    fn check_header(&self, _window: Window, _columns: &Columns) -> Result<bool> {
        Ok(false)
    }

    /// What stands before the first row, or the header.
    fn preamble(&self) -> Preamble {
        Preamble::default()
    }

    /// A byte of which every row but the last has one at least.
    fn last_of_row(&self) -> u8 {
        b'\n'
    }
}

/// A binary format that is read as its settings say: from files, at any place of them.
pub(crate) trait FileFormat: fmt::Debug + Send + Sync {
    /// Reads rows of a file.
    fn open(&self, file: File, decoder: &Decoder) -> Result<Box<dyn BatchReader>>;

    /// Reads rows of bytes in memory, if the format is one of [`ReadBodies`](crate::ReadBodies). Columns are found by their names.
    fn open_bytes(&self, _bytes: Vec<u8>, _decoder: &Decoder) -> Result<Box<dyn BatchReader>> {
        Err(Error::new("such bytes can only be read from files"))
    }

    /// What a file holds, which says so itself.
    fn inspect(&self, file: File) -> Result<Found>;

    /// The condition that rows have to meet to be read, if the settings say one: then the decoder has it planned.
    fn condition(&self) -> Option<&str> {
        None
    }

    /// What of a file has to be there, of which the last so many bytes are.
    fn needed(&self, _file: File, _tail: u64, _decoder: &Decoder) -> Result<Needed> {
        Ok(Needed::All)
    }
}

/// What of a file has to be there, so that the rows that are wanted can be read: of one that is far away, the rest need not be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Needed {
    /// All of it.
    All,
    /// So many bytes at its end, by which it is known what else.
    Tail(u64),
    /// These stretches, in their order, besides its end.
    Stretches(Vec<Range<u64>>),
}

/// How a format is read.
#[derive(Clone, Debug)]
pub(crate) enum Reading {
    Stream(Arc<dyn StreamFormat>),
    File(Arc<dyn FileFormat>),
}

/// Where sources of a format say what their columns are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnsIn {
    /// In each row, or nowhere.
    Rows,
    /// In a header, with their names alone and in any order.
    Header,
    /// In metadata, with their types.
    Metadata,
}

/// What stands before the first row of a source, or its header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Preamble {
    /// So many lines, whatever they are.
    pub lines: usize,
    /// Lines behind them that begin with this.
    pub comment: Option<u8>,
}

/// What a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The columns in canonical types. Those inferred from a sample may be null. None if there is nothing to tell
    /// from: an empty file, or NDJSON without a readable row.
    pub columns: Columns,
    /// The columns of the file that are none of these.
    pub left_out: Vec<LeftOut>,
    /// How many rows the file has, if it says.
    pub rows: Option<u64>,
}

impl Found {
    /// Of columns that were declared, or inferred.
    pub fn of(columns: Columns) -> Self {
        Self { columns, left_out: Vec::new(), rows: None }
    }

    /// Of the columns of a file in Arrow's types, and its number of rows.
    ///
    /// # Errors
    /// If flows can carry none of the columns, or two have one name.
    pub(crate) fn carried(schema: &Schema, rows: u64) -> Result<Self> {
        let (fields, left_out) = carried(schema)?;
        let column =
            |field: Field| (field.name().clone(), ColumnType::new(field.data_type().clone(), field.is_nullable()));
        Ok(Self { columns: Columns(fields.into_iter().map(column).collect()), left_out, rows: Some(rows) })
    }
}

/// A format to read, as its settings say.
#[derive(Clone, Debug)]
pub struct ReadFormat {
    kind: &'static FormatKind,
    reading: Reading,
}

impl ReadFormat {
    pub(crate) fn new(kind: &'static FormatKind, reading: Reading) -> Self {
        Self { kind, reading }
    }

    /// The format.
    pub fn kind(&self) -> &'static FormatKind {
        self.kind
    }

    /// What reads sources of these columns, as the flow wants them. Problems are placed in the setting `format`.
    pub fn decoder(self, columns: Columns, context: &PlanContext) -> Result<Decoder, Problems> {
        let condition = match &self.reading {
            Reading::File(format) => format.condition(),
            Reading::Stream(_) => None,
        };
        let filter = condition.map(|condition| Filter::new(condition, &columns, context)).transpose();
        let filter = filter
            .map_err(|problems| problems.into_iter().map(|problem| problem.under(FORMAT)).collect::<Problems>())?;
        Ok(Decoder { filter: filter.map(Arc::new), ..self.of_all_rows(columns, context) })
    }

    /// What reads all rows of sources of these columns.
    pub fn of_all_rows(self, columns: Columns, context: &PlanContext) -> Decoder {
        Decoder {
            format: self,
            filter: None,
            compression: None,
            columns,
            wanted: context.columns.clone(),
            batch_rows: context.batch_rows,
            names: Names::default(),
            read_mode: ReadMode::default(),
        }
    }

    fn stream(&self) -> Option<&dyn StreamFormat> {
        match &self.reading {
            Reading::Stream(format) => Some(&**format),
            Reading::File(_) => None,
        }
    }

    /// Whether it is text, and that in UTF-8.
    pub fn is_utf8(&self) -> bool {
        self.stream().is_some_and(|format| format.encoding() == TextEncoding::Utf8)
    }

    /// Where a source says what its columns are.
    pub fn columns_in(&self) -> ColumnsIn {
        self.stream().map_or(ColumnsIn::Metadata, StreamFormat::columns_in)
    }

    /// Checks that there can be such columns.
    pub fn check_columns(&self, columns: &Columns) -> Result<(), Problem> {
        self.stream().map_or(Ok(()), |format| format.check_columns(columns))
    }

    /// What stands before the first row of a source, or its header.
    pub fn preamble(&self) -> Preamble {
        self.stream().map(StreamFormat::preamble).unwrap_or_default()
    }

    /// More rows than these bytes can be, or as many.
    pub fn most_rows(&self, bytes: &[u8]) -> usize {
        let Some(format) = self.stream() else { return usize::MAX };
        memchr::memchr_iter(format.last_of_row(), bytes).count() + 1
    }

    /// Checks that a file has every column that may not be null, if it has a header. An empty file may lack its header, too. Returns
    /// whether there is one.
    pub fn check_header(&self, path: &Path, compression: Option<Compression>, columns: &Columns) -> Result<bool> {
        let Some(format) = self.stream() else { return Ok(false) };
        format.check_header(window(format, File::open(path)?, compression)?, columns)
    }

    /// The columns of a file that names them itself, such as one in Parquet. None of a text.
    pub fn declared(&self, file: File) -> Result<Option<Columns>> {
        match &self.reading {
            Reading::File(format) => Ok(Some(format.inspect(file)?.columns)),
            Reading::Stream(_) => Ok(None),
        }
    }

    /// Finds the columns of a file: Parquet and Arrow files name them, those of a text are inferred from the first so many rows.
    /// Integers are `int64`, other numbers `float64`, `true` and `false` `boolean`, texts in ISO 8601 with time and offset (or with
    /// `timezone` set) `timestamp`, and all else is `utf8`. Errors name the file.
    pub fn inspect(&self, path: &Path, compression: Option<Compression>, rows: usize) -> Result<Found> {
        let found = || {
            let file = File::open(path)?;
            match &self.reading {
                Reading::File(format) => format.inspect(file),
                Reading::Stream(format) => Ok(Found::of(format.infer(window(&**format, file, compression)?, rows)?)),
            }
        };
        found().doing(|| format!("reading `{}`", path.display()))
    }
}

fn window(format: &dyn StreamFormat, file: File, compression: Option<Compression>) -> Result<Window> {
    Ok(Window::new(decode(decompress(file, compression)?, format.encoding()), ReadMode::Bounded))
}

/// When a reader of a text format hands out rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadMode {
    /// Rows are handed out when a batch is full, or the source has ended.
    #[default]
    Bounded,
    /// Rows are handed out as soon as a read has brought some: for streams, whose reads wait for more to come.
    Streaming,
    /// Rows are handed out when a batch is full, or the source has no more bytes for now: for files that grow, whose reads don't wait. The
    /// end of the bytes is not the end of the source, and a row counts when its line break is there.
    Tailing,
}

/// Which names of columns a source must have in its header, if its format has one, besides those that may not be null.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Names {
    /// None. A source without anything has no header, either.
    #[default]
    Any,
    /// None, but the header must be there: the source is known not to be empty.
    Header,
    /// One at least, so that a first row is not taken for the header.
    One,
}

/// What turns bytes into rows: a format, and what is wanted of the sources.
#[derive(Clone, Debug)]
pub struct Decoder {
    /// The format of the sources.
    pub format: ReadFormat,
    /// Which of their rows are wanted.
    pub filter: Option<Arc<Filter>>,
    /// How the bytes of a text format are compressed.
    pub compression: Option<Compression>,
    /// The columns of the sources: declared, or found by [`ReadFormat::inspect`].
    pub columns: Columns,
    /// The columns that are wanted, where not all are. They keep the order of `columns`.
    pub wanted: Option<BTreeSet<String>>,
    /// How many rows a batch has at most.
    pub batch_rows: usize,
    /// Which names of columns there must be.
    pub names: Names,
    /// When rows are handed out.
    pub read_mode: ReadMode,
}

/// The columns that are wanted, in their order.
pub(crate) fn wanted(columns: &Columns, wanted: Option<&BTreeSet<String>>) -> Columns {
    let is_wanted = |name: &String| wanted.is_none_or(|wanted| wanted.contains(name));
    Columns(columns.0.iter().filter(|(name, _)| is_wanted(name)).cloned().collect())
}

impl Decoder {
    /// The columns that the batches will have.
    pub fn schema(&self) -> SchemaRef {
        self.wanted_columns().schema()
    }

    /// Whether only rows that meet a condition are read.
    pub fn is_filtered(&self) -> bool {
        self.filter.is_some()
    }

    /// Whether the condition that rows have to meet looks at a column.
    pub fn filters_by(&self, column: &str) -> bool {
        self.filter.as_ref().is_some_and(|filter| filter.uses(column))
    }

    /// The columns that have to be read, which may be more: those to which the condition looks.
    pub(crate) fn read_schema(&self) -> SchemaRef {
        let wanted = self.wanted_columns();
        let is_read = |name: &String| self.filters_by(name) || wanted.0.iter().any(|(wanted, _)| wanted == name);
        Columns(self.columns.0.iter().filter(|(name, _)| is_read(name)).cloned().collect()).schema()
    }

    pub(crate) fn wanted_columns(&self) -> Columns {
        wanted(&self.columns, self.wanted.as_ref())
    }

    /// What of a file has to be there for [`Decoder::open_file`], of which the last so many bytes are, and the others are zeros.
    ///
    /// # Errors
    /// If the file is corrupt.
    pub fn needed(&self, file: File, tail: u64) -> Result<Needed> {
        match &self.format.reading {
            Reading::File(format) => format.needed(file, tail, self),
            Reading::Stream(_) => Ok(Needed::All),
        }
    }

    /// Opens a file for reading. Errors name it.
    pub fn open(&self, path: &Path) -> Result<Box<dyn BatchReader>> {
        let file = File::open(path).doing(|| format!("reading `{}`", path.display()))?;
        self.open_file(file, path)
    }

    /// Reads a file that was opened at a path, by which errors call it.
    pub fn open_file(&self, file: File, path: &Path) -> Result<Box<dyn BatchReader>> {
        let named = || format!("reading `{}`", path.display());
        let reader = match &self.format.reading {
            Reading::Stream(_) if self.compression.is_none() => self.read_seekable(file),
            Reading::Stream(_) => self.read(file),
            Reading::File(format) => format.open(file, self),
        };
        Ok(Box::new(Named { reader: reader.doing(named)?, name: named() }))
    }

    /// Reads a stream of a text format.
    pub fn read(&self, source: impl Read + Send + 'static) -> Result<Box<dyn BatchReader>> {
        let format = self.text()?;
        let source = decode(decompress(source, self.compression)?, format.encoding());
        format.open(Window::new(source, self.read_mode), self)
    }

    /// Reads bytes that are all there, such as the body of a request. Memory is taken for them and about a batch of rows.
    pub fn read_body(&self, bytes: Vec<u8>) -> Result<Box<dyn BatchReader>> {
        match &self.format.reading {
            Reading::Stream(_) => self.read(Cursor::new(bytes)),
            Reading::File(format) => format.open_bytes(bytes, self),
        }
    }

    /// Reads a text format that is not compressed, in a source in which reading can continue at any place.
    pub fn read_seekable(&self, source: impl Seekable + 'static) -> Result<Box<dyn BatchReader>> {
        let format = self.text()?;
        let window = match format.encoding() {
            TextEncoding::Utf8 => Window::seekable(Box::new(source), self.read_mode),
            // The places are those of the text, and not those of its bytes.
            other => Window::new(decode(Box::new(source), other), self.read_mode),
        };
        format.open(window, self)
    }

    fn text(&self) -> Result<&dyn StreamFormat> {
        let name = self.format.kind.name;
        self.format.stream().ok_or_else(|| Error::new(format!("{name} can only be read from files")))
    }
}
