//! One NaN and one zero: floats as they are where values are compared, ordered, or become keys.
//!
//! IEEE 754 has many NaNs, of either sign, and two zeros. Which NaN a computation gives depends on the processor, and Arrow's
//! order tells all of them apart. Columns keep what was read; whoever compares calls [`canonical_floats`] first.

use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{Array, ArrayRef, ListArray, StructArray};
use arrow::datatypes::{DataType, Float32Type, Float64Type};

/// Whether values of this type are floats, or have some in them.
pub fn has_floats(data_type: &DataType) -> bool {
    match data_type {
        DataType::Float32 | DataType::Float64 => true,
        DataType::List(item) => has_floats(item.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| has_floats(field.data_type())),
        _ => false,
    }
}

/// The same values with 0.0 for every zero and one NaN for all, also within lists and structures. Nothing is copied where
/// nothing has to change.
pub fn canonical_floats(values: &ArrayRef) -> ArrayRef {
    changed(values).unwrap_or_else(|| values.clone())
}

/// The canonical number that equals this one.
#[inline]
pub fn canonical_float(value: f64) -> f64 {
    // Adding zero turns -0.0 into 0.0 and nothing else.
    if value.is_nan() { f64::NAN } else { value + 0.0 }
}

fn changed(values: &ArrayRef) -> Option<ArrayRef> {
    match values.data_type() {
        DataType::Float64 => {
            let floats = values.as_primitive::<Float64Type>();
            let is_odd = |value: &f64| value.to_bits() != canonical_float(*value).to_bits();
            // Without a way out in between, so that the compiler looks at several at a time.
            let any = floats.values().iter().fold(false, |odd, value| odd | is_odd(value));
            any.then(|| Arc::new(floats.unary::<_, Float64Type>(canonical_float)) as ArrayRef)
        }
        DataType::Float32 => {
            let floats = values.as_primitive::<Float32Type>();
            let canonical = |value: f32| if value.is_nan() { f32::NAN } else { value + 0.0 };
            let is_odd = |value: &f32| value.to_bits() != canonical(*value).to_bits();
            let any = floats.values().iter().fold(false, |odd, value| odd | is_odd(value));
            any.then(|| Arc::new(floats.unary::<_, Float32Type>(canonical)) as ArrayRef)
        }
        DataType::List(item) => {
            let lists = values.as_list::<i32>();
            let items = has_floats(item.data_type()).then(|| changed(lists.values())).flatten()?;
            let lists = ListArray::try_new(item.clone(), lists.offsets().clone(), items, lists.nulls().cloned());
            lists.ok().map(|lists| Arc::new(lists) as ArrayRef)
        }
        DataType::Struct(fields) if has_floats(values.data_type()) => {
            let rows = values.as_struct();
            let columns: Vec<_> = rows.columns().iter().map(changed).collect();
            columns.iter().any(Option::is_some).then_some(())?;
            let columns = columns.into_iter().zip(rows.columns()).map(|(changed, old)| changed.unwrap_or(old.clone()));
            let rows = StructArray::try_new(fields.clone(), columns.collect(), rows.nulls().cloned());
            rows.ok().map(|rows| Arc::new(rows) as ArrayRef)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float32Array, Float64Array, Int64Array};

    use super::*;

    #[test]
    fn there_is_one_nan_and_one_zero() {
        let values: ArrayRef =
            Arc::new(Float64Array::from(vec![-0.0, -f64::NAN, f64::from_bits(0x7ff0_0000_0000_0001)]));
        let bits: Vec<_> =
            canonical_floats(&values).as_primitive::<Float64Type>().values().iter().map(|v| v.to_bits()).collect();
        assert_eq!(bits, [0, f64::NAN.to_bits(), f64::NAN.to_bits()]);
        let values: ArrayRef = Arc::new(Float32Array::from(vec![-0.0, -f32::NAN]));
        let bits: Vec<_> =
            canonical_floats(&values).as_primitive::<Float32Type>().values().iter().map(|v| v.to_bits()).collect();
        assert_eq!(bits, [0, f32::NAN.to_bits()]);
    }

    #[test]
    fn lists_and_structures_are_looked_into() {
        let lists = ListArray::from_iter_primitive::<Float64Type, _, _>([Some(vec![Some(-0.0), None]), None]);
        let lists: ArrayRef = Arc::new(lists);
        let canonical = canonical_floats(&lists);
        assert_eq!(canonical.as_list::<i32>().values().as_primitive::<Float64Type>().value(0).to_bits(), 0);
        let field = Arc::new(arrow::datatypes::Field::new("a", lists.data_type().clone(), true));
        let rows: ArrayRef = Arc::new(StructArray::from(vec![(field, lists)]));
        let canonical = canonical_floats(&rows);
        let lists = canonical.as_struct().column(0).as_list::<i32>().values().clone();
        assert_eq!(lists.as_primitive::<Float64Type>().value(0).to_bits(), 0);
    }

    #[test]
    fn nothing_is_copied_without_need() {
        let floats: ArrayRef = Arc::new(Float64Array::from(vec![Some(0.0), None, Some(f64::NAN), Some(-1.5)]));
        assert!(Arc::ptr_eq(&canonical_floats(&floats), &floats));
        let integers: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        assert!(Arc::ptr_eq(&canonical_floats(&integers), &integers));
    }
}
