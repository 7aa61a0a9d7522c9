//! The columns of rows that were kept, and those that arrive now.

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};

use crate::{Error, Result, type_name};

/// Where each column of `now` is among those that were kept: by its name, or from the end for the last `own` ones.
pub fn places(kept: &Schema, now: &Schema, own: usize) -> Vec<Option<usize>> {
    let arrived = |schema: &Schema| schema.fields().len().saturating_sub(own);
    let (before, count) = (arrived(kept), arrived(now));
    let place = |(place, field): (usize, &FieldRef)| match place.checked_sub(count) {
        Some(own) => Some(before + own),
        None => kept.fields()[..before].iter().position(|kept| kept.name() == field.name()),
    };
    now.fields().iter().enumerate().map(place).collect()
}

/// Rows with the columns of `now`, which are at these places among theirs.
pub fn adapt(rows: &RecordBatch, places: &[Option<usize>], now: &SchemaRef) -> Result<RecordBatch> {
    let column = |(field, place): (&FieldRef, &Option<usize>)| column(rows, *place, field);
    let columns = now.fields().iter().zip(places).map(column).collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    Ok(RecordBatch::try_new_with_options(now.clone(), columns, &options)?)
}

/// The column at a place; one that has none is null.
fn column(rows: &RecordBatch, place: Option<usize>, field: &Field) -> Result<ArrayRef> {
    let (name, count) = (field.name(), rows.num_rows());
    let kept = place.and_then(|place| rows.columns().get(place).cloned());
    let why = if kept.is_some() { "is null in some of" } else { "is new, and not known of" };
    let column = kept.unwrap_or_else(|| new_null_array(field.data_type(), count));
    if column.data_type() != field.data_type() {
        let (kept, now) = (type_name(column.data_type()), type_name(field.data_type()));
        return Err(Error::new(format!(
            "`{name}` was `{kept}` in the {count} rows that wait, and is `{now}`; change it back until they have left, or lose them \
             with `--reset`"
        )));
    }
    if column.null_count() > 0 && !field.is_nullable() {
        return Err(Error::new(format!(
            "`{name}` {why} {count} rows that wait, where it must not be null now: let it be null (`?` behind its type in the \
             `schema` of the input), wait with the change until they have left, or lose them with `--reset`"
        )));
    }
    Ok(column)
}

/// In what the columns of kept rows differ from those of the flow.
pub fn difference(kept: &Schema, arriving: &Schema) -> Option<String> {
    if kept == arriving {
        return None;
    }
    let only_in = |one: &Schema, other: &Schema| {
        one.fields()
            .iter()
            .find(|field| other.column_with_name(field.name()).is_none())
            .map(|field| field.name().clone())
    };
    Some(match (only_in(kept, arriving), only_in(arriving, kept)) {
        (Some(column), _) => format!("`{column}` is missing"),
        (None, Some(column)) => format!("`{column}` is new"),
        (None, None) => "their types or their order have changed".to_owned(),
    })
}
