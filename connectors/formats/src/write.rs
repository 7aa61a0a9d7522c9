//! Writes batches as bytes.
//!
//! Rows are gathered to a fixed number before they are encoded, so that the bytes depend on the rows alone, and not on
//! how they were cut into batches.

use std::fmt;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::BatchCoalescer;
use arrow::datatypes::{Schema, SchemaRef};
use millstream_core::{Problem, Result};

use crate::compressor::{Compressor, Counted};
use crate::kind::FormatKind;
use crate::window::{Window, decompress};
use crate::{Compression, ReadMode};

/// How many rows are encoded at once; [`FileWriter::bytes`] moves on after so many.
pub const WRITE_ROWS: usize = 8192;

/// A format that is written as its settings say.
pub(crate) trait Writing: fmt::Debug + Send + Sync {
    /// Turns rows of a schema into bytes.
    fn encoder(&self, schema: &SchemaRef) -> Result<Box<dyn Encoder>>;

    /// Checks that there can be such columns.
    fn check_columns(&self, _schema: &Schema) -> Result<(), Problem> {
        Ok(())
    }

    /// Whether rows with other columns may follow in the same file.
    fn takes_other_columns(&self) -> bool {
        false
    }

    /// Whether people read it, and it is best written as one piece, if it is short.
    fn is_one_piece(&self) -> bool {
        false
    }

    /// The header of a source of this format.
    fn header(&self, _window: Window) -> Result<Header> {
        Ok(Header::None)
    }
}

/// What a file that is there has before its rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Header {
    /// The format has no header.
    None,
    /// It is not there: the file is empty.
    Missing,
    /// The names of its columns.
    Names(Vec<String>),
}

/// Turns rows into bytes as they come.
/// One that writes how many rows there were:
///
/// ```
/// use std::sync::Arc;
///
/// use arrow::array::{ArrayRef, Int64Array, RecordBatch};
/// use millstream_core::Result;
/// use millstream_formats::Encoder;
///
/// struct Counts;
///
/// impl Encoder for Counts {
///     fn begin(&mut self, out: &mut Vec<u8>) -> Result<()> {
///         out.extend_from_slice(b"rows\n");
///         Ok(())
///     }
///
///     fn encode(&mut self, rows: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
///         out.extend_from_slice(format!("{}\n", rows.num_rows()).as_bytes());
///         Ok(())
///     }
/// }
///
/// let numbers: ArrayRef = Arc::new(Int64Array::from(vec![7, 8, 9]));
/// let (rows, mut out) = (RecordBatch::try_from_iter([("n", numbers)])?, Vec::new());
/// Counts.begin(&mut out)?;
/// Counts.encode(&rows, &mut out)?;
/// assert_eq!(out, b"rows\n3\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Encoder: Send {
    /// Appends what stands before the first row.
    fn begin(&mut self, _out: &mut Vec<u8>) -> Result<()> {
        Ok(())
    }

    /// Appends rows, or keeps them for later.
    fn encode(&mut self, rows: &RecordBatch, out: &mut Vec<u8>) -> Result<()>;

    /// About how many bytes the rows will have that were kept.
    fn kept(&self) -> u64 {
        0
    }

    /// Appends what was kept, and what stands behind the last row.
    fn end(&mut self, _out: &mut Vec<u8>) -> Result<()> {
        Ok(())
    }
}

/// A format to write, as its settings say.
#[derive(Clone, Debug)]
pub struct WriteFormat {
    kind: &'static FormatKind,
    writing: Arc<dyn Writing>,
}

impl WriteFormat {
    pub(crate) fn new(kind: &'static FormatKind, writing: Arc<dyn Writing>) -> Self {
        Self { kind, writing }
    }

    /// The format.
    pub fn kind(&self) -> &'static FormatKind {
        self.kind
    }

    /// Checks that there can be such columns.
    pub fn check_columns(&self, schema: &Schema) -> Result<(), Problem> {
        self.writing.check_columns(schema)
    }

    /// Whether rows with other columns may follow in the same file.
    pub fn takes_other_columns(&self) -> bool {
        self.writing.takes_other_columns()
    }

    /// Whether people read it, and it is best written as one piece, if it is short.
    pub fn is_one_piece(&self) -> bool {
        self.writing.is_one_piece()
    }

    /// What turns rows of a schema into bytes, for streams.
    pub fn encoder(&self, schema: &SchemaRef) -> Result<Box<dyn Encoder>> {
        self.writing.encoder(schema)
    }

    /// The header of a file that is there.
    pub fn header(&self, path: &Path, compression: Option<Compression>) -> Result<Header> {
        self.writing.header(Window::new(decompress(File::open(path)?, compression)?, ReadMode::Bounded))
    }
}

/// How files are written. The same rows give the same bytes.
#[derive(Clone, Debug)]
pub struct WriteOptions {
    /// The format of the bytes.
    pub format: WriteFormat,
    /// How a text format is compressed.
    pub compression: Option<Compression>,
    /// Whether the file begins here. Not so when one is appended to.
    pub begins: bool,
}

impl WriteOptions {
    /// Whether another writer can go on behind what one has written, see [`FileWriter::pause`].
    pub fn can_be_gone_on_with(&self) -> bool {
        self.format.kind.can_grow && self.compression.is_none()
    }

    /// Starts to write. Without any rows the result is still a whole file.
    pub fn open<W: Write>(&self, sink: W, schema: &SchemaRef) -> Result<FileWriter<W>> {
        let mut writer = FileWriter {
            rows: BatchCoalescer::new(schema.clone(), WRITE_ROWS),
            encoder: self.format.encoder(schema)?,
            text: Vec::new(),
            sink: Compressor::new(Counted { sink, bytes: 0 }, self.compression)?,
            can_be_gone_on_with: self.can_be_gone_on_with(),
        };
        if self.begins {
            writer.encoder.begin(&mut writer.text)?;
            writer.hand_on()?;
        }
        Ok(writer)
    }
}

/// Writes batches of one schema to a sink.
pub struct FileWriter<W: Write> {
    rows: BatchCoalescer,
    encoder: Box<dyn Encoder>,
    /// What rows have become; reused from one batch to the next.
    text: Vec<u8>,
    sink: Compressor<Counted<W>>,
    can_be_gone_on_with: bool,
}

impl<W: Write> FileWriter<W> {
    /// Writes rows behind those before.
    pub fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        self.rows.push_batch(rows.clone())?;
        self.encode()
    }

    /// How many bytes the rows have come to so far, about; it moves on after every [`WRITE_ROWS`] rows.
    pub fn bytes(&self) -> u64 {
        self.sink.get_ref().bytes + self.encoder.kept()
    }

    /// Writes what is still gathered, so that another writer can go on behind it; then the sink, to be flushed. None where
    /// that would change the bytes, or where the format's ending needs to know what was written before: only text that
    /// is not compressed can be gone on with.
    pub fn pause(&mut self) -> Result<Option<&mut W>> {
        if !self.can_be_gone_on_with {
            return Ok(None);
        }
        self.rows.finish_buffered_batch()?;
        self.encode()?;
        Ok(self.sink.plain().map(|counted| &mut counted.sink))
    }

    /// Writes what is still gathered and the format's ending, and gives the sink back. It is not flushed.
    pub fn finish(mut self) -> Result<W> {
        self.rows.finish_buffered_batch()?;
        self.encode()?;
        self.encoder.end(&mut self.text)?;
        self.hand_on()?;
        Ok(self.sink.finish()?.sink)
    }

    /// Writes the rows of which enough are gathered.
    fn encode(&mut self) -> Result<()> {
        while let Some(rows) = self.rows.next_completed_batch() {
            self.encoder.encode(&rows, &mut self.text)?;
            self.hand_on()?;
        }
        Ok(())
    }

    fn hand_on(&mut self) -> Result<()> {
        let written = self.sink.write_all(&self.text);
        self.text.clear();
        Ok(written?)
    }
}
