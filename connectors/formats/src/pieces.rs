//! Batches of binary files, as they come, in pieces of bounded size and in canonical types.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, OffsetSizeTrait, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use millstream_core::{Canonical, Canonicalized, Encoding, Error, LeftOut, Result, write_json};

use crate::columns::repeated;
use crate::window::MAX_BATCH_BYTES;
use crate::{BadRow, Rows};

/// Cuts batches of any size into pieces that are small enough for a flow.
pub(crate) struct Pieces {
    canonical: Canonical,
    schema: SchemaRef,
    batch_rows: usize,
    /// What is left of the batch that came last.
    left: Option<RecordBatch>,
    position: u64,
}

impl Pieces {
    /// Makes a cutter of batches that have the schema `from`. The pieces have `schema`, which may allow more nulls.
    pub(crate) fn new(from: &Schema, schema: SchemaRef, batch_rows: usize) -> Result<Self> {
        let canonical = Canonical::new(from).map_err(Error::new)?;
        let same = canonical.schema().fields().iter().map(|field| (field.name(), field.data_type()));
        let planned = schema.fields().iter().map(|field| (field.name(), field.data_type()));
        if !same.eq(planned) {
            return Err(Error::new("the columns are no longer those that the flow was planned with"));
        }
        Ok(Self { canonical, schema, batch_rows, left: None, position: 0 })
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The position of the next row.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Whether the next batch is needed.
    pub(crate) fn is_empty(&self) -> bool {
        self.left.is_none()
    }

    /// Hands in the next batch, of which there must be nothing left before.
    pub(crate) fn put(&mut self, rows: RecordBatch) {
        self.left = (rows.num_rows() > 0).then_some(rows);
    }

    /// Continues at this position, of which it is known that the next batch begins there.
    pub(crate) fn go_to(&mut self, position: u64) {
        (self.left, self.position) = (None, position);
    }

    /// Passes over rows, up to a position at most.
    pub(crate) fn pass(&mut self, position: u64) {
        if let Some(rows) = self.left.take() {
            let passed = (position - self.position).min(rows.num_rows() as u64);
            self.position += passed;
            self.put(rows.slice(passed as usize, rows.num_rows() - passed as usize));
        }
    }

    /// Hands out the next piece, if there are rows left.
    pub(crate) fn next(&mut self, out: &mut Rows) -> Result<()> {
        let Some(rows) = self.left.take() else { return Ok(()) };
        let count = fitting(&rows, self.batch_rows.max(1));
        self.put(rows.slice(count, rows.num_rows() - count));
        self.send(&rows.slice(0, count), out)?;
        self.position += count as u64;
        Ok(())
    }

    fn send(&self, piece: &RecordBatch, out: &mut Rows) -> Result<()> {
        let Canonicalized { rows, refused } = self.canonical.sift(piece.clone())?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        let rows = RecordBatch::try_new_with_options(self.schema.clone(), rows.columns().to_vec(), &options)?;
        if refused.is_empty() {
            out.batches.push((self.position, rows));
            return Ok(());
        }
        let is_kept = |row: &usize| refused.binary_search_by_key(row, |(row, _)| *row).is_err();
        let kept = (0..piece.num_rows()).filter(is_kept).map(|row| self.position + row as u64);
        out.push_stretches(&rows, &kept.collect::<Vec<_>>(), &BTreeMap::new());
        for (row, error) in refused {
            let mut text = Vec::new();
            write_json(&piece.slice(row, 1), &mut text)?;
            let bad = BadRow::new(self.position + row as u64, error, text.trim_ascii_end());
            out.failed.push(BadRow { encoding: Encoding::Json, ..bad });
        }
        Ok(())
    }
}

/// How many of the first rows make a batch: at least one, and no more than have room in memory.
fn fitting(rows: &RecordBatch, most: usize) -> usize {
    let most = most.min(rows.num_rows());
    let fits =
        |count: usize| rows.columns().iter().map(|array| bytes(array, 0, count)).sum::<usize>() <= MAX_BATCH_BYTES;
    if fits(most) {
        return most;
    }
    let (mut fitting, mut too_many) = (1, most);
    while fitting + 1 < too_many {
        let middle = fitting.midpoint(too_many);
        if fits(middle) { fitting = middle } else { too_many = middle }
    }
    fitting
}

/// How many bytes the values have in canonical types.
fn bytes(array: &dyn Array, start: usize, end: usize) -> usize {
    match array.data_type() {
        DataType::Utf8 => within(array.as_string::<i32>().value_offsets(), start, end).1,
        DataType::LargeUtf8 => within(array.as_string::<i64>().value_offsets(), start, end).1,
        DataType::Binary => within(array.as_binary::<i32>().value_offsets(), start, end).1,
        DataType::LargeBinary => within(array.as_binary::<i64>().value_offsets(), start, end).1,
        DataType::Utf8View => viewed(array.as_string_view().views(), start, end),
        DataType::BinaryView => viewed(array.as_binary_view().views(), start, end),
        DataType::FixedSizeBinary(width) => *width as usize * (end - start),
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let (first, length) = within(list.value_offsets(), start, end);
            bytes(list.values(), first, first + length)
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            let (first, length) = within(list.value_offsets(), start, end);
            bytes(list.values(), first, first + length)
        }
        DataType::FixedSizeList(_, width) => {
            let width = *width as usize;
            bytes(array.as_fixed_size_list().values(), start * width, end * width)
        }
        DataType::Struct(_) => array.as_struct().columns().iter().map(|column| bytes(column, start, end)).sum(),
        DataType::Dictionary(_, _) => {
            let array = array.slice(start, end - start);
            let dictionary = array.as_any_dictionary();
            let values = dictionary.values();
            if values.is_empty() {
                0
            } else {
                dictionary.normalized_keys().into_iter().map(|key| bytes(values, key, key + 1)).sum()
            }
        }
        other => other.primitive_width().unwrap_or_default() * (end - start),
    }
}

/// The first byte or item of the values, and how many there are.
fn within<O: OffsetSizeTrait>(offsets: &[O], start: usize, end: usize) -> (usize, usize) {
    (offsets[start].as_usize(), offsets[end].as_usize() - offsets[start].as_usize())
}

/// How many bytes views stand for: their lower halves are lengths.
fn viewed(views: &[u128], start: usize, end: usize) -> usize {
    views[start..end].iter().map(|view| *view as u32 as usize).sum()
}

/// The columns that flows can carry, and those that they can't. An error if there are some, and none of them is one; or if two have the
/// same name.
pub(crate) fn carried(schema: &Schema) -> Result<(Vec<Field>, Vec<LeftOut>)> {
    let names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    if let Some(name) = repeated(&names) {
        return Err(Error::new(format!("it has two columns with the name `{name}`")));
    }
    let (mut carried, mut others) = (Vec::new(), Vec::new());
    for field in schema.fields() {
        match Canonical::new(&Schema::new(vec![field.clone()])) {
            Ok(canonical) => carried.push(canonical.schema().field(0).clone()),
            Err(why) => {
                others.push((why, LeftOut { name: field.name().clone(), data_type: field.data_type().to_string() }))
            }
        }
    }
    match others.first() {
        Some((why, _)) if carried.is_empty() => Err(Error::new(why.clone())),
        _ => Ok((carried, others.into_iter().map(|(_, left_out)| left_out).collect())),
    }
}
