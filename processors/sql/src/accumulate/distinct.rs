//! `count(DISTINCT …)`: exact, so it keeps every different value of a group.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{ArrayRef, Int64Array, LargeBinaryArray, LargeBinaryBuilder, LargeListArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field};
use arrow::row::{RowConverter, SortField};
use foldhash::fast::RandomState;
use millstream_core::{Error, Result};

use super::accumulator::{Accumulator, Rows, Saved, for_present};

/// How many different values there are. Null is none.
pub struct Distinct {
    converter: Arc<RowConverter>,
    values: Vec<HashSet<Box<[u8]>, RandomState>>,
}

impl Distinct {
    /// For values of any type.
    pub fn new(data_type: &DataType) -> Result<Self> {
        let converter = RowConverter::new(vec![SortField::new(data_type.clone())])?;
        Ok(Self { converter: Arc::new(converter), values: Vec::new() })
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

    fn is_small(&self) -> bool {
        false
    }

    fn clear(&mut self, slot: u32) {
        self.values[slot as usize] = HashSet::default();
    }

    fn finish(&self, slots: &[u32]) -> Result<ArrayRef> {
        let counts = slots.iter().map(|slot| self.values[*slot as usize].len() as i64);
        Ok(Arc::new(Int64Array::from_iter_values(counts)))
    }

    fn save(&self, slots: &[u32]) -> Saved {
        let sets = slots.iter().map(|slot| &self.values[*slot as usize]);
        let lengths: Vec<usize> = sets.clone().map(HashSet::len).collect();
        let mut values = LargeBinaryBuilder::new();
        sets.flatten().for_each(|value| values.append_value(value));
        let (values, converter) = (values.finish(), self.converter.clone());
        Box::new(move || lists(&lengths, &values, &converter))
    }

    fn fixed_bytes(&self) -> Option<usize> {
        None
    }

    fn bytes(&self, slot: u32) -> usize {
        self.values[slot as usize].iter().map(|value| value.len()).sum()
    }

    fn load(&mut self, column: &ArrayRef) -> Result<()> {
        let lists = column.as_list::<i64>();
        let values = self.converter.convert_columns(std::slice::from_ref(lists.values()))?;
        for ends in lists.value_offsets().windows(2) {
            let places = ends[0] as usize..ends[1] as usize;
            self.values.push(places.map(|place| values.row(place).data().into()).collect());
        }
        Ok(())
    }
}

/// The values of each group as a list, in their order, so that it does not show in which one they lay in memory.
fn lists(lengths: &[usize], values: &LargeBinaryArray, converter: &RowConverter) -> Result<ArrayRef> {
    // An Arrow array of texts can't be longer.
    if values.value_data().len() > i32::MAX as usize {
        return Err(Error::new("the different values of groups are more than 2 GiB, too many for a checkpoint"));
    }
    let mut order: Vec<usize> = (0..lengths.iter().sum()).collect();
    let mut rest = order.as_mut_slice();
    for length in lengths {
        let (of_group, behind) = rest.split_at_mut(*length);
        of_group.sort_unstable_by_key(|place| values.value(*place));
        rest = behind;
    }
    let parser = converter.parser();
    let values = converter.convert_rows(order.iter().map(|place| parser.parse(values.value(*place))))?.remove(0);
    let field = Arc::new(Field::new("value", values.data_type().clone(), true));
    let offsets = OffsetBuffer::from_lengths(lengths.iter().copied());
    Ok(Arc::new(LargeListArray::try_new(field, offsets, values, None)?))
}
