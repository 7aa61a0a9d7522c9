//! Parquet files.

use std::fs::File;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatchReader;
use millstream_core::{Canonical, Error, Result};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use crate::Rows;
use crate::ipc::{as_planned, shorter};
use crate::read::{BatchReader, Mark, guarded};

/// The canonical columns of a file, and how many rows it has.
pub(crate) fn inspect(file: File) -> Result<(SchemaRef, u64)> {
    guarded(|| {
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(corrupt)?;
        let schema = Canonical::new(builder.schema()).map_err(Error::new)?.schema().clone();
        let rows = builder.metadata().file_metadata().num_rows();
        Ok((schema, u64::try_from(rows).unwrap_or(0)))
    })
}

/// Reads only the columns of `schema`.
pub(crate) fn open(file: File, schema: SchemaRef, batch_rows: usize) -> Result<Box<dyn BatchReader>> {
    let reader = open_at(&file, &schema, batch_rows, 0)?;
    let canonical = Canonical::new(&reader.schema()).map_err(Error::new)?;
    Ok(Box::new(ParquetReader { file, batch_rows, reader, canonical, schema, position: 0 }))
}

/// Reads from a row on.
fn open_at(file: &File, schema: &SchemaRef, batch_rows: usize, position: u64) -> Result<ParquetRecordBatchReader> {
    guarded(|| {
        let builder = ParquetRecordBatchReaderBuilder::try_new(file.try_clone()?).map_err(corrupt)?;
        if u64::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0) < position {
            return Err(shorter(position));
        }
        let fields = builder.schema().fields().iter().enumerate();
        let wanted = fields.filter(|(_, field)| schema.field_with_name(field.name()).is_ok());
        let mask = ProjectionMask::roots(builder.parquet_schema(), wanted.map(|(index, _)| index));
        let builder = builder.with_projection(mask).with_batch_size(batch_rows).with_offset(position as usize);
        builder.build().map_err(corrupt)
    })
}

fn corrupt(error: impl std::fmt::Display) -> Error {
    Error::new(format!("no valid Parquet file: {error}"))
}

struct ParquetReader {
    file: File,
    batch_rows: usize,
    reader: ParquetRecordBatchReader,
    canonical: Canonical,
    schema: SchemaRef,
    position: u64,
}

impl BatchReader for ParquetReader {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn next(&mut self, out: &mut Rows) -> Result<bool> {
        let Some(rows) = guarded(|| self.reader.next().transpose().map_err(corrupt))? else { return Ok(false) };
        let rows = as_planned(self.canonical.apply(rows)?, &self.schema)?;
        let start = self.position;
        self.position += rows.num_rows() as u64;
        out.batches.push((start, rows));
        Ok(true)
    }

    fn mark(&self) -> Mark {
        Mark { position: self.position, offset: 0 }
    }

    fn go_to(&mut self, mark: Mark) -> Result<()> {
        self.reader = open_at(&self.file, &self.schema, self.batch_rows, mark.position)?;
        self.position = mark.position;
        Ok(())
    }
}
