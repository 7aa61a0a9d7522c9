//! What an aggregate keeps: a value for each *slot*, which is a group of a window, in columns of its own.
//!
//! Rows are taken in one by one in their order, never batch by batch, so that the results are the same bits for every
//! cut. Windows that overlap are put together from parts by `merge`; nothing is ever subtracted.

use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{Array, ArrayRef, Float64Array, Int64Array, StructArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Fields, Int64Type};
use millstream_core::{Error, Result};

/// The values of one aggregate in all slots.
pub trait Accumulator: Send {
    /// Makes room for so many slots. New ones are empty.
    fn grow(&mut self, slots: usize);

    /// Takes rows in, each into its slot. `values` has one value a row.
    fn update(&mut self, values: &ArrayRef, rows: Rows<'_>) -> Result<()>;

    /// Adds what one slot holds to another, as if its rows had come behind those of the other.
    fn merge(&mut self, from: u32, into: u32);

    /// Whether a slot holds about as much as a value, however many rows have come, so that [`Self::merge`] is quick.
    fn is_small(&self) -> bool {
        true
    }

    /// Empties a slot.
    fn clear(&mut self, slot: u32);

    /// The results of some slots.
    fn finish(&self, slots: &[u32]) -> Result<ArrayRef>;

    /// Copies what some slots hold. The type of the column does not depend on it.
    fn save(&self, slots: &[u32]) -> Saved;

    /// How many bytes any slot takes in such a column, about; none where they differ.
    fn fixed_bytes(&self) -> Option<usize> {
        Some(2 * size_of::<f64>())
    }

    /// How many bytes a slot takes there, about.
    fn bytes(&self, _slot: u32) -> usize {
        self.fixed_bytes().unwrap_or_default()
    }

    /// Adds a slot for each row of a column of that type, with what was saved in it.
    fn load(&mut self, column: &ArrayRef) -> Result<()>;
}

/// What slots hold, copied; it becomes a column later.
pub type Saved = Box<dyn FnOnce() -> Result<ArrayRef> + Send>;

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
        Ok(Arc::new(Int64Array::from_iter_values(slots.iter().map(|slot| self.0[*slot as usize]))))
    }

    fn save(&self, slots: &[u32]) -> Saved {
        let counts = self.finish(slots);
        Box::new(|| counts)
    }

    fn load(&mut self, column: &ArrayRef) -> Result<()> {
        self.0.extend(column.as_primitive::<Int64Type>().values());
        Ok(())
    }
}

/// Several columns as one.
pub fn together<const N: usize>(columns: [(&str, ArrayRef); N]) -> ArrayRef {
    let fields = columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true));
    let fields = Fields::from_iter(fields);
    Arc::new(StructArray::new(fields, columns.into_iter().map(|(_, column)| column).collect(), None))
}

/// The columns that were put [`together`].
pub fn apart<const N: usize>(column: &ArrayRef) -> Result<[ArrayRef; N]> {
    let columns = column.as_struct_opt().map_or_else(Vec::new, |columns| columns.columns().to_vec());
    columns.try_into().map_err(|_| Error::new("the state of an aggregate has another number of columns"))
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
    Ok(cast(values, &DataType::Float64)?.as_primitive().clone())
}
