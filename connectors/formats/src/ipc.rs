//! Arrow IPC files, also known as Feather 2.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::{FileReader, read_footer_length};
use arrow::ipc::writer::FileWriter;
use arrow::ipc::{Block, RecordBatch as Header, root_as_footer, root_as_message};
use millstream_core::{Error, Problem, Result};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::kind::{FormatKind, Settings, Side};
use crate::pieces::Pieces;
use crate::read::{Decoder, FileFormat, Found, Reading};
use crate::reader::{BatchReader, ReaderPosition, guarded};
use crate::write::{Encoder, Writing};
use crate::{Rows, ipc_stream};

pub(crate) const FORMAT: FormatKind = FormatKind {
    name: "arrow",
    about: "Arrow IPC, the file format, also known as Feather 2.",
    endings: &["arrow"],
    example: r#""arrow""#,
    is_text: false,
    can_grow: false,
    read: Some(Side::of::<ReadArrow>()),
    read_messages: None,
    write_files: Some(Side::of::<WriteArrow>()),
    write_streams: None,
    write_messages: None,
};

/// Files name their columns, of which those are left out whose types flows can't carry. A file that is corrupt stops the flow.
#[derive(Debug, Deserialize, JsonSchema)]
struct ReadArrow {}

/// Batches have 8192 rows and are not compressed.
#[derive(Debug, Deserialize, JsonSchema)]
struct WriteArrow {}

impl Settings for ReadArrow {
    type Made = Reading;

    fn make(self, _: &str) -> Result<Reading, Problem> {
        Ok(Reading::File(Arc::new(ArrowFile)))
    }
}

impl Settings for WriteArrow {
    type Made = Arc<dyn Writing>;

    fn make(self, _: &str) -> Result<Self::Made, Problem> {
        Ok(Arc::new(ArrowFile))
    }
}

/// Arrow IPC, which has no settings.
#[derive(Debug)]
struct ArrowFile;

impl FileFormat for ArrowFile {
    fn open(&self, file: File, decoder: &Decoder) -> Result<Box<dyn BatchReader>> {
        open(file, decoder.schema(), decoder.batch_rows)
    }

    fn open_bytes(&self, bytes: Vec<u8>, decoder: &Decoder) -> Result<Box<dyn BatchReader>> {
        ipc_stream::open(bytes, decoder)
    }

    fn inspect(&self, file: File) -> Result<Found> {
        inspect(file)
    }
}

impl Writing for ArrowFile {
    fn encoder(&self, schema: &SchemaRef) -> Result<Box<dyn Encoder>> {
        Ok(Box::new(ArrowEncoder(FileWriter::try_new(Vec::new(), schema)?)))
    }
}

struct ArrowEncoder(FileWriter<Vec<u8>>);

impl Encoder for ArrowEncoder {
    fn begin(&mut self, out: &mut Vec<u8>) -> Result<()> {
        out.append(self.0.get_mut());
        Ok(())
    }

    fn encode(&mut self, rows: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
        self.0.write(rows)?;
        out.append(self.0.get_mut());
        Ok(())
    }

    fn end(&mut self, out: &mut Vec<u8>) -> Result<()> {
        self.0.finish()?;
        out.append(self.0.get_mut());
        Ok(())
    }
}

/// The most that a compressed buffer can become: zstd has blocks of 128 KiB, which take 4 bytes at least. LZ4 reaches less.
const MAX_RATIO: u64 = 128 * 1024 / 4;

/// How much a batch may take in memory. Files are written in much smaller ones.
const MAX_BATCH: u64 = 4 << 30;

/// The columns of a file, and how many rows it has.
fn inspect(file: File) -> Result<Found> {
    guarded(|| {
        let blocks = Blocks::of(&file)?;
        let rows = blocks.batches.iter().map(|block| blocks.header(&file, block, |header| rows_of(&header)));
        let rows = rows.sum::<Result<u64>>()?;
        let reader = blocks.open(file, None)?;
        Found::carried(&reader.schema(), rows)
    })
}

/// Where the dictionaries and batches of a file are.
struct Blocks {
    /// Behind the last block: where the footer begins.
    end: u64,
    dictionaries: Vec<Block>,
    batches: Vec<Block>,
}

impl Blocks {
    fn of(mut file: &File) -> Result<Self> {
        const TRAILER: u64 = 10;
        let length = file.seek(SeekFrom::End(0))?;
        let start = length.checked_sub(TRAILER).ok_or_else(|| corrupt("it is too short"))?;
        let trailer = read_at(file, start, TRAILER as usize)?;
        let trailer = trailer.try_into().map_err(|_| corrupt("it is too short"))?;
        let footer_length = read_footer_length(trailer).map_err(corrupt)?;
        let start = start.checked_sub(footer_length as u64).ok_or_else(|| corrupt("its footer is too long"))?;
        let footer = read_at(file, start, footer_length)?;
        let footer = root_as_footer(&footer).map_err(corrupt)?;
        let dictionaries = footer.dictionaries().iter().flatten().copied().collect();
        Ok(Self { end: start, dictionaries, batches: footer.recordBatches().iter().flatten().copied().collect() })
    }

    /// Opens the file. Its dictionaries are read.
    fn open(&self, file: File, wanted: Option<Vec<usize>>) -> Result<FileReader<File>> {
        self.dictionaries.iter().try_for_each(|block| self.check(&file, block))?;
        FileReader::try_new(file, wanted).map_err(corrupt)
    }

    /// What the header of a block says.
    fn header<T>(&self, file: &File, block: &Block, of: impl FnOnce(Header) -> Result<T>) -> Result<T> {
        let start = u64::try_from(block.offset()).map_err(corrupt)?;
        let header_length = u64::try_from(block.metaDataLength()).map_err(corrupt)?;
        let body_length = u64::try_from(block.bodyLength()).map_err(corrupt)?;
        let end = start.checked_add(header_length).and_then(|end| end.checked_add(body_length));
        if end.is_none_or(|end| end > self.end) {
            return Err(corrupt("a batch lies behind its end"));
        }
        let header = read_at(file, start, header_length as usize)?;
        // Older files lack the marker FF FF FF FF in front of the length.
        let skipped = if header.starts_with(&[0xff; 4]) { 8 } else { 4 };
        let message = root_as_message(header.get(skipped..).unwrap_or_default()).map_err(corrupt)?;
        let dictionary = message.header_as_dictionary_batch().and_then(|dictionary| dictionary.data());
        of(message.header_as_record_batch().or(dictionary).ok_or_else(|| corrupt("expected a batch"))?)
    }

    /// Checks how much memory a block asks for, before anybody takes it.
    fn check(&self, file: &File, block: &Block) -> Result<()> {
        let body = block.offset() as u64 + block.metaDataLength() as u64;
        self.header(file, block, |header| {
            if header.compression().is_none() {
                return Ok(());
            }
            let mut unpacked = 0_u64;
            for buffer in header.buffers().iter().flatten() {
                let start = u64::try_from(buffer.offset()).map_err(corrupt)?;
                let length = u64::try_from(buffer.length()).map_err(corrupt)?;
                if start.checked_add(length).is_none_or(|end| end > block.bodyLength() as u64) {
                    return Err(corrupt("a buffer lies behind its batch"));
                }
                unpacked = unpacked.saturating_add(unpacked_length(file, body + start, length)?);
            }
            if unpacked > MAX_BATCH {
                Err(Error::new(format!("a batch takes {unpacked} bytes in memory, more than {MAX_BATCH}")))
            } else {
                Ok(())
            }
        })
    }
}

/// How many bytes stand before a compressed buffer, which say how long it is when it is unpacked.
pub(crate) const PREFIX: u64 = 8;

/// How long a compressed buffer is when it is unpacked, as it says itself.
fn unpacked_length(file: &File, start: u64, length: u64) -> Result<u64> {
    if length < PREFIX {
        return Ok(0);
    }
    unpacked_by(&read_at(file, start, PREFIX as usize)?, length)
}

/// How long a compressed buffer of so many bytes is when it is unpacked, by what it begins with.
pub(crate) fn unpacked_by(prefix: &[u8], length: u64) -> Result<u64> {
    let unpacked = prefix.first_chunk().map_or(0, |prefix| i64::from_le_bytes(*prefix));
    match u64::try_from(unpacked) {
        // -1 stands for a buffer that is not compressed.
        Err(_) => Ok(length),
        Ok(unpacked) if unpacked <= (length - PREFIX).saturating_mul(MAX_RATIO) => Ok(unpacked),
        Ok(unpacked) => Err(corrupt(format!("{length} bytes can't be {unpacked} bytes when they are unpacked"))),
    }
}

fn rows_of(header: &Header) -> Result<u64> {
    u64::try_from(header.length()).map_err(corrupt)
}

fn read_at(file: &File, start: u64, length: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, start).map_err(corrupt)?;
    Ok(bytes)
}

/// Reads only the columns of `schema`.
fn open(file: File, schema: SchemaRef, batch_rows: usize) -> Result<Box<dyn BatchReader>> {
    guarded(|| {
        let blocks = Blocks::of(&file)?;
        let all = blocks.open(file.try_clone()?, None)?.schema();
        let fields = all.fields().iter().enumerate();
        let wanted = fields.filter(|(_, field)| schema.field_with_name(field.name()).is_ok());
        let wanted: Vec<usize> = wanted.map(|(index, _)| index).collect();
        let pieces = Pieces::new(&all.project(&wanted)?, schema, batch_rows)?;
        let reader = blocks.open(file.try_clone()?, Some(wanted))?;
        Ok(Box::new(IpcReader { reader, file, blocks, read: 0, pieces }) as Box<dyn BatchReader>)
    })
}

fn corrupt(error: impl std::fmt::Display) -> Error {
    Error::new(format!("no valid Arrow file: {error}"))
}

struct IpcReader {
    reader: FileReader<File>,
    file: File,
    blocks: Blocks,
    /// How many batches have been read.
    read: usize,
    pieces: Pieces,
}

impl IpcReader {
    /// Reads the next batch. Returns false at the end.
    fn read(&mut self) -> Result<bool> {
        if let Some(block) = self.blocks.batches.get(self.read) {
            guarded(|| self.blocks.check(&self.file, block))?;
        }
        self.read += 1;
        let Some(rows) = guarded(|| self.reader.next().transpose().map_err(corrupt))? else { return Ok(false) };
        self.pieces.put(rows);
        Ok(true)
    }
}

impl BatchReader for IpcReader {
    fn schema(&self) -> &SchemaRef {
        self.pieces.schema()
    }

    fn next(&mut self, out: &mut Rows) -> Result<bool> {
        if self.pieces.is_empty() && !self.read()? {
            return Ok(false);
        }
        guarded(|| self.pieces.next(out))?;
        Ok(true)
    }

    fn position(&self) -> ReaderPosition {
        ReaderPosition { position: self.pieces.position(), offset: 0 }
    }

    fn go_to(&mut self, start: ReaderPosition) -> Result<()> {
        while self.pieces.position() < start.position {
            if self.pieces.is_empty() && !self.read()? {
                return Err(shorter(start.position));
            }
            self.pieces.pass(start.position);
        }
        Ok(())
    }
}

/// A file that has fewer rows than were read from it before.
pub(crate) fn shorter(rows: u64) -> Error {
    Error::new(format!("it has become shorter: it should have {rows} rows and more"))
}
