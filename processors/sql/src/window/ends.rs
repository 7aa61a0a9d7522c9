//! `first_value` and `last_value`: of the rows with the earliest and the latest event time.

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, SortField};
use millstream_core::Result;

use super::accumulator::{Accumulator, Rows};
use super::extreme::from_rows;

/// The first or the last row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    First,
    Last,
}

/// Keeps a value, which may be null, and the time of its row. Of rows with the same time, order of arrival decides.
pub struct Ends {
    end: End,
    converter: RowConverter,
    kept: Vec<Option<Kept>>,
}

#[derive(Clone)]
struct Kept {
    time: i64,
    /// In Arrow's row format.
    value: Vec<u8>,
}

impl Ends {
    /// For values of any type.
    pub fn new(end: End, data_type: &DataType) -> Result<Self> {
        Ok(Self { end, converter: RowConverter::new(vec![SortField::new(data_type.clone())])?, kept: Vec::new() })
    }

    fn take(&mut self, slot: usize, time: i64, value: &[u8]) {
        match &mut self.kept[slot] {
            Some(kept) if self.end == End::First && time >= kept.time => {}
            Some(kept) if self.end == End::Last && time < kept.time => {}
            Some(kept) => {
                kept.time = time;
                kept.value.clear();
                kept.value.extend_from_slice(value);
            }
            none => *none = Some(Kept { time, value: value.to_vec() }),
        }
    }
}

impl Accumulator for Ends {
    fn grow(&mut self, slots: usize) {
        self.kept.resize(slots, None);
    }

    fn update(&mut self, values: &ArrayRef, rows: Rows<'_>) -> Result<()> {
        let converted = self.converter.convert_columns(std::slice::from_ref(values))?;
        for row in 0..values.len() {
            self.take(rows.slots[row] as usize, rows.times[row], converted.row(row).as_ref());
        }
        Ok(())
    }

    fn merge(&mut self, from: u32, into: u32) {
        if let Some(Kept { time, value }) = self.kept[from as usize].clone() {
            self.take(into as usize, time, &value);
        }
    }

    fn clear(&mut self, slot: u32) {
        self.kept[slot as usize] = None;
    }

    fn finish(&self, slots: &[u32]) -> Result<ArrayRef> {
        let kept = slots.iter().map(|slot| self.kept[*slot as usize].as_ref().map(|kept| kept.value.as_slice()));
        from_rows(&self.converter, kept)
    }
}
