//! How many bytes a batch stands for.

use std::ops::Range;

use arrow::array::cast::AsArray;
use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::DataType;

/// Who makes batches ends one early where it would have more bytes.
pub const MAX_BATCH_BYTES: usize = 64 << 20;

/// The bytes of a batch's rows, for limits on edges and files.
///
/// A slice counts only its own rows, unlike `RecordBatch::get_array_memory_size`, which counts the whole buffers
/// that the slice shares with others (128 times too much for 256 rows of 32,768). Rows count the same however they are
/// cut into batches, so bits count as bytes, and marks of nulls not at all.
pub fn batch_bytes(rows: &RecordBatch) -> usize {
    rows.columns().iter().map(|column| array_bytes(column.as_ref())).sum()
}

fn array_bytes(array: &dyn Array) -> usize {
    let rows = array.len();
    match array.data_type() {
        DataType::Boolean => rows,
        DataType::Utf8 => OFFSET * rows + span(array.as_string::<i32>().value_offsets()).len(),
        DataType::Binary => OFFSET * rows + span(array.as_binary::<i32>().value_offsets()).len(),
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let span = span(list.value_offsets());
            OFFSET * rows + array_bytes(&list.values().slice(span.start, span.len()))
        }
        DataType::Struct(_) => array.as_struct().columns().iter().map(|column| array_bytes(column)).sum(),
        other => match other.primitive_width() {
            Some(width) => width * rows,
            None => array.to_data().get_slice_memory_size().unwrap_or_else(|_| array.get_array_memory_size()),
        },
    }
}

/// As many bytes as any row of these columns has, or more. No row is looked at alone.
pub fn widest_row<'a>(columns: impl IntoIterator<Item = &'a ArrayRef>) -> usize {
    columns.into_iter().map(|column| widest(column.as_ref())).sum()
}

fn widest(array: &dyn Array) -> usize {
    match array.data_type() {
        DataType::Boolean => 1,
        DataType::Utf8 => OFFSET + longest(array.as_string::<i32>().value_offsets()),
        DataType::Binary => OFFSET + longest(array.as_binary::<i32>().value_offsets()),
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let span = span(list.value_offsets());
            OFFSET + longest(list.value_offsets()) * widest(&list.values().slice(span.start, span.len()))
        }
        DataType::Struct(_) => array.as_struct().columns().iter().map(|column| widest(column)).sum(),
        other => other.primitive_width().unwrap_or_else(|| array_bytes(array)),
    }
}

/// The longest value between two offsets.
fn longest(offsets: &[i32]) -> usize {
    offsets.windows(2).map(|ends| ends[1] - ends[0]).max().unwrap_or(0) as usize
}

/// The bytes of one offset into values of any length.
const OFFSET: usize = size_of::<i32>();

/// What the offsets of a slice span.
fn span(offsets: &[i32]) -> Range<usize> {
    let first = offsets.first().copied().unwrap_or(0);
    let last = offsets.last().copied().unwrap_or(0);
    first as usize..last as usize
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray};

    use super::*;

    #[test]
    fn a_slice_counts_only_its_own_rows() {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..1000));
        let words: ArrayRef = Arc::new(StringArray::from_iter_values((0..1000).map(|_| "four")));
        let rows = RecordBatch::try_from_iter([("n", numbers), ("w", words)]).expect("equal lengths");
        assert_eq!(batch_bytes(&rows), 8 * 1000 + 4 * 1000 + 4 * 1000);
        assert_eq!(batch_bytes(&rows.slice(500, 10)), 8 * 10 + 4 * 10 + 4 * 10);
    }

    #[test]
    fn the_widest_row_has_the_longest_values() {
        use arrow::array::ListArray;
        use arrow::datatypes::Int64Type;
        let words: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("seven..")]));
        let lists = [Some(vec![Some(1), Some(2)]), Some(vec![]), Some(vec![None])];
        let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(lists));
        assert_eq!(widest_row([&words, &lists]), (4 + 7) + (4 + 2 * 8));
        assert_eq!(widest_row([&words.slice(0, 2), &lists.slice(1, 2)]), (4 + 1) + (4 + 8));
        assert_eq!(widest_row([&words.slice(0, 0)]), 4);
    }
}
