//! `first_value` and `last_value`: of the rows with the earliest and the latest event time.

use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{Array, ArrayRef, Int64Array, LargeBinaryArray};
use arrow::datatypes::{DataType, Int64Type};
use arrow::row::{RowConverter, SortField};
use millstream_core::Result;

use super::accumulator::{Accumulator, Rows, Saved, apart, together};
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
    converter: Arc<RowConverter>,
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
        let converter = RowConverter::new(vec![SortField::new(data_type.clone())])?;
        Ok(Self { end, converter: Arc::new(converter), kept: Vec::new() })
    }

    fn kept<'a>(&'a self, slots: &'a [u32]) -> impl Iterator<Item = Option<&'a Kept>> + Clone {
        slots.iter().map(|slot| self.kept[*slot as usize].as_ref())
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
        from_rows(&self.converter, self.kept(slots).map(|kept| kept.map(|kept| kept.value.as_slice())))
    }

    fn save(&self, slots: &[u32]) -> Saved {
        let times: Int64Array = self.kept(slots).map(|kept| kept.map(|kept| kept.time)).collect();
        let values: LargeBinaryArray = self.kept(slots).map(|kept| kept.map(|kept| &kept.value)).collect();
        let converter = self.converter.clone();
        Box::new(move || {
            let values = from_rows(&converter, values.iter())?;
            Ok(together([("time", Arc::new(times)), ("value", values)]))
        })
    }

    fn fixed_bytes(&self) -> Option<usize> {
        None
    }

    fn bytes(&self, slot: u32) -> usize {
        self.kept[slot as usize].as_ref().map_or(0, |kept| kept.value.len()) + size_of::<i64>()
    }

    fn load(&mut self, column: &ArrayRef) -> Result<()> {
        let [times, values] = apart(column)?;
        let values = self.converter.convert_columns(&[values])?;
        let kept = times.as_primitive::<Int64Type>().iter().zip(values.iter());
        self.kept.extend(kept.map(|(time, value)| Some(Kept { time: time?, value: value.data().to_vec() })));
        Ok(())
    }
}
