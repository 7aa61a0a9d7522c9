//! What a file says of the values in its row groups.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Float32Type, Float64Type, Schema, SchemaRef};
use millstream_core::{Bounds, Canonical, survive};
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::basic::{ColumnOrder, SortOrder, Type};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::statistics::Statistics;

/// What the file says of a column in a row group. `schema` has all columns of the file, in the types in which they are read.
pub(super) fn bounds(metadata: &ParquetMetaData, schema: &SchemaRef, group: &RowGroupMetaData, column: &str) -> Bounds {
    // Limits of a length that their type does not have are no reason not to read the rows.
    survive(|| known(metadata, schema, group, column)).flatten().unwrap_or_else(Bounds::unknown)
}

fn known(metadata: &ParquetMetaData, schema: &SchemaRef, group: &RowGroupMetaData, column: &str) -> Option<Bounds> {
    let leaves = metadata.file_metadata().schema_descr();
    let converter = StatisticsConverter::try_new(column, schema, leaves).ok()?;
    // Columns with others in them have none.
    let leaf = converter.parquet_column_index()?;
    let statistics = group.column(leaf).statistics()?;
    let data_type = converter.arrow_field().data_type();
    let [least, greatest] = if is_ordered(metadata, leaf, data_type, statistics) {
        [converter.row_group_mins([group]), converter.row_group_maxes([group])].map(|limit| canonical(limit.ok()?))
    } else {
        [None, None]
    };
    let nulls = statistics.null_count_opt();
    let rows = u64::try_from(group.num_rows()).ok()?;
    // Whether there are NaNs no file says.
    let has_nan = data_type.is_floating();
    Some(Bounds { least, greatest, has_nan, has_nulls: nulls != Some(0), has_values: nulls != Some(rows) })
}

/// Whether the limits of a column are those of its values in the order that these have in flows. Old files have others, and some types none.
fn is_ordered(metadata: &ParquetMetaData, leaf: usize, data_type: &DataType, statistics: &Statistics) -> bool {
    let orders = metadata.file_metadata().column_orders();
    let Some(ColumnOrder::TYPE_DEFINED_ORDER(order)) = orders.and_then(|orders| orders.get(leaf)) else { return false };
    let is_signed = data_type.is_numeric() && !data_type.is_unsigned_integer() || data_type.is_temporal();
    let expected = if is_signed { SortOrder::SIGNED } else { SortOrder::UNSIGNED };
    *order == expected && statistics.physical_type() != Type::INT96 && !statistics.is_min_max_deprecated()
}

/// A limit in the type that flows have for the column. None if it says nothing.
fn canonical(limit: ArrayRef) -> Option<ArrayRef> {
    let schema = Arc::new(Schema::new(vec![Field::new("limit", limit.data_type().clone(), true)]));
    let canonical = Canonical::new(&schema).ok()?;
    let row = canonical.apply(RecordBatch::try_new(schema, vec![limit]).ok()?).ok()?;
    let limit = row.column(0);
    let is_nan = match limit.data_type() {
        DataType::Float32 => limit.as_primitive::<Float32Type>().values().iter().any(|value| value.is_nan()),
        DataType::Float64 => limit.as_primitive::<Float64Type>().values().iter().any(|value| value.is_nan()),
        _ => false,
    };
    (limit.is_valid(0) && !is_nan).then(|| limit.clone())
}
