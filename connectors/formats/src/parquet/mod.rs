//! Parquet files.

mod bounds;
mod plan;
mod reader;

use std::fs::File;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use millstream_core::{Error, Problem, Result};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::{ArrowSchemaConverter, ArrowWriter};
use parquet::basic::{Compression, Type, ZstdLevel};
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnDescPtr;
use schemars::JsonSchema;
use serde::Deserialize;

use self::reader::{ParquetReader, needed};
use crate::kind::{FormatKind, Settings, Side};
use crate::read::{Decoder, FileFormat, Found, Needed, Reading};
use crate::reader::{BatchReader, guarded};
use crate::write::{Encoder, WRITE_ROWS, Writing};

pub(crate) const FORMAT: FormatKind = FormatKind {
    name: "parquet",
    about: "Apache Parquet.",
    endings: &["parquet"],
    example: r#""parquet""#,
    is_text: false,
    can_grow: false,
    read: Some(Side::of::<ReadParquet>()),
    read_messages: None,
    write_files: Some(Side::of::<WriteParquet>()),
    write_streams: None,
    write_messages: None,
};

/// Files name their columns, of which those are left out whose types flows can't carry. A file that is corrupt stops the flow.
#[derive(Debug, Deserialize, JsonSchema)]
struct ReadParquet {
    /// Which rows are read: those that meet a condition in the language of [`sql`](../flows/SQL.md) over the columns of the file, such as
    /// `"day >= '2026-01-01' AND shop = 7"`. They are those that an `sql` node with it would let pass: where it is null, a row is not read, and
    /// where it fails, the row leaves by the port `failed`. Columns that only the condition looks at don't come out. Positions of rows are their numbers
    /// in the file, whichever are read.
    ///
    /// Row groups that can't have such rows are not read at all, and of objects not fetched. That is seen by the least and the
    /// greatest value and the number of nulls that the file says each of their columns to have, for comparisons of columns with constants (`=`, `<>`, `<`, `<=`,
    /// `>`, `>=`, `BETWEEN`, `IN`, `IS NULL`), also joined by `AND`, `OR` and `NOT`; so it does most where files are sorted by such columns. What
    /// may fail, such as a division, is best written behind these. How many row groups were skipped the run says at its end. A `[[test]]` gives
    /// the rows that are read.
    r#where: Option<String>,
}

/// Columns are compressed with zstd, a row group has 131,072 rows.
#[derive(Debug, Deserialize, JsonSchema)]
struct WriteParquet {}

impl Settings for ReadParquet {
    type Made = Reading;

    fn make(self, _: &str) -> Result<Reading, Problem> {
        Ok(Reading::File(Arc::new(Parquet { condition: self.r#where })))
    }
}

impl Settings for WriteParquet {
    type Made = Arc<dyn Writing>;

    fn make(self, _: &str) -> Result<Self::Made, Problem> {
        Ok(Arc::new(Parquet { condition: None }))
    }
}

/// Parquet as its settings say.
#[derive(Debug)]
struct Parquet {
    /// What rows have to meet to be read.
    condition: Option<String>,
}

impl FileFormat for Parquet {
    fn open(&self, file: File, decoder: &Decoder) -> Result<Box<dyn BatchReader>> {
        Ok(Box::new(ParquetReader::new(file, decoder)?))
    }

    fn inspect(&self, file: File) -> Result<Found> {
        inspect(file)
    }

    fn needed(&self, file: File, tail: u64, decoder: &Decoder) -> Result<Needed> {
        needed(file, tail, decoder)
    }

    fn condition(&self) -> Option<&str> {
        self.condition.as_deref()
    }
}

impl Writing for Parquet {
    fn encoder(&self, schema: &SchemaRef) -> Result<Box<dyn Encoder>> {
        let properties = properties(schema)?;
        Ok(Box::new(ParquetEncoder(
            ArrowWriter::try_new(Vec::new(), schema.clone(), Some(properties)).map_err(not_written)?,
        )))
    }
}

/// How many rows a row group of a file has that is written.
const ROW_GROUP_ROWS: usize = 16 * WRITE_ROWS;

/// How many bytes a dictionary of numbers may have in a row group: if they come again less often than some sixteen times, it takes more time
/// than all else, and more bytes than it saves. Texts have the default of 1 MiB.
const NUMBERS: usize = ROW_GROUP_ROWS / 16 * size_of::<u64>();

fn properties(schema: &SchemaRef) -> Result<WriterProperties> {
    let columns = ArrowSchemaConverter::new().convert(schema).map_err(not_written)?;
    let numbers = columns.columns().iter().filter(|column| column.physical_type() != Type::BYTE_ARRAY);
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS));
    let limited = |properties: WriterPropertiesBuilder, column: &ColumnDescPtr| {
        properties.set_column_dictionary_page_size_limit(column.path().clone(), NUMBERS)
    };
    Ok(numbers.fold(properties, limited).build())
}

struct ParquetEncoder(ArrowWriter<Vec<u8>>);

impl ParquetEncoder {
    /// Hands out the row groups that are whole. They may be large, and so are not copied, nor is their memory kept.
    fn hand_out(&mut self, out: &mut Vec<u8>) -> Result<()> {
        self.0.sync()?;
        let written = std::mem::take(self.0.inner_mut());
        if out.is_empty() {
            *out = written;
        } else {
            out.extend_from_slice(&written);
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

/// The columns of a file, and how many rows it has.
fn inspect(file: File) -> Result<Found> {
    guarded(|| {
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(corrupt)?;
        let rows = builder.metadata().file_metadata().num_rows();
        Found::carried(builder.schema(), u64::try_from(rows).unwrap_or(0))
    })
}

fn corrupt(error: impl std::fmt::Display) -> Error {
    Error::new(format!("no valid Parquet file: {error}"))
}
