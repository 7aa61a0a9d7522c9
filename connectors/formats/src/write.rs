//! Writes batches as bytes.
//!
//! Rows are gathered to a fixed number before they are encoded, so that the bytes depend on the rows alone, and not on
//! how they were cut into batches.

use std::io::{self, Write};
use std::sync::Arc;

use arrow::array::builder::StringBuilder;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::compute::BatchCoalescer;
use arrow::csv;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Field, Schema, SchemaRef, Time64MicrosecondType, TimeUnit,
    TimestampMicrosecondType,
};
use arrow::ipc::writer::FileWriter;
use bzip2::write::BzEncoder;
use flate2::write::GzEncoder;
use millstream_core::{Error, Result, write_date, write_json, write_time, write_timestamp};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression as Codec, ZstdLevel};
use parquet::file::properties::WriterProperties;

use crate::text::has_text;
use crate::{Compression, Format};

/// How many rows are encoded at once; [`BatchWriter::bytes`] moves on after so many.
pub const WRITE_ROWS: usize = 8192;

/// How many rows a row group of a Parquet file has.
const ROW_GROUP_ROWS: usize = 16 * WRITE_ROWS;

/// Writes batches of one schema to a sink.
pub trait BatchWriter<W>: Send {
    /// Writes rows behind those before.
    fn write(&mut self, rows: &RecordBatch) -> Result<()>;

    /// How many bytes the rows have come to so far, about; it moves on after every [`WRITE_ROWS`] rows.
    fn bytes(&self) -> u64;

    /// Writes what is still gathered, so that another writer can go on behind it; then the sink, to be flushed. None where
    /// that would change the bytes, or where the format's ending needs to know what was written before: only text that
    /// is not packed can be gone on with.
    fn pause(&mut self) -> Result<Option<&mut W>>;

    /// Writes what is still gathered and the format's ending, and gives the sink back. It is not flushed.
    fn finish(self: Box<Self>) -> Result<W>;
}

/// How rows are written.
///
/// * CSV: null is an empty cell, and so is an empty text. Nested columns are refused.
/// * NDJSON: null columns are left out. A float that is not finite becomes null. Decimals are numbers.
/// * JSON: an array with such an object on each line.
/// * Parquet: compressed with zstd, row groups of 131,072 rows.
/// * Arrow: the file format, batches of 8192 rows, not compressed.
///
/// Timestamps are written in UTC, binary in text formats in hexadecimal.
#[derive(Clone, Copy, Debug)]
pub struct WriteOptions {
    /// The format of the bytes.
    pub format: Format,
    /// How a text format is compressed.
    pub compression: Option<Compression>,
    /// What separates the cells of CSV.
    pub delimiter: u8,
    /// Whether CSV begins with the names of the columns. Not so when a file is appended to.
    pub header: bool,
}

impl WriteOptions {
    /// Whether another writer can go on behind what one has written, see [`BatchWriter::pause`].
    pub fn can_be_gone_on_with(self) -> bool {
        self.format.can_grow() && self.compression.is_none()
    }

    /// Starts to write. Without any rows the result is still a whole file.
    pub fn open<W: Write + Send + 'static>(self, sink: W, schema: &SchemaRef) -> Result<Box<dyn BatchWriter<W>>> {
        let encoder: Box<dyn Encoder<W>> = match self.format {
            Format::Csv | Format::Ndjson | Format::Json => Box::new(TextEncoder::new(self, sink, schema)?),
            Format::Parquet => {
                let properties = WriterProperties::builder()
                    .set_compression(Codec::ZSTD(ZstdLevel::default()))
                    .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
                    .build();
                Box::new(ArrowWriter::try_new(sink, schema.clone(), Some(properties)).map_err(parquet_error)?)
            }
            Format::Arrow => Box::new(FileWriter::try_new(Counted { sink, bytes: 0 }, schema)?),
        };
        Ok(Box::new(Gathering { rows: BatchCoalescer::new(schema.clone(), WRITE_ROWS), encoder }))
    }
}

/// The first column, if there is one, that CSV can't hold: lists and structs.
pub fn nested_column(schema: &Schema) -> Option<&Field> {
    schema.fields().iter().map(AsRef::as_ref).find(|field| !has_text(field.data_type()))
}

/// Appends rows as CSV, after a line with the names of the columns if `header`.
pub fn encode_csv(rows: &RecordBatch, delimiter: u8, header: bool, bytes: &mut Vec<u8>) -> Result<()> {
    let mut writer = csv::WriterBuilder::new().with_header(header).with_delimiter(delimiter).build(bytes);
    Ok(writer.write(&moments_as_text(rows)?)?)
}

/// The rows with texts for dates, times and timestamps. Arrow fails at those that chrono does not have.
fn moments_as_text(rows: &RecordBatch) -> Result<RecordBatch> {
    let columns: Vec<_> = rows.columns().iter().map(|column| moment_texts(column).unwrap_or(column.clone())).collect();
    let fields = rows.schema_ref().fields().iter().zip(&columns);
    let fields = fields.map(|(field, column)| field.as_ref().clone().with_data_type(column.data_type().clone()));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
}

fn moment_texts(array: &ArrayRef) -> Option<ArrayRef> {
    fn texts<T: ArrowPrimitiveType>(array: &ArrayRef, write: impl Fn(T::Native, &mut Vec<u8>)) -> ArrayRef {
        let mut text = Vec::new();
        let mut texts = StringBuilder::with_capacity(array.len(), array.len() * 24);
        for value in array.as_primitive::<T>() {
            text.clear();
            texts.append_option(value.and_then(|value| {
                write(value, &mut text);
                std::str::from_utf8(&text).ok()
            }));
        }
        Arc::new(texts.finish())
    }
    match array.data_type() {
        DataType::Date32 => Some(texts::<Date32Type>(array, |days, out| write_date(days.into(), out))),
        DataType::Time64(TimeUnit::Microsecond) => {
            Some(texts::<Time64MicrosecondType>(array, |time, out| write_time(time.saturating_mul(1000), out)))
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => Some(texts::<TimestampMicrosecondType>(array, |time, out| {
            write_timestamp(time.div_euclid(1_000_000), time.rem_euclid(1_000_000) * 1000, out);
        })),
        _ => None,
    }
}

/// Appends rows as JSON objects, one a line; null columns are left out.
pub fn encode_ndjson(rows: &RecordBatch, bytes: &mut Vec<u8>) -> Result<()> {
    write_json(rows, bytes)
}

/// Gathers rows for an encoder.
struct Gathering<W> {
    rows: BatchCoalescer,
    encoder: Box<dyn Encoder<W>>,
}

impl<W: Write + Send> BatchWriter<W> for Gathering<W> {
    fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        self.rows.push_batch(rows.clone())?;
        while let Some(rows) = self.rows.next_completed_batch() {
            self.encoder.encode(&rows)?;
        }
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.encoder.bytes()
    }

    fn pause(&mut self) -> Result<Option<&mut W>> {
        if self.encoder.open_sink().is_none() {
            return Ok(None);
        }
        self.rows.finish_buffered_batch()?;
        while let Some(rows) = self.rows.next_completed_batch() {
            self.encoder.encode(&rows)?;
        }
        Ok(self.encoder.open_sink())
    }

    fn finish(mut self: Box<Self>) -> Result<W> {
        self.rows.finish_buffered_batch()?;
        while let Some(rows) = self.rows.next_completed_batch() {
            self.encoder.encode(&rows)?;
        }
        self.encoder.finish()
    }
}

/// Turns rows into bytes as they come.
trait Encoder<W>: Send {
    fn encode(&mut self, rows: &RecordBatch) -> Result<()>;
    fn bytes(&self) -> u64;
    /// The sink, if its bytes so far are not touched by what follows.
    fn open_sink(&mut self) -> Option<&mut W> {
        None
    }
    fn finish(self: Box<Self>) -> Result<W>;
}

impl<W: Write + Send> Encoder<W> for ArrowWriter<W> {
    fn encode(&mut self, rows: &RecordBatch) -> Result<()> {
        self.write(rows).map_err(parquet_error)
    }

    fn bytes(&self) -> u64 {
        (self.bytes_written() + self.in_progress_size()) as u64
    }

    fn finish(self: Box<Self>) -> Result<W> {
        self.into_inner().map_err(parquet_error)
    }
}

fn parquet_error(error: parquet::errors::ParquetError) -> Error {
    Error::new(error.to_string())
}

impl<W: Write + Send> Encoder<W> for FileWriter<Counted<W>> {
    fn encode(&mut self, rows: &RecordBatch) -> Result<()> {
        Ok(self.write(rows)?)
    }

    fn bytes(&self) -> u64 {
        self.get_ref().bytes
    }

    fn finish(self: Box<Self>) -> Result<W> {
        Ok(self.into_inner()?.sink)
    }
}

struct TextEncoder<W: Write> {
    options: WriteOptions,
    /// The text of a batch; reused from one to the next.
    text: Vec<u8>,
    /// JSON: whether the array has rows.
    has_rows: bool,
    sink: Packed<Counted<W>>,
}

impl<W: Write> TextEncoder<W> {
    fn new(options: WriteOptions, sink: W, schema: &SchemaRef) -> Result<Self> {
        let sink = Packed::new(Counted { sink, bytes: 0 }, options.compression)?;
        let mut encoder = Self { options, text: Vec::new(), has_rows: false, sink };
        if options.format == Format::Csv && options.header {
            encode_csv(&RecordBatch::new_empty(schema.clone()), options.delimiter, true, &mut encoder.text)?;
            encoder.sink.write_all(&encoder.text)?;
        }
        if options.format == Format::Json {
            encoder.sink.write_all(b"[")?;
        }
        Ok(encoder)
    }
}

impl<W: Write> TextEncoder<W> {
    /// Writes lines as items of an array.
    fn write_items(&mut self) -> Result<()> {
        for line in self.text.split_inclusive(|byte| *byte == b'\n') {
            self.sink.write_all(if self.has_rows { b",\n" } else { b"\n" })?;
            self.sink.write_all(line.trim_ascii_end())?;
            self.has_rows = true;
        }
        Ok(())
    }
}

impl<W: Write + Send> Encoder<W> for TextEncoder<W> {
    fn encode(&mut self, rows: &RecordBatch) -> Result<()> {
        self.text.clear();
        match self.options.format {
            Format::Csv => encode_csv(rows, self.options.delimiter, false, &mut self.text)?,
            _ => encode_ndjson(rows, &mut self.text)?,
        }
        if self.options.format == Format::Json {
            return self.write_items();
        }
        Ok(self.sink.write_all(&self.text)?)
    }

    fn bytes(&self) -> u64 {
        self.sink.get_ref().bytes
    }

    fn open_sink(&mut self) -> Option<&mut W> {
        match &mut self.sink {
            Packed::Plain(sink) if self.options.can_be_gone_on_with() => Some(&mut sink.sink),
            Packed::Plain(_) | Packed::Gzip(_) | Packed::Zstd(_) | Packed::Bzip2(_) => None,
        }
    }

    fn finish(mut self: Box<Self>) -> Result<W> {
        if self.options.format == Format::Json {
            self.sink.write_all(b"\n]\n")?;
        }
        Ok(self.sink.finish()?.sink)
    }
}

/// A sink that packs what is written to it.
enum Packed<W: Write> {
    Plain(W),
    Gzip(GzEncoder<W>),
    Zstd(zstd::Encoder<'static, W>),
    Bzip2(BzEncoder<W>),
}

impl<W: Write> Packed<W> {
    fn new(sink: W, compression: Option<Compression>) -> Result<Self> {
        Ok(match compression {
            None => Self::Plain(sink),
            Some(Compression::Gzip) => Self::Gzip(GzEncoder::new(sink, flate2::Compression::default())),
            Some(Compression::Zstd) => Self::Zstd(zstd::Encoder::new(sink, zstd::DEFAULT_COMPRESSION_LEVEL)?),
            Some(Compression::Bzip2) => Self::Bzip2(BzEncoder::new(sink, bzip2::Compression::default())),
        })
    }

    fn get_ref(&self) -> &W {
        match self {
            Self::Plain(sink) => sink,
            Self::Gzip(sink) => sink.get_ref(),
            Self::Zstd(sink) => sink.get_ref(),
            Self::Bzip2(sink) => sink.get_ref(),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(sink) => sink.write_all(bytes),
            Self::Gzip(sink) => sink.write_all(bytes),
            Self::Zstd(sink) => sink.write_all(bytes),
            Self::Bzip2(sink) => sink.write_all(bytes),
        }
    }

    fn finish(self) -> io::Result<W> {
        match self {
            Self::Plain(sink) => Ok(sink),
            Self::Gzip(sink) => sink.finish(),
            Self::Zstd(sink) => sink.finish(),
            Self::Bzip2(sink) => sink.finish(),
        }
    }
}

/// A sink that counts its bytes.
struct Counted<W> {
    sink: W,
    bytes: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.sink.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}
