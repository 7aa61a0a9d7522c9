//! Brings columns of requests to the types that a model reads, without changing a value.

use arrow::array::cast::AsArray;
use arrow::array::{Array, ArrayRef, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use arrow::util::display::array_value_to_string;
use millstream_core::type_name;

/// Brings a column to a type. Numbers may become the nearest float that there is; anything else has to keep every value.
///
/// # Errors
/// If a value has none of that type: which one, and why.
pub fn exact(column: &ArrayRef, target: &DataType) -> Result<ArrayRef, String> {
    if column.data_type() == target {
        return Ok(column.clone());
    }
    if *column.data_type() == DataType::Null {
        return Ok(new_null_array(target, column.len()));
    }
    let found = type_name(column.data_type());
    let fits = is_number(column.data_type()) && is_number(target);
    if !fits {
        return Err(format!("it has {found}, and should have {}", type_name(target)));
    }
    let there = cast(column, target).map_err(|error| error.to_string())?;
    if target.is_floating() {
        return Ok(there);
    }
    // Of floats, and of integers of any size.
    let (before, after) = (numbers(column)?, numbers(&there)?);
    let (before, after) = (before.as_primitive::<Float64Type>(), after.as_primitive::<Float64Type>());
    let odd = (0..column.len()).find(|row| {
        column.is_valid(*row) && (there.is_null(*row) || before.value(*row).to_bits() != after.value(*row).to_bits())
    });
    match odd {
        None => Ok(there),
        Some(row) => {
            let value = array_value_to_string(column, row).unwrap_or_default();
            Err(format!("value {row} is {value}, which is no {}", type_name(target)))
        }
    }
}

fn is_number(data_type: &DataType) -> bool {
    data_type.is_numeric() || *data_type == DataType::Boolean
}

fn numbers(column: &ArrayRef) -> Result<ArrayRef, String> {
    cast(column, &DataType::Float64).map_err(|error| error.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{BooleanArray, Float64Array, Int64Array, NullArray, StringArray};

    use super::*;

    #[test]
    fn values_stay_what_they_are() {
        let floats: ArrayRef = Arc::new(Float64Array::from(vec![Some(1.0), None, Some(-3.0)]));
        let integers: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(-3)]));
        assert_eq!(&exact(&floats, &DataType::Int64).unwrap(), &integers);
        assert_eq!(exact(&floats, &DataType::UInt8).unwrap_err(), "value 2 is -3.0, which is no uint8");
        let halves: ArrayRef = Arc::new(Float64Array::from(vec![1.0, 1.5]));
        assert_eq!(exact(&halves, &DataType::Int64).unwrap_err(), "value 1 is 1.5, which is no int64");
        let bits: ArrayRef = Arc::new(Int64Array::from(vec![0, 1]));
        let booleans: ArrayRef = Arc::new(BooleanArray::from(vec![false, true]));
        assert_eq!(&exact(&bits, &DataType::Boolean).unwrap(), &booleans);
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["a"]));
        assert_eq!(exact(&texts, &DataType::Float64).unwrap_err(), "it has utf8, and should have float64");
        let nulls: ArrayRef = Arc::new(NullArray::new(2));
        assert_eq!(exact(&nulls, &DataType::Utf8).unwrap().null_count(), 2);
    }
}
