//! `min` and `max`.

use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, LargeBinaryArray, PrimitiveArray, downcast_primitive};
use arrow::compute::cast;
use arrow::datatypes::{ArrowNativeTypeOp, DataType};
use arrow::row::{RowConverter, SortField};
use millstream_core::Result;

use super::accumulator::{Accumulator, Rows, Saved, for_present};

/// The smallest or the largest value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    Least,
    Most,
}

/// An accumulator for values of any type that has an order. NaN is larger than any other number.
pub fn new(which: Which, data_type: &DataType) -> Result<Box<dyn Accumulator>> {
    macro_rules! of_primitives {
        ($type:ty) => {
            return Ok(Box::new(OfPrimitives::<$type> { which, data_type: data_type.clone(), values: Vec::new() }))
        };
    }
    downcast_primitive! {
        data_type => (of_primitives),
        _ => {}
    }
    let converter = RowConverter::new(vec![SortField::new(data_type.clone())])?;
    Ok(Box::new(OfAny { which, converter: Arc::new(converter), values: Vec::new() }))
}

struct OfPrimitives<T: ArrowPrimitiveType> {
    which: Which,
    data_type: DataType,
    values: Vec<Option<T::Native>>,
}

impl<T: ArrowPrimitiveType> OfPrimitives<T> {
    #[inline]
    fn take(&mut self, slot: usize, value: T::Native) {
        let known = &mut self.values[slot];
        let is_better = known.is_none_or(|known| match self.which {
            Which::Least => value.is_lt(known),
            Which::Most => value.is_gt(known),
        });
        if is_better {
            *known = Some(value);
        }
    }
}

impl<T: ArrowPrimitiveType> Accumulator for OfPrimitives<T> {
    fn grow(&mut self, slots: usize) {
        self.values.resize(slots, None);
    }

    fn update(&mut self, values: &ArrayRef, rows: Rows<'_>) -> Result<()> {
        let numbers = values.as_primitive::<T>();
        for_present(values, rows, |row, slot| self.take(slot, numbers.values()[row]));
        Ok(())
    }

    fn merge(&mut self, from: u32, into: u32) {
        if let Some(value) = self.values[from as usize] {
            self.take(into as usize, value);
        }
    }

    fn clear(&mut self, slot: u32) {
        self.values[slot as usize] = None;
    }

    fn finish(&self, slots: &[u32]) -> Result<ArrayRef> {
        let values: PrimitiveArray<T> = slots.iter().map(|slot| self.values[*slot as usize]).collect();
        Ok(Arc::new(values.with_data_type(self.data_type.clone())))
    }

    fn save(&self, slots: &[u32]) -> Saved {
        let values = self.finish(slots);
        Box::new(|| values)
    }

    fn load(&mut self, column: &ArrayRef) -> Result<()> {
        self.values.extend(column.as_primitive::<T>());
        Ok(())
    }
}

/// Texts, booleans and whatever else; kept in Arrow's row format, whose bytes have the order of the values.
struct OfAny {
    which: Which,
    converter: Arc<RowConverter>,
    values: Vec<Option<Box<[u8]>>>,
}

impl OfAny {
    fn take(&mut self, slot: usize, value: &[u8]) {
        let known = &mut self.values[slot];
        let is_better = known.as_deref().is_none_or(|known| match self.which {
            Which::Least => value < known,
            Which::Most => value > known,
        });
        if is_better {
            *known = Some(value.into());
        }
    }
}

impl Accumulator for OfAny {
    fn grow(&mut self, slots: usize) {
        self.values.resize(slots, None);
    }

    fn update(&mut self, values: &ArrayRef, rows: Rows<'_>) -> Result<()> {
        let converted = self.converter.convert_columns(std::slice::from_ref(values))?;
        for_present(values, rows, |row, slot| self.take(slot, converted.row(row).as_ref()));
        Ok(())
    }

    fn merge(&mut self, from: u32, into: u32) {
        if let Some(value) = self.values[from as usize].clone() {
            self.take(into as usize, &value);
        }
    }

    fn clear(&mut self, slot: u32) {
        self.values[slot as usize] = None;
    }

    fn finish(&self, slots: &[u32]) -> Result<ArrayRef> {
        from_rows(&self.converter, slots.iter().map(|slot| self.values[*slot as usize].as_deref()))
    }

    fn save(&self, slots: &[u32]) -> Saved {
        let values: LargeBinaryArray = slots.iter().map(|slot| self.values[*slot as usize].as_deref()).collect();
        let converter = self.converter.clone();
        Box::new(move || from_rows(&converter, values.iter()))
    }

    fn load(&mut self, column: &ArrayRef) -> Result<()> {
        let values = self.converter.convert_columns(std::slice::from_ref(column))?;
        let values = values.iter().enumerate();
        self.values.extend(values.map(|(row, value)| column.is_valid(row).then(|| value.data().into())));
        Ok(())
    }
}

/// Values that were kept in Arrow's row format, and nulls.
pub fn from_rows<'a>(
    converter: &RowConverter,
    values: impl Iterator<Item = Option<&'a [u8]>> + Clone,
) -> Result<ArrayRef> {
    use arrow::array::UInt64Array;
    let parser = converter.parser();
    let present = values.clone().flatten().map(|bytes| parser.parse(bytes));
    let present = converter.convert_rows(present)?.remove(0);
    let mut next = 0;
    let places = values.map(|value| {
        value.map(|_| {
            next += 1;
            next - 1
        })
    });
    let places: UInt64Array = places.collect();
    let values = arrow::compute::take(&present, &places, None)?;
    Ok(cast(&values, present.data_type())?)
}
