//! Object container files: blocks of records, behind their schema.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read, Seek, SeekFrom, Write as _};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use bzip2::read::{BzDecoder, BzEncoder};
use flate2::Compression;
use flate2::read::{DeflateDecoder, DeflateEncoder};
use millstream_core::{ColumnType, Columns, Encoding, Error, Problem, Result};

use super::plan::{Planner, RecordPlan};
use super::schema::AvroSchema;
use super::write::{ROW, RowWriter, check_names, put_bytes, put_long, schema_of};
use super::{Codec, json, read};
use crate::ipc::shorter;
use crate::read::{Decoder, FileFormat, Found, wanted};
use crate::reader::{BatchReader, ReaderPosition};
use crate::records::{Batches, Budget, Cursor};
use crate::refusal::Refusal;
use crate::window::MAX_BATCH_BYTES;
use crate::write::{Encoder, Writing};
use crate::{BadRow, Part, Rows};

/// What files begin with.
const MAGIC: [u8; 4] = *b"Obj\x01";

/// How long the mark is that stands behind each block.
const SYNC: usize = 16;

/// How long the header may be, and a block when it is unpacked. Blocks mostly have some kilobytes.
const MAX_HEADER: u64 = 16 << 20;
const MAX_BLOCK: usize = 4 * MAX_BATCH_BYTES;

/// How many rows a block may have that have no bytes.
const MAX_EMPTY_ROWS: u64 = 1 << 16;

/// A part that is decoded apart from others has so many bytes, if its rows are small.
const PART_BYTES: usize = 1 << 20;

/// Container files to read.
#[derive(Debug)]
pub(super) struct AvroFile;

impl FileFormat for AvroFile {
    fn open(&self, file: File, decoder: &Decoder) -> Result<Box<dyn BatchReader>> {
        let length = file.metadata()?.len();
        let container = Container::open(Box::new(file), length)?;
        let columns = planned(&container.schema.columns(), &decoder.columns)?;
        container.read(&columns, decoder)
    }

    fn open_bytes(&self, bytes: Vec<u8>, decoder: &Decoder) -> Result<Box<dyn BatchReader>> {
        let length = bytes.len() as u64;
        Container::open(Box::new(std::io::Cursor::new(bytes)), length)?.read(&decoder.columns, decoder)
    }

    fn inspect(&self, file: File) -> Result<Found> {
        let length = file.metadata()?.len();
        let mut container = Container::open(Box::new(file), length)?;
        let mut rows = 0_u64;
        while let Some((count, size)) = container.next_block()? {
            rows = rows.saturating_add(count);
            container.pass(size)?;
        }
        Ok(Found { rows: Some(rows), ..Found::of(container.schema.columns()) })
    }
}

/// The columns of a file, which may be null where they were planned so.
fn planned(found: &Columns, planned: &Columns) -> Result<Columns> {
    let kinds = |columns: &Columns| {
        columns.0.iter().map(|(name, column)| (name.clone(), column.data_type.clone())).collect::<Vec<_>>()
    };
    if kinds(found) != kinds(planned) {
        return Err(Error::new("the columns are no longer those that the flow was planned with"));
    }
    let columns = found.0.iter().zip(&planned.0);
    let column = |((name, column), (_, planned)): (&(String, ColumnType), &(String, ColumnType))| {
        (name.clone(), ColumnType { nullable: planned.nullable, ..column.clone() })
    };
    Ok(Columns(columns.map(column).collect()))
}

fn corrupt(error: impl std::fmt::Display) -> Error {
    Error::new(format!("no valid Avro file: {error}"))
}

fn refused(refusal: Box<Refusal>) -> Error {
    corrupt(refusal)
}

/// Bytes with places: those of a file, or in memory.
trait Placed: Read + Seek + Send {}

impl<T: Read + Seek + Send> Placed for T {}

/// A file whose header has been read.
struct Container {
    file: BufReader<Box<dyn Placed>>,
    /// How many bytes lie behind those that have been read.
    left: u64,
    schema: AvroSchema,
    codec: Codec,
    sync: [u8; SYNC],
}

impl Container {
    fn open(file: Box<dyn Placed>, length: u64) -> Result<Self> {
        let mut file = BufReader::new(file);
        let mut header = Vec::new();
        let (schema, codec, sync, used) = loop {
            // As much as there is, and twice as much as before.
            let before = header.len() as u64;
            let more = before.max(1 << 14);
            (&mut file).take(more).read_to_end(&mut header)?;
            match Self::header(&header) {
                Ok(found) => break found,
                Err(error) if header.len() as u64 == before || header.len() as u64 > MAX_HEADER => return Err(error),
                // It may have been cut off.
                Err(_) => {}
            }
        };
        file.seek(SeekFrom::Start(used))?;
        Ok(Self { file, left: length.saturating_sub(used), schema, codec, sync })
    }

    /// Reads the rows into these columns.
    fn read(self, columns: &Columns, decoder: &Decoder) -> Result<Box<dyn BatchReader>> {
        let wanted = wanted(columns, decoder.wanted.as_ref());
        let plan = Planner::new(&self.schema, None).plan(columns, &wanted).map_err(Error::new)?;
        let source = Source { schema: self.schema.clone(), plan, columns: wanted, codec: self.codec };
        Ok(Box::new(AvroReader {
            schema: source.columns.schema(),
            batch_rows: decoder.batch_rows,
            source: Arc::new(source),
            container: self,
            position: 0,
            block: Block::default(),
        }))
    }

    /// The schema, how blocks are compressed, the mark behind them, and how many bytes all that takes.
    fn header(bytes: &[u8]) -> Result<(AvroSchema, Codec, [u8; SYNC], u64)> {
        let mut cursor = Cursor::new(bytes);
        if cursor.take(MAGIC.len()).map_err(refused)? != MAGIC {
            return Err(corrupt("it does not begin as one"));
        }
        let (mut schema, mut codec) = (None, Codec::Null);
        read::blocks(&mut cursor, |cursor| {
            let (key, value) = (read::text(cursor)?, read::sized(cursor)?);
            match key {
                "avro.schema" => schema = Some(value),
                "avro.codec" => {
                    codec = match value {
                        b"null" => Codec::Null,
                        b"deflate" => Codec::Deflate,
                        b"snappy" => Codec::Snappy,
                        b"zstandard" => Codec::Zstandard,
                        b"bzip2" => Codec::Bzip2,
                        other => {
                            let other = String::from_utf8_lossy(other).into_owned();
                            return Err(Refusal::malformed(format!(
                                "it is compressed by `{other}`, which is not known"
                            )));
                        }
                    }
                }
                _ => {}
            }
            Ok(())
        })
        .map_err(refused)?;
        let sync = cursor.array().map_err(refused)?;
        let schema = schema.ok_or_else(|| corrupt("it has no schema"))?;
        let schema = std::str::from_utf8(schema).map_err(corrupt)?;
        let schema = AvroSchema::parse(schema).map_err(|error| corrupt(format!("its schema: {error}")))?;
        Ok((schema, codec, sync, (bytes.len() - cursor.rest().len()) as u64))
    }

    /// How many rows the next block has, and how many bytes. None at the end.
    fn next_block(&mut self) -> Result<Option<(u64, u64)>> {
        if self.file.fill_buf()?.is_empty() {
            return Ok(None);
        }
        let (rows, size) = (self.long()?, self.long()?);
        match (u64::try_from(rows), u64::try_from(size)) {
            (Ok(rows), Ok(size)) if size.saturating_add(SYNC as u64) <= self.left => Ok(Some((rows, size))),
            (Ok(_), Ok(_)) => Err(corrupt("it ends in the midst of a block")),
            _ => Err(corrupt(format!("a block has {rows} rows in {size} bytes"))),
        }
    }

    fn long(&mut self) -> Result<i64> {
        let mut bytes = Vec::with_capacity(10);
        loop {
            let mut byte = [0];
            self.file.read_exact(&mut byte).map_err(|_| corrupt("it ends in the midst of a block"))?;
            self.left = self.left.saturating_sub(1);
            bytes.extend(byte);
            if byte[0] < 0x80 || bytes.len() > 10 {
                return Cursor::new(&bytes).zigzag().map_err(refused);
            }
        }
    }

    /// The bytes of a block, as they are in the file.
    fn block(&mut self, size: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        (&mut self.file).take(size).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != size {
            return Err(corrupt("it ends in the midst of a block"));
        }
        self.end_block(size)?;
        Ok(bytes)
    }

    /// Passes over a block.
    fn pass(&mut self, size: u64) -> Result<()> {
        self.file.seek_relative(i64::try_from(size).map_err(corrupt)?)?;
        self.end_block(size)
    }

    fn end_block(&mut self, size: u64) -> Result<()> {
        let mut sync = [0; SYNC];
        self.file.read_exact(&mut sync).map_err(|_| corrupt("it ends in the midst of a block"))?;
        self.left = self.left.saturating_sub(size + SYNC as u64);
        if sync == self.sync { Ok(()) } else { Err(corrupt("a block does not end where it says")) }
    }
}

impl Codec {
    fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Deflate => "deflate",
            Self::Snappy => "snappy",
            Self::Zstandard => "zstandard",
            Self::Bzip2 => "bzip2",
        }
    }

    fn unpack(self, bytes: Vec<u8>) -> Result<Vec<u8>> {
        let read = |source: &mut dyn std::io::Read| -> Result<Vec<u8>> {
            let mut unpacked = Vec::new();
            source.take(MAX_BLOCK as u64 + 1).read_to_end(&mut unpacked).map_err(corrupt)?;
            Ok(unpacked)
        };
        let unpacked = match self {
            Self::Null => bytes,
            Self::Deflate => read(&mut DeflateDecoder::new(&bytes[..]))?,
            Self::Bzip2 => read(&mut BzDecoder::new(&bytes[..]))?,
            Self::Zstandard => read(&mut zstd::Decoder::new(&bytes[..]).map_err(corrupt)?)?,
            Self::Snappy => unpack_snappy(&bytes)?,
        };
        if unpacked.len() > MAX_BLOCK {
            return Err(too_long());
        }
        Ok(unpacked)
    }

    fn pack(self, bytes: &[u8]) -> Result<Vec<u8>> {
        let mut packed = Vec::new();
        match self {
            Self::Null => packed.extend_from_slice(bytes),
            Self::Deflate => _ = DeflateEncoder::new(bytes, Compression::default()).read_to_end(&mut packed)?,
            Self::Bzip2 => _ = BzEncoder::new(bytes, bzip2::Compression::default()).read_to_end(&mut packed)?,
            Self::Zstandard => packed = zstd::encode_all(bytes, zstd::DEFAULT_COMPRESSION_LEVEL)?,
            Self::Snappy => {
                packed = snap::raw::Encoder::new().compress_vec(bytes).map_err(corrupt)?;
                packed.write_all(&crc32fast::hash(bytes).to_be_bytes())?;
            }
        }
        Ok(packed)
    }
}

fn too_long() -> Error {
    corrupt(format!("a block becomes longer than {MAX_BLOCK} bytes when it is unpacked"))
}

/// Behind the bytes is the checksum of what they become.
fn unpack_snappy(bytes: &[u8]) -> Result<Vec<u8>> {
    let (packed, checksum) = bytes.split_last_chunk::<4>().ok_or_else(|| corrupt("a block is too short"))?;
    if snap::raw::decompress_len(packed).map_err(corrupt)? > MAX_BLOCK {
        return Err(too_long());
    }
    let unpacked = snap::raw::Decoder::new().decompress_vec(packed).map_err(corrupt)?;
    if crc32fast::hash(&unpacked).to_be_bytes() != *checksum {
        return Err(corrupt("the checksum of a block is another one"));
    }
    Ok(unpacked)
}

/// What it takes to decode blocks.
struct Source {
    schema: AvroSchema,
    plan: RecordPlan,
    columns: Columns,
    codec: Codec,
}

/// A block of which rows are left.
#[derive(Default)]
struct Block {
    bytes: Vec<u8>,
    /// How many of the bytes have been read.
    read: usize,
    rows: u64,
}

impl Source {
    /// Reads the next row of a block. `Ok(Some(…))` is one that is refused.
    fn read(&self, block: &mut Block, position: u64, batches: &mut Batches) -> Result<Option<BadRow>> {
        let start = block.bytes.get(block.read..).unwrap_or_default();
        let mut cursor = Cursor::new(start);
        let read = batches
            .push(position, 0, |record, budget| read::record(&self.plan, &self.schema, &mut cursor, record, budget));
        let mut bad = None;
        if let Err(refusal) = read {
            let Refusal::Value { .. } = *refusal else { return Err(refused(refusal)) };
            // The next one begins behind it, if what is wrong is but a value.
            cursor = Cursor::new(start);
            let passed = read::skip(&self.schema, &self.schema.root, &mut cursor, &mut Budget::of_record(), 0);
            passed.map_err(refused)?;
            let bytes = &start[..start.len() - cursor.rest().len()];
            let text = json::of_record(&self.schema, bytes);
            let encoding = text.is_some().then_some(Encoding::Json);
            let row = BadRow::new(position, refusal.to_string(), text.as_deref().map_or(bytes, str::as_bytes));
            bad = Some(BadRow { encoding: encoding.unwrap_or(row.encoding), ..row });
        }
        block.read = block.bytes.len() - cursor.rest().len();
        block.rows -= 1;
        if block.rows == 0 && block.read < block.bytes.len() {
            return Err(corrupt("a block has more bytes than its rows"));
        }
        Ok(bad)
    }

    fn unpack(&self, rows: u64, bytes: Vec<u8>) -> Result<Block> {
        let bytes = self.codec.unpack(bytes)?;
        // Rows without any bytes would be endless.
        if rows == 0 && !bytes.is_empty() || rows > (bytes.len() as u64).max(MAX_EMPTY_ROWS) {
            return Err(corrupt(format!("a block has {rows} rows in {} bytes", bytes.len())));
        }
        Ok(Block { bytes, read: 0, rows })
    }

    /// All rows of some blocks, the first of which has a position.
    fn decode(&self, blocks: Vec<(u64, Vec<u8>)>, mut position: u64, batch_rows: usize) -> Result<Rows> {
        let (mut batches, mut out) = (Batches::new(&self.columns, batch_rows), Rows::default());
        for (rows, bytes) in blocks {
            let mut block = self.unpack(rows, bytes)?;
            while block.rows > 0 {
                out.failed.extend(self.read(&mut block, position, &mut batches)?);
                position += 1;
                if batches.is_full() {
                    batches.flush(&mut out)?;
                }
            }
        }
        batches.flush(&mut out)?;
        Ok(out)
    }
}

/// Reads a file block by block.
struct AvroReader {
    container: Container,
    source: Arc<Source>,
    schema: SchemaRef,
    batch_rows: usize,
    position: u64,
    block: Block,
}

impl AvroReader {
    /// Unpacks the next block that has rows. Returns false at the end.
    fn next_block(&mut self) -> Result<bool> {
        while self.block.rows == 0 {
            let Some((rows, size)) = self.container.next_block()? else { return Ok(false) };
            let bytes = self.container.block(size)?;
            self.block = self.source.unpack(rows, bytes)?;
        }
        Ok(true)
    }
}

impl BatchReader for AvroReader {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn next(&mut self, out: &mut Rows) -> Result<bool> {
        let start = self.position;
        let mut batches = Batches::new(&self.source.columns, self.batch_rows);
        while !batches.is_full() && self.next_block()? {
            out.failed.extend(self.source.read(&mut self.block, self.position, &mut batches)?);
            self.position += 1;
        }
        batches.flush(out)?;
        Ok(self.position > start)
    }

    fn split_off(&mut self) -> Result<Option<Part>> {
        if self.block.rows > 0 {
            return Part::decoded(self);
        }
        let before = self.position();
        let (mut blocks, mut bytes) = (Vec::new(), 0);
        while self.position - before.position < self.batch_rows as u64 && bytes < PART_BYTES {
            let Some((rows, size)) = self.container.next_block()? else { break };
            blocks.push((rows, self.container.block(size)?));
            self.position = self.position.saturating_add(rows);
            bytes = bytes.saturating_add(usize::try_from(size).unwrap_or(usize::MAX));
        }
        if blocks.is_empty() {
            return Ok(None);
        }
        let (source, batch_rows) = (self.source.clone(), self.batch_rows);
        let start = before.position;
        Ok(Some(Part::new(before, self.position(), move || source.decode(blocks, start, batch_rows))))
    }

    fn position(&self) -> ReaderPosition {
        ReaderPosition { position: self.position, offset: 0 }
    }

    fn go_to(&mut self, start: ReaderPosition) -> Result<()> {
        let left = |reader: &Self| start.position.saturating_sub(reader.position);
        while left(self) > 0 {
            let Some((rows, size)) = self.container.next_block()? else { return Err(shorter(start.position)) };
            if rows <= left(self) {
                self.container.pass(size)?;
                self.position += rows;
                continue;
            }
            let bytes = self.container.block(size)?;
            self.block = self.source.unpack(rows, bytes)?;
            let mut batches = Batches::new(&self.source.columns, self.batch_rows);
            while left(self) > 0 {
                self.source.read(&mut self.block, self.position, &mut batches)?;
                self.position += 1;
                if batches.is_full() {
                    batches.flush(&mut Rows::default())?;
                }
            }
        }
        Ok(())
    }
}

/// Container files to write.
#[derive(Debug)]
pub(super) struct AvroWriting {
    pub codec: Codec,
}

impl Writing for AvroWriting {
    fn encoder(&self, schema: &SchemaRef) -> Result<Box<dyn Encoder>> {
        let text = schema_of(ROW, schema).to_string();
        let print = AvroSchema::parse(&text).map_err(Error::new)?.fingerprint().to_le_bytes();
        // The same rows give the same bytes, so that it can't be random.
        let mut sync = [0x6d; SYNC];
        sync[..print.len()].copy_from_slice(&print);
        Ok(Box::new(AvroEncoder { schema: text, codec: self.codec, sync, block: Vec::new() }))
    }

    fn check_columns(&self, schema: &Schema) -> Result<(), Problem> {
        check_names(schema.fields())
    }
}

struct AvroEncoder {
    schema: String,
    codec: Codec,
    sync: [u8; SYNC],
    /// The rows of a block; reused.
    block: Vec<u8>,
}

impl Encoder for AvroEncoder {
    fn begin(&mut self, out: &mut Vec<u8>) -> Result<()> {
        out.extend_from_slice(&MAGIC);
        put_long(2, out);
        for (key, value) in [("avro.schema", self.schema.as_str()), ("avro.codec", self.codec.name())] {
            put_bytes(key.as_bytes(), out);
            put_bytes(value.as_bytes(), out);
        }
        put_long(0, out);
        out.extend_from_slice(&self.sync);
        Ok(())
    }

    fn encode(&mut self, rows: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        self.block.clear();
        let writer = RowWriter::new(rows)?;
        (0..rows.num_rows()).for_each(|row| writer.put(row, &mut self.block));
        let packed = self.codec.pack(&self.block)?;
        put_long(rows.num_rows() as i64, out);
        put_bytes(&packed, out);
        out.extend_from_slice(&self.sync);
        Ok(())
    }
}
