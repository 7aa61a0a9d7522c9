//! Arrow IPC files, also known as Feather 2.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::{FileReader, read_footer_length};
use arrow::ipc::{Block, root_as_footer, root_as_message};
use millstream_core::{Canonical, Error, Result};

use crate::Rows;
use crate::read::{BatchReader, Mark, guarded};

/// The canonical columns of a file, and how many rows it has.
pub(crate) fn inspect(mut file: File) -> Result<(SchemaRef, u64)> {
    guarded(|| {
        let rows = count_rows(&mut file)?;
        let reader = FileReader::try_new(file, None).map_err(corrupt)?;
        Ok((Canonical::new(&reader.schema()).map_err(Error::new)?.schema().clone(), rows))
    })
}

/// The lengths that the headers of all batches give.
fn count_rows(file: &mut File) -> Result<u64> {
    const TRAILER: u64 = 10;
    let length = file.seek(SeekFrom::End(0))?;
    let start = length.checked_sub(TRAILER).ok_or_else(|| corrupt("it is too short"))?;
    let trailer = read_at(file, start, TRAILER as usize)?;
    let trailer = trailer.try_into().map_err(|_| corrupt("it is too short"))?;
    let footer_length = read_footer_length(trailer).map_err(corrupt)?;
    let start = start.checked_sub(footer_length as u64).ok_or_else(|| corrupt("its footer is too long"))?;
    let footer = read_at(file, start, footer_length)?;
    let footer = root_as_footer(&footer).map_err(corrupt)?;
    let mut rows = 0;
    for block in footer.recordBatches().iter().flatten() {
        rows += block_rows(file, block, length)?;
    }
    Ok(rows)
}

fn block_rows(file: &mut File, block: &Block, file_length: u64) -> Result<u64> {
    let start = u64::try_from(block.offset()).map_err(corrupt)?;
    let length = usize::try_from(block.metaDataLength()).map_err(corrupt)?;
    if start + length as u64 > file_length {
        return Err(corrupt("a batch lies behind its end"));
    }
    let header = read_at(file, start, length)?;
    // Older files lack the marker FF FF FF FF in front of the length.
    let skipped = if header.starts_with(&[0xff; 4]) { 8 } else { 4 };
    let message = root_as_message(header.get(skipped..).unwrap_or_default()).map_err(corrupt)?;
    let batch = message.header_as_record_batch().ok_or_else(|| corrupt("expected a batch"))?;
    u64::try_from(batch.length()).map_err(corrupt)
}

fn read_at(file: &mut File, start: u64, length: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    file.seek(SeekFrom::Start(start))?;
    file.read_exact(&mut bytes).map_err(corrupt)?;
    Ok(bytes)
}

/// Reads only the columns of `schema`.
pub(crate) fn open(mut file: File, schema: SchemaRef, batch_rows: usize) -> Result<Box<dyn BatchReader>> {
    guarded(|| {
        let all = FileReader::try_new(&mut file, None).map_err(corrupt)?.schema();
        let fields = all.fields().iter().enumerate();
        let wanted = fields.filter(|(_, field)| schema.field_with_name(field.name()).is_ok());
        let wanted: Vec<usize> = wanted.map(|(index, _)| index).collect();
        let canonical = Canonical::new(&all.project(&wanted)?).map_err(Error::new)?;
        let reader = FileReader::try_new(file, Some(wanted)).map_err(corrupt)?;
        let reader = IpcReader { reader, canonical, schema, batch_rows, left: None, position: 0 };
        Ok(Box::new(reader) as Box<dyn BatchReader>)
    })
}

fn corrupt(error: impl std::fmt::Display) -> Error {
    Error::new(format!("no valid Arrow file: {error}"))
}

struct IpcReader {
    reader: FileReader<File>,
    canonical: Canonical,
    schema: SchemaRef,
    batch_rows: usize,
    /// What is left of a batch of the file that is too large.
    left: Option<RecordBatch>,
    position: u64,
}

impl IpcReader {
    fn read(&mut self) -> Result<Option<RecordBatch>> {
        let read = || self.reader.next().transpose().map_err(corrupt);
        let Some(rows) = guarded(read)? else { return Ok(None) };
        as_planned(self.canonical.apply(rows)?, &self.schema).map(Some)
    }
}

impl BatchReader for IpcReader {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn next(&mut self, out: &mut Rows) -> Result<bool> {
        let rows = match self.left.take() {
            Some(rows) => rows,
            None => match self.read()? {
                Some(rows) => rows,
                None => return Ok(false),
            },
        };
        let count = rows.num_rows().min(self.batch_rows);
        if count < rows.num_rows() {
            self.left = Some(rows.slice(count, rows.num_rows() - count));
        }
        if count > 0 {
            out.batches.push((self.position, rows.slice(0, count)));
        }
        self.position += count as u64;
        Ok(true)
    }

    fn mark(&self) -> Mark {
        Mark { position: self.position, offset: 0 }
    }

    fn go_to(&mut self, mark: Mark) -> Result<()> {
        while self.position < mark.position {
            let Some(rows) = self.read()? else { return Err(shorter(mark.position)) };
            let passed = (mark.position - self.position).min(rows.num_rows() as u64);
            self.position += passed;
            self.left = Some(rows.slice(passed as usize, rows.num_rows() - passed as usize));
        }
        Ok(())
    }
}

/// A file that has fewer rows than were read from it before.
pub(crate) fn shorter(rows: u64) -> Error {
    Error::new(format!("it has become shorter: it should have {rows} rows and more"))
}

/// The rows with the schema that was planned, which may allow more nulls. An error if the file has changed since.
pub(crate) fn as_planned(rows: RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let same = rows.schema_ref().fields().iter().map(|field| (field.name(), field.data_type()));
    let planned = schema.fields().iter().map(|field| (field.name(), field.data_type()));
    if !same.eq(planned) {
        return Err(Error::new("the columns are no longer those that the flow was planned with"));
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    Ok(RecordBatch::try_new_with_options(schema.clone(), rows.columns().to_vec(), &options)?)
}
