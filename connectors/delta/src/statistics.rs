//! What the log says about the values in a data file, by which readers know that they need not read it: how many rows it has, and of
//! each column the least and the greatest value and how many are missing.
//!
//! Which columns that is, and how values are written, `delta_kernel` knows; it is given the rows once more, from the file.

use std::fs::File;
use std::sync::Arc;

use arrow::array::StructArray;
use delta_kernel::expressions::ColumnName;
use delta_kernel::schema::StructType;
use delta_kernel_default_engine::stats::FileStatsAccumulator;
use millstream_core::{Error, Result, ResultExt as _};
use millstream_objects::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::reader::ChunkReader;

/// How many rows are looked at at once.
const ROWS: usize = 8192;

/// What is said about some columns of a file of these columns.
///
/// # Errors
/// If the file can't be read.
pub fn of(file: &Bytes, columns: &[ColumnName], schema: &StructType) -> Result<StructArray> {
    let found = match file {
        Bytes::File(path) => collect(File::open(path)?, columns, schema),
        Bytes::Memory(bytes) => collect(bytes::Bytes::from_owner(Owned(bytes.clone())), columns, schema),
    };
    found.doing(|| "looking at the values of a data file")
}

fn collect(file: impl ChunkReader + 'static, columns: &[ColumnName], schema: &StructType) -> Result<StructArray> {
    let wrong = |error: delta_kernel::KernelError| Error::new(error.to_string());
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).and_then(|file| file.with_batch_size(ROWS).build());
    let mut statistics = FileStatsAccumulator::new(columns, schema);
    for rows in reader.map_err(|error| Error::new(error.to_string()))? {
        statistics.merge(&rows?).map_err(wrong)?;
    }
    statistics.finish().map_err(wrong)?.ok_or_else(|| Error::new("it has no rows"))
}

/// Bytes that are in memory already.
struct Owned(Arc<Vec<u8>>);

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}
