//! `count(DISTINCT …)`: exact, so it keeps every different value of a group.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, SortField};
use foldhash::fast::RandomState;
use millstream_core::Result;

use super::accumulator::{Accumulator, Rows, for_present};

/// How many different values there are. Null is none.
pub struct Distinct {
    converter: RowConverter,
    values: Vec<HashSet<Box<[u8]>, RandomState>>,
}

impl Distinct {
    /// For values of any type.
    pub fn new(data_type: &DataType) -> Result<Self> {
        Ok(Self { converter: RowConverter::new(vec![SortField::new(data_type.clone())])?, values: Vec::new() })
    }
}

impl Accumulator for Distinct {
    fn grow(&mut self, slots: usize) {
        self.values.resize_with(slots, HashSet::default);
    }

    fn update(&mut self, values: &ArrayRef, rows: Rows<'_>) -> Result<()> {
        let converted = self.converter.convert_columns(std::slice::from_ref(values))?;
        for_present(values, rows, |row, slot| {
            let value = converted.row(row);
            if !self.values[slot].contains(value.as_ref()) {
                self.values[slot].insert(value.as_ref().into());
            }
        });
        Ok(())
    }

    fn merge(&mut self, from: u32, into: u32) {
        let values = self.values[from as usize].clone();
        self.values[into as usize].extend(values);
    }

    fn clear(&mut self, slot: u32) {
        self.values[slot as usize] = HashSet::default();
    }

    fn finish(&self, slots: &[u32]) -> Result<ArrayRef> {
        let counts = slots.iter().map(|slot| self.values[*slot as usize].len() as i64);
        Ok(Arc::new(Int64Array::from_iter_values(counts)))
    }
}
