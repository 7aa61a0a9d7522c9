//! What an aggregate keeps: a value for each *slot*, which is a group of a window, in columns of its own.
//!
//! Rows are taken in one by one in their order, never batch by batch, so that the results are the same bits for every
//! cut. Windows that overlap are put together from parts by `merge`; nothing is ever subtracted.

use arrow::array::{Array, ArrayRef, Float64Array, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use millstream_core::Result;

/// The values of one aggregate in all slots.
pub trait Accumulator: Send {
    /// Makes room for so many slots. New ones are empty.
    fn grow(&mut self, slots: usize);

    /// Takes rows in, each into its slot. `values` has one value a row.
    fn update(&mut self, values: &ArrayRef, rows: Rows<'_>) -> Result<()>;

    /// Adds what one slot holds to another, as if its rows had come behind those of the other.
    fn merge(&mut self, from: u32, into: u32);

    /// Empties a slot.
    fn clear(&mut self, slot: u32);

    /// The results of some slots.
    fn finish(&self, slots: &[u32]) -> Result<ArrayRef>;
}

/// Where rows go.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// Their slots.
    pub slots: &'a [u32],
    /// Their event times.
    pub times: &'a [i64],
}

/// How many rows have a value.
#[derive(Default)]
pub struct Count(Vec<i64>);

impl Accumulator for Count {
    fn grow(&mut self, slots: usize) {
        self.0.resize(slots, 0);
    }

    fn update(&mut self, values: &ArrayRef, rows: Rows<'_>) -> Result<()> {
        for_present(values, rows, |_, slot| self.0[slot] += 1);
        Ok(())
    }

    fn merge(&mut self, from: u32, into: u32) {
        self.0[into as usize] += self.0[from as usize];
    }

    fn clear(&mut self, slot: u32) {
        self.0[slot as usize] = 0;
    }

    fn finish(&self, slots: &[u32]) -> Result<ArrayRef> {
        Ok(std::sync::Arc::new(Int64Array::from_iter_values(slots.iter().map(|slot| self.0[*slot as usize]))))
    }
}

/// Calls `take` with the row and the slot of every value that is not null.
#[inline]
pub fn for_present(values: &ArrayRef, rows: Rows<'_>, mut take: impl FnMut(usize, usize)) {
    match values.nulls().filter(|nulls| nulls.null_count() > 0) {
        None => rows.slots.iter().enumerate().for_each(|(row, slot)| take(row, *slot as usize)),
        Some(nulls) => nulls.valid_indices().for_each(|row| take(row, rows.slots[row] as usize)),
    }
}

/// Numbers of any type as floating-point ones.
pub fn floats(values: &ArrayRef) -> Result<Float64Array> {
    use arrow::array::cast::AsArray;
    Ok(cast(values, &DataType::Float64)?.as_primitive().clone())
}
