//! What is read of a Parquet file, and as which types.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use parquet::basic::Type;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};

/// Texts of a column of a row group that are longer together might be too long for one array.
const MAX_ARRAY_BYTES: u64 = 1 << 30;

/// How a file is read.
pub(super) struct Plan {
    /// The columns that are read.
    pub wanted: Vec<usize>,
    /// All columns, with the types in which they are read.
    pub schema: SchemaRef,
    /// About how many bytes a row has in memory.
    pub row_bytes: u64,
}

impl Plan {
    pub(super) fn new(metadata: &ParquetMetaData, file: &SchemaRef, schema: &SchemaRef) -> Self {
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
        Self { wanted, schema, row_bytes }
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
