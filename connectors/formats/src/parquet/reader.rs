//! Reads Parquet files, several parts of one at a time.

use std::fs::File;
use std::io::{BufReader, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use millstream_core::Result;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::reader::{ChunkReader, Length};

use super::bounds::bounds;
use super::corrupt;
use super::plan::Plan;
use crate::filter::Filter;
use crate::ipc::shorter;
use crate::part::read_all;
use crate::pieces::Pieces;
use crate::read::Needed;
use crate::reader::{BatchReader, ReaderPosition, RowGroups, guarded};
use crate::window::MAX_BATCH_BYTES;
use crate::{Decoder, Part, Rows, SiftedRows};

/// About how many bytes the rows of a part have in memory.
const PART_BYTES: u64 = 32 << 20;

/// A file that several may read at a time.
#[derive(Clone)]
struct Shared(Arc<File>);

/// The bytes from a place on.
struct BytesFrom {
    file: Arc<File>,
    at: u64,
}

impl Read for BytesFrom {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Length for Shared {
    fn len(&self) -> u64 {
        self.0.metadata().map_or(0, |metadata| metadata.len())
    }
}

impl ChunkReader for Shared {
    type T = BufReader<BytesFrom>;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        Ok(BufReader::new(BytesFrom { file: self.0.clone(), at: start }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        let mut bytes = vec![0; length];
        self.0.read_exact_at(&mut bytes, start)?;
        Ok(bytes.into())
    }
}

/// A file that is read.
struct Source {
    file: Shared,
    metadata: ArrowReaderMetadata,
    plan: Plan,
    /// The columns of the batches, and how many rows these have at most.
    schema: SchemaRef,
    batch_rows: usize,
    /// The columns that are read, which may be more, and which of the rows are wanted.
    read: SchemaRef,
    filter: Option<Arc<Filter>>,
    /// Behind which row each row group ends, and whether it may have rows that are wanted.
    ends: Vec<u64>,
    is_wanted: Vec<bool>,
}

impl Source {
    fn new(file: File, decoder: &Decoder) -> Result<Self> {
        guarded(|| {
            let (schema, read) = (decoder.schema(), decoder.read_schema());
            let file = Shared(Arc::new(file));
            let metadata = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()).map_err(corrupt)?;
            let plan = Plan::new(metadata.metadata(), metadata.schema(), &read);
            let options = ArrowReaderOptions::new().with_schema(plan.schema.clone());
            let metadata = ArrowReaderMetadata::try_new(metadata.metadata().clone(), options).map_err(corrupt)?;
            let rows =
                metadata.metadata().row_groups().iter().map(|group| u64::try_from(group.num_rows()).unwrap_or(0));
            let end = |rows: &mut u64, group: u64| {
                *rows = rows.saturating_add(group);
                Some(*rows)
            };
            let ends = rows.scan(0, end).collect();
            let batch_rows = decoder.batch_rows.min((MAX_BATCH_BYTES as u64 / plan.row_bytes).max(1) as usize);
            let filter = decoder.filter.clone();
            let is_wanted = wanted_groups(metadata.metadata(), &plan, filter.as_deref());
            Ok(Self { file, metadata, plan, schema, batch_rows, read, filter, ends, is_wanted })
        })
    }

    fn rows(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Reads the rows from one on up to another.
    fn read(&self, start: u64, end: u64) -> Result<ParquetRecordBatchReader> {
        let first = self.ends.partition_point(|group| *group <= start);
        let last = self.ends.partition_point(|group| *group < end);
        let before = first.checked_sub(1).map_or(0, |before| self.ends[before]);
        guarded(|| {
            let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(self.file.clone(), self.metadata.clone());
            let mask = ProjectionMask::roots(builder.parquet_schema(), self.plan.wanted.iter().copied());
            let builder =
                builder.with_projection(mask).with_row_groups((first..self.ends.len().min(last + 1)).collect());
            let builder = builder.with_batch_size(self.batch_rows);
            let builder = builder.with_offset((start - before) as usize).with_limit((end - start) as usize);
            builder.build().map_err(corrupt)
        })
    }

    /// The rows from one on up to where their stretch ends, and whether they are read: row groups that follow each other, all of which are or none.
    fn stretch(&self, start: u64) -> (u64, bool) {
        let first = self.ends.partition_point(|end| *end <= start);
        let is_read = self.is_wanted[first];
        let length = self.is_wanted[first..].iter().take_while(|wanted| **wanted == is_read).count();
        (self.ends[first + length - 1], is_read)
    }

    /// Where a part ends that begins at a row: where its row group does, or earlier if that is large.
    fn part_end(&self, start: u64) -> u64 {
        let group = self.ends[self.ends.partition_point(|end| *end <= start)];
        group.min(start + (PART_BYTES / self.plan.row_bytes).max(self.batch_rows as u64))
    }
}

/// Which row groups may have rows that are wanted.
fn wanted_groups(metadata: &ParquetMetaData, plan: &Plan, filter: Option<&Filter>) -> Vec<bool> {
    let is_wanted = |group: &RowGroupMetaData| match filter {
        Some(filter) => filter.may_match(&|column| bounds(metadata, &plan.schema, group, column)),
        None => true,
    };
    metadata.row_groups().iter().map(is_wanted).collect()
}

/// How many bytes stand behind the metadata: how long that is, and a magic word.
const FOOTER: u64 = 8;

/// Which stretches of a file hold what is read of it; or how much of its end says so.
pub(super) fn needed(file: File, tail: u64, decoder: &Decoder) -> Result<Needed> {
    let length = file.metadata()?.len();
    let mut footer = [0; FOOTER as usize];
    file.read_exact_at(&mut footer, length.checked_sub(FOOTER).ok_or_else(|| corrupt("it is too short"))?)?;
    let metadata = u64::from(u32::from_le_bytes([footer[0], footer[1], footer[2], footer[3]])) + FOOTER;
    if metadata > length || &footer[4..] != b"PAR1" {
        return Err(corrupt("it does not end as one"));
    }
    if metadata > tail {
        return Ok(Needed::Tail(metadata));
    }
    let source = Source::new(file, decoder)?;
    guarded(|| {
        let columns = source.metadata.metadata().file_metadata().schema_descr();
        let is_wanted = |leaf: &usize| source.plan.wanted.contains(&columns.get_column_root_idx(*leaf));
        let leaves: Vec<usize> = (0..columns.num_columns()).filter(is_wanted).collect();
        let mut stretches = Vec::new();
        let groups = source.metadata.metadata().row_groups().iter().zip(&source.is_wanted);
        for (group, _) in groups.filter(|(_, is_wanted)| **is_wanted) {
            for (start, size) in leaves.iter().map(|leaf| group.column(*leaf).byte_range()) {
                let end = start.checked_add(size).filter(|end| *end <= length);
                stretches.push(start..end.ok_or_else(|| corrupt("a column lies behind its end"))?);
            }
        }
        stretches.sort_by_key(|stretch| stretch.start);
        Ok(Needed::Stretches(stretches))
    })
}

/// Reads a file, as a whole or in parts.
pub(super) struct ParquetReader {
    source: Arc<Source>,
    /// The stretch that is being read, and where it ends.
    rows: Option<(ParquetRecordBatchReader, u64)>,
    pieces: Pieces,
    /// Where reading ends.
    end: u64,
}

impl ParquetReader {
    /// Reads what a decoder says.
    pub(super) fn new(file: File, decoder: &Decoder) -> Result<Self> {
        let source = Source::new(file, decoder)?;
        let end = source.rows();
        Self::at(Arc::new(source), 0, end)
    }

    /// Reads the rows from one on up to another.
    fn at(source: Arc<Source>, start: u64, end: u64) -> Result<Self> {
        if end < start {
            return Err(shorter(start));
        }
        let columns = source.plan.schema.project(&source.plan.wanted)?;
        let mut pieces = Pieces::new(&columns, source.read.clone(), source.batch_rows)?;
        pieces.go_to(start);
        let mut reader = Self { source, rows: None, pieces, end };
        if start < end {
            let (behind, is_read) = reader.source.stretch(start);
            reader.rows = is_read.then(|| reader.begin(start, behind)).transpose()?;
        }
        Ok(reader)
    }

    fn begin(&self, start: u64, behind: u64) -> Result<(ParquetRecordBatchReader, u64)> {
        let behind = behind.min(self.end);
        Ok((self.source.read(start, behind)?, behind))
    }

    /// Comes to the next rows of the file, or hands out that none of a stretch is wanted. Returns false at the end.
    fn advance(&mut self, out: &mut Rows) -> Result<bool> {
        let position = self.pieces.position();
        if let Some((rows, behind)) = &mut self.rows {
            if let Some(rows) = guarded(|| rows.next().transpose().map_err(corrupt))? {
                self.pieces.put(rows);
                return Ok(true);
            }
            if position < *behind {
                return Err(corrupt("it has fewer rows than it says"));
            }
            self.rows = None;
        }
        if position >= self.end {
            return Ok(false);
        }
        let (behind, is_read) = self.source.stretch(position);
        if is_read {
            self.rows = Some(self.begin(position, behind)?);
            return self.advance(out);
        }
        let behind = behind.min(self.end);
        out.sifted.push(SiftedRows::none(position, behind, self.source.schema.clone()));
        self.pieces.go_to(behind);
        Ok(true)
    }
}

impl BatchReader for ParquetReader {
    fn schema(&self) -> &SchemaRef {
        &self.source.schema
    }

    fn next(&mut self, out: &mut Rows) -> Result<bool> {
        if self.pieces.is_empty() && !self.advance(out)? {
            return Ok(false);
        }
        let Some(filter) = &self.source.filter else {
            guarded(|| self.pieces.next(out))?;
            return Ok(true);
        };
        let mut read = Rows::default();
        guarded(|| self.pieces.next(&mut read))?;
        filter.sift(read, &self.source.schema, out)?;
        Ok(true)
    }

    fn split_off(&mut self) -> Result<Option<Part>> {
        let before = self.position();
        let start = before.position;
        if start == self.source.rows() {
            return Ok(None);
        }
        let (behind, is_read) = self.source.stretch(start);
        let end = if is_read { self.source.part_end(start) } else { behind };
        self.pieces.go_to(end);
        let source = self.source.clone();
        let decode = move || {
            let most = source.batch_rows;
            let mut rows = read_all(Self::at(source, start, end)?)?;
            rows.join_sifted(most)?;
            Ok(rows)
        };
        Ok(Some(Part::new(before, self.position(), decode)))
    }

    fn position(&self) -> ReaderPosition {
        ReaderPosition { position: self.pieces.position(), offset: 0 }
    }

    fn go_to(&mut self, start: ReaderPosition) -> Result<()> {
        *self = Self::at(self.source.clone(), start.position, self.source.rows())?;
        Ok(())
    }

    fn row_groups(&self) -> Option<RowGroups> {
        let read = self.source.is_wanted.iter().filter(|wanted| **wanted).count() as u64;
        self.source.filter.as_ref()?;
        Some(RowGroups { read, skipped: self.source.is_wanted.len() as u64 - read })
    }
}
