//! Parquet files.

use std::fs::File;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::record_batch::RecordBatchReader;
use millstream_core::{Error, Problem, Result};
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, Type, ZstdLevel};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use parquet::file::properties::WriterProperties;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::Rows;
use crate::ipc::shorter;
use crate::kind::{FormatKind, Settings, Side};
use crate::pieces::{Pieces, carried};
use crate::read::{Decoder, FileFormat, Reading};
use crate::reader::{BatchReader, Mark, guarded};
use crate::window::MAX_BATCH_BYTES;
use crate::write::{Encoder, WRITE_ROWS, Writing};

pub(crate) const FORMAT: FormatKind = FormatKind {
    name: "parquet",
    about: "Apache Parquet.",
    endings: &["parquet"],
    example: r#""parquet""#,
    is_text: false,
    can_grow: false,
    read: Some(Side::of::<ReadParquet>()),
    write_files: Some(Side::of::<WriteParquet>()),
    write_streams: None,
};

/// Files name their columns, of which those are left out whose types flows can't carry. A file that is corrupt stops the flow.
#[derive(Debug, Deserialize, JsonSchema)]
struct ReadParquet {}

/// Columns are compressed with zstd, a row group has 131,072 rows.
#[derive(Debug, Deserialize, JsonSchema)]
struct WriteParquet {}

impl Settings for ReadParquet {
    type Made = Reading;

    fn make(self, _: &str) -> Result<Reading, Problem> {
        Ok(Reading::File(Arc::new(Parquet)))
    }
}

impl Settings for WriteParquet {
    type Made = Arc<dyn Writing>;

    fn make(self, _: &str) -> Result<Self::Made, Problem> {
        Ok(Arc::new(Parquet))
    }
}

/// Parquet, which has no settings.
#[derive(Debug)]
struct Parquet;

impl FileFormat for Parquet {
    fn open(&self, file: File, decoder: &Decoder) -> Result<Box<dyn BatchReader>> {
        open(file, decoder.schema(), decoder.batch_rows)
    }

    fn inspect(&self, file: File) -> Result<(SchemaRef, u64)> {
        inspect(file)
    }
}

impl Writing for Parquet {
    fn encoder(&self, schema: &SchemaRef) -> Result<Box<dyn Encoder>> {
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .build();
        Ok(Box::new(ParquetEncoder(
            ArrowWriter::try_new(Vec::new(), schema.clone(), Some(properties)).map_err(not_written)?,
        )))
    }
}

/// How many rows a row group of a file has that is written.
const ROW_GROUP_ROWS: usize = 16 * WRITE_ROWS;

struct ParquetEncoder(ArrowWriter<Vec<u8>>);

impl ParquetEncoder {
    /// Hands out the row groups that are whole. They may be large, and so are not copied, nor is their memory kept.
    fn hand_out(&mut self, out: &mut Vec<u8>) -> Result<()> {
        self.0.sync()?;
        let written = std::mem::take(self.0.inner_mut());
        match out.is_empty() {
            true => *out = written,
            false => out.extend_from_slice(&written),
        }
        Ok(())
    }
}

impl Encoder for ParquetEncoder {
    fn encode(&mut self, rows: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
        self.0.write(rows).map_err(not_written)?;
        self.hand_out(out)
    }

    fn kept(&self) -> u64 {
        self.0.in_progress_size() as u64
    }

    fn end(&mut self, out: &mut Vec<u8>) -> Result<()> {
        self.0.finish().map_err(not_written)?;
        self.hand_out(out)
    }
}

fn not_written(error: parquet::errors::ParquetError) -> Error {
    Error::new(error.to_string())
}

/// Texts of a column of a row group that are longer together might be too long for one array.
const MAX_ARRAY_BYTES: u64 = 1 << 30;

/// The canonical columns of a file, and how many rows it has.
fn inspect(file: File) -> Result<(SchemaRef, u64)> {
    guarded(|| {
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(corrupt)?;
        let rows = builder.metadata().file_metadata().num_rows();
        Ok((carried(builder.schema())?, u64::try_from(rows).unwrap_or(0)))
    })
}

/// Reads only the columns of `schema`.
fn open(file: File, schema: SchemaRef, batch_rows: usize) -> Result<Box<dyn BatchReader>> {
    let reader = open_at(&file, &schema, batch_rows, 0)?;
    let pieces = Pieces::new(&reader.schema(), schema, batch_rows)?;
    Ok(Box::new(ParquetReader { file, batch_rows, reader, pieces }))
}

/// Reads from a row on.
fn open_at(file: &File, schema: &SchemaRef, batch_rows: usize, position: u64) -> Result<ParquetRecordBatchReader> {
    guarded(|| {
        let metadata = ArrowReaderMetadata::load(file, ArrowReaderOptions::new()).map_err(corrupt)?;
        if u64::try_from(metadata.metadata().file_metadata().num_rows()).unwrap_or(0) < position {
            return Err(shorter(position));
        }
        let plan = Plan::new(metadata.metadata(), metadata.schema(), schema);
        let options = ArrowReaderOptions::new().with_schema(plan.schema);
        let metadata = ArrowReaderMetadata::try_new(metadata.metadata().clone(), options).map_err(corrupt)?;
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file.try_clone()?, metadata);
        let mask = ProjectionMask::roots(builder.parquet_schema(), plan.wanted);
        let batch_rows = batch_rows.min(plan.batch_rows);
        let builder = builder.with_projection(mask).with_batch_size(batch_rows).with_offset(position as usize);
        builder.build().map_err(corrupt)
    })
}

/// How a file is read.
struct Plan {
    /// The columns that are read.
    wanted: Vec<usize>,
    /// All columns, with the types in which they are read.
    schema: SchemaRef,
    /// How many rows have room in memory.
    batch_rows: usize,
}

impl Plan {
    fn new(metadata: &ParquetMetaData, file: &SchemaRef, schema: &SchemaRef) -> Self {
        let is_wanted = |field: &Field| schema.field_with_name(field.name()).is_ok();
        let mut fields = file.fields().to_vec();
        let mut row_bytes = 1;
        let leaves = metadata.file_metadata().schema_descr();
        for leaf in 0..leaves.num_columns() {
            let root = leaves.get_column_root_idx(leaf);
            if !is_wanted(&fields[root]) {
                continue;
            }
            let size = LeafSize::of(metadata, leaf);
            row_bytes += size.row_bytes;
            let read_as = match (leaves.column(leaf).physical_type(), fields[root].data_type()) {
                // As nanoseconds, which is the default, it would be another time before 1678 and after 2262.
                (Type::INT96, DataType::Timestamp(_, zone)) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
                (_, data_type) if size.is_unknown => viewed(data_type),
                _ => continue,
            };
            fields[root] = Arc::new(fields[root].as_ref().clone().with_data_type(read_as));
        }
        let wanted = (0..fields.len()).filter(|index| is_wanted(&fields[*index])).collect();
        let schema = Arc::new(Schema::new_with_metadata(fields, file.metadata().clone()));
        Self { wanted, schema, batch_rows: (MAX_BATCH_BYTES as u64 / row_bytes).max(1) as usize }
    }
}

/// How much the values of a column take in memory.
struct LeafSize {
    /// In one row, in the row group in which they are longest.
    row_bytes: u64,
    /// Whether they may take much more: the file does not say how long texts are that are in a dictionary.
    is_unknown: bool,
}

impl LeafSize {
    fn of(metadata: &ParquetMetaData, leaf: usize) -> Self {
        let (mut row_bytes, mut is_unknown) = (0, false);
        for group in metadata.row_groups() {
            let chunk = group.column(leaf);
            let is_text = chunk.column_type() == Type::BYTE_ARRAY;
            let texts = chunk.unencoded_byte_array_data_bytes();
            let bytes = texts.unwrap_or_else(|| chunk.uncompressed_size());
            let bytes = u64::try_from(bytes).unwrap_or(0);
            is_unknown |= is_text && (texts.is_none() && has_dictionary(chunk) || bytes > MAX_ARRAY_BYTES);
            row_bytes = row_bytes.max(bytes / u64::try_from(group.num_rows()).unwrap_or(0).max(1));
        }
        Self { row_bytes, is_unknown }
    }
}

fn has_dictionary(chunk: &ColumnChunkMetaData) -> bool {
    chunk.dictionary_page_offset().is_some()
}

/// A type whose texts stay where they are, so that those of a dictionary are there once, until they are cut into pieces.
fn viewed(data_type: &DataType) -> DataType {
    let field = |field: &Arc<Field>| Arc::new(field.as_ref().clone().with_data_type(viewed(field.data_type())));
    match data_type {
        DataType::Utf8 => DataType::Utf8View,
        DataType::Binary => DataType::BinaryView,
        DataType::List(item) => DataType::List(field(item)),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(field).collect()),
        other => other.clone(),
    }
}

fn corrupt(error: impl std::fmt::Display) -> Error {
    Error::new(format!("no valid Parquet file: {error}"))
}

struct ParquetReader {
    file: File,
    batch_rows: usize,
    reader: ParquetRecordBatchReader,
    pieces: Pieces,
}

impl BatchReader for ParquetReader {
    fn schema(&self) -> &SchemaRef {
        self.pieces.schema()
    }

    fn next(&mut self, out: &mut Rows) -> Result<bool> {
        if self.pieces.is_empty() {
            match guarded(|| self.reader.next().transpose().map_err(corrupt))? {
                Some(rows) => self.pieces.put(rows),
                None => return Ok(false),
            }
        }
        guarded(|| self.pieces.next(out))?;
        Ok(true)
    }

    fn mark(&self) -> Mark {
        Mark { position: self.pieces.position(), offset: 0 }
    }

    fn go_to(&mut self, mark: Mark) -> Result<()> {
        self.reader = open_at(&self.file, self.pieces.schema(), self.batch_rows, mark.position)?;
        self.pieces.go_to(mark.position);
        Ok(())
    }
}
