//! Takes away what arrays carry but nobody sees: the items of a list's neighbours in a slice, and whatever lies behind a
//! null. Arrow's casts and many functions look at it all the same, and fail for it.

use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{Array, ArrayRef, ListArray, RecordBatch, RecordBatchOptions, StructArray, UInt32Array};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::take;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;

/// The same rows without anything hidden; `None` if nothing is.
pub fn without_hidden(rows: &RecordBatch) -> Option<RecordBatch> {
    let seen: Vec<Option<ArrayRef>> = rows.columns().iter().map(seen).collect();
    if seen.iter().all(Option::is_none) {
        return None;
    }
    let columns = seen.into_iter().zip(rows.columns()).map(|(seen, column)| seen.unwrap_or_else(|| column.clone()));
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(rows.schema(), columns.collect(), &options).ok()
}

/// The same values without anything hidden; `None` if nothing is.
fn seen(values: &ArrayRef) -> Option<ArrayRef> {
    match values.data_type() {
        DataType::List(_) => seen_lists(values.as_list()).ok().flatten(),
        DataType::Struct(_) => seen_structures(values.as_struct()).ok().flatten(),
        _ => None,
    }
}

fn seen_lists(lists: &ListArray) -> Result<Option<ArrayRef>, ArrowError> {
    let lengths: Vec<usize> = (0..lists.len()).map(|row| length(lists, row)).collect();
    let all_are_seen = lengths.iter().sum::<usize>() == lists.values().len();
    let items = if all_are_seen { lists.values().clone() } else { take(lists.values(), &places(lists), None)? };
    let items = match (seen(&items), all_are_seen) {
        (Some(seen), _) => seen,
        (None, false) => items,
        (None, true) => return Ok(None),
    };
    let DataType::List(field) = lists.data_type() else { return Ok(None) };
    let offsets = OffsetBuffer::from_lengths(lengths);
    Ok(Some(Arc::new(ListArray::try_new(field.clone(), offsets, items, lists.nulls().cloned())?)))
}

fn length(lists: &ListArray, row: usize) -> usize {
    if lists.is_null(row) { 0 } else { lists.value_length(row) as usize }
}

/// Where the items stand that are seen.
fn places(lists: &ListArray) -> UInt32Array {
    let offsets = lists.value_offsets();
    let rows = (0..lists.len()).filter(|row| lists.is_valid(*row));
    UInt32Array::from_iter_values(rows.flat_map(|row| offsets[row] as u32..offsets[row + 1] as u32))
}

fn seen_structures(rows: &StructArray) -> Result<Option<ArrayRef>, ArrowError> {
    let seen: Vec<Option<ArrayRef>> =
        rows.columns().iter().map(|field| seen_field(field, rows.nulls())).collect::<Result<_, _>>()?;
    if seen.iter().all(Option::is_none) {
        return Ok(None);
    }
    let fields = seen.into_iter().zip(rows.columns()).map(|(seen, field)| seen.unwrap_or_else(|| field.clone()));
    Ok(Some(Arc::new(StructArray::try_new(rows.fields().clone(), fields.collect(), rows.nulls().cloned())?)))
}

/// A field of structures that are missing where `nulls` says so.
fn seen_field(field: &ArrayRef, nulls: Option<&NullBuffer>) -> Result<Option<ArrayRef>, ArrowError> {
    let hides = nulls.is_some_and(|nulls| (0..field.len()).any(|row| nulls.is_null(row) && field.is_valid(row)));
    if !hides {
        return Ok(seen(field));
    }
    let places = UInt32Array::new((0..field.len() as u32).collect(), nulls.cloned());
    let field = take(field, &places, None)?;
    Ok(Some(seen(&field).unwrap_or(field)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use arrow::array::{Int64Array, StringArray};
    use arrow::datatypes::{Field, Fields, Int64Type};
    use millstream_testkit::{drive, parse, table};

    use super::*;
    use crate::sql::SqlSettings;

    /// Lists of texts, of which the third hides one behind a null.
    fn texts() -> RecordBatch {
        let items: ArrayRef = Arc::new(StringArray::from(vec!["x", "7", "hidden", "8"]));
        let field = Arc::new(Field::new("item", DataType::Utf8, true));
        let nulls = NullBuffer::from(vec![true, true, false, true, true]);
        let offsets = OffsetBuffer::from_lengths([1, 1, 1, 0, 1]);
        let lists: ArrayRef = Arc::new(ListArray::new(field, offsets, items, Some(nulls)));
        let ids = table("id:int64\n 1\n 2\n 3\n 4\n 5").column(0).clone();
        RecordBatch::try_from_iter([("id", ids), ("l", lists)]).unwrap()
    }

    #[test]
    fn a_list_fails_for_its_own_items_only() {
        for query in [
            "SELECT id, CAST(l AS int[]) AS n FROM input",
            "SELECT id, arrow_cast(l, 'List(Int32)') AS n FROM input",
            "SELECT id FROM input WHERE id = 0 OR CAST(l AS int[]) IS DISTINCT FROM [5]",
            "SELECT id, array_concat(CAST(l AS int[]), [1]) AS n FROM input",
            "SELECT id, array_has(CAST(l AS int[]), 7) AS n FROM input",
            "SELECT id, CAST(l AS int[])[1] AS n FROM input",
        ] {
            let settings: SqlSettings = parse(&format!("query = '''{query}'''"));
            let [whole, pairs, single] = [8192, 2, 1].map(|rows| drive(&settings, &[("from", texts())], rows));
            assert_eq!(whole.failed.len(), 1, "{query}: {:?}", whole.failed);
            for other in [pairs, single] {
                assert_eq!(other.text("main"), whole.text("main"), "{query}");
                assert_eq!(other.failed.len(), 1, "{query}");
            }
        }
    }

    #[test]
    fn comparisons_that_cast_lists_do_not_depend_on_batches() {
        for query in [
            "SELECT id, l = [1] AS n FROM input",
            "SELECT id, array_has(l, 7) AS n FROM input",
            "SELECT id, array_concat(l, [1]) AS n FROM input",
            "SELECT id, array_position(l, 7) AS n FROM input",
        ] {
            let settings: SqlSettings = parse(&format!("query = '''{query}'''"));
            let [whole, pairs, single] = [8192, 2, 1].map(|rows| drive(&settings, &[("from", texts())], rows));
            for other in [pairs, single] {
                assert_eq!(other.text("main"), whole.text("main"), "{query}");
                assert_eq!(other.failed.len(), whole.failed.len(), "{query}");
            }
        }
    }

    #[test]
    fn nothing_is_copied_where_nothing_is_hidden() {
        let lists = ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1)]), None]);
        let lists: ArrayRef = Arc::new(lists);
        assert!(seen(&lists).is_none());
        assert_eq!(seen(&lists.slice(1, 1)).unwrap().as_list::<i32>().values().len(), 0);
    }

    #[test]
    fn fields_of_a_missing_structure_are_gone() {
        let values: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
        let fields = Fields::from(vec![Field::new("a", DataType::Int64, true)]);
        let nulls = NullBuffer::from(vec![true, false, true]);
        let rows: ArrayRef = Arc::new(StructArray::new(fields, vec![values], Some(nulls)));
        let shown = seen(&rows).unwrap();
        assert_eq!(shown.as_struct().column(0).null_count(), 1);
        assert!(seen(&shown).is_none());
    }
}
